"""PyTorch eager: forward, and backward to the input with frozen parameters (the faster way to ask for it)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from models import load

from .base import Contestant


class PyTorch(Contestant):
    def __init__(self, network: str, path: Path, layer: str, threads: int):
        torch.set_num_threads(threads)
        self.model = load(network).requires_grad_(False)

    @staticmethod
    def version() -> str:
        return torch.__version__

    def forward(self, x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.model(torch.from_numpy(x)).numpy()

    def gradient(self, x: np.ndarray, target: int) -> np.ndarray:
        image = torch.from_numpy(x).requires_grad_()
        (gradient,) = torch.autograd.grad(self.model(image)[:, target].sum(), image)
        return gradient.numpy()
