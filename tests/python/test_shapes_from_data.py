"""Shapes that depend on data: computed behind the plan, forward only; what lies in front is explained as ever."""

import libxai
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
PRECISIONS = ["standard", "reference"]


def info(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def make(nodes, inputs, outputs, weights=None, opset=17):
    """Make a model; inputs and outputs are value infos."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def load(proto, **settings):
    return libxai.Model(proto.SerializeToString(), **settings)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"the {op}", **attributes)


def above_zero():
    """places (2, M) and values (M) of what is above zero in relu(x w); the raw scores in front."""
    rng = np.random.default_rng(3)
    nodes = [
        node("MatMul", "x w", "raw"),
        node("Relu", "raw", "scores"),
        node("NonZero", "scores", "places"),
        node("Transpose", "places", "pairs", perm=[1, 0]),
        node("GatherND", "scores pairs", "values"),
    ]
    w = rng.standard_normal((6, 5)).astype(np.float32)
    outputs = [info("values"), info("places", INT64), info("scores", shape=["n", 5])]
    return make(nodes, [info("x", shape=["n", 6])], outputs, {"w": w}), w


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_nonzero_of_a_batch_speaks_of_the_batch(rows, precision):
    proto, w = above_zero()
    x = np.random.default_rng(rows).standard_normal((rows, 6)).astype(np.float32)
    values, places, scores = load(proto, precision=precision)(x)
    expected = np.maximum(x.astype(np.float64) @ w, 0)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert np.array_equal(places, np.stack(np.nonzero(expected)))
    np.testing.assert_allclose(values, expected[np.nonzero(expected)], atol=1e-5)


def test_nothing_found_is_an_empty_list():
    proto, w = above_zero()
    model = load(proto)
    values, places, scores = model(np.zeros((2, 6), np.float32))
    assert values.shape == (0,) and places.shape == (2, 0) and not scores.any()
    values, places, _ = model(np.ones((2, 6), np.float32))  # the same session, another length
    assert len(values) == places.shape[1] == 2 * np.count_nonzero(w.sum(axis=0) > 0)


def test_gradients_and_explanations_in_front_are_as_ever():
    proto, w = above_zero()
    model = load(proto)
    x = np.random.default_rng(8).standard_normal((1, 6)).astype(np.float32)
    best = int(np.argmax(x @ w))
    np.testing.assert_allclose(model.gradient(x, target=best, output="scores")[0], w[:, best], atol=1e-6)
    found = libxai.explain(model, x, "input_x_gradient", target=best, output="scores")
    np.testing.assert_allclose(found.values[0], x[0] * w[:, best], atol=1e-5)


@pytest.mark.parametrize("output", ["values", None])
@pytest.mark.parametrize("method", ["saliency", "gradcam", "kernel_shap", "occlusion", "deeplift", "lrp"])
def test_what_lies_behind_is_refused_by_node(method, output):
    model = load(above_zero()[0])
    x = np.ones((1, 6), np.float32)
    with pytest.raises(libxai.UnsupportedError, match=r"'the NonZero' \(NonZero\).*depends on data"):
        libxai.explain(model, x, method, target=0, output=output)


def test_gradients_behind_are_refused_by_node():
    model = load(above_zero()[0])
    x = np.ones((1, 6), np.float32)
    for settings in ({"output": "values"}, {"output": "scores", "wrt": "values"}):
        with pytest.raises(libxai.UnsupportedError, match=r"'the NonZero' \(NonZero\).*'values'.*explained or diff"):
            model.gradient(x, target=0, **settings)


def test_inner_values_behind_are_computed_by_name():
    proto, w = above_zero()
    x = np.ones((1, 6), np.float32)
    pairs, raw = load(proto).activations(x, "pairs", "raw")
    np.testing.assert_allclose(raw, x @ w, atol=1e-5)
    assert np.array_equal(pairs, np.argwhere(np.maximum(x @ w, 0)))


def detector(classes=3, boxes=40):
    """Boxes and scores by one product each, then NonMaxSuppression and the chosen boxes, as exporters write it."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 8, (1, boxes, 2))
    weights = {
        "where": np.concatenate([corners, corners + rng.uniform(1, 5, (1, boxes, 2))], axis=2).astype(np.float32),
        "w": rng.standard_normal((4, classes * boxes)).astype(np.float32),
        "form": np.array([1, classes, boxes]),
        "most": np.array([9]),
        "overlap": np.array([0.3], np.float32),
        "least": np.array([0.6], np.float32),
        "last": np.array(2),
        "middle": np.array(1),
        "zero": np.array(0),
        "one": np.array([1]),
        "axis0": np.array([0]),
    }
    nodes = [
        node("MatMul", "x w", "flat"),
        node("Sigmoid", "flat", "probabilities"),
        node("Reshape", "probabilities form", "scores"),
        node("ReduceMean", "x", "shift", keepdims=1),
        node("Add", "where shift", "moved"),
        node("NonMaxSuppression", "moved scores most overlap least", "chosen"),
        node("Gather", "chosen last", "box", axis=1),
        node("Gather", "chosen middle", "label", axis=1),
        node("Squeeze", "moved axis0", "all"),
        node("Gather", "all box", "boxes"),
        node("Shape", "box", "shape"),
        node("Squeeze", "shape axis0", "count"),
        node("GatherND", "scores chosen", "confidence"),
    ]
    outputs = [info("boxes"), info("label", INT64), info("confidence"), info("count", INT64), info("scores")]
    return make(nodes, [info("x", shape=[1, 4])], outputs, weights)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_detection_to_the_final_boxes(precision):
    proto = detector()
    model, reference = load(proto, precision=precision), ReferenceEvaluator(proto)
    counts = set()
    for seed in range(6):
        x = np.random.default_rng(seed).standard_normal((1, 4)).astype(np.float32)
        expected = reference.run(None, {"x": x})
        for got, wanted in zip(model(x), expected, strict=True):
            assert got.shape == wanted.shape and got.dtype == wanted.dtype
            np.testing.assert_allclose(got, wanted, atol=1e-5)
        counts.add(int(expected[3]))
    assert len(counts) > 1  # lengths do vary


def branches(then_rows, else_rows):
    """If sum(x) > 0: the first rows of 2x, else the first of -x."""

    def branch(name, value, rows):
        tensors = [
            numpy_helper.from_array(np.array([rows]), f"{name}_end"),
            numpy_helper.from_array(np.array([0]), f"{name}_begin"),
        ]
        cut = node("Slice", f"{value} {name}_begin {name}_end", f"{name}_out")
        return helper.make_graph([cut], name, [], [info(f"{name}_out")], tensors)

    nodes = [
        node("ReduceSum", "x", "sum", keepdims=0),
        node("Greater", "sum zero", "condition"),
        node("Mul", "x two", "double"),
        node("Neg", "x", "negative"),
        node(
            "If",
            "condition",
            "chosen",
            then_branch=branch("then", "double", then_rows),
            else_branch=branch("else", "negative", else_rows),
        ),
        node("ReduceSum", "chosen", "y", keepdims=0),
    ]
    weights = {"zero": np.float32(0), "two": np.float32(2)}
    return make(nodes, [info("x", shape=[4, 3])], [info("y"), info("chosen"), info("double")], weights)


@pytest.mark.parametrize("sign", [1, -1])
def test_if_takes_the_branch_that_the_data_decide(sign):
    model = load(branches(3, 1))
    x = sign * np.random.default_rng(0).uniform(0, 1, (4, 3)).astype(np.float32)
    expected = (2 * x)[:3] if sign > 0 else -x[:1]
    y, chosen, double = model(x)
    assert np.array_equal(chosen, expected) and np.array_equal(double, 2 * x)
    assert y.shape == ()
    np.testing.assert_allclose(y, expected.sum(), rtol=1e-6)
    with pytest.raises(libxai.UnsupportedError, match=r"'the If' \(If\)"):
        model.gradient(x, output="y")


def doubling(condition_of_data):
    """Double the state until its sum is above 100 (or as often as `times` says), and collect the sums."""
    nodes = [
        node("Add", "state state", "next"),
        node("ReduceSum", "next", "total", keepdims=0),
        node("Less", "total hundred", "again") if condition_of_data else node("Identity", "before", "again"),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [info("i", INT64, []), info("before", BOOL, []), info("state", shape=[2])],
        [info("again", BOOL, []), info("next", shape=[2]), info("total", shape=[])],
        [numpy_helper.from_array(np.float32(100), "hundred")],
    )
    outer = [
        node("ReduceMax", "x", "largest", keepdims=0),
        node("Cast", "largest", "times", to=INT64),
        helper.make_node(
            "Loop", ["" if condition_of_data else "times", "yes", "x"], ["last", "sums"], name="the Loop", body=body
        ),
    ]
    return make(outer, [info("x", shape=[2])], [info("last"), info("sums")], {"yes": np.array(True)})


@pytest.mark.parametrize("x", [[1, 3], [7, 2], [60, 1]])
def test_loops_run_as_often_as_the_data_say(x):
    x = np.array(x, np.float32)
    model = load(doubling(True))
    sums, state = [], x
    while not sums or sums[-1] < 100:
        state = 2 * state
        sums.append(state.sum())
    last, found = model(x)
    assert np.array_equal(last, state) and np.array_equal(found, sums)
    times = int(x.max())
    last, found = load(doubling(False))(x)
    assert np.array_equal(found, x.sum() * 2.0 ** np.arange(1, times + 1, dtype=np.float32))
    assert np.array_equal(last, x * np.float32(2.0**times))


def test_loops_without_end_stop_at_their_limit():
    model = load(doubling(False))
    with pytest.raises(libxai.UnsupportedError, match=r"'the Loop' \(Loop\).*2048 iterations"):
        model(np.array([1e6, 1], np.float32))
    with pytest.raises(libxai.UnsupportedError, match=r"'the Loop' \(Loop\).*2048 iterations"):
        load(doubling(True))(np.array([0, 0], np.float32))


def sized_by_data():
    """Operators whose parameters are computed: TopK, Slice, Reshape, Expand, Range, Tile, Pad, OneHot."""
    nodes = [
        node("ReduceMax", "x", "largest", keepdims=0),
        node("Cast", "largest", "number", to=INT64),
        node("Unsqueeze", "number axis0", "k"),
        node("TopK", "x k", "top order", axis=0),
        node("Slice", "x axis0 k", "head"),
        node("Concat", "k minus", "form", axis=0),
        node("Expand", "top form1", "wide"),
        node("Reshape", "wide form", "formed"),
        node("Range", "zero number step", "range"),
        node("Tile", "range two", "tiled"),
        node("Concat", "axis0 k", "border", axis=0),
        node("Pad", "head border", "padded"),
        node("ConstantOfShape", "k", "blank"),
        node("OneHot", "order number pair", "hot"),
    ]
    weights = {
        "axis0": np.array([0]),
        "minus": np.array([-1]),
        "form1": np.array([3, 1]),
        "zero": np.array(0),
        "step": np.array(1),
        "two": np.array([2]),
        "pair": np.array([0, 1], np.float32),
    }
    names = ["top", "order", "head", "formed", "range", "tiled", "padded", "blank", "hot"]
    return make(nodes, [info("x", shape=[6])], [info(name) for name in names], weights), names


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_parameters_that_are_computed_are_followed(k):
    proto, names = sized_by_data()
    x = np.random.default_rng(k).permutation(np.linspace(-3, k + 0.5, 6)).astype(np.float32)
    for output in proto.graph.output:
        output.type.Clear()
        output.type.tensor_type.elem_type = INT64 if output.name in ("order", "range", "tiled") else FLOAT
    found = dict(zip(names, load(proto)(x), strict=True))
    order = np.argsort(-x, kind="stable")[:k]
    assert np.array_equal(found["order"], order) and np.array_equal(found["top"], x[order])
    assert np.array_equal(found["head"], x[:k])
    assert np.array_equal(found["formed"], np.tile(x[order], 3).reshape(k, -1))
    assert np.array_equal(found["range"], np.arange(k)) and np.array_equal(found["tiled"], np.tile(np.arange(k), 2))
    assert np.array_equal(found["padded"], np.append(x[:k], np.zeros(k)))
    assert np.array_equal(found["blank"], np.zeros(k))
    assert np.array_equal(found["hot"], (order[:, None] == np.arange(k)).astype(np.float32))


def test_errors_behind_the_plan_name_the_node():
    proto, _ = sized_by_data()
    for output in proto.graph.output:
        output.type.Clear()
        output.type.tensor_type.elem_type = FLOAT
    with pytest.raises(libxai.LibXaiError, match=r"'the TopK' \(TopK\)"):
        load(proto)(np.array([0, 1, 2, 3, 4, 9], np.float32))  # more than there are


def test_memory_behind_the_plan_is_limited():
    nodes = [node("Cast", "x", "dims", to=INT64), node("ConstantOfShape", "dims", "zeros"), node("Relu", "zeros", "y")]
    proto = make(nodes, [info("x", shape=[2])], [info("y")])
    assert load(proto)(np.array([3, 4], np.float32)).shape == (3, 4)
    small = load(proto, memory_limit=1 << 20)
    assert small(np.array([300, 100], np.float32)).shape == (300, 100)
    with pytest.raises(libxai.MemoryLimitError, match="ConstantOfShape"):
        small(np.array([3000, 1000], np.float32))
    with pytest.raises(libxai.LibXaiError, match="ConstantOfShape"):
        load(proto)(np.array([1e6, 1e6], np.float32))


def test_a_nan_is_not_lost_in_a_comparison():
    nodes = [node("Sqrt", "x", "root"), node("NonZero", "root", "y")]
    proto = make(nodes, [info("x", shape=[4])], [info("y", INT64)])
    assert np.array_equal(load(proto)(np.array([0, 4, 0, 9], np.float32)), [[1, 3]])
    with pytest.raises(libxai.NumericError, match=r"root.*NaN at"):
        load(proto)(np.array([0, -4, 1, 9], np.float32))


def test_threads_give_the_same_bits():
    proto, _ = above_zero()
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    one = load(proto, threads=1)(x)
    for settings in ({"threads": 2}, {"threads": 2, "mode": "throughput"}):
        for a, b in zip(one, load(proto, **settings)(x), strict=True):
            assert np.array_equal(a, b)


def test_a_row_without_axis_gets_lists_as_they_are():
    """One detection is a list of one, not a row whose axis can be dropped."""
    nodes = [node("NonZero", "x", "places"), node("Transpose", "places", "pairs", perm=[1, 0])]
    model = load(make(nodes, [info("x", shape=[1, 4])], [info("pairs", INT64, ["found", 2])]))
    assert np.array_equal(model(np.array([0, 5, 0, 0], np.float32)), [[0, 1]])


def test_only_shapes_from_data():
    """Nothing is left for a plan."""
    model = load(make([node("NonZero", "x", "y")], [info("x", shape=["n", "m"])], [info("y", INT64)]))
    x = np.random.default_rng(0).integers(0, 2, (4, 5)).astype(np.float32)
    assert np.array_equal(model(x), np.stack(np.nonzero(x)))
