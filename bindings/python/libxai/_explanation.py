"""Explanations: numbers, facts, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ._errors import ArgumentError, UnsupportedError
from ._library import check, encode, ffi, lib, text
from ._picture import channels_axis
from ._tensors import copy_out

if TYPE_CHECKING:
    import os

    from ._model import Inputs

SCORE_NAMES = ("raw", "logit", "probability")


class Explanation:
    """What a method found.

    Facts have one entry a row; without a row axis in the input, they are plain numbers.

    Attributes
    ----------
    values : array, or dict of arrays by name
        Attributions shaped like the input (a dict for a model with several inputs); for the
        CAM methods the map of the layer (N, h, w), before it is cut and scaled.
    standard_error : array or dict like `values`, or NaN
        Of each attribution; NaN for methods that do not sample.
    segment_values, segment_standard_error : array or None
        (N, K): the attribution of each segment as a whole.
    target : array of int or int
        Explained index of each row; -1 for a region.
    label : list of str or str
    score, base_value, completeness_error : array or float
        NaN where the method has none.
    evaluations, samples : array of int or int
        Model evaluations spent, and the samples that the attributions are means of (0 = none).
    converged : array of bool, bool or None
        Whether the tolerance was reached; None when none was asked for.
    layer, method, score_kind : str
    baseline : str
        What stood for absence, such as "0" or "a background of 20 rows".
    warnings : list of str
    """

    def __init__(self, handle: Any, inputs: Inputs) -> None:
        self._handle = ffi.gc(handle, lib.xai_explanation_free)
        self._single = inputs.single
        self._inputs = inputs.arrays
        rows = lib.xai_explanation_row_count(handle)
        self._rows = rows
        self.method = text(lib.xai_explanation_method(handle))
        self.layer = text(lib.xai_explanation_layer(handle))
        self.score_kind = SCORE_NAMES[lib.xai_explanation_score_kind(handle)]
        self.baseline = text(lib.xai_explanation_baseline(handle))
        by_name = len(self._inputs) > 1 and not self.layer
        self.values = self._parts(lib.xai_explanation_part_values, by_name)
        self.segment_values = self._array(lib.xai_explanation_segment_values(handle))
        self.segment_standard_error = self._array(
            lib.xai_explanation_segment_standard_error(handle)
        )
        self.target = self._facts(lib.xai_explanation_target, np.int64)
        self.score = self._facts(lib.xai_explanation_score, np.float64)
        self.base_value = self._facts(lib.xai_explanation_base_value, np.float64)
        self.completeness_error = self._facts(lib.xai_explanation_completeness_error, np.float64)
        self.evaluations = self._facts(lib.xai_explanation_evaluations, np.int64)
        self.samples = self._facts(lib.xai_explanation_samples, np.int64)
        reached = self._facts(lib.xai_explanation_converged, np.int64)
        asked = np.min(reached, initial=1) >= 0
        self.converged: Any = (reached > 0) if asked else None
        self.standard_error: Any = float("nan") if self._single else np.full(rows, np.nan)
        if lib.xai_explanation_standard_error(handle) != ffi.NULL:
            self.standard_error = self._parts(lib.xai_explanation_part_standard_error, by_name)
        labels = [text(lib.xai_explanation_label(handle, row)) for row in range(rows)]
        self.label: Any = labels[0] if self._single else labels
        self.warnings = [
            text(lib.xai_explanation_warning(handle, i))
            for i in range(lib.xai_explanation_warning_count(handle))
        ]

    # Large arrays are copied when first asked for: who explains many targets rarely reads all.

    @cached_property
    def map(self) -> Any:
        """(N, H, W) at input resolution in [0, 1]; 0 = no positive evidence. None without a map."""
        return self._array(lib.xai_explanation_map(self._handle))

    @cached_property
    def signed_map(self) -> Any:
        """The map with negative evidence, in [-1, 1]; None where the method has none."""
        return self._array(lib.xai_explanation_signed_map(self._handle))

    @cached_property
    def segments(self) -> Any:
        """(N, H, W) labels of the segments that were explained; None without segments."""
        return self._array(lib.xai_explanation_segments(self._handle))

    @cached_property
    def interactions(self) -> Any:
        """(N, F, F): interactions of all pairs of features, with the option ``interactions=1``.

        Rows sum to `values`. None where they were not asked for.
        """
        return self._array(lib.xai_explanation_interactions(self._handle))

    def __repr__(self) -> str:
        return f"<libxai.Explanation {self.method} target {self.target} score {self.score}>"

    def _array(self, tensor: Any) -> Any:
        if tensor == ffi.NULL:
            return None
        array = copy_out(tensor)
        return array[0] if self._single else array

    def _parts(self, get: Any, by_name: bool) -> Any:
        count = lib.xai_explanation_part_count(self._handle)
        arrays = [self._array(get(self._handle, i)) for i in range(count)]
        if not by_name:
            return arrays[0]
        names = [text(lib.xai_explanation_part_name(self._handle, i)) for i in range(count)]
        return dict(zip(names, arrays))

    def _facts(self, get: Any, dtype: Any) -> Any:
        facts = np.array([get(self._handle, row) for row in range(self._rows)], dtype)
        return facts[0].item() if self._single else facts

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the arrays, as a dict (the facts that the program writes as JSON)."""
        import json

        return dict(json.loads(text(lib.xai_explanation_json(self._handle))))

    def _input_picture(self, row: int) -> np.ndarray:
        """Turn the explained row into an 8-bit picture, its minimum black, its maximum white."""
        pixels = self._inputs[0][row].astype(np.float64)
        axis = channels_axis(pixels.shape)
        if axis is None:
            raise UnsupportedError(
                "the input is not an image (C, H, W) or (H, W, C): give an image", "image"
            )
        low, high = float(pixels.min()), float(pixels.max())
        scaled = (pixels - low) * (255.0 / (high - low) if high > low else 0.0)
        return np.ascontiguousarray(np.moveaxis(np.rint(scaled).astype(np.uint8), axis, -1))

    def overlay(
        self,
        image: Any = None,
        row: int = 0,
        alpha: float = 0.5,
        colours: str = "turbo",
        *,
        percentile: float = 100.0,
        smoothing: float = 0.0,
        contour: float = 0.0,
    ) -> np.ndarray:
        """Draw the map over an image.

        Parameters
        ----------
        image : array, optional
            8-bit gray (H, W) or RGB (H, W, 3) of any size; floats in [0, 1]. The explained
            input by default.
        row : int
            Row to draw.
        alpha : float
            Strength of the colour where the map is 1.
        colours : {"turbo", "viridis", "inferno"}
        percentile : float
            The colours are strongest from this percentile of the map's values above 0 on. Maps of
            pixels (integrated_gradients, deeplift, ...) are seen with ``percentile=99,
            smoothing=2``: say so beside the picture. The numbers of the map stay as they are.
        smoothing : float
            Standard deviation, in pixels of the map, of a Gaussian that smooths what is drawn.
        contour : float
            Draw a line around what is at least this share of the strongest; 0 draws none.

        Returns
        -------
        array
            (H, W, 3) uint8
        """
        if not 0 <= row < self._rows:
            raise ArgumentError(f"row: {row} is not in [0, {self._rows})", "row")
        picture = self._input_picture(row) if image is None else _as_bytes(image)
        height, width = picture.shape[:2]
        channels = picture.shape[2] if picture.ndim == 3 else 1
        out = np.empty((height, width, 3), np.uint8)
        made = ffi.new("xai_display **")
        check(lib.xai_display_create, made)
        display = ffi.gc(made[0], lib.xai_display_free)
        check(lib.xai_display_set_alpha, display, float(alpha))
        check(lib.xai_display_set_colours, display, encode(colours, "colours"))
        check(lib.xai_display_set_percentile, display, float(percentile))
        check(lib.xai_display_set_smoothing, display, float(smoothing))
        check(lib.xai_display_set_contour, display, float(contour))
        check(
            lib.xai_explanation_draw,
            self._handle,
            row,
            ffi.from_buffer("uint8_t[]", picture),
            width,
            height,
            channels,
            display,
            ffi.from_buffer("uint8_t[]", out),
            ffi.NULL,
        )
        return out

    def save(self, path: str | os.PathLike[str], image: Any = None, **options: Any) -> None:
        """Write `.png` (the overlay), `.npy` (the map) or `.json` (the facts), by the ending.

        Parameters
        ----------
        path : path
        image, **options
            As for :meth:`overlay`.
        """
        import io
        from pathlib import Path

        from ._png import png_bytes, write_whole

        target = Path(path)
        kind = target.suffix.lower()
        if kind == ".png":
            data = png_bytes(self.overlay(image, **options))
        elif kind == ".npy":
            file = io.BytesIO()
            np.save(file, self.map if self.map is not None else self.values)
            data = file.getvalue()
        elif kind == ".json":
            data = text(lib.xai_explanation_json(self._handle)).encode()
        else:
            raise ArgumentError(f"path: '{kind}' is not one of .png, .npy, .json", "path")
        write_whole(target, data)

    def plot(self, image: Any = None, **options: Any) -> Any:
        """Draw with matplotlib: see :func:`libxai.plot`, whose options these are."""
        from ._plot import plot

        return plot(self, image, **options)

    def to_shap(self, names: Sequence[str] | None = None) -> Any:
        """Return a ``shap.Explanation`` for the plots of the package shap.

        Images become (N, H, W, C), as ``shap.image_plot`` takes them. One row of a table goes into
        ``shap.plots.waterfall``, all rows into ``shap.plots.beeswarm``.

        Parameters
        ----------
        names : list of str, optional
            Names of the features.
        """
        from ._shap import to_shap

        return to_shap(self, names)


def _as_bytes(image: Any) -> np.ndarray:
    picture = np.asarray(image)
    gray = picture.ndim == 2
    if not gray and not (picture.ndim == 3 and picture.shape[2] in (1, 3)):
        raise ArgumentError(f"image: (H, W) or (H, W, 3) is needed, not {picture.shape}", "image")
    if picture.size == 0:
        raise ArgumentError(f"image: {picture.shape} is empty", "image")
    if picture.dtype.kind == "f":
        if not (picture.min() >= 0 and picture.max() <= 1):
            raise ArgumentError("image: floats must be in [0, 1]", "image")
        picture = np.rint(picture * 255).astype(np.uint8)
    elif picture.dtype != np.uint8:
        raise ArgumentError(f"image: uint8 or floats are needed, not {picture.dtype}", "image")
    return np.ascontiguousarray(picture)
