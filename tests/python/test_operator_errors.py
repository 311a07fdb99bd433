"""Operators fed what does not fit: one clear error that names the node and the operator, never a result."""

import libxai
import numpy as np
import pytest
from libxai import onnx_backend
from onnx import helper


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def scalar(value, dtype=np.float32):
    return np.array(value, dtype)


LONG = np.int64
CASES = [
    ("LSTM", {}, [zeros(4, 2, 3), zeros(1, 16, 3), zeros(1, 20, 5)], "W has shape"),
    ("GRU", {}, [zeros(4, 3), zeros(1, 15, 3), zeros(1, 15, 5)], "three-dimensional"),
    ("RNN", {"hidden_size": 6}, [zeros(4, 2, 3), zeros(1, 5, 3), zeros(1, 5, 5)], "hidden_size is 6"),
    ("RNN", {"direction": "sideways"}, [zeros(4, 2, 3), zeros(1, 5, 3), zeros(1, 5, 5)], "sideways"),
    ("RNN", {"activations": ["Bend"]}, [zeros(4, 2, 3), zeros(1, 5, 3), zeros(1, 5, 5)], "Bend"),
    ("QuantizeLinear", {"axis": 5}, [zeros(2, 3), zeros(3), zeros(3, dtype=np.int8)], "axis 5"),
    ("QuantizeLinear", {"axis": -3}, [zeros(2, 3), zeros(3), zeros(3, dtype=np.int8)], "axis -3"),
    ("QuantizeLinear", {}, [zeros(2, 3), zeros(4), zeros(4, dtype=np.int8)], "does not fit"),
    ("DequantizeLinear", {"block_size": -2}, [zeros(2, 4, dtype=np.int8), zeros(2, 2)], "block_size is -2"),
    ("MatMulInteger", {}, [zeros(2, 3, dtype=np.uint8), zeros(4, 2, dtype=np.uint8)], "do not fit"),
    ("Attention", {}, [zeros(1, 2, 3, 4), zeros(1, 2, 3, 5), zeros(1, 2, 3, 4)], "K has shape"),
    ("Attention", {"q_num_heads": 3, "kv_num_heads": 3}, [zeros(1, 3, 4)] * 3, "no 3 heads"),
    ("Attention", {}, [zeros(1, 2, 3, 4)] * 3 + [zeros(3, 9)], "mask"),
    ("RotaryEmbedding", {}, [zeros(1, 2, 3, 4), zeros(9, 3), zeros(9, 3), zeros(1, 3, dtype=LONG)], "cosines"),
    ("Einsum", {"equation": "ij,jk->ik"}, [zeros(2, 3), zeros(4, 2)], "does not fit"),
    ("Einsum", {"equation": "ij->i1"}, [zeros(2, 3)], "unexpected '1'"),
    ("Einsum", {"equation": "ij,jk->ik"}, [zeros(2, 3)], "2 operands of 1"),
    ("GridSample", {"mode": "curly"}, [zeros(1, 1, 3, 3), zeros(1, 2, 2, 2)], "curly"),
    ("GridSample", {}, [zeros(1, 1, 3, 3), zeros(1, 2, 2, 3)], "do not fit"),
    ("RoiAlign", {"output_height": 0}, [zeros(1, 1, 3, 3), zeros(1, 4), zeros(1, dtype=LONG)], "out of range"),
    ("RoiAlign", {}, [zeros(1, 1, 3, 3), zeros(1, 4), np.array([7], LONG)], "batch_indices"),
    ("RoiAlign", {}, [zeros(1, 1, 3, 3), np.full((1, 4), np.nan, np.float32), zeros(1, dtype=LONG)], "not finite"),
    ("NonMaxSuppression", {}, [zeros(1, 3, 5), zeros(1, 1, 3)], "do not fit"),
    ("ReverseSequence", {"time_axis": 2}, [zeros(4, 2), np.array([1, 2], LONG)], "time_axis 2"),
    ("ReverseSequence", {}, [zeros(4, 2), np.array([1, 5], LONG)], "is 5 of 4"),
    ("BitShift", {"direction": "UP"}, [zeros(2, dtype=np.uint8)] * 2, "'UP'"),
    ("AffineGrid", {}, [zeros(1, 2, 3), np.array([1, 1, 1 << 40, 1 << 40], LONG)], "1099511627776"),
    ("AffineGrid", {}, [zeros(1, 2, 3), np.array([1, 1, -4, 4], LONG)], "-4"),
]  # fmt: skip


@pytest.mark.parametrize("precision", ["standard", "reference"])
@pytest.mark.parametrize("operator, attributes, inputs, message", CASES)
def test_what_does_not_fit_is_an_error_that_names_the_operator(operator, attributes, inputs, message, precision):
    names = [f"input{i}" for i in range(len(inputs))]
    if operator == "Attention" and len(inputs) == 3 and inputs[0] is inputs[1]:
        inputs = [each.copy() for each in inputs]
    outputs = ["out", "out1", "out2"][: {"LSTM": 3, "GRU": 2, "RNN": 2}.get(operator, 1)]
    node = helper.make_node(operator, names, outputs, name="culprit", **attributes)
    with pytest.raises(libxai.LibXaiError) as caught:
        onnx_backend.run_node(node, inputs, opset_version=25, precision=precision)
    assert message in str(caught.value)
    assert "culprit" in str(caught.value) and operator in str(caught.value)


def test_quantising_nothing_that_is_a_number_is_an_error():
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["y"], name="culprit")
    with pytest.raises(libxai.NumericError, match="culprit"):
        onnx_backend.run_node(node, [np.array([1, np.nan], np.float32), scalar(0.1)])


def test_types_that_an_operator_does_not_take_are_named():
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="culprit")
    arrays = [zeros(4, 2, 3, dtype=np.int32), zeros(1, 20, 3, dtype=np.int32), zeros(1, 20, 5, dtype=np.int32)]
    with pytest.raises(libxai.UnsupportedError, match=r"culprit.*int32"):
        onnx_backend.run_node(node, arrays)
