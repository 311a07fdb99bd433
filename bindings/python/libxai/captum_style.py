"""Methods called as Captum's are: ``IntegratedGradients(model).attribute(inputs, target)``.

The model is a libxai.Model, or a PyTorch module, which is exported with the first inputs. What
goes in as a torch tensor comes out as one; arrays give arrays. The numbers are those of
:func:`libxai.explain`.

>>> from libxai.captum_style import IntegratedGradients
>>> attributions, delta = IntegratedGradients(module).attribute(
...     x, target=3, n_steps=50, return_convergence_delta=True
... )
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._errors import ArgumentError, UnsupportedError
from ._explainer import Explainer
from ._frameworks import from_torch
from ._model import Model
from ._tensors import as_numpy

# Captum's names of arguments, and the options that they are here.
_OPTIONS = {"n_steps": "steps", "n_samples": "samples", "feature_mask": "segments"}


def model_of(module: Any, inputs: Any) -> Model:
    """Return the model itself, or export a PyTorch module with inputs."""
    if isinstance(module, Model):
        return module
    return from_torch(module, inputs)


class Attribution:
    """One method of libxai with Captum's `attribute`.

    Parameters
    ----------
    model : Model or torch.nn.Module
    method : str
        A name of :func:`libxai.methods`.
    baselines_are : {"baseline", "background"}
        The option that `baselines` of :meth:`attribute` becomes.
    **options
        As for :class:`libxai.Explainer`.
    """

    def __init__(
        self, model: Any, method: str, baselines_are: str = "baseline", **options: Any
    ) -> None:
        self.method = method
        self._module = model
        self._model: Model | None = model if isinstance(model, Model) else None
        self._baselines_are = baselines_are
        self._options = options

    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        *,
        baselines: Any = None,
        return_convergence_delta: bool = False,
        **options: Any,
    ) -> Any:
        """Attribute a score of each row to the inputs.

        Parameters
        ----------
        inputs : tensor or array (N, ...)
        target : int, list or tensor of int, str, optional
            One for all rows or one a row; the highest score by default.
        baselines : number, tensor or array, optional
        return_convergence_delta : bool
            Also return sum of the attributions - (score - score of the baseline), one a row.
        **options
            Options of the method; `n_steps`, `n_samples` and `feature_mask` are `steps`,
            `samples` and `segments`.

        Returns
        -------
        tensor or array shaped like `inputs`, or like the layer's map (N, 1, h, w)
        """
        if isinstance(inputs, (tuple, list)):
            raise UnsupportedError("one input is supported here: use libxai.explain", "inputs")
        if self._model is None:
            self._model = model_of(self._module, inputs)
        made = dict(self._options)
        made.update({_OPTIONS.get(name, name): value for name, value in options.items()})
        if baselines is not None:
            made[self._baselines_are] = (
                baselines if np.isscalar(baselines) else as_numpy(baselines, "baselines")
            )
        if hasattr(target, "tolist"):
            target = target.tolist()
        found = Explainer(self._model, self.method, **made)(inputs, target=target)
        values = found.values
        if isinstance(values, dict):
            raise UnsupportedError("the model has several inputs: use libxai.explain", "inputs")
        if found.layer and values.ndim == 3:
            values = values[:, None]
        result = like(values, inputs)
        if not return_convergence_delta:
            return result
        if np.isnan(found.base_value).any():
            raise ArgumentError(f"'{self.method}' has no convergence delta", "attribute")
        total = values.reshape(len(values), -1).sum(1, dtype=np.float64)
        return result, like(total - (found.score - found.base_value), inputs)


def like(array: np.ndarray, example: Any) -> Any:
    """Make a torch tensor where the example is one."""
    if type(example).__module__.partition(".")[0] != "torch":
        return array
    import torch

    return torch.from_numpy(np.array(array, order="C")).to(example.dtype)


def _named(name: str, method: str, described: str, baselines_are: str = "baseline") -> Any:
    def make(self: Attribution, model: Any, *layer: Any, **options: Any) -> None:
        if layer:
            options["layer"] = layer[0]
        Attribution.__init__(self, model, method, baselines_are, **options)

    return type(
        name, (Attribution,), {"__init__": make, "__doc__": described, "__module__": __name__}
    )


Saliency = _named("Saliency", "saliency", "Absolute gradients.")
InputXGradient = _named("InputXGradient", "input_x_gradient", "Input times gradient.")
IntegratedGradients = _named(
    "IntegratedGradients", "integrated_gradients", "Integrated gradients; `n_steps`."
)
GradientShap = _named(
    "GradientShap", "gradient_shap", "Expected gradients; `baselines` are (M, ...).", "background"
)
DeepLift = _named("DeepLift", "deeplift", "DeepLIFT, rescale rule.")
DeepLiftShap = _named(
    "DeepLiftShap", "deepshap", "DeepSHAP; `baselines` are (M, ...).", "background"
)
GuidedBackprop = _named("GuidedBackprop", "guided_backprop", "Guided backpropagation.")
Deconvolution = _named("Deconvolution", "deconvnet", "Deconvolution.")
Occlusion = _named("Occlusion", "occlusion", "Occlusion.")
KernelShap = _named("KernelShap", "kernel_shap", "Kernel SHAP; `n_samples`, `feature_mask`.")
Lime = _named("Lime", "lime", "LIME; `n_samples`, `feature_mask`.")
LRP = _named("LRP", "lrp", "Layer-wise relevance propagation.")
LayerGradCam = _named("LayerGradCam", "gradcam", "Grad-CAM of a layer named by its ONNX value.")
GuidedGradCam = _named("GuidedGradCam", "guided_gradcam", "Guided Grad-CAM.")
