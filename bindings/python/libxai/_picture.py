"""Pictures: resizing, and inputs made of them as the model card says."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._errors import ArgumentError
from ._library import check, ffi, lib
from ._tensors import as_numpy, take

_KINDS = {"uint8": 2, "uint16": 4, "int16": 5, "float32": 1}  # XAI_DTYPE_*


def _weights(size: int, wanted: int) -> np.ndarray:
    """Triangle weights (wanted, size) with half-pixel centres; wider when shrinking."""
    scale = size / wanted
    centre = np.clip((np.arange(wanted) + 0.5) * scale, 0.5, size - 0.5)
    distance = np.abs(np.arange(size) + 0.5 - centre[:, None]) / max(scale, 1.0)
    weights: np.ndarray = np.clip(1 - distance, 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True))


def resize(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize the last two axes linearly; what is already of the size is left as it is."""
    if plane.shape[-1] != width:
        plane = plane @ _weights(plane.shape[-1], width).T
    if plane.shape[-2] != height:
        plane = _weights(plane.shape[-2], height) @ plane
    return plane


def smooth(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian of `sigma` pixels over (H, W), cut at 4 sigma, borders mirrored."""
    radius = int(4 * sigma + 0.5)
    if radius < 1:
        return plane
    distance = np.arange(-radius, radius + 1)
    kernel = np.exp(-(distance**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        width = [(radius, radius) if axis == each else (0, 0) for each in (0, 1)]
        padded = np.pad(plane, width, mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis)
        plane = np.asarray(windows @ kernel)
    return plane


def strongest(plane: np.ndarray, percentile: float) -> float:
    """Find the percentile of the values above 0; 0 where there is none."""
    above = plane[plane > 0]
    return float(np.percentile(above, percentile)) if above.size else 0.0


def channels_axis(row: tuple[int, ...]) -> int | None:
    """Where an image of three axes has its one or three channels: 0, 2, or None."""
    if len(row) != 3:
        return None
    return 0 if row[0] in (1, 3) else 2 if row[2] in (1, 3) else None


def prepare(model: Any, picture: Any, black: float | None, white: float | None) -> np.ndarray:
    """Make an input (C, H, W) or (H, W, C) of a picture; `model` is the C handle."""
    pixels = as_numpy(picture, "picture")
    if pixels.ndim not in (2, 3) or pixels.size == 0 or pixels.shape[2:] not in ((), (1,), (3,)):
        raise ArgumentError(
            f"picture: (H, W) or (H, W, 3) is needed, not {pixels.shape}", "picture"
        )
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32, copy=False)
    name = pixels.dtype.name
    if name not in _KINDS:
        raise ArgumentError(
            f"picture: floats, uint8, uint16 or int16 are needed, not {name}", "picture"
        )
    if (black is None) != (white is None):
        raise ArgumentError(
            "black, white: give both or none", "white" if white is None else "black"
        )
    if black is None and name == "float32":
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ArgumentError(
                "picture: floats must be in [0, 1], or give black and white", "picture"
            )
        black, white = 0.0, 1.0
    pixels = np.ascontiguousarray(pixels)
    out = ffi.new("xai_tensor **")
    check(
        lib.xai_model_image_input,
        model,
        0,
        ffi.from_buffer(pixels),
        _KINDS[name],
        pixels.shape[1],
        pixels.shape[0],
        pixels.shape[2] if pixels.ndim == 3 else 1,
        float(black or 0),
        float(white or 0),
        out,
    )
    return np.asarray(take(out[0])[0])
