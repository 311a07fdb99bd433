"""Scores, gradients and explanations of ONNX imaging models.

>>> model = libxai.Model("chest.onnx")
>>> explanation = libxai.explain(model, image, "gradcam", target="Pneumothorax")
>>> explanation.map.shape
(1, 128, 128)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from ._library import abi_version, math_library, version
from ._model import Layer, Model, ValueInfo

if TYPE_CHECKING:
    from ._frameworks import from_keras, from_sklearn, from_torch
    from ._localisation import localisation
    from ._plot import plot
    from ._quantus import quantus_explain

__version__ = version()

# Imported when they are first asked for: a process that explains needs none of them, and each
# brings modules of its own.
_LATER = {
    "captum_style": "captum_style",
    "from_keras": "_frameworks",
    "from_sklearn": "_frameworks",
    "from_torch": "_frameworks",
    "localisation": "_localisation",
    "plot": "_plot",
    "quantus_explain": "_quantus",
}

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


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_LATER[name]}", __name__)
    found = module if name == _LATER[name] else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LATER})
