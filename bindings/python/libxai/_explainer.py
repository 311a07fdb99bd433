"""Explainers: a method bound to a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._errors import ArgumentError, WrongTypeError
from ._explanation import Explanation
from ._library import check, encode, ffi, lib, text
from ._model import Arrays, Model, layer_name
from ._options import Progress, SessionOptions, set_option
from ._target import make_target, score_kind


def methods() -> dict[str, str]:
    """Return the methods: name to one line of description."""
    return {
        text(lib.xai_method_name(i)): text(lib.xai_method_description(i))
        for i in range(lib.xai_method_count())
    }


def method_options(method: str) -> dict[str, tuple[str, str]]:
    """Return the options of a method: name to its default (as text) and one line on it."""
    name = encode(method, "method")
    return {
        text(lib.xai_method_option_name(name, i)): (
            text(lib.xai_method_option_default(name, i)),
            text(lib.xai_method_option_description(name, i)),
        )
        for i in range(lib.xai_method_option_count(name))
    }


class Explainer:
    """A method bound to a model, ready to explain any number of inputs.

    An explainer is used by one thread at a time.

    Parameters
    ----------
    model : Model
    method : str
        A name of :func:`methods`.
    layer : str, int or Layer, optional
        What the CAM methods explain; None = the last spatial activation before the head.
    score : {"raw", "logit", "probability"}
    scaling : {"max", "min_max"}
        How a map is scaled to [0, 1]: by its maximum, or as pytorch-grad-cam does.
    threads, mode, precision, memory_limit
        As for :class:`Model`, whose settings are the defaults.
    progress : function or True, optional
        Called as ``progress(done, total)`` in model evaluations; returning False cancels.
        True draws a bar (of tqdm where it is installed). Ctrl-C stops a call within one
        evaluation of the model.
    **options
        Options of the method, as :func:`method_options` lists them: numbers, text, arrays,
        or tuples such as ``("grid", 8)`` for "grid:8". `background` and `baseline` take
        an array, or a dict by name for a model with several inputs (`baseline` also numbers
        by name, as ``{"input_ids": 103}``). None = the default.
    """

    def __init__(
        self,
        model: Model,
        method: str,
        *,
        layer: Any = None,
        score: str = "raw",
        scaling: str = "max",
        progress: Progress | bool | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(model, Model):
            raise WrongTypeError(f"a Model is needed, not {type(model).__name__}", "model")
        name_of_method = encode(method, "method")
        known = dict(model._settings)
        own: dict[str, Any] = {}
        for option, value in options.items():
            (known if option in known else own)[option] = value
        scalings = {"max": 0, "min_max": 1}
        if not isinstance(scaling, str) or scaling not in scalings:
            raise ArgumentError(f"scaling: {scaling!r} is not one of max, min_max", "scaling")
        self.model = model
        self.method = method
        self._session_options = SessionOptions(**known, progress=progress, title=method)
        out = ffi.new("xai_explainer_options **")
        check(lib.xai_explainer_options_create, out)
        handle = ffi.gc(out[0], lib.xai_explainer_options_free)
        if layer is not None:
            name = encode(layer_name(layer), "layer")
            check(lib.xai_explainer_options_set_layer, handle, name)
        check(lib.xai_explainer_options_set_score, handle, score_kind(score))
        check(lib.xai_explainer_options_set_scaling, handle, scalings[scaling])
        check(lib.xai_explainer_options_set_session, handle, self._session_options.handle)
        for option, value in own.items():
            if value is not None:
                set_option(handle, model, option, value)
        made = ffi.new("xai_explainer **")
        check(lib.xai_explainer_create, model._handle, name_of_method, handle, made)
        self._handle = ffi.gc(made[0], lib.xai_explainer_free)

    def __repr__(self) -> str:
        return f"<libxai.Explainer {self.method} of {self.model!r}>"

    def __call__(self, x: Arrays, target: Any = None, output: str | None = None) -> Explanation:
        """Explain one target a row.

        Parameters
        ----------
        x : array or dict of arrays
            As for calling the model.
        target : int, str, tuple, list or None
            As for :meth:`Model.gradient`.
        output : str, optional
            Name of the output; the first by default.
        """
        return self.targets(x, [target], output)[0]

    def targets(
        self, x: Arrays, targets: Sequence[Any], output: str | None = None
    ) -> list[Explanation]:
        """Explain several targets of the same input: one forward pass a row for all of them."""
        inputs = self.model._prepare(x)
        if len(targets) == 0:
            raise ArgumentError("targets: an empty list", "targets")
        made = [make_target(each, output) for each in targets]
        out = ffi.new("xai_explanation *[]", len(made))
        self._session_options.run(
            lib.xai_explainer_explain_targets,
            self._handle,
            inputs.pointers,
            inputs.count,
            ffi.new("xai_target *[]", made),
            len(made),
            out,
        )
        results = [Explanation(out[i], inputs) for i in range(len(made))]
        self._session_options.reraise()
        return results


def explain(
    model: Model,
    x: Arrays,
    method: str = "gradcam",
    target: Any = None,
    *,
    output: str | None = None,
    **options: Any,
) -> Explanation:
    """Explain an input in one call.

    Parameters
    ----------
    model : Model
    x : array or dict of arrays
        (N, C, H, W), or one row without N.
    method : str
        A name of :func:`methods`.
    target : int, str, tuple, list or None
        What to explain; None = the highest score of each row.
    output : str, optional
        Name of the output; the first by default.
    **options
        As for :class:`Explainer`.
    """
    return Explainer(model, method, **options)(x, target, output)
