"""torchvision's networks at full size against PyTorch in float64, where PyTorch is there.

XAI_PEERS_PYTHON names an interpreter with torch and torchvision; otherwise the environment of bench/run is used when
it exists. A gradient jumps where a ReLU's input crosses zero, and a deep network has millions of them: PyTorch's
float32 is itself up to some 1e-2 from its float64, by one such jump or none. A wrong operator shows in every
picture: in the best of three libxai has to be within 1e-3, or 3 times PyTorch's own error; and in none far from it.
"""

import os
import pathlib
import subprocess
import sys

import libxai
import numpy as np
import pytest

HERE = pathlib.Path(__file__).resolve().parent
FAMILIES = [
    *("densenet121", "resnet18", "resnet50", "vgg11", "efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small"),
    *("inception_v3", "googlenet", "squeezenet1_1", "mnasnet0_5", "shufflenet_v2_x1_0", "regnet_y_400mf"),
]


def peers_python():
    """The interpreter, or why there is none."""
    named = os.environ.get("XAI_PEERS_PYTHON")
    candidates = [named] if named else []
    if not named:
        tool = HERE.parents[1] / "tools/cache-folder"
        cache = pathlib.Path(subprocess.run([tool], capture_output=True, text=True, check=True).stdout.strip())
        candidates = [str(path.parent / "bin/python") for path in sorted(cache.glob("bench-python*/complete"))]
    for candidate in candidates:
        done = subprocess.run(
            [candidate, "-c", "import torch, onnx, onnxruntime"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return candidate, ""
        if named:
            pytest.fail(
                f"XAI_PEERS_PYTHON={named} cannot import what is needed: {done.stderr.strip()[-300:]}", pytrace=False
            )
    return None, "no PyTorch: set XAI_PEERS_PYTHON to an interpreter with torch and torchvision, or run bench/run once"


def names():
    chosen = os.environ.get("XAI_PARITY_MODELS", "").split()
    return [name for name in FAMILIES if not chosen or name in chosen]


@pytest.fixture(scope="module")
def python():
    found, reason = peers_python()
    if not found:
        pytest.skip(reason)
    return found


def relative(found, wanted):
    """Relative L2 of each row."""
    assert found.shape == wanted.shape
    rows = len(wanted)
    difference = np.linalg.norm((found.astype(np.float64) - wanted).reshape(rows, -1), axis=1)
    return difference / np.linalg.norm(wanted.reshape(rows, -1), axis=1)


def check(name, python, folder):
    """Complaints about one network; prints its figures."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = [python, str(HERE / "torchvision_references.py"), name, str(folder)]
    done = subprocess.run(script, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        return [f"{name}: no reference: {done.stderr.strip()[-600:]}"]
    wanted = dict(np.load(folder / f"{name}.npz"))
    (folder / f"{name}.npz").unlink()
    model = libxai.Model(str(wanted["path"]))
    x, target = wanted["image"], wanted["targets"]
    found = {"input_gradient": model.gradient(x, target)}
    for i in range(2):
        layer = str(wanted[f"layer{i}"])
        found[f"layer_gradient{i}"] = model.gradient(x, target, wrt=layer)
        found[f"gradcam{i}"] = libxai.explain(model, x, "gradcam", target, layer=layer).values
        found[f"gradcam_plus_plus{i}"] = libxai.explain(model, x, "gradcam++", target, layer=layer).values
    scores, exact = model(x), wanted["scores"]
    error = float(np.abs(scores - exact).max() / np.abs(exact).max())
    lines, complaints = [f"scores {error:.1e}"], []
    if not error <= 1e-4:
        complaints.append(f"{name}: scores differ by {error:.1e} of their scale")
    if scores.argmax(1).tolist() != target.tolist():
        complaints.append(f"{name}: the highest scores are {scores.argmax(1)}, not {target}")
    for key, value in found.items():
        error, own = relative(value, wanted[key]), relative(wanted[key + "_float32"], wanted[key])
        best = f"{error.min():.1e} (PyTorch's float32 {own.min():.1e})"
        lines.append(f"{key} {best}, worst {error.max():.1e} ({own.max():.1e})")
        # Grad-CAM++ divides by 2 g^2 + sum(A) g^3, which may vanish where a layer has negative values.
        far = np.inf if "plus_plus" in key else max(0.1, 3 * own.max())
        if not (error.min() <= max(1e-3, 3 * own.max()) and error.max() <= far):
            complaints.append(f"{name}: {lines[-1]}")
    sys.stdout.write(f"{name}: {'; '.join(lines)}\n")
    return complaints


def test_networks_of_torchvision(python, tmp_path):
    """One test, so that without PyTorch there is one skip. XAI_PARITY_MODELS chooses some of the networks."""
    complaints = [each for name in names() for each in check(name, python, tmp_path)]
    assert not complaints, "\n".join(complaints)
