"""Every notebook of examples/notebooks runs from the first cell to the last, in a kernel of its own.

XAI_PEERS_PYTHON names an interpreter with ipykernel and what a notebook needs besides that is not installed here.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "examples/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def interpreter(needed):
    """The first Python that has all of it."""
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if not missing:
        return sys.executable
    other = os.environ.get("XAI_PEERS_PYTHON")
    imports = f"import {', '.join([*needed, 'ipykernel'])}"
    if other and subprocess.run([other, "-c", imports], capture_output=True, check=False).returncode == 0:
        return other
    return pytest.skip(f"{', '.join(missing)} is not installed (tools/setup --peers)")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, monkeypatch, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    python = interpreter(notebook.metadata.get("libxai", {}).get("needs", []))
    kernel = tmp_path / "kernels/chosen/kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": command, "display_name": "chosen", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="chosen", resources={"metadata": {"path": FOLDER}}
    )
    client.execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and all(cell.execution_count for cell in cells)
    errors = [out for cell in cells for out in cell.outputs if out.output_type == "stream" and out.name == "stderr"]
    assert not errors, errors


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_shipped_outputs_are_whole(path):
    """What readers see was made by a run without errors, and names no folder of anybody's machine."""
    notebook = nbformat.read(path, as_version=4)
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert outputs and all(out.output_type != "error" for out in outputs)
    text = path.read_text()
    assert "/home/" not in text and "/root/" not in text and "/tmp/" not in text
    assert path.stat().st_size < 1_500_000
