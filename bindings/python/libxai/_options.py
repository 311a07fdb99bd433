"""Session options: threads, mode, precision, memory limit, progress."""

from __future__ import annotations

import operator
from typing import Any, Callable

from ._errors import ArgumentError, WrongTypeError
from ._library import check, ffi, lib

Progress = Callable[[int, int], Any]
MODES = {"latency": 0, "throughput": 1}
PRECISIONS = {"fast": 0, "reference": 1}


def _integer(value: Any, what: str, largest: int) -> int:
    """Check an integer in [0, largest]."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise WrongTypeError(f"{what}: an integer is needed: {value!r}", what) from error
    if not 0 <= number <= largest:
        raise ArgumentError(f"{what}: {number} is not in [0, {largest}]", what)
    return number


class SessionOptions:
    """Options handle, with the callback that must live as long as what uses it.

    An exception raised in the callback, KeyboardInterrupt included, stops the call;
    `reraise` then raises it.
    """

    def __init__(
        self,
        threads: int = 0,
        mode: str = "latency",
        precision: str = "fast",
        memory_limit: int = 0,
        progress: Progress | None = None,
        allow_nonfinite: bool = False,
    ) -> None:
        out = ffi.new("xai_session_options **")
        check(lib.xai_session_options_create, out)
        self.handle = ffi.gc(out[0], lib.xai_session_options_free)
        self._raised: BaseException | None = None
        self._callback = None
        for name, value, known in (("mode", mode, MODES), ("precision", precision, PRECISIONS)):
            if not isinstance(value, str) or value not in known:
                raise ArgumentError(f"{name}: {value!r} is not one of {', '.join(known)}", name)
        count = _integer(threads, "threads", 1024)
        limit = _integer(memory_limit, "memory_limit", 2 ** (8 * ffi.sizeof("size_t")) - 1)
        check(lib.xai_session_options_set_threads, self.handle, count)
        check(lib.xai_session_options_set_mode, self.handle, MODES[mode])
        check(lib.xai_session_options_set_precision, self.handle, PRECISIONS[precision])
        check(lib.xai_session_options_set_memory_limit, self.handle, limit)
        check(lib.xai_session_options_set_allow_nonfinite, self.handle, int(bool(allow_nonfinite)))
        if progress is not None:
            if not callable(progress):
                raise WrongTypeError("progress: a function (done, total) is needed", "progress")
            self._set_progress(progress)

    def _set_progress(self, progress: Progress) -> None:
        @ffi.callback("int32_t(void *, size_t, size_t)", error=1)
        def report(_user: Any, done: int, total: int) -> int:
            try:
                return 1 if progress(int(done), int(total)) is False else 0
            except BaseException as error:
                self._raised = error
                return 1

        self._callback = report
        check(lib.xai_session_options_set_progress, self.handle, report, ffi.NULL)

    def reraise(self) -> None:
        """Raise what the callback raised, once."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
