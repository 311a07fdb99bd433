"""Images out of DICOM files, as a viewer shows them, with their size in millimetres.

Needs pydicom; compressed files need pylibjpeg and its plug-ins (``pip install libxai[dicom]``).

>>> image = libxai.dicom.read("chest.dcm")
>>> explanation = libxai.explain(model, model.prepare(image.grey), target="Nodule")
>>> image.area(explanation.map > 0.5)  # mm2
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._errors import ArgumentError, FileError, FormatError, UnsupportedError
from ._picture import resize

__all__ = ["DicomImage", "read"]

# Attributes that enhanced multi-frame files keep in sequences, shared or one a frame.
_GROUPS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
    "VOILUTFunction": "FrameVOILUTSequence",
}


@dataclass
class DicomImage:
    """A picture out of a DICOM file.

    Attributes
    ----------
    values : array
        (H, W) float32 after the modality LUT or rescale: Hounsfield units of CT, for example;
        (F, H, W) for several frames, (..., H, W, 3) in [0, 1] for colour.
    grey : array
        The same shape, float32 in [0, 1] as displayed: VOI LUT or window applied, 0 = black, also
        where the file is MONOCHROME1 and where pixels are padding.
    valid : array of bool
        False where pixels are padding.
    spacing : (float, float) or None
        Millimetres from one row to the next and from one column to the next.
    spacing_source : str
        The attribute of the spacing: "PixelSpacing"; "ImagerPixelSpacing" is measured at the
        detector, so that what lies before it is smaller by the magnification; "" without one.
    window : (float, float) or None
        Centre and width that were applied; None for a VOI LUT, the whole range, or colour.
    photometric, modality : str
    warnings : list of str
    """

    values: np.ndarray
    grey: np.ndarray
    valid: np.ndarray
    spacing: tuple[float, float] | None
    spacing_source: str
    window: tuple[float, float] | None
    photometric: str
    modality: str
    warnings: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.valid.shape[-2], self.valid.shape[-1]

    def spacing_of(self, array: Any) -> tuple[float, float]:
        """Millimetres between the rows and columns of a map (..., H, W) of this whole image.

        A map at the model's input size has larger pixels than the file.
        """
        if self.spacing is None:
            raise UnsupportedError("the file does not say how large its pixels are", "PixelSpacing")
        rows, columns = np.shape(array)[-2:]
        height, width = self.shape
        return self.spacing[0] * height / rows, self.spacing[1] * width / columns

    def area(self, mask: Any) -> float:
        """Square millimetres of the True pixels of a mask (H, W) of this whole image."""
        across, along = self.spacing_of(mask)
        return float(np.count_nonzero(mask)) * across * along

    def fit(self, array: Any) -> np.ndarray:
        """Resize a map (..., H, W) to the rows and columns of the file."""
        return resize(np.asarray(array, np.float64), *self.shape).astype(np.float32)


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        message = "libxai.dicom needs pydicom, which is not installed: pip install libxai[dicom]"
        raise UnsupportedError(message, "dicom") from error
    return pydicom


def _open(source: Any) -> Any:
    pydicom = _pydicom()
    if isinstance(source, pydicom.Dataset):
        return source
    if not isinstance(source, (str, os.PathLike)) and not hasattr(source, "read"):
        raise ArgumentError("source: a path, a file or a pydicom Dataset is needed", "source")
    try:
        return pydicom.dcmread(source)
    except OSError as error:
        raise FileError(
            f"{source}: cannot be read: {error.strerror or error}", str(source)
        ) from error
    except pydicom.errors.InvalidDicomError as error:
        raise FormatError(f"{source} is not a DICOM file", str(source)) from error


def _attribute(dataset: Any, name: str, frame: int) -> Any:
    """Find an attribute at the top, else in the functional groups of the frame, else shared."""
    found = dataset.get(name)
    if found is not None or name not in _GROUPS:
        return found
    for groups, at in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        sequence = dataset.get(groups)
        if sequence and at < len(sequence):
            items = sequence[at].get(_GROUPS[name])
            if items and items[0].get(name) is not None:
                return items[0].get(name)
    return None


def _stored(dataset: Any) -> np.ndarray:
    """Return the stored values (F, H, W) or (F, H, W, 3), decompressed."""
    try:
        pixels = np.asarray(dataset.pixel_array)
    except (NotImplementedError, RuntimeError) as error:
        raise UnsupportedError(
            f"the pixels cannot be decompressed: {error}; pip install libxai[dicom] brings "
            "decoders",
            "PixelData",
        ) from error
    except (AttributeError, ValueError, KeyError) as error:
        raise FormatError(f"the file has no readable pixels: {error}", "PixelData") from error
    colour = int(dataset.get("SamplesPerPixel", 1)) > 1
    return pixels if pixels.ndim == 3 + colour else pixels[None]


def _padding(dataset: Any, stored: np.ndarray) -> np.ndarray:
    """Where the stored values are padding (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit", value)
    low, high = sorted((int(value), int(limit)))
    return (stored >= low) & (stored <= high)


def _rescaled(dataset: Any, stored: np.ndarray, frame: int) -> np.ndarray:
    """Apply the modality LUT, or slope and intercept."""
    from pydicom.pixels import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored, dataset), np.float64)
    slope = _attribute(dataset, "RescaleSlope", frame)
    intercept = _attribute(dataset, "RescaleIntercept", frame)
    return stored * float(1 if slope is None else slope) + float(intercept or 0)


def _first(value: Any, index: int, what: str) -> float:
    values = list(value) if hasattr(value, "__len__") and not isinstance(value, str) else [value]
    if not 0 <= index < len(values):
        raise ArgumentError(
            f"window: {index} is not in [0, {len(values)}), as {what} has it", "window"
        )
    return float(values[index])


def apply_window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Map values to [0, 1] (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if function != "LINEAR":
        raise UnsupportedError(f"VOI LUT function '{function}' is not known", "VOILUTFunction")
    if width <= 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _window_of(dataset: Any, window: Any, frame: int) -> tuple[float, float] | None:
    """Centre and width: those given, else those of the file (the first, or number `window`)."""
    if isinstance(window, (tuple, list)):
        if len(window) != 2:
            raise ArgumentError("window: (centre, width) is needed", "window")
        return float(window[0]), float(window[1])
    index = 0 if window is None else int(window)
    centre = _attribute(dataset, "WindowCenter", frame)
    width = _attribute(dataset, "WindowWidth", frame)
    if centre is None or width is None:
        if window is not None:
            raise ArgumentError("window: the file has no window", "window")
        return None
    return _first(centre, index, "WindowCenter"), _first(width, index, "WindowWidth")


def _displayed(
    dataset: Any, values: np.ndarray, valid: np.ndarray, frame: int, window: Any
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Grey values in [0, 1] of one frame, and the window that was used."""
    from pydicom.pixels import apply_voi

    function = str(_attribute(dataset, "VOILUTFunction", frame) or "LINEAR").upper()
    applied: tuple[float, float] | None = None
    if window is None and dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        grey = np.asarray(apply_voi(np.rint(values).astype(np.int64), dataset), np.float64)
        grey = np.clip(grey / (2**bits - 1), 0, 1)
    else:
        applied = _window_of(dataset, window, frame)
        if applied is not None:
            if applied[1] <= 0:
                raise FormatError(f"the window is {applied[1]} wide", "WindowWidth")
            grey = apply_window(values, applied[0], applied[1], function)
        else:  # the whole range of what is not padding
            inside = values[valid]
            low, high = (inside.min(), inside.max()) if inside.size else (0.0, 0.0)
            grey = np.clip((values - low) / (high - low), 0, 1) if high > low else values * 0.0
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    return np.where(valid, grey, 0.0), applied


def _spacing(dataset: Any, warnings: list[str]) -> tuple[tuple[float, float] | None, str]:
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = _attribute(dataset, name, 0)
        if found is None or len(found) != 2:
            continue
        spacing = float(found[0]), float(found[1])
        if not (spacing[0] > 0 and spacing[1] > 0 and np.isfinite(spacing).all()):
            warnings.append(f"{name} is {spacing}: not used")
            continue
        if name == "ImagerPixelSpacing":
            warnings.append("sizes are those at the detector: the file has no PixelSpacing")
        return spacing, name
    return None, ""


def _colour(dataset: Any, stored: np.ndarray) -> np.ndarray:
    """RGB in [0, 1] of colour or palette images."""
    from pydicom.pixels import apply_color_lut, convert_color_space

    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        table = np.asarray(apply_color_lut(stored, dataset))
        return table / float(np.iinfo(table.dtype).max)
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    decoded = syntax is not None and syntax.is_compressed  # decoders give RGB already
    if photometric in ("YBR_FULL", "YBR_FULL_422") and not decoded:
        stored = convert_color_space(stored, photometric, "RGB", per_frame=True)
    return stored / float(2 ** int(dataset.BitsStored) - 1)


def read(source: Any, frame: int | None = None, window: Any = None) -> DicomImage:
    """Read an image as a viewer shows it.

    Parameters
    ----------
    source : path, file or pydicom.Dataset
    frame : int, optional
        One frame of several; all by default.
    window : (centre, width), int or None
        A window, or the number of one of the file; by default the file's VOI LUT, else its first
        window, else the whole range of the pixels that are no padding.

    Raises
    ------
    FileError, FormatError
        When the file cannot be read, or is no DICOM image.
    UnsupportedError
        Without pydicom, or without a decoder for the transfer syntax.
    """
    dataset = _open(source)
    if "PixelData" not in dataset:
        raise FormatError("the DICOM file holds no image (no PixelData)", "PixelData")
    stored = _stored(dataset)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if frame is not None and not 0 <= frame < len(stored):
        raise ArgumentError(f"frame: {frame} is not in [0, {len(stored)})", "frame")
    numbers = list(range(len(stored))) if frame is None else [frame]
    chosen = stored[numbers]
    warnings: list[str] = []
    spacing, source_of_spacing = _spacing(dataset, warnings)
    used: tuple[float, float] | None = None
    if photometric in ("MONOCHROME1", "MONOCHROME2"):
        valid = ~_padding(dataset, chosen)
        values = np.stack([_rescaled(dataset, chosen[i], n) for i, n in enumerate(numbers)])
        greys = []
        for i, number in enumerate(numbers):
            grey, used = _displayed(dataset, values[i], valid[i], number, window)
            greys.append(grey)
        grey = np.stack(greys)
    elif photometric in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"):
        values = grey = np.clip(_colour(dataset, chosen), 0, 1)
        valid = np.ones(grey.shape[:3], bool)
    else:
        raise UnsupportedError(
            f"photometric interpretation '{photometric}' is not known", "PhotometricInterpretation"
        )
    if len(stored) == 1 or frame is not None:
        values, grey, valid = values[0], grey[0], valid[0]
    return DicomImage(
        values=values.astype(np.float32),
        grey=grey.astype(np.float32),
        valid=valid,
        spacing=spacing,
        spacing_source=source_of_spacing,
        window=used,
        photometric=photometric,
        modality=str(dataset.get("Modality", "")),
        warnings=warnings,
    )
