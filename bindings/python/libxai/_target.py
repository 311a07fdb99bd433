"""Targets: which score is explained."""

from __future__ import annotations

import operator
from typing import Any

from ._errors import ArgumentError, WrongTypeError
from ._library import check, encode, ffi, lib

SCORES = {"raw": 0, "logit": 1, "probability": 2}


def score_kind(name: str) -> int:
    """Map "raw", "logit" or "probability" to its number."""
    if not isinstance(name, str):
        raise WrongTypeError(f"score: a name is needed, not {type(name).__name__}", "score")
    if name not in SCORES:
        raise ArgumentError(f"score: '{name}' is not one of {', '.join(SCORES)}", "score")
    return SCORES[name]


def _integers(values: Any) -> list[int]:
    try:
        found = [operator.index(each) for each in values]
    except TypeError as error:
        raise WrongTypeError(f"target: indices must be integers: {values!r}", "target") from error
    if any(not -(2**63) <= each < 2**63 for each in found):
        raise ArgumentError(f"target: an index is out of range: {found}", "target")
    return found


def _region(target: Any, box: tuple[slice, ...]) -> None:
    begin, end = [], []
    for each in box:
        if not isinstance(each, slice):
            index = _integers([each])[0]
            each = slice(index, index + 1)
        if each.step not in (None, 1):
            raise ArgumentError("target: a region has no steps", "target")
        begin.append(0 if each.start is None else each.start)
        end.append(-1 if each.stop is None else each.stop)
    size = len(box)
    check(
        lib.xai_target_add_region,
        target,
        ffi.new("int64_t[]", _integers(begin)),
        ffi.new("int64_t[]", _integers(end)),
        size,
    )


def _add(target: Any, choice: Any) -> None:
    if choice is None:
        check(lib.xai_target_add_highest, target)
    elif isinstance(choice, str):
        check(lib.xai_target_add_label, target, encode(choice, "target"))
    elif isinstance(choice, tuple):
        if any(isinstance(each, slice) for each in choice):
            _region(target, choice)
        else:
            indices = ffi.new("int64_t[]", _integers(choice))
            check(lib.xai_target_add_element, target, indices, len(choice))
    elif isinstance(choice, bool):
        raise WrongTypeError("target: True and False are not targets", "target")
    else:
        check(lib.xai_target_add_index, target, _integers([choice])[0])


def make_target(target: Any, output: str | None = None) -> Any:
    """Build an xai_target from what :meth:`Model.gradient` takes as `target`."""
    out = ffi.new("xai_target **")
    check(lib.xai_target_create, out)
    made = ffi.gc(out[0], lib.xai_target_free)
    if output is not None:
        check(lib.xai_target_set_output, made, encode(output, "output"))
    if hasattr(target, "tolist"):
        target = target.tolist()
    if isinstance(target, list):
        if not target:
            raise ArgumentError("target: an empty list", "target")
        for choice in target:
            _add(made, choice)
    elif target is not None:
        _add(made, target)
    return made
