"""The binary parts of the package: libxai, what it needs, licences, declarations.

For the system that builds, or, with XAI_TARGET=windows-x64, for Windows from a cross build in
XAI_BUILD (`bindings/python/windows-wheel` makes it).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WINDOWS = os.environ.get("XAI_TARGET") == "windows-x64"
LIBRARY = "xai.dll" if WINDOWS else "libxai.so.1"
HEADERS = (
    "status",
    "version",
    "tensor",
    "model",
    "image",
    "target",
    "session",
    "explanation",
    "display",
    "explainer",
)
# Of GNU OpenMP, for the package's `_fork`.
OPENMP = "int omp_pause_resource_all(int kind);\n"
# What every Linux with glibc and Python has (PEP 600); all else is packed.
SYSTEM = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|z|gcc_s|stdc\+\+))\.so(\.\d+)*$")

# What Windows and Microsoft's Visual C++ runtime have; the latter the user installs (it may not be
# passed on by everybody), and the package says so where it is missing.
SYSTEM_WINDOWS = re.compile(
    r"(kernel32|user32|advapi32|msvcrt|psapi|api-ms-win-crt-[a-z0-9-]+"
    r"|msvcp140|vcomp140|vcruntime140(_1)?)\.dll$",
    re.I,
)
# What mingw-w64 links into xai.dll: name of the folder of licences to Debian's package.
LINKED_IN_WINDOWS = {
    "gcc-runtime": "gcc-mingw-w64-base",
    "mingw-w64-runtime": "mingw-w64-common",
    "zlib": "libz-mingw-w64",
}


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


def write_declarations(package: Path) -> None:
    """Write the declarations as a module for cffi, so that nobody parses C at run time."""
    import cffi

    ffi = cffi.FFI()
    ffi.set_source("libxai._declarations", None)
    ffi.cdef(declarations() + OPENMP)
    ffi.emit_python_code(str(package / "_declarations.py"))


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
    """List what a library needs, directly or not, and every system does not have: name to file."""
    return needed_on_windows(library) if WINDOWS else needed_here(library)


def needed_here(library: Path) -> dict[str, Path]:
    """List what a library of this system needs, as the linker finds it."""
    listing = subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=True)
    found = {}
    for line in listing.stdout.splitlines():
        match = re.match(r"\s*(\S+)\s+=>\s+(/\S+|not found)", line)
        if match and not SYSTEM.match(match.group(1)):
            if match.group(2) == "not found":
                raise SystemExit(f"{library} needs {match.group(1)}, which is not found")
            found[match.group(1)] = Path(match.group(2)).resolve()
    return found


def imported(library: Path) -> list[str]:
    """List the DLLs that a DLL needs directly."""
    command = ["x86_64-w64-mingw32-objdump", "-p", str(library)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True)
    return re.findall(r"^\s*DLL Name: (\S+)", listing.stdout, flags=re.M)


def needed_on_windows(library: Path) -> dict[str, Path]:
    """List the DLLs that must lie beside a DLL, from the folder of oneDNN for Windows."""
    tool = str(ROOT / "tools/cache-folder")
    folder = subprocess.run([tool, "onednn-windows"], capture_output=True, text=True, check=True)
    binaries = Path(folder.stdout.strip()) / "bin"
    found: dict[str, Path] = {}
    waiting = [library]
    while waiting:
        for name in imported(waiting.pop()):
            if name in found or SYSTEM_WINDOWS.match(name):
                continue
            if not (binaries / name).exists():
                raise SystemExit(f"{library} needs {name}, which is not in {binaries}")
            found[name] = binaries / name
            waiting.append(found[name])
    return found


def pack(source: Path, target: Path) -> None:
    """Copy a library without its symbol table and without the folder that the build linked."""
    shutil.copyfile(source, target)
    if WINDOWS:
        if target.name == LIBRARY:  # others' DLLs are signed: as they are
            subprocess.run(["x86_64-w64-mingw32-strip", "--strip-all", str(target)], check=True)
        return
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
    if name.startswith(("libdnnl", "dnnl")) and beside.is_dir():
        return [beside / each for each in ("LICENSE", "THIRD-PARTY-PROGRAMS")]
    return debian_licences(name.partition(".so")[0] + "[0-9]*")


def debian_licences(package: str) -> list[Path]:
    """List the licence texts of a Debian package (a pattern), with the GPL that they refer to."""
    texts = sorted(Path("/usr/share/doc").glob(f"{package}/copyright"))[:1]
    common = Path("/usr/share/common-licenses/GPL-3")
    if texts and common.exists() and str(common) in texts[0].read_text(errors="replace"):
        texts.append(common)
    return texts


def copy_licences(package: Path, part: str, texts: list[Path]) -> None:
    """Put the licence texts of a part into the package."""
    if not texts:
        raise SystemExit(f"no licence text found for {part}, which is packed")
    folder = package / "licences" / part
    folder.mkdir(parents=True, exist_ok=True)
    for text in texts:
        shutil.copyfile(text, folder / f"{text.name}.txt")


def fill(package: Path) -> None:
    """Write the binary parts into a package folder."""
    library = built_library()
    package.mkdir(parents=True, exist_ok=True)
    write_declarations(package)
    pack(library, package / LIBRARY)
    for name, path in needed(library).items():
        pack(path, package / name)
        copy_licences(package, re.sub(r"\.(so|dll).*", "", name), licences(path, name))
    for part, debian in LINKED_IN_WINDOWS.items() if WINDOWS else ():
        copy_licences(package, part, debian_licences(debian))


def platform_tag(package: Path, otherwise: str) -> str:
    """Name the oldest glibc that the packed libraries run on, as PEP 600 does; or Windows."""
    if WINDOWS:
        return "win_amd64"
    versions = {
        tuple(map(int, found.split(b".")))
        for library in package.glob("*.so*")
        for found in re.findall(rb"\0GLIBC_(\d+\.\d+)(?=[\0.])", library.read_bytes())
    }
    if not versions:
        return otherwise
    major, minor = max(versions)
    return f"manylinux_{major}_{minor}_{os.uname().machine}"
