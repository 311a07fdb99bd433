"""From attenuation to the grey values a radiologist sees."""

from __future__ import annotations

import numpy as np

from .geometry import Array, blur


def expose(
    rng: np.random.Generator,
    attenuation: Array,
    pixel: float,
    photons: float = 6000.0,
    scatter: float = 0.25,
    focus: float = 0.05,
) -> Array:
    """-log of the detected signal: primary beam, scatter (a share of the mean signal), noise, blur.

    `photons` is the number detected in one square millimetre of an open beam.
    """
    primary = np.exp(-attenuation)
    signal = primary + scatter * blur(primary, 3.0 / pixel) * 0.5
    count = np.maximum(signal * photons * (10 * pixel) ** 2, 1)
    noisy = np.maximum(count + np.sqrt(count) * rng.standard_normal(count.shape), 1)
    return blur(-np.log(noisy / (photons * (10 * pixel) ** 2)).astype(np.float32), focus / pixel)


def display(signal: Array, low: float, high: float, gamma: float, sharpen: float, pixel: float) -> Array:
    """The curve of a viewer: `low` to black, `high` to white, with shoulder, toe and edge enhancement."""
    signal = signal + sharpen * (signal - blur(signal, 0.6 / pixel))
    level = np.clip((signal - low) / (high - low), 0, 1.4)
    level = np.where(level > 0.9, 0.9 + 0.1 * np.tanh((level - 0.9) / 0.1), level)
    return np.clip(level, 0, 1).astype(np.float32) ** gamma
