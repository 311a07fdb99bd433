"""The option layer with the name of an input of the model: attributions are those of the input, and maps follow the
formulas with the picture in place of a layer's channels."""

import conftest
import libxai
import numpy as np
import onnx
import pytest
from onnx import helper
from test_honesty import explain, options_of


def of_the_input(model, x, method, **options):
    options = {**options_of(method, x), **options}
    options.pop("segments", None)
    return libxai.explain(model, x, method, 1, layer="image", **options)


GRADIENTS = ["saliency", "input_x_gradient", "integrated_gradients", "smoothgrad", "vargrad", "gradient_shap"]


@pytest.mark.parametrize("method", GRADIENTS)
def test_the_input_as_a_layer_is_the_input(model, x, method):
    assert "layer" in libxai.method_options(method)
    found, plain = of_the_input(model, x, method), explain(model, x, method)
    assert (found.layer == "image" and plain.layer is None) or plain.layer == ""
    assert np.array_equal(found.values, plain.values) and np.allclose(found.map, plain.map, atol=1e-6)


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "ablationcam", "reciprocam", "scorecam"])
def test_maps_of_the_input_as_a_layer(model, x, method):
    """The formulas of the methods, with the picture in place of a layer's channels."""
    options = {"kernel": "onehot"} if method == "reciprocam" else {}
    found = of_the_input(model, x, method, **options).values[0]
    row, score = x[:1].astype(np.float64), lambda rows: model(rows.astype(np.float32))[:, 1].astype(np.float64)
    slope, channels = model.gradient(x[:1], 1)[0].astype(np.float64), x.shape[1]
    if method == "gradcam":
        wanted = np.tensordot(slope.mean((1, 2)), row[0], 1)
    elif method == "hirescam":
        wanted = (slope * row[0]).sum(0)
    elif method == "ablationcam":
        left = np.repeat(row, channels, 0)
        left[range(channels), range(channels)] = 0
        wanted = np.tensordot((score(row) - score(left)) / np.abs(score(row)), row[0], 1)
    elif method == "scorecam":
        low, high = row[0].min((1, 2), keepdims=True), row[0].max((1, 2), keepdims=True)
        scores = score(row * ((row[0] - low) / (high - low + 1e-8))[:, None])
        weights = np.exp(scores - scores.max())
        wanted = np.tensordot(weights / weights.sum(), row[0], 1)
    else:
        pixels = row[0, 0].size
        alone = np.zeros((pixels, *row[0].shape))
        alone.reshape(pixels, channels, pixels)[range(pixels), :, range(pixels)] = row[0].reshape(channels, pixels).T
        wanted = score(alone).reshape(row[0, 0].shape)
    assert np.allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


def test_one_of_two_inputs_as_a_layer(two):
    rng = np.random.default_rng(1)
    x = {each.name: rng.standard_normal([2, *each.shape[1:]]).astype(np.float32) for each in two.inputs}
    plain = libxai.explain(two, x, "input_x_gradient", 0)
    for name in x:
        assert np.array_equal(libxai.explain(two, x, "input_x_gradient", 0, layer=name).values, plain.values[name])
    # The path moves this input alone: its parts add up to what it changes.
    found = libxai.explain(two, x, "integrated_gradients", 0, layer="patient", steps=200)
    without = {**x, "patient": 0 * x["patient"]}
    change = (two(x)[0] - two(without)[0])[:, 0]
    assert np.allclose(found.values.reshape(2, -1).sum(1), change, atol=1e-4 * np.abs(change).max() + 1e-6)
    with pytest.raises(libxai.UnsupportedError, match="no spatial axes"):
        libxai.explain(two, x, "gradcam", 0, layer="patient")


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "saliency", "integrated_gradients"])
def test_token_ids_are_no_layer(method):
    ids = libxai.Model(make_tokens())
    with pytest.raises(libxai.UnsupportedError, match="'ids' holds int64, which have no gradient"):
        libxai.explain(ids, np.array([[1, 2, 3]]), method, 0, layer="ids")


def make_tokens():
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Gemm", ["mean", "head"], ["scores"]),
    ]
    weights = {"table": conftest.float32(rng, 9, 4), "head": conftest.float32(rng, 4, 2)}
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    given = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["N", "L"])
    scores = helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "tokens", [given], [scores], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()
