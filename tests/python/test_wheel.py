"""The wheel: for any Python 3, everything inside, small, enough for a machine with numpy and cffi's C module alone."""

import os
import pathlib
import re
import subprocess
import sys
import venv
import zipfile

import _cffi_backend
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = 20_000_000  # bytes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from the root of the repository, as `pip install .` does."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index"]
    environment = dict(os.environ)
    if "XAI_BUILD_ROOT" in environment:
        environment["XAI_BUILD"] = environment["XAI_BUILD_ROOT"]
    command += ["--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, env=environment, timeout=600)
    (found,) = folder.glob("*.whl")
    return found


def test_name_says_any_python_and_the_platform(wheel):
    machine = re.escape(os.uname().machine)
    assert re.fullmatch(rf"libxai-[0-9.]+-py3-none-(manylinux_2_\d+|linux)_{machine}\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        (facts,) = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        text = archive.read(facts).decode()
    assert "Root-Is-Purelib: false" in text and f"Tag: {wheel.name.split('-', 2)[2][:-4]}" in text


def test_size(wheel):
    assert wheel.stat().st_size <= SMALL


def test_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        libraries = {name: archive.read(name) for name in names if ".so" in name}
    assert "libxai/libxai.so.1" in libraries and "libxai/py.typed" in names
    # The licence of whatever is packed lies beside it.
    packed = {name.split("/")[1].partition(".so")[0] for name in libraries} - {"libxai"}
    assert {name.split("/")[2] for name in names if "/licences/" in name} == packed
    for name, data in libraries.items():
        assert b"/.cache/" not in data and str(ROOT).encode() not in data, name


def clean_environment(folder):
    """A virtual environment that sees numpy and the compiled part of cffi and nothing else, without network."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for module in (np, _cffi_backend):
        place = pathlib.Path(module.__file__)
        place = place.parent if place.name == "__init__.py" else place
        (site / place.name).symlink_to(place)
        for beside in place.parent.glob(place.name + ".libs"):
            (site / beside.name).symlink_to(beside)
    return site


def test_works_without_a_parser_of_c(wheel, tmp_path, data):
    site = clean_environment(tmp_path / "clean")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (tmp_path / "m.onnx").write_bytes(data)
    program = """
import sys, numpy as np, libxai
x = np.random.default_rng(0).standard_normal((2, 2, 20, 24)).astype("f")
m = libxai.Model(sys.argv[1])
e = libxai.explain(m, x, "gradcam", "Nodule")
e.save(sys.argv[2], np.zeros((20, 24)))
loaded = {line.split()[-1] for line in open("/proc/self/maps") if "libxai.so" in line or "libdnnl" in line}
print(libxai.math_library(), *loaded)
assert loaded and all(path.startswith(sys.argv[3]) for path in loaded), loaded
assert set(sys.modules) & {"pytest", "onnx", "setuptools"} == set()
"""
    python = tmp_path / "clean/bin/python"
    arguments = [str(tmp_path / "m.onnx"), str(tmp_path / "overlay.png"), str(site.resolve())]
    done = subprocess.run(
        [str(python), "-I", "-c", program, *arguments],
        env={"PATH": "/nonexistent"},  # no compiler
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "overlay.png").read_bytes()[:4] == b"\x89PNG"


def windows_loading(monkeypatch, tmp_path, load):
    """Run the loading for Windows on a folder like that of its wheel, with `load` in place of ctypes.WinDLL."""
    import ctypes

    from libxai import _library

    for name in ("dnnl.dll", "xai.dll"):
        (tmp_path / name).touch()
    (tmp_path / "prefix").mkdir()
    (tmp_path / "prefix/vcomp140.dll").touch()
    added = []
    monkeypatch.setattr(_library, "_FOLDER", tmp_path)
    monkeypatch.setattr(_library, "_NAME", "xai.dll")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(os, "add_dll_directory", added.append, raising=False)
    monkeypatch.setattr(ctypes, "WinDLL", load, raising=False)
    return _library._load_windows()[0], added


def test_windows_loads_what_xai_needs_first(monkeypatch, tmp_path):
    import ctypes

    import libxai

    order = []

    def load(path):
        order.append(pathlib.Path(path))
        return ctypes.CDLL(next(line.split()[-1] for line in open("/proc/self/maps") if "libxai.so" in line))

    library, added = windows_loading(monkeypatch, tmp_path, load)
    assert order == [tmp_path / "dnnl.dll", tmp_path / "xai.dll"] and added == [str(tmp_path / "prefix")]
    assert libxai._library.ffi.string(library.xai_version()).decode() == libxai.__version__


def test_windows_names_the_runtime_that_is_missing(monkeypatch, tmp_path):
    def load(path):
        raise FileNotFoundError(f"Could not find module '{path}' (or one of its dependencies)")

    with pytest.raises(ImportError, match=r"dnnl\.dll.*VCOMP140\.DLL.*Redistributable.*libxai\[windows-runtime\]"):
        windows_loading(monkeypatch, tmp_path, load)
