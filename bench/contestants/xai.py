"""libxai through its Python package."""

from __future__ import annotations

from pathlib import Path

import libxai
import numpy as np

from .base import TARGET, Contestant, grid_parts


class LibXai(Contestant):
    precision = "standard"

    def __init__(self, network: str, path: Path, layer: str, threads: int):
        self.model = libxai.Model(path, threads=threads, precision=self.precision)
        self.layer, self.explainers = layer, {}
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

    def explain(self, method: str, rows: np.ndarray, work: int) -> np.ndarray:
        grid = {"segments": ("grid", grid_parts(work)), "samples": work}
        options = {
            "integrated_gradients": {"steps": work},
            "gradient_shap": {"samples": work, "background": rows[1:11]},
            "deepshap": {"background": rows[1 : 1 + work]},
            "kernel_shap": grid,
            "lime": grid,
            "partition_shap": {"samples": work},
            "occlusion": {"window": work, "stride": work},
            "scorecam": {"layer": self.layer},
        }
        if method not in self.explainers:  # kept while it is the same: deepshap's backgrounds are prepared once
            self.explainers = {method: libxai.Explainer(self.model, method, **options[method])}
        return self.explainers[method](rows[:1], TARGET).values


class LibXaiFast(LibXai):
    """The same in precision `fast`."""

    precision = "fast"


class LibXaiTrees(LibXai):
    """Tree SHAP, interventional: rows[:work] are the background, the rest is explained."""

    def __init__(self, network: str, path: Path, layer: str, threads: int):
        self.model = libxai.Model(path, threads=threads)

    def explain(self, method: str, rows: np.ndarray, work: int) -> np.ndarray:
        return libxai.explain(self.model, rows[work:], method, 0, background=rows[:work]).values
