"""OpenVINO: forward only, in latency mode and in float32 like everybody else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino

from .base import Contestant


class OpenVino(Contestant):
    def __init__(self, network: str, path: Path, layer: str, threads: int):
        self.core = openvino.Core()
        self.settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self.model = self.core.read_model(str(path))
        self.compiled: dict[int, openvino.CompiledModel] = {}  # by batch: fixed shapes are its fast case

    @staticmethod
    def version() -> str:
        return openvino.__version__.partition("-")[0]

    def forward(self, x: np.ndarray) -> np.ndarray:
        if len(x) not in self.compiled:
            self.model.reshape(list(x.shape))
            self.compiled[len(x)] = self.core.compile_model(self.model, "CPU", self.settings)
        return self.compiled[len(x)](x)[0].copy()
