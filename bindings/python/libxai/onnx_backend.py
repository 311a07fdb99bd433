"""The ONNX project's interface to run a model (``onnx.backend.base.Backend``), over libxai.

Needs the package onnx; ``import libxai`` alone does not.

>>> import onnx
>>> from libxai import onnx_backend
>>> scores = onnx_backend.prepare(onnx.load("chest.onnx")).run([image])

libxai computes the shape of every value before it runs. Where a shape hangs on the data of an
input, such as the list of axes in a test of one operator, :meth:`Representation.run` makes that
input a constant of the model and compiles it anew: integers and booleans first, then everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.backend.base import Backend, BackendRep, namedtupledict

from ._errors import ArgumentError, LibXaiError, UnsupportedError
from ._model import Model

_NEWEST_IR = 14
_TYPES = {"bool", "float16", "float32", "float64", "bfloat16"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


class Representation(BackendRep):
    """A model ready to run.

    Parameters
    ----------
    model : ModelProto
        Copied; the caller's stays as it is.
    settings : dict
        Keyword arguments of :class:`libxai.Model`.
    """

    def __init__(self, model: ModelProto, settings: Mapping[str, Any]) -> None:
        self._proto = model
        self._settings = dict(settings)
        known = {each.name for each in model.graph.initializer}
        self._inputs = [each for each in model.graph.input if each.name not in known]
        self._model = self._compile(model)

    def _compile(self, model: ModelProto) -> Model:
        return Model(model.SerializeToString(), **self._settings)

    def _frozen(self, feeds: Mapping[str, np.ndarray], integers_only: bool) -> ModelProto:
        """Copy the model with inputs made constants."""
        copy = ModelProto()
        copy.CopyFrom(self._proto)
        del copy.graph.input[:]
        for info in self._inputs:
            if integers_only and feeds[info.name].dtype.kind not in "iub":
                copy.graph.input.append(info)
            else:
                copy.graph.initializer.append(numpy_helper.from_array(feeds[info.name], info.name))
        return copy

    def _run_once(self, model: Model, feeds: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
        result = model({name: feeds[name] for name in model.inputs})
        return result if isinstance(result, tuple) else (result,)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Compute the outputs.

        Parameters
        ----------
        inputs : list or dict of arrays
            In the order of the model's inputs, or by name.

        Returns
        -------
        named tuple of arrays
            In the order of the model's outputs.
        """
        feeds = self._feeds(inputs)
        try:
            results = self._run_once(self._model, feeds)
        except LibXaiError as error:
            if not isinstance(error, UnsupportedError) or "run time" not in str(error):
                raise
            results = self._run_frozen(feeds, error)
        arrays = [_typed(*pair) for pair in zip(self._proto.graph.output, results)]
        names = [each.name for each in self._proto.graph.output]
        return namedtupledict("Outputs", names)(*arrays)

    def _run_frozen(
        self, feeds: Mapping[str, np.ndarray], reason: UnsupportedError
    ) -> tuple[Any, ...]:
        for integers_only in (True, False):
            try:
                return self._run_once(self._compile(self._frozen(feeds, integers_only)), feeds)
            except UnsupportedError as error:
                reason = error
        raise reason

    def _feeds(self, inputs: Any) -> dict[str, np.ndarray]:
        names = [each.name for each in self._inputs]
        if isinstance(inputs, Mapping):
            pairs = dict(inputs)
        elif isinstance(inputs, Sequence):
            pairs = dict(zip(names, inputs))
        else:
            pairs = {names[0]: inputs} if names else {}
        missing = [name for name in names if name not in pairs]
        if missing:
            raise ArgumentError(f"input '{missing[0]}' is missing", "inputs")
        for name in names:
            if isinstance(pairs[name], (list, tuple)) or pairs[name] is None:
                raise UnsupportedError("sequences and optional values are not supported", name)
        arrays = {name: np.asarray(pairs[name]) for name in names}
        for name, array in arrays.items():
            if array.dtype.kind in "OUS":
                raise UnsupportedError("tensors of strings are not supported", name)
            if array.dtype.name not in _TYPES:
                raise UnsupportedError(f"tensors of {array.dtype} are not supported", name)
        return arrays


def _typed(info: Any, array: np.ndarray) -> np.ndarray:
    """Give an output the type that the model declares where numpy alone has none (bfloat16)."""
    if info.type.tensor_type.elem_type != TensorProto.BFLOAT16:
        return array
    return array.astype(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))


class LibXaiBackend(Backend):
    """``onnx.backend.base.Backend`` over libxai."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Tell whether every operator, type and version of a model is supported."""
        try:
            cls.prepare(model, device, **kwargs)
        except UnsupportedError:
            return False
        return True

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> Representation:
        """Check a model and make it ready to run.

        Parameters
        ----------
        model : ModelProto
        device : str
            "CPU".
        **kwargs
            Keyword arguments of :class:`libxai.Model`; NaN and infinities pass unless told
            otherwise.

        Raises
        ------
        libxai.UnsupportedError
            Says which operator, type or version is not supported.
        """
        if not cls.supports_device(device):
            raise UnsupportedError(f"device {device}: libxai computes on the CPU only", "device")
        known = {"threads", "mode", "precision", "memory_limit", "allow_nonfinite"}
        settings = {"allow_nonfinite": True}
        settings.update((key, value) for key, value in kwargs.items() if key in known)
        return Representation(model, settings)

    @classmethod
    def run_model(
        cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Run a model once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one operator on arrays.

        Parameters
        ----------
        inputs : list of arrays
            For the node's inputs that are not omitted, in their order.
        outputs_info : list of (dtype, shape), optional
            Not needed: libxai infers them.
        **kwargs
            ``opset_version`` (the newest that onnx knows by default), and those of
            :meth:`prepare`.
        """
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        opsets = [helper.make_opsetid("", version)]
        if node.domain not in ("", "ai.onnx"):
            opsets.append(helper.make_opsetid(node.domain, kwargs.pop("domain_version", 1)))
        names = list(dict.fromkeys(name for name in node.input if name))
        arrays = [np.asarray(each) for each in inputs]
        if len(names) != len(arrays):
            raise ArgumentError(f"{len(arrays)} arrays for {len(names)} inputs", "inputs")
        graph = helper.make_graph(
            [node],
            "node",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape
                )
                for name, each in zip(names, arrays)
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = min(model.ir_version, _NEWEST_IR)
        return cls.prepare(model, device, **kwargs).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Say that there is only the CPU."""
        return device.split(":")[0].upper() == "CPU"


is_compatible = LibXaiBackend.is_compatible
prepare = LibXaiBackend.prepare
run_model = LibXaiBackend.run_model
run_node = LibXaiBackend.run_node
supports_device = LibXaiBackend.supports_device
