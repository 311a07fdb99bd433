"""How far a map points at what a reader marked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._errors import ArgumentError, ShapeError

MEASURES = ("pointing", "mass", "rank", "auc", "iou")


def localisation(map: ArrayLike, mask: ArrayLike, threshold: float = 0.5) -> dict[str, Any]:
    """Compare maps with masks of the finding, each row by itself.

    Parameters
    ----------
    map : array
        (H, W) or (N, H, W), such as ``Explanation.map``: 0 = no positive evidence; negative values
        count as 0.
    mask : array
        The same shape; non-zero inside the finding.
    threshold : float
        Part of the map's maximum from which pixels count as pointed at, for "iou".

    Returns
    -------
    dict of str to array (N,) or float
        - "pointing": 1 where the highest pixel lies inside, 0 where not (pointing game, Zhang et
          al. 2018); of several highest pixels the part that lies inside; 0 for a map of zeros.
        - "mass": part of the map's sum that lies inside; NaN for a map of zeros.
        - "rank": part of the highest pixels, as many as the mask has, that lie inside. (Relevance
          mass and rank accuracy, Arras et al. 2022.)
        - "auc": area under the ROC curve of the map as a score of lying inside.
        - "iou": intersection over union of the mask and the pixels from the threshold on.

        Pixels that are alike share their rank. A mask that is empty says nothing: everything is
        NaN, and so is "auc" where the mask is everywhere.
    """
    maps = np.maximum(np.asarray(map, np.float64), 0)
    masks = np.asarray(mask) != 0
    if maps.shape != masks.shape or maps.ndim not in (2, 3):
        raise ShapeError(
            f"mask: {masks.shape} for a map {maps.shape}; (H, W) or (N, H, W) for both are needed",
            "mask",
        )
    if not np.isfinite(maps).all():
        raise ArgumentError("map: it holds a NaN or an infinity", "map")
    if not 0 < threshold <= 1:
        raise ArgumentError(f"threshold: {threshold} is not in (0, 1]", "threshold")
    if maps.ndim == 2:
        return _measure(maps.ravel(), masks.ravel(), threshold)
    rows = [_measure(m.ravel(), i.ravel(), threshold) for m, i in zip(maps, masks)]
    return {name: np.array([row[name] for row in rows]) for name in MEASURES}


def _measure(values: NDArray[Any], inside: NDArray[Any], threshold: float) -> dict[str, float]:
    marked, total, peak = int(inside.sum()), float(values.sum()), float(values.max(initial=0))
    if marked == 0:
        return dict.fromkeys(MEASURES, float("nan"))
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    group = group.ravel()
    marked_of = np.bincount(group[inside], minlength=len(counts))
    pointed = values >= threshold * peak if peak > 0 else np.zeros_like(inside)
    return {
        "pointing": float(marked_of[-1] / counts[-1]) if peak > 0 else 0.0,
        "mass": float(values[inside].sum()) / total if total > 0 else float("nan"),
        "rank": _rank_accuracy(counts[::-1], marked_of[::-1], marked),
        "auc": _area(counts, marked_of, marked, len(values) - marked),
        "iou": float((pointed & inside).sum() / (pointed | inside).sum()),
    }


def _rank_accuracy(counts: NDArray[Any], marked_of: NDArray[Any], marked: int) -> float:
    """Take groups of equal pixels from the highest down; the last one gives the part that fits."""
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    taken = np.clip(marked - before, 0, counts)
    return float((taken * marked_of / counts).sum() / marked)


def _area(counts: NDArray[Any], marked_of: NDArray[Any], marked: int, others: int) -> float:
    """Return the chance that a pixel inside is above one outside; equal ones count half."""
    if others == 0:
        return float("nan")
    outside = counts - marked_of
    below = np.cumsum(outside) - outside
    return float((marked_of * (below + outside / 2)).sum() / (marked * others))
