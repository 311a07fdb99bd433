"""Session options (threads, mode, precision, memory limit, progress) and options of methods."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from ._errors import ArgumentError, LibXaiError, NotFoundError, WrongTypeError
from ._fork import threads_here
from ._library import check, encode, ffi, lib
from ._progress import Bar
from ._tensors import to_array, wrap

if TYPE_CHECKING:
    from ._model import Model

Progress = Callable[[int, int], Any]
MODES = {"latency": 0, "throughput": 1}
PRECISIONS = {"standard": 0, "reference": 1, "fast": 2}
_INT64 = 7
_EXACT = 2**53


def _integer(value: Any, what: str, largest: int) -> int:
    """Check an integer in [0, largest]."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise WrongTypeError(f"{what}: an integer is needed: {value!r}", what) from error
    if not 0 <= number <= largest:
        raise ArgumentError(f"{what}: {number} is not in [0, {largest}]", what)
    return number


class _Reports:
    """What the callback of one options handle works with."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.raised: BaseException | None = None


def _failed(_kind: Any, error: BaseException, trace: Any) -> None:
    reports: _Reports = ffi.from_handle(trace.tb_frame.f_locals["user"])
    reports.raised = error  # and `error=1` of the callback stops the call


def _tell(user: Any, done: int, total: int) -> int:
    progress = ffi.from_handle(user).progress
    return 1 if progress is not None and progress(done, total) is False else 0


def _hear(user: Any, done: int, total: int) -> int:
    """Do nothing: entering it lets Python handle signals. It runs after every evaluation."""
    return 0


_callback = ffi.callback("int32_t(void *, size_t, size_t)", error=1, onerror=_failed)
_report, _listen = _callback(_tell), _callback(_hear)


class SessionOptions:
    """Options handle, with the callback's data that must live as long as what uses it.

    The callback is there without a progress function, too: while it runs in the main thread,
    Python handles signals. An exception raised in it, KeyboardInterrupt included, stops the call;
    `reraise` then raises it.
    """

    def __init__(
        self,
        threads: int = 0,
        mode: str = "latency",
        precision: str = "standard",
        memory_limit: int = 0,
        progress: Progress | bool | None = None,
        allow_nonfinite: bool = False,
        title: str = "libxai",
    ) -> None:
        out = ffi.new("xai_session_options **")
        check(lib.xai_session_options_create, out)
        self.handle = ffi.gc(out[0], lib.xai_session_options_free)
        self._reports = _Reports()
        self._user = ffi.new_handle(self._reports)
        for name, value, known in (("mode", mode, MODES), ("precision", precision, PRECISIONS)):
            if not isinstance(value, str) or value not in known:
                raise ArgumentError(f"{name}: {value!r} is not one of {', '.join(known)}", name)
        count = _integer(threads, "threads", 1024)
        limit = _integer(memory_limit, "memory_limit", 2 ** (8 * ffi.sizeof("size_t")) - 1)
        check(lib.xai_session_options_set_threads, self.handle, threads_here(count))
        check(lib.xai_session_options_set_mode, self.handle, MODES[mode])
        check(lib.xai_session_options_set_precision, self.handle, PRECISIONS[precision])
        check(lib.xai_session_options_set_memory_limit, self.handle, limit)
        check(lib.xai_session_options_set_allow_nonfinite, self.handle, int(bool(allow_nonfinite)))
        if progress is True:
            self._reports.progress = Bar(title)
        elif progress is not None and progress is not False:
            if not callable(progress):
                raise WrongTypeError("progress: a function (done, total) is needed", "progress")
            self._reports.progress = progress
        call = _listen if self._reports.progress is None else _report
        check(lib.xai_session_options_set_progress, self.handle, call, self._user)

    def run(self, call: Callable[..., int], *arguments: Any) -> None:
        """Call the library as `check` does; what the callback raised goes before its error."""
        self._reports.raised = None
        try:
            check(call, *arguments)
        except LibXaiError:
            self.reraise()
            raise
        finally:
            if isinstance(self._reports.progress, Bar):
                self._reports.progress.close()

    def reraise(self) -> None:
        """Raise what the callback raised, once."""
        raised, self._reports.raised = self._reports.raised, None
        if raised is not None:
            raise raised


def _spec(value: tuple[Any, ...], name: str) -> str:
    """Turn ("quickshift", 4, 200, 0.2) into "quickshift:4,200,0.2"."""
    numbers = [each.item() if isinstance(each, np.generic) else each for each in value[1:]]
    if any(isinstance(each, bool) or not isinstance(each, (int, float)) for each in numbers):
        raise WrongTypeError(f"{name}: a name and numbers are needed, not {value!r}", name)
    return str(value[0]) + (":" if numbers else "") + ",".join(repr(each) for each in numbers)


def _set_array(handle: Any, name: bytes, position: int, value: Any, dtype: int, what: str) -> None:
    array = to_array(value, dtype, what)
    check(lib.xai_explainer_options_set_tensor, handle, name, position, wrap(array))


def _set_arrays(handle: Any, model: Model, option: str, value: Any) -> None:
    """Set one array an input; integers where the option is not about the inputs."""
    name = encode(option, "option")
    inputs = [each.name for each in model.inputs]
    if isinstance(value, Mapping):
        for key in value:
            if key not in inputs:
                raise NotFoundError(
                    f"{option}: the model has no input '{key}', only {', '.join(inputs)}", option
                )
        pairs = [(inputs.index(key), each) for key, each in value.items()]
    elif len(inputs) == 1 or option == "segments":
        pairs = [(0, value)]
    else:
        raise ArgumentError(
            f"{option}: the model has {len(inputs)} inputs: give a dict of arrays by name", option
        )
    for position, each in pairs:
        dtype = lib.xai_model_input_dtype(model._handle, position)
        what = f"{option} of input '{inputs[position]}'" if len(inputs) > 1 else option
        if option == "segments":
            _set_array(handle, name, position, each, _INT64, option)
        else:
            _set_array(handle, name, position, each, dtype, what)


def set_option(handle: Any, model: Model, option: str, value: Any) -> None:
    """Set an option of a method from what Python users write."""
    name = encode(option, "option")
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, int) and abs(value) > _EXACT:  # a double would round it
        _set_arrays(handle, model, option, np.array(value))
    elif isinstance(value, (int, float)):
        try:
            number = float(value)
        except OverflowError as error:
            raise ArgumentError(f"{option}: {value} is too large", option) from error
        check(lib.xai_explainer_options_set_number, handle, name, number)
    elif isinstance(value, str):
        check(lib.xai_explainer_options_set_text, handle, name, encode(value, option))
    elif isinstance(value, tuple) and value and isinstance(value[0], str):
        text = encode(_spec(value, option), option)
        check(lib.xai_explainer_options_set_text, handle, name, text)
    else:
        _set_arrays(handle, model, option, value)
