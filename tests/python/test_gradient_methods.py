"""The gradient family: Captum's numbers, closed forms, completeness, standard errors, independence of threads."""

import pathlib

import conftest
import libxai
import numpy as np
import pytest
from onnx import helper

REFERENCES = dict(np.load(pathlib.Path(__file__).with_name("references.npz")))
TARGETS = [1, 0, 2]
METHODS = ["saliency", "input_x_gradient", "integrated_gradients", "smoothgrad", "vargrad", "gradient_shap"]
SMALL = {"smoothgrad": {"samples": 5}, "vargrad": {"samples": 5}, "gradient_shap": {"samples": 7}}


def relative(found, expected):
    """Relative L2, of the worst row."""
    difference = (np.asarray(found, np.float64) - expected).reshape(len(expected), -1)
    return (np.linalg.norm(difference, axis=1) / np.linalg.norm(expected.reshape(len(expected), -1), axis=1)).max()


def quadratic(features=6, seed=1):
    """S(x) = sum a x^2 and its a; gradients 2 a x."""
    a = np.random.default_rng(seed).standard_normal((features, 1)).astype(np.float32)
    nodes = [helper.make_node("Mul", ["x", "x"], ["square"]), helper.make_node("MatMul", ["square", "a"], ["y"])]
    data = conftest.save(nodes, [("x", ["N", features])], [("y", ["N", 1])], {"a": a})
    return libxai.Model(data), a[:, 0].astype(np.float64)


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient"])
def test_one_gradient_is_that_of_captum(model, x, method):
    found = libxai.explain(model, x, method, TARGETS)
    assert relative(found.values, REFERENCES[method]) <= 1e-5
    assert np.abs(found.score - REFERENCES["scores"][range(3), TARGETS]).max() <= 1e-5
    assert found.evaluations.tolist() == [1, 1, 1] and np.isnan(found.base_value).all()


def test_integrated_gradients_are_those_of_captum(model, x):
    found = libxai.explain(model, x, "integrated_gradients", TARGETS)
    assert relative(found.values, REFERENCES["integrated_gradients"]) <= 1e-4
    found = libxai.explain(
        model, x, "integrated_gradients", TARGETS, steps=20, baseline=REFERENCES["baseline"].astype(np.float32)
    )
    assert relative(found.values, REFERENCES["integrated_gradients_baseline"]) <= 1e-4
    assert found.baseline == "the given array"
    base = model(REFERENCES["baseline"].astype(np.float32))[range(3), TARGETS]
    assert np.abs(found.base_value - base).max() <= 1e-6


def test_weights_of_the_path_sum_to_one():
    """A linear model: every number of steps gives w (x - b) exactly."""
    w = np.arange(1, 6, dtype=np.float32).reshape(5, 1)
    data = conftest.save(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", ["N", 5])], [("y", ["N", 1])], {"w": w}
    )
    m = libxai.Model(data)
    x = conftest.float32(np.random.default_rng(0), 2, 5)
    for steps in (1, 2, 3, 50, 257):
        found = libxai.explain(m, x, "integrated_gradients", 0, steps=steps, baseline=0.5)
        assert np.allclose(found.values, (x - 0.5) * w[:, 0], rtol=1e-5, atol=1e-6)
        assert found.completeness_error.max() <= 1e-5 and found.map is None
        assert found.evaluations.tolist() == [steps + 2, steps + 1]  # the baseline is evaluated once


def test_few_legendre_points_are_exact_for_polynomials():
    """Gradients of degree 2 n - 1 in t are integrated exactly by n points."""
    m, a = quadratic()
    x = conftest.float32(np.random.default_rng(2), 3, 6)
    found = libxai.explain(m, x, "integrated_gradients", 0, steps=1, baseline=0.25)
    assert np.allclose(found.values, a * (x.astype(np.float64) ** 2 - 0.25**2), rtol=1e-4, atol=1e-5)


def test_tolerance_stops_the_path_or_says_that_it_did_not(model, x):
    found = libxai.explain(model, x, "integrated_gradients", TARGETS, tolerance=1e-2)
    wanted = np.abs(found.score - found.base_value)
    assert found.converged.all() and (found.completeness_error <= 1.01e-2 * wanted + 1e-6).all()
    assert not found.warnings
    found = libxai.explain(model, x, "integrated_gradients", TARGETS, tolerance=1e-9, steps=9)
    assert not found.converged.any() and (found.evaluations <= 11).all()
    assert sum("tolerance" in text for text in found.warnings) == 3


@pytest.mark.parametrize("baseline", ["mean", "blur", 0.3])
def test_named_baselines(model, x, baseline):
    found = libxai.explain(model, x, "integrated_gradients", TARGETS, baseline=baseline)
    same = x.mean((2, 3), keepdims=True) + 0 * x if baseline == "mean" else np.full_like(x, 0.3)
    if baseline != "blur":
        given = libxai.explain(model, x, "integrated_gradients", TARGETS, baseline=same)
        assert np.allclose(found.values, given.values, atol=1e-6)
    assert found.baseline in ("the mean of each channel", "the blurred input", "0.3")
    assert found.facts["baseline"] == found.baseline and found.facts["options"]["steps"] == 50


def test_noise_around_a_quadratic():
    """g = 2 a (x + e): mean 2 a x, variance 4 a^2 s^2, E|g|^2 = mean^2 + variance."""
    m, a = quadratic()
    x, s, n = np.ones((1, 6), np.float32), 0.3, 400
    mean, variance = 2 * a, 4 * a**2 * s**2
    for method, options, exact in (
        ("smoothgrad", {}, mean),
        ("smoothgrad", {"of": "squared"}, mean**2 + variance),
        ("smoothgrad", {"of": "absolute"}, np.abs(mean)),  # the noise never changes the sign here: 3.3 deviations
        ("vargrad", {}, variance),
    ):
        found = libxai.explain(m, x, method, 0, noise=s, samples=n, seed=3, **options)
        error = np.abs(found.values[0] - exact) / found.standard_error[0]
        assert (error <= 5).all() and error.max() >= 0.1
        assert found.samples[0] == n and found.evaluations[0] == n + 1
    found = libxai.explain(m, x, "smoothgrad", 0, noise=s, samples=n)
    assert np.allclose(found.standard_error[0], np.sqrt(variance / n), rtol=0.2)
    found = libxai.explain(m, x, "vargrad", 0, noise=s, samples=n)
    assert np.allclose(found.standard_error[0], variance * np.sqrt(2 / n), rtol=0.4)


def test_expected_gradients_of_a_quadratic_have_a_closed_form():
    """phi = a (x^2 - E b^2)."""
    m, a = quadratic()
    rng = np.random.default_rng(4)
    x, background = conftest.float32(rng, 1, 6), conftest.float32(rng, 5, 6)
    exact = a * (x[0].astype(np.float64) ** 2 - (background.astype(np.float64) ** 2).mean(0))
    for samples in (6, 40, 63):
        values = []
        for seed in range(60):
            found = libxai.explain(m, x, "gradient_shap", 0, background=background, samples=samples, seed=seed)
            values.append(found.values[0])
        values = np.array(values, np.float64)
        spread = np.sqrt(((values - exact) ** 2).mean(0))
        assert (np.abs(values.mean(0) - exact) <= 5 * spread / np.sqrt(60)).all()
        if samples >= 40:  # strata of t, so the error falls faster than 1 / sqrt(n)
            independent = np.abs(2 * a * (x[0] - background).std(0)) / np.sqrt(samples)
            assert (spread < independent).mean() > 0.5
    assert found.baseline == "a background of 5 rows"
    assert np.allclose(found.base_value, ((background**2) @ a).mean(), rtol=1e-4)


@pytest.mark.parametrize(
    ("rows", "samples"),
    [(1, 3), (1, 8), (5, 15), (5, 16), (5, 40), (5, 63), (40, 13), (90, 30), (7, 20), (5, 6), (5, 2)],
)
def test_errors_of_expected_gradients_are_the_scatter_over_seeds(rows, samples):
    """Or they are not told, and why: one or two samples a background row say nothing of what differs along the line."""
    m, _ = quadratic()
    rng = np.random.default_rng(4)
    x, background = conftest.float32(rng, 1, 6), conftest.float32(rng, rows, 6)
    found = [
        libxai.explain(m, x, "gradient_shap", 0, background=background, samples=samples, seed=seed)
        for seed in range(150)
    ]
    if rows // 3 < samples < 3 * rows:
        assert np.isnan(found[0].standard_error).all()
        assert f"give at least {3 * rows} samples" in found[0].warnings[0]
        return
    assert not found[0].warnings
    spread = np.sqrt(np.stack([each.values[0] for each in found]).astype(np.float64).var(0, ddof=1).mean())
    told = np.sqrt(np.mean([each.standard_error[0].astype(np.float64) ** 2 for each in found]))
    assert 0.8 <= told / spread <= 1.25


def test_expected_gradients_stop_at_their_tolerance():
    m, _ = quadratic()
    rng = np.random.default_rng(4)
    x, background = conftest.float32(rng, 2, 6), conftest.float32(rng, 30, 6)
    options = {"background": background, "tolerance": 0.05}
    found = libxai.explain(m, x, "gradient_shap", 0, samples=1000, **options)
    ratio = np.linalg.norm(found.standard_error, axis=1) / np.linalg.norm(found.values, axis=1)
    assert found.converged.all() and (ratio <= 0.05).all()
    assert (found.samples % 90 == 0).all() and (found.samples < 1000).all()  # rounds in which errors can be told
    assert np.all(found.completeness_error < 0.1 * np.abs(found.values).sum(1))
    found = libxai.explain(m, x, "gradient_shap", 0, samples=64, **options)
    assert not found.converged.any() and found.samples.tolist() == [64, 64]
    assert "no standard errors" in found.warnings[0] and "not reached" in found.warnings[1]


def test_sampling_stops_at_its_tolerance():
    m, _ = quadratic()
    x = conftest.float32(np.random.default_rng(4), 2, 6)
    found = libxai.explain(m, x, "smoothgrad", 0, noise=0.5, samples=5000, tolerance=0.05)
    ratio = np.linalg.norm(found.standard_error, axis=1) / np.linalg.norm(found.values, axis=1)
    assert found.converged.all() and (ratio <= 0.05).all() and (found.samples < 5000).all()
    assert (found.samples % 16 == 0).all()
    found = libxai.explain(m, x, "smoothgrad", 0, noise=0.5, samples=40, tolerance=1e-6)
    assert not found.converged.any() and found.samples.tolist() == [40, 40]
    assert all("not reached" in text for text in found.warnings) and len(found.warnings) == 2


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_shap"])
def test_layer_attributions_add_up(model, x, method):
    """Differences of the layer, not its raw values, times gradients: behind the layer all is linear, so exactly."""
    rng = np.random.default_rng(5)
    options = {"background": conftest.float32(rng, 4, 2, 20, 24)} if method == "gradient_shap" else {}
    found = libxai.explain(model, x, method, TARGETS, layer="act2", **options)
    assert found.values.shape == (3, 12, 10, 12) and found.map.shape == (3, 20, 24) and found.layer == "act2"
    assert found.completeness_error.max() <= 2e-6
    base = model(options["background"])[:, TARGETS].mean(0) if options else model(0 * x)[range(3), TARGETS]
    assert np.allclose(found.base_value, base, atol=1e-5)
    inner = libxai.explain(model, x, "input_x_gradient", TARGETS, layer="act2")
    expected = model.activations(x, "act2") * model.gradient(x, TARGETS, wrt="act2")
    assert np.allclose(inner.values, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_sums_over_channels(model, x, method):
    found = libxai.explain(model, x, method, TARGETS, **SMALL.get(method, {}))
    sums = found.values.astype(np.float64).sum(1)
    top = np.maximum(sums, 0).max((1, 2), keepdims=True)
    assert np.abs(found.map - np.maximum(sums, 0) / top).max() <= 1e-6
    if method in ("saliency", "vargrad"):
        assert found.signed_map is None and found.values.min() >= 0
    else:
        assert np.abs(found.signed_map - sums / np.abs(sums).max((1, 2), keepdims=True)).max() <= 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_rows_targets_and_threads_do_not_change_a_bit(data, x, method):
    options = SMALL.get(method, {})
    base = libxai.Explainer(libxai.Model(data, threads=1), method, **options)
    alone = [base(row, target) for row, target in zip(x, TARGETS, strict=True)]
    for settings in ({"threads": 2}, {"threads": 3, "mode": "throughput"}):
        together = libxai.Explainer(libxai.Model(data, **settings), method, **options)
        for found in together.targets(x, [TARGETS, [3, 3, 3]])[:1]:
            assert np.array_equal(found.values, np.stack([each.values for each in alone]))
            assert found.evaluations.tolist() == [each.evaluations for each in alone]


def test_two_inputs_are_explained_together(two, two_x):
    found = libxai.explain(two, two_x, "integrated_gradients", 2)
    assert set(found.values) == {"image", "patient"} and found.map.shape == (3, 8, 8)
    total = sum(each.reshape(3, -1).sum(1) for each in found.values.values())
    assert np.abs(total - (found.score - found.base_value)).max() <= 1e-3
    background = {name: each[:2] for name, each in two_x.items()}
    found = libxai.explain(two, two_x, "gradient_shap", 2, background=background, samples=20)
    assert found.standard_error["patient"].shape == (3, 2)


def test_seeds_are_what_changes_samples(model, x):
    first, again, other = (libxai.explain(model, x[0], "smoothgrad", 1, samples=3, seed=s).values for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_progress_counts_evaluations_and_cancels(model, x):
    seen = []
    libxai.explain(model, x[0], "integrated_gradients", 1, steps=10, progress=lambda *at: seen.append(at))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (12, 12) and {total for _, total in seen} == {12}
    with pytest.raises(libxai.CancelledError):
        libxai.explain(model, x[0], "smoothgrad", 1, samples=50, progress=lambda done, total: done < 5)


@pytest.mark.parametrize(
    "method, options, word",
    [
        ("integrated_gradients", {"samples": 4}, "steps"),
        ("integrated_gradients", {"steps": -1}, "steps"),
        ("integrated_gradients", {"baseline": np.zeros((2, 5, 5))}, "baseline"),
        ("integrated_gradients", {"baseline": "median"}, "mean|blur"),
        ("gradient_shap", {"background": np.zeros((4, 2, 3, 3))}, "background"),
        ("gradient_shap", {"background": np.full((1, 2, 20, 24), np.nan)}, "NaN"),
        ("smoothgrad", {"noise": -1}, "noise"),
        ("smoothgrad", {"of": "cube"}, "squared"),
        ("saliency", {"layer": "nothing"}, "nothing"),
    ],
)
def test_wrong_options_are_named(model, x, method, options, word):
    with pytest.raises(libxai.LibXaiError, match=word.replace("|", r"\|")):
        libxai.explain(model, x, method, 1, **options)


def test_options_are_listed():
    found = libxai.method_options("gradient_shap")
    assert found["samples"][0] == "64" and {"background", "baseline", "seed", "tolerance"} <= set(found)
