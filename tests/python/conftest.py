"""Small models, made here with the package onnx; and which tests need packages that others do not (mark `needs`)."""

import importlib.util
import os
import pathlib

import libxai
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

PHANTOM = pathlib.Path(__file__).resolve().parents[2] / "examples/phantom/models"
LABELS = ["Effusion", "Nodule", "Pneumothorax", "Fracture"]


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*packages): skipped where one of them is not installed")


def pytest_collection_modifyitems(config, items):
    """XAI_PEERS=only runs the tests that need packages, XAI_PEERS=elsewhere all others: tests/run runs both."""
    chosen, left = [], []
    for item in items:
        needed = [package for mark in item.iter_markers("needs") for package in mark.args]
        missing = [package for package in needed if importlib.util.find_spec(package) is None]
        here = {"only": needed, "elsewhere": not needed}.get(os.environ.get("XAI_PEERS"), True)
        (chosen if here else left).append(item)
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"{', '.join(missing)} is not installed"))
    items[:] = chosen
    config.hook.pytest_deselected(items=left)


def save(nodes, inputs, outputs, weights, card=None, opset=17):
    """Bytes of a model; inputs and outputs are (name, shape)."""
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side]
        for side in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "small", *values, tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="libxai tests"
    )
    if card:
        helper.set_model_props(model, card)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def float32(rng, *shape, scale=1.0):
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def make_convolutional(final=None, card=None, smooth=False):
    """Conv, BN, ReLU, MaxPool, Conv, BN, ReLU (the layer), GlobalAveragePool, Gemm and what comes last."""
    rng = np.random.default_rng(5)
    weights = {
        "w1": float32(rng, 8, 2, 3, 3, scale=0.3),
        "w2": float32(rng, 12, 8, 3, 3, scale=0.2),
        "w3": float32(rng, 4, 12, scale=0.8),
        "b3": float32(rng, 4, scale=0.1),
    }
    for name, channels in (("bn1", 8), ("bn2", 12)):
        weights[name + "_scale"] = (0.5 + rng.random(channels)).astype(np.float32)
        weights[name + "_shift"] = float32(rng, channels, scale=0.2)
        weights[name + "_mean"] = float32(rng, channels, scale=0.2)
        weights[name + "_variance"] = (0.5 + rng.random(channels)).astype(np.float32)
    normalise = lambda name: [f"{name}_{each}" for each in ("scale", "shift", "mean", "variance")]  # noqa: E731
    activation, pool = ("Softplus", "AveragePool") if smooth else ("Relu", "MaxPool")
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["conv1"], name="/stem/conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv1", *normalise("bn1")], ["norm1"], name="/stem/norm"),
        helper.make_node(activation, ["norm1"], ["act1"], name="/stem/act"),
        helper.make_node(pool, ["act1"], ["pool1"], name="/stem/pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["pool1", "w2"], ["conv2"], name="/block/conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv2", *normalise("bn2")], ["norm2"], name="/block/norm"),
        helper.make_node(activation, ["norm2"], ["act2"], name="/block/act"),
        helper.make_node("GlobalAveragePool", ["act2"], ["mean"], name="/head/pool"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="/head/flatten"),
        helper.make_node(
            "Gemm", ["flat", "w3", "b3"], ["scores" if final is None else "logits"], name="/head/linear", transB=1
        ),
    ]
    if final:
        nodes.append(helper.make_node(final, ["logits"], ["scores"], name="/head/final"))
    return save(nodes, [("image", ["batch", 2, "height", "width"])], [("scores", ["batch", 4])], weights, card)


def make_two_inputs():
    """An image (N, 1, 8, 8) and two numbers (N, 2); scores (N, 3) and a risk (N, 1) that depends on both."""
    rng = np.random.default_rng(6)
    weights = {
        "w": float32(rng, 4, 1, 3, 3, scale=0.4),
        "v": float32(rng, 6, 3),
        "u": float32(rng, 2, 1),
        "axes": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["features"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["act"], name="relu"),
        helper.make_node("ReduceMean", ["act"], ["mean"], name="mean", axes=[2, 3], keepdims=0),
        helper.make_node("Concat", ["mean", "patient"], ["both"], name="concat", axis=1),
        helper.make_node("MatMul", ["both", "v"], ["scores"], name="head"),
        helper.make_node("Tanh", ["patient"], ["bent"], name="bent"),
        helper.make_node("MatMul", ["bent", "u"], ["risk"], name="risk_head"),
    ]
    del weights["axes"]
    inputs = [("image", ["batch", 1, 8, 8]), ("patient", ["batch", 2])]
    return save(nodes, inputs, [("scores", ["batch", 3]), ("risk", ["batch", 1])], weights), weights


def make_segmentation():
    """Scores (N, 2, 8, 8), one of two classes for every pixel."""
    rng = np.random.default_rng(7)
    weights = {"w1": float32(rng, 6, 1, 3, 3, scale=0.4), "w2": float32(rng, 2, 6, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["features"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["act"], name="relu"),
        helper.make_node("Conv", ["act", "w2"], ["scores"], name="classify"),
    ]
    return save(nodes, [("image", ["batch", 1, 8, 8])], [("scores", ["batch", 2, 8, 8])], weights)


@pytest.fixture(scope="session")
def data():
    """Bytes of the network with ReLU that ends in logits, with a card."""
    return make_convolutional(card={"xai.labels": str(LABELS).replace("'", '"'), "xai.output.score": "logit-sigmoid"})


@pytest.fixture(scope="session")
def model(data):
    return libxai.Model(data)


@pytest.fixture(scope="session")
def x():
    return float32(np.random.default_rng(8), 3, 2, 20, 24)


@pytest.fixture(scope="session")
def two():
    return libxai.Model(make_two_inputs()[0])


@pytest.fixture(scope="session")
def two_x():
    rng = np.random.default_rng(9)
    return {"image": float32(rng, 3, 1, 8, 8), "patient": float32(rng, 3, 2)}


@pytest.fixture(scope="session")
def segmentation():
    return libxai.Model(make_segmentation())
