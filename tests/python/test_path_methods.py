"""Methods on paths from references: what is evaluated once for an explainer, and how the path is divided."""

import conftest
import libxai
import numpy as np
import pytest

BACKGROUND = conftest.float32(np.random.default_rng(31), 4, 2, 20, 24)
TARGETS = [1, 0, 2]


def test_a_background_is_evaluated_once_for_an_explainer(model, x):
    explain = libxai.Explainer(model, "gradient_shap", background=BACKGROUND, samples=6)
    scores = model(BACKGROUND).astype(np.float64).mean(0)
    first, again, other = explain(x, TARGETS), explain(x, TARGETS), explain(x, 3)
    assert first.evaluations.tolist() == [1 + 6 + 4, 1 + 6, 1 + 6]
    assert again.evaluations.tolist() == other.evaluations.tolist() == [7, 7, 7]
    # 6 samples of 4 rows: two rows count twice, so the base value is not the plain mean.
    fresh = libxai.explain(model, x, "gradient_shap", 3, background=BACKGROUND, samples=6)
    assert np.array_equal(other.base_value, fresh.base_value) and np.array_equal(other.values, fresh.values)
    assert np.array_equal(first.values, again.values) and np.array_equal(first.base_value, again.base_value)
    even = libxai.Explainer(model, "gradient_shap", background=BACKGROUND, samples=8)
    for target in (3, 1, None):  # the kept outputs serve every target
        found = even(x, target)
        chosen = model(x).argmax(1) if target is None else np.full(3, target)
        assert np.allclose(found.base_value, scores[chosen], rtol=1e-5, atol=1e-6)
        total = found.values.astype(np.float64).reshape(3, -1).sum(1)
        assert np.allclose(found.completeness_error, np.abs(total - (found.score - found.base_value)), atol=1e-5)


def test_background_rows_are_evaluated_as_they_are_used(model, x):
    """Fewer samples than background rows: only those that were drawn; a second seed draws others."""
    explain = libxai.Explainer(model, "gradient_shap", background=np.tile(BACKGROUND, (8, 1, 1, 1)), samples=5)
    found = explain(x, 1)
    assert found.evaluations.tolist() == [1 + 5 + 5, 6, 6]  # the same five for every row


def test_kept_scores_follow_the_shape_and_the_score(x):
    """One explainer, inputs of two sizes and two outputs: the kept scores belong to one shape and one value."""
    from onnx import helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"]),
        helper.make_node("Flatten", ["m"], ["y"]),
        helper.make_node("Mul", ["y", "y"], ["z"]),
        helper.make_node("ReduceMax", ["x"], ["w"], axes=[2, 3], keepdims=0),
    ]
    outputs = [("z", ["N", 2]), ("w", ["N", 2])]
    m = libxai.Model(conftest.save(nodes, [("x", ["N", 2, "H", "W"])], outputs, {}, opset=13))
    explain = libxai.Explainer(m, "integrated_gradients", baseline=0.5, steps=4)
    small = x[:, :, :10, :12]
    for rows, made in ((x, 1), (x, 0), (small, 1), (small, 0), (x, 1)):
        found = explain(rows, 1)
        assert found.evaluations.tolist() == [1 + 4 + made, 5, 5]
        assert np.allclose(found.base_value, 0.25, atol=1e-6)
        assert np.allclose(found.score, rows[:, 1].mean((1, 2)) ** 2, rtol=1e-4, atol=1e-7)
        assert found.completeness_error.max() <= 1e-5
    other = explain(x, 1, output="w")
    assert other.evaluations.tolist() == [6, 5, 5] and np.allclose(other.base_value, 0.5)


@pytest.mark.parametrize(
    "baseline, made", [(0.3, [1, 0, 0]), ("one", [1, 0, 0]), ("mean", [1, 1, 1]), ("own", [1, 1, 1])]
)
def test_a_baseline_is_evaluated_once_where_it_is_the_same(model, x, baseline, made):
    given = {"one": BACKGROUND[:1], "own": BACKGROUND[:3]}.get(baseline, baseline)
    explain = libxai.Explainer(model, "integrated_gradients", baseline=given, steps=7)
    found = explain(x, TARGETS)
    assert found.evaluations.tolist() == [1 + 7 + each for each in made]
    again = explain(x, TARGETS)
    assert again.evaluations.tolist() == [8 + (made == [1] * 3)] * 3
    assert np.array_equal(found.values, again.values) and np.array_equal(found.base_value, again.base_value)
    rows = {"own": BACKGROUND[:3], "one": BACKGROUND[[0] * 3], "mean": x.mean((2, 3), keepdims=True) + 0 * x}
    base = model(rows[baseline] if baseline in rows else np.full_like(x, baseline))[range(3), TARGETS]
    assert np.allclose(found.base_value, base, atol=1e-6)


def test_scores_behind_a_layer_depend_on_the_row(model, x):
    """With a layer nothing is kept: what bypasses it has the values of the row that is explained."""
    explain = libxai.Explainer(model, "integrated_gradients", layer="act2", steps=5)
    for _ in range(2):  # the row, its layer, the layer of the baseline, its score, and the steps
        assert explain(x, TARGETS).evaluations.tolist() == [1 + 1 + 1 + 1 + 5] * 3
    explain = libxai.Explainer(model, "gradient_shap", layer="act2", background=BACKGROUND, samples=8)
    assert explain(x, TARGETS).evaluations.tolist() == [1 + 1 + 4 + 4 + 8, 1 + 1 + 4 + 8, 1 + 1 + 4 + 8]


def test_inputs_that_are_not_floats_keep_the_scores_of_references_apart():
    """y = sum(x) * gate, the gate an integer of the row: the baseline's score is the row's own."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["gate"], ["g"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "ones"], ["s"]),
        helper.make_node("Mul", ["s", "g"], ["y"]),
    ]
    sides = [
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("gate", TensorProto.INT64, ["N", 1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
    ]
    graph = helper.make_graph(nodes, "gated", *sides, [numpy_helper.from_array(np.ones((3, 1), np.float32), "ones")])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    explain = libxai.Explainer(libxai.Model(data), "integrated_gradients", baseline=0.5, steps=2)
    for _ in range(2):
        found = explain({"x": np.ones((2, 3), np.float32), "gate": np.array([[2], [5]])}, 0)
        assert np.allclose(found.base_value, [3, 7.5]) and np.allclose(found.score, [6, 15])
        assert found.evaluations.tolist() == [4, 4]


def test_references_fill_the_rows_of_a_fixed_batch():
    """Two rows a run of the model, five background rows: S = sum a x^2, so the base value is known."""
    from onnx import helper

    a = np.arange(1, 4, dtype=np.float32).reshape(3, 1)
    nodes = [helper.make_node("Mul", ["x", "x"], ["s"]), helper.make_node("MatMul", ["s", "a"], ["y"])]
    m = libxai.Model(conftest.save(nodes, [("x", [2, 3])], [("y", [2, 1])], {"a": a}))
    rng = np.random.default_rng(5)
    background, rows = conftest.float32(rng, 5, 3), conftest.float32(rng, 4, 3)
    explain = libxai.Explainer(m, "gradient_shap", background=background, samples=10)
    for made in (5, 0):
        found = explain(rows, 0)
        assert found.evaluations.tolist() == [11 + made, 11, 11, 11]
        assert np.allclose(found.base_value, (background**2 @ a).mean(), rtol=1e-6)


def test_progress_expects_what_is_still_to_be_evaluated(model, x):
    seen = []
    explain = libxai.Explainer(
        model, "gradient_shap", background=BACKGROUND, samples=6, progress=lambda *at: seen.append(at)
    )
    for expected in (11, 7):
        seen.clear()
        explain(x[0], 1)
        assert seen[-1] == (expected, expected) and {total for _, total in seen} == {expected}


def steep(features=6, gain=40.0, middle=0.2, size=None):
    """S = sigmoid(gain (w x - middle)) and w: on a path from zero all slopes are as w_i x_i, so

    phi_i = w_i x_i (S(x) - S(0)) / (w x). The step is narrow and away from the middle of the path.
    """
    from onnx import helper

    w = np.random.default_rng(3).uniform(0.5, 1.5, (features, 1)).astype(np.float32) / features
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("Sub", ["s", "middle"], ["d"]),
        helper.make_node("Mul", ["d", "gain"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["y"]),
    ]
    weights = {"w": w, "middle": np.float32([middle]), "gain": np.float32([gain])}
    m = libxai.Model(conftest.save(nodes, [("x", ["N", features])], [("y", ["N", 1])], weights))
    return m, w[:, 0].astype(np.float64)


def simpson_points(slope, wanted, tolerance):
    """Points that Simpson's rule takes when all intervals are halved until it is within the tolerance."""
    n = 4
    while n < 4096:
        d = slope(np.arange(n + 1) / n)
        total = (d[0] + d[-1] + 4 * d[1:-1:2].sum() + 2 * d[2:-1:2].sum()) / (3 * n)
        if abs(total - wanted) <= tolerance * abs(wanted):
            break
        n *= 2
    return n + 1


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3])
def test_a_path_is_divided_where_the_score_bends(tolerance):
    """A steep sigmoid: within the tolerance of the closed form, with fewer points than halving everywhere."""
    gain, middle = 60.0, 0.2
    m, w = steep(gain=gain, middle=middle)
    x = np.ones((1, 6), np.float32)
    found = libxai.explain(m, x, "integrated_gradients", 0, tolerance=tolerance)
    s, p = w.sum(), lambda z: 1 / (1 + np.exp(-z))
    wanted = p(gain * (s - middle)) - p(-gain * middle)
    assert found.converged[0] and not found.warnings
    assert np.abs(found.values[0] - w / s * wanted).sum() <= tolerance * wanted + 1e-5
    assert found.completeness_error[0] <= tolerance * wanted + 1e-6

    def slope(a):
        return gain * s * p(gain * (a * s - middle)) * p(-gain * (a * s - middle))

    everywhere = simpson_points(slope, wanted, tolerance)
    assert found.evaluations[0] - 1 <= 0.85 * everywhere, (found.evaluations, everywhere)


def test_a_kink_is_found_by_bisection():
    """S = relu(w x - c) bends at one point: phi = w x (1 - c / w x), with few points for a small error."""
    from onnx import helper

    w = np.float32([[0.5], [1.5], [-0.25]])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("Sub", ["s", "c"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    weights = {"w": w, "c": np.float32([0.61])}
    m = libxai.Model(conftest.save(nodes, [("x", ["N", 3])], [("y", ["N", 1])], weights))
    x = np.float32([[1, 1, 1]])
    exact = w[:, 0].astype(np.float64) * (1 - 0.61 / 1.75)
    found = libxai.explain(m, x, "integrated_gradients", 0, tolerance=1e-3)
    assert found.converged[0] and np.abs(found.values[0] - exact).max() <= 1e-3 * 1.14
    assert found.evaluations[0] <= 30  # halving all intervals needs 257
    # A straight score: five points say that it is straight.
    assert libxai.explain(m, x, "integrated_gradients", 0, baseline=1.5, tolerance=1e-6).evaluations[0] == 6


def test_adaptive_points_are_few_and_right_on_a_network(model, x):
    """Against 300 Gauss-Legendre points; completeness is reported as it is."""
    many = libxai.explain(model, x, "integrated_gradients", TARGETS, steps=300)
    errors = []
    for tolerance in (1e-1, 1e-2, 3e-3):
        found = libxai.explain(model, x, "integrated_gradients", TARGETS, tolerance=tolerance)
        wanted = found.score - found.base_value
        total = found.values.astype(np.float64).reshape(3, -1).sum(1)
        assert np.allclose(found.completeness_error, np.abs(total - wanted), atol=2e-6)
        assert found.converged.all() and (found.completeness_error <= tolerance * np.abs(wanted) + 2e-6).all()
        difference = (found.values - many.values).reshape(3, -1)
        errors.append(np.linalg.norm(difference, axis=1) / np.linalg.norm(many.values.reshape(3, -1), axis=1))
    assert (errors[0] <= 0.15).all() and (errors[1] <= 0.06).all() and (errors[2] <= 0.03).all()
    assert np.allclose(found.base_value, many.base_value, atol=1e-6)


def test_targets_divide_their_paths_alone(data, x):
    """What each target gives in one call with others is what it gives alone, for any number of threads."""
    options = {"tolerance": 1e-2, "steps": 65}
    model = libxai.Model(data, threads=1)
    alone = [libxai.explain(model, x, "integrated_gradients", each, **options) for each in (TARGETS, 3, None)]
    assert len({tuple(each.evaluations) for each in alone}) > 1  # they are divided differently
    for threads in (1, 2, 3):
        explain = libxai.Explainer(libxai.Model(data, threads=threads), "integrated_gradients", **options)
        for found, wanted in zip(explain.targets(x, [TARGETS, 3, None]), alone, strict=True):
            assert np.array_equal(found.values, wanted.values)
            assert found.evaluations.tolist() == wanted.evaluations.tolist()


def test_evaluations_of_an_adaptive_path_are_those_that_were_made(model, x):
    seen = []
    found = libxai.explain(model, x[0], "integrated_gradients", 1, tolerance=1e-2, progress=lambda *at: seen.append(at))
    assert found.evaluations == sum(done > 0 for done, _ in seen)


@pytest.mark.parametrize("most, used", [(1, 3), (3, 3), (4, 3), (5, 5), (6, 5), (7, 7), (12, 11)])
def test_no_more_points_than_allowed(most, used):
    m, _ = steep()
    found = libxai.explain(m, np.ones((1, 6), np.float32), "integrated_gradients", 0, tolerance=1e-9, steps=most)
    assert found.evaluations[0] == 1 + used and not found.converged[0]
    assert "tolerance" in found.warnings[0]


def test_a_large_input_keeps_few_points():
    """2.6 million elements: 25 gradients are kept; parts of the path are summed early, and the sum is right."""
    from onnx import helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"]),
        helper.make_node("Flatten", ["m"], ["s"]),
        helper.make_node("Mul", ["s", "gain"], ["z"]),
        helper.make_node("Tanh", ["z"], ["y"]),
    ]
    data = conftest.save(nodes, [("x", ["N", 1, 1620, 1620])], [("y", ["N", 1])], {"gain": np.float32([20])})
    x = np.random.default_rng(0).uniform(0.5, 1.5, (1, 1, 1620, 1620)).astype(np.float32)
    found = libxai.explain(libxai.Model(data), x, "integrated_gradients", 0, tolerance=1e-4)
    assert found.converged[0] and found.evaluations[0] > 2 * 25
    exact = x.astype(np.float64) / x.sum(dtype=np.float64) * np.tanh(20 * x.mean(dtype=np.float64))
    assert np.linalg.norm(found.values - exact) <= 1e-4 * np.linalg.norm(exact)
