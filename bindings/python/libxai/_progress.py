"""Progress bars: what ``progress=True`` draws."""

from __future__ import annotations

import sys
import time
from typing import Any


class Bar:
    """A bar of tqdm where it is installed, else a line on standard error."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Draw `done` of `total`."""
        if self._bar is None:
            self._bar = _make(self._title, total)
        if self._bar.total != total:
            self._bar.reset(total)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the bar; the next call begins another."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


class _Line:
    """The little of tqdm that a bar needs."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.n = title, total, 0
        self.begun = time.monotonic()

    def reset(self, total: int) -> None:
        self.total, self.n = total, 0

    def update(self, count: int) -> None:
        self.n += count
        spent = time.monotonic() - self.begun
        left = (
            f", {spent / self.n * (self.total - self.n):.0f} s left"
            if self.n and spent >= 1
            else ""
        )
        print(
            f"\r{self.title}: {self.n}/{self.total}{left}\033[K",
            end="",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        print(file=sys.stderr)


def _make(title: str, total: int) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Line(title, total)
    return tqdm(total=total, desc=title)
