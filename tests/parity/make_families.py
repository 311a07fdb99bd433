"""Make small networks of further families and what PyTorch says about them in float64: families/NAME.onnx, NAME.npz.

    python tests/parity/make_families.py [NAME...]     # needs torch, torchvision, timm, onnx, onnxscript, onnxruntime

Recurrent and text classifiers, tables, two inputs, segmentation and detection heads, MaxViT, DeiT, BEiT. Each .npz has
the inputs (`input_NAME`), every output (`output_NAME`), and d target / d input (`gradient_NAME`), or d target / d
embedding where the input is a list of tokens.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional as F

library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402

FOLDER = Path(__file__).resolve().parent / "families"


class Recurrent(nn.Module):
    """A signal classifier: recurrent layers, the mean over time, a linear head."""

    def __init__(self, kind: str, bidirectional: bool) -> None:
        super().__init__()
        self.layers = getattr(nn, kind)(4, 8, 2, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(16 if bidirectional else 8, 3)

    def forward(self, signal):
        return self.head(self.layers(signal)[0].mean(1))


class Text(nn.Module):
    """BERT in small: token and position embeddings, two encoder layers with a padding mask, the first token's head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(30, 16), nn.Embedding(12, 16)
        self.norm = nn.LayerNorm(16)
        self.queries = nn.ModuleList(nn.Linear(16, 48) for _ in range(2))
        self.mixes = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(4))
        self.wide = nn.ModuleList(nn.Linear(16, 32) for _ in range(2))
        self.narrow = nn.ModuleList(nn.Linear(32, 16) for _ in range(2))
        self.pool, self.head = nn.Linear(16, 16), nn.Linear(16, 3)
        self.embedded = None

    def forward(self, ids, mask):
        self.embedded = self.tokens(ids)
        if self.embedded.requires_grad:
            self.embedded.retain_grad()
        x = self.norm(self.embedded + self.places(torch.arange(ids.shape[1]))[None])
        away = (1 - mask[:, None, None, :].to(x.dtype)) * -1e4
        for i in range(2):
            q, k, v = self.queries[i](x).reshape(x.shape[0], -1, 3, 2, 8).permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(-1, -2) / 8**0.5 + away).softmax(-1)
            mixed = (weights @ v).transpose(1, 2).reshape(x.shape)
            x = self.norms[2 * i](x + self.mixes[i](mixed))
            x = self.norms[2 * i + 1](x + self.narrow[i](F.gelu(self.wide[i](x))))
        return self.head(torch.tanh(self.pool(x[:, 0])))


class Table(nn.Module):
    """A perceptron on a table with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(10, 24), nn.BatchNorm1d(24), nn.SiLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3)
        )

    def forward(self, row):
        return self.body(row)


class Both(nn.Module):
    """An image and a table, joined before the head; the table also gates the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1))
        self.row, self.gate, self.head = nn.Linear(5, 12), nn.Linear(5, 12), nn.Linear(24, 3)

    def forward(self, image, row):
        planes = F.relu(self.conv(image)) * torch.sigmoid(self.gate(row))[:, :, None, None]
        return self.head(torch.cat([planes.mean((2, 3)), torch.tanh(self.row(row))], 1))


class Segmenter(nn.Module):
    """DeepLab in small: dilated branches and the mean of the picture, joined and enlarged."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.branches = nn.ModuleList(nn.Conv2d(8, 6, 3, padding=d, dilation=d) for d in (1, 3, 6))
        self.mean, self.join, self.head = nn.Conv2d(8, 6, 1), nn.Conv2d(24, 12, 1), nn.Conv2d(12, 4, 1)

    def forward(self, image):
        x = self.stem(image)
        parts = [F.relu(branch(x)) for branch in self.branches]
        mean = F.relu(self.mean(F.adaptive_avg_pool2d(x, 1)))
        parts.append(F.interpolate(mean, size=x.shape[2:], mode="bilinear", align_corners=False))
        x = self.head(F.relu(self.join(torch.cat(parts, 1))))
        return F.interpolate(x, size=image.shape[2:], mode="bilinear", align_corners=False)


class Detector(nn.Module):
    """RetinaNet in small, up to the raw scores and boxes: two levels, a shared head, anchors in one list."""

    def __init__(self) -> None:
        super().__init__()
        self.c3 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.c4 = nn.Sequential(nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU())
        self.l3, self.l4 = nn.Conv2d(12, 8, 1), nn.Conv2d(16, 8, 1)
        self.tower = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.GroupNorm(2, 8), nn.SiLU())
        self.classes, self.boxes = nn.Conv2d(8, 3 * 4, 3, 1, 1), nn.Conv2d(8, 3 * 4, 3, 1, 1)

    def forward(self, image):
        c3 = self.c3(image)
        p4 = self.l4(self.c4(c3))
        p3 = self.l3(c3) + F.interpolate(p4, scale_factor=2, mode="nearest")
        scores, boxes = [], []
        for level in (p3, p4):
            x = self.tower(level)
            scores.append(self.classes(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
            boxes.append(self.boxes(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
        return torch.cat(scores, 1), torch.cat(boxes, 1)


def maxvit():
    return torchvision.models.maxvit.MaxVit(
        (32, 32), stem_channels=8, partition_size=4, block_channels=[8], block_layers=[1], head_dim=8,
        stochastic_depth_prob=0.0, num_classes=4,
    )  # fmt: skip


def deit():
    return timm.models.deit.VisionTransformerDistilled(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=4
    )


def beit():
    return timm.models.beit.Beit(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=4, use_rel_pos_bias=True,
        use_abs_pos_emb=False, init_values=0.1,
    )  # fmt: skip


def fused():
    """EfficientNetV2: fused blocks, then one with squeeze and excitation."""
    from torchvision.models.efficientnet import EfficientNet, FusedMBConvConfig, MBConvConfig

    blocks = [
        FusedMBConvConfig(1, 3, 1, 8, 8, 1),
        FusedMBConvConfig(2, 3, 2, 8, 16, 1),
        MBConvConfig(2, 3, 2, 16, 16, 1),
    ]
    return EfficientNet(blocks, dropout=0.0, num_classes=4, last_channel=32)


IMAGE = {"image": (3, 32, 32)}
# name: (network, inputs (shape of a row; a number of tokens is an int), outputs, output and target, exporters)
NETWORKS = {
    "lstm": (lambda: Recurrent("LSTM", True), {"signal": (12, 4)}, ["scores"], ("scores", 1), "both"),
    "gru": (lambda: Recurrent("GRU", True), {"signal": (12, 4)}, ["scores"], ("scores", 1), "both"),
    "rnn": (lambda: Recurrent("RNN", False), {"signal": (12, 4)}, ["scores"], ("scores", 1), "old"),
    "text": (Text, {"ids": 10, "mask": 10}, ["scores"], ("scores", 1), "both"),
    "table": (Table, {"row": (10,)}, ["scores"], ("scores", 1), "both"),
    "both": (Both, {"image": (1, 24, 24), "row": (5,)}, ["scores"], ("scores", 1), "both"),
    "segmenter": (Segmenter, IMAGE, ["maps"], ("maps", (1, slice(4, 20), slice(8, 28))), "both"),
    "detector": (Detector, IMAGE, ["scores", "boxes"], ("scores", (77, 2)), "both"),
    "maxvit": (maxvit, IMAGE, ["scores"], ("scores", 1), "old"),
    "deit": (deit, IMAGE, ["scores"], ("scores", 1), "both"),
    "beit": (beit, IMAGE, ["scores"], ("scores", 1), "both"),
    "fused": (fused, IMAGE, ["scores"], ("scores", 1), "both"),
}
ROWS = 2


def make_inputs(inputs, seed):
    rng = np.random.default_rng(seed)
    made = {}
    for name, row in inputs.items():
        if name == "mask":  # the second row is shorter
            made[name] = np.ones((ROWS, row), np.int64)
            made[name][1, row - 3 :] = 0
        elif isinstance(row, int):
            made[name] = rng.integers(0, 30, (ROWS, row))
        else:
            made[name] = rng.standard_normal((ROWS, *row)).astype(np.float32)
    return made


def build(name, seed):
    torch.manual_seed(seed)
    network = NETWORKS[name][0]()
    for module in network.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    for parameter in network.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, parameter.mean().item(), 0.2)
        if parameter.abs().max() == 0:
            nn.init.normal_(parameter, 0, 0.2)
    return network.eval()


def references(network, inputs, outputs, target, dtype):
    network = network.to(dtype)
    given = [torch.from_numpy(x) for x in inputs.values()]
    given = [x.to(dtype).requires_grad_() if x.is_floating_point() else x for x in given]
    found = network(*given)
    found = found if isinstance(found, tuple) else (found,)
    output, index = target
    index = index if isinstance(index, tuple) else (index,)
    found[outputs.index(output)][(slice(None), *index)].sum().backward()
    values = {f"output_{name}": y.detach().numpy() for name, y in zip(outputs, found, strict=True)}
    for name, x in zip(inputs, given, strict=True):
        if x.grad is not None:
            values[f"gradient_{name}"] = x.grad.numpy()
    if getattr(network, "embedded", None) is not None:
        values["gradient_embedding"] = network.embedded.grad.numpy()
        network.embedded = None
    return values


def relative(a, b):
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


def export(network, inputs, outputs, path, dynamo):
    given = tuple(torch.from_numpy(x) for x in inputs.values())
    names = {"input_names": list(inputs), "output_names": outputs}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = tuple({0: torch.export.Dim("batch")} for _ in given)
            torch.onnx.export(
                network, given, str(path), dynamo=True, dynamic_shapes=shapes, external_data=False, **names
            )
        else:
            axes = {each: {0: "batch"} for each in [*inputs, *outputs]}
            torch.onnx.export(network, given, str(path), opset_version=17, dynamic_axes=axes, dynamo=False, **names)
    model = onnx.load(str(path))
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.save(model, str(path))
    return model


def embedding_value(model):
    """The output of the Gather that looks the tokens up."""
    (found,) = (n.output[0] for n in model.graph.node if n.op_type == "Gather" and n.input[1] == "ids")
    return found


def make(name):
    _, inputs, outputs, target, exporters = NETWORKS[name]
    for seed in range(200):
        x = make_inputs(inputs, seed)
        single = references(build(name, seed), x, outputs, target, torch.float32)
        exact = references(build(name, seed), x, outputs, target, torch.float64)
        worst = max(relative(single[each], exact[each]) for each in exact)
        if worst < 2e-6:
            break
    else:
        raise SystemExit(f"{name}: no seed where float32 agrees with float64; last error {worst}")
    more = {}
    for dynamo in {"both": (False, True), "old": (False,)}[exporters]:
        path = FOLDER / f"{name}{'_dynamo' if dynamo else ''}.onnx"
        model = export(build(name, seed), x, outputs, path, dynamo)
        if "gradient_embedding" in exact:
            more["embedding_dynamo" if dynamo else "embedding"] = embedding_value(model)
    kept = {each: values.astype(np.float32) for each, values in exact.items()}
    given = {f"input_{each}": values for each, values in x.items()}
    np.savez_compressed(FOLDER / f"{name}.npz", **given, **kept, **more)
    return f"{name}: seed {seed}, PyTorch's float32 {worst:.1e}, {path.stat().st_size} bytes"


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or NETWORKS:
        try:
            print(make(name), flush=True)
        except Exception as error:  # the others are still wanted
            print(f"{name}: {type(error).__name__}: {str(error)[:300]}", flush=True)


if __name__ == "__main__":
    main()
