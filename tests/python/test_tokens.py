"""Masking of integer inputs (token ids): against brute force over all coalitions, and what is refused."""

import itertools
import math

import libxai
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

KINDS = {np.dtype(np.int64): TensorProto.INT64, np.dtype(np.int32): TensorProto.INT32, np.dtype(np.uint8):
         TensorProto.UINT8, np.dtype(np.float32): TensorProto.FLOAT}  # fmt: skip
MASKING = ["kernel_shap", "partition_shap", "permutation_shap", "sampling_shap", "exact_shap", "lime",
           "feature_ablation", "occlusion", "rise"]  # fmt: skip
GRADIENTS = ["saliency", "input_x_gradient", "integrated_gradients", "smoothgrad", "vargrad", "gradient_shap",
             "deeplift", "deepshap", "guided_backprop", "deconvnet", "lrp"]  # fmt: skip


def model_of(nodes, inputs, weights):
    """Inputs are (name, dtype, shape); the output is `scores` (N, 2)."""
    given = [helper.make_tensor_value_info(name, KINDS[np.dtype(kind)], shape) for name, kind, shape in inputs]
    out = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tokens", given, out, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return libxai.Model(made.SerializeToString(), threads=1)


def reader(kind=np.int64, extra=()):
    """A mean of embeddings of 9 words and their kinds, weighted by a mask, tanh, a product with a table."""
    rng = np.random.default_rng(2)
    weights = {
        "words": rng.standard_normal((9, 6)).astype(np.float32),
        "kinds": rng.standard_normal((2, 6)).astype(np.float32),
        "w": rng.standard_normal((6, 2)).astype(np.float32),
        "axis": np.array([1], np.int64),
        "last": np.array([2], np.int64),
    }
    inputs = [("ids", kind, ["n", "l"]), ("mask", np.int64, ["n", "l"]), ("types", np.int64, ["n", "l"])]
    # Only int32 and int64 are indices.
    nodes = [helper.make_node("Cast", ["ids"], ["chosen"], to=TensorProto.INT64)]
    nodes += [
        helper.make_node("Gather", ["words", "chosen"], ["a"]),
        helper.make_node("Gather", ["kinds", "types"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Tanh", ["c"], ["d"]),
        helper.make_node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["m", "last"], ["m3"]),
        helper.make_node("Mul", ["d", "m3"], ["e"]),
        helper.make_node("ReduceSum", ["e", "axis"], ["f"], keepdims=0),
    ]
    if "table" in extra:
        weights["v"] = rng.standard_normal((3, 6)).astype(np.float32)
        inputs.append(("table", np.float32, ["n", 3]))
        nodes += [
            helper.make_node("MatMul", ["table", "v"], ["t"]),
            helper.make_node("Mul", ["f", "t"], ["g"]),
            helper.make_node("Tanh", ["g"], ["h"]),
        ]
    else:
        nodes.append(helper.make_node("Tanh", ["f"], ["h"]))
    nodes.append(helper.make_node("MatMul", ["h", "w"], ["scores"]))
    return model_of(nodes, inputs, weights)


def sentences(kind=np.int64, rows=2, length=5):
    rng = np.random.default_rng(4)
    mask = np.ones((rows, length), np.int64)
    mask[-1, -1] = 0
    types = (np.arange(length) >= 3).astype(np.int64)[None].repeat(rows, 0)
    return {"ids": rng.integers(1, 9, (rows, length)).astype(kind), "mask": mask, "types": types}


def shapley(model, x, absent, row, target, groups=None):
    """Shapley values of the named inputs' elements (or of groups of the first's), by the definition."""
    name = next(iter(absent))
    players = [(each, i) for each in absent for i in range(x[each].shape[1])]
    if groups is not None:
        players = list(range(max(groups) + 1))
    made = {key: [] for key in x}
    coalitions = list(itertools.product([False, True], repeat=len(players)))
    for there in coalitions:
        one = {key: x[key][row].copy() for key in x}
        for player, kept in zip(players, there, strict=True):
            if not kept and groups is None:
                one[player[0]][player[1]] = absent[player[0]]
            elif not kept:
                one[name][np.array(groups) == player] = absent[name]
        for key in x:
            made[key].append(one[key])
    scores = model({key: np.array(rows) for key, rows in made.items()})[:, target].astype(np.float64)
    v = dict(zip(coalitions, scores, strict=True))
    n, values = len(players), np.zeros(len(players))
    for i in range(n):
        for there in coalitions:
            if not there[i]:
                k = sum(there)
                weight = math.factorial(k) * math.factorial(n - k - 1) / math.factorial(n)
                values[i] += weight * (v[(*there[:i], True, *there[i + 1 :])] - v[there])
    return values, v[(False,) * n]


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("method", ["exact_shap", "kernel_shap"])
def test_shapley_values_of_tokens(kind, method):
    model, x = reader(kind), sentences(kind)
    found = libxai.explain(model, x, method, target=[1, 0], baseline=0)
    for row, target in enumerate([1, 0]):
        values, base = shapley(model, x, {"ids": 0}, row, target)
        assert np.abs(found.values["ids"][row] - values).max() <= 1e-6
        assert abs(found.base_value[row] - base) <= 1e-6
    assert list(found.values) == ["ids"]
    assert found.values["ids"].dtype == np.float32
    assert found.baseline == "'ids': 0; as they are: 'mask', 'types'"
    assert found.facts["baseline"] == found.baseline


def test_words_of_several_tokens():
    model, x = reader(), sentences()
    groups = [0, 0, 1, 2, 2]
    found = libxai.explain(model, x, "exact_shap", target=1, baseline=0, segments=groups)
    for row in range(2):
        values, _ = shapley(model, x, {"ids": 0}, row, 1, groups)
        assert np.abs(found.segment_values[row] - values).max() <= 1e-6
        spread = np.array([found.values["ids"][row][np.array(groups) == k].sum() for k in range(3)])
        assert np.abs(spread - values).max() <= 1e-6
    assert found.segments.tolist() == [groups, groups]
    own = libxai.explain(model, x, "exact_shap", target=1, baseline=0, segments={"ids": [groups, [0, 1, 1, 1, 1]]})
    values, _ = shapley(model, x, {"ids": 0}, 1, 1, [0, 1, 1, 1, 1])
    assert np.abs(own.segment_values[1, :2] - values).max() <= 1e-6
    halves = libxai.explain(model, x, "exact_shap", target=1, baseline=0, segments=("grid", 2))
    assert halves.segment_values.shape == (2, 2)
    for wrong in ([0, 1, 2], ("slic", 3), np.zeros((2, 5))):
        with pytest.raises(libxai.LibXaiError, match="segments"):
            libxai.explain(model, x, "exact_shap", baseline=0, segments=wrong)


def test_inputs_named_are_masked():
    model, x = reader(), {key: values[:, 2:] for key, values in sentences().items()}
    absent = {"ids": 3, "mask": 0, "types": 1}
    found = libxai.explain(model, x, "exact_shap", target=0, baseline=absent)
    assert list(found.values) == list(absent)
    assert found.baseline == "'ids': 3, 'mask': 0, 'types': 1"
    for row in range(2):
        values, base = shapley(model, x, absent, row, 0)
        assert np.abs(np.concatenate([found.values[name][row] for name in absent]) - values).max() <= 1e-6
        assert abs(found.base_value[row] - base) <= 1e-6
    alone = libxai.explain(model, x, "exact_shap", target=0, baseline={"mask": 0})
    values, _ = shapley(model, x, {"mask": 0}, 0, 0)
    assert np.abs(alone.values["mask"][0] - values).max() <= 1e-6


def test_a_background_of_sentences():
    model, x = reader(), sentences()
    background = np.array([[1, 2, 3, 4, 5], [8, 7, 6, 5, 4], [2, 2, 2, 2, 2]])
    found = libxai.explain(model, x, "exact_shap", target=1, background={"ids": background})
    mean = np.zeros(5)
    for row in background:  # the game is the mean of games, and Shapley values are linear
        alone = libxai.explain(model, x, "exact_shap", target=1, baseline={"ids": row[None]})
        mean += alone.values["ids"][0] / len(background)
    assert np.abs(found.values["ids"][0] - mean).max() <= 1e-6
    assert found.baseline == "'ids': a background of 3 rows; as they are: 'mask', 'types'"


def test_a_table_and_tokens():
    model, x = reader(extra=("table",)), sentences()
    x["table"] = np.array([[0.5, -1, 2], [1, 0.2, -0.7]], np.float32)
    absent = {"ids": 0, "table": 0.25}
    found = libxai.explain(model, x, "exact_shap", target=1, baseline=absent)
    for row in range(2):
        values, base = shapley(model, x, absent, row, 1)
        assert np.abs(np.concatenate([found.values[name][row] for name in absent]) - values).max() <= 1e-6
        assert abs(found.base_value[row] - base) <= 1e-6
    assert found.completeness_error.max() <= 1e-6
    assert found.warnings == []
    # Without a baseline by name tokens keep their values, and the result says so.
    table = libxai.explain(model, x, "exact_shap", target=1, baseline=0.25)
    values, _ = shapley(model, x, {"table": 0.25}, 0, 1)
    assert list(table.values) == ["table"]
    assert np.abs(table.values["table"][0] - values).max() <= 1e-6
    assert any("'ids' holds token ids and keeps its values" in each for each in table.warnings)
    # Gradients are to the table, which a reference for the tokens cannot change.
    with pytest.raises(libxai.LibXaiError, match="ids"):
        libxai.explain(model, x, "integrated_gradients", baseline=absent)


def large_ids():
    """Sum of weights of the tokens that are exactly their key, which floats do not tell from its neighbours."""
    keys = np.array([[2**24 + 1, 2**31 + 3, 2**53 + 1, 2**62 + 1]])
    nodes = [
        helper.make_node("Equal", ["ids", "keys"], ["same"]),
        helper.make_node("Cast", ["same"], ["found"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["found", "w"], ["scores"]),
    ]
    weights = {"keys": keys, "w": np.array([[1, 0], [2, 0], [4, 0], [8, 1]], np.float32)}
    return model_of(nodes, [("ids", np.int64, ["n", 4])], weights), keys


@pytest.mark.parametrize("method", [each for each in MASKING if each not in ("rise", "lime")])
def test_ids_are_never_made_floats(method):
    model, keys = large_ids()
    near = keys - 1  # rounds to the same float
    assert libxai.explain(model, keys, method, target=0, baseline=near).values.tolist() == [[1, 2, 4, 8]]
    assert libxai.explain(model, near, method, target=0, baseline=keys).values.tolist() == [[-1, -2, -4, -8]]
    assert libxai.explain(model, keys, method, target=0, baseline=2**62 + 1).values.tolist() == [[1, 2, 4, 0]]
    assert libxai.explain(model, keys, method, target=0, baseline=2**24).values.tolist() == [[1, 2, 4, 8]]


def test_rise_shows_each_token_by_itself():
    model, keys = large_ids()
    found = libxai.explain(model, keys, "rise", target=0, baseline=0, samples=20000, chance=0.25)
    # E[f m_i] / p = w_i + p sum of the others
    wanted = np.array([w + 0.25 * (15 - w) for w in (1, 2, 4, 8)])
    assert np.abs(found.values[0] - wanted).max() <= 4 * found.standard_error.max()
    assert found.standard_error.max() < 0.2
    assert "tokens" in found.facts["features"]


def test_lime_of_a_sum_is_its_weights():
    model, keys = large_ids()
    found = libxai.explain(model, keys, "lime", target=0, baseline=0, alpha=0, samples=200)
    assert np.abs(found.values - [[1, 2, 4, 8]]).max() <= 1e-5


def test_permutation_and_partition_are_complete():
    model, x = reader(), sentences()
    for method in ("permutation_shap", "partition_shap", "sampling_shap"):
        found = libxai.explain(model, x, method, target=1, baseline=0)
        total = found.values["ids"].sum(1, dtype=np.float64)
        assert np.abs(total - (found.score - found.base_value)).max() <= 1e-6
        assert found.completeness_error.max() <= 1e-6


@pytest.mark.parametrize("method", MASKING)
def test_absence_must_be_named(method):
    model, x = reader(), sentences()
    with pytest.raises(libxai.LibXaiError, match=r"input 'ids'.*integers.*id of .MASK. or .PAD."):
        libxai.explain(model, x, method, target=1)


@pytest.mark.parametrize(
    ("absent", "match"),
    [
        (9, "'ids'.*id 9 is not in the table 'words' of 9 rows"),
        (-10, "'ids'.*id -10 is not in the table 'words' of 9 rows"),
        (0.5, "'ids'.*0.5 is not an integer of type int64"),
        ("mean", "'ids'.*'mean'"),
        ({"ids": [[0, 1, 2, 3, 99]]}, "'ids'.*id 99 at .0, 4."),
        ({"ids": [[0, 1]]}, "'ids'.*rows"),
        ({"ids": 0.5}, "'ids'.*int64"),
        ({"ids": np.zeros((3, 5), np.int64)}, "3 rows for 2 rows of input 'ids'"),
        ({"words": 0}, "no input 'words'"),
    ],
)
def test_wrong_baselines(absent, match):
    model, x = reader(), sentences()
    with pytest.raises(libxai.LibXaiError, match=match):
        libxai.explain(model, x, "feature_ablation", target=1, baseline=absent)


def test_ids_that_do_not_fit_the_type():
    model, x = reader(np.uint8), sentences(np.uint8)
    for absent in (256, -1):
        with pytest.raises(libxai.LibXaiError, match=f"{absent} is not an integer of type uint8"):
            libxai.explain(model, x, "feature_ablation", baseline=absent)


def test_unknown_ids_are_told_by_input_and_place():
    model, x = reader(), sentences()
    x["ids"][1, 2] = 9
    for call in (
        lambda: model(x),
        lambda: libxai.explain(model, x, "exact_shap", baseline=0),
        lambda: libxai.explain(model, x, "saliency", layer="c"),
    ):
        with pytest.raises(libxai.LibXaiError, match=r"input 'ids'.*id 9 at \(1, 2\).*'words' of 9 rows"):
            call()
    x["ids"][1, 2] = -9  # from the end, as ONNX has it
    assert np.isfinite(model(x)).all()
    with pytest.raises(libxai.LibXaiError, match="int64"):
        libxai.explain(model, {**x, "ids": x["ids"].astype(np.float32)}, "exact_shap", baseline=0)


def test_which_input_must_be_clear():
    nodes = [
        helper.make_node("Equal", ["a", "b"], ["same"]),
        helper.make_node("Cast", ["same"], ["found"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["found", "w"], ["scores"]),
    ]
    inputs = [("a", np.int64, ["n", 3]), ("b", np.int64, ["n", 3])]
    model = model_of(nodes, inputs, {"w": np.array([[1, 0], [2, 0], [4, 0]], np.float32)})
    x = {"a": np.array([[5, 6, 7]]), "b": np.array([[5, 6, 8]])}
    with pytest.raises(libxai.LibXaiError, match="not clear which"):
        libxai.explain(model, x, "feature_ablation", target=0, baseline=0)
    found = libxai.explain(model, x, "feature_ablation", target=0, baseline={"b": 7})
    assert found.values["b"].tolist() == [[1, 2, -4]]


@pytest.mark.parametrize("method", GRADIENTS)
def test_gradients_of_ids_point_to_masking_and_to_the_embedding(method):
    model, x = reader(), sentences()
    with pytest.raises(libxai.LibXaiError, match=r"no gradient.*kernel_shap.*option layer"):
        libxai.explain(model, x, method, target=1)


def test_gradients_of_the_embedding():
    model, x = reader(), sentences()
    steps = libxai.explain(model, x, "integrated_gradients", target=1, layer="a", baseline=0, steps=64)
    assert steps.values.shape == (2, 5, 6)
    assert steps.completeness_error.max() <= 1e-5
    base = model({**x, "ids": np.zeros_like(x["ids"])})[:, 1]
    assert np.abs(steps.base_value - base).max() <= 1e-6
    slope = libxai.explain(model, x, "saliency", target=1, layer="a")
    assert np.abs(slope.values - np.abs(model.gradient(x, 1, wrt="a"))).max() <= 1e-6
    with pytest.raises(libxai.LibXaiError, match=r"input 'ids'.*integers"):
        libxai.explain(model, x, "integrated_gradients", target=1, layer="a")


def test_reference_rows_keep_what_is_not_masked():
    """With a background the layer's reference values depend on the mask of each row."""
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["a"]),
        helper.make_node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["a", "m"], ["layer"]),
        helper.make_node("Mul", ["layer", "layer"], ["square"]),
        helper.make_node("MatMul", ["square", "w"], ["scores"]),
    ]
    weights = {"words": np.array([1, 2, 3, 4], np.float32), "w": np.array([[1, 0], [2, 1]], np.float32)}
    inputs = [("ids", np.int64, ["n", 2]), ("mask", np.int64, ["n", 2])]
    model = model_of(nodes, inputs, weights)
    x = {"ids": np.array([[3, 2], [3, 2]]), "mask": np.array([[1, 1], [1, 0]])}
    found = libxai.explain(model, x, "gradient_shap", target=0, layer="layer", background={"ids": [[0, 0]]}, samples=64)
    assert np.abs(found.values - [[16 - 1, 2 * (9 - 1)], [16 - 1, 0]]).max() <= 1e-3
    assert np.abs(found.base_value - [3, 1]).max() <= 1e-6
