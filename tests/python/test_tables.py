"""Models of tables (ai.onnx.ml) against plain Python: trees, linear models, features, what is refused."""

import libxai
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

MODES = {
    "BRANCH_LEQ": np.less_equal,
    "BRANCH_LT": np.less,
    "BRANCH_GTE": np.greater_equal,
    "BRANCH_GT": np.greater,
    "BRANCH_EQ": np.equal,
    "BRANCH_NEQ": np.not_equal,
}


def table_model(nodes, outputs, features=4, initializers=()):
    """Bytes of a model of rows of features; outputs are (name, type) or value infos."""
    infos = [helper.make_tensor_value_info(*each, None) if isinstance(each, tuple) else each for each in outputs]
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", features])],
        infos,
        list(initializers),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def ml(op, outputs, inputs=("x",), **attributes):
    return helper.make_node(op, list(inputs), outputs, domain="ai.onnx.ml", name=op.lower(), **attributes)


class Forest:
    """Random trees as attributes of the ONNX operators, and as a walk over dictionaries."""

    def __init__(self, seed, trees=5, depth=4, outputs=2, modes=tuple(MODES), features=4):
        self.rng, self.outputs, self.modes, self.features = np.random.default_rng(seed), outputs, modes, features
        self.nodes, self.leaves, self.roots = [], [], []
        for tree in range(trees):
            self.roots.append(self.grow(tree, depth))

    def grow(self, tree, depth):
        index = sum(each["tree"] == tree for each in self.nodes)
        node = {"tree": tree, "id": index, "mode": "LEAF", "feature": 0, "value": 0.0, "missing": 0, "yes": 0, "no": 0}
        self.nodes.append(node)
        if depth == 0 or (depth < 3 and self.rng.random() < 0.2):
            node["weights"] = {k: np.float32(self.rng.normal()) for k in range(self.outputs) if self.rng.random() < 0.8}
            for k, weight in node["weights"].items():
                self.leaves.append((tree, index, k, weight))
            return node
        node["mode"] = str(self.rng.choice(self.modes))
        node["feature"] = int(self.rng.integers(self.features))
        node["value"] = np.float32(self.rng.integers(-2, 3) / 2)
        node["missing"] = int(self.rng.random() < 0.5)
        node["children"] = [self.grow(tree, depth - 1) for _ in range(2)]
        node["yes"], node["no"] = (child["id"] for child in node["children"])
        return node

    def attributes(self, kind="target", order=None):
        nodes = [self.nodes[i] for i in (order if order is not None else range(len(self.nodes)))]
        found = {
            "nodes_treeids": [each["tree"] for each in nodes],
            "nodes_nodeids": [each["id"] for each in nodes],
            "nodes_featureids": [each["feature"] for each in nodes],
            "nodes_values": [float(each["value"]) for each in nodes],
            "nodes_modes": [each["mode"] for each in nodes],
            "nodes_truenodeids": [each["yes"] for each in nodes],
            "nodes_falsenodeids": [each["no"] for each in nodes],
            "nodes_missing_value_tracks_true": [each["missing"] for each in nodes],
        }
        for position, end in enumerate(("treeids", "nodeids", "ids", "weights")):
            values = [leaf[position] for leaf in self.leaves]
            found[f"{kind}_{end}"] = [float(v) for v in values] if end == "weights" else values
        return found

    def scores(self, x, aggregate="SUM"):
        rows = []
        for row in x:
            found = [[] for _ in range(self.outputs)]
            for node in self.roots:
                while node["mode"] != "LEAF":
                    value = row[node["feature"]]
                    yes = MODES[node["mode"]](value, node["value"]) or (np.isnan(value) and node["missing"])
                    node = node["children"][0 if yes else 1]
                for k, weight in node["weights"].items():
                    found[k].append(float(weight))
            reduce = {"SUM": sum, "MIN": min, "MAX": max, "AVERAGE": lambda v: sum(v) / len(self.roots)}[aggregate]
            rows.append([reduce(each) if each else 0.0 for each in found])
        return np.array(rows)


def table(rows=60, features=4, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.integers(-5, 6, (rows, features)) / 4).astype(np.float32)
    x[rng.random(x.shape) < missing] = np.nan
    return x


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_regressor_of_trees_with_every_mode_and_missing_values(aggregate):
    forest = Forest(1)
    node = ml(
        "TreeEnsembleRegressor",
        ["y"],
        n_targets=2,
        aggregate_function=aggregate,
        base_values=[0.5, -1.0],
        **forest.attributes(),
    )
    model = libxai.Model(table_model([node], [("y", TensorProto.FLOAT)]), allow_nonfinite=True)
    x = table(missing=0.2)
    expected = forest.scores(x, aggregate) + [0.5, -1.0]
    np.testing.assert_allclose(model(x), expected, atol=1e-6)


def test_order_of_the_nodes_does_not_matter():
    forest = Forest(2)
    x = table()
    order = np.random.default_rng(0).permutation(len(forest.nodes))
    scores = [
        libxai.Model(
            table_model(
                [ml("TreeEnsembleRegressor", ["y"], n_targets=2, **forest.attributes(order=o))],
                [("y", TensorProto.FLOAT)],
            )
        )(x)
        for o in (None, order)
    ]
    np.testing.assert_allclose(scores[0], forest.scores(x), atol=1e-6)
    np.testing.assert_allclose(scores[1], forest.scores(x), atol=1e-6)


def test_classifier_gives_class_and_probabilities_and_its_logits():
    forest = Forest(3, outputs=3)
    node = ml(
        "TreeEnsembleClassifier",
        ["label", "p"],
        classlabels_int64s=[7, 8, 9],
        post_transform="SOFTMAX",
        **forest.attributes("class"),
    )
    model = libxai.Model(table_model([node], [("label", TensorProto.INT64), ("p", TensorProto.FLOAT)]))
    x = table()
    z = forest.scores(x)
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    label, p = model(x)
    np.testing.assert_allclose(p, expected, atol=1e-6)
    assert label.dtype == np.int64 and np.array_equal(label, np.array([7, 8, 9])[z.argmax(axis=1)])
    assert model.labels == ["7", "8", "9"]


def test_labels_that_are_texts_are_left_out_of_the_outputs_and_name_the_targets():
    forest = Forest(4, outputs=3)
    node = ml(
        "TreeEnsembleClassifier",
        ["label", "p"],
        classlabels_strings=["benign", "malignant", "unclear"],
        post_transform="SOFTMAX",
        **forest.attributes("class"),
    )
    model = libxai.Model(table_model([node], [("label", TensorProto.STRING), ("p", TensorProto.FLOAT)]))
    assert [str(each) for each in model.outputs] == ["p"]
    assert model.labels == ["benign", "malignant", "unclear"]
    assert model(table()).shape == (60, 3)


def test_maps_of_probabilities_are_their_tensor():
    forest = Forest(5, outputs=3)
    nodes = [
        ml("TreeEnsembleClassifier", ["label", "p"], classlabels_int64s=[0, 1, 2], **forest.attributes("class")),
        ml("ZipMap", ["maps"], ["p"], classlabels_int64s=[0, 1, 2]),
    ]
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    outputs = [("label", TensorProto.INT64), helper.make_value_info("maps", kind)]
    model = libxai.Model(table_model(nodes, outputs))
    assert [str(each) for each in model.outputs] == ["label", "maps"]
    assert model.outputs[1].dtype == "float32"
    np.testing.assert_allclose(model(table())[1], forest.scores(table()), atol=1e-6)


@pytest.mark.parametrize("positive", [True, False])
def test_one_score_of_two_classes(positive):
    forest = Forest(6, outputs=1)
    attributes = forest.attributes("class")
    if positive:
        attributes["class_weights"] = [abs(each) / 10 for each in attributes["class_weights"]]
    node = ml(
        "TreeEnsembleClassifier",
        ["label", "p"],
        classlabels_int64s=[0, 1],
        post_transform="LOGISTIC",
        **attributes,
    )
    model = libxai.Model(table_model([node], [("label", TensorProto.INT64), ("p", TensorProto.FLOAT)]))
    weights = {(leaf[0], leaf[1]): w for leaf, w in zip(forest.leaves, attributes["class_weights"], strict=True)}
    for each in forest.nodes:
        if each["mode"] == "LEAF":
            each["weights"] = {k: weights[each["tree"], each["id"]] for k in each["weights"]}
    s = forest.scores(table())[:, 0]
    second = s if positive else 1 / (1 + np.exp(-s))
    label, p = model(table())
    np.testing.assert_allclose(p, np.stack([1 - second, second], axis=1), atol=1e-6)
    assert np.array_equal(label, (s > (0.5 if positive else 0)).astype(int))


def broken(change):
    attributes = Forest(7, trees=2, outputs=1).attributes()
    change(attributes)
    return table_model([ml("TreeEnsembleRegressor", ["y"], **attributes)], [("y", TensorProto.FLOAT)])


def first_branch(attributes):
    return next(i for i, mode in enumerate(attributes["nodes_modes"]) if mode != "LEAF")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a["nodes_values"].pop(), "nodes_values"),
        (lambda a: a["nodes_treeids"].pop(), "nodes_treeids"),
        (lambda a: a["target_weights"].pop(), "target_weights"),
        (lambda a: a["nodes_truenodeids"].__setitem__(0, 999), "node 999"),
        (lambda a: a["nodes_truenodeids"].__setitem__(0, 0), "root"),
        (lambda a: a["nodes_falsenodeids"].__setitem__(0, a["nodes_truenodeids"][0]), "two ways"),
        (lambda a: a["nodes_nodeids"].__setitem__(1, 0), "two nodes with the id 0"),
        (lambda a: a["target_ids"].__setitem__(0, 5), "output 5"),
        (lambda a: a["target_nodeids"].__setitem__(0, 0), "no leaf"),
        (lambda a: a["nodes_featureids"].__setitem__(first_branch(a), -1), "feature -1"),
        (lambda a: a["nodes_featureids"].__setitem__(first_branch(a), 4), "feature 4"),
        (lambda a: a["nodes_modes"].__setitem__(0, "BRANCH_ODD"), "BRANCH_ODD"),
    ],
)
def test_a_broken_tree_is_an_error_that_says_what_is_wrong(change, message):
    with pytest.raises(libxai.LibXaiError, match=message):
        libxai.Model(broken(change))(table())


def test_a_ring_of_nodes_is_an_error():
    def ring(a):
        branches = [i for i, mode in enumerate(a["nodes_modes"]) if mode != "LEAF" and a["nodes_treeids"][i] == 0]
        a["nodes_truenodeids"][branches[-1]] = a["nodes_nodeids"][branches[1]]

    with pytest.raises(libxai.LibXaiError, match="tree 0"):
        libxai.Model(broken(ring))(table())


def test_linear_classifier_has_probabilities_logits_and_gradients():
    rng = np.random.default_rng(8)
    w, b = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    nodes = [
        ml("Scaler", ["scaled"], offset=[0.1, 0.2, 0.3, 0.4], scale=[1.0, 2.0, 0.5, 4.0]),
        ml(
            "LinearClassifier",
            ["label", "raw"],
            ["scaled"],
            classlabels_ints=[0, 1, 2],
            coefficients=[float(v) for v in w.ravel()],
            intercepts=[float(v) for v in b],
            post_transform="SOFTMAX",
        ),
        ml("Normalizer", ["p"], ["raw"], norm="L1"),
    ]
    model = libxai.Model(table_model(nodes, [("label", TensorProto.INT64), ("p", TensorProto.FLOAT)]))
    x = table()
    scale = np.array([1.0, 2.0, 0.5, 4.0])
    z = (x - [0.1, 0.2, 0.3, 0.4]) * scale @ w.T + b
    label, p = model(x)
    np.testing.assert_allclose(p, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), atol=2e-6)
    assert np.array_equal(label, z.argmax(axis=1))
    np.testing.assert_allclose(model.gradient(x, target=1, score="logit"), np.tile(w[1] * scale, (60, 1)), atol=1e-5)


def test_normalizer_binarizer_imputer_vectorizer_one_hot():
    nodes = [
        ml("Imputer", ["full"], imputed_value_floats=[1.0, 2.0, 3.0, 4.0], replaced_value_float=float("nan")),
        ml("Normalizer", ["l1"], ["full"], norm="L1"),
        ml("Normalizer", ["l2"], ["full"], norm="L2"),
        ml("Normalizer", ["max"], ["full"], norm="MAX"),
        ml("Binarizer", ["binary"], ["full"], threshold=0.5),
        ml("FeatureVectorizer", ["y"], ["l1", "l2", "max", "binary"], inputdimensions=[4, 4, 4, 4]),
        ml("OneHotEncoder", ["hot"], ["full"], cats_int64s=[0, 1, 2]),
    ]
    outputs = [("y", TensorProto.FLOAT), ("hot", TensorProto.FLOAT)]
    model = libxai.Model(table_model(nodes, outputs), allow_nonfinite=True)
    x = table(missing=0.3)
    full = np.where(np.isnan(x), [1.0, 2.0, 3.0, 4.0], x)
    peak = full.max(axis=1, keepdims=True)
    norms = [np.abs(full).sum(axis=1, keepdims=True), np.sqrt((full**2).sum(axis=1, keepdims=True)), peak]
    parts = [full / np.where(norm == 0, 1, norm) for norm in norms]
    y, hot = model(x)
    np.testing.assert_allclose(y, np.concatenate([*parts, full > 0.5], axis=1), atol=1e-6)
    assert np.array_equal(hot, np.trunc(full)[..., None] == [0, 1, 2])


def test_label_encoder_and_columns():
    nodes = [
        ml("ArrayFeatureExtractor", ["columns"], ["x", "which"]),
        ml("LabelEncoder", ["y"], ["columns"], keys_floats=[0.25, 1.0], values_floats=[10.0, 20.0], default_float=-1.0),
    ]
    which = numpy_helper.from_array(np.array([2, 0]), "which")
    model = libxai.Model(table_model(nodes, [("y", TensorProto.FLOAT)], initializers=[which]))
    x = table()[:, [2, 0]]
    assert np.array_equal(model(table()), np.select([x == 0.25, x == 1.0], [10.0, 20.0], -1.0))
