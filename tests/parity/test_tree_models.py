"""Tree models of scikit-learn, LightGBM and XGBoost against ONNX Runtime and SHAP (made by make_tables.py)."""

import functools
import itertools
import math
import pathlib

import libxai
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).resolve().parent / "tables"
NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))
TWO = [name for name in NAMES if "two_classes" in name]
# Leaves are float32 in ONNX and double in LightGBM and scikit-learn.
LIMIT = 1e-6


@functools.cache
def reference(name):
    return dict(np.load(FOLDER / f"{name}.npz"))


@functools.cache
def model(name):
    return libxai.Model(FOLDER / f"{name}.onnx", allow_nonfinite=True, threads=2)


def scores(name, x):
    outputs = model(name)(x)
    return outputs[-1] if isinstance(outputs, tuple) else outputs


def boosted(name):
    """Whether the scores have an activation, so that the margin is the logit."""
    return "classes" in name and not name.startswith("forest")


def explain(name, target, **options):
    known = reference(name)
    if name != "covers":
        options.setdefault("background", known["background"])
    options.setdefault("score", "logit" if boosted(name) else "raw")
    return libxai.explain(model(name), known["x"], "tree_shap", target=target, **options)


def close(found, wanted, limit=LIMIT):
    return np.abs(found - wanted).max() <= limit * max(1, np.abs(wanted).max())


def test_models_are_there():
    assert len(NAMES) >= 14 and len(TWO) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_scores(name):
    known = reference(name)
    assert close(scores(name, known["x"]), known["scores"])


@pytest.mark.parametrize("name", NAMES)
def test_shapley_values_are_those_of_shap(name):
    known = reference(name)
    outputs = known["values"].shape[2]
    for k in range(outputs):
        found = explain(name, 1 if name in TWO else k)
        assert close(found.values, known["values"][..., k])
        assert np.max(found.completeness_error) <= 2e-6 * max(1, np.abs(found.score).max())
        if name != "xgboost_three_classes":  # shap's expected value leaves the base scores out
            assert close(found.base_value, known["base"][k])


@pytest.mark.parametrize("name", TWO)
def test_probabilities_are_those_of_shap(name):
    known = reference(name)
    for score in ("probability", "raw"):
        found = explain(name, 1, score=score)
        assert close(found.values, known["probability_values"][..., 0])
        assert close(found.base_value, known["probability_base"][0])
    assert close(explain(name, 0, score="probability").values, -known["probability_values"][..., 0])


def test_interactions_are_those_of_shap():
    known = reference("covers")
    found = explain("covers", 0, interactions=1)
    assert found.baseline == "both ways of a test, by the shares of the training rows"
    assert close(found.interactions, known["interactions"])
    assert close(found.values, known["values"][..., 0])
    assert explain("covers", 0).interactions is None


@pytest.mark.parametrize("name", ["lightgbm_missing", "extra_trees_texts", "pipeline"])
def test_interventional_values_and_interactions_by_all_subsets(name):
    """The definition, on the model itself: every subset takes the row's values, the rest the background's."""
    known = reference(name)
    x, background, target = known["x"][:2], known["background"][:5], 0
    features = x.shape[1]
    subsets = list(itertools.product([False, True], repeat=features))
    v = {}
    for subset in subsets:
        mixed = np.where(np.array(subset), x[:, None], background[None])
        found = scores(name, mixed.reshape(-1, features).astype(np.float32))[:, target]
        v[subset] = found.astype(np.float64).reshape(len(x), -1).mean(axis=1)

    def change(subset, *indices):
        terms = 0
        for flags in itertools.product([False, True], repeat=len(indices)):
            chosen = list(subset)
            for index, flag in zip(indices, flags, strict=True):
                chosen[index] = flag
            terms += (-1) ** (len(indices) - sum(flags)) * v[tuple(chosen)]
        return terms

    def weight(subset, players):
        size = sum(subset)
        return math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)

    found = libxai.explain(model(name), x, "tree_shap", target=target, background=background, interactions=1)
    for i in range(features):
        others = [subset for subset in subsets if not subset[i]]
        wanted = sum(weight(subset, features) * change(subset, i) for subset in others)
        assert close(found.values[:, i], wanted)
        for j in range(i):
            pairs = sum(weight(subset, features - 1) * change(subset, i, j) for subset in others if not subset[j])
            assert close(found.interactions[:, i, j], pairs / 2)
            assert close(found.interactions[:, j, i], pairs / 2)


def test_rows_threads_and_company_do_not_change_the_bits():
    known = reference("forest_three_classes")
    whole = explain("forest_three_classes", 2).values
    one = libxai.Model(FOLDER / "forest_three_classes.onnx", threads=1)
    alone = [
        libxai.explain(one, row[None], "tree_shap", target=2, background=known["background"]).values
        for row in known["x"]
    ]
    assert np.array_equal(whole, np.concatenate(alone))


def test_labels_and_highest_score_as_targets():
    known = reference("extra_trees_texts")
    assert model("extra_trees_texts").labels == ["benign", "malignant", "unclear"]
    found = libxai.explain(model("extra_trees_texts"), known["x"], "tree_shap", background=known["background"])
    best = known["scores"].argmax(axis=1)
    assert found.target.tolist() == best.tolist()
    rows = np.arange(len(best))
    assert close(found.values, known["values"][rows, :, best])
    named = explain("extra_trees_texts", "malignant")
    assert close(named.values, known["values"][..., 1])


def test_several_targets_and_path_dependent_values_counted_on_the_background():
    known = reference("lightgbm_regressor")
    explainer = libxai.Explainer(
        model("lightgbm_regressor"),
        "tree_shap",
        background=known["background"],
        feature_perturbation="tree_path_dependent",
    )
    found = explainer(known["x"], 0)
    assert np.max(found.completeness_error) <= 1e-6 * np.abs(found.score).max()
    assert found.baseline == "both ways of a test, by the shares of the background rows"
    assert not close(found.values, known["values"][..., 0], 1e-3)


def test_what_has_no_shapley_values_of_trees_is_refused():
    x, background = reference("lightgbm_three_classes")["x"], reference("lightgbm_three_classes")["background"]
    with pytest.raises(libxai.UnsupportedError, match="logit"):
        libxai.explain(model("lightgbm_three_classes"), x, "tree_shap", target=0, background=background)
    with pytest.raises(libxai.LibXaiError, match="background"):
        libxai.explain(model("lightgbm_regressor"), x, "tree_shap", target=0)
    with pytest.raises(libxai.UnsupportedError, match="logit"):
        libxai.explain(
            model("lightgbm_two_classes"),
            x,
            "tree_shap",
            target=0,
            background=background,
            feature_perturbation="tree_path_dependent",
        )
    with pytest.raises(libxai.LibXaiError):
        libxai.explain(model("lightgbm_regressor"), x, "tree_shap", target=0, background=background[:, :4])


def test_another_network_is_refused():
    folder = FOLDER.parent / "models"
    network = libxai.Model(folder / "signal.onnx")
    x = dict(np.load(folder / "signal.npz"))["image"]
    with pytest.raises(libxai.UnsupportedError, match="kernel_shap"):
        libxai.explain(network, x, "tree_shap", background=x)
