"""Measure the demo models on phantoms they have never seen.

    python examples/phantom/evaluate.py                 # both models, 600 pictures each

Prints, for every finding, the area under the ROC curve of the scores, and the pointing game of Grad-CAM: in how many
of the pictures with the finding the highest point of the map (at the 128 x 128 input, resized bilinearly from 16 x 16)
lies on the finding's ground-truth mask, not dilated. Chance is the mean share of the picture that the masks cover.
Needs libxai; where onnxruntime is installed, the scores are compared with it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import libxai
import numpy as np
from dataset import LABELS, Dataset, load
from measures import auc, pointing_hit

HERE = Path(__file__).resolve().parent


def prepare(images: np.ndarray, mean: float = 0.5, std: float = 0.25) -> np.ndarray:
    """uint8 (N, H, W) to the models' input (N, 1, H, W), as their cards say."""
    return ((images[:, None] / np.float32(255) - np.float32(mean)) / np.float32(std)).astype(np.float32)


def largest_difference(path: Path, x: np.ndarray, scores: np.ndarray) -> float | None:
    """Largest difference from ONNX Runtime, None without it."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return float(np.abs(session.run(None, {"image": x})[0] - scores).max())


def pointing(model: libxai.Model, method: str, x: np.ndarray, data: Dataset, index: int) -> tuple[int, int]:
    """Hits and pictures of the pointing game for one finding."""
    chosen = np.flatnonzero(data.labels[:, index])
    explainer = libxai.Explainer(model, method, score="logit")
    hits = 0
    for number in chosen:
        heat = np.asarray(explainer(x[number : number + 1], target=index).map)[0]
        hits += int(pointing_hit(heat, data.masks[number, index]))
    return hits, len(chosen)


def evaluate(kind: str, path: Path, count: int, method: str) -> None:
    """Print the figures of one model."""
    model = libxai.Model(path)
    data = load(kind, "test", count)
    x = prepare(data.images)
    scores = np.concatenate([np.asarray(model(x[i : i + 50])) for i in range(0, count, 50)])
    print(f"{kind}: {path.stat().st_size / 1000:.0f} kB, {count} held-out pictures")
    for index, (label, area) in enumerate(zip(LABELS[kind], auc(scores, data.labels), strict=True)):
        hits, total = pointing(model, method, x, data, index)
        chance = data.masks[data.labels[:, index] == 1, index].mean()
        game = f"{method} on the mask {hits}/{total} = {hits / total:.3f} (chance {chance:.3f})"
        print(f"  {label:18} AUC {area:.4f}   {game}")
    difference = largest_difference(path, x, scores)
    if difference is not None:
        print(f"  largest difference of a score from ONNX Runtime: {difference:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=sorted(LABELS), help="default: both")
    parser.add_argument("--count", type=int, default=600, help="pictures; the figures of the README are for 600")
    parser.add_argument("--method", default="gradcam")
    parser.add_argument("--models", type=Path, default=HERE / "models", help="folder of the two models")
    arguments = parser.parse_args()
    for kind in [arguments.kind] if arguments.kind else sorted(LABELS):
        evaluate(kind, arguments.models / f"{kind}.onnx", arguments.count, arguments.method)


if __name__ == "__main__":
    main()
