"""Standard errors beside what they estimate: how the values scatter when nothing but the seed changes."""

import conftest
import libxai
import numpy as np
import pytest
from onnx import helper

SEEDS = 60
X = conftest.float32(np.random.default_rng(8), 1, 2, 12, 14)
BACKGROUND = conftest.float32(np.random.default_rng(9), 5, 2, 12, 14)
ABOUT_RIGHT = (0.8, 1.25)
# One sample a stratum: where the gradient jumps, second differences see twice the variance of the stratum it is in.
STRATIFIED = (0.8, 1.6)
CASES = [
    ("gradient_shap", {"samples": 25, "background": BACKGROUND}, STRATIFIED),
    ("gradient_shap", {"samples": 16, "baseline": 0}, STRATIFIED),
    ("gradient_shap", {"samples": 32, "background": BACKGROUND[:2], "tolerance": 1e-9}, STRATIFIED),  # in rounds
    ("gradient_shap", {"samples": 25, "background": BACKGROUND, "noise": 0.3}, STRATIFIED),
    ("smoothgrad", {"samples": 20}, ABOUT_RIGHT),
    ("vargrad", {"samples": 40}, ABOUT_RIGHT),
    ("kernel_shap", {"samples": 60, "segments": ("grid", 4)}, ABOUT_RIGHT),
    ("kernel_shap", {"samples": 200, "segments": ("grid", 4), "sampling": "leverage"}, ABOUT_RIGHT),
    ("permutation_shap", {"samples": 70, "segments": ("grid", 3)}, ABOUT_RIGHT),
    ("sampling_shap", {"samples": 100, "segments": ("grid", 3)}, ABOUT_RIGHT),
    ("sampling_shap", {"samples": 400, "segments": ("grid", 3)}, ABOUT_RIGHT),
    ("lime", {"samples": 80, "segments": ("grid", 3)}, ABOUT_RIGHT),
    ("rise", {"samples": 40}, ABOUT_RIGHT),
]


@pytest.fixture(scope="module", params=["kinks", "smooth"])
def network(request):
    return libxai.Model(conftest.make_convolutional(smooth=request.param == "smooth"), threads=1)


def ratio(network, method, options):
    """Root mean squares over values and seeds: standard errors as told, over the standard deviation of the values."""
    values, errors = [], []
    for seed in range(SEEDS):
        found = libxai.explain(network, X, method, 1, seed=seed, **options)
        segments = "segments" in options
        values.append(found.segment_values if segments else found.values)
        errors.append(found.segment_standard_error if segments else found.standard_error)
    scatter = np.std(np.asarray(values, np.float64), axis=0, ddof=1)
    return np.sqrt(np.mean(np.square(errors, dtype=np.float64)) / np.mean(scatter**2))


@pytest.mark.parametrize(("method", "options", "limits"), CASES)
def test_standard_errors_are_the_scatter_over_seeds(network, method, options, limits):
    assert limits[0] < ratio(network, method, options) < limits[1]


def test_a_rise_from_stratum_to_stratum_is_no_error():
    """dS/dx = x along the path from 0 to 1: strata of width h have the variance h^2 / 12 and no other error."""
    nodes = [helper.make_node("Mul", ["x", "x"], ["square"])]
    nodes.append(helper.make_node("MatMul", ["square", "half"], ["y"]))
    weights = {"half": np.full((1, 1), 0.5, np.float32)}
    model = libxai.Model(conftest.save(nodes, [("x", ["n", 1])], [("y", ["n", 1])], weights))
    x = np.ones((1, 1), np.float32)
    told = [libxai.explain(model, x, "gradient_shap", 0, samples=50, seed=seed).standard_error for seed in range(40)]
    exact = np.sqrt((1 / 50) ** 2 / 12 / 50)
    assert np.sqrt(np.mean(np.square(told))) == pytest.approx(exact, rel=0.15)
