"""Models out of PyTorch, Keras and scikit-learn; each is imported when its function is called."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._errors import ArgumentError, NumericError, UnsupportedError, WrongTypeError
from ._model import Model
from ._tensors import as_numpy

TOLERANCE = 1e-3  # of the largest score: more is no rounding, but another function


def need(name: str, what: str) -> Any:
    """Import a package or say how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"{what} needs the package {name}, which is not installed: pip install {name}"
        raise UnsupportedError(message, what) from error


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def with_card(data: bytes, card: Mapping[str, str]) -> bytes:
    """Append metadata to the bytes of an ONNX model (ModelProto.metadata_props, field 14)."""

    def field(number: int, value: bytes) -> bytes:
        return _varint(number << 3 | 2) + _varint(len(value)) + value

    for key, value in card.items():
        pair = field(1, str(key).encode()) + field(2, str(value).encode())
        data += field(14, pair)
    return data


def _card(labels: Sequence[str] | None, card: Mapping[str, Any] | None) -> dict[str, str]:
    made = {}
    for key, value in (card or {}).items():
        name = key if key.startswith("xai.") else f"xai.{key}"
        made[name] = value if isinstance(value, str) else json.dumps(value)
    if labels is not None:
        made["xai.labels"] = json.dumps([str(each) for each in labels])
    return made


def _compare(model: Model, inputs: Sequence[np.ndarray], expected: Sequence[Any], who: str) -> None:
    """Refuse a model whose scores are not those of what it was made from."""
    named = dict(zip((each.name for each in model.inputs), inputs))
    found = model(named)
    found = found if isinstance(found, tuple) else (found,)
    for info, ours, theirs in zip(model.outputs, found, expected):
        theirs = as_numpy(theirs)
        if ours.shape != theirs.shape:
            raise NumericError(
                f"output '{info.name}' has the shape {ours.shape}, but {theirs.shape} in {who}", who
            )
        scale = float(np.abs(theirs).max(initial=0)) or 1.0
        difference = float(np.abs(ours - theirs.astype(np.float64)).max(initial=0)) / scale
        if not difference <= TOLERANCE:
            raise NumericError(
                f"output '{info.name}' differs from {who} by {difference:.2g} of its largest "
                "value: the export does not compute the same function",
                who,
            )


def _argument_names(module: Any, count: int) -> list[str]:
    """Names of the inputs as the module's forward() calls them."""
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    return plain[:count] if len(plain) >= count else [f"input_{i}" for i in range(count)]


def from_torch(
    module: Any,
    example: Any,
    *,
    labels: Sequence[str] | None = None,
    card: Mapping[str, Any] | None = None,
    dynamic_batch: bool = True,
    opset: int = 17,
    **settings: Any,
) -> Model:
    """Export a PyTorch module and load it.

    The module is exported in evaluation mode (and left as it was) and the scores of `example`
    are compared with PyTorch's.

    Parameters
    ----------
    module : torch.nn.Module
    example : tensor or tuple of tensors
        Inputs that the module takes, with the row axis.
    labels : list of str, optional
        Names of the scores.
    card : dict, optional
        More of the model card: ``{"input.mean": 0.5, "output.score": "logit-sigmoid"}``.
    dynamic_batch : bool
        Leave the number of rows free.
    opset : int
    **settings
        As for :class:`Model`.

    Raises
    ------
    NumericError
        When the exported model does not give PyTorch's scores.
    UnsupportedError
        Without PyTorch, or when an operator is unknown.
    """
    torch = need("torch", "from_torch")
    if not isinstance(module, torch.nn.Module):
        raise WrongTypeError(
            f"module: a torch.nn.Module is needed, not {type(module).__name__}", "module"
        )
    inputs = tuple(example) if isinstance(example, (tuple, list)) else (example,)
    if not inputs or not all(isinstance(each, torch.Tensor) for each in inputs):
        raise WrongTypeError("example: a tensor or a tuple of tensors is needed", "example")
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            scores = module(*inputs)
            expected = list(scores) if isinstance(scores, (tuple, list)) else [scores]
            names = _argument_names(module, len(inputs))
            outputs = (
                ["scores"] if len(expected) == 1 else [f"scores_{i}" for i in range(len(expected))]
            )
            pairs = [*zip(names, inputs), *zip(outputs, expected)]
            axes = {name: {0: "batch"} for name, each in pairs if each.ndim > 0}
            file = io.BytesIO()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                torch.onnx.export(
                    module,
                    inputs,
                    file,
                    input_names=names,
                    output_names=outputs,
                    opset_version=opset,
                    dynamic_axes=axes if dynamic_batch else None,
                    dynamo=False,
                )
    finally:
        for each, mode in modes:
            each.training = mode
    model = Model(with_card(file.getvalue(), _card(labels, card)), **settings)
    _compare(model, [as_numpy(each) for each in inputs], expected, "PyTorch")
    return model


def from_keras(
    model: Any,
    *,
    example: Any = None,
    labels: Sequence[str] | None = None,
    card: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Model:
    """Export a Keras model and load it.

    Keras 3.8 and newer export by themselves; older ones (tf.keras) need tf2onnx. Images of Keras
    are (N, H, W, C) unless the model says otherwise; they stay so.

    Parameters
    ----------
    model : keras.Model
    example : array, or list of arrays, optional
        Inputs on which the scores are compared with Keras; random numbers by default where all
        sizes but that of the row axis are known. Subclassed models need them.
    labels, card, **settings
        As for :func:`from_torch`.
    """
    if not hasattr(model, "predict") or not hasattr(model, "layers"):
        raise WrongTypeError(f"model: a keras.Model is needed, not {type(model).__name__}", "model")
    if example is None and not getattr(model, "inputs", None):
        raise ArgumentError(
            f"model: {type(model).__name__} does not say what its inputs are: give an example",
            "model",
        )
    inputs = _keras_inputs(model, example)
    expected: list[Any] = []
    if (
        inputs is not None
    ):  # called before the export, because Keras exports no model that never was
        scores = model(inputs if len(inputs) > 1 else inputs[0], training=False)
        expected = list(scores) if isinstance(scores, (tuple, list)) else [scores]
    with tempfile.TemporaryDirectory(prefix="libxai-") as folder:
        path = Path(folder) / "model.onnx"
        try:
            model.export(str(path), format="onnx", verbose=False)
        except (TypeError, AttributeError):  # tf.keras, or Keras before 3.8
            converter = need("tf2onnx", "from_keras")
            converter.convert.from_keras(model, output_path=str(path))
        data = path.read_bytes()
    made = Model(with_card(data, _card(labels, card)), **settings)
    if inputs is not None:
        _compare(made, inputs, expected, "Keras")
    return made


def _keras_inputs(model: Any, example: Any) -> list[np.ndarray] | None:
    if example is not None:
        given = example if isinstance(example, (tuple, list)) else [example]
        return [as_numpy(each) for each in given]
    rng = np.random.default_rng(0)
    made = []
    for each in model.inputs:
        sizes = [2, *each.shape[1:]]
        if any(size is None for size in sizes):
            return None
        made.append(rng.standard_normal(sizes).astype(str(getattr(each, "dtype", "float32"))))
    return made


def from_sklearn(
    estimator: Any,
    example: Any = None,
    *,
    labels: Sequence[str] | None = None,
    card: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Model:
    """Convert a fitted estimator or pipeline of scikit-learn with skl2onnx and load it.

    A classifier gives the probabilities of its classes (N, K), labelled by `classes_`; a
    regressor gives its predictions.

    Parameters
    ----------
    estimator
        Fitted, for tables of numbers.
    example : array (N, features), optional
        Rows on which the scores are compared with scikit-learn; needed where the estimator does
        not know its number of features.
    labels, card, **settings
        As for :func:`from_torch`.
    """
    converter = need("skl2onnx", "from_sklearn")
    types = importlib.import_module("skl2onnx.common.data_types")
    helpers = importlib.import_module("skl2onnx.helpers.onnx_helper")
    rows = None if example is None else np.asarray(example, np.float32)
    features = getattr(estimator, "n_features_in_", None) if rows is None else rows.shape[1]
    if features is None:
        raise ArgumentError("example: rows are needed to know the number of features", "example")
    classes = getattr(estimator, "classes_", None)
    options = None if classes is None else {id(estimator): {"zipmap": False}}
    kinds = [("input", types.FloatTensorType([None, int(features)]))]
    try:
        proto = converter.convert_sklearn(estimator, initial_types=kinds, options=options)
    except Exception as error:  # of many kinds: unfitted, unknown, of text
        raise UnsupportedError(
            f"skl2onnx cannot convert {type(estimator).__name__}: {error}", "from_sklearn"
        ) from error
    facts = dict(card or {})
    if classes is not None:
        wanted = [each.name for each in proto.graph.output][-1]
        proto = helpers.select_model_inputs_outputs(proto, outputs=[wanted])
        facts.setdefault("output.score", "probability")
        labels = labels if labels is not None else [str(each) for each in classes]
    made = Model(with_card(proto.SerializeToString(), _card(labels, facts)), **settings)
    if rows is None:
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((8, int(features))).astype(np.float32)
    expected = estimator.predict(rows) if classes is None else estimator.predict_proba(rows)
    shape = (len(rows), -1)
    _compare(made, [rows], [np.asarray(expected).reshape(shape)], "scikit-learn")
    return made
