"""Networks quantised by ONNX Runtime against ONNX Runtime, and straight-through gradients against PyTorch in float64
(made by make_quantised.py)."""

import functools
import pathlib

import libxai
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).resolve().parent / "quantised"
NAMES = ["static", "channels"]


@functools.cache
def reference(name):
    return dict(np.load(FOLDER / f"{name}.npz"))


@functools.cache
def model(name, precision="fast"):
    return libxai.Model(FOLDER / f"{name}.onnx", threads=1, precision=precision)


def error(found, wanted):
    return np.linalg.norm(found.astype(np.float64) - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("precision", ["fast", "reference"])
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_onnx_runtime(name, precision):
    known = reference(name)
    found = model(name, precision)(known["image"])
    assert np.abs(found - known["scores"]).max() <= 1e-6 * np.abs(known["scores"]).max()


@pytest.mark.parametrize("precision", ["fast", "reference"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_straight_through(name, precision):
    known = reference(name)
    found = model(name, precision).gradient(known["image"], int(known["target"]))
    assert error(found, known["gradient"]) <= 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_near_those_of_the_network_before(name):
    """Rows within the range of calibration; half a step of 256 moves a few ReLUs over their edge."""
    known = reference(name)
    found = model(name).gradient(known["image"], int(known["target"]))[:2]
    wanted = known["float_gradient"][:2]
    assert (found * wanted).sum() >= 0.9 * np.linalg.norm(found) * np.linalg.norm(wanted)


@pytest.mark.parametrize("name", NAMES)
def test_a_saturated_score_is_explained(name):
    known = reference(name)
    found = model(name).gradient(known["image"][2], int(known["target"]))
    assert np.abs(found).max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_layer_before_the_head_is_found(name):
    known = reference(name)
    found = libxai.explain(model(name), known["image"], "gradcam", target=int(known["target"]))
    assert found.values.shape == (3, 5, 6)
