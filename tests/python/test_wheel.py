"""The wheel: for any Python 3, everything inside, small, and enough for a machine with numpy and cffi alone."""

import os
import pathlib
import re
import subprocess
import sys
import venv
import zipfile

import cffi
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
    """A virtual environment that sees numpy and cffi and nothing else, without network."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for module in (np, cffi, __import__("_cffi_backend"), pytest.importorskip("pycparser")):
        place = pathlib.Path(module.__file__)
        place = place.parent if place.name == "__init__.py" else place
        (site / place.name).symlink_to(place)
        for beside in place.parent.glob(place.name + ".libs"):
            (site / beside.name).symlink_to(beside)
    return site


def test_works_with_numpy_and_cffi_alone(wheel, tmp_path, data):
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
