"""Models in float16 and bfloat16 against the same weights in float32: no gradient is too small for the type."""

import libxai
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

TYPES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.normal(size=(8, 3, 3, 3)) * 0.2,
    "b": RNG.normal(size=8) * 0.1,
    "h": RNG.normal(size=(8, 4)) * 1e-7,  # scores, and so gradients, of 1e-8
}
IMAGE = RNG.normal(size=(2, 3, 9, 11)).astype(np.float32)


def rounded(values, kind):
    """As float32 after rounding to the type."""
    if kind == "float16":
        return (values * 2.0**12).astype(np.float16).astype(np.float32) * np.float32(2.0**-12)
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)


def network(kind, border):
    """`border`: which type the input and the output have, "float" or the half type; kind None: float32 throughout."""
    half = TYPES.get(kind, TensorProto.FLOAT)
    outside = half if border == "half" else TensorProto.FLOAT
    scale = 2.0**-12 if kind != "bfloat16" else 1.0
    weights = [
        helper.make_tensor(
            name, half, values.shape, (values / (scale if name == "h" else 1)).astype(np.float32).ravel()
        )
        for name, values in WEIGHTS.items()
    ]
    weights.append(helper.make_tensor("s", half, (), [scale]))
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=half),
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "h"], ["m"]),
        helper.make_node("Mul", ["m", "s"], ["y"]),
        helper.make_node("Cast", ["y"], ["scores"], to=outside),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", outside, ["N", 3, 9, 11])],
        [helper.make_tensor_value_info("scores", outside, ["N", 4])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return libxai.Model(model.SerializeToString(), threads=1)


def float_network(kind):
    """The half model's weights, rounded, in float32."""
    exact = {name: values.copy() for name, values in WEIGHTS.items()}
    try:
        for name in WEIGHTS:
            scaled = WEIGHTS[name] * (2.0**12 if name == "h" and kind == "float16" else 1)
            fine = scaled.astype(np.float16).astype(np.float64) if kind == "float16" else rounded(scaled, kind)
            WEIGHTS[name] = fine / (2.0**12 if name == "h" and kind == "float16" else 1)
        return network(None, "float")
    finally:
        WEIGHTS.update(exact)


@pytest.mark.parametrize("kind", TYPES)
def test_small_gradients_survive(kind):
    model, wide = network(kind, "float"), float_network(kind)
    scores, wanted = model(IMAGE), wide(IMAGE)
    assert np.abs(scores - wanted).max() <= 1e-5 * np.abs(wanted).max()
    found, expected = model.gradient(IMAGE, 1), wide.gradient(IMAGE, 1)
    assert 0 < np.abs(expected).max() < 1e-8
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", TYPES)
def test_maps_are_those_in_float32(kind):
    found = libxai.explain(network(kind, "float"), IMAGE, "gradcam", target=1)
    wanted = libxai.explain(float_network(kind), IMAGE, "gradcam", target=1)
    assert found.layer == wanted.layer
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-5 * np.abs(wanted.values).max())


def test_half_inputs_and_outputs_stay_half():
    model = network("float16", "half")
    image = IMAGE.astype(np.float16)
    scores = model(image)
    wanted = float_network("float16")(image.astype(np.float32))
    assert scores.dtype == np.float16
    np.testing.assert_array_equal(scores, wanted.astype(np.float16))
    assert np.abs(model.activations(image, "r")).max() > 0
