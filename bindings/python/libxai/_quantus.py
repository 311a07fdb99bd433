"""The `explain_func` of Quantus."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from ._errors import UnsupportedError
from ._explainer import explain
from ._model import Model
from .captum_style import model_of

_exported: weakref.WeakKeyDictionary[Any, tuple[bytes, Model]] = weakref.WeakKeyDictionary()
# What Quantus passes besides: nothing that a method knows.
_IGNORED = ("device", "softmax", "channel_first", "normalise", "img_size", "nr_channels")


def _state(module: Any) -> bytes:
    """Hash the weights: Quantus's randomisation tests change them between calls."""
    import hashlib

    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.digest()


def _model(module: Any, inputs: np.ndarray) -> Model:
    if isinstance(module, Model):
        return module
    import torch

    state = _state(module)
    known = _exported.get(module)
    if known is None or known[0] != state:
        example = torch.from_numpy(inputs[:1]).to(next(module.parameters()).dtype)
        known = _exported[module] = (state, model_of(module, example))
    return known[1]


def quantus_explain(
    model: Any,
    inputs: Any,
    targets: Any,
    *,
    method: str = "gradcam",
    libxai_model: Model | None = None,
    **options: Any,
) -> np.ndarray:
    """Explain a batch, as Quantus's metrics call their `explain_func`.

    Parameters
    ----------
    model : torch.nn.Module or Model
        Exported when it is a module; again when its weights have changed.
    inputs : array (N, C, H, W)
    targets : array (N,) of int
    method : str
    libxai_model : Model, optional
        Explained instead of `model`.
    **options
        As for :func:`libxai.explain`.

    Returns
    -------
    array
        Attributions shaped like the inputs; (N, 1, H, W) for methods that give maps.

    Examples
    --------
    >>> metric = quantus.Sparseness()
    >>> metric(model=module, x_batch=x, y_batch=y, explain_func=libxai.quantus_explain,
    ...        explain_func_kwargs={"method": "gradcam"})
    """
    arrays = np.ascontiguousarray(np.asarray(inputs, np.float32))
    own = {name: value for name, value in options.items() if name not in _IGNORED}
    chosen = libxai_model if libxai_model is not None else _model(model, arrays)
    rows = [int(each) for each in np.ravel(targets)]
    found = explain(chosen, arrays, method, rows, **own)
    if not found.layer and not isinstance(found.values, dict):
        return np.asarray(found.values)
    if found.map is None:
        raise UnsupportedError(f"'{method}' gives no map of this input", "quantus_explain")
    return np.asarray(found.map[:, None])
