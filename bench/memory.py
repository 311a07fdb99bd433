"""Peak memory of every method, each in a fresh process: `bench/run memory`.

The program `xai` and Python explain the same picture with the same options; what is told is the most memory that the
process ever held (resident, so the part of the model's file that was read counts too). Other processes do not disturb
it, so this can run on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import environment, prepare

GRID = {"segments": "grid:4", "samples": 80}
BACKGROUND = {"background": "rows.npy"}  # 10 rows
# What is run instead of a method's defaults. Memory does not grow with the evaluations: a few for each thread tell it.
WORK: dict[str, tuple[dict, ...]] = {
    "integrated_gradients": ({"steps": 10}, {"tolerance": 0.1}),
    "smoothgrad": ({"samples": 10},),
    "vargrad": ({"samples": 10},),
    "gradient_shap": ({"samples": 10}, {"samples": 10, **BACKGROUND}),
    "deepshap": (BACKGROUND,),
    "lrp": ({}, {"rule": "gamma"}, {"rule": "alpha_beta"}),
    "kernel_shap": (GRID, {"segments": "grid:2", "samples": 14, **BACKGROUND}),
    "partition_shap": ({"samples": 40},),
    "permutation_shap": ({**GRID, "segments": "grid:7", "samples": 200}, {"segments": "grid:2", **BACKGROUND}),
    "sampling_shap": ({"segments": "grid:2", "samples": 40},),
    "exact_shap": ({"segments": "grid:3"}, {"segments": "grid:2", "interactions": 1}),
    "lime": (GRID,),
    "feature_ablation": ({"segments": "grid:7"}, {"segments": "grid:2", **BACKGROUND}),
    "occlusion": ({"window": 16, "stride": 16}, {"window": 32, "stride": 32}),
    "rise": ({"samples": 40},),
    "aise": ({"samples": 30},),
}
SCRIPT = """
import json, sys
import libxai, numpy
model = libxai.Model(sys.argv[1], threads=int(sys.argv[2]))
rows = numpy.load(sys.argv[3])
options = json.loads(sys.argv[5])
if "segments" in options:
    options["segments"] = ("grid", int(options["segments"][5:]))
if "background" in options:
    options["background"] = numpy.load(options["background"])
libxai.explain(model, rows, sys.argv[4], 3, **options)
"""


def peak(command: list[str], threads: int) -> float | None:
    """MB (10^6 bytes) that a fresh process held at most; None when it failed."""
    process = subprocess.Popen(command, env=environment(threads), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        print(f"failed: {' '.join(command)}", file=sys.stderr)
        return None
    return usage.ru_maxrss * 1024 / 1e6


def measure(program: Path, network: Path, folder: Path, method: str, options: dict, threads: int) -> list[float | None]:
    """Of the program and of Python."""
    full = {name: str(folder / value) if name == "background" else value for name, value in options.items()}
    command = [str(program), "explain", str(network), str(folder / "row.npy"), "--method", method, "--target", "3"]
    for name, value in full.items():
        command += ["--option", f"{name}={value}"]
    command += ["--threads", str(threads), "--values", str(folder / "values.npy")]
    script = [sys.executable, "-c", SCRIPT, str(network), str(threads), str(folder / "row.npy"), method]
    return [peak(command, threads), peak([*script, json.dumps(full)], threads)]


def say(options: dict) -> str:
    """Options as a reader reads them."""
    parts = ["10 background rows" if name == "background" else f"{name} {value}" for name, value in options.items()]
    return ", ".join(parts) or "default"


def cell(mb: float | None) -> str:
    """MB, or that it failed."""
    return "failed" if mb is None else f"{mb:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True, help="the program xai (given by bench/run)")
    parser.add_argument("--models", nargs="+", default=["densenet121"])
    parser.add_argument("--methods", nargs="+", help="default: all but tree_shap, which takes trees")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=400, help="MB; more is marked")
    arguments = parser.parse_args()
    listed = subprocess.run([arguments.program, "methods"], check=True, stdout=subprocess.PIPE, text=True).stdout
    methods = [line.split()[0] for line in listed.splitlines()]
    methods = [name for name in methods if name in (arguments.methods or methods) and name != "tree_shap"]
    high = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network in prepare(arguments.models, 16):
            split = "import sys, numpy; x = numpy.load(sys.argv[1])\n"
            split += "numpy.save(sys.argv[2] + '/row.npy', x[:1]); numpy.save(sys.argv[2] + '/rows.npy', x[1:11])"
            subprocess.run([sys.executable, "-c", split, network.path.parent / "pictures.npy", name], check=True)
            print(f"| {network.name} | work | program, MB | Python, MB |\n| --- | --- | --- | --- |")
            for method in methods:
                for options in WORK.get(method, ({},)):
                    found = measure(arguments.program, network.path, folder, method, options, arguments.threads)
                    mark = any(mb is None or mb > arguments.limit for mb in found)
                    high = high or mark
                    row = f"| {method} | {say(options)} | {cell(found[0])} | {cell(found[1])} |"
                    print(row + (" too much" if mark else ""), flush=True)
    if high:
        raise SystemExit(f"more than {arguments.limit:.0f} MB, or failed")


if __name__ == "__main__":
    main()
