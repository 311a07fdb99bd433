"""The shared library: loading, declarations, errors."""

from __future__ import annotations

import os
import sys
from typing import Any, Callable

from ._declarations import ffi  # made from the headers when the package is built
from ._errors import BY_STATUS, ArgumentError, InternalError, WrongTypeError

_FOLDER = os.path.dirname(os.path.realpath(__file__))
_NAME = "xai.dll" if sys.platform == "win32" else "libxai.so.1"
_WINDOWS_RUNTIME = ("MSVCP140.dll", "VCOMP140.DLL", "VCRUNTIME140.dll", "VCRUNTIME140_1.dll")


def _load() -> tuple[Any, list[Any]]:
    named = os.environ.get("XAI_LIBRARY")
    if named:
        return ffi.dlopen(named), []
    if not os.path.exists(os.path.join(_FOLDER, _NAME)):
        return ffi.dlopen(_NAME), []
    return _load_windows() if sys.platform == "win32" else _load_packed()


def _load_packed() -> tuple[Any, list[Any]]:
    # What is packed is loaded first: the linker then takes it for the names that libxai asks for.
    # A GNU OpenMP of the system goes before the packed one: two in a process would double the
    # threads, and others may need its newer functions.
    kept = []
    packed = [name for name in os.listdir(_FOLDER) if ".so" in name and name != _NAME]
    for name in sorted(packed, key=lambda each: (not each.startswith("libgomp"), each)):
        path = os.path.join(_FOLDER, name)
        try:
            kept.append(ffi.dlopen(name if name.startswith("libgomp") else path))
        except OSError:
            kept.append(ffi.dlopen(path))
    return ffi.dlopen(os.path.join(_FOLDER, _NAME)), kept


def _load_windows() -> tuple[Any, list[Any]]:
    # By ctypes, which takes paths with any letters and looks for what a DLL needs beside it and in
    # the folders added here: where the package msvc-runtime puts the Visual C++ runtime.
    import ctypes

    kept: list[Any] = []
    for folder in (sys.prefix, os.path.join(sys.prefix, "Scripts")):
        if os.path.exists(os.path.join(folder, "vcomp140.dll")):
            kept.append(os.add_dll_directory(folder))  # type: ignore[attr-defined]
    names = sorted(name for name in os.listdir(_FOLDER) if name.endswith(".dll") and name != _NAME)
    library: Any = None
    for name in [*names, _NAME]:
        try:
            library = ctypes.WinDLL(os.path.join(_FOLDER, name))  # type: ignore[attr-defined]
        except OSError as error:
            raise ImportError(_windows_advice(name, error)) from error
        kept.append(library)
    return ffi.dlopen(ffi.cast("void *", library._handle)), kept


def _windows_advice(name: str, error: OSError) -> str:
    """Say what is missing when a packed DLL cannot be loaded, and where it comes from."""
    return (
        f"{os.path.join(_FOLDER, name)} cannot be loaded: {error}. It needs Microsoft's "
        f"Visual C++ runtime ({', '.join(_WINDOWS_RUNTIME)}): install the Visual C++ "
        "Redistributable 2015-2022 (x64) of Microsoft, or run: "
        'pip install "libxai[windows-runtime]"'
    )


lib, _needed = _load()


def text(pointer: Any) -> str:
    """Decode a C string; "" for NULL."""
    return "" if pointer == ffi.NULL else ffi.string(pointer).decode("utf-8", "replace")


def encode(name: Any, what: str) -> bytes:
    """Encode a name for C, which ends text at the first NUL."""
    if not isinstance(name, str):
        raise WrongTypeError(f"{what}: a name is needed, not {type(name).__name__}", what)
    if "\0" in name:
        raise ArgumentError(f"{what}: the name contains a NUL character", what)
    return name.encode("utf-8", "surrogateescape")


def check(call: Callable[..., int], *arguments: Any) -> None:
    """Call a function whose last argument is `xai_error **`; raise what it reports."""
    error = ffi.new("xai_error **")
    status = call(*arguments, error)
    if status == 0:
        return
    message, place = text(lib.xai_status_name(status)), ""
    if error[0] != ffi.NULL:
        message = text(lib.xai_error_message(error[0]))
        place = text(lib.xai_error_place(error[0]))
        lib.xai_error_free(error[0])
    raise BY_STATUS.get(status, InternalError)(message, place)


def version() -> str:
    """Return the version of the loaded library."""
    return text(lib.xai_version())


def abi_version() -> int:
    """Return the number of the library's binary interface."""
    return int(lib.xai_abi_version())


def math_library() -> str:
    """Return name and version of the library behind convolutions, or "none"."""
    out = ffi.new("char[128]")
    lib.xai_math_library(out, 128)
    return text(out)
