"""What the wheel for Windows holds: names, size, tag, metadata, licences, what its DLLs need. Checks and unpacks it.

python wheel.py WHEEL FOLDER    -> FOLDER/libxai, and FOLDER/functions.h, FOLDER/redirect.h for load_wheel.c
"""

import pathlib
import re
import subprocess
import sys
import zipfile

SMALL = 20_000_000  # bytes
SYSTEM = {"kernel32.dll", "msvcrt.dll"}
# What docs/embedding.md and the package's error name as Microsoft's Visual C++ runtime.
RUNTIME = {"msvcp140.dll", "vcomp140.dll", "vcruntime140.dll", "vcruntime140_1.dll"}


def imports(library: pathlib.Path) -> set[str]:
    command = ["x86_64-w64-mingw32-objdump", "-p", str(library)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "file format pei-x86-64" in listing, library
    return {name.lower() for name in re.findall(r"DLL Name: (\S+)", listing)}


def main(wheel: pathlib.Path, folder: pathlib.Path) -> None:
    root = pathlib.Path(__file__).resolve().parents[2]
    assert re.fullmatch(r"libxai-[0-9.]+-py3-none-win_amd64\.whl", wheel.name), wheel.name
    assert wheel.stat().st_size <= SMALL, wheel.stat().st_size
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(folder)
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("dist-info/METADATA"))
        (facts,) = (archive.read(name).decode() for name in names if name.endswith("dist-info/WHEEL"))
    assert "Tag: py3-none-win_amd64" in facts and "Root-Is-Purelib: false" in facts, facts
    requirements = [line for line in re.findall(r"^Requires-Dist: (.*)$", metadata, flags=re.M) if "extra" not in line]
    required = {re.split(r"[<>=; ]", line)[0] for line in requirements}
    assert required == {"numpy", "cffi"}, required
    package = folder / "libxai"
    assert {path.name for path in package.glob("*.dll")} == {"xai.dll", "dnnl.dll"} and not list(package.glob("*.so*"))
    source = {path.name for path in (root / "bindings/python/libxai").glob("*.py")} | {"_declarations.py"}
    assert {path.name for path in package.glob("*.py")} == source and (package / "py.typed").exists()
    assert imports(package / "xai.dll") <= SYSTEM | {"dnnl.dll"}, imports(package / "xai.dll")
    needed = {name for name in imports(package / "dnnl.dll") if not name.startswith("api-ms-win-crt-")} - SYSTEM
    assert needed == RUNTIME, needed
    told = {name.lower() for name in re.findall(r'"(\w+\.dll)"', (package / "_library.py").read_text(), flags=re.I)}
    assert needed <= told, told
    licences = {path.parent.name: path for path in package.glob("licences/*/*")}
    assert set(licences) == {"dnnl", "gcc-runtime", "mingw-w64-runtime", "zlib"}, licences
    assert all(path.stat().st_size > 500 for path in licences.values())
    assert str(root).encode() not in (package / "xai.dll").read_bytes()

    # Of cffi's module: each function's name behind the code 0x23.
    functions = sorted(set(re.findall(r"\\x23(xai_\w+)", (package / "_declarations.py").read_text())))
    symbols = (root / "docs/symbols-by-version.txt").read_text().splitlines()
    listed = {line.split()[0] for line in symbols if line and line[0] != "#"}
    assert set(functions) == listed, set(functions) ^ listed
    (folder / "functions.h").write_text("".join(f"FUNCTION({name})\n" for name in functions))
    (folder / "redirect.h").write_text("".join(f"#define {name} api.{name}\n" for name in functions))
    print(f"        {wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {len(functions)} functions")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
