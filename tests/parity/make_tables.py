"""Make the small tree models of the parity tests and what ONNX Runtime and SHAP say about them: tables/NAME.*

    python tests/parity/make_tables.py [NAME...]

It needs scikit-learn, lightgbm, xgboost, skl2onnx, onnxmltools, onnxruntime and shap.

The .npz has the rows `x`, the `background`, the scores that ONNX Runtime gives (`scores`), SHAP's interventional values
(`values`, (rows, features, outputs), with `base`), of the margin before the activation where there is one, and for two
classes those of the probability (`probability_values`, `probability_base`). `covers` has the shares of training rows in
its nodes_hitrates, SHAP's path-dependent values and their interactions.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import onnxmltools
import onnxruntime
import shap
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = Path(__file__).resolve().parent / "tables"
FEATURES, ROWS, BACKGROUND = 6, 12, 20


def data() -> tuple[np.ndarray, np.ndarray]:
    x, classes = make_classification(240, FEATURES, n_informative=4, n_classes=3, random_state=0)
    return x.astype(np.float32), classes


def from_sklearn(model) -> onnx.ModelProto:
    options = {id(model): {"zipmap": True}} if hasattr(model, "predict_proba") else None
    return to_onnx(model, data()[0][:1], target_opset={"": 17, "ai.onnx.ml": 3}, options=options)


def from_lightgbm(model) -> onnx.ModelProto:
    return onnxmltools.convert_lightgbm(
        model, initial_types=[("x", FloatTensorType([None, FEATURES]))], target_opset=15, zipmap=False
    )


def from_xgboost(model) -> onnx.ModelProto:
    return onnxmltools.convert_xgboost(model, initial_types=[("x", FloatTensorType([None, FEATURES]))], target_opset=15)


LIGHT = {"n_estimators": 8, "num_leaves": 12, "verbose": -1, "min_child_samples": 8}
HARD = {"n_estimators": 8, "max_depth": 3}
FOREST = {"n_estimators": 5, "max_depth": 5, "random_state": 0}
TEXTS = np.array(["benign", "malignant", "unclear"])

# name: (model, what it learns, exporter, rows with missing values)
MODELS = {
    "lightgbm_regressor": (lightgbm.LGBMRegressor(**LIGHT), "number", from_lightgbm, False),
    "lightgbm_missing": (lightgbm.LGBMRegressor(**LIGHT), "number", from_lightgbm, True),
    "lightgbm_two_classes": (lightgbm.LGBMClassifier(**LIGHT), "two", from_lightgbm, False),
    "lightgbm_three_classes": (lightgbm.LGBMClassifier(**LIGHT), "three", from_lightgbm, False),
    "xgboost_regressor": (xgboost.XGBRegressor(**HARD), "number", from_xgboost, False),
    "xgboost_missing": (xgboost.XGBRegressor(**HARD), "number", from_xgboost, True),
    "xgboost_two_classes": (xgboost.XGBClassifier(**HARD), "two", from_xgboost, False),
    "xgboost_three_classes": (xgboost.XGBClassifier(**HARD), "three", from_xgboost, False),
    "forest_regressor": (RandomForestRegressor(**FOREST), "number", from_sklearn, False),
    "forest_three_classes": (RandomForestClassifier(**FOREST), "three", from_sklearn, False),
    "extra_trees_texts": (ExtraTreesClassifier(**FOREST), "texts", from_sklearn, False),
    "boosting_two_classes": (GradientBoostingClassifier(**HARD), "two", from_sklearn, False),
    "pipeline": (
        make_pipeline(SimpleImputer(), StandardScaler(), RandomForestRegressor(**FOREST)),
        "number",
        from_sklearn,
        True,
    ),
    "covers": (RandomForestRegressor(**FOREST), "number", from_sklearn, False),
}


def add_covers(model: onnx.ModelProto, forest: RandomForestRegressor) -> None:
    """Training rows of every node, in the order in which the exporter lists the nodes."""
    covers = np.concatenate([tree.tree_.weighted_n_node_samples for tree in forest.estimators_])
    (node,) = (each for each in model.graph.node if each.op_type == "TreeEnsembleRegressor")
    for attribute in node.attribute:
        if attribute.name == "nodes_hitrates":
            attribute.floats[:] = [float(each) for each in covers]


def shap_values(model, background, x, **options) -> tuple[np.ndarray, np.ndarray]:
    explainer = shap.TreeExplainer(model, background, **options)
    values = np.array(explainer.shap_values(x, check_additivity=False))
    if values.ndim == 2:
        values = values[..., None]
    return values, np.atleast_1d(explainer.expected_value)


def make(name: str) -> str:
    model, learns, export, missing = MODELS[name]
    x, classes = data()
    number = (x @ np.arange(FEATURES) + 3 * np.abs(x[:, 0]) + x[:, 1] * x[:, 2]).astype(np.float32)
    if missing:
        x = np.where(np.random.default_rng(0).random(x.shape) < 0.1, np.float32(np.nan), x)
    y = {"number": number, "two": (classes > 0).astype(int), "three": classes, "texts": TEXTS[classes]}[learns]
    model.fit(x, y)
    exported = export(model)
    found = {"x": x[:ROWS], "background": x[ROWS : ROWS + BACKGROUND]}
    if name == "covers":
        add_covers(exported, model)
        explainer = shap.TreeExplainer(model)
        found["values"] = explainer.shap_values(found["x"])[..., None]
        found["base"] = np.atleast_1d(explainer.expected_value)
        found["interactions"] = explainer.shap_interaction_values(found["x"])
    elif name == "pipeline":
        head = model[-1]
        rows, background = (model[:-1].transform(found[each]).astype(np.float32) for each in ("x", "background"))
        found["values"], found["base"] = shap_values(head, background, rows)
    else:
        found["values"], found["base"] = shap_values(model, found["background"], found["x"])
    if learns == "two":
        found["probability_values"], found["probability_base"] = shap_values(
            model, found["background"], found["x"], model_output="probability"
        )
    onnx.save(exported, FOLDER / f"{name}.onnx")
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    scores = session.run(None, {session.get_inputs()[0].name: found["x"]})[-1]
    if isinstance(scores, list):  # of maps from class to probability
        scores = np.array([list(each.values()) for each in scores])
    np.savez_compressed(FOLDER / f"{name}.npz", scores=scores, **found)
    return f"{name}: {(FOLDER / f'{name}.onnx').stat().st_size} bytes, values {found['values'].shape}"


def main() -> None:
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or MODELS:
        print(make(name), flush=True)


if __name__ == "__main__":
    main()
