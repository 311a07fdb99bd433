"""What every explanation must say of itself: base value, score, how it adds up, what it cost, how sure it is, and what
stood for absence. And how every method can be watched, stopped, limited and repeated.

Every method is in one of the tables below, so that a new one cannot be left out.
"""

import io
import pathlib

import conftest
import libxai
import numpy as np
import pytest
from onnx import helper

TREES = pathlib.Path(__file__).resolve().parents[1] / "parity/tables/lightgbm_regressor.onnx"
CAMS = ["gradcam", "gradcam++", "hirescam", "xgradcam", "layercam", "elementwise_gradcam", "eigencam", "eigengradcam"]
# One forward and one backward pass; nothing stands for absence.
PLAIN = [*CAMS, "fullgrad", "saliency", "input_x_gradient", "guided_backprop", "deconvnet", "lrp"]
GAMES = ["kernel_shap", "partition_shap", "permutation_shap", "sampling_shap", "exact_shap"]
COMPLETE = [*GAMES, "integrated_gradients", "gradient_shap", "deeplift", "deepshap", "tree_shap"]
SEGMENTED = [*GAMES, "lime", "feature_ablation"]
SAMPLED = ["smoothgrad", "vargrad", "gradient_shap", "kernel_shap", "permutation_shap", "sampling_shap", "lime", "rise"]
STOPPING = [*SAMPLED, "integrated_gradients"]
ABSENCE = [*COMPLETE, "lime", "feature_ablation", "occlusion", "rise", "aise", "scorecam", "ablationcam", "reciprocam"]
EVERY = sorted({*PLAIN, *COMPLETE, *SEGMENTED, *STOPPING, *ABSENCE, "guided_gradcam"})
IMAGES = [name for name in EVERY if name != "tree_shap"]
OPTIONS = {
    "smoothgrad": {"samples": 20},
    "vargrad": {"samples": 20},
    "gradient_shap": {"samples": 20},
    "deepshap": {},
    "kernel_shap": {"samples": 120},
    "partition_shap": {"samples": 40},
    "permutation_shap": {"samples": 70},
    "sampling_shap": {"samples": 100},
    "lime": {"samples": 80},
    "rise": {"samples": 40},
    "aise": {"samples": 30},
}


def options_of(method, x):
    options = dict(OPTIONS.get(method, {}))
    if method in ("gradient_shap", "deepshap"):
        options["background"] = 0.5 * x[::-1] + 0.1
    if method in SEGMENTED:
        options["segments"] = ("grid", 3)
    return options


def explain(model, x, method, **more):
    return libxai.explain(model, x, method, 1, **{**options_of(method, x), **more})


def watched(model, x, method, **more):
    calls = []
    found = explain(model, x, method, progress=lambda *at: calls.append(at), **more)
    return found, calls


@pytest.fixture(scope="module")
def trees():
    model = libxai.Model(TREES)
    rng = np.random.default_rng(0)
    features = model.inputs[0].shape[1]
    return model, conftest.float32(rng, 4, features), conftest.float32(rng, 20, features)


def test_every_method_is_looked_at():
    assert sorted(libxai.methods()) == EVERY
    assert sorted(STOPPING) == sorted(name for name in EVERY if "tolerance" in libxai.method_options(name))
    assert sorted(SEGMENTED) == sorted(name for name in EVERY if "segments" in libxai.method_options(name))


COUNTS = {"samples", "steps", "window", "stride", "cells"}


@pytest.mark.parametrize("method", EVERY)
def test_a_count_of_zero_is_the_default(model, x, trees, method):
    here, row = (trees[0], trees[1]) if method == "tree_shap" else (model, x[:1])
    others = {**options_of(method, row), "target": 1}
    if method == "tree_shap":
        others["target"] = 0
    for name in COUNTS & set(libxai.method_options(method)):
        rest = {key: value for key, value in others.items() if key != name}
        plain, zero = (libxai.explain(here, row, method, **rest, **more) for more in ({}, {name: 0}))
        assert np.array_equal(plain.values, zero.values) and plain.evaluations == zero.evaluations
        with pytest.raises(libxai.ArgumentError, match=name):
            libxai.explain(here, row, method, **rest, **{name: -1})
        if name in ("window", "stride"):
            assert np.array_equal(plain.values, libxai.explain(here, row, method, **rest, **{name: "0,0"}).values)


@pytest.mark.parametrize("method", IMAGES)
def test_facts(model, x, method):
    found = explain(model, x, method)
    facts = found.facts
    scores = model(x)[:, 1]
    assert np.allclose(found.score, scores, rtol=1e-6, atol=1e-7)
    for row, told in enumerate(facts["rows"]):
        for name in ("score", "base_value", "completeness_error", "evaluations"):
            mine = getattr(found, name)[row]
            assert told[name] is None if np.isnan(mine) else told[name] == pytest.approx(mine, rel=1e-12)
    if method in COMPLETE:
        total = found.values.reshape(3, -1).sum(1, dtype=np.float64)
        gap = np.abs(total - (found.score - found.base_value))
        size = np.abs(found.values).reshape(3, -1).sum(1)
        assert (np.abs(found.completeness_error - gap) <= 1e-6 * np.maximum(size, 1e-3)).all()
    elif method != "lrp":
        assert np.isnan(found.completeness_error).all()
    assert bool(found.baseline) == (method in ABSENCE) == ("baseline" in facts)
    if method in ABSENCE:
        assert facts["baseline"] == found.baseline


@pytest.mark.parametrize(
    "method", sorted({*COMPLETE, "lime", "feature_ablation", "reciprocam", "aise"} - {"tree_shap"})
)
def test_base_values_are_scores_of_what_stands_for_absence(model, x, method):
    found = explain(model, x, method)
    if method in ("gradient_shap", "deepshap"):
        expected = np.full(3, model(options_of(method, x)["background"])[:, 1].mean())
        tolerance = 1e-5
    elif method == "reciprocam":  # the layer act2 zero: what the head says of nothing
        flat = model.activations(x, "flat")
        head = model.gradient(x, 1, wrt="flat")
        expected, tolerance = model(x)[:, 1] - (flat * head).sum(1), 1e-5
    else:
        expected, tolerance = np.full(3, model(0 * x[:1])[0, 1]), 1e-6
    assert np.allclose(found.base_value, expected, atol=tolerance)


def test_facts_of_trees(trees):
    model, x, background = trees
    calls = []
    found = libxai.explain(model, x, "tree_shap", background=background, progress=lambda *at: calls.append(at))
    assert np.allclose(found.base_value, model(background)[:, 0].mean(), rtol=1e-5)
    assert found.completeness_error.max() <= 1e-4 and found.evaluations.tolist() == [1] * 4
    assert found.baseline == found.facts["baseline"] == "a background of 20 rows"
    assert [done for done, _ in calls] == sorted(done for done, _ in calls) and calls[-1] == (8, 8)


@pytest.mark.parametrize("method", IMAGES)
def test_evaluations_are_those_that_progress_counted(model, x, method):
    """One row, without a stopping rule."""
    found, calls = watched(model, x[:1], method)
    done = [each for each, _ in calls]
    if method == "occlusion":  # local edits begin with a pass over the row that is no step
        assert found.evaluations[0] == done[-1] + 1
    elif method in ("deeplift", "deepshap"):  # the baseline's pass is in the row's step
        assert found.evaluations[0] == 2
    else:  # a last call may say that less was needed than announced
        assert found.evaluations[0] == (done[-2] if done[-1] > done[-2] + 1 else done[-1])


@pytest.mark.parametrize("method", SEGMENTED)
def test_a_background_costs_a_row_each_but_for_the_row_itself(model, x, method):
    """The coalition of all features is the row, whose score is known."""
    alone = explain(model, x[:1], method)
    against = explain(model, x[:1], method, background=x)
    assert against.evaluations[0] == 1 + 3 * (alone.evaluations[0] - 1)
    assert against.baseline == "a background of 3 rows"


@pytest.mark.parametrize("method", [*SEGMENTED, "gradient_shap", "deepshap", "occlusion", "rise", "aise", "reciprocam"])
def test_several_targets_say_what_each_would_cost_alone(model, x, method):
    options = options_of(method, x)
    together = libxai.Explainer(model, method, **options).targets(x[:1], [0, 3])
    for target, found in zip([0, 3], together, strict=True):
        alone = libxai.explain(model, x[:1], method, target, **options)  # an explainer that has kept nothing yet
        assert found.evaluations[0] == alone.evaluations[0] and np.array_equal(found.values, alone.values)


@pytest.mark.parametrize("method", SAMPLED)
def test_sampled_methods_say_how_sure_they_are(model, x, method):
    found = explain(model, x, method)
    errors = np.asarray(found.standard_error, np.float64)
    assert errors.shape == found.values.shape and np.isfinite(errors).all() and errors.max() > 0
    assert (found.samples > 1).all()
    for row, told in enumerate(found.facts["rows"]):
        values = np.asarray(found.values[row], np.float64)
        if method == "rise":  # its map is read by differences
            values = values.sum(0) - values.sum(0).mean()
            expected = np.linalg.norm(errors[row].sum(0)) / np.linalg.norm(values)
        elif method in SEGMENTED:
            expected = np.linalg.norm(found.segment_standard_error[row]) / np.linalg.norm(found.segment_values[row])
        else:
            expected = np.linalg.norm(errors[row]) / np.linalg.norm(values)
        assert told["relative_standard_error"] == pytest.approx(expected, rel=1e-4)
        assert told["samples"] == found.samples[row]


@pytest.mark.parametrize("method", sorted({*IMAGES} - {*SAMPLED, "deepshap"}))
def test_other_methods_claim_no_standard_error(model, x, method):
    found = explain(model, x[:1], method)
    assert np.isnan(found.standard_error).all()
    assert all("relative_standard_error" not in row for row in found.facts["rows"])
    if method not in ("partition_shap", "aise"):
        assert found.samples[0] == 0


@pytest.mark.parametrize("method", STOPPING)
def test_a_tolerance_stops_early_or_says_that_it_was_not_reached(model, x, method):
    more = {} if method == "integrated_gradients" else {"samples": 2000}
    loose = explain(model, x, method, tolerance=2.0 if method == "rise" else 0.6, **more)
    assert loose.converged.all() and not any("not reached" in each for each in loose.warnings)
    assert all(row["converged"] is True for row in loose.facts["rows"])
    full = explain(model, x, method, **more)
    assert full.converged is None and (loose.evaluations < full.evaluations).all()
    more = {"steps": 9} if method == "integrated_gradients" else {}
    tight = explain(model, x, method, tolerance=1e-9, **more)
    assert not tight.converged.any() and sum("not reached" in each for each in tight.warnings) == 3
    assert all(row["converged"] is False for row in tight.facts["rows"])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (("grid", 3), "9 segments (grid of 3 x 3)"),
        (("slic", 6), "slic"),
        ("quickshift", "quickshift"),
        (np.arange(20 * 24).reshape(20, 24) // 120, "4 segments (given)"),
    ],
)
@pytest.mark.parametrize("method", SEGMENTED)
def test_superpixels_say_how_many_and_how_they_were_made(model, x, method, how, words):
    if method == "exact_shap" and "quick" in str(how):
        how = ("quickshift", 8, 40, 1.0)
    try:
        found = explain(model, x[:1], method, segments=how)
    except libxai.ArgumentError as error:  # exact: at most 20; sampling: samples for all
        assert "at most 20" in str(error) or "samples" in str(error)
        return
    facts = found.facts
    assert words.lower() in facts["features"].lower()
    assert facts["segment_count"] == found.segments.max() + 1 == found.segment_values.shape[1]
    assert str(facts["segment_count"]) in facts["features"]


def test_elements_of_a_table_are_counted():
    nodes = [helper.make_node("Gemm", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    weights = {"w": conftest.float32(np.random.default_rng(0), 6, 2)}
    model = libxai.Model(conftest.save(nodes, [("x", ["n", 6])], [("y", ["n", 2])], weights))
    x = np.ones((2, 6), np.float32)
    for method in ("kernel_shap", "lime", "feature_ablation", "occlusion"):
        assert libxai.explain(model, x, method, 0).facts["features"] == "6 elements"


@pytest.mark.parametrize("method", IMAGES)
def test_progress_never_falls_and_ends_at_its_total(model, x, method):
    _, calls = watched(model, x, method, threads=2)
    done = [each for each, _ in calls]
    assert done == sorted(done) and calls[-1][0] == calls[-1][1]
    assert all(each <= total for each, total in calls)
    assert len({total for _, total in calls}) == 1, "the total is known from the beginning"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", IMAGES)
def test_a_cancelled_call_evaluates_nothing_more(model, x, method, threads):
    _, whole = watched(model, x, method, threads=threads)
    for last in sorted({1, 2, len(whole) // 2, len(whole) - 2} & set(range(1, len(whole) - 1))):
        calls = []

        def stop(done, total, calls=calls, last=last):
            calls.append(done)
            return len(calls) < last

        with pytest.raises(libxai.CancelledError):
            explain(model, x, method, threads=threads, progress=stop)
        assert len(calls) == last


@pytest.mark.parametrize("method", IMAGES)
def test_threads_batches_and_neighbours_leave_the_bits(data, x, method):
    options = options_of(method, x)
    rows = np.concatenate([x, -x, x[::-1], 0.5 * x, x[:, :, ::-1], 2 * x[:1]])[:16]
    alone = np.stack(
        [libxai.explain(libxai.Model(data, threads=1), row, method, 1, **options).values for row in rows[:4]]
    )
    for settings in ({"threads": 1}, {"threads": 2}, {"threads": 2, "mode": "throughput"}):
        model = libxai.Model(data, **settings)
        for batch in (3, 16):
            found = libxai.explain(model, rows[:batch], method, 1, **options)
            assert np.array_equal(found.values[:3], alone[:3])
            assert np.array_equal(found.values[3:4], alone[3 : 3 + (batch > 3)])


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_background_rows_that_are_not_kept_give_the_same(data, x, mode):
    """They pass through the run that holds the row, which must come back unharmed for the next one."""
    model = libxai.Model(data, threads=2, mode=mode)
    rows, background = np.concatenate([x, 0.5 * x]), 0.5 * x[::-1] + 0.1
    kept, anew = (libxai.explain(model, rows, "deepshap", 1, background=background, cache=cache) for cache in (96, 0))
    assert np.array_equal(kept.values, anew.values)
    assert np.array_equal(kept.base_value, anew.base_value)
    assert np.all(anew.completeness_error < 1e-4)


def least(run):
    """The smallest memory limit that suffices, within 64 bytes."""
    low, high = 0, 1 << 24
    while high - low > 64:
        middle = (low + high) // 2
        try:
            run(middle)
            high = middle
        except libxai.MemoryLimitError:
            low = middle
    return high


@pytest.mark.parametrize("method", sorted({*IMAGES} - {"fullgrad", "lrp", "deeplift"}))
def test_a_memory_limit_for_one_gradient_suffices(data, x, method):
    """Samples, segments and backgrounds are taken in smaller batches (fullgrad, lrp, deeplift need more for one row).
    Local edits may give way to whole evaluations, which differ by rounding."""
    one = "deeplift" if method == "deepshap" else "saliency"
    limit = least(lambda size: libxai.explain(libxai.Model(data, threads=2, memory_limit=size), x[:1], one, 1))
    expected = explain(libxai.Model(data, threads=2), x, method)
    found = explain(libxai.Model(data, threads=2, memory_limit=limit), x, method)
    if method in ("occlusion", "feature_ablation", "exact_shap", "permutation_shap", "sampling_shap"):
        np.testing.assert_allclose(found.values, expected.values, atol=1e-6)
    else:
        assert np.array_equal(found.values, expected.values)


def test_the_plain_bar_tells_the_time_left(monkeypatch):
    from libxai import _progress

    now, shown = [100.0], io.StringIO()
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(_progress.sys, "stderr", shown)
    line = _progress._Line("rise", 40)
    now[0] += 5
    line.update(10)
    assert "rise: 10/40, 15 s left" in shown.getvalue()
