"""Explainers side by side with the fastest peer, the same work for all in one run: `bench/run --explainers`.

Every contestant lives in its own process, as in compare.py; for each method they take turns. A method's first run by
each contestant is checked (where both define the same thing, the attributions must agree) and not timed, except with
--quick, where it counts. The fastest peer is the one with the least time; ratios are peer / libxai.

What a run measures is merged into explainers.json, so that a long benchmark can be made in pieces (--models,
--methods); the table shows all pieces, each with its build and date.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pieces
from compare import Figure, Network, Served, prepare, start
from pieces import Piece


@dataclass(frozen=True)
class Task:
    """One method, the work of everyone, and what is wanted of libxai."""

    method: str
    peers: tuple[str, ...]
    work: int  # what `unit` counts
    quick: int
    unit: str
    goal: float  # times the fastest peer
    same: float | None = None  # relative L2 distance within which a peer that defines the same must lie
    networks: tuple[str, ...] = ("densenet121", "resnet50")


TASKS = (
    # One ReLU at zero changes a float32 gradient by a percent (compare.py), so the limits of gradients are wide.
    Task("integrated_gradients", ("Captum",), 50, 10, "steps", 2.3, 5e-2),
    Task("gradient_shap", ("Captum", "SHAP"), 50, 10, "samples, 10 backgrounds", 3.2),
    Task("deepshap", ("Captum", "SHAP"), 10, 10, "backgrounds", 5),
    Task("kernel_shap", ("Captum",), 784, 64, "evaluations", 2.5),
    Task("lime", ("Captum",), 784, 64, "evaluations", 2.3),
    Task("partition_shap", ("SHAP",), 500, 40, "evaluations", 3),
    Task("occlusion", ("Captum",), 16, 32, "pixels of window and stride", 5, 1e-3),
    Task("scorecam", ("pytorch-grad-cam",), 0, 0, "(all channels)", 1.8, None, ("resnet18",)),
    Task("tree_shap", ("SHAP, trees",), 100, 100, "background rows, 1000 rows", 3, 1e-4, ("lightgbm",)),
)


def race(task: Task, served: list[Served], network: str, threads: int, quick: bool, rounds: int) -> list[Figure]:
    """Times of one method, in turns. Who lacks it is left out; who raises is left out with a word."""
    work = task.quick if quick else task.work
    figures: dict[str, Figure] = {}
    able = [each for each in served if each.name in task.peers or each.name.startswith("libxai")]
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds if quick else rounds + 1):
            for place in range(len(able)):
                contestant = able[(place + turn) % len(able)]
                name, file = contestant.name, Path(folder) / f"{contestant.name}.npy"
                if turn and name not in figures:
                    continue
                time.sleep(0.1)  # threads of the last one may still be spinning
                request = {"task": "explain", "method": task.method, "work": work}
                answer = contestant.ask(**request, **({} if turn else {"save": str(file)}))
                if "missing" in answer:
                    print(f"  {network}, {task.method}: {name} left out, it {answer['missing']}", file=sys.stderr)
                    continue
                figure = figures.setdefault(name, Figure(network, threads, 1, task.method, name))
                if turn or quick:
                    figure.milliseconds.append(answer["milliseconds"])
                figure.peak_mib = max(figure.peak_mib or 0, answer["peak_mib"])
            if turn == 0:
                agree(task, network, [(name, Path(folder) / f"{name}.npy") for name in figures])
    return list(figures.values())


def agree(task: Task, network: str, results: list[tuple[str, Path]]) -> None:
    """Say how far the peers are from libxai, and stop where the same thing was computed differently."""
    found = {name: np.load(file) for name, file in results}
    own = next((value for name, value in found.items() if name.startswith("libxai")), None)
    for name, value in found.items():
        if own is None or name.startswith("libxai") or value.size != own.size:
            continue
        a, b = own.ravel().astype(np.float64), value.ravel().astype(np.float64)
        distance = np.linalg.norm(a - b) / np.linalg.norm(a)
        cosine = a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30)
        # Sampled methods draw differently, and Captum gives every pixel its segment's whole value, libxai its share.
        text = f"cosine {cosine:.4f}" + (f", relative L2 distance {distance:.1e}" if task.same is not None else "")
        print(f"  {network}, {task.method}: {name} to libxai: {text}", file=sys.stderr)
        if task.same is not None and not distance < task.same:
            raise SystemExit(f"{task.method}: {name} and libxai compute different things: the times mean nothing")


def row(piece: Piece) -> str:
    """One line of the table."""
    task = next(each for each in TASKS if each.method == piece.method)
    figures = [figure for figure in piece.figures if figure.milliseconds]
    own = next((figure for figure in figures if figure.contestant.startswith("libxai")), None)
    peers = [figure for figure in figures if figure is not own]
    work = f"{(task.quick if piece.quick else task.work) or ''} {task.unit}".strip()
    threads = f", {piece.threads} thread{'s' if piece.threads > 1 else ''}"
    begin = f"| {piece.network}, {piece.method} | {work}{threads} |"
    end = f"| {piece.build or 'unknown'}, {piece.date} |"
    if own is None or not peers:
        return f"{begin} – | nobody to compare with | – | {task.goal} | – {end}"
    peer = min(peers, key=lambda each: each.least)
    ratio = peer.least / own.least
    name = peer.contestant.partition(",")[0]
    version = piece.versions.get(name, "")
    return (
        f"{begin} {own.least:.0f} / {own.median:.0f} ms "
        f"| {f'{name} {version}'.strip()}, {peer.least:.0f} / {peer.median:.0f} ms "
        f"| **{ratio:.2f}** / {peer.median / own.median:.2f} | {task.goal}{'' if ratio >= task.goal else ', missed'} "
        f"| {own.peak_mib:.0f} / {peer.peak_mib:.0f} MiB {end}"
    )


def table(found: list[Piece]) -> str:
    """One row a piece: all times, the ratio to the fastest peer, peak memory, the goal, and where it comes from."""
    head = "| network, method | work | libxai, min / median | fastest peer | times faster, min / median | goal |"
    head += " peak memory, libxai / peer | build, date (UTC) |"
    order = {task.method: place for place, task in enumerate(TASKS)}
    known = sorted((each for each in found if each.method in order), key=lambda each: (order[each.method], each.key))
    return "\n".join([head, "|" + " --- |" * 8, *map(row, known)])


def trees() -> Network:
    """The table's model, made in a process of its own."""
    command = [sys.executable, "-c", "import models; print(models.trees())"]
    done = subprocess.run(command, cwd=Path(__file__).parent, check=True, stdout=subprocess.PIPE, text=True)
    return Network("lightgbm", Path(done.stdout.split()[-1]), None, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer evaluations, the same for everyone, and 2 rounds")
    parser.add_argument("--methods", nargs="+", choices=[task.method for task in TASKS])
    parser.add_argument("--models", nargs="+", default=["lightgbm", "densenet121", "resnet50", "resnet18"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="default: 3; 2 with --quick")
    parser.add_argument("--output", type=Path, default=Path("explainers.json"))
    arguments = parser.parse_args()
    wanted = [task for task in TASKS if arguments.methods is None or task.method in arguments.methods]
    names = [name for name in arguments.models if any(name in task.networks for task in wanted)]
    networks = [trees()] if "lightgbm" in names else []
    networks += prepare([name for name in names if name != "lightgbm"], 16)

    known = pieces.read(arguments.output)
    for network in networks:
        tasks = [task for task in wanted if network.name in task.networks]
        own = "libxai, trees" if network.name == "lightgbm" else "libxai"
        served = start(network, [own, *dict.fromkeys(p for task in tasks for p in task.peers)], arguments.threads)
        versions = {each.name.partition(",")[0]: each.version for each in served}
        for task in tasks:
            print(f"{network.name}, {task.method}", file=sys.stderr)
            rounds = arguments.rounds or (2 if arguments.quick else 3)
            figures = race(task, served, network.name, arguments.threads, arguments.quick, rounds)
            made = Piece(network.name, task.method, arguments.quick, arguments.threads, figures, versions)
            # Written after every method: a run that is cut short has told what it measured.
            known = pieces.merge(known, pieces.stamped(made, Path(__file__).parent))
            pieces.write(arguments.output, known)
            arguments.output.with_suffix(".md").write_text(table(known) + "\n")
        for each in served:
            each.close()
    processors = ", ".join(dict.fromkeys(each.processor for each in known))
    print(f"{processors}, {os.cpu_count()} cores, {platform.system()}.\n")
    print(table(known))


if __name__ == "__main__":
    main()
