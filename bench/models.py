"""The networks of the benchmark and of the parity tests: torchvision's, seeded, with realistic statistics.

    python bench/models.py densenet121 resnet50      # export to the cache folder and print where

Nothing is downloaded: the weights are random. So that a wrong BatchNorm, bias or activation shows in the scores, every
BatchNorm gets random scales and shifts and the statistics of real passes, and biases are not zero.
The weights are kept beside the ONNX file: both always belong together.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
import torch

# This torchvision may be built for another torch: its box operators must be declared before the import.
if not hasattr(torch.ops.torchvision, "nms"):
    _library = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _library.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torchvision

REVISION = 1  # counts up when the networks change: old files in the cache are then left alone
# The last spatial activation's module, as users of the peers name it.
GRADCAM_LAYER = {
    "densenet121": "features.denseblock4",
    "resnet18": "layer4",
    "resnet50": "layer4",
    "vgg11": "features",
    "efficientnet_b0": "features",
    "mobilenet_v2": "features",
    "mobilenet_v3_small": "features",
    "inception_v3": "Mixed_7c",
    "googlenet": "inception5b",
    "squeezenet1_1": "features",
    "mnasnet0_5": "layers",
    "shufflenet_v2_x1_0": "conv5",
    "regnet_y_400mf": "trunk_output",
    "vgg16": "features",
    "resnext50_32x4d": "layer4",
    "efficientnet_v2_s": "features",
    "convnext_tiny": "features",
    "swin_t": None,  # tokens or channels last: the peers' Grad-CAM needs code of the user's
    "vit_b_16": None,
}
FAMILIES = tuple(GRADCAM_LAYER)


def cache_folder() -> Path:
    """Where exported networks are kept."""
    base = os.environ.get("XAI_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "libxai"
    version = torch.__version__.partition("+")[0]
    return Path(base) / f"models-torch{version}-{REVISION}"


def pictures(count: int, size: int = 224, seed: int = 0) -> np.ndarray:
    """Random smooth pictures (count, 3, size, size) float32, normalised as ImageNet's: mean 0, deviation 1."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    spectrum = np.fft.rfft2(rng.standard_normal((count, 3, size, size))) / np.maximum(frequency, 1)
    noise = np.fft.irfft2(spectrum, (size, size))
    noise -= noise.mean((2, 3), keepdims=True)
    return (noise / noise.std((2, 3), keepdims=True)).astype(np.float32)


def build(name: str, seed: int = 0) -> torch.nn.Module:
    """A network in evaluation mode, its parameters the same for the same seed and versions."""
    torch.manual_seed(seed)
    options = {"init_weights": True, "aux_logits": False} if name in ("inception_v3", "googlenet") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torchvision.models.get_model(name, weights=None, **options)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.6, 1.4, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
            module.reset_running_stats()
            module.momentum = None  # the mean of all passes below
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)) and module.bias is not None:
            module.bias.data.normal_(0, 0.05, generator=generator)
        if isinstance(module, torch.nn.Linear) and not module.weight.any():  # the head of vision transformers
            module.weight.data.normal_(0, 0.02, generator=generator)
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        with torch.no_grad():
            for step in range(3):
                model(torch.from_numpy(pictures(8, seed=100 + step)))
    return model.eval()


def load(name: str) -> torch.nn.Module:
    """The network that belongs to onnx_file(name)."""
    onnx_file(name)
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name in ("inception_v3", "googlenet") else {}
    model = torchvision.models.get_model(name, weights=None, **options)
    model.load_state_dict(torch.load(cache_folder() / f"{name}.pt", weights_only=True))
    return model.eval()


def own_activations(name: str) -> torch.nn.Module:
    """load(name) with every call of a ReLU as a module of its own, not in place: what DeepLIFT of the peers needs."""
    traced = torch.fx.symbolic_trace(load(name).requires_grad_(False))
    modules = dict(traced.named_modules())
    for count, node in enumerate(list(traced.graph.nodes)):
        called = modules.get(node.target) if node.op == "call_module" else node.target
        if isinstance(called, torch.nn.ReLU) or called in (torch.relu, torch.nn.functional.relu):
            traced.add_submodule(f"own_relu{count}", torch.nn.ReLU())
            with traced.graph.inserting_after(node):
                own = traced.graph.call_module(f"own_relu{count}", (node.args[0],))
            node.replace_all_uses_with(own)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced.eval()


def trees(count: int = 100, features: int = 20) -> Path:
    """The ONNX file of a LightGBM regression, `count` trees of depth 6; beside it its .txt and 1100 rows of a table."""
    import lightgbm
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    path = cache_folder() / "trees" / "lightgbm.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((4000, features)).astype(np.float32)
        y = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + np.abs(x[:, 3:8]).sum(1) + rng.normal(0, 0.1, len(x))
        options = {"n_estimators": count, "max_depth": 6, "num_leaves": 64, "verbose": -1, "n_jobs": 2}
        model = lightgbm.LGBMRegressor(**options).fit(x, y)
        made = onnxmltools.convert_lightgbm(
            model, initial_types=[("x", FloatTensorType([None, features]))], target_opset=15, zipmap=False
        )
        model.booster_.save_model(str(path.with_suffix(".txt")))
        np.save(path.parent / "pictures.npy", x[:1100])
        path.write_bytes(made.SerializeToString())
    return path


def onnx_file(name: str) -> Path:
    """The ONNX file (opset 17, dynamic batch, input "image", output "scores"), exported on first use."""
    if name not in FAMILIES:
        raise ValueError(f"unknown network {name!r}; known are {', '.join(FAMILIES)}")
    path = cache_folder() / f"{name}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        model = build(name)
        torch.save(model.state_dict(), path.with_suffix(".pt"))
        half_made = path.with_suffix(f".{os.getpid()}")
        export(model, half_made)
        half_made.replace(path)
    return path


def export(model: torch.nn.Module, path: Path, size: int = 224, opset: int = 17) -> None:
    """Write a network with one picture input; node names keep the names of the modules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.from_numpy(pictures(1, size)),),
            str(path),
            opset_version=opset,
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
            dynamo=False,
        )


def layer_value(path: Path, module: str) -> str:
    """The ONNX value that a module's output became: that of the last node exported from inside the module."""
    import onnx

    scope = "/" + module.replace(".", "/") + "/"
    # torch names the nodes of features[0] in a Sequential "/features/features.0/...".
    graph = onnx.load(str(path), load_external_data=False).graph
    inside = [node.output[0] for node in graph.node if scope in node.name]
    if not inside:
        raise ValueError(f"{path.name} has no node of module {module!r}")
    return inside[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="+", choices=(*FAMILIES, "all"))
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    for name in FAMILIES if "all" in arguments.name else arguments.name:
        module = GRADCAM_LAYER[name]
        print(onnx_file(name), "Grad-CAM layer:", module and layer_value(onnx_file(name), module), flush=True)


if __name__ == "__main__":
    main()
