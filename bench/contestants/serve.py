"""One contestant in its own process, driven line by line over its pipes by compare.py.

    python -m contestants.serve NAME NETWORK ONNX_FILE LAYER THREADS          # answers one JSON line a request
    python -m contestants.serve NAME NETWORK ONNX_FILE LAYER THREADS TASK     # runs TASK once and ends: a cold start

A request is {"task", "batch", "seconds"} with an optional "save" (a file for the result): runs in a row for that long,
one at least. The answer holds the milliseconds of every run, or {"missing": why}. The task "explain" has "method" and
"work" in place of "batch" and "seconds"; its answer also has the most memory held meanwhile.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np

from .base import TARGET, Contestant

# name -> (module, class, whether Grad-CAM's layer is named as in PyTorch or as in the ONNX file)
CONTESTANTS = {
    "libxai": ("xai", "LibXai", "onnx"),
    "libxai, fast": ("xai", "LibXaiFast", "onnx"),
    "PyTorch": ("pytorch", "PyTorch", "torch"),
    "pytorch-grad-cam": ("pytorch_gradcam", "PytorchGradCam", "torch"),
    "pytorch-grad-cam, frozen": ("pytorch_gradcam", "PytorchGradCamFrozen", "torch"),
    "Captum": ("captum_peer", "Captum", "torch"),
    "SHAP": ("shap_peer", "Shap", "torch"),
    "SHAP, trees": ("shap_peer", "ShapTrees", "torch"),
    "libxai, trees": ("xai", "LibXaiTrees", "onnx"),
    "ONNX Runtime": ("onnx_runtime", "OnnxRuntime", "onnx"),
    "OpenVINO": ("open_vino", "OpenVino", "onnx"),
}


def run(contestant: Contestant, task: str, x: np.ndarray) -> np.ndarray:
    """One run of a task."""
    if task == "forward":
        return contestant.forward(x)
    if task == "gradient":
        return contestant.gradient(x, TARGET)
    if task == "gradcam":
        return contestant.gradcam(x, [TARGET])
    if task == "gradcam14":
        return contestant.gradcam(x, list(range(14)))
    raise ValueError(f"unknown task {task!r}")


def peak_memory() -> float:
    """The most memory this process ever held, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmHWM in /proc/self/status")


def explain(contestant: Contestant, request: dict, rows: np.ndarray) -> dict:
    """One explanation: its time and the peak memory of the process meanwhile."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the last method left behind counts for that one
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    start = time.perf_counter()
    try:
        result = contestant.explain(request["method"], rows, request["work"])
    except NotImplementedError:
        return {"missing": "not offered"}
    except Exception as error:  # whatever a peer raises is told, and the peer left out
        return {"missing": f"raises {type(error).__name__}: {str(error)[:200]}"}
    elapsed = (time.perf_counter() - start) * 1000
    if "save" in request:
        np.save(request["save"], result)
    return {"milliseconds": elapsed, "peak_mib": peak_memory()}


def answer(contestant: Contestant, request: dict, pictures: np.ndarray) -> dict:
    """Do what one request says."""
    if request["task"] == "explain":
        return explain(contestant, request, pictures)
    x = np.ascontiguousarray(pictures[: request["batch"]])
    milliseconds = []
    try:
        end = time.perf_counter() + request["seconds"]
        while not milliseconds or time.perf_counter() < end:
            start = time.perf_counter()
            result = run(contestant, request["task"], x)
            milliseconds.append((time.perf_counter() - start) * 1000)
    except NotImplementedError:
        return {"missing": "not offered"}
    if "save" in request:
        np.save(request["save"], result)
    return {"milliseconds": milliseconds}


def main() -> None:
    name, network, path, layer, threads = sys.argv[1:6]
    module, kind, _ = CONTESTANTS[name]
    # Whatever a peer prints goes to stderr: stdout carries answers alone.
    channel, sys.stdout = sys.stdout, sys.stderr
    pictures = np.load(Path(path).parent / "pictures.npy")
    contestant = getattr(importlib.import_module(f"contestants.{module}"), kind)(
        network, Path(path), layer, int(threads)
    )
    if len(sys.argv) > 6:
        run(contestant, sys.argv[6], pictures[:1])
        print(json.dumps({"peak_mib": peak_memory()}), file=channel, flush=True)
        return
    print(json.dumps({"version": contestant.version()}), file=channel, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(contestant, json.loads(line), pictures)), file=channel, flush=True)


if __name__ == "__main__":
    main()
