"""Captum's LayerGradCam. Its map keeps the layer's size; the contestant adds nothing."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerGradCam
from models import load

from .base import Contestant


class Captum(Contestant):
    def __init__(self, network: str, path: Path, layer: str, threads: int):
        torch.set_num_threads(threads)
        model = load(network).requires_grad_(False)
        self.cam = LayerGradCam(model, model.get_submodule(layer))

    @staticmethod
    def version() -> str:
        return version("captum")

    def gradcam(self, x: np.ndarray, targets: list[int]) -> np.ndarray:
        image = torch.from_numpy(x).requires_grad_()
        return np.stack([self.cam.attribute(image, target).detach().numpy()[:, 0] for target in targets])
