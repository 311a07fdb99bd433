"""Models: scores, gradients, facts."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, Union

import numpy as np

from ._errors import ArgumentError, NotFoundError, ShapeError, WrongTypeError
from ._library import check, encode, ffi, lib, text
from ._options import SessionOptions
from ._picture import prepare
from ._target import make_target, score_kind
from ._tensors import take, to_array, wrap

Arrays = Union[np.ndarray, Mapping[str, Any], Any]


class ValueInfo(str):
    """An input or output: its name, with element type and shape.

    Attributes
    ----------
    name, dtype : str
    shape : tuple or None
        None (or the name of the axis) where a size is free; None when the model does not say.
    """

    __slots__ = ("dtype", "shape")
    dtype: str
    shape: tuple[int | str | None, ...] | None

    def __new__(
        cls, name: str, dtype: str, shape: tuple[int | str | None, ...] | None
    ) -> ValueInfo:
        """Make the name, and hang the facts on it."""
        self = super().__new__(cls, name)
        self.dtype = dtype
        self.shape = shape
        return self

    @property
    def name(self) -> str:
        """The name as plain text."""
        return str(self)


class Layer(str):
    """A value inside the model that can be explained: its name, with what computes it.

    Attributes
    ----------
    number : int
        Position in ``model.layers``.
    name, node, operator : str
    """

    __slots__ = ("node", "number", "operator")
    number: int
    node: str
    operator: str

    def __new__(cls, number: int, name: str, node: str, operator: str) -> Layer:
        """Make the name, and hang the facts on it."""
        self = super().__new__(cls, name)
        self.number = number
        self.node = node
        self.operator = operator
        return self

    @property
    def name(self) -> str:
        """The name as plain text."""
        return str(self)


class Model:
    """A trained model, read from an ONNX file or from its bytes.

    A model is immutable and may be used from several threads; each gets a session of its
    own, and they share the weights.

    Parameters
    ----------
    source : str, path or bytes
        An ONNX file, or its contents.
    threads : int
        Threads to use; 0 = as many as this process may use.
    mode : {"latency", "throughput"}
        All threads on one row (a row a thread in calls with rows for all of them), or always a
        row a thread. The results have the same bits.
    precision : {"standard", "reference", "fast"}
        "reference" computes everything with plain kernels in float64: slow, for checking. "fast"
        may compute convolutions of 3x3 taps by Winograd's algorithm: rounding errors about twice as
        large, weights four times as large, scores of ResNets and VGG 1.2 to 2 times as fast.
    memory_limit : int
        Limit in bytes of the working memory for one row; 0 = none.
    allow_nonfinite : bool
        Let NaN and infinities pass in inputs and scores, for models that take or give them on
        purpose. Gradients and explanations never let them pass.

    Attributes
    ----------
    inputs, outputs : list of ValueInfo
        Names that carry element type and shape.
    layers : list of Layer
        Names that carry node and operator.
    labels : list of str
    metadata : dict of str to str
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        *,
        threads: int = 0,
        mode: str = "latency",
        precision: str = "standard",
        memory_limit: int = 0,
        allow_nonfinite: bool = False,
    ) -> None:
        out = ffi.new("xai_model **")
        self._settings: dict[str, Any] = {
            "threads": threads,
            "mode": mode,
            "precision": precision,
            "memory_limit": memory_limit,
            "allow_nonfinite": allow_nonfinite,
        }
        SessionOptions(**self._settings)
        self._source: Any
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = self._source = bytes(source)
            check(lib.xai_model_parse, ffi.from_buffer(data), len(data), out)
        elif isinstance(source, (str, os.PathLike)):
            path = os.fspath(source)
            encoded = path if isinstance(path, bytes) else os.fsencode(path)
            if b"\0" in encoded:
                raise ArgumentError("the path contains a NUL character", "source")
            self._source = os.path.abspath(path)
            check(lib.xai_model_open, encoded, out)
        else:
            raise WrongTypeError(
                f"a path or bytes are needed, not {type(source).__name__}", "source"
            )
        self._handle = ffi.gc(out[0], lib.xai_model_free)
        self._local = threading.local()
        self.inputs = self._values("input")
        self.outputs = self._values("output")
        self.layers = self._read_layers()
        self.labels = [
            text(lib.xai_model_label(self._handle, i))
            for i in range(lib.xai_model_label_count(self._handle))
        ]
        self.metadata = {
            text(lib.xai_model_metadata_key(self._handle, i)): text(
                lib.xai_model_metadata_value(self._handle, i)
            )
            for i in range(lib.xai_model_metadata_count(self._handle))
        }

    def __repr__(self) -> str:
        names = ", ".join(f"{each.name} {each.shape}" for each in self.inputs)
        return f"<libxai.Model {names} -> {', '.join(each.name for each in self.outputs)}>"

    def _values(self, kind: str) -> list[ValueInfo]:
        def get(what: str, *arguments: Any) -> Any:
            return getattr(lib, f"xai_model_{kind}_{what}")(self._handle, *arguments)

        values = []
        for i in range(get("count")):
            rank = get("rank", i)
            dims = get("dims", i)
            shape = None
            if rank >= 0:
                shape = tuple(
                    int(dims[axis]) if dims[axis] >= 0 else text(get("dim_name", i, axis)) or None
                    for axis in range(rank)
                )
            name = text(get("name", i))
            values.append(ValueInfo(name, text(lib.xai_dtype_name(get("dtype", i))), shape))
        return values

    def _read_layers(self) -> list[Layer]:
        return [
            Layer(
                i,
                text(lib.xai_model_layer_name(self._handle, i)),
                text(lib.xai_model_layer_node(self._handle, i)),
                text(lib.xai_model_layer_operator(self._handle, i)),
            )
            for i in range(lib.xai_model_layer_count(self._handle))
        ]

    @property
    def default_layer(self) -> Layer | None:
        """The layer that the CAM methods explain unless told otherwise."""
        index = lib.xai_model_default_layer(self._handle)
        return None if index < 0 else self.layers[index]

    def _session(self) -> Any:
        """Return this thread's session."""
        session = getattr(self._local, "session", None)
        if session is None or self._local.process != os.getpid():
            out = ffi.new("xai_session **")
            self._local.options = SessionOptions(**self._settings)
            check(lib.xai_session_create, self._handle, self._local.options.handle, out)
            session = self._local.session = ffi.gc(out[0], lib.xai_session_free)
            self._local.process = os.getpid()
        return session

    def _run(self, call: Any, *arguments: Any) -> SessionOptions:
        """Call a function of this thread's session; `reraise` of what is returned comes last."""
        session = self._session()
        options: SessionOptions = self._local.options
        options.run(call, session, *arguments)
        return options

    def __reduce__(self) -> Any:
        """Pickle as the file's path or the bytes: the receiving process reads the model again."""
        return _open, (self._source, self._settings)

    def _named_inputs(self, x: Arrays) -> list[Any]:
        if isinstance(x, Mapping):
            known = [each.name for each in self.inputs]
            for name in x:
                if name not in known:
                    raise NotFoundError(
                        f"the model has no input '{name}', only {', '.join(known)}", "input"
                    )
            missing = [name for name in known if name not in x]
            if missing:
                raise ArgumentError(f"input '{missing[0]}' is missing", "input")
            return [x[name] for name in known]
        if len(self.inputs) == 1:
            return [x]
        if isinstance(x, (tuple, list)) and len(x) == len(self.inputs):
            return list(x)
        raise ArgumentError(
            f"the model has {len(self.inputs)} inputs: give a dict of arrays by name", "input"
        )

    def _prepare(self, x: Arrays) -> Inputs:
        arrays = []
        dtypes: list[int] = []
        single: list[bool] = []
        for info, value, i in zip(self.inputs, self._named_inputs(x), range(len(self.inputs))):
            dtype = lib.xai_model_input_dtype(self._handle, i)
            array = to_array(value, dtype, info.name)
            rank = array.ndim if info.shape is None else len(info.shape)
            single.append(array.ndim == rank - 1)
            arrays.append(array[np.newaxis] if single[-1] else array)
            dtypes.append(int(dtype))
        if len(set(single)) > 1:
            raise ShapeError("either all inputs have a row axis or none", "input")
        return Inputs(arrays, dtypes, bool(single) and single[0])

    def __call__(self, x: Arrays) -> Any:
        """Run the model.

        Parameters
        ----------
        x : array or dict of arrays
            (N, C, H, W), or one row without N; a dict by name for several inputs.

        Returns
        -------
        array, or a tuple of arrays in the order of the outputs
        """
        inputs = self._prepare(x)
        count = len(self.outputs)
        out = ffi.new("xai_tensor *[]", count)
        done = self._run(lib.xai_session_scores, inputs.pointers, inputs.count, out, count)
        results = tuple(
            take(out[i]) if self._is_list(self.outputs[i]) else inputs.strip(take(out[i]))
            for i in range(count)
        )
        done.reraise()
        return results[0] if count == 1 else results

    def _is_list(self, output: Any) -> bool:
        """Whether an output is as long as the data say: the number of rows is fixed."""
        first = self.inputs[0].shape if self.inputs else None
        return bool(
            first
            and isinstance(first[0], int)
            and output.shape
            and not isinstance(output.shape[0], int)
        )

    def prepare(
        self, picture: Any, black: float | None = None, white: float | None = None
    ) -> np.ndarray:
        """Make an input of a picture, as the model card says (docs/model-card.md).

        Parameters
        ----------
        picture : array
            (H, W) or (H, W, 3), of any size: uint8, uint16 or int16, or floats in [0, 1].
        black, white : float, optional
            The pixel values that become 0 and 1, such as 0 and 4095 for 12 bits. White may be
            below black. By default 0 and the largest value of an unsigned type.

        Returns
        -------
        array
            (C, H, W) float32, or (H, W, C) where the model has its channels last: one row without N
        """
        return prepare(self._handle, picture, black, white)

    def activations(self, x: Arrays, *layers: Any) -> Any:
        """Return the values of layers (by name, node name, index or Layer) as arrays."""
        inputs = self._prepare(x)
        names = [layer_name(each) for each in layers]
        encoded = [ffi.new("char[]", encode(name, "layer")) for name in names]
        out = ffi.new("xai_tensor *[]", max(len(names), 1))
        done = self._run(
            lib.xai_session_values,
            inputs.pointers,
            inputs.count,
            ffi.new("char *[]", encoded),
            len(names),
            out,
        )
        results = tuple(inputs.strip(take(out[i])) for i in range(len(names)))
        done.reraise()
        return results[0] if len(names) == 1 else results

    def gradient(
        self,
        x: Arrays,
        target: Any = None,
        wrt: Any = None,
        score: str = "raw",
        output: str | None = None,
    ) -> Any:
        """Differentiate a score.

        Parameters
        ----------
        x : array or dict of arrays
            As for calling the model.
        target : int, str, tuple, list or None
            Index, label, index tuple, region (a tuple with slices), or a list of them, one a
            row; None = the highest score of each row.
        wrt : str, int, Layer or None
            Input or layer to differentiate with respect to; None = all inputs.
        score : {"raw", "logit", "probability"}
            "logit" is the score before a final Sigmoid or Softmax.
        output : str, optional
            Name of the output; the first by default.

        Returns
        -------
        array shaped like the input or layer; a dict by name for a model with several inputs
        """
        inputs = self._prepare(x)
        made = make_target(target, output)
        targets = ffi.new("xai_target *[]", [made])
        names: list[str] = [] if wrt is None else [layer_name(wrt)]
        encoded = [ffi.new("char[]", encode(name, "layer")) for name in names]
        count = len(self.inputs) if wrt is None else 1
        out = ffi.new("xai_tensor *[]", count)
        done = self._run(
            lib.xai_session_gradients,
            inputs.pointers,
            inputs.count,
            targets,
            1,
            score_kind(score),
            ffi.new("char *[]", encoded) if names else ffi.NULL,
            len(names),
            out,
            ffi.NULL,
        )
        found = [None if out[i] == ffi.NULL else inputs.strip(take(out[i])) for i in range(count)]
        done.reraise()
        if wrt is None and count > 1:
            pairs = zip(self.inputs, found)
            return {info.name: array for info, array in pairs if array is not None}
        return found[0]


def _open(source: Any, settings: dict[str, Any]) -> Model:
    return Model(source, **settings)


class Inputs:
    """Arrays lent to the library for one call."""

    def __init__(self, arrays: list[np.ndarray], dtypes: list[int], single: bool) -> None:
        self.arrays = arrays
        self.single = single
        self._tensors = [wrap(each, dtype) for each, dtype in zip(arrays, dtypes)]
        self.count = len(arrays)
        self.pointers = ffi.new("xai_tensor *[]", self._tensors or [ffi.NULL])

    def strip(self, array: np.ndarray) -> np.ndarray:
        """Drop the row axis when the caller gave none."""
        return array[0] if self.single and array.ndim > 0 and array.shape[0] == 1 else array


def layer_name(layer: Any) -> str:
    """Name a layer given as name, index or Layer."""
    if isinstance(layer, Layer):
        return layer.name
    if isinstance(layer, str):
        return layer
    if isinstance(layer, (int, np.integer)) and not isinstance(layer, bool):
        return str(int(layer))
    raise WrongTypeError(f"a layer is a name or an index, not {type(layer).__name__}", "layer")
