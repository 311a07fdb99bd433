"""Pieces of a long benchmark: what one run measured for a network and method, merged into the file of earlier runs.

A piece replaces an earlier one of the same network, method and size (quick or not); the others stay, each with the
build, the date and the peers' versions that it was measured with.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from compare import Figure, processor


@dataclass
class Piece:
    """One network and method, all contestants in turns."""

    network: str
    method: str
    quick: bool
    threads: int
    figures: list[Figure]
    versions: dict[str, str] = field(default_factory=dict)
    build: str = ""
    date: str = ""
    processor: str = ""

    @property
    def key(self) -> tuple[str, str, bool]:
        """What a later piece replaces."""
        return self.network, self.method, self.quick


def build_name(folder: Path) -> str:
    """The commit of the sources, with a + where they were changed since; "" without git."""
    try:
        git = ["git", "-C", str(folder)]
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return name.strip() + ("+" if changed.strip() else "")


def stamped(piece: Piece, folder: Path) -> Piece:
    """The piece with build, date and processor of now."""
    piece.build = build_name(folder)
    piece.date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
    piece.processor = processor()
    return piece


def read(path: Path) -> list[Piece]:
    """The pieces of earlier runs; none where there is no file, or one that tells no pieces."""
    try:
        told = json.loads(path.read_text())["pieces"]
        return [Piece(**{**each, "figures": [Figure(**figure) for figure in each["figures"]]}) for each in told]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError, ValueError) as error:
        kept = path.with_suffix(".old")
        path.replace(kept)
        print(f"{path} is not a file of pieces ({error!r}): kept as {kept}", file=sys.stderr)
        return []


def merge(old: list[Piece], new: Piece) -> list[Piece]:
    """`new` in the place of the piece that it replaces, else behind all."""
    known = {piece.key: piece for piece in old}
    return list({**known, new.key: new}.values())


def write(path: Path, pieces: list[Piece]) -> None:
    """Whole or not at all: a run may be cut short at any time."""
    made = path.with_name(path.name + ".part")
    made.write_text(json.dumps({"pieces": [asdict(piece) for piece in pieces]}, indent=1) + "\n")
    made.replace(path)
