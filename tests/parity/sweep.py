"""Export timm's architectures at their real sizes and compare libxai with PyTorch: one line each (docs/models.md).

    python tests/parity/sweep.py [--exporter old|new] [--opset N] [NAME...]     # needs torch, timm, onnxscript, libxai

Weights are random, BatchNorm statistics too. Without names the smallest architecture of every file of timm is taken
that has at most 60 million parameters. Printed are the largest difference of a score, as a part of the largest score;
the relative L2 difference of d score 7 / d image from PyTorch's float64, and in brackets that of PyTorch's own float32;
and the layer that Grad-CAM takes. Where the gradients disagree, `slope` is what the score gains along libxai's gradient
by finite differences of PyTorch's float64, over the length of that gradient: 1 when libxai is right.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import libxai  # noqa: E402
import timm  # noqa: E402

TARGET, LARGEST = 7, 60_000_000


def smallest_of_each_file() -> list[str]:
    found: dict[str, tuple[float, str]] = {}
    for name in timm.list_models(exclude_filters="test_*"):
        size = timm.get_pretrained_cfg(name).input_size[-1]
        try:
            with torch.device("meta"):
                count = sum(each.numel() for each in timm.create_model(name).parameters())
        except (RuntimeError, NotImplementedError, TypeError):  # not to be built without data
            continue
        file = timm.models.model_entrypoint(name).__module__
        cost = count * size**2
        if count <= LARGEST and size <= 320 and (file not in found or cost < found[file][0]):
            found[file] = (cost, name)
    return [name for _, name in sorted(found.values())]


@torch.no_grad()
def build(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    network = timm.create_model(name, exportable=True).eval()
    chance = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(getattr(module, "running_mean", None), torch.Tensor):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=chance) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=chance) * 0.6 + 0.7)
    for parameter in network.parameters():
        if parameter.abs().max() == 0:
            parameter.copy_(torch.randn(parameter.shape, generator=chance) * 0.05)
    rows = np.random.default_rng(0).normal(size=(1, *network.default_cfg["input_size"]))
    return network, torch.from_numpy(rows.astype(np.float32))


@torch.no_grad()
def export(network: torch.nn.Module, x: torch.Tensor, path: Path, exporter: str, opset: int | None) -> None:
    names = {"input_names": ["image"], "output_names": ["scores"]}
    with contextlib.redirect_stdout(io.StringIO()):  # a failing export prints the whole graph
        if exporter == "new":
            torch.onnx.export(network, (x,), str(path), dynamo=True, verbose=False, opset_version=opset, **names)
        else:
            torch.onnx.export(network, (x,), str(path), dynamo=False, opset_version=opset or 17, **names)


def lay_out_gradients(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
    """PyTorch 2.13 differentiates an evaluated BatchNorm wrongly where the gradient comes to it transposed."""
    if output.requires_grad:
        output.register_hook(lambda gradient: gradient.contiguous())


def scores_and_gradient(network: torch.nn.Module, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    image = x.clone().requires_grad_()
    scores = network(image)
    (gradient,) = torch.autograd.grad(scores[0, TARGET], image)
    return scores.detach().numpy(), gradient.numpy()


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(b))


@torch.no_grad()
def slope(network: torch.nn.Module, x: torch.Tensor, gradient: np.ndarray, step: float = 1e-3) -> float:
    length = np.linalg.norm(gradient.astype(np.float64))
    way = torch.from_numpy(gradient.astype(np.float64) / length) * step
    return float((network(x + way)[0, TARGET] - network(x - way)[0, TARGET]) / (2 * step * length))


def compare(name: str, exporter: str, opset: int | None, folder: Path) -> str:
    network, x = build(name)
    path = folder / "model.onnx"
    export(network, x, path, exporter, opset)
    model = libxai.Model(path, threads=1)
    scores, gradient = model(x.numpy()), model.gradient(x.numpy(), TARGET)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.register_forward_hook(lay_out_gradients)
    single = scores_and_gradient(network, x)
    wide = network.double()
    exact = scores_and_gradient(wide, x.double())
    difference = np.abs(scores - exact[0]).max() / np.abs(exact[0]).max()
    ours, theirs = relative(gradient, exact[1]), relative(single[1], exact[1])
    line = f"{name:32} {x.shape[-1]} scores {difference:.1e} gradient {ours:.1e} ({theirs:.1e})"
    if ours > 1e-3:
        line += f" slope {slope(wide, x.double(), gradient):.5f}"
    found = libxai.explain(model, x.numpy(), "gradcam", target=TARGET)
    return f"{line} layer {found.layer} {found.values.shape[1:]}"


def in_a_process_of_its_own(name: str, arguments: argparse.Namespace) -> None:
    """Memory goes back, and a crash costs one line."""
    child = os.fork()
    if child == 0:
        try:
            with tempfile.TemporaryDirectory() as folder:
                print(compare(name, arguments.exporter, arguments.opset, Path(folder)), flush=True)
        except Exception as error:  # the others are still wanted
            text = " ".join(str(error).split())
            print(f"{name:32} FAILED {type(error).__name__}: {text[:200]}", flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        print(f"{name:32} CRASHED with status {status}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exporter", choices=["old", "new"], default="old")
    parser.add_argument("--opset", type=int)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    for name in arguments.names or smallest_of_each_file():
        in_a_process_of_its_own(name, arguments)


if __name__ == "__main__":
    main()
