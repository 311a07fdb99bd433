"""libxai through its Python package."""

from __future__ import annotations

from pathlib import Path

import libxai
import numpy as np

from .base import Contestant


class LibXai(Contestant):
    def __init__(self, network: str, path: Path, layer: str, threads: int):
        self.model = libxai.Model(path, threads=threads)
        self.explainer = libxai.Explainer(self.model, "gradcam", layer=layer) if layer else None

    @staticmethod
    def version() -> str:
        return libxai.__version__

    def forward(self, x: np.ndarray) -> np.ndarray:
        return self.model(x)

    def gradient(self, x: np.ndarray, target: int) -> np.ndarray:
        return self.model.gradient(x, target=target)

    def gradcam(self, x: np.ndarray, targets: list[int]) -> np.ndarray:
        return np.stack([each.values for each in self.explainer.targets(x, targets)])
