"""Write what PyTorch says, in float64 and in float32, about one network of bench/models.py: NAME.npz in a folder.

python tests/parity/torchvision_references.py NAME FOLDER     # needs torch and torchvision
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import models
import numpy as np
import reference
import torch

ROWS = 3
# A layer in the middle of the network, besides the one that Grad-CAM explains.
MIDDLE_LAYER = {
    "densenet121": "features.denseblock2",
    "resnet18": "layer2",
    "resnet50": "layer2",
    "vgg11": "features.12",
    "efficientnet_b0": "features.4",
    "mobilenet_v2": "features.7",
    "mobilenet_v3_small": "features.4",
    "inception_v3": "Mixed_6a",
    "googlenet": "inception4a",
    "squeezenet1_1": "features.7",
    "mnasnet0_5": "layers.9",
    "shufflenet_v2_x1_0": "stage3.3",
    "regnet_y_400mf": "trunk_output.block2",
}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    path = models.onnx_file(name)
    network = models.load(name)
    rows = models.pictures(ROWS, seed=7)
    found = {"targets": []}
    kept = {"image": rows, "path": str(path)}
    for row in range(ROWS):  # one at a time: float64 of several would need gigabytes
        x = rows[row : row + 1]
        for i, module in enumerate((MIDDLE_LAYER[name], models.GRADCAM_LAYER[name])):
            exact = reference.references(network, module, x, None, torch.float64)
            targets = exact["targets"].tolist()
            single = reference.references(network, module, x, targets, torch.float32)
            if row == 0:
                kept[f"layer{i}"] = reference.onnx_value(path, x, exact["layer"])
            for each in reference.QUANTITIES:
                key = each if each in ("scores", "input_gradient") else f"{each}{i}"
                found.setdefault(key, {})[row] = exact[each]
                found.setdefault(key + "_float32", {})[row] = single[each]
        found["targets"] += targets
    kept["targets"] = np.array(found.pop("targets"))
    kept |= {key: np.concatenate([each[row] for row in range(ROWS)]) for key, each in found.items()}
    np.savez(folder / f"{name}.npz", **kept)


if __name__ == "__main__":
    main()
