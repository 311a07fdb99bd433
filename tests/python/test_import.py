"""What `import libxai` brings into a process: numpy, cffi's module in C and its own few modules."""

import json
import subprocess
import sys

import libxai
import pytest

# In a process of its own: what came after numpy, on import and after one explanation.
PROGRAM = """
import sys, numpy
before = set(sys.modules)
import libxai
imported = set(sys.modules) - before
model = libxai.Model(sys.argv[1])
libxai.explain(model, numpy.ones((1, 2, 20, 24), "f"), "gradcam", "Nodule").map
explained = set(sys.modules) - before
import json
print(json.dumps([sorted(imported), sorted(explained)]))
"""
# Each costs milliseconds, or much more; what needs one of them imports it then.
NOT_WANTED = {
    "cffi",
    "pycparser",
    "dataclasses",
    "tempfile",
    "subprocess",
    "urllib",
    "matplotlib",
    "PIL",
    "onnx",
    "torch",
    "libxai._frameworks",
    "libxai._localisation",
    "libxai._plot",
    "libxai._png",
    "libxai._quantus",
    "libxai._shap",
    "libxai.captum_style",
    "libxai.dicom",
}
OF_OTHERS = 8  # modules of cffi and of the standard library that numpy does not bring, whatever its version


def run(program, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_explanation_needs_few_modules(data, tmp_path):
    (tmp_path / "m.onnx").write_bytes(data)
    imported, explained = run(PROGRAM, tmp_path / "m.onnx")
    assert not set(imported) & NOT_WANTED
    others = [name for name in imported if not name.startswith("libxai")]
    assert "_cffi_backend" in others and len(others) <= OF_OTHERS, others
    assert not set(explained) & NOT_WANTED
    assert len(set(explained) - set(imported)) <= 1, set(explained) - set(imported)


@pytest.mark.parametrize("name", sorted(libxai._LATER))
def test_every_name_is_there_when_asked_for(name):
    """Each in a process of its own: none hangs on another having been asked for."""
    program = f"import json, libxai; listed = {name!r} in dir(libxai); print(json.dumps([listed, repr(libxai.{name})]))"
    listed, found = run(program)
    assert listed and found


def test_all_names_come_by_star():
    assert set(libxai.__all__) <= set(run("import json; from libxai import *; print(json.dumps(list(globals())))"))


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="module 'libxai' has no attribute 'gradcam'"):
        libxai.gradcam  # noqa: B018
