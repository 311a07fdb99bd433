"""Findings of the chest: each changes the layers of a thorax and returns the mask of what it drew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .geometry import Array, blur, cloud, ellipsoid
from .picture import Mask
from .thorax import Thorax


def pneumothorax(thorax: Thorax, side: int, rng: np.random.Generator) -> Mask:
    """Free air between chest wall and lung: a thin pleural line, and no lung markings beyond it."""
    frame, patient = thorax.frame, thorax.patient
    gap, drop = rng.uniform(1.7, 4.2), rng.uniform(2.0, 5.0)
    shrunken = replace(patient, apex=patient.apex + drop)
    taper = np.interp(frame.y, [patient.apex, -2, patient.dome[side] + 2], [1.0, 0.9, rng.uniform(0.2, 0.6)])
    wave = 0.12 * np.sin(frame.y * rng.uniform(0.7, 1.3) + rng.uniform(0, 6))
    edge = side * frame.x - (shrunken.wall(frame.y) - gap * taper + wave)
    edge = edge / np.maximum(np.hypot(*np.gradient(edge, frame.pixel)), 1.0)  # distance in cm, not along x
    outside = frame.step(edge)
    hemithorax = (side * frame.x > 0).astype(np.float32)
    freed = thorax.lung[side] * outside * hemithorax
    thorax.gas += freed
    thorax.lung[side] = (thorax.lung[side] - freed) * (1 + 0.10 * hemithorax)
    pleura = np.exp(-0.5 * (edge / 0.06) ** 2) * hemithorax * np.clip(thorax.lung[side] + thorax.gas, 0, 3) / 3
    thorax.extra += rng.uniform(1.2, 1.9) * pleura * (patient.wall(frame.y) - side * frame.x > 0.1)
    return (freed > 1.0) & (thorax.field[side] > 0.5)


def effusion(thorax: Thorax, side: int, rng: np.random.Generator) -> Mask:
    """Fluid at the base of the pleural space: it hides the diaphragm and climbs along the chest wall."""
    frame, patient = thorax.frame, thorax.patient
    surface = patient.dome[side] + rng.uniform(-4.5, 0.8)
    to_wall = np.clip(patient.wall(frame.y) - side * frame.x, 0, None)
    to_heart = np.clip(side * frame.x - 3.0, 0, None)
    rise = rng.uniform(2.2, 4.0)
    meniscus = surface - rise * np.exp(-to_wall / rng.uniform(1.8, 3.4)) - 0.8 * np.exp(-to_heart / 1.2)
    hemithorax = side * frame.x > 0
    wet = frame.step(frame.y - meniscus, 0.7) * hemithorax
    thorax.lung[side] = thorax.lung[side] * (1 - 0.97 * wet)
    return (wet > 0.5) & (thorax.field[side] > 0.5)


def open_lung(thorax: Thorax, side: int, margin: float) -> Array:
    """Where aerated lung is open to view and `margin` cm away from its borders, 0..1."""
    aerated = (thorax.field[side] > 0.5) & (thorax.lung[side] > 4.0)
    return blur(aerated.astype(np.float32), margin / 2 / thorax.frame.pixel)


def place(thorax: Thorax, side: int, margin: float, taken: Mask, rng: np.random.Generator) -> tuple[float, float]:
    """A random point of the open lung outside `taken`; the best one where no point is quite free."""
    free = open_lung(thorax, side, margin) * (1 - blur(taken.astype(np.float32), margin / thorax.frame.pixel))
    rank = rng.random(free.shape) * (free >= min(0.93, float(free.max())))
    row, column = np.unravel_index(int(np.argmax(rank)), rank.shape)
    return float(thorax.frame.x[row, column]), float(thorax.frame.y[row, column])


def nodule(thorax: Thorax, side: int, taken: Mask, rng: np.random.Generator) -> Mask:
    """A round, slightly lobulated shadow of 1.8 to 3 cm."""
    frame = thorax.frame
    radius = rng.uniform(0.9, 1.5)
    x, y = place(thorax, side, radius + 0.6, taken, rng)
    path = np.zeros_like(frame.x)
    for _ in range(4):
        angle, off = rng.uniform(0, 2 * np.pi), 0.18 * radius
        centre = (x + off * np.cos(angle), y + off * np.sin(angle))
        lobe = ellipsoid(frame, centre, (radius, 0.92 * radius, radius), angle)
        path = np.maximum(path, lobe)
    thorax.extra += blur(path, 0.05 / frame.pixel) * rng.uniform(1.9, 2.5)
    return path > 0.25 * radius


def consolidation(thorax: Thorax, side: int, taken: Mask, rng: np.random.Generator, grain: np.random.Generator) -> Mask:
    """Air spaces filled with fluid: a hazy, patchy area with ill-defined edges that hides the vessels."""
    frame = thorax.frame
    radius = rng.uniform(2.6, 4.4)
    x, y = place(thorax, side, 2.2, taken, rng)
    tilt, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.5)
    u = np.cos(tilt) * (frame.x - x) + np.sin(tilt) * (frame.y - y)
    v = -np.sin(tilt) * (frame.x - x) + np.cos(tilt) * (frame.y - y)
    distance = np.hypot(u / stretch, v * stretch) / radius
    ragged = 0.20 * cloud(grain, frame.size, 3.6, 0.14)
    filled = 1 / (1 + np.exp(-(0.95 - distance + ragged) / 0.17))
    patchy = np.clip(0.80 + 0.07 * cloud(grain, frame.size, 3.2, 0.08), 0.3, 1)
    share = rng.uniform(0.55, 0.80) * filled * patchy
    thorax.extra += np.minimum(thorax.lung[side], 9.0) * share * 0.8
    thorax.lung[side] = thorax.lung[side] * (1 - 0.6 * share)
    return (filled > 0.5) & (thorax.field[side] > 0.5) & (side * frame.x > 0)


def cardiomegaly(thorax: Thorax) -> Mask:
    """The outline of the heart, when it is wider than half of the chest."""
    return thorax.heart_outline > 0.5
