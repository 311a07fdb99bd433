"""Bones: ribs, clavicles, scapulae, upper arms and spine, as path lengths of bone in cm.

A rib is a tube of marrow inside a thin shell of cortex, bent in three dimensions from the spine around
the chest to its front end; its shell gives the two fine lines, its turn at the side the bright edge.
"""

from __future__ import annotations

import numpy as np

from .geometry import Array, Frame, blur, cloud, ellipsoid
from .thorax import SIDES, Patient

MARROW = 0.32  # density of marrow, cortex = 1


def bones(frame: Frame, curves: list[Array], half_width: float, half_height: float, cortex: float) -> Array:
    """Tubes of marrow in a shell of `cortex` cm."""
    outer = frame.tubes(curves, half_width, half_height)
    return outer - (1 - MARROW) * frame.tubes(curves, half_width - cortex, half_height - cortex)


def ribs(frame: Frame, patient: Patient, rng: np.random.Generator) -> Array:
    """Eleven pairs; the front ends stop where cartilage begins."""
    slope = rng.uniform(6.0, 8.5)  # how far a rib falls from spine to front
    curves = []
    for side in SIDES:
        for index in range(11):
            theta = np.linspace(0.10, 2.40 if index < 8 else 2.1, 160)
            start = patient.apex + 0.5 + 2.0 * index + rng.normal(0, 0.07)
            fall = slope * (0.55 + 0.06 * index)
            hump = 0.55 * np.sin(np.clip(theta / 1.1, 0, 1) * np.pi)
            y = start - hump + fall * (theta / np.pi) ** 1.35
            lateral = patient.wall(start + 0.30 * fall) + 0.40
            x = side * (1.6 + (lateral - 1.6) * np.sin(theta) ** 0.8) + patient.turn * (1 - np.cos(theta)) / 2
            curves.append(np.stack([x, y, -patient.depth * np.cos(theta)], 1))
    path = bones(frame, curves, 0.34, rng.uniform(0.52, 0.64), 0.12)
    return 0.85 * (1 - np.exp(-path / 0.85))  # ribs are flatter where they run along the beam


def clavicles(frame: Frame, patient: Patient, rng: np.random.Generator) -> Array:
    """Two S-shaped bones from the breastbone to the shoulder."""
    curves = []
    lift = rng.uniform(0.6, 2.6)
    for side in SIDES:
        t = np.linspace(0, 1, 120)
        x = side * (1.5 + 14.6 * t) + patient.turn
        y = patient.apex + 4.0 - lift * t - 0.7 * np.sin(2 * np.pi * t) + rng.normal(0, 0.15)
        curves.append(np.stack([x, y, 2 * np.sin(2 * np.pi * t)], 1))
    return bones(frame, curves, 0.55, 0.58, 0.20)


def shoulders(frame: Frame, patient: Patient, rng: np.random.Generator) -> Array:
    """Shoulder blades, seen through the upper outer chest, and the heads of the upper arms."""
    total = np.zeros_like(frame.x)
    out = rng.uniform(0.2, 2.0)
    t = np.linspace(0, 1, 100)
    edges, shafts = [], []
    for side in SIDES:
        tip = np.array([patient.half_width + out - 1.2, 1.0 + rng.normal(0, 0.5)])
        top = np.array([patient.half_width + out - 4.6, patient.apex + 2.6])
        socket = np.array([patient.half_width + out + 2.4, patient.apex + 4.0])
        for a, b, bend in ((tip, top, -0.5), (tip, socket, 0.7), (top, socket, -0.4)):
            line = a + (b - a) * t[:, None]
            line[:, 0] += bend * np.sin(np.pi * t)
            edges.append(np.stack([side * line[:, 0], line[:, 1], 2 * t], 1))
        # The blade itself is thin: the triangle between its edges.
        inside = np.ones_like(total)
        corners = (tip, top, socket)
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
            cross = (b[0] - a[0]) * (frame.y - a[1]) - (b[1] - a[1]) * (side * frame.x - a[0])
            inside *= frame.step(cross / np.hypot(*(b - a)), 0.3)
        total += 0.22 * inside
        head = (side * (socket[0] + 2.4), socket[1] + 0.3)
        total += 0.30 * ellipsoid(frame, head, (2.3, 2.4, 2.3))
        shafts.append(np.stack([side * (socket[0] + 2.6 + 1.2 * t), head[1] + 14 * t, 0 * t], 1))
    return total + bones(frame, edges, 0.30, 0.30, 0.14) + bones(frame, shafts, 1.15, 1.0, 0.35)


def spine(frame: Frame, patient: Patient, rng: np.random.Generator) -> Array:
    """Vertebral bodies with discs between them, pedicles and spinous processes."""
    total = np.zeros_like(frame.x)
    bend, phase = rng.normal(0, 0.25), rng.uniform(0, 2 * np.pi)
    centre = bend * np.sin(frame.y / 9 + phase)
    offset = frame.x - centre
    half = np.interp(frame.y, [-19, -12, 18], [1.05, 1.35, 2.0])
    depth = np.interp(frame.y, [-19, 18], [1.3, 2.3])
    edge = frame.step(half - np.abs(offset), 0.15)
    y, height = -20.0, 1.45
    while y < 20:
        height = 1.5 + 0.045 * (y + 20)
        within = height * 0.42 - np.abs(frame.y - y)
        body = frame.step(within, 0.15) * edge
        plates = np.exp(-0.5 * ((np.abs(frame.y - y) - height * 0.42) / 0.10) ** 2) * edge
        total += depth * 0.10 * body + 0.13 * plates
        middle = bend * np.sin(y / 9 + phase)
        size = 0.55 + 0.02 * (y + 20)
        for side in SIDES:
            at = (middle + side * 0.80 * float(np.interp(y, [-19, 18], [1.0, 1.9])), y - 0.1)
            total += 0.16 * ellipsoid(frame, at, (0.33 * size + 0.1, 0.55 * size, 1.0))
        total += 0.20 * ellipsoid(frame, (middle, y + 0.6), (0.28, 0.75, 1.2))
        y += height
    sides = np.exp(-0.5 * ((np.abs(offset) - half) / 0.10) ** 2)
    return total + 0.07 * sides


def skeleton(frame: Frame, patient: Patient, rng: np.random.Generator, grain: np.random.Generator) -> Array:
    """All bones; `grain` makes their inner texture."""
    total = ribs(frame, patient, rng) + clavicles(frame, patient, rng)
    total += shoulders(frame, patient, rng) + spine(frame, patient, rng)
    return blur(total * (1 + 0.06 * cloud(grain, frame.size, 1.6, 0.08)), 0.05 / frame.pixel)
