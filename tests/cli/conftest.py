"""Small models and pictures for the tests of the program."""

import os
import pathlib
import struct
import subprocess
import zlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

CARD = {
    "xai.labels": '["Effusion", "Nodule", "7"]',
    "xai.input.range": "[0, 1]",
    "xai.input.mean": "[0.5]",
    "xai.input.std": "[0.25]",
    "xai.output.score": "logit-sigmoid",
}


def make_model(path, card=None, channels=1, size=16):
    """Convolution, ReLU (the layer of Grad-CAM), mean over pixels, three scores."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((4, channels, 3, 3)) * 0.5,
        "b": np.full(4, 0.1),
        "fw": rng.standard_normal((3, 4)),
        "fb": np.zeros(3),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["features"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["activation"], name="relu"),
        helper.make_node("GlobalAveragePool", ["activation"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "fw", "fb"], ["scores"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, size, size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if card:
        helper.set_model_props(model, card)
    onnx.save(model, path)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def scores_of(weights, image):
    """The scores of the model above for a tensor (N, C, H, W), in float64."""
    padded = np.pad(image.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = image.shape[2:]
    features = np.zeros((len(image), 4, height, width))
    for y in range(3):
        for x in range(3):
            patch = padded[:, :, y : y + height, x : x + width]
            features += np.einsum("oc,nchw->nohw", weights["w"][:, :, y, x], patch)
    features = np.maximum(features + weights["b"][None, :, None, None], 0)
    return features.mean((2, 3)) @ weights["fw"].T + weights["fb"]


def write_png(path, pixels, interlace=0):
    """Write (H, W) or (H, W, 3) of uint8 or uint16 without any library that the program uses."""
    pixels = np.asarray(pixels)
    depth = 8 * pixels.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(f">u{pixels.dtype.itemsize}").tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    colour = {2: 0, 3: 2}[pixels.ndim]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour, 0, 0, interlace)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    pathlib.Path(path).write_bytes(data)


def read_png(path):
    """Read 8-bit RGB without interlace, as the program writes it."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed = 8, b""
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
            assert (depth, colour, interlace) == (8, 2, 0)
        if kind == b"IDAT":
            packed += body
        at += 12 + length
    assert kind == b"IEND"
    raw = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + 3 * width)
    out = np.zeros((height, 3 * width), np.uint8)
    for y in range(height):
        line, above = raw[y, 1:].astype(int), out[y - 1].astype(int) if y else np.zeros(3 * width, int)
        for i in range(3 * width):
            a = int(out[y, i - 3]) if i >= 3 else 0
            c = int(above[i - 3]) if i >= 3 else 0
            b = int(above[i])
            p = a + b - c
            paeth = min((a, b, c), key=lambda v: (abs(p - v), (a, b, c).index(v)))
            out[y, i] = (line[i] + (0, a, b, (a + b) // 2, paeth)[raw[y, 0]]) & 255
    return out.reshape(height, width, 3)


@pytest.fixture
def xai():
    """Run the program; gives the finished process with text output."""
    program = os.environ.get("XAI_PROGRAM", "build/src/cli/xai")

    def run(*arguments, **keywords):
        keywords.setdefault("stdin", subprocess.DEVNULL)
        keywords.setdefault("capture_output", True)
        return subprocess.run([program, *map(str, arguments)], text=True, timeout=120, **keywords)

    run.program = program
    return run


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.onnx"
    make_model(path, CARD)
    return path


@pytest.fixture
def weights(tmp_path):
    """Of the model above."""
    return make_model(tmp_path / "weights.onnx")


@pytest.fixture
def picture():
    y, x = np.mgrid[0:40, 0:48]
    return (120 + 100 * np.exp(-((y - 12) ** 2 + (x - 30) ** 2) / 60) - y).astype(np.uint8)


@pytest.fixture
def image(tmp_path, picture):
    path = tmp_path / "image.png"
    write_png(path, picture)
    return path
