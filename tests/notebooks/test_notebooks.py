"""Every notebook of examples/notebooks runs from the first cell to the last, in a kernel of its own."""

import importlib.util
import pathlib

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "examples/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    for package in notebook.metadata.get("libxai", {}).get("needs", []):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": FOLDER}}
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
