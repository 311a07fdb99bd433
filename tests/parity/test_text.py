"""Tokens of a small BERT against SHAP and Captum (tokens.npz, made by make_tokens.py)."""

import pathlib
import subprocess
import sys

import libxai
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).resolve().parent
ABSENT, TARGET = 4, 1
FILES = ["text", "text_dynamo"]


@pytest.fixture(scope="module")
def wanted():
    return dict(np.load(FOLDER / "tokens.npz"))


@pytest.fixture(scope="module")
def inputs():
    found = np.load(FOLDER / "families/text.npz")
    return {"ids": found["input_ids"], "mask": found["input_mask"]}


@pytest.fixture(scope="module", params=FILES)
def model(request):
    return libxai.Model(FOLDER / f"families/{request.param}.onnx", threads=1)


def explain(model, inputs, method, **options):
    return libxai.explain(model, inputs, method, target=TARGET, **options)


@pytest.mark.parametrize(
    ("method", "like", "options", "tolerance"),
    [
        ("exact_shap", "exact_shap", {}, 1e-6),
        ("kernel_shap", "exact_shap", {}, 1e-6),  # 2 K + 2048 coalitions are all of them
        ("partition_shap", "partition_shap", {"samples": 5000}, 1e-6),
        ("permutation_shap", "exact_shap", {"samples": 4000}, 4e-3),
        ("sampling_shap", "exact_shap", {"samples": 4000}, 4e-3),
        ("feature_ablation", "feature_ablation", {}, 1e-6),
        ("occlusion", "occlusion", {"window": 3, "stride": 2}, 1e-6),
    ],
)
def test_peers(model, inputs, wanted, method, like, options, tolerance):
    found = explain(model, inputs, method, baseline=ABSENT, **options)
    assert list(found.values) == ["ids"]
    assert np.abs(found.values["ids"] - wanted[like]).max() <= tolerance
    assert found.baseline == "'ids': 4; as they are: 'mask'"
    assert found.warnings == []


def test_integrated_gradients_of_the_embedding(model, inputs, wanted):
    names = np.load(FOLDER / "families/text.npz")
    layer = str(names["embedding"] if model.outputs and "/tokens/Gather_output_0" in model.layers else
                names["embedding_dynamo"])  # fmt: skip
    found = explain(model, inputs, "integrated_gradients", layer=layer, baseline=ABSENT)
    assert np.abs(found.values - wanted["integrated_gradients"]).max() <= 1e-6
    assert found.completeness_error.max() <= 1e-6
    expected = explain(model, inputs, "gradient_shap", layer=layer, background={"ids": [[ABSENT] * 10]}, samples=400)
    total = wanted["integrated_gradients"].sum(-1)
    assert np.abs(expected.values.sum(-1) - total).max() <= 5e-3


def test_the_example_runs():
    example = FOLDER.parents[1] / "examples/tokens.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    score, empty = (float(part.split()[-1]) for part in lines[0].split(";"))
    values = np.array([line.split()[1:3] for line in lines[3:]], float)
    assert np.abs(values.sum(0) - (score - empty)).max() <= 1e-3  # of ten numbers with four digits
