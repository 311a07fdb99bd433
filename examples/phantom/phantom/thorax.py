"""The soft parts of a chest: body outline, lungs, heart, great vessels, diaphragm, air passages.

Path lengths in cm. `side` is -1 for the patient's right (left in the picture) and +1 for the left.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .geometry import Array, Frame, blur, cloud, ellipsoid

SIDES = (-1, 1)


@dataclass
class Patient:
    """Everything about one chest that is drawn by chance, in cm and radians."""

    half_width: float  # of the thoracic cavity at its widest, inside the ribs
    depth: float  # half the depth of the cavity, front to back
    apex: float  # y of the top of the lungs
    dome: dict[int, float]  # y of the top of each half of the diaphragm
    heart_ratio: float  # cardiothoracic ratio
    heart_left: float  # share of the heart's width left of the midline
    turn: float  # shift of the front against the back, when the patient stands askew
    fat: float  # extra tissue around the cavity
    breast: float  # thickness of breast tissue over the lower lungs, 0 = none
    aorta: float  # size of the aortic knob
    bubble: float  # size of the gas bubble of the stomach
    lean: float = 0.0  # of the heart's axis

    @staticmethod
    def draw(rng: np.random.Generator, enlarged_heart: bool) -> Patient:
        right = rng.uniform(6.2, 8.6)
        return Patient(
            half_width=rng.uniform(12.3, 14.4),
            depth=rng.uniform(7.4, 9.2),
            apex=rng.uniform(-13.6, -12.2),
            dome={-1: right, 1: right + rng.uniform(0.3, 1.6)},
            heart_ratio=rng.uniform(0.55, 0.66) if enlarged_heart else rng.uniform(0.37, 0.47),
            heart_left=rng.uniform(0.64, 0.72),
            turn=rng.normal(0, 0.35),
            fat=rng.uniform(0, 2.2),
            breast=rng.uniform(1.5, 4.5) if rng.random() < 0.4 else 0.0,
            aorta=rng.uniform(1.2, 1.8),
            bubble=rng.uniform(0.8, 2.4) if rng.random() < 0.65 else 0.0,
            lean=rng.uniform(0.45, 0.75),
        )

    def wall(self, y: Array | float) -> Array:
        """Distance of the inner chest wall from the midline at height y; 0 above the apex."""
        rise = np.clip((5.0 - np.asarray(y)) / (5.0 - self.apex), 0, 1)
        return (self.half_width * (1 - rise**3.0) ** (1 / 2.1)).astype(np.float32)

    def diaphragm(self, side: int, x: Array) -> Array:
        """y of the upper contour of one half of the diaphragm, falling into the costophrenic angle."""
        crest = 0.47 * self.half_width
        out = np.clip((side * x - crest) / (self.half_width - crest), 0, 1.15)
        inward = np.clip((crest - side * x) / crest, 0, 1)
        return self.dome[side] + 4.6 * out**2.3 + 1.3 * inward**2


@dataclass
class Thorax:
    """The layers of one chest; findings change them before the picture is taken."""

    frame: Frame
    patient: Patient
    body: Array  # everything inside the skin
    field: dict[int, Array]  # 0..1, where the lung of a side lies above its diaphragm
    lung: dict[int, Array]  # aerated lung
    heart: Array
    heart_outline: Array  # 0..1
    airway: Array
    bubble: Array
    extra: Array = field(default_factory=lambda: np.zeros(0, np.float32))  # soft tissue inside air
    gas: Array = field(default_factory=lambda: np.zeros(0, np.float32))  # free air in the pleural space


def body(frame: Frame, patient: Patient) -> Array:
    """Trunk, neck, shoulders and upper arms."""
    x, y = np.abs(frame.x), frame.y
    outer = patient.half_width + 2.4 + patient.fat
    shoulder = np.interp(y, [-30, -18, -15.5, -13.2, -11, -7, -3], [5.3, 5.2, 6.4, 13, 19.5, 21.5, outer])
    width = np.where(y < -3, shoulder, outer + 0.06 * (y + 3)).astype(np.float32)
    depth = np.interp(y, [-30, -16, -10, 0, 9, 18], [6.0, 6.6, 9.0, 10.4, 11.2, 11.4]) + 0.4 * patient.fat
    ratio = np.clip(1 - (x / width) ** 3.2, 0, 1)
    trunk = 2 * depth * ratio ** (1 / 2.4)
    # Arms hang a little away from the trunk; half a chord of a cylinder with a slanted axis.
    axis = 19.6 + 0.10 * (y + 8)
    arm = 2 * np.sqrt(np.clip(3.7**2 - (x - axis) ** 2, 0, None)) * frame.step(y + 10, 4)
    total = np.maximum(trunk, 0) + arm * (trunk < 3)
    for side in SIDES:
        total += 0.35 * ellipsoid(frame, (side * 8.8, -6.5), (6.0, 5.0, 3.2 + patient.fat), side * 0.5)
        if patient.breast:
            centre = (side * (8.0 + 0.2 * patient.fat), 7.4)
            total += ellipsoid(frame, centre, (6.2, 5.6, patient.breast / 3), side * 0.15)
    return blur(total.astype(np.float32), 0.12 / frame.pixel)


def heart(frame: Frame, patient: Patient) -> tuple[Array, Array]:
    """Heart and great vessels: path length, and the outline of the heart as 0..1."""
    width = 2 * patient.half_width * patient.heart_ratio
    left, right = width * patient.heart_left, width * (1 - patient.heart_left)
    base = min(patient.dome.values()) + 1.0
    large = patient.heart_ratio / 0.45
    x0 = patient.turn
    # The left ventricle is a long ellipsoid leaning to the left; its extent in x is known in closed form.
    tilt, long, short = patient.lean, 6.9 * large**0.55, 4.6 * large**0.75
    reach = np.hypot(long * np.cos(tilt), short * np.sin(tilt))
    centre_y = base - 1.0 - 0.62 * np.hypot(long * np.sin(tilt), short * np.cos(tilt))
    left_part = ellipsoid(frame, (x0 + left - reach, centre_y), (long, short, 6.3 * large**0.3), tilt)
    atrium_height = 4.6 * large**0.5
    right_part = ellipsoid(
        frame, (x0 - right + 3.6, base - 0.8 * atrium_height), (3.6, atrium_height, 5.6 * large**0.3), -0.12
    )
    # Pulmonary trunk and left atrial appendage fill the waist of the left border.
    waist = ellipsoid(frame, (x0 + 1.2 + 0.1 * left, centre_y - 3.6), (2.5, 4.6, 4.6), 0.25)
    chambers = (left_part**4 + right_part**4 + waist**4) ** 0.25
    arch = ellipsoid(frame, (x0 + 1.1, -5.9), (patient.aorta + 0.9, patient.aorta + 0.3, 3.8))
    descending = 4.5 * np.sqrt(np.clip(1 - ((frame.x - x0 - 1.7) / 1.25) ** 2, 0, 1)) * frame.step(frame.y + 5.5, 2)
    cava = ellipsoid(frame, (x0 - 1.5, -5.0), (1.5, 8.5, 3.2), 0.03)
    half = np.interp(frame.y, [-30, -14, -10, -5, 20], [4.4, 3.6, 3.0, 2.6, 2.2]).astype(np.float32)
    middle = 12.0 * np.clip(1 - ((frame.x - 0.6 * x0) / half) ** 2, 0, 1) ** 0.8
    mediastinum = (arch**4 + descending**4 + cava**4 + middle**4) ** 0.25
    total = (chambers**6 + mediastinum**6) ** (1 / 6)
    dome = np.where(frame.x < 0, patient.diaphragm(-1, frame.x), patient.diaphragm(1, frame.x))
    outline = frame.step(np.maximum(left_part, right_part) - 0.6) * (frame.y < dome + 0.5)
    return blur(total.astype(np.float32), 0.06 / frame.pixel), outline


def lungs(frame: Frame, patient: Patient, heart_path: Array) -> tuple[dict[int, Array], dict[int, Array]]:
    """Where each lung lies above its diaphragm (0..1), and its path length of aerated tissue."""
    fields, paths = {}, {}
    wall = patient.wall(frame.y)
    u = np.abs(frame.x) / np.maximum(wall, 0.05)
    depth = patient.depth * np.interp(frame.y, [-13, -7, 2, 12], [0.62, 0.86, 1.0, 1.0])
    chord = 2 * depth * np.clip(1 - u**2.6, 0, 1) ** (1 / 2.2)
    chord *= np.clip((frame.y - patient.apex) / 2.6, 0, 1) ** 0.5
    for side in SIDES:
        dome = patient.diaphragm(side, frame.x)
        above = frame.step(dome - frame.y)
        below = 0.20 * np.exp(-np.clip(frame.y - dome, 0, None) / 2.4)  # the lung behind the diaphragm
        inner = side * frame.x - np.interp(frame.y, [-14, -9, -4], [2.9, 2.2, 1.4])
        air = np.clip(chord - 1.04 * heart_path, 0.10 * chord, None) * (side * frame.x > 0)
        air *= 0.25 + 0.75 * frame.step(inner, 1.1)
        fields[side] = above * (chord > 0.5) * (side * frame.x > 0.8) * (air > 0.45 * chord)
        paths[side] = (air * (above + (1 - above) * below)).astype(np.float32)
    return fields, paths


def airway(frame: Frame, patient: Patient) -> Array:
    """Trachea and main bronchi."""
    middle = 0.5 * patient.turn + 0.25
    half = 0.85
    trachea = 2 * np.sqrt(np.clip(half**2 - (frame.x - middle) ** 2, 0, None))
    trachea *= frame.step(-3.9 - frame.y, 0.6)
    total = trachea
    for side, slope in ((-1, 1.25), (1, 0.75)):
        run = side * (frame.x - middle)
        off = (frame.y + 4.2 - slope * run) / np.hypot(1, slope)
        bronchus = 2 * np.sqrt(np.clip(0.55**2 - off**2, 0, None))
        total = np.maximum(total, bronchus * frame.step(run, 0.4) * frame.step(3.6 - run, 1.6))
    return blur(total.astype(np.float32), 0.08 / frame.pixel) * 0.8


def stomach(frame: Frame, patient: Patient, rng: np.random.Generator) -> Array:
    """The gas bubble under the left half of the diaphragm, with a fluid level, and some bowel gas."""
    total = np.zeros_like(frame.x)
    if patient.bubble:
        y = patient.dome[1] + 0.9 + 0.8 * patient.bubble
        x = rng.uniform(5.0, 7.5)
        bubble = ellipsoid(frame, (x, y), (1.5 * patient.bubble, patient.bubble, 1.6))
        total += bubble * frame.step(y + 0.5 * patient.bubble - frame.y)
    for _ in range(rng.integers(0, 5)):
        centre = (rng.uniform(2, 12), rng.uniform(13.5, 18))
        total += ellipsoid(frame, centre, (rng.uniform(0.5, 1.3), rng.uniform(0.4, 0.9), 0.9), rng.uniform(-1, 1))
    return blur(total.astype(np.float32), 0.1 / frame.pixel)


def thorax(frame: Frame, patient: Patient, rng: np.random.Generator, grain: np.random.Generator) -> Thorax:
    """All layers of a chest without findings; `grain` makes the texture of tissue."""
    path, outline = heart(frame, patient)
    fields, air = lungs(frame, patient, path)
    mottle = 1 + 0.03 * cloud(grain, frame.size, 2.0, 0.12)
    total = body(frame, patient) * (1 + 0.008 * cloud(grain, frame.size, 3.0, 0.6))
    return Thorax(
        frame=frame,
        patient=patient,
        body=total,
        field=fields,
        lung={side: air[side] * mottle for side in SIDES},
        heart=path,
        heart_outline=outline,
        airway=airway(frame, patient),
        bubble=stomach(frame, patient, rng),
        extra=np.zeros_like(total),
        gas=np.zeros_like(total),
    )
