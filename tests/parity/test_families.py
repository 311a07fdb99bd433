"""Recurrent, text, table, two-input, segmentation and detection networks and transformers against PyTorch in float64.

The models and references are made by make_families.py.
"""

import functools
import pathlib

import libxai
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).resolve().parent / "families"
FILES = sorted(path.stem for path in FOLDER.glob("*.onnx"))
TARGETS = {"segmenter": (1, slice(4, 20), slice(8, 28)), "detector": (77, 2)}
SCORES, GRADIENTS = 1e-5, 1e-5  # of the output's scale, and relative L2; PyTorch's float32 is within 2e-6


@functools.cache
def reference(file):
    return dict(np.load(FOLDER / f"{file.removesuffix('_dynamo')}.npz"))


@functools.cache
def model(file):
    return libxai.Model(FOLDER / f"{file}.onnx", threads=1)


def named(file, prefix):
    return {key[len(prefix) :]: value for key, value in reference(file).items() if key.startswith(prefix)}


def inputs(file):
    found = named(file, "input_")
    return found if len(found) > 1 else next(iter(found.values()))


def target(file):
    return TARGETS.get(file.removesuffix("_dynamo"), 1)


def error(found, wanted):
    return np.linalg.norm(found.astype(np.float64) - wanted) / np.linalg.norm(wanted)


def test_models_are_there():
    assert len(FILES) >= 20


@pytest.mark.parametrize("file", FILES)
def test_outputs(file):
    found = model(file)(inputs(file))
    found = found if isinstance(found, tuple) else (found,)
    for name, values in zip(model(file).outputs, found, strict=True):
        wanted = named(file, "output_")[str(name)]
        assert np.abs(values - wanted).max() <= SCORES * np.abs(wanted).max()


@pytest.mark.parametrize("file", FILES)
def test_gradients(file):
    gradients = named(file, "gradient_")
    if "embedding" in gradients:
        layer = reference(file)["embedding_dynamo" if file.endswith("_dynamo") else "embedding"]
        found = {"embedding": model(file).gradient(inputs(file), target(file), wrt=str(layer))}
    else:
        found = model(file).gradient(inputs(file), target(file))
        found = found if isinstance(found, dict) else {next(iter(gradients)): found}
    assert found.keys() == gradients.keys()
    for name, wanted in gradients.items():
        assert error(found[name], wanted) <= GRADIENTS


@pytest.mark.parametrize("file", ["text", "text_dynamo"])
def test_tokens_have_no_gradient(file):
    with pytest.raises(libxai.LibXaiError):
        model(file).gradient(inputs(file), 1)


@pytest.mark.parametrize("file", ["lstm", "both", "detector", "beit"])
def test_plain_kernels_agree(file):
    slow = libxai.Model(FOLDER / f"{file}.onnx", threads=1, precision="reference")
    found = slow(inputs(file))
    first = found[0] if isinstance(found, tuple) else found
    wanted = named(file, "output_")[str(slow.outputs[0])]
    assert np.abs(first - wanted).max() <= 1e-6 * np.abs(wanted).max()
