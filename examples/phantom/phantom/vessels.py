"""Lung markings: hila and branching vessels, as path lengths of blood in cm."""

from __future__ import annotations

import numpy as np

from .geometry import Array, Frame, along, ball, smear
from .thorax import SIDES, Patient

RADII = (0.62, 0.44, 0.31, 0.22, 0.155, 0.11, 0.075)  # cm, by generation


def tree(rng: np.random.Generator, root: Array, heading: Array, side: int) -> list[list[Array]]:
    """Branches of one lung by generation: every branch is a curve (k, 3).

    Each vessel splits in two; the stronger child keeps the direction. Headings are angles from straight
    outwards, positive downwards.
    """
    levels: list[list[Array]] = []
    t = np.linspace(0, 1, 24)
    for generation in range(1, len(RADII)):
        length = 3.4 * 0.80 ** (generation - 1) * rng.uniform(0.6, 1.4, len(heading))
        curl = rng.normal(0, 0.22, len(heading))
        branches, tips, ends = [], [], []
        for start, angle, reach, bend in zip(root, heading, length, curl, strict=True):
            direction = angle + bend * t
            step = reach / len(t)
            x = start[0] + side * np.cumsum(np.cos(direction)) * step
            y = start[1] + np.cumsum(np.sin(direction)) * step
            branches.append(np.stack([x, y, 0.4 * reach * t], 1).astype(np.float32))
            tips.append((x[-1], y[-1]))
            ends.append(direction[-1])
        levels.append(branches)
        # Headings bend outwards with distance: the periphery is reached everywhere.
        ends_array = 0.88 * np.asarray(ends)
        spread = rng.uniform(0.25, 0.75, len(ends))
        flip = rng.choice([-1, 1], len(ends))
        heading = np.concatenate([ends_array + 0.35 * flip * spread, ends_array - flip * spread])
        root = np.concatenate([tips, tips])
    return levels


def vessels(frame: Frame, patient: Patient, rng: np.random.Generator) -> Array:
    """Arteries and veins of both lungs, thinner and fainter towards the chest wall."""
    total = np.zeros_like(frame.x)
    by_radius: list[list[Array]] = [[] for _ in RADII]
    fullness = rng.uniform(0.8, 1.15)
    for side in SIDES:
        hilum = np.array([side * rng.uniform(2.9, 3.6) + patient.turn, -2.6 - 0.6 * (side > 0)])
        angles = np.linspace(-1.35, 1.35, 7) + rng.normal(0, 0.12, 7)
        starts = hilum + np.stack([0.3 * rng.normal(size=7), 1.1 * angles + 0.6], 1)
        for generation, branches in enumerate(tree(rng, starts, angles, side)):
            by_radius[generation + 1] += branches
        # The descending pulmonary artery, the thickest shadow beside the heart.
        t = np.linspace(0, 1, 40)
        path = np.stack([hilum[0] + side * 1.1 * t, hilum[1] + 0.2 + 4.4 * t, 0 * t], 1)
        by_radius[0].append(path.astype(np.float32))
        by_radius[0].append((path[:14] * [1, -0.6, 1] + [0, 1.6 * hilum[1], 0]).astype(np.float32))
    for radius, curves in zip(RADII, by_radius, strict=True):
        x, y, length = (np.concatenate(part) for part in zip(*map(along, curves), strict=True))
        path = frame.deposit(x, y, length * np.pi * radius**2 * fullness / frame.pixel**2)
        total += smear(path, ball(radius / frame.pixel, radius / frame.pixel))
    return np.minimum(total, 2.4)
