"""The package grad-cam (pytorch-grad-cam), as its README uses it; a second contestant freezes the parameters."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from models import load
from pytorch_grad_cam import GradCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from .base import TARGET, Contestant


class PytorchGradCam(Contestant):
    frozen = False

    def __init__(self, network: str, path: Path, layer: str, threads: int):
        torch.set_num_threads(threads)
        model = load(network).requires_grad_(not self.frozen)
        self.cam = GradCAM(model=model, target_layers=[model.get_submodule(layer)])

    @staticmethod
    def version() -> str:
        return version("grad-cam")

    def gradcam(self, x: np.ndarray, targets: list[int]) -> np.ndarray:
        image = torch.from_numpy(x).requires_grad_(self.frozen)
        return np.stack([self.cam(image, [ClassifierOutputTarget(target)] * len(x)) for target in targets])

    def explain(self, method: str, rows: np.ndarray, work: int) -> np.ndarray:
        if method != "scorecam":
            raise NotImplementedError
        cam = ScoreCAM(model=self.cam.model, target_layers=self.cam.target_layers)
        return cam(torch.from_numpy(rows[:1]), [ClassifierOutputTarget(TARGET)])


class PytorchGradCamFrozen(PytorchGradCam):
    frozen = True
