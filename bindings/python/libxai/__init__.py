"""Scores, gradients and explanations of ONNX imaging models.

>>> model = libxai.Model("chest.onnx")
>>> explanation = libxai.explain(model, image, "gradcam", target="Pneumothorax")
>>> explanation.map.shape
(1, 128, 128)
"""

from ._errors import (
    ArgumentError,
    CancelledError,
    FileError,
    FormatError,
    InternalError,
    LibXaiError,
    MemoryLimitError,
    NotFoundError,
    NumericError,
    ShapeError,
    UnsupportedError,
    WrongTypeError,
)
from ._explainer import Explainer, explain, method_options, methods
from ._explanation import Explanation
from ._frameworks import from_keras, from_sklearn, from_torch
from ._library import abi_version, math_library, version
from ._localisation import localisation
from ._model import Layer, Model, ValueInfo
from ._plot import plot
from ._quantus import quantus_explain

__version__ = version()

__all__ = [
    "ArgumentError",
    "CancelledError",
    "Explainer",
    "Explanation",
    "FileError",
    "FormatError",
    "InternalError",
    "Layer",
    "LibXaiError",
    "MemoryLimitError",
    "Model",
    "NotFoundError",
    "NumericError",
    "ShapeError",
    "UnsupportedError",
    "ValueInfo",
    "WrongTypeError",
    "abi_version",
    "explain",
    "from_keras",
    "from_sklearn",
    "from_torch",
    "localisation",
    "math_library",
    "method_options",
    "methods",
    "plot",
    "quantus_explain",
    "version",
]
