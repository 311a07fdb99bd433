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
    x = models.pictures(1, seed=7)
    layers = (MIDDLE_LAYER[name], models.GRADCAM_LAYER[name])
    kept = {"image": x, "path": str(path)}
    for i, module in enumerate(layers):
        exact = reference.references(network, module, x, None, torch.float64)
        single = reference.references(network, module, x, exact["targets"].tolist(), torch.float32)
        kept[f"layer{i}"] = reference.onnx_value(path, x, exact["layer"])
        kept["targets"] = exact["targets"]
        for each in reference.QUANTITIES:
            key = each if each in ("scores", "input_gradient") else f"{each}{i}"
            kept[key] = exact[each]
            kept[key + "_float32"] = single[each]
    np.savez(folder / f"{name}.npz", **kept)


if __name__ == "__main__":
    main()
