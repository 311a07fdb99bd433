"""Train the demo classifiers on phantoms and export them to ONNX.

    python examples/phantom/train.py chest
    python examples/phantom/train.py mammogram

Needs PyTorch and onnx; building, testing and using libxai does not. One thread, about a quarter of an hour each.

Beside the labels the masks teach: the head applied to every position of the last activation (its mean is the logit)
is compared with the mask there, so that small findings are learned from a few thousand pictures. That helps Grad-CAM to
point at the finding, too: its hit rate says how libxai computes, not how well Grad-CAM does on networks trained
by labels alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from dataset import LABELS, SIZE, Dataset, load
from measures import auc, pointing_hit
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
MEAN, STD = 0.5, 0.25


class Residual(nn.Module):
    """Two 3x3 convolutions with BatchNorm beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, dilation, dilation, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class Classifier(nn.Module):
    """(N, 1, 128, 128) to logits (N, K); the last activation is 64 maps of 16 x 16, a cell is 8 pixels."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(
            Residual(16, 16), Residual(16, 32, 2), Residual(32, 48, 2), Residual(48, 64, dilation=2)
        )
        self.head = nn.Linear(64, classes)

    def maps(self, x: Tensor) -> Tensor:
        """The last spatial activation (N, 64, 16, 16)."""
        return self.body(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.adaptive_avg_pool2d(self.maps(x), 1).flatten(1))

    def local(self, maps: Tensor) -> Tensor:
        """Logits (N, K, 16, 16) of every position; their mean is the logit of the picture."""
        return functional.conv2d(maps, self.head.weight[:, :, None, None], self.head.bias)


class Probabilities(nn.Module):
    """What is exported: the final Sigmoid belongs to the graph."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.classifier(x))


def prepare(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W) to the model's input (N, 1, H, W)."""
    return (torch.from_numpy(images).float().div_(255).unsqueeze_(1) - MEAN) / STD


def augment(x: Tensor, masks: Tensor, generator: torch.Generator, mirror: bool) -> tuple[Tensor, Tensor]:
    """Shifts of up to 6 pixels, contrast, brightness, blur and noise; mirrored only where the label allows it."""
    count, reach = len(x), 6
    channels = x.shape[1]
    padded = functional.pad(torch.cat([x, masks], 1), [reach] * 4, mode="replicate")
    offsets = torch.randint(0, 2 * reach + 1, (count, 2), generator=generator).tolist()
    moved = torch.stack([padded[i, :, r : r + SIZE, c : c + SIZE] for i, (r, c) in enumerate(offsets)])
    random = torch.rand((count, 5, 1, 1, 1), generator=generator)[..., 0]
    if mirror:
        moved = torch.where(random[:, 3, :, None] < 0.5, moved, moved.flip(3))
    x, masks = moved[:, :channels], moved[:, channels:]
    random = random[..., None]
    smooth = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = x + 0.5 * random[:, 4] * (smooth - x)  # viewers resize in different ways
    x = x * (0.85 + 0.3 * random[:, 0]) + 0.5 * (random[:, 1] - 0.5)
    x = x + 0.05 * random[:, 2] * torch.randn(x.shape, generator=generator)
    return x, masks


def scores(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """Outputs for all images, in batches."""
    with torch.no_grad():
        return torch.cat([model(batch) for batch in prepare(images).split(64)]).numpy()


def fit(kind: str, train: Dataset, validation: Dataset, epochs: int) -> Classifier:
    """AdamW, one cycle, binary cross entropy."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = Classifier(len(LABELS[kind]))
    images, labels = prepare(train.images), torch.from_numpy(train.labels).float()
    masks = torch.from_numpy(train.masks)
    share = functional.max_pool2d(masks.float(), 8).mean((0, 2, 3))  # of positions inside a mask, for every label
    inside = ((1 - share) / share).sqrt()[:, None, None]  # their weight: small findings count more
    batch = 32
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    start = time.monotonic()
    for epoch in range(epochs):
        model.train()
        total = 0.0
        order = torch.randperm(len(images), generator=generator)[: len(images) // batch * batch]
        for chosen in order.split(batch):
            x, mask = augment(images[chosen], masks[chosen].float(), generator, mirror=kind == "mammogram")
            maps = model.maps(x)
            local = model.local(maps)
            loss = functional.binary_cross_entropy_with_logits(local.mean((2, 3)), labels[chosen])
            wanted = functional.max_pool2d(mask, SIZE // maps.shape[-1])
            loss = loss + 2 * functional.binary_cross_entropy_with_logits(local, wanted, pos_weight=inside)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        model.eval()
        measured = auc(scores(model, validation.images), validation.labels)
        seconds = time.monotonic() - start
        listed = " ".join(f"{value:.3f}" for value in measured)
        print(f"epoch {epoch + 1}: loss {total / (steps / epochs):.4f}, AUC {listed}, {seconds:.0f} s", flush=True)
    return model


def gradcam_hits(model: Classifier, data: Dataset) -> list[tuple[int, int]]:
    """Pointing game of Grad-CAM by PyTorch: (hits, pictures) for every label, as evaluate.py counts them."""
    counts = []
    for index in range(data.labels.shape[1]):
        hits = total = 0
        for number in np.flatnonzero(data.labels[:, index]):
            image, mask = data.images[number], data.masks[number, index]
            maps = model.maps(prepare(image[None])).detach().requires_grad_()
            logit = model.head(functional.adaptive_avg_pool2d(maps, 1).flatten(1))[0, index]
            (gradient,) = torch.autograd.grad(logit, maps)
            cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
            cam = functional.interpolate(cam, (SIZE, SIZE), mode="bilinear", align_corners=False)
            hits += int(pointing_hit(cam[0, 0].detach().numpy(), mask))
            total += 1
        counts.append((hits, total))
    return counts


def export(kind: str, model: Classifier, path: Path) -> None:
    """ONNX with a dynamic batch, and the model card in metadata_props."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        Probabilities(model).eval(),
        (torch.zeros(1, 1, SIZE, SIZE),),
        str(path),
        opset_version=17,
        input_names=["image"],
        output_names=["probability"],
        dynamic_axes={"image": {0: "batch"}, "probability": {0: "batch"}},
        dynamo=False,
    )
    proto = onnx.load(str(path))
    card = {
        "xai.labels": json.dumps(LABELS[kind]),
        "xai.input.range": "0 1",
        "xai.input.mean": str(MEAN),
        "xai.input.std": str(STD),
        "xai.input.size": f"{SIZE} {SIZE}",
        "xai.input.channels": "1",
        "xai.output.score": "probability",
    }
    onnx.helper.set_model_props(proto, card)
    proto.doc_string = f"Demo classifier trained on synthetic {kind} phantoms. Not for patients."
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(LABELS))
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--train", type=int, default=2500, help="training pictures")
    parser.add_argument("--jobs", type=int, default=1, help="processes that draw pictures")
    parser.add_argument("--output", type=Path, help="default: models/KIND.onnx beside this file")
    arguments = parser.parse_args()
    kind = arguments.kind
    torch.set_num_threads(1)
    train = load(kind, "train", arguments.train, arguments.jobs)
    validation = load(kind, "validation", 200, arguments.jobs)
    model = fit(kind, train, validation, arguments.epochs)
    export(kind, model, arguments.output or HERE / "models" / f"{kind}.onnx")

    test = load(kind, "test", 600, arguments.jobs)
    measured, hits = auc(scores(model, test.images), test.labels), gradcam_hits(model, test)
    for label, value, (hit, total) in zip(LABELS[kind], measured, hits, strict=True):
        print(f"{label}: held-out AUC {value:.4f}, Grad-CAM points inside the mask in {hit} of {total}")


if __name__ == "__main__":
    main()
