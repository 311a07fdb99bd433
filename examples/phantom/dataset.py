"""Many phantoms at the input size of the demo models, made once and kept in a cache folder."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from phantom import CHEST_LABELS, MAMMOGRAM_LABELS, chest, mammogram
from phantom.picture import Picture, to_bytes

SIZE = 128  # side of the models' input
DRAWN = 256  # side of the drawn picture; 2x2 pixels are averaged, as bilinear resizing by 2 does
LABELS = {"chest": CHEST_LABELS, "mammogram": MAMMOGRAM_LABELS}
SEEDS = {"train": 1_000_000, "validation": 1_500_000, "test": 2_000_000}  # test pictures steer nothing


@dataclass(frozen=True)
class Dataset:
    """`images` (N, 128, 128) uint8, `labels` (N, K) 0/1, `masks` (N, K, 128, 128) bool."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    masks: NDArray[np.bool_]


def draw(kind: str, seed: int, size: int = DRAWN) -> Picture:
    """One phantom of either kind."""
    return (chest if kind == "chest" else mammogram)(seed, size)


def halve(array: NDArray) -> NDArray:
    """Mean of every 2x2 block."""
    height, width = array.shape
    return array.reshape(height // 2, 2, width // 2, 2).mean((1, 3))


def row(kind: str, seed: int) -> tuple[NDArray, list[int], NDArray]:
    """Image, labels and packed masks of one phantom at the input size."""
    picture = draw(kind, seed)
    empty = np.zeros((DRAWN, DRAWN), bool)
    masks = np.stack([halve(picture.masks.get(name, empty)) >= 0.5 for name in LABELS[kind]])
    return to_bytes(halve(picture.image)), picture.labels(LABELS[kind]), np.packbits(masks)


def cache_folder() -> Path:
    """Where the pictures are kept; it may be deleted at any time."""
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("XAI_CACHE") or Path(user) / "libxai") / "phantom"


def generator_hash() -> str:
    """A few digits that change when the generator does: pictures of an older one are not taken for its own."""
    digest = hashlib.sha256()
    for file in [Path(__file__), *sorted((Path(__file__).parent / "phantom").glob("*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def load(kind: str, part: str, count: int, jobs: int = 1) -> Dataset:
    """`count` phantoms of a part ("train", "validation" or "test"), from the cache when they are there."""
    path = cache_folder() / f"{kind}-{part}-{count}-{generator_hash()}.npz"
    if not path.exists():
        seeds = [SEEDS[part] + index for index in range(count)]
        with ProcessPoolExecutor(jobs) as pool:
            rows = list(pool.map(partial(row, kind), seeds, chunksize=16))
        images, labels, packed = (np.stack([np.asarray(r[i]) for r in rows]) for i in range(3))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_path = path.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(partial_path, images=images, labels=labels.astype(np.uint8), packed=packed)
        partial_path.replace(path)
    stored = np.load(path)
    labels = stored["labels"]
    masks = np.unpackbits(stored["packed"], axis=1).astype(bool)
    return Dataset(stored["images"], labels, masks.reshape(len(labels), labels.shape[1], SIZE, SIZE))
