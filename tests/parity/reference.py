"""What PyTorch says about a network: scores, gradients, Grad-CAM and Grad-CAM++ by their formulas. Needs torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch

QUANTITIES = ("scores", "input_gradient", "layer_gradient", "gradcam", "gradcam_plus_plus")


def as_planes(layer: torch.Tensor) -> torch.Tensor:
    """Layers of convolutional networks are (N, C, spatial...) already."""
    return layer


def tokens_as_planes(layer: torch.Tensor) -> torch.Tensor:
    """(N, 1 + h h, C) with a class token first -> (N, C, h, h)."""
    side = round((layer.shape[1] - 1) ** 0.5)
    return layer[:, 1:].transpose(1, 2).reshape(len(layer), layer.shape[2], side, side)


def channels_last_as_planes(layer: torch.Tensor) -> torch.Tensor:
    return layer.movedim(-1, 1)


def gradcam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """(N, C, spatial...) -> (N, spatial...), negative values kept."""
    space = tuple(range(2, activation.ndim))
    return (gradient.mean(space, keepdim=True) * activation).sum(1)


def gradcam_plus_plus(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    space = tuple(range(2, activation.ndim))
    total = activation.sum(space, keepdim=True)
    alpha = gradient**2 / (2 * gradient**2 + total * gradient**3 + 1e-6)
    alpha = torch.where(gradient == 0, torch.zeros_like(alpha), alpha)
    weight = (gradient.clamp(min=0) * alpha).sum(space, keepdim=True)
    return (weight * activation).sum(1)


def references(
    network: torch.nn.Module,
    module: str,
    x: np.ndarray,
    targets: list | None,
    dtype: torch.dtype,
    planes: Callable[[torch.Tensor], torch.Tensor] = as_planes,
) -> dict[str, np.ndarray]:
    """All quantities of rows x; row n is explained at targets[n]: an index, or a tuple with slices (their sum)."""
    network = copy.deepcopy(network).to(dtype).eval()
    saved = []

    def keep(_module: torch.nn.Module, _inputs: tuple, out: torch.Tensor) -> torch.Tensor:
        out.retain_grad()
        saved.append(out)
        return out.clone()  # what follows in place works on the copy

    network.get_submodule(module).register_forward_hook(keep)
    image = torch.from_numpy(x).to(dtype).requires_grad_(True)
    scores = network(image)
    if targets is None:
        targets = scores.flatten(1).argmax(1).tolist()
    rows = [scores[(n, *t)] if isinstance(t, tuple) else scores[n, t] for n, t in enumerate(targets)]
    sum(each.sum() for each in rows).backward()
    (layer,) = saved
    activation, gradient = planes(layer.detach()), planes(layer.grad)
    found = {
        "scores": scores.detach(),
        "input_gradient": image.grad,
        "layer_gradient": layer.grad,
        "gradcam": gradcam(activation, gradient),
        "gradcam_plus_plus": gradcam_plus_plus(activation, gradient),
        "layer": layer.detach(),
    }
    found = {name: value.numpy().astype(np.float64) for name, value in found.items()}
    found["targets"] = np.array([t if isinstance(t, int) else -1 for t in targets])
    return found


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative L2, of the worst row."""
    difference = (np.asarray(found, np.float64) - expected).reshape(len(expected), -1)
    return float(
        (np.linalg.norm(difference, axis=1) / np.linalg.norm(expected.reshape(len(expected), -1), axis=1)).max()
    )


def onnx_value(path: Path, x: np.ndarray, layer: np.ndarray) -> str:
    """Name the first value inside an ONNX file that equals a module's output."""
    import onnxruntime

    model = onnx.load(str(path))
    names = [name for node in model.graph.node for name in node.output if name]
    known = {each.name for each in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    scale = np.abs(layer).max()
    for name, value in zip(names, session.run(names, {session.get_inputs()[0].name: x}), strict=True):
        same = value.shape == layer.shape and value.dtype == np.float32
        if same and np.abs(value - layer).max() < 1e-4 * scale:
            return name
    raise ValueError(f"{path.name}: no value equals the layer {layer.shape}")
