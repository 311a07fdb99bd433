"""Make references.npz: what Captum and pytorch-grad-cam say, in float64, about conftest.make_convolutional().

python tests/python/make_references.py     # needs torch, captum, grad-cam, onnx, and libxai for conftest
"""

from __future__ import annotations

from pathlib import Path

import conftest
import numpy as np
import onnx
import torch
from captum import attr
from onnx import numpy_helper

TARGETS = [1, 0, 2]
# torchvision's compiled operators may be missing, which its import does not survive unless they are declared.
LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def build() -> torch.nn.Sequential:
    """The network of the tests in PyTorch: indices of the layers are 3 pool1, 6 act2."""
    model = onnx.load_from_string(conftest.make_convolutional())
    weights = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in model.graph.initializer}

    def convolution(name: str) -> torch.nn.Conv2d:
        out, inner = weights[name].shape[:2]
        made = torch.nn.Conv2d(inner, out, 3, padding=1, bias=False)
        made.weight.data = weights[name]
        return made

    def norm(name: str) -> torch.nn.BatchNorm2d:
        made = torch.nn.BatchNorm2d(len(weights[name + "_scale"]))
        made.weight.data, made.bias.data = weights[name + "_scale"], weights[name + "_shift"]
        made.running_mean, made.running_var = weights[name + "_mean"], weights[name + "_variance"]
        return made

    head = torch.nn.Linear(12, 4)
    head.weight.data, head.bias.data = weights["w3"], weights["b3"]
    network = torch.nn.Sequential(
        convolution("w1"), norm("bn1"), torch.nn.ReLU(), torch.nn.MaxPool2d(2), convolution("w2"), norm("bn2"),
        torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head,
    )  # fmt: skip
    return network.double().eval()


def gradient_family(network: torch.nn.Module, x: torch.Tensor, baseline: torch.Tensor) -> dict[str, torch.Tensor]:
    path = attr.IntegratedGradients(network)
    return {
        "saliency": attr.Saliency(network).attribute(x, TARGETS),
        "input_x_gradient": attr.InputXGradient(network).attribute(x, TARGETS),
        "integrated_gradients": path.attribute(x, 0, TARGETS, n_steps=50),
        "integrated_gradients_baseline": path.attribute(x, baseline, TARGETS, n_steps=20),
    }


def cam_family(network: torch.nn.Sequential, x: torch.Tensor, layer: int) -> dict[str, np.ndarray]:
    """Raw maps of the layer, before ReLU, scaling and resizing."""
    import pytorch_grad_cam as peer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(each) for each in TARGETS]
    names = {
        "hirescam": peer.HiResCAM,
        "xgradcam": peer.XGradCAM,
        "layercam": peer.LayerCAM,
        "elementwise_gradcam": peer.GradCAMElementWise,
        "eigencam": peer.EigenCAM,
        "eigengradcam": peer.EigenGradCAM,
        "scorecam": peer.ScoreCAM,
        "ablationcam": peer.AblationCAM,
    }
    found = {}
    for name, kind in names.items():
        cam = kind(model=network, target_layers=[network[layer]])
        cam.batch_size = 8
        scores = cam.activations_and_grads(x.clone().requires_grad_(True))
        if cam.uses_gradients:
            network.zero_grad()
            sum(target(score) for target, score in zip(targets, scores, strict=True)).backward(retain_graph=True)
        activations = cam.activations_and_grads.activations[0].cpu().data.numpy()
        gradients = [each.cpu().data.numpy() for each in cam.activations_and_grads.gradients]
        cam.outputs = scores
        found[name] = cam.get_cam_image(
            x, network[layer], targets, activations, gradients[0] if gradients else None, False
        )
        cam.activations_and_grads.release()
    return found


def main() -> None:
    for name in ("nms", "qnms"):
        LIBRARY.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    network = build()
    x = conftest.float32(np.random.default_rng(8), 3, 2, 20, 24)
    baseline = conftest.float32(np.random.default_rng(9), 3, 2, 20, 24, scale=0.5)
    found = {"scores": network(torch.from_numpy(x).double()).detach().numpy(), "baseline": baseline}
    double = torch.from_numpy(x).double()
    for name, value in gradient_family(network, double, torch.from_numpy(baseline).double()).items():
        found[name] = value.detach().numpy().astype(np.float32)
    for layer, label in ((6, "act2"), (3, "pool1")):
        for name, value in cam_family(network, double, layer).items():
            found[f"{name}_{label}"] = np.asarray(value, np.float32)
    np.savez_compressed(Path(__file__).with_name("references.npz"), **found)
    for name, value in found.items():
        print(name, value.shape, float(np.abs(value).max()))


if __name__ == "__main__":
    main()
