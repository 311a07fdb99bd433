"""Methods that compare with a background or a baseline, on every kind of input: what they must satisfy whatever the
network, and what they refuse."""

import conftest
import libxai
import numpy as np
import pytest
from conftest import float32, save
from onnx import TensorProto, helper

TREES = conftest.PHANTOM.parents[2] / "tests/parity/tables/lightgbm_regressor.onnx"
ROWS, BACKGROUND = 3, 4


def node(*arguments, **attributes):
    return helper.make_node(*arguments, **attributes)


def make_convolution(rank, rng):
    weights = {
        "w": float32(rng, 5, 2, *[3] * rank, scale=0.4),
        "b": float32(rng, 5, scale=0.2),
        "v": float32(rng, 5, 3),
        "c": float32(rng, 3),
    }
    nodes = [
        node("Conv", ["x", "w", "b"], ["h"], pads=[1] * (2 * rank)),
        node("Relu", ["h"], ["a"]),
        node("GlobalAveragePool", ["a"], ["m"]),
        node("Flatten", ["m"], ["f"]),
        node("Gemm", ["f", "v", "c"], ["y"]),
    ]
    return save(nodes, [("x", ["n", 2, *[f"d{axis}" for axis in range(rank)]])], [("y", ["n", 3])], weights)


def make_table(rng):
    weights = {"w": float32(rng, 6, 8), "b": float32(rng, 8), "v": float32(rng, 8, 3)}
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"]),
        node("Relu", ["h"], ["a"]),
        node("MatMul", ["a", "v"], ["y"]),
    ]
    return save(nodes, [("x", ["n", 6])], [("y", ["n", 3])], weights)


def make_sequence(rng):
    """Positions by features, as behind an embedding."""
    weights = {"w": float32(rng, 4, 7), "v": float32(rng, 7, 3)}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Tanh", ["h"], ["a"]),
        node("ReduceMean", ["a"], ["m"], axes=[1], keepdims=0),
        node("MatMul", ["m", "v"], ["y"]),
    ]
    return save(nodes, [("x", ["n", "t", 4])], [("y", ["n", 3])], weights)


KINDS = {
    "image": (lambda rng: make_convolution(2, rng), (2, 7, 6)),
    "volume": (lambda rng: make_convolution(3, rng), (2, 3, 4, 5)),
    "signal": (lambda rng: make_convolution(1, rng), (2, 17)),
    "table": (make_table, (6,)),
    "sequence": (make_sequence, (5, 4)),
    "two inputs": (lambda rng: conftest.make_two_inputs()[0], None),
}


class Case:
    """A model of one kind, rows, and a background that is not like them."""

    def __init__(self, kind):
        make, self.shape = KINDS[kind]
        self.kind, self.model = kind, libxai.Model(make(np.random.default_rng(3)), threads=1)
        self.x, self.background = self.rows(ROWS, 1), self.rows(BACKGROUND, 2)

    def rows(self, count, seed):
        rng = np.random.default_rng(seed)
        if self.shape is None:
            return {"image": float32(rng, count, 1, 8, 8), "patient": float32(rng, count, 2)}
        return float32(rng, count, *self.shape)

    def score(self, x):
        scores = self.model(x)
        return (scores if self.shape is not None else scores[0])[:, 1]

    def explain(self, method, x=None, **options):
        return libxai.explain(self.model, self.x if x is None else x, method, 1, **options)


def each(values):
    """One array an input."""
    return list(values.values()) if isinstance(values, dict) else [values]


def pick(rows, which):
    return {name: array[which] for name, array in rows.items()} if isinstance(rows, dict) else rows[which]


def total(values):
    return sum(array.reshape(len(array), -1).sum(1, dtype=np.float64) for array in each(values))


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    return Case(request.param)


def test_deepshap_is_complete_against_the_mean_score_of_the_background(case):
    found = case.explain("deepshap", background=case.background)
    assert np.allclose(found.base_value, case.score(case.background).mean(), atol=1e-6)
    assert np.allclose(total(found.values), case.score(case.x) - found.base_value, atol=2e-6)
    assert found.completeness_error.max() < 2e-6 and found.baseline == "a background of 4 rows"


def test_deepshap_is_the_mean_of_deeplift_and_its_error_the_scatter(case):
    found = case.explain("deepshap", background=case.background)
    alone = [case.explain("deeplift", baseline=pick(case.background, row)).values for row in range(BACKGROUND)]
    for part, (values, errors) in enumerate(zip(each(found.values), each(found.standard_error), strict=True)):
        table = np.stack([each(one)[part] for one in alone]).astype(np.float64)
        np.testing.assert_allclose(values, table.mean(0), atol=1e-6)
        np.testing.assert_allclose(errors, table.std(0, ddof=1) / np.sqrt(BACKGROUND), atol=1e-6)


@pytest.mark.parametrize("baseline", [0.25, "rows"])
def test_deeplift_is_complete_against_its_baseline(case, baseline):
    """A number, or a row of its own for every row."""
    given = case.rows(ROWS, 5) if baseline == "rows" else baseline
    found = case.explain("deeplift", baseline=given)
    if baseline == "rows":
        expected = case.score(given)
    else:
        constant = [np.full_like(array, baseline) for array in each(case.x)]
        expected = case.score(dict(zip(case.x, constant, strict=True)) if case.shape is None else constant[0])
    assert np.allclose(found.base_value, expected, atol=1e-6)
    assert np.allclose(total(found.values), case.score(case.x) - expected, atol=2e-6)


def test_expected_gradients_are_the_mean_over_lines_from_the_background(case):
    """Against midpoints of every line. Both have errors: of sampling, and of 100 points where ReLUs bend."""
    found = case.explain("gradient_shap", background=case.background, samples=240)
    points = (np.arange(100) + 0.5) / 100
    for row in range(ROWS):
        sums = [0.0] * len(each(case.x))
        for b in range(BACKGROUND):
            lines = []
            for x, r in zip(each(case.x), each(case.background), strict=True):
                t = points.reshape(-1, *[1] * (x.ndim - 1))
                lines.append(((1 - t) * r[b] + t * x[row]).astype(np.float32))
            line = dict(zip(case.x, lines, strict=True)) if case.shape is None else lines[0]
            gradients = each(case.model.gradient(line, 1))
            for part, gradient in enumerate(gradients):
                difference = each(case.x)[part][row] - each(case.background)[part][b]
                sums[part] = sums[part] + difference * gradient.mean(0) / BACKGROUND
        for part, expected in enumerate(sums):
            told = each(found.standard_error)[part][row]
            missed = np.abs(each(found.values)[part][row] - expected)
            assert (missed <= 6 * told + 0.02 * np.abs(expected).max()).all()
            assert np.sqrt(np.mean(missed**2)) <= 2 * np.sqrt(np.mean(told**2)) + 0.003 * np.abs(expected).max()
    assert np.allclose(found.base_value, case.score(case.background).mean(), atol=1e-6)
    gap = np.abs(total(found.values) - (case.score(case.x) - found.base_value))
    np.testing.assert_allclose(found.completeness_error, gap, atol=2e-6)


@pytest.mark.parametrize("method", ["deepshap", "gradient_shap", "kernel_shap", "integrated_gradients", "deeplift"])
def test_rows_are_independent(case, method):
    options = {"samples": 300} if method in ("gradient_shap", "kernel_shap") else {}
    if method in ("integrated_gradients", "deeplift"):
        options["baseline"] = 0.1
    else:
        options["background"] = case.background
    together = case.explain(method, **options)
    for row in range(ROWS):
        alone = case.explain(method, pick(case.x, slice(row, row + 1)), **options)
        assert all(np.array_equal(a[row], b[0]) for a, b in zip(each(together.values), each(alone.values), strict=True))
        assert together.base_value[row] == alone.base_value[0]


@pytest.mark.parametrize("method", ["deepshap", "gradient_shap", "kernel_shap", "lime", "partition_shap"])
def test_backgrounds_that_do_not_fit_are_refused(case, method):
    def refused(background, error, words):
        with pytest.raises(error, match=words):
            case.explain(method, background=background)

    for wrong in (0.0, "mean"):
        refused(wrong, libxai.ArgumentError, "an array is needed")
    if case.shape is None:
        image, patient = case.background["image"], case.background["patient"]
        refused({"image": image}, libxai.LibXaiError, "patient")
        refused({"image": image, "patient": patient[:2]}, libxai.ShapeError, "2 rows for input 'patient', but 4")
        refused({"image": image, "patient": patient[:, :1]}, libxai.ShapeError, "patient")
        refused({"image": image, "patient": patient, "age": patient}, libxai.LibXaiError, "age")
        refused(image, libxai.LibXaiError, "input")
        return
    refused(case.background[..., :-1], libxai.ShapeError, "background: shape")
    refused(case.background[:0], libxai.ShapeError, "background: shape")
    refused(case.background[None, None], libxai.ShapeError, "background: shape")
    for bad in (np.nan, np.inf):
        holed = case.background.copy()
        holed.flat[5] = bad
        refused(holed, libxai.NumericError, "background")


def test_a_background_row_counts_as_often_as_it_is_there(case):
    """Weights by repetition: the mean over (a, a, b) is two thirds a and one third b."""
    one, other = (pick(case.background, slice(row, row + 1)) for row in (0, 1))
    join = lambda *rows: (  # noqa: E731
        {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        if case.shape is None
        else np.concatenate(rows)
    )
    found = case.explain("deepshap", background=join(one, one, other))
    parts = [case.explain("deepshap", background=row) for row in (one, other)]
    for together, a, b in zip(each(found.values), *(each(part.values) for part in parts), strict=True):
        np.testing.assert_allclose(together, (2 * a + b) / 3, atol=1e-6)
    assert np.allclose(found.base_value, (2 * parts[0].base_value + parts[1].base_value) / 3, atol=1e-6)


@pytest.mark.parametrize("method", ["deepshap", "gradient_shap", "deeplift"])
def test_half_precision_inputs_are_compared_in_their_own_numbers(method):
    rng = np.random.default_rng(4)
    weights = {"w": rng.standard_normal((6, 3)).astype(np.float16)}
    tensors = [helper.make_tensor("w", TensorProto.FLOAT16, (6, 3), weights["w"].tobytes(), raw=True)]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["n", size]) for name, size in (("x", 6), ("y", 3))
    ]
    graph = helper.make_graph([node("MatMul", ["x", "w"], ["y"])], "half", infos[:1], infos[1:], tensors)
    model = libxai.Model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    x, background = (rng.standard_normal((rows, 6)).astype(np.float16) for rows in (2, 5))
    given = {"baseline": background[:1]} if method == "deeplift" else {"background": background}
    found = libxai.explain(model, x, method, 1, **given, **({"samples": 40} if method == "gradient_shap" else {}))
    against = background[:1] if method == "deeplift" else background
    expected = (x.astype(np.float64) - against.astype(np.float64).mean(0)) * weights["w"][:, 1].astype(np.float64)
    np.testing.assert_allclose(found.values, expected, rtol=2e-3, atol=2e-3)


@pytest.fixture(scope="module")
def trees():
    model = libxai.Model(TREES)
    features = model.inputs[0].shape[1]
    rng = np.random.default_rng(0)
    return model, float32(rng, 4, features), float32(rng, 9, features)


def test_trees_are_complete_against_the_mean_score_of_the_background(trees):
    model, x, background = trees
    found = libxai.explain(model, x, "tree_shap", background=background)
    assert np.allclose(found.base_value, model(background)[:, 0].mean(), rtol=1e-6)
    assert np.allclose(total(found.values), model(x)[:, 0] - found.base_value, rtol=1e-5, atol=1e-5)
    alone = [libxai.explain(model, x, "tree_shap", background=background[b : b + 1]).values for b in range(9)]
    np.testing.assert_allclose(found.values, np.mean(alone, 0), atol=1e-5)


def test_trees_refuse_backgrounds_that_do_not_fit(trees):
    model, x, background = trees
    holed = background.copy()
    for wrong, error in (
        (background[:, :-1], libxai.ShapeError),
        (background[:0], libxai.ShapeError),
        (background[None, None], libxai.ShapeError),
        (0.0, libxai.ArgumentError),
        ("mean", libxai.ArgumentError),
    ):
        with pytest.raises(error, match="background"):
            libxai.explain(model, x, "tree_shap", background=wrong)
    holed[2, 1] = np.inf
    with pytest.raises(libxai.NumericError, match="background"):
        libxai.explain(model, x, "tree_shap", background=holed)
