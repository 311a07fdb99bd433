"""ONNX Runtime: forward only, its inference package has no backward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from .base import Contestant


class OnnxRuntime(Contestant):
    def __init__(self, network: str, path: Path, layer: str, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    @staticmethod
    def version() -> str:
        return onnxruntime.__version__

    def forward(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"image": x})[0]
