"""Arrays in and out: numpy, anything with ``__array__`` or DLPack, and the library's tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._errors import ArgumentError, WrongTypeError
from ._library import check, ffi, lib

_DTYPES: dict[int, Any] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    4: np.uint16,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
    12: np.uint32,
    13: np.uint64,
}
_NUMBERS = {np.dtype(kind): number for number, kind in _DTYPES.items()}
_BFLOAT16 = 16  # numpy has no such type: float32 outside, its upper half (rounded) inside


def _to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Round float32 to the nearest bfloat16 (ties to even), as their bits."""
    bits = np.asarray(array, np.float32, order="C").view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    kept: np.ndarray = np.where(np.isnan(array), np.uint32(0x7FC0), rounded)
    return kept.astype(np.uint16, order="C")


_HOST = (1, 3)  # DLPack's kinds of memory that numpy can read: CPU, and CPU pinned by CUDA
_DEVICES = {2: "CUDA, ", 7: "Vulkan, ", 8: "Metal, ", 10: "ROCm, ", 13: "CUDA managed, "}


def as_numpy(value: Any, what: str = "input") -> np.ndarray:
    """View an array of another library as numpy's; copied only where the types force it."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):  # PyTorch exports nothing that is being differentiated
        value = value.detach()
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        kind = int(value.__dlpack_device__()[0])
        if kind not in _HOST:
            raise WrongTypeError(
                f"{what}: the array is on another device ({_DEVICES.get(kind, '')}DLPack type "
                f"{kind}): bring it to the CPU first: x.cpu() of PyTorch, jax.device_get(x), "
                "x.get() of CuPy",
                what,
            )
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError):
            if not hasattr(value, "__array__"):
                raise
    try:
        return np.asarray(value)
    except TypeError:
        if hasattr(value, "float"):  # bfloat16 of PyTorch, which numpy lacks
            return np.asarray(value.float())
        raise


def to_array(value: Any, dtype: int, what: str = "input") -> np.ndarray:
    """Make a contiguous array of the element type that the model takes.

    Integers and other float widths are converted for a float input; nothing else is guessed.
    """
    array = as_numpy(value, what)
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise WrongTypeError(f"{what}: an array of numbers is needed, not {array.dtype}", what)
    kind = np.dtype(np.float32 if dtype == _BFLOAT16 else _DTYPES.get(dtype, array.dtype))
    if array.dtype != kind:
        if kind.kind != "f" and array.dtype.kind != kind.kind:
            raise WrongTypeError(f"{what}: {kind} is needed, not {array.dtype}", what)
        with np.errstate(over="ignore"):  # what does not fit becomes infinite: the library tells
            converted = array.astype(kind)
        if kind.kind != "f" and not np.array_equal(converted, array):
            raise ArgumentError(f"{what}: the values do not fit {kind}", what)
        array = converted
    # (numpy.ascontiguousarray would give a scalar an axis)
    return _to_bfloat16(array) if dtype == _BFLOAT16 else np.asarray(array, order="C")


def wrap(array: np.ndarray, dtype: int = 0) -> Any:
    """Lend an array to the library; keep the array alive while the tensor is used.

    `dtype` 0 is the array's own.
    """
    dims = ffi.new("int64_t[]", list(array.shape) or [0])
    out = ffi.new("xai_tensor **")
    pointer = ffi.cast("void *", array.ctypes.data)
    check(lib.xai_tensor_wrap, dtype or _NUMBERS[array.dtype], array.ndim, dims, pointer, out)
    return ffi.gc(out[0], lib.xai_tensor_free)


def copy_out(tensor: Any) -> np.ndarray:
    """Copy a tensor into a new array."""
    dims = lib.xai_tensor_dims(tensor)
    shape = tuple(dims[i] for i in range(lib.xai_tensor_rank(tensor)))
    dtype = lib.xai_tensor_dtype(tensor)
    array = np.empty(shape, np.uint16 if dtype == _BFLOAT16 else _DTYPES[dtype])
    if array.nbytes:
        ffi.memmove(ffi.from_buffer(array), lib.xai_tensor_data(tensor), array.nbytes)
    if dtype == _BFLOAT16:
        return np.left_shift(array, 16, dtype=np.uint32).view(np.float32).reshape(shape)
    return array


def take(tensor: Any) -> np.ndarray:
    """Copy a tensor into a new array and free it."""
    try:
        return copy_out(tensor)
    finally:
        lib.xai_tensor_free(tensor)
