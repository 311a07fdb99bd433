"""Whole small models against references: quantised, recurrent, half precision, external data, free sizes."""

import libxai
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

PRECISIONS = ["standard", "reference"]
FLOAT = TensorProto.FLOAT


def make(nodes, inputs, outputs, weights, opset=21):
    """Make a model; inputs and outputs are (name, element type, shape)."""
    values = [[helper.make_tensor_value_info(*each) for each in side] for side in (inputs, outputs)]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "small", *values, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def weights_of(rng, **shapes):
    return {name: (0.4 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def numeric_gradient(model, x, target, wanted):
    """Central differences of a score at the positions in `wanted`; x stays as it is."""
    step = 1e-2
    found = []
    for index in wanted:
        moved = [x.copy(), x.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        above, below = (np.asarray(model(each))[0, target] for each in moved)
        found.append((above - below) / (2 * step))
    return np.array(found)


def make_quantised():
    """Conv, Relu and Gemm in QDQ form: int8 weights per channel, uint8 activations."""
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.integers(-127, 128, (6, 2, 3, 3)).astype(np.int8),
        "w_scale": rng.uniform(0.002, 0.006, 6).astype(np.float32),
        "w_zero": np.zeros(6, np.int8),
        "v": rng.integers(-127, 128, (3, 6)).astype(np.int8),
        "v_scale": np.float32(0.01),
        "x_scale": np.float32(0.03),
        "x_zero": np.uint8(120),
        "a_scale": np.float32(0.05),
        "a_zero": np.uint8(0),
        "axes": np.array([2, 3], np.int64),
    }
    quantise = lambda name, kind: [  # noqa: E731
        helper.make_node("QuantizeLinear", [name, f"{kind}_scale", f"{kind}_zero"], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", f"{kind}_scale", f"{kind}_zero"], [f"{name}_d"]),
    ]
    nodes = [
        *quantise("image", "x"),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_d"], axis=0),
        helper.make_node("Conv", ["image_d", "w_d"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["a"]),
        *quantise("a", "a"),
        helper.make_node("ReduceMean", ["a_d", "axes"], ["m"], keepdims=0),
        helper.make_node("DequantizeLinear", ["v", "v_scale"], ["v_d"]),
        helper.make_node("Gemm", ["m", "v_d"], ["scores"], transB=1),
    ]
    return make(nodes, [("image", FLOAT, ["n", 2, 8, 8])], [("scores", FLOAT, ["n", 3])], weights)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_quantised_models_give_the_reference_scores_and_straight_through_gradients(precision):
    proto = make_quantised()
    x = np.random.default_rng(4).uniform(-4.5, 4.5, (2, 2, 8, 8)).astype(np.float32)
    model = libxai.Model(proto.SerializeToString(), precision=precision)
    expected = ReferenceEvaluator(proto).run(None, {"image": x})[0]
    np.testing.assert_allclose(model(x), expected, atol=1e-5)
    # The straight-through gradient is that of the float model where nothing saturates, and zero where x does.
    w = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    float_nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["a"]),
        helper.make_node("ReduceMean", ["a", "axes"], ["m"], keepdims=0),
        helper.make_node("Gemm", ["m", "v"], ["scores"], transB=1),
    ]
    float_weights = {
        "w": w["w"].astype(np.float32) * w["w_scale"][:, None, None, None],
        "v": w["v"].astype(np.float32) * w["v_scale"],
        "axes": w["axes"],
    }
    inputs, outputs = [("image", FLOAT, ["n", 2, 8, 8])], [("scores", FLOAT, ["n", 3])]
    plain = libxai.Model(make(float_nodes, inputs, outputs, float_weights).SerializeToString())
    level = np.rint(x / w["x_scale"]) + 120
    inside = (level >= 0) & (level <= 255)
    assert not inside.all()
    rounded = ((np.clip(level, 0, 255) - 120) * w["x_scale"]).astype(np.float32)
    assert plain.activations(rounded, "a").max() < 255 * w["a_scale"]  # no activation saturates
    np.testing.assert_allclose(
        model.gradient(x, target=1), np.where(inside, plain.gradient(rounded, target=1), 0), atol=1e-6
    )


def run_cell(kind, x, w, r, b, backwards):
    """Last state of one direction, from the formulas of the ONNX standard; x is (N, C, T)."""
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    h = c = np.zeros((x.shape[0], r.shape[1]))
    wb, rb = np.split(b.astype(np.float64), 2)
    for t in reversed(range(x.shape[2])) if backwards else range(x.shape[2]):
        a, u = x[:, :, t] @ w.T.astype(np.float64) + wb, h @ r.T + rb
        if kind == "RNN":
            h = np.tanh(a + u)
        elif kind == "GRU":
            z, reset = (sigmoid(p + q) for p, q in zip(np.split(a, 3, 1)[:2], np.split(u, 3, 1)[:2], strict=True))
            n = np.tanh(np.split(a, 3, 1)[2] + (reset * h) @ np.split(r, 3)[2].T + np.split(rb, 3)[2])
            h = (1 - z) * n + z * h
        else:
            i, o, f, g = np.split(a + u, 4, 1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
    return h


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind, gates", [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_classifiers(kind, gates, precision):
    """A signal (N, 2, 20) to (T, N, C), both directions, last state of both, a linear head."""
    rng = np.random.default_rng(5)
    weights = weights_of(rng, w=(2, gates * 5, 2), r=(2, gates * 5, 5), b=(2, gates * 10), v=(10, 3))
    weights["flat"] = np.array([0, 10], np.int64)
    nodes = [
        helper.make_node("Transpose", ["signal"], ["x"], perm=[2, 0, 1]),
        helper.make_node(kind, ["x", "w", "r", "b"], ["", "h"], hidden_size=5, direction="bidirectional"),
        helper.make_node("Transpose", ["h"], ["t"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["t", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["scores"]),
    ]
    proto = make(nodes, [("signal", FLOAT, ["n", 2, 20])], [("scores", FLOAT, ["n", 3])], weights)
    x = rng.standard_normal((3, 2, 20)).astype(np.float32)
    model = libxai.Model(proto.SerializeToString(), precision=precision)
    states = [run_cell(kind, x, weights["w"][d], weights["r"][d], weights["b"][d], d == 1) for d in (0, 1)]
    np.testing.assert_allclose(model(x), np.concatenate(states, 1) @ weights["v"], atol=1e-5)
    gradient = model.gradient(x[:1], target=2)
    wanted = [(0, 0, 0), (0, 1, 10), (0, 0, 19)]
    numeric = numeric_gradient(model, x[:1], 2, wanted)
    np.testing.assert_allclose([gradient[index] for index in wanted], numeric, atol=2e-4)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_half_precision_weights_are_computed_in_float32_after_a_cast(kind, precision):
    """Weights stored in half precision and cast: exactly the float32 model of the rounded weights."""
    rng = np.random.default_rng(6)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    full = weights_of(rng, w=(4, 2, 3, 3), v=(4, 3))
    half = {f"{name}_half": value.astype(dtype) for name, value in full.items()}
    half["axes"] = np.array([2, 3], np.int64)
    casts = [helper.make_node("Cast", [f"{name}_half"], [name], to=FLOAT) for name in full]
    body = [
        helper.make_node("Conv", ["image", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["a"]),
        helper.make_node("ReduceMean", ["a", "axes"], ["m"], keepdims=0),
        helper.make_node("MatMul", ["m", "v"], ["scores"]),
    ]
    inputs, outputs = [("image", FLOAT, ["n", 2, 7, 7])], [("scores", FLOAT, ["n", 3])]
    proto = make(casts + body, inputs, outputs, half)
    rounded = {name: value.astype(dtype).astype(np.float32) for name, value in full.items()} | {"axes": half["axes"]}
    plain = make(body, inputs, outputs, rounded)
    x = rng.standard_normal((2, 2, 7, 7)).astype(np.float32)
    model = libxai.Model(proto.SerializeToString(), precision=precision)
    np.testing.assert_allclose(model(x), ReferenceEvaluator(plain).run(None, {"image": x})[0], atol=1e-5)
    other = libxai.Model(plain.SerializeToString(), precision=precision)
    np.testing.assert_array_equal(model.gradient(x, target=0), other.gradient(x, target=0))


@pytest.mark.parametrize("kind, tolerance", [(TensorProto.FLOAT16, 4e-3), (TensorProto.BFLOAT16, 4e-2)])
def test_networks_that_are_half_precision_throughout(kind, tolerance):
    """Inputs, weights and scores in half precision, within its rounding of the float32 network."""
    rng = np.random.default_rng(7)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    full = weights_of(rng, w=(4, 2, 3, 3), b=(4,), v=(4, 3))
    half = {name: value.astype(dtype) for name, value in full.items()}
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["a"]),
        helper.make_node("GlobalAveragePool", ["a"], ["p"]),
        helper.make_node("Flatten", ["p"], ["m"]),
        helper.make_node("MatMul", ["m", "v"], ["scores"]),
    ]

    def network(element, weights):
        inputs, outputs = [("image", element, ["n", 2, 7, 7])], [("scores", element, ["n", 3])]
        return libxai.Model(make(nodes, inputs, outputs, weights, opset=22).SerializeToString())

    x = rng.standard_normal((2, 2, 7, 7)).astype(dtype).astype(np.float32)
    plain = network(FLOAT, {name: value.astype(np.float32) for name, value in half.items()})
    model = network(kind, half)
    expected = plain(x)
    np.testing.assert_allclose(np.asarray(model(x), np.float32), expected, atol=tolerance * np.abs(expected).max())
    wanted = plain.gradient(x, target=1)
    given = np.asarray(model.gradient(x, target=1), np.float32)
    np.testing.assert_allclose(given, wanted, atol=tolerance * np.abs(wanted).max())


def test_external_data_lies_beside_the_model(tmp_path):
    rng = np.random.default_rng(8)
    weights = weights_of(rng, w=(64, 32), v=(32, 3))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    proto = make(nodes, [("x", FLOAT, ["n", 64])], [("y", FLOAT, ["n", 3])], weights)
    path = tmp_path / "model.onnx"
    (tmp_path / "weights").mkdir()
    onnx.save(proto, path, save_as_external_data=True, location="weights/data.bin", size_threshold=0)
    assert (tmp_path / "weights/data.bin").stat().st_size >= 4 * (64 * 32 + 96)
    x = rng.standard_normal((4, 64)).astype(np.float32)
    np.testing.assert_allclose(libxai.Model(path)(x), x @ weights["w"] @ weights["v"], rtol=1e-4, atol=1e-5)
    (tmp_path / "weights/data.bin").write_bytes(b"short")
    with pytest.raises(libxai.LibXaiError, match=r"data\.bin"):
        libxai.Model(path)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_batch_and_image_size_are_free(precision):
    """Shape arithmetic of exporters on a free size: a U-shaped network that upsamples to the size of its input."""
    rng = np.random.default_rng(9)
    weights = weights_of(rng, w=(4, 1, 3, 3), v=(2, 4, 1, 1))
    weights |= {"from": np.array([2], np.int64), "to": np.array([4], np.int64), "zero": np.array([0], np.int64)}
    weights["two"] = np.array([2], np.int64)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["a"]),
        helper.make_node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "v"], ["s"]),
        helper.make_node("Shape", ["image"], ["dims"]),
        helper.make_node("Slice", ["dims", "from", "to"], ["size"]),
        helper.make_node("Shape", ["s"], ["small"]),
        helper.make_node("Slice", ["small", "zero", "two"], ["head"]),
        helper.make_node("Concat", ["head", "size"], ["wanted"], axis=0),
        helper.make_node("Resize", ["s", "", "", "wanted"], ["scores"], mode="linear"),
    ]
    inputs, outputs = [("image", FLOAT, ["n", 1, "h", "w"])], [("scores", FLOAT, ["n", 2, "h", "w"])]
    proto = make(nodes, inputs, outputs, weights)
    model, reference = libxai.Model(proto.SerializeToString(), precision=precision), ReferenceEvaluator(proto)
    for shape in ((1, 1, 8, 8), (3, 1, 10, 6), (2, 1, 16, 24)):
        x = rng.standard_normal(shape).astype(np.float32)
        expected = reference.run(None, {"image": x})[0]
        np.testing.assert_allclose(model(x), expected, atol=1e-5)
        gradient = model.gradient(x, target=(1, slice(None), slice(None)))
        assert gradient.shape == shape
        moved = x.copy()
        moved[0, 0, 3, 3] += 0.01
        slope = (model(moved)[0, 1].sum(dtype=np.float64) - expected[0, 1].sum(dtype=np.float64)) / 0.01
        np.testing.assert_allclose(gradient[0, 0, 3, 3], slope, atol=0.02)
