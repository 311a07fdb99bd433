"""Explanations for the plots of the package shap, which is imported when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._errors import UnsupportedError
from ._frameworks import need
from ._picture import channels_axis

if TYPE_CHECKING:
    from ._explanation import Explanation


def to_shap(explanation: Explanation, names: Sequence[str] | None) -> Any:
    """Make a ``shap.Explanation``: see :meth:`Explanation.to_shap`."""
    shap = need("shap", "to_shap")
    values = explanation.values
    if isinstance(values, dict):
        raise UnsupportedError("the model has several inputs", "to_shap")
    data = explanation._inputs[0][0] if explanation._single else explanation._inputs[0]
    if explanation.layer or values.shape != data.shape:
        raise UnsupportedError(f"'{explanation.method}' does not attribute to the input", "to_shap")
    rows = 0 if explanation._single else 1
    # (..., C, H, W): the plots take (..., H, W, C)
    if values.ndim == 3 + rows and channels_axis(values.shape[rows:]) != 2:
        values, data = np.moveaxis(values, rows, -1), np.moveaxis(data, rows, -1)
    return shap.Explanation(
        values=values,
        base_values=explanation.base_value,
        data=data,
        feature_names=None if names is None else list(names),
    )
