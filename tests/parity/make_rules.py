"""What Captum says about some of the small networks, in float64, where it is right: rules.npz.

    python tests/parity/make_rules.py     # needs torch, captum

DeepLIFT: networks on which Captum's attributions add up, which they do not with functional ReLUs, gates, SiLU, GELU,
normalisation or several max pools. Networks with a max pool are left out altogether: where the maximum fell, libxai and
SHAP hand the change to the baseline's winner, Captum hands a part of it to the other one.
Guided backpropagation and deconvnet: networks all of whose ReLUs are modules of their own.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import make_models
import numpy as np
import torch
from captum.attr import Deconvolution, DeepLift, GuidedBackprop

FOLDER = Path(__file__).resolve().parent
GUIDED = ("residual", "vgg", "inception", "shuffle")
TARGET = 1


def rebuild(name: str) -> tuple[torch.nn.Module, np.ndarray]:
    """The network behind models/NAME.onnx, found by the seed that made its picture."""
    image = np.load(FOLDER / "models" / f"{name}.npz")["image"]
    for seed in range(300):
        made = np.random.default_rng(seed).standard_normal(image.shape).astype(np.float32)
        if np.array_equal(made, image):
            return make_models.build(name, seed).double(), image
    raise SystemExit(f"{name}: no seed makes its picture")


def unshared(network: torch.nn.Module) -> torch.nn.Module:
    for module in network.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    return network


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    kept: dict[str, np.ndarray] = {}
    for name in sorted(path.stem for path in (FOLDER / "models").glob("*.npz")):
        if name == "unet":  # its scores are maps
            continue
        network, image = rebuild(name)
        x = torch.from_numpy(image).double()
        noise = np.random.default_rng(99).standard_normal(image.shape).astype(np.float32)
        for kind, baseline in (("zero", np.zeros_like(noise)), ("random", noise)):
            try:
                lift, delta = DeepLift(unshared(network)).attribute(
                    x, torch.from_numpy(baseline).double(), target=TARGET, return_convergence_delta=True
                )
            except Exception as problem:
                print(f"{name}, {kind} baseline: Captum's DeepLift fails: {str(problem)[:80]}")
                continue
            print(f"{name}, {kind} baseline: Captum's DeepLift misses the change by {delta.abs().max():.1e}")
            pools = any("MaxPool" in type(module).__name__ for module in network.modules())
            if delta.abs().max() < 1e-9 and not pools:
                kept[f"deeplift-{kind}_{name}"] = lift.detach().numpy().astype(np.float32)
        if name in GUIDED:
            for method, of in (("guided_backprop", GuidedBackprop), ("deconvnet", Deconvolution)):
                found = of(unshared(network)).attribute(x.clone().requires_grad_(), target=TARGET)
                kept[f"{method}_{name}"] = found.detach().numpy().astype(np.float32)
    np.savez_compressed(FOLDER / "rules.npz", **kept)
    print(f"{len(kept)} references, {(FOLDER / 'rules.npz').stat().st_size} bytes")


if __name__ == "__main__":
    main()
