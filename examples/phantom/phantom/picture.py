"""What a generator returns, and 8-bit grey PNG files for it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Picture:
    """One phantom: `image` (H, W) in [0, 1], and a mask (H, W) for every finding that is present."""

    image: Image
    masks: dict[str, Mask]
    facts: dict[str, float | str]

    def labels(self, names: tuple[str, ...]) -> list[int]:
        """1 for every name whose finding is present, in the order of `names`."""
        return [int(name in self.masks) for name in names]


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write (H, W) 8-bit grey; every row is filtered with 'up' or 'sub', whichever is smaller."""
    height, width = image.shape
    zero = np.zeros((1, width), np.uint8)
    up = image - np.vstack([zero, image[:-1]])
    left = image - np.hstack([np.zeros((height, 1), np.uint8), image[:, :-1]])
    rows = bytearray()
    for row in range(height):
        cost = [int(np.abs(d[row].astype(np.int8).astype(int)).sum()) for d in (left, up)]
        best = int(cost[1] < cost[0])
        rows += bytes([best + 1]) + (left, up)[best][row].tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b""))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in chunks:
            file.write(struct.pack(">I", len(data)) + kind + data)
            file.write(struct.pack(">I", zlib.crc32(kind + data)))


def to_bytes(image: Image) -> NDArray[np.uint8]:
    """[0, 1] to 0..255, rounded."""
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
