"""Run the contestants side by side and print times, memory and ratios. Called by bench/run.

Every contestant lives in its own process, with its own threads and memory. They take turns: in each round every
contestant runs a task for a moment, one call behind the other, and the order moves on by one from round to round, so
that a busy machine harms all of them alike. Only a ratio within one run means something: of the best times of all, and
the median over the rounds of the ratio within a round. Cold starts and peak memory come from fresh processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = (
    "libxai",
    "libxai, fast",
    "PyTorch",
    "pytorch-grad-cam",
    "pytorch-grad-cam, frozen",
    "Captum",
    "ONNX Runtime",
    "OpenVINO",
)
PLAIN = ("libxai", "libxai, fast", "PyTorch", "ONNX Runtime", "OpenVINO")  # forward or gradient, not Grad-CAM alone
FAMILIES = (
    "densenet121",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "vgg16",
    "inception_v3",
    "googlenet",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet0_5",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_y_400mf",
    "convnext_tiny",
    "swin_t",
    "vit_b_16",
)
TASKS = ("forward", "gradient", "gradcam", "gradcam14")
TITLES = {
    "forward": "forward",
    "gradient": "gradient to the input",
    "gradcam": "Grad-CAM",
    "gradcam14": "Grad-CAM of 14 targets",
}
# Cold start: fresh process to the first result of this task.
FIRST = {
    "libxai": "gradcam",
    "PyTorch": "gradient",
    "pytorch-grad-cam": "gradcam",
    "Captum": "gradcam",
    "ONNX Runtime": "forward",
    "OpenVINO": "forward",
}


@dataclass
class Figure:
    """All times of one contestant at one task, or the memory of a fresh process."""

    network: str
    threads: int
    batch: int
    task: str
    contestant: str
    milliseconds: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    rounds: list[float] = field(default_factory=list)  # the median of each round

    @property
    def least(self) -> float:
        return min(self.milliseconds)

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)

    def ratios(self, own: Figure) -> tuple[float, float]:
        """How many times as long as `own`: the best times, and the median of the rounds (of all times: cold starts)."""
        pairs = zip(self.rounds, own.rounds, strict=True)
        paired = [other / mine for other, mine in pairs] or [self.median / own.median]
        return self.least / own.least, statistics.median(paired)


@dataclass(frozen=True)
class Network:
    """An exported network and the two names of its Grad-CAM layer."""

    name: str
    path: Path
    module: str | None  # None: only scores and gradients are compared
    value: str | None

    def arguments(self, contestant: str, threads: int) -> list[str]:
        """The command that serves one contestant."""
        layer = self.value if contestant in ("libxai", "libxai, fast", "ONNX Runtime", "OpenVINO") else self.module
        command = [sys.executable, "-m", "contestants.serve", contestant, self.name, str(self.path), layer or ""]
        return [*command, str(threads)]

    def can(self, task: str) -> bool:
        """Whether the task makes sense for this network."""
        return self.module is not None or not task.startswith("gradcam")


def environment(threads: int) -> dict[str, str]:
    """Threads for everyone; nobody may reach for a network."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}


def prepare(names: list[str], batch: int) -> list[Network]:
    """Export the networks and write the pictures, in a process of its own: this one stays small."""
    script = (
        "import sys, json, models, numpy\n"
        "for name in sys.argv[2:]:\n"
        "    path, module = models.onnx_file(name), models.GRADCAM_LAYER[name]\n"
        "    numpy.save(path.parent / 'pictures.npy', models.pictures(int(sys.argv[1])))\n"
        "    print(json.dumps([name, str(path), module, module and models.layer_value(path, module)]))\n"
    )
    command = [sys.executable, "-c", script, str(batch), *names]
    lines = subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [Network(name, Path(path), module, value) for name, path, module, value in map(json.loads, lines)]


class Served:
    """A running contestant."""

    def __init__(self, network: Network, name: str, threads: int):
        self.name = name
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed by close()
        self.process = subprocess.Popen(
            network.arguments(name, threads),
            cwd=HERE,
            env=environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.version = self._line()["version"]

    def _line(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            reason = (self.log.read().strip().splitlines() or ["it ended without a word"])[-1]
            raise RuntimeError(f"{self.name}: {reason}")
        return json.loads(line)

    def ask(self, **request: object) -> dict:
        """Send one request and wait for its answer."""
        with contextlib.suppress(BrokenPipeError):  # its reason is read below
            print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._line()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


def start(network: Network, names: list[str], threads: int) -> list[Served]:
    """Start the contestants; those that cannot start are left out with a word."""
    served = []
    for name in names:
        try:
            served.append(Served(network, name, threads))
        except RuntimeError as error:
            print(f"left out: {error}", file=sys.stderr)
    return served


def race(
    served: list[Served],
    network: str,
    threads: int,
    batch: int,
    rounds: int,
    tasks: list[str],
    *,
    quiet: float,
    turn: float,
) -> list[Figure]:
    """Times of all tasks in turns of `turn` seconds; some runs before count for nothing."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for task in tasks:
            racing: list[tuple[Served, Figure]] = []
            for contestant in served:
                saved = str(Path(folder) / f"{contestant.name}.npy")
                if "missing" not in contestant.ask(task=task, batch=batch, seconds=max(turn, 0.5), save=saved):
                    racing.append((contestant, Figure(network, threads, batch, task, contestant.name)))
            for number in range(rounds):
                for place in range(len(racing)):
                    contestant, figure = racing[(place + number) % len(racing)]
                    time.sleep(quiet)  # threads of the last one may still be spinning
                    times = contestant.ask(task=task, batch=batch, seconds=turn)["milliseconds"]
                    figure.milliseconds += times
                    figure.rounds.append(statistics.median(times))
            figures += [figure for _, figure in racing]
            agree(task, [(contestant.name, Path(folder) / f"{contestant.name}.npy") for contestant, _ in racing])
            for file in Path(folder).iterdir():
                file.unlink()
    return figures


def agree(task: str, results: list[tuple[str, Path]]) -> None:
    """Say how far the results are from the first contestant's: nobody is fast by being wrong.

    Gradients may differ by a percent in float32: a ReLU whose input is nearly zero falls on one side or the other.
    Grad-CAM maps are not compared here: pytorch-grad-cam returns them scaled and resized. tests/parity does.
    """
    import numpy as np

    if task not in ("forward", "gradient") or len(results) < 2:
        return
    reference = np.load(results[0][1])
    for name, file in results[1:]:
        other = np.load(file)
        distance = float(np.linalg.norm(other - reference) / np.linalg.norm(reference))
        print(f"  {task}: {name} differs from {results[0][0]} by {distance:.1e} (relative L2)", file=sys.stderr)
        if not distance < {"forward": 1e-3, "gradient": 5e-2}[task]:
            raise SystemExit(f"{task}: {name} and {results[0][0]} compute different things: the times mean nothing")


def cold_start(network: Network, names: list[str], threads: int, rounds: int) -> list[Figure]:
    """Fresh process to first result, and the peak memory of that process; contestants in turns."""
    figures = {}
    for turn in range(rounds + 1):  # the first turn only fills the file cache
        for name in [name for name in names if name in FIRST]:
            begin = time.perf_counter()
            done = subprocess.run(
                [*network.arguments(name, threads), FIRST[name]],
                cwd=HERE,
                env=environment(threads),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            elapsed = (time.perf_counter() - begin) * 1000
            if done.returncode != 0 or turn == 0:
                continue
            figure = figures.setdefault(name, Figure(network.name, threads, 1, f"cold {FIRST[name]}", name))
            figure.milliseconds.append(elapsed)
            figure.peak_mib = max(figure.peak_mib or 0, json.loads(done.stdout)["peak_mib"])
    return list(figures.values())


def cold_program(network: Network, program: Path, threads: int, rounds: int) -> list[Figure]:
    """The same for the program `xai`, if it was built: no Python at all."""
    if not program.exists():
        return []
    figure = Figure(network.name, threads, 1, "cold gradcam", "libxai (program xai)")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.npy"
        crop = "import sys, numpy; numpy.save(sys.argv[2], numpy.load(sys.argv[1])[:1])"
        subprocess.run([sys.executable, "-c", crop, network.path.parent / "pictures.npy", picture], check=True)
        command = [str(program), "explain", str(network.path), str(picture), "--method", "gradcam"]
        command += ["--layer", network.value, "--target", "3", "--npy", str(Path(folder) / "map.npy")]
        for turn in range(rounds + 1):
            begin = time.perf_counter()
            process = subprocess.Popen(command, env=environment(threads), stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                print(f"left out: {' '.join(command)} failed", file=sys.stderr)
                return []
            if turn:
                figure.milliseconds.append((time.perf_counter() - begin) * 1000)
                figure.peak_mib = max(figure.peak_mib or 0, usage.ru_maxrss / 1024)
    return [figure]


def cell(figure: Figure | None, reference: Figure | None) -> str:
    """Best and median, and how many times as long as the reference."""
    if figure is None:
        return "–"
    text = f"{figure.least:.1f} / {figure.median:.1f} ms"
    if reference is None:
        return text
    best, median = figure.ratios(reference)
    return f"{text}, **x{best:.2f} / {median:.2f}**"


def tables(figures: list[Figure], cold: list[Figure]) -> str:
    """Markdown: best / median and the ratios to libxai, one table a network, thread count and batch."""
    lines = []
    settings = dict.fromkeys((f.network, f.threads, f.batch) for f in figures)
    for network, threads, batch in settings:
        chosen = {
            (f.contestant, f.task): f for f in figures if (f.network, f.threads, f.batch) == (network, threads, batch)
        }
        tasks = [task for task in TASKS if any(t == task for _, t in chosen)]
        plural = "s" if threads > 1 else ""
        lines += [f"### {network}, batch {batch}, {threads} thread{plural}", ""]
        lines += ["| | " + " | ".join(TITLES[task] for task in tasks) + " |", "| --- |" + " --- |" * len(tasks)]
        for name in dict.fromkeys(name for name, _ in chosen):
            cells = [cell(chosen.get((name, task)), chosen.get(("libxai", task))) for task in tasks]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        one, many = chosen.get(("libxai", "gradcam")), chosen.get(("libxai", "gradcam14"))
        if one and many:
            best, median = many.ratios(one)
            lines += ["", f"libxai: 14 targets take {best:.2f} / {median:.2f} times as long as one."]
        lines.append("")
    for network, threads in dict.fromkeys((f.network, f.threads) for f in cold):
        lines += [f"### {network}, fresh process to the first result, {threads} threads", ""]
        lines += ["| | first result | best / median | peak memory |", "| --- | --- | --- | --- |"]
        chosen = [f for f in cold if (f.network, f.threads) == (network, threads)]
        reference = next((f for f in chosen if f.contestant == "libxai"), None)
        for figure in chosen:
            what = TITLES[figure.task.removeprefix("cold ")]
            lines.append(f"| {figure.contestant} | {what} | {cell(figure, reference)} | {figure.peak_mib:.0f} MiB |")
        lines.append("")
    return "\n".join(lines)


def summary(figures: list[Figure], name: str) -> str:
    """Ratios of all networks in one table: how many times faster than the peer, by best times and by rounds."""
    lines = []
    peers = (("forward", "ONNX Runtime"), ("forward", "OpenVINO"), ("forward", "PyTorch"), ("gradient", "PyTorch"))
    for threads, batch in dict.fromkeys((f.threads, f.batch) for f in figures):
        chosen = {(f.network, f.contestant, f.task): f for f in figures if (f.threads, f.batch) == (threads, batch)}
        networks = dict.fromkeys(network for network, _, _ in chosen)
        plural = "s" if threads > 1 else ""
        setting = f"batch {batch}, {threads} thread{plural}"
        lines += [f"### All networks, {setting}: {name}, times faster, best / median of the rounds", ""]
        lines += [
            "| | " + " | ".join(f"{task}, {peer}" for task, peer in peers) + " | forward, the faster of the two |"
        ]
        lines += ["| --- |" + " --- |" * (len(peers) + 1)]
        columns: list[list[tuple[float, float]]] = [[] for _ in range(len(peers) + 1)]
        for network in networks:
            cells = []
            for column, (task, peer) in enumerate((*peers, ("forward", ""))):
                own = chosen.get((network, name, task))
                peers_of = [peer] if peer else ["ONNX Runtime", "OpenVINO"]
                others = [chosen[network, each, task] for each in peers_of if (network, each, task) in chosen]
                if own is None or not others:
                    cells.append("–")
                    continue
                best, median = (min(side) for side in zip(*(each.ratios(own) for each in others), strict=True))
                columns[column].append((best, median))
                cells.append(f"{best:.2f} / {median:.2f}")
            lines.append(f"| {network} | " + " | ".join(cells) + " |")
        means = [
            " / ".join(f"{statistics.geometric_mean(side):.2f}" for side in zip(*pairs, strict=True)) if pairs else "–"
            for pairs in columns
        ]
        lines += ["| **geometric mean** | " + " | ".join(means) + " |", ""]
    return "\n".join(lines)


def processor() -> str:
    """Name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="DenseNet-121, batch 1, 2 threads, 5 rounds")
    parser.add_argument(
        "--models", nargs="+", help="networks by torchvision's name, or all; default: densenet121 resnet50"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="default: all; of --models all: forward gradient")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1 and 2")
    parser.add_argument("--batch", type=int, nargs="+", help="rows of a call; default: 1 and 16")
    parser.add_argument("--contestants", nargs="+", choices=NAMES, help="default: all that can do one of the tasks")
    parser.add_argument("--no-cold", action="store_true", help="leave out fresh processes")
    parser.add_argument("--rounds", type=int, help="default: 15 for batch 1, a third of it for more")
    parser.add_argument("--quiet", type=float, default=0.1, help="seconds between turns")
    parser.add_argument(
        "--turn",
        type=float,
        default=0.3,
        help="seconds of a turn, calls in a row (default 0.3); 0 = one call after a pause",
    )
    parser.add_argument("--program", type=Path, default=HERE.parent / "build" / "xai", help="the program xai")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    quick = arguments.quick
    every = arguments.models == ["all"]
    tasks = arguments.tasks or (["forward", "gradient"] if every else list(TASKS))
    cam = any(task.startswith("gradcam") for task in tasks)
    names = [name for name in arguments.contestants or NAMES if cam or name in PLAIN]
    rounds = arguments.rounds or (5 if quick or every else 15)
    batches = arguments.batch or ([1] if quick or every else [1, 16])
    chosen = FAMILIES if every else arguments.models or (["densenet121"] if quick else ["densenet121", "resnet50"])
    networks = prepare(list(chosen), max(*batches, 16))

    figures: list[Figure] = []
    cold: list[Figure] = []
    versions: dict[str, str] = {}
    for network in [] if arguments.no_cold or every else networks:  # first of all, while this process is small
        cold += cold_start(network, names, 2, 1 if quick else 5)
        cold += cold_program(network, arguments.program, 2, 1 if quick else 5)
    for network in networks:
        able = [name for name in names if network.can("gradcam") or name in PLAIN]
        for threads in arguments.threads or ([2] if quick or every else [1, 2]):
            served = start(network, able, threads)
            versions |= {contestant.name: contestant.version for contestant in served}
            for batch in batches:
                print(f"{network.name}, {threads} threads, batch {batch}", file=sys.stderr)
                turns = rounds if batch == 1 else max(rounds // 3, 1)
                wanted = [task for task in tasks if network.can(task)]
                pace = {"quiet": arguments.quiet, "turn": arguments.turn}
                made = race(served, network.name, threads, batch, turns, wanted, **pace)
                print(tables(made, []), file=sys.stderr)  # a long run that is stopped has not been in vain
                figures += made
            for contestant in served:
                contestant.close()

    machine = {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()}
    report = {"machine": machine, "versions": versions, "figures": [asdict(figure) for figure in figures + cold]}
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    text = f"{machine['processor']}, {machine['cores']} cores. {listed}.\n"
    text += "Best / median; **xA / B**: A times as long as libxai by the best times, B by the median of the rounds'"
    text += " ratios.\n\n"
    text += tables(figures, cold)
    if len(networks) > 2:
        for own in ("libxai", "libxai, fast"):
            if any(figure.contestant == own for figure in figures):
                text += "\n" + summary(figures, own)
    arguments.output.with_suffix(".md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
