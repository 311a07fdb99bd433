"""The binary parts of the package: libxai, what it needs, licences, declarations."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARY = "libxai.so.1"
HEADERS = (
    "status",
    "version",
    "tensor",
    "model",
    "image",
    "target",
    "session",
    "explanation",
    "explainer",
)
# What every Linux with glibc and Python has (PEP 600); all else is packed.
SYSTEM = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|z|gcc_s|stdc\+\+))\.so(\.\d+)*$")


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


def built_library() -> Path:
    """Find the library in the build folder; build it there when nothing has been built yet."""
    named = os.environ.get("XAI_BUILD")
    folder = Path(named or ROOT / "build")
    library = folder / LIBRARY
    if not library.exists() and not named and shutil.which("meson"):
        onednn = ["-Donednn=enabled"] if os.uname().machine == "x86_64" else []
        if not (folder / "build.ninja").exists():
            subprocess.run(["meson", "setup", str(folder), str(ROOT), *onednn], check=True)
        subprocess.run(["meson", "compile", "-C", str(folder), "xai:shared_library"], check=True)
    if not library.exists():
        raise SystemExit(
            f"{library} does not exist: build the library first "
            "(tools/setup && meson setup build && meson compile -C build) or set XAI_BUILD"
        )
    return library


def needed(library: Path) -> dict[str, Path]:
    """List what a library needs, directly or not, and every Linux does not have: name to file."""
    listing = subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=True)
    found = {}
    for line in listing.stdout.splitlines():
        match = re.match(r"\s*(\S+)\s+=>\s+(/\S+|not found)", line)
        if match and not SYSTEM.match(match.group(1)):
            if match.group(2) == "not found":
                raise SystemExit(f"{library} needs {match.group(1)}, which is not found")
            found[match.group(1)] = Path(match.group(2)).resolve()
    return found


def pack(source: Path, target: Path) -> None:
    """Copy a library without its symbol table and without the folder that the build linked."""
    shutil.copyfile(source, target)
    if shutil.which("strip"):
        subprocess.run(["strip", "--strip-unneeded", str(target)], check=True)
    data = target.read_bytes()
    for folder in run_paths(target):
        old, new = folder.encode() + b"\0", b"$ORIGIN\0"
        if data.count(old) == 1 and len(old) >= len(new):
            data = data.replace(old, new.ljust(len(old), b"\0"))
    target.write_bytes(data)
    target.chmod(0o755)


def run_paths(library: Path) -> list[str]:
    """List the absolute search paths that a library carries."""
    if not shutil.which("readelf"):
        return []
    listing = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True)
    return re.findall(r"\((?:RPATH|RUNPATH)\).*\[(/[^\]]*)\]", listing.stdout)


def licences(library: Path, name: str) -> list[Path]:
    """List the licence texts that come with a library."""
    beside = library.parent.parent / "share/doc/onednn"
    if name.startswith("libdnnl") and beside.is_dir():
        return [beside / each for each in ("LICENSE", "THIRD-PARTY-PROGRAMS")]
    documents = Path("/usr/share/doc")
    stem = name.partition(".so")[0]
    return sorted(documents.glob(f"{stem}[0-9]*/copyright"))[:1]


def fill(package: Path) -> None:
    """Write the binary parts into a package folder."""
    library = built_library()
    package.mkdir(parents=True, exist_ok=True)
    (package / "_declarations.h").write_text(declarations())
    pack(library, package / LIBRARY)
    for name, path in needed(library).items():
        pack(path, package / name)
        for text in licences(path, name):
            folder = package / "licences" / name.partition(".so")[0]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(text, folder / f"{text.name}.txt")


def platform_tag(package: Path, otherwise: str) -> str:
    """Name the oldest glibc that the packed libraries run on, as PEP 600 does."""
    versions = {
        tuple(map(int, found.split(b".")))
        for library in package.glob("*.so*")
        for found in re.findall(rb"\0GLIBC_(\d+\.\d+)(?=[\0.])", library.read_bytes())
    }
    if not versions:
        return otherwise
    major, minor = max(versions)
    return f"manylinux_{major}_{minor}_{os.uname().machine}"
