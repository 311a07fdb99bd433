"""Pack the built library, what it needs and the C declarations into a wheel for any Python."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).resolve().parent))
import packing


class BuildWithLibrary(build_py):
    """build_py that adds the shared libraries."""

    def run(self) -> None:
        """Copy the Python files, then the binary parts."""
        super().run()
        packing.fill(Path(self.build_lib) / "libxai")


class Wheel(bdist_wheel):
    """A wheel for any Python 3: cffi opens the library when the package is imported."""

    def get_tag(self) -> tuple[str, str, str]:
        """Name the platform by what the packed libraries need."""
        platform = super().get_tag()[2]
        built = Path(self.bdist_dir) / "libxai" if self.bdist_dir else Path()
        if not built.is_dir():
            built = Path(self.get_finalized_command("build").build_lib) / "libxai"
        return "py3", "none", packing.platform_tag(built, platform)


class BinaryDistribution(Distribution):
    """A distribution for this platform only."""

    def has_ext_modules(self) -> bool:
        """Say that the package is not pure Python."""
        return True


if __name__ == "__main__":
    # Outside the tree: nothing stale is packed from an earlier build; the source may be read-only.
    scratch = tempfile.mkdtemp(prefix="libxai-build-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    setup(
        version=packing.project_version(),
        options={"build": {"build_base": scratch}},
        cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": Wheel},
        distclass=BinaryDistribution,
    )
