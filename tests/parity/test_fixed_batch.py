"""Networks exported for a fixed batch run row by row where no operator mixes rows: the numbers of a free batch."""

import functools
import pathlib

import libxai
import numpy as np
import onnx
import pytest

FOLDER = pathlib.Path(__file__).resolve().parent
FILES = sorted([*FOLDER.glob("models/*.onnx"), *FOLDER.glob("families/*.onnx"), *FOLDER.glob("quantised/*.onnx")])
BATCH = 2
# An overlapping view by as_strided, whose indices count through the batch.
MIXES = {"convnext_dynamo"}


def real_inputs(model):
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


@functools.cache
def fixed(path):
    model = onnx.load(path)
    first = real_inputs(model)[0].type.tensor_type.shape.dim[0]
    name = first.dim_param
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    for dim in (dim for value in values for dim in value.type.tensor_type.shape.dim):
        if dim.dim_param == name:
            dim.dim_value = BATCH
    for value in real_inputs(model):
        value.type.tensor_type.shape.dim[0].dim_value = BATCH
    return model.SerializeToString()


@functools.cache
def rows(path):
    rng = np.random.default_rng(3)
    found = {}
    for value in real_inputs(onnx.load(path)):
        kind = value.type.tensor_type
        shape = [2 * BATCH, *(dim.dim_value or 64 for dim in kind.shape.dim[1:])]
        floats = kind.elem_type == onnx.TensorProto.FLOAT
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        found[value.name] = (rng.standard_normal(shape) if floats else rng.integers(0, 9, shape)).astype(dtype)
    return found if len(found) > 1 else next(iter(found.values()))


def listed(values):
    return values if isinstance(values, tuple) else (values,)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scores_have_the_bits_of_a_free_batch(path):
    found = listed(libxai.Model(fixed(path), threads=1)(rows(path)))
    wanted = listed(libxai.Model(path, threads=1)(rows(path)))
    for got, known in zip(found, wanted, strict=True):
        if path.stem in MIXES:
            assert np.abs(got - known).max() <= 1e-5 * np.abs(known).max()
        else:
            assert got.tobytes() == known.tobytes()


@pytest.mark.parametrize(
    "name", ["models/vit", "models/windows", "models/residual", "families/lstm", "families/maxvit"]
)
def test_gradients_have_the_bits_of_a_free_batch(name):
    path = FOLDER / f"{name}.onnx"
    found = libxai.Model(fixed(path), threads=1).gradient(rows(path), 1)
    wanted = libxai.Model(path, threads=1).gradient(rows(path), 1)
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("method", ["gradcam", "occlusion", "ablationcam", "deeplift", "lrp", "kernel_shap"])
def test_maps_are_those_of_a_free_batch(method):
    """Not their bits: the end of a network behind local edits is one product where the batch is free."""
    path = FOLDER / "models/residual.onnx"
    found = libxai.explain(libxai.Model(fixed(path), threads=1), rows(path), method, target=1)
    wanted = libxai.explain(libxai.Model(path, threads=1), rows(path), method, target=1)
    assert np.abs(found.values - wanted.values).max() <= 1e-5 * np.abs(wanted.values).max()


def test_values_with_several_rows_for_each_are_those_of_the_model():
    """A window partition makes windows of rows: inside, the batch holds several of them for each row."""
    path = FOLDER / "models/windows.onnx"
    model, free = libxai.Model(fixed(path), threads=1), libxai.Model(path, threads=1)
    x = rows(path)[:BATCH]
    several = 0
    for node in onnx.load_from_string(fixed(path)).graph.node:
        if node.op_type not in ("Reshape", "Softmax", "MatMul", "Transpose"):
            continue
        try:
            each = [free.activations(x[n : n + 1], node.output[0]) for n in range(BATCH)]
        except libxai.LibXaiError:  # not a value of the network: it is folded
            continue
        found = model.activations(x, node.output[0])
        axis = next(axis for axis in range(found.ndim) if found.shape[axis] != each[0].shape[axis])
        assert np.abs(found - np.concatenate(each, axis)).max() <= 1e-5 * np.abs(found).max()
        several += found.shape[axis] > BATCH
    assert several >= 5


def test_values_with_time_first_are_those_of_the_model():
    """Inside the model the rows lie on axis 1: what is taken out has the shape that the model gives it."""
    path = FOLDER / "families/lstm.onnx"
    model = onnx.load_from_string(fixed(path))
    name = next(node.output[0] for node in model.graph.node if node.op_type == "LSTM")
    x = rows(path)[:BATCH]
    found = libxai.Model(fixed(path), threads=1).activations(x, name)
    each = [libxai.Model(path, threads=1).activations(x[n : n + 1], name) for n in range(BATCH)]
    assert found.shape[2] == BATCH
    assert np.abs(found - np.concatenate(each, axis=2)).max() <= 1e-6
