"""How the time of a forward pass grows with the side of the picture and with the batch, beside ONNX Runtime.

    bench/run growth                     # DenseNet-121, sides 128 to 1024, batches 1 to 64
    bench/run growth --model resnet50 --sides 128 256 512

Work grows with the square of the side and with the batch: the last column, time a megapixel, should stay level.
Both take turns in one process; the best of the rounds counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import libxai
import numpy as np
import onnx
import onnxruntime
from models import onnx_file, pictures


def free_sides(name: str) -> bytes:
    """The network with free height and width."""
    model = onnx.load(str(onnx_file(name)))
    for axis, size in ((2, "height"), (3, "width")):
        dim = model.graph.input[0].type.tensor_type.shape.dim[axis]
        dim.Clear()
        dim.dim_param = size
    del model.graph.value_info[:]
    return model.SerializeToString()


def race(contestants: dict[str, Callable], x: np.ndarray, rounds: int) -> dict[str, float]:
    """Best milliseconds of each, in turns."""
    scores = {name: run(x) for name, run in contestants.items()}  # compiles, and shows that they agree
    first, *others = scores.values()
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0, atol=1e-3 * np.abs(first).max())
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, run in contestants.items():
            time.sleep(0.05)  # threads of the last one may still be spinning
            begin = time.perf_counter()
            run(x)
            best[name] = min(best[name], (time.perf_counter() - begin) * 1000)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="densenet121")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", type=int, nargs="*", default=[128, 224, 256, 384, 512, 768, 1024])
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64])
    arguments = parser.parse_args()
    data = free_sides(arguments.model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = arguments.threads, 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    latency = libxai.Model(data, threads=arguments.threads)
    throughput = libxai.Model(data, threads=arguments.threads, mode="throughput")

    def peer(x: np.ndarray) -> np.ndarray:
        return session.run(None, {"image": x})[0]

    print(f"{arguments.model}, {arguments.threads} threads, best of {arguments.rounds}, milliseconds\n")
    print("| side, batch | libxai | a row a thread | ONNX Runtime | times faster | libxai, ms a megapixel |")
    print("| --- | --- | --- | --- | --- | --- |")
    cases = [(side, 1) for side in arguments.sides] + [(224, batch) for batch in arguments.batches]
    for side, batch in dict.fromkeys(cases):
        rounds = max(2, arguments.rounds * 224 * 224 // (side * side * batch) or 2)
        x = pictures(batch, side)
        contestants = {"libxai": latency, "ONNX Runtime": peer}
        if batch > 1:
            contestants["throughput"] = throughput
        best = race(contestants, x, min(rounds, arguments.rounds))
        rows = f"{best['throughput']:.1f}" if batch > 1 else "–"
        own = min(best["libxai"], best.get("throughput", float("inf")))
        ratio = best["ONNX Runtime"] / own
        each = own / (side * side * batch / 1e6)
        cells = [f"{side}, {batch}", f"{best['libxai']:.1f}", rows, f"{best['ONNX Runtime']:.1f}"]
        print("| " + " | ".join([*cells, f"{ratio:.2f}", f"{each:.0f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
