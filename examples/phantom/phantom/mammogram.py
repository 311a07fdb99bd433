"""Mediolateral oblique mammograms: one breast, with a mass or without.

The breast is compressed, so the beam crosses nearly the same thickness everywhere but at the skin line; grey
values tell fat from fibroglandular tissue, whose texture has a power spectrum close to 1/f^3.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from .detector import display, expose
from .geometry import Array, Frame, along, ball, blur, cloud, ellipsoid, smear
from .picture import Mask, Picture

MAMMOGRAM_LABELS = ("Mass",)
FIELD = 18.0  # side of the picture, cm
FAT, GLAND, MUSCLE = 0.46, 0.80, 0.61  # attenuation at 28 kV, 1/cm


def mammogram(seed: int, size: int = 256, present: Collection[str] | None = None) -> Picture:
    """One mammogram of `size` pixels; `present` may name "Mass", None decides with chance 0.5.

    Right breasts (chest wall on the right) are mirrored. The same seed gives the same breast at every size.
    """
    draw = [np.random.default_rng([seed, stream, 77]) for stream in range(6)]
    chance = draw[0].random() < 0.5
    if present is None:
        present = MAMMOGRAM_LABELS if chance else ()
    unknown = set(present) - set(MAMMOGRAM_LABELS)
    if unknown:
        raise ValueError(f"unknown finding {sorted(unknown)}; the finding is Mass")

    frame = Frame(size, FIELD)
    outline = Outline(frame, draw[1])
    gland = parenchyma(frame, outline, draw[2], draw[4])
    strands = connective(frame, outline, draw[2])
    masks: dict[str, Mask] = {}
    facts: dict[str, float | str] = {}
    growth = np.zeros_like(gland)
    if present:
        kind = "spiculated" if draw[3].random() < 0.5 else "circumscribed"
        make = spiculated if kind == "spiculated" else circumscribed
        growth, masks["Mass"] = make(frame, outline, draw[3])
        facts["Mass: margin"] = kind
    image = exposure(frame, outline, gland, strands, growth, draw[5])
    if draw[0].random() < 0.5:
        image = image[:, ::-1].copy()
        masks = {name: mask[:, ::-1].copy() for name, mask in masks.items()}
    return Picture(image, masks, facts)


class Outline:
    """Skin line, thickness and pectoral muscle; the chest wall is the left edge of the picture."""

    def __init__(self, frame: Frame, rng: np.random.Generator):
        self.reach = rng.uniform(8.8, 14.0)  # from chest wall to nipple
        self.middle = rng.uniform(-0.5, 2.5)  # height of the nipple
        upper, lower = rng.uniform(9.5, 13.0), rng.uniform(6.0, 7.6)
        self.x = frame.x + FIELD / 2  # distance from the chest wall
        self.y = frame.y - self.middle
        half = np.where(self.y < 0, upper, lower)
        power = rng.uniform(1.9, 2.3)
        self.rho = ((self.x / self.reach) ** power + np.abs(self.y / half) ** power) ** (1 / power)
        scale = np.maximum(np.hypot(*np.gradient(self.rho, frame.pixel)), 1e-3)
        self.depth = ((1 - self.rho) / scale).astype(np.float32)  # cm under the skin
        self.compressed = rng.uniform(4.0, 6.0)
        edge = np.clip(self.depth / 1.6, 0, 1)
        self.thickness = self.compressed * np.sqrt(1 - (1 - edge) ** 2)
        self.nipple = (self.reach - FIELD / 2, self.middle)
        foot, top = rng.uniform(-1.5, 5.5), rng.uniform(3.0, 6.5)
        across = self.x - top * np.clip((foot - frame.y) / (foot + FIELD / 2), 0, None) ** rng.uniform(0.9, 1.15)
        self.muscle = frame.step(-across, 0.6) * (frame.y < foot) * (self.depth > 0)
        self.inside = (self.depth > 0).astype(np.float32)


def parenchyma(frame: Frame, outline: Outline, rng: np.random.Generator, grain: np.random.Generator) -> Array:
    """Share of fibroglandular tissue, 0..1: a cone behind the nipple, clouded."""
    density = rng.uniform(0.15, 0.75)
    behind = np.exp(-(((outline.x - 0.52 * outline.reach) / (0.36 * outline.reach)) ** 2))
    across = np.exp(-(((outline.y + 1.2) / rng.uniform(3.2, 5.0)) ** 2))
    cone = behind * across * np.clip((outline.depth - 0.6) / 1.5, 0, 1)
    clouds = 0.8 * cloud(grain, frame.size, 4.2, 0.30) + 0.35 * cloud(grain, frame.size, 3.4, 0.09)
    fibres = 0.22 * folded(grain, frame, 0.10) + 0.14 * folded(grain, frame, 0.05)
    glandular = 1 / (1 + np.exp(-(2.4 * cone + 0.8 * clouds + fibres + 1.8 * density - 2.5) / 0.55))
    fatty = 0.07 * np.clip(1 + 0.5 * clouds + 1.2 * fibres, 0, None)
    share = (density * 0.85 + 0.15) * glandular * (0.25 + 0.75 * cone**0.5) + fatty
    return (np.clip(share, 0, 1) * (1 - outline.muscle)).astype(np.float32)


def folded(grain: np.random.Generator, frame: Frame, longest: float) -> Array:
    """Thin winding ridges, as fibrous tissue makes them: the zero lines of a smooth cloud."""
    return 1.6 * np.exp(-np.abs(cloud(grain, frame.size, 4.0, longest)) / 0.35) - 0.6


def strands_of(frame: Frame, curves: list[Array], radius: float) -> Array:
    """Fine cords of round cross-section, cm of tissue."""
    x, y, length = (np.concatenate(part) for part in zip(*map(along, curves), strict=True))
    path = frame.deposit(x, y, length * np.pi * radius**2 / frame.pixel**2)
    return smear(path, ball(radius / frame.pixel, radius / frame.pixel))


def connective(frame: Frame, outline: Outline, rng: np.random.Generator) -> Array:
    """Cooper's ligaments, ducts towards the nipple and a few veins."""
    t = np.linspace(0, 1, 60)[:, None]
    nipple = np.array([*outline.nipple, 0.0])
    ligaments, veins = [], []
    for _ in range(90):
        start = nipple + [-rng.uniform(0.8, outline.reach), rng.normal(0, 3.2), 0]
        angle = np.arctan2(*(nipple - start)[1::-1]) + rng.normal(0, 0.7)
        end = start + rng.uniform(1.0, 3.2) * np.array([np.cos(angle), np.sin(angle), 0])
        ligaments.append(start + (end - start) * t + rng.normal(0, 0.25) * np.sin(np.pi * t) * [0, 1, 0])
    for _ in range(rng.integers(2, 6)):
        start = nipple + [-rng.uniform(0.5, 2), rng.normal(0, 2.5), 0]
        end = start + [-rng.uniform(4, 8), rng.normal(-1, 2.5), 0]
        wave = rng.normal(0, 0.5) * np.sin(np.pi * t * rng.uniform(1, 2.5)) * [0, 1, 0]
        veins.append(start + (end - start) * t + wave)
    total = strands_of(frame, ligaments, 0.055) * 1.6 + 0.8 * strands_of(frame, veins, 0.11)
    return total * np.clip(outline.depth, 0, 1) * (1 - 0.8 * outline.muscle)


def site(outline: Outline, margin: float, rng: np.random.Generator) -> tuple[float, float]:
    """A random place inside the breast, `margin` cm from skin and chest wall and off the muscle."""
    free = (outline.depth > margin) & (outline.x > margin) & (outline.muscle < 0.5)
    rank = rng.random(free.shape) * (free + 1e-3 * (outline.depth > 0))
    row, column = np.unravel_index(int(np.argmax(rank)), rank.shape)
    return float(outline.x[row, column] - FIELD / 2), float(outline.y[row, column] + outline.middle)


def circumscribed(frame: Frame, outline: Outline, rng: np.random.Generator) -> tuple[Array, Mask]:
    """A smooth oval or gently lobulated mass of 1.2 to 2.8 cm: path length and mask."""
    radius = rng.uniform(0.7, 1.4)
    x, y = site(outline, radius + 0.5, rng)
    path = np.zeros_like(frame.x)
    tilt, oval = rng.uniform(0, np.pi), rng.uniform(0.75, 1.0)
    for _ in range(rng.integers(1, 4)):
        centre = (x + rng.normal(0, 0.16) * radius, y + rng.normal(0, 0.16) * radius)
        path = np.maximum(path, ellipsoid(frame, centre, (radius, radius * oval, radius), tilt))
    return blur(path, 0.03 / frame.pixel), path > 0.3 * radius


def spiculated(frame: Frame, outline: Outline, rng: np.random.Generator) -> tuple[Array, Mask]:
    """A dense irregular core with straight spicules; the mask holds the core and the near half of them."""
    radius = rng.uniform(0.6, 1.1)
    x, y = site(outline, 1.8 * radius + 0.4, rng)
    angle = np.arctan2(frame.y - y, frame.x - x)
    edge = np.ones_like(angle)
    for wave in range(2, 8):
        edge += rng.normal(0, 0.16 / wave**0.5) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    distance = np.hypot(frame.x - x, frame.y - y) / (radius * np.clip(edge, 0.4, 1.6))
    core = 2 * radius * np.sqrt(np.clip(1 - distance**2, 0, 1))
    t = np.linspace(0, 1, 60)[:, None]
    spicules: dict[float, list[Array]] = {0.05: [], 0.08: []}
    for theta in np.linspace(0, 2 * np.pi, rng.integers(16, 30), endpoint=False):
        theta += rng.normal(0, 0.12)
        reach = radius * rng.uniform(1.5, 2.9)
        line = np.array([x, y, 0]) + reach * t * [np.cos(theta), np.sin(theta), 0]
        line = line + rng.normal(0, 0.06) * np.sin(np.pi * t) * [-np.sin(theta), np.cos(theta), 0]
        spicules[0.05].append(line)
        spicules[0.08].append(line[: rng.integers(30, 45)])
    arms = 1.5 * sum(strands_of(frame, curves, r) for r, curves in spicules.items())
    mask = np.hypot(frame.x - x, frame.y - y) < 1.5 * radius
    return (blur(core, 0.05 / frame.pixel) + np.minimum(arms, 1.2)) * outline.inside, mask & (outline.depth > 0)


def exposure(
    frame: Frame, outline: Outline, gland: Array, strands: Array, growth: Array, rng: np.random.Generator
) -> Array:
    """Beam, detector and display; thickness is evened out towards the skin as viewers do."""
    tissue = outline.thickness * (FAT + (GLAND - FAT) * gland)
    tissue += (MUSCLE - FAT) * outline.thickness * outline.muscle
    tissue += (GLAND - FAT) * (0.8 * strands + 1.5 * growth * (1 - 0.45 * gland))
    skin = np.exp(-0.5 * ((outline.depth - 0.10) / 0.09) ** 2) * 0.20
    tissue += skin + 0.35 * ellipsoid(frame, outline.nipple, (0.55, 0.45, 0.6))
    for _ in range(rng.integers(0, 4)):  # benign calcifications, of no account
        x, y = site(outline, 0.8, rng)
        tissue += 2.0 * ellipsoid(frame, (x, y), (0.07, 0.07, 0.07))
    signal = expose(rng, tissue, frame.pixel, photons=rng.uniform(60000, 200000), scatter=0.15, focus=0.02)
    low = 0.30 * np.quantile(signal[outline.depth > 0], 0.2)
    high = np.quantile(signal[outline.depth > 0.5], 0.995) * rng.uniform(1.0, 1.08)
    return display(signal, low, high, rng.uniform(1.2, 1.7), rng.uniform(0.2, 0.5), frame.pixel)
