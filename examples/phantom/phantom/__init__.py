"""Radiograph-like phantoms with known findings: pictures whose ground truth nobody has to guess.

Simple anatomy is projected the way an X-ray tube does it: the path length of the beam through every
organ, times that organ's attenuation, then scatter, photon noise and the display curve of a viewer.
Only numpy is needed. A picture depends on its seed alone.
"""

from .chest import CHEST_LABELS, chest
from .mammogram import MAMMOGRAM_LABELS, mammogram
from .picture import Picture

__all__ = ["CHEST_LABELS", "MAMMOGRAM_LABELS", "Picture", "chest", "mammogram"]
