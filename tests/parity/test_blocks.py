"""Small networks of every family's blocks against PyTorch in float64 (made by make_models.py)."""

import functools
import pathlib

import libxai
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).resolve().parent / "models"
NETWORKS = sorted(path.stem for path in FOLDER.glob("*.npz"))
FILES = sorted(path.stem for path in FOLDER.glob("*.onnx"))
# PyTorch's own float32 is within 1e-6 of the references; another order of summation may take a few times that.
LIMIT = 5e-6


@functools.cache
def reference(name):
    return dict(np.load(FOLDER / f"{name}.npz"))


@functools.cache
def model(file):
    return libxai.Model(FOLDER / f"{file}.onnx", threads=1)


def target(file):
    """What make_models.py explained."""
    if file.startswith("unet"):
        return [(1, slice(2, 8), slice(3, 11)), (0, 5, 6)]
    return reference(file.removesuffix("_dynamo"))["targets"]


def layer(file):
    return str(reference(file.removesuffix("_dynamo"))["layer_dynamo" if file.endswith("_dynamo") else "layer_name"])


def expected(file, what):
    return reference(file.removesuffix("_dynamo"))[what]


def error(found, wanted):
    """Relative L2, of the worst row."""
    assert found.shape == wanted.shape
    difference = (found.astype(np.float64) - wanted).reshape(len(wanted), -1)
    return (np.linalg.norm(difference, axis=1) / np.linalg.norm(wanted.reshape(len(wanted), -1), axis=1)).max()


def test_models_are_there_and_small():
    assert len(NETWORKS) >= 19
    sizes = [path.stat().st_size for path in FOLDER.glob("*.onnx")]
    assert max(sizes) <= 60_000


@pytest.mark.parametrize("file", FILES)
def test_scores(file):
    scores = model(file)(expected(file, "image"))
    wanted = expected(file, "scores")
    assert np.abs(scores - wanted).max() <= 5e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("file", FILES)
def test_input_gradient(file):
    found = model(file).gradient(expected(file, "image"), target(file))
    assert error(found, expected(file, "input_gradient")) <= LIMIT


@pytest.mark.parametrize("file", FILES)
def test_layer_gradient(file):
    found = model(file).gradient(expected(file, "image"), target(file), wrt=layer(file))
    assert error(found, expected(file, "layer_gradient")) <= LIMIT


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
@pytest.mark.parametrize("file", FILES)
def test_map_of_the_layer(file, method):
    found = libxai.explain(model(file), expected(file, "image"), method, target(file), layer=layer(file))
    assert found.layer == layer(file)
    assert error(found.values, expected(file, method.replace("++", "_plus_plus"))) <= LIMIT


@pytest.mark.parametrize("file", [each for each in NETWORKS if (expected(each, "targets") >= 0).all()])  # no maps
def test_highest_score_is_the_target_of_a_row(file):
    targets = expected(file, "targets")
    x = expected(file, "image")
    assert libxai.explain(model(file), x, layer=layer(file)).target.tolist() == targets.tolist()
    assert np.array_equal(model(file).gradient(x), model(file).gradient(x, targets))


@pytest.mark.parametrize("file", NETWORKS)
def test_plain_kernels_agree(file):
    slow = libxai.Model(FOLDER / f"{file}.onnx", threads=1, precision="reference")
    x = expected(file, "image")
    assert error(slow(x), expected(file, "scores")) <= 1e-6
    assert error(slow.gradient(x, target(file)), expected(file, "input_gradient")) <= LIMIT
