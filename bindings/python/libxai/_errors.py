"""Exceptions: one class a status, each also a built-in exception where one fits."""

from __future__ import annotations


class LibXaiError(Exception):
    """A failure reported by libxai.

    Attributes
    ----------
    status : int
        The C status code (XAI_ERROR_*).
    place : str
        Node, file, input or option that the failure is about; may be empty.
    """

    status: int = 10
    place: str = ""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place

    def __str__(self) -> str:
        return str(self.args[0])


class ArgumentError(LibXaiError, ValueError):
    """An argument is out of range, or an option does not exist."""

    status = 1


class WrongTypeError(ArgumentError, TypeError):
    """An argument has the wrong type."""


class MemoryLimitError(LibXaiError, MemoryError):
    """Out of memory, or the memory limit would be exceeded."""

    status = 2


class FileError(LibXaiError, OSError):
    """A file cannot be opened, read or written."""

    status = 3


class FormatError(LibXaiError, ValueError):
    """The bytes are not a valid model."""

    status = 4


class UnsupportedError(LibXaiError, NotImplementedError):
    """A valid model or request needs something that libxai lacks."""

    status = 5


class ShapeError(LibXaiError, ValueError):
    """An array does not fit the model."""

    status = 6


class NotFoundError(LibXaiError, ValueError):
    """No input, output, layer, label or method of that name."""

    status = 7


class CancelledError(LibXaiError):
    """The progress callback asked to stop."""

    status = 8


class NumericError(LibXaiError, ArithmeticError):
    """NaN or infinity in an input or a result."""

    status = 9


class InternalError(LibXaiError, RuntimeError):
    """A defect of libxai."""

    status = 10


BY_STATUS: dict[int, type[LibXaiError]] = {
    each.status: each
    for each in (
        ArgumentError,
        MemoryLimitError,
        FileError,
        FormatError,
        UnsupportedError,
        ShapeError,
        NotFoundError,
        CancelledError,
        NumericError,
        InternalError,
    )
}
