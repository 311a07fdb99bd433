"""Build backend of the repository's root: `pip install .` there installs bindings/python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from setuptools import build_meta

FOLDER = Path(__file__).resolve().parent


def build_wheel(folder: str, settings: Any = None, metadata: Any = None) -> str:
    """Build the wheel into a folder; return its name."""
    folder = os.path.abspath(folder)
    os.chdir(FOLDER)
    return build_meta.build_wheel(folder, settings, None)


def get_requires_for_build_wheel(settings: Any = None) -> list[str]:
    """Nothing beyond what pyproject.toml requires."""
    return []
