"""Pack the built shared library, oneDNN and the C declarations into the package."""

import atexit
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("XAI_BUILD", ROOT / "build"))
LIBRARY = "libxai.so.1"
HEADERS = ("status", "version", "tensor", "model", "target", "session", "explanation", "explainer")


def project_version() -> str:
    """Read the version from meson.build, the one place that has it."""
    found = re.search(r"version:\s*'([0-9.]+)'", (ROOT / "meson.build").read_text())
    if not found:
        raise SystemExit("meson.build names no version")
    return found.group(1)


def declarations() -> str:
    """Turn the public headers into the plain C that cffi reads."""
    text = "\n".join((ROOT / "include/xai" / f"{name}.h").read_text() for name in HEADERS)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.S)
    text = re.sub(r"^#.*(?:\\\n.*)*$", "", text, flags=re.M)
    text = text.replace("XAI_API ", "")
    return re.sub(r"\n\s*\n+", "\n", text).strip() + "\n"


def linked_onednn(library: Path) -> "Path | None":
    """Find the oneDNN that the library was linked with, when it is not the system's."""
    listing = subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=True)
    found = re.search(r"libdnnl\S*\s+=>\s+(/\S+)", listing.stdout)
    if not found or found.group(1).startswith(("/lib/", "/usr/lib/")):
        return None
    return Path(found.group(1))


def fill(package: Path) -> None:
    """Write the binary parts into a package folder."""
    library = BUILD / LIBRARY
    if not library.exists():
        raise SystemExit(
            f"{library} does not exist: build the library first "
            "(tools/setup && meson setup build && meson compile -C build) or set XAI_BUILD"
        )
    package.mkdir(parents=True, exist_ok=True)
    (package / "_declarations.h").write_text(declarations())
    shutil.copyfile(library, package / LIBRARY)
    onednn = linked_onednn(library)
    if onednn is not None:
        shutil.copyfile(onednn, package / onednn.name)


class BuildWithLibrary(build_py):
    """build_py that adds the shared libraries."""

    def run(self) -> None:
        """Copy the Python files, then the binary parts."""
        super().run()
        fill(Path(self.build_lib) / "libxai")


class BinaryDistribution(Distribution):
    """A wheel for this platform only."""

    def has_ext_modules(self) -> bool:
        """Say that the package is not pure Python."""
        return True


if __name__ == "__main__":
    # Outside the tree: nothing stale is packed from an earlier build; the source may be read-only.
    scratch = tempfile.mkdtemp(prefix="libxai-build-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    setup(
        version=project_version(),
        options={"build": {"build_base": scratch}},
        cmdclass={"build_py": BuildWithLibrary},
        distclass=BinaryDistribution,
    )
