"""The package shap, for `bench/run --explainers`: its explainers of networks, and TreeExplainer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import TARGET, Contestant


class Shap(Contestant):
    def __init__(self, network: str, path: Path, layer: str, threads: int):
        import torch
        from models import load, own_activations

        class OneScore(torch.nn.Module):
            """Only the score that is explained: shap explains all outputs."""

            def __init__(self, model: torch.nn.Module):
                super().__init__()
                self.model = model

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.model(x)[:, TARGET : TARGET + 1]

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = OneScore(load(network).requires_grad_(False))
        self.separate = lambda: OneScore(own_activations(network))

    @staticmethod
    def version() -> str:
        import shap

        return shap.__version__

    def explain(self, method: str, rows: np.ndarray, work: int) -> np.ndarray:
        import shap

        torch = self.torch
        x, background = torch.from_numpy(rows[:1]), torch.from_numpy(rows[1:11])
        if method == "gradient_shap":
            return np.asarray(shap.GradientExplainer(self.model, background).shap_values(x, nsamples=work))[..., 0]
        if method == "deepshap":  # its additivity check fails on overlapping max pooling
            peer = shap.DeepExplainer(self.separate(), background[:work])
            return np.asarray(peer.shap_values(x, check_additivity=False))[..., 0]
        if method == "partition_shap":

            def scores(pictures: np.ndarray) -> np.ndarray:
                with torch.inference_mode():
                    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32)
                    return self.model(torch.from_numpy(planes)).numpy()

            picture = rows[:1].transpose(0, 2, 3, 1)
            masker = shap.maskers.Image(np.zeros(picture.shape[1:], np.float32), picture.shape[1:])
            values = shap.PartitionExplainer(scores, masker)(picture, max_evals=work, batch_size=10, silent=True).values
            return values[..., 0].transpose(0, 3, 1, 2)
        raise NotImplementedError


class ShapTrees(Shap):
    """TreeExplainer, interventional: rows[:work] are the background, the rest is explained."""

    def __init__(self, network: str, path: Path, layer: str, threads: int):
        import lightgbm

        self.model = lightgbm.Booster(model_file=str(path.with_suffix(".txt")))

    def explain(self, method: str, rows: np.ndarray, work: int) -> np.ndarray:
        import shap

        if method != "tree_shap":
            raise NotImplementedError
        background = rows[:work].astype(np.float64)
        peer = shap.TreeExplainer(self.model, background, feature_perturbation="interventional")
        return peer.shap_values(rows[work:].astype(np.float64), check_additivity=False)
