"""Make tokens.npz: what SHAP and Captum say about the tokens of families/text.onnx, a small BERT.

    python tests/parity/make_tokens.py     # needs torch, torchvision, timm, shap, captum, onnxruntime

Target 1 of both rows; token 4 stands for an absent one, the attention mask stays. SHAP's Exact and Partition explainers
(Partition over halves of halves of the sequence, until every token stands alone) and Captum's FeatureAblation,
Occlusion (windows of 3) and LayerIntegratedGradients at the embedding (50 Gauss-Legendre steps).
"""

from __future__ import annotations

from pathlib import Path

import make_families
import numpy as np
import onnxruntime
import shap
import torch
from captum import attr

FOLDER = Path(__file__).resolve().parent
ABSENT, TARGET = 4, 1


def halves(first: int, last: int, merges: list[list[float]], players: int) -> tuple[int, int]:
    """Append the merges of SHAP's (scipy's) linkage for tokens first..last-1; the cluster's number and size."""
    if last - first == 1:
        return first, 1
    middle = first + (last - first) // 2
    left, left_size = halves(first, middle, merges, players)
    right, right_size = halves(middle, last, merges, players)
    merges.append([left, right, float(len(merges) + 1), left_size + right_size])
    return players + len(merges) - 1, left_size + right_size


class Masker:
    """Tokens that are switched off become ABSENT; with `clustering` SHAP gives Owen values."""

    def __init__(self, ids: np.ndarray, cluster: bool) -> None:
        merges: list[list[float]] = []
        halves(0, len(ids), merges, len(ids))
        self.clustering = np.array(merges) if cluster else None
        self.shape = (1, len(ids))
        self.ids = ids

    def mask_shapes(self, _: np.ndarray) -> list[tuple[int]]:
        return [(len(self.ids),)]

    def __call__(self, mask: np.ndarray, _: np.ndarray) -> tuple[np.ndarray]:
        return (np.where(mask, self.ids, ABSENT)[None],)


def by_shap(ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(FOLDER / "families/text.onnx"), providers=["CPUExecutionProvider"])
    found: dict[str, list[np.ndarray]] = {"exact_shap": [], "partition_shap": []}
    for row, kept in zip(ids, mask, strict=True):

        def score(rows: np.ndarray, kept: np.ndarray = kept) -> np.ndarray:
            rows = np.asarray(rows, np.int64)
            given = {"ids": rows, "mask": np.repeat(kept[None], len(rows), 0)}
            return session.run(None, given)[0][:, TARGET].astype(np.float64)

        found["exact_shap"].append(shap.explainers.Exact(score, Masker(row, False))(row[None]).values[0])
        explainer = shap.explainers.Partition(score, Masker(row, True))
        found["partition_shap"].append(explainer(row[None], max_evals=100000).values[0])
    return {name: np.array(values) for name, values in found.items()}


def by_captum(ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    wanted = np.load(FOLDER / "families/text.npz")["output_scores"]
    given = torch.from_numpy(ids), torch.from_numpy(mask)
    for seed in range(200):
        network = make_families.build("text", seed).double()
        with torch.no_grad():
            if np.abs(network(*given).numpy() - wanted).max() < 1e-5:
                break
    else:
        raise SystemExit("no seed gives the scores of families/text.npz")
    absent = torch.full_like(given[0], ABSENT)
    path = attr.LayerIntegratedGradients(network, network.tokens)
    common = {"target": TARGET, "baselines": absent, "additional_forward_args": given[1]}
    return {
        "integrated_gradients": path.attribute(given[0], n_steps=50, **common).detach().numpy(),
        "feature_ablation": attr.FeatureAblation(network).attribute(given[0], **common).detach().numpy(),
        "occlusion": attr.Occlusion(network)
        .attribute(given[0], sliding_window_shapes=(3,), strides=(2,), **common)
        .detach()
        .numpy(),
    }


def main() -> None:
    text = np.load(FOLDER / "families/text.npz")
    ids, mask = text["input_ids"], text["input_mask"]
    found = {**by_shap(ids, mask), **by_captum(ids, mask)}
    np.savez_compressed(FOLDER / "tokens.npz", **{name: values.astype(np.float32) for name, values in found.items()})
    for name, values in found.items():
        print(name, values.shape, values.reshape(2, -1).sum(1))


if __name__ == "__main__":
    main()
