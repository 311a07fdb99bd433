"""Make the small networks of the parity tests and what PyTorch says about them in float64: models/NAME.onnx, NAME.npz.

    python tests/parity/make_models.py [NAME...]     # needs torch, onnx, onnxscript, onnxruntime

A gradient is not continuous where a ReLU's input is zero or two entries of a max pool are equal: seeds are tried until
PyTorch's own float32 agrees with its float64 to 1e-6, so that the tests measure libxai and not luck.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import networks
import numpy as np
import onnx
import reference
import torch

FOLDER = Path(__file__).resolve().parent / "models"
ROWS = 2


def build(name: str, seed: int) -> torch.nn.Module:
    """A network with random weights, biases and affine parameters, and the BatchNorm statistics of real passes."""
    torch.manual_seed(seed)
    network = networks.NETWORKS[name][0]()
    for module in network.modules():
        if getattr(module, "running_mean", None) is not None:
            module.momentum = None  # the mean of all passes below
        if getattr(module, "bias", None) is not None:
            torch.nn.init.normal_(module.bias, 0, 0.2)
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            torch.nn.init.uniform_(module.weight, 0.6, 1.4)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, *networks.NETWORKS[name][2]))
    return network.eval()


def export(network: torch.nn.Module, x: torch.Tensor, path: Path, dynamo: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {"input_names": ["image"], "output_names": ["scores"]}
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(
                network, (x,), str(path), dynamo=True, dynamic_shapes=shapes, external_data=False, **names
            )
        else:
            axes = {"image": {0: "batch"}, "scores": {0: "batch"}}
            torch.onnx.export(network, (x,), str(path), opset_version=17, dynamic_axes=axes, dynamo=False, **names)
    model = onnx.load(str(path))
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:  # where in the source it came from: the names keep the modules
        del node.metadata_props[:]
        node.doc_string = ""
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
    onnx.save(model, str(path))


def make(name: str) -> str:
    _, module, row, planes, second_exporter = networks.NETWORKS[name]
    planes = getattr(reference, planes)
    for seed in range(300):
        network = build(name, seed)
        x = np.random.default_rng(seed).standard_normal((ROWS, *row)).astype(np.float32)
        targets = None
        if name == "unet":  # the sum of a class over a box, and one pixel
            targets = [(1, slice(2, 8), slice(3, 11)), (0, 5, 6)]
        exact = reference.references(network, module, x, targets, torch.float64, planes)
        single = reference.references(network, module, x, targets, torch.float32, planes)
        errors = [reference.relative_error(single[each], exact[each]) for each in reference.QUANTITIES]
        if max(errors) < 1e-6 and (single["targets"] == exact["targets"]).all():
            break
    else:
        raise SystemExit(f"{name}: no seed where float32 agrees with float64; last errors {errors}")
    names = {}
    for dynamo in (False, True) if second_exporter else (False,):
        path = FOLDER / (name + ("_dynamo" if dynamo else "") + ".onnx")
        export(network, torch.from_numpy(x), path, dynamo)
        names["layer_dynamo" if dynamo else "layer_name"] = reference.onnx_value(path, x, exact["layer"])
        if path.stat().st_size > 60_000:
            raise SystemExit(f"{path.name} has {path.stat().st_size} bytes")
    kept = {each: exact[each].astype(np.float32) for each in reference.QUANTITIES}
    np.savez_compressed(FOLDER / f"{name}.npz", image=x, targets=exact["targets"], **kept, **names)
    return f"{name}: seed {seed}, PyTorch's float32 {max(errors):.1e}, {names}"


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or networks.NETWORKS:
        print(make(name), flush=True)
    total = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()
