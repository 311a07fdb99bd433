"""Make small networks quantised by ONNX Runtime and what is known about them: quantised/NAME.onnx and .npz.

    python tests/parity/make_quantised.py     # needs torch, onnx, onnxruntime

`static` has one scale a tensor, `channels` one a channel of the weights, both as QuantizeLinear and DequantizeLinear
pairs. The .npz has the rows `image`, the `scores` of ONNX Runtime without graph optimisations, the `float_scores` and
`float_gradient` of the network before it was quantised, and `gradient`: d scores[:, target] / d image in float64 with
straight-through steps (one where a value is in the range of its type, zero where it saturates; the score itself always
one), from an evaluation of the quantised graph in PyTorch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn
from torch.nn import functional as F

FOLDER = Path(__file__).resolve().parent / "quantised"
SHAPE = (3, 20, 24)
TARGET = 1


class Network(nn.Module):
    """A residual network in small: convolutions, a depthwise one with ReLU6, an Add, a pool, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ReLU6(), nn.Conv2d(8, 8, 1))
        self.head = nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        x = F.relu(x + self.deep(x))
        return self.head(F.max_pool2d(x, 2).mean((2, 3)))


class Pictures(CalibrationDataReader):
    """Rows of a narrower range than those that are explained, so that values saturate."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.rows = iter([{"image": rng.standard_normal((1, *SHAPE)).astype(np.float32) * 0.7} for _ in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rows, None)


class Step(torch.autograd.Function):
    """Quantised and back; `everywhere`: the gradient passes where the value saturates, too."""

    @staticmethod
    def forward(context, x, scale, zero, low, high, everywhere):
        q = torch.round(x / scale) + zero
        context.save_for_backward(((q >= low) & (q <= high)) | everywhere)
        return (q.clamp(low, high) - zero) * scale

    @staticmethod
    def backward(context, gradient):
        (inside,) = context.saved_tensors
        return gradient * inside, None, None, None, None, None


def evaluate(model: onnx.ModelProto, image: torch.Tensor) -> torch.Tensor:
    """The graph in float64."""
    values = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in model.graph.initializer}
    values["image"] = image
    steps = {}
    last = model.graph.output[0].name
    for node in model.graph.node:
        given = [values.get(name) for name in node.input]
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "QuantizeLinear":
            steps[node.output[0]] = given[0]
            continue
        if node.op_type == "DequantizeLinear":
            x, (scale, zero) = steps.get(node.input[0]), given[1:3]
            if x is None:  # a weight
                axis = attributes.get("axis", 1)
                form = [-1 if i == axis else 1 for i in range(given[0].ndim)] if scale.ndim else []
                found = (given[0].double() - zero.double().reshape(form)) * scale.double().reshape(form)
            else:
                limits = torch.iinfo(zero.dtype)
                everywhere = torch.tensor(node.output[0] == last)
                found = Step.apply(x, scale.double(), zero.double(), limits.min, limits.max, everywhere)
        elif node.op_type == "Constant":
            found = torch.from_numpy(numpy_helper.to_array(attributes["value"]).copy())
        elif node.op_type == "Conv":
            pads = attributes.get("pads", [0] * 4)
            found = F.conv2d(
                F.pad(given[0], (pads[1], pads[3], pads[0], pads[2])), given[1], given[2],
                attributes.get("strides", [1, 1]), 0, 1, attributes.get("group", 1),
            )  # fmt: skip
        elif node.op_type == "Relu":
            found = given[0].relu()
        elif node.op_type == "Clip":
            found = given[0].clamp(float(given[1]), float(given[2]))
        elif node.op_type == "Add":
            found = given[0] + given[1]
        elif node.op_type == "MaxPool":
            found = F.max_pool2d(given[0], attributes["kernel_shape"], attributes["strides"])
        elif node.op_type == "ReduceMean":
            found = given[0].mean(attributes["axes"])
        elif node.op_type == "Gemm":
            found = given[0] @ (given[1].T if attributes.get("transB") else given[1]) + given[2]
        else:
            raise ValueError(node.op_type)
        values[node.output[0]] = found
    return values[last]


def main() -> None:
    torch.manual_seed(3)
    FOLDER.mkdir(exist_ok=True)
    network = Network().eval()
    network.stem[1].running_var.uniform_(0.5, 1.5)
    x = np.random.default_rng(2).standard_normal((3, *SHAPE)).astype(np.float32)
    x[2] *= 4  # its scores saturate
    image = torch.from_numpy(x).requires_grad_()
    scores = network(image)
    scores[:, TARGET].sum().backward()
    known = {"image": x, "target": TARGET, "float_scores": scores.detach().numpy(), "float_gradient": image.grad}
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        torch.onnx.export(
            network, (image.detach(),), str(plain), opset_version=17, dynamo=False, input_names=["image"],
            output_names=["scores"], dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
        )  # fmt: skip
        for name, options in {
            "static": {"activation_type": QuantType.QUInt8},
            "channels": {"activation_type": QuantType.QInt8, "per_channel": True},
        }.items():
            path = FOLDER / f"{name}.onnx"
            quantize_static(str(plain), str(path), Pictures(), quant_format=QuantFormat.QDQ, **options)
            model = onnx.load(path)
            del model.graph.value_info[:], model.metadata_props[:]
            onnx.save(model, path)
            settings = onnxruntime.SessionOptions()
            settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
            wide = torch.from_numpy(x).double().requires_grad_()
            found = evaluate(model, wide)
            found[:, TARGET].sum().backward()
            expected = session.run(None, {"image": x})[0]
            assert np.abs(found.detach().numpy() - expected).max() < 1e-5 * np.abs(expected).max()
            np.savez_compressed(
                path.with_suffix(".npz"), scores=expected, gradient=wide.grad.numpy().astype(np.float32), **known
            )
            print(name, path.stat().st_size, expected[:, TARGET], known["float_scores"][:, TARGET])


if __name__ == "__main__":
    main()
