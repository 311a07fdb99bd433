"""The Backend interface of the package onnx, and element types that numpy lacks."""

import libxai
import numpy as np
import onnx
import pytest
from libxai import onnx_backend
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def model_of(nodes, inputs, outputs, weights=None, opset=17):
    """Make a model; inputs and outputs are (name, element type, shape)."""
    values = [[helper.make_tensor_value_info(*each) for each in side] for side in (inputs, outputs)]
    tensors = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "small", *values, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_run_model_gives_the_reference_numbers_by_order_and_by_name(data, x):
    proto = onnx.load_from_string(data)
    expected = ReferenceEvaluator(proto).run(None, {"image": x})[0]
    for inputs in ([x], {"image": x}):
        result = onnx_backend.run_model(proto, inputs)
        assert result[0].shape == (3, 4)
        np.testing.assert_allclose(result[0], expected, rtol=1e-4, atol=1e-5)
    assert result["scores"] is result[0]


def test_run_node_runs_one_operator():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    expected = np.exp(x - x.max(0)) / np.exp(x - x.max(0)).sum(0)
    np.testing.assert_allclose(onnx_backend.run_node(node, [x])[0], expected, rtol=1e-6)
    with pytest.raises(libxai.ArgumentError, match="2 arrays for 1 inputs"):
        onnx_backend.run_node(node, [x, x])


def test_inputs_that_decide_shapes_become_constants():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    for shape in ([4, 6], [-1, 2], [0, 12]):
        result = onnx_backend.run_node(node, [x, np.array(shape, np.int64)])[0]
        np.testing.assert_array_equal(result, x.reshape([2 if s == 0 else s for s in shape]))


def test_what_is_not_supported_says_which_operator():
    proto = model_of(
        [helper.make_node("RandomNormalLike", ["x"], ["y"], name="noise")],
        [("x", TensorProto.FLOAT, [2])],
        [("y", TensorProto.FLOAT, [2])],
    )
    assert not onnx_backend.is_compatible(proto)
    with pytest.raises(libxai.UnsupportedError, match="RandomNormalLike"):
        onnx_backend.prepare(proto)
    assert onnx_backend.supports_device("CPU") and not onnx_backend.supports_device("CUDA")
    with pytest.raises(libxai.UnsupportedError, match="CPU"):
        onnx_backend.prepare(proto, "CUDA")


def test_scalar_inputs_keep_their_shape():
    proto = model_of(
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        [("x", TensorProto.FLOAT, [3]), ("k", TensorProto.FLOAT, [])],
        [("y", TensorProto.FLOAT, [3])],
    )
    x = np.array([1, 2, 3], np.float32)
    model = libxai.Model(proto.SerializeToString())
    np.testing.assert_array_equal(model({"x": x, "k": np.float32(2)}), 2 * x)


def test_bfloat16_goes_in_rounded_and_comes_out_exactly():
    import ml_dtypes

    proto = model_of(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [("x", TensorProto.BFLOAT16, [6])],
        [("y", TensorProto.BFLOAT16, [6])],
    )
    x = np.array([1, 1.00390625, 1.01171875, 3e38, -1e-40, np.pi], np.float32)  # two are ties
    with np.errstate(over="ignore"):
        expected = (2 * x.astype(ml_dtypes.bfloat16).astype(np.float32)).astype(ml_dtypes.bfloat16)
    model = libxai.Model(proto.SerializeToString(), allow_nonfinite=True)
    np.testing.assert_array_equal(model(x), expected.astype(np.float32))
    result = onnx_backend.run_model(proto, [x.astype(ml_dtypes.bfloat16)], allow_nonfinite=True)[0]
    assert result.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(result, expected)


def test_nonfinite_values_pass_only_when_allowed():
    proto = model_of(
        [helper.make_node("IsNaN", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, [3])],
        [("y", TensorProto.BOOL, [3])],
    )
    x = np.array([1, np.nan, np.inf], np.float32)
    with pytest.raises(libxai.NumericError):
        libxai.Model(proto.SerializeToString())(x)
    allowed = libxai.Model(proto.SerializeToString(), allow_nonfinite=True)
    np.testing.assert_array_equal(allowed(x), [False, True, False])
