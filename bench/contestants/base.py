"""What every contestant offers. A task it lacks raises NotImplementedError and is left out of the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TARGET = 3  # the score that is explained


def grid_parts(evaluations: int) -> int:
    """Segments an axis: 14 (196 in all) with four evaluations a segment, fewer than which libxai refuses; else 4."""
    return 14 if evaluations >= 4 * 14 * 14 else 4


class Contestant:
    """One peer with one network in one process.

    `x` is (N, 3, 224, 224) float32; all results are numpy arrays, so that nobody answers before the work is done.
    """

    def __init__(self, network: str, path: Path, layer: str, threads: int):
        """`network` is torchvision's name, `path` its ONNX file, `layer` the module or ONNX value of Grad-CAM."""

    @staticmethod
    def version() -> str:
        """Version of the peer."""
        raise NotImplementedError

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Scores (N, 1000)."""
        raise NotImplementedError

    def gradient(self, x: np.ndarray, target: int) -> np.ndarray:
        """d scores[:, target] / d x, shaped like x."""
        raise NotImplementedError

    def gradcam(self, x: np.ndarray, targets: list[int]) -> np.ndarray:
        """Grad-CAM of every target for every row: (targets, N, h, w), at whatever size the peer makes its map."""
        raise NotImplementedError

    def explain(self, method: str, rows: np.ndarray, work: int) -> np.ndarray:
        """Explain rows[:1] (of trees: rows[work:]) by a method of libxai's name; what `work` counts: explainers.py."""
        raise NotImplementedError
