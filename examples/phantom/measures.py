"""How well a classifier tells findings apart, and how well a map points at them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def auc(scores: NDArray, labels: NDArray) -> list[float]:
    """Area under the ROC curve of every column of (N, K); ties count half."""
    areas = []
    for score, label in zip(scores.T, labels.T, strict=True):
        _, rank, ties = np.unique(score, return_inverse=True, return_counts=True)
        mean_rank = np.cumsum(ties) - (ties - 1) / 2  # ranks start at 1
        positive = int(label.sum())
        negative = len(label) - positive
        sum_of_ranks = mean_rank[rank][label == 1].sum()
        areas.append(float((sum_of_ranks - positive * (positive + 1) / 2) / (positive * negative)))
    return areas


def pointing_hit(heat: NDArray, mask: NDArray[np.bool_]) -> float:
    """The pointing game: 1 if the highest point of the map (H, W) lies on the mask (H, W), not dilated, else 0.

    The first highest point in reading order counts; a map without any positive evidence is a miss. An empty mask has no
    answer: NaN.
    """
    if not mask.any():
        return float("nan")
    return float(heat.max() > 0 and mask.flat[int(np.argmax(heat))])
