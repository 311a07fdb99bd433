"""Captum: LayerGradCam, whose map keeps the layer's size, and the explainers of `bench/run --explainers`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from captum.attr import DeepLiftShap, GradientShap, IntegratedGradients, KernelShap, LayerGradCam, Lime, Occlusion
from models import load, own_activations

from .base import TARGET, Contestant, grid_parts


class Captum(Contestant):
    def __init__(self, network: str, path: Path, layer: str, threads: int):
        torch.set_num_threads(threads)
        self.network = network
        self.model = load(network).requires_grad_(False)
        self.cam = LayerGradCam(self.model, self.model.get_submodule(layer))

    @staticmethod
    def version() -> str:
        return version("captum")

    def gradcam(self, x: np.ndarray, targets: list[int]) -> np.ndarray:
        image = torch.from_numpy(x).requires_grad_()
        return np.stack([self.cam.attribute(image, target).detach().numpy()[:, 0] for target in targets])

    def explain(self, method: str, rows: np.ndarray, work: int) -> np.ndarray:
        x, background = torch.from_numpy(rows[:1]), torch.from_numpy(rows[1:11])
        if method == "integrated_gradients":
            made = IntegratedGradients(self.model).attribute(x, target=TARGET, n_steps=work, internal_batch_size=1)
        elif method == "gradient_shap":
            made = GradientShap(self.model).attribute(x, background, n_samples=work, target=TARGET)
        elif method == "deepshap":  # raises, or errs without a word, on activations that are shared or in place
            made = DeepLiftShap(own_activations(self.network)).attribute(x, background[:work], target=TARGET)
        elif method in ("kernel_shap", "lime"):
            peer = (KernelShap if method == "kernel_shap" else Lime)(self.model)
            made = peer.attribute(x, target=TARGET, feature_mask=grid(x.shape[-1], grid_parts(work)), n_samples=work)
        elif method == "occlusion":
            window = (x.shape[1], work, work)
            made = Occlusion(self.model).attribute(x, window, strides=window, target=TARGET)
        else:
            raise NotImplementedError
        return made.detach().numpy()


def grid(side: int, parts: int) -> torch.Tensor:
    """Labels (1, 1, side, side) of equal squares."""
    label = torch.arange(side) * parts // side
    return (label[:, None] * parts + label[None]).view(1, 1, side, side)
