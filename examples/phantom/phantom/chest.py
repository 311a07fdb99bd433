"""Frontal chest radiographs: any combination of five findings, or none."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from . import findings
from .detector import display, expose
from .geometry import Array, Frame
from .picture import Mask, Picture
from .skeleton import skeleton
from .thorax import SIDES, Patient, Thorax, thorax
from .vessels import vessels

CHEST_LABELS = ("Pneumothorax", "Pleural effusion", "Nodule", "Cardiomegaly", "Consolidation")
FIELD = 38.0  # side of the picture, cm
SOFT, LUNG, BONE = 0.185, 0.050, 0.42  # attenuation, 1/cm; bone is what it adds to soft tissue


def chest(seed: int, size: int = 256, present: Collection[str] | None = None) -> Picture:
    """One radiograph of `size` pixels; `present` names the findings, None draws each with chance 0.3.

    The same seed gives the same patient at every size.
    """
    draw = [np.random.default_rng([seed, stream]) for stream in range(7)]
    chance = draw[0].random(len(CHEST_LABELS)) < 0.3
    if present is None:
        present = [name for name, yes in zip(CHEST_LABELS, chance, strict=True) if yes]
    unknown = set(present) - set(CHEST_LABELS)
    if unknown:
        raise ValueError(f"unknown finding {sorted(unknown)}; the findings are {', '.join(CHEST_LABELS)}")

    pose = draw[1]
    frame = Frame(
        size,
        FIELD * pose.uniform(0.90, 1.03),
        angle=pose.normal(0, 0.025),
        dx=pose.normal(0, 0.5),
        dy=pose.normal(0, 0.6) + 0.3,
    )
    patient = Patient.draw(draw[2], "Cardiomegaly" in present)
    layers = thorax(frame, patient, draw[2], draw[5])
    masks, facts = add_findings(layers, present, draw[3], draw[5])
    markings = vessels(frame, patient, draw[4])
    bone = skeleton(frame, patient, draw[4], draw[5])
    image = radiograph(layers, markings, bone, draw[6])
    facts["cardiothoracic_ratio"] = patient.heart_ratio
    return Picture(image, masks, facts)


def add_findings(
    layers: Thorax, present: Collection[str], rng: np.random.Generator, grain: np.random.Generator
) -> tuple[dict[str, Mask], dict[str, float | str]]:
    """Draw the findings into the layers; free air and free fluid never share a side."""
    masks: dict[str, Mask] = {}
    facts: dict[str, float | str] = {}
    sides = {name: int(rng.choice(SIDES)) for name in CHEST_LABELS}
    sides["Pleural effusion"] = -sides["Pneumothorax"] if "Pneumothorax" in present else sides["Pleural effusion"]
    taken = np.zeros(layers.body.shape, bool)
    for name in CHEST_LABELS:
        if name not in present:
            continue
        side = sides[name]
        if name == "Pneumothorax":
            masks[name] = findings.pneumothorax(layers, side, rng)
        elif name == "Pleural effusion":
            masks[name] = findings.effusion(layers, side, rng)
        elif name == "Nodule":
            masks[name] = findings.nodule(layers, side, taken, rng)
        elif name == "Cardiomegaly":
            masks[name] = findings.cardiomegaly(layers)
        else:
            masks[name] = findings.consolidation(layers, side, taken, rng, grain)
        if name != "Cardiomegaly":
            taken |= masks[name]
            facts[f"{name}: side"] = "right" if side < 0 else "left"
    return masks, facts


def radiograph(layers: Thorax, markings: Array, bone: Array, rng: np.random.Generator) -> Array:
    """Beam, detector and display of one exposure."""
    frame = layers.frame
    lung = layers.lung[-1] + layers.lung[1]
    visible = np.clip(lung / 5.0, 0, 1)
    air = lung + layers.gas + layers.airway + layers.bubble
    soft = np.clip(layers.body - air, 0, None)
    attenuation = SOFT * soft + LUNG * lung + BONE * bone
    attenuation += (SOFT - LUNG) * (layers.extra + 1.5 * markings * visible)
    signal = expose(rng, attenuation, frame.pixel, photons=rng.uniform(8000, 40000))
    inside = lung > 3
    low, high = np.quantile(signal[inside], 0.01), np.quantile(signal, rng.uniform(0.965, 0.995))
    margin = high - low
    low -= rng.uniform(-0.03, 0.12) * margin
    picture = display(signal, low, high, rng.uniform(0.9, 1.35), rng.uniform(0.2, 0.7), frame.pixel)
    return side_marker(picture, rng)


def side_marker(picture: Array, rng: np.random.Generator) -> Array:
    """The lead letter L beside the patient's left shoulder."""
    size = picture.shape[0]
    top, left = (np.array([rng.uniform(0.03, 0.10), rng.uniform(0.88, 0.93)]) * size).astype(int)
    height, width, stroke = max(size // 22, 4), max(size // 40, 3), max(size // 128, 1)
    picture[top : top + height, left : left + stroke] = 0.97
    picture[top + height - stroke : top + height, left : left + width] = 0.97
    return picture
