"""Images with channels last, as Keras exports take them: every method gives what it gives for the same network with
channels first (its input transposed), turned round."""

import functools
import json
import os
import pathlib
import subprocess

import libxai
import numpy as np
import onnx
import pytest
from onnx import helper

FOLDER = pathlib.Path(__file__).resolve().parent / "families"
NAMES = ["keras_mobile", "keras_inception", "keras_convnext"]
PLANE = (24, 20)  # not square, so that swapped axes show
RNG = np.random.default_rng(3)
SEGMENTS = np.arange(PLANE[0])[:, None] // 6 * 4 + np.arange(PLANE[1]) // 5
METHODS = {  # without those that draw noise for each element: other noise for another order
    "gradcam": {},
    "gradcam++": {},
    "layercam": {},
    "eigencam": {},
    "scorecam": {},
    "ablationcam": {},
    "reciprocam": {},
    "fullgrad": {},
    "guided_gradcam": {},
    "saliency": {},
    "integrated_gradients": {"steps": 8, "baseline": "blur"},
    "deeplift": {"baseline": "mean"},
    "lrp": {},
    "occlusion": {},
    "feature_ablation": {"segments": SEGMENTS},
    "kernel_shap": {"segments": SEGMENTS, "samples": 64},
    "partition_shap": {"segments": ("grid", 4), "samples": 32},
    "lime": {"segments": ("slic", 12), "samples": 40},
    "permutation_shap": {"segments": ("grid", 4), "samples": 64},
    "rise": {"samples": 40},
    "aise": {"samples": 20},
}


@functools.cache
def last(name):
    return libxai.Model(FOLDER / f"{name}.onnx", threads=1)


@functools.cache
def first(name):
    """The same network behind a Transpose: its image is (N, 3, 24, 20)."""
    model = onnx.load(FOLDER / f"{name}.onnx")
    (given,) = model.graph.input
    turn = helper.make_node("Transpose", ["planes"], [given.name], perm=[0, 2, 3, 1])
    model.graph.node.insert(0, turn)
    planes = helper.make_tensor_value_info("planes", onnx.TensorProto.FLOAT, ["N", 3, *PLANE])
    model.graph.input.remove(given)
    model.graph.input.append(planes)
    return libxai.Model(model.SerializeToString(), threads=1)


def image(name):
    return np.load(FOLDER / f"{name}.npz")["input_image"]


def planes(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, -3))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_method_gives_the_same_as_with_channels_first(name, method):
    x, options = image(name), METHODS[method]
    here = libxai.explain(last(name), x, method, target=1, **options)
    there = libxai.explain(first(name), planes(x), method, target=1, **options)
    assert here.map.shape == (2, *PLANE)
    assert here.layer == there.layer
    np.testing.assert_allclose(here.map, there.map, atol=2e-4)
    found = planes(here.values) if here.values.ndim == 4 else here.values
    assert found.shape == there.values.shape
    np.testing.assert_allclose(found, there.values, atol=1e-4 * np.abs(there.values).max() + 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_segments_are_boxes_of_pixels_of_all_channels(name):
    """Brute force: every 6 x 5 box of all channels set to 0."""
    x = image(name)[:1]
    found = libxai.explain(last(name), x, "feature_ablation", target=1, segments=SEGMENTS).values
    score = last(name)(x)[0, 1]
    for segment in range(SEGMENTS.max() + 1):
        box = segment == SEGMENTS
        hidden = x.copy()
        hidden[:, box] = 0
        assert found[0, box].sum() == pytest.approx(score - last(name)(hidden)[0, 1], abs=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_map_lies_over_its_picture(name):
    found = libxai.explain(last(name), image(name)[0], "saliency", target=1)
    assert found.map.shape == PLANE
    assert np.unravel_index(found.map.argmax(), PLANE) == np.unravel_index(found.values.sum(axis=-1).argmax(), PLANE)
    picture = found.overlay(RNG.random(PLANE).astype(np.float32))
    assert np.asarray(picture).shape[:2] == PLANE


def with_card(model):
    card = {"xai.input.range": "0 255", "xai.input.mean": "10 20 30", "xai.input.std": "2 4 8"}
    helper.set_model_props(model, card)
    return model.SerializeToString()


def test_a_picture_becomes_an_input_with_channels_last():
    model = libxai.Model(with_card(onnx.load(FOLDER / "keras_mobile.onnx")))
    picture = RNG.integers(0, 256, (*PLANE, 3)).astype(np.uint8)
    found = model.prepare(picture)
    np.testing.assert_allclose(found, (picture - np.array([10, 20, 30])) / np.array([2, 4, 8]), rtol=1e-5, atol=1e-5)
    larger = model.prepare(np.repeat(np.repeat(picture, 2, 0), 2, 1))  # halved again: means of equal pixels
    assert larger.shape == (*PLANE, 3)


def test_the_input_itself_lies_below_the_map():
    x = image("keras_mobile")[0]
    found = libxai.explain(last("keras_mobile"), x, "gradcam", target=1)
    scaled = np.rint((x.astype(np.float64) - x.min()) * (255 / (float(x.max()) - float(x.min())))).astype(np.uint8)
    assert np.array_equal(found.overlay(alpha=0), scaled)


@pytest.mark.skipif("XAI_PROGRAM" not in os.environ, reason="XAI_PROGRAM does not name the program xai")
def test_the_program_draws_over_the_input(tmp_path):
    x = image("keras_mobile")[0]
    np.save(tmp_path / "x.npy", x)
    model, arguments = FOLDER / "keras_mobile.onnx", ["--method", "gradcam", "--target", "1", "-o", "out.png"]
    subprocess.run([os.environ["XAI_PROGRAM"], "explain", model, "x.npy", *arguments], cwd=tmp_path, check=True)
    found = libxai.explain(last("keras_mobile"), x, "gradcam", target=1)
    found.save(tmp_path / "expected.png")
    assert (tmp_path / "out.png").stat().st_size > 100
    drawn, expected = (matplotlib_image(tmp_path / name) for name in ("out.png", "expected.png"))
    assert np.abs(drawn - expected).max() <= 1 / 255 + 1e-6


@pytest.mark.skipif("XAI_PROGRAM" not in os.environ, reason="XAI_PROGRAM does not name the program xai")
@pytest.mark.parametrize("gate", ["Relu", "HardSigmoid"])
def test_only_the_image_is_transposed(tmp_path, gate):
    """Blocks as tf2onnx leaves them at its worst: a Transpose before and behind every convolution."""
    rng = np.random.default_rng(6)
    count = iter(range(100))
    nodes, constants = [], {}

    def add(op, *inputs, **attributes):
        nodes.append(helper.make_node(op, inputs, [f"v{next(count)}"], **attributes))
        return nodes[-1].output[0]

    def constant(value):
        constants[f"c{next(count)}"] = value
        return [*constants][-1]

    def conv(x, channels, out, size, **attributes):
        w = constant(rng.normal(0, 0.3, (out, channels, size, size)).astype("f"))
        y = add("Conv", add("Transpose", x, perm=[0, 3, 1, 2]), w, **attributes)
        return add("Transpose", y, perm=[0, 2, 3, 1])

    x = add("Mul", "image", constant(np.float32(0.5)))
    x = add("Relu", conv(x, 3, 16, 3, pads=[1, 1, 1, 1]))
    y = add("Pad", x, constant(np.array([0, 1, 1, 0, 0, 1, 1, 0])))
    y = add("Mul", conv(y, 16, 16, 3), constant(rng.uniform(0.5, 2, 16).astype("f")))
    mean = add(gate, conv(add("ReduceMean", y, axes=[1, 2]), 16, 16, 1))
    x = add("Concat", add("Add", add("Mul", y, mean), x), x, axis=3)
    add("Gemm", add("ReduceMean", x, axes=[1, 2], keepdims=0), constant(rng.normal(0, 1, (32, 4)).astype("f")))
    nodes[-1].output[0] = "scores"
    graph = helper.make_graph(
        nodes,
        "blocks",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, *PLANE, 3])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path, profile = tmp_path / "blocks.onnx", tmp_path / "profile.json"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    subprocess.run([os.environ["XAI_PROGRAM"], "bench", path, "--profile", "--json", profile], check=True)
    steps = [step for step in json.loads(profile.read_text())["steps"] if step["operator"] == "Transpose"]
    assert [step["pass"] for step in steps] == ["forward", "backward"]  # the image there, its gradient back
    fast, exact = libxai.Model(path), libxai.Model(path, precision="reference")
    x = rng.standard_normal((1, *PLANE, 3)).astype("f")
    np.testing.assert_allclose(fast(x), exact(x), atol=1e-6 * np.abs(exact(x)).max())
    want = exact.gradient(x, target=1)
    np.testing.assert_allclose(fast.gradient(x, target=1), want, atol=1e-5 * np.abs(want).max())
    step, pixel = np.zeros_like(x), (0, 7, 9, 1)
    step[pixel] = 1 / 64  # ReLUs apart from it, the scores are linear or quadratic in a pixel
    slope = (exact(x + step) - exact(x - step))[0, 1] * 32
    assert slope == pytest.approx(want[pixel], abs=0.02 * float(np.abs(want).max()))


def matplotlib_image(path):
    return pytest.importorskip("matplotlib.image").imread(path)[..., :3]


@functools.cache
def grey(channels_last):
    """A network of grey images. Where the one channel is last, exporters move it by a Reshape: no element moves."""
    rng = np.random.default_rng(8)
    given = ["N", *PLANE, 1] if channels_last else ["N", 1, *PLANE]
    nodes = [helper.make_node("Reshape", ["image", "shape"], ["planes"])] if channels_last else []
    nodes += [
        helper.make_node("Conv", ["planes" if channels_last else "image", "w"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "b"], ["scores"]),
    ]
    constants = {
        "w": rng.standard_normal((6, 1, 3, 3)).astype("f"),
        "b": rng.standard_normal((6, 3)).astype("f"),
        "shape": np.array([-1, 1, *PLANE]),
    }
    graph = helper.make_graph(
        nodes,
        "grey",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", 3])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return libxai.Model(made.SerializeToString(), threads=1)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"aise"}))
def test_one_channel_that_a_reshape_moves(method, rows):
    planes = np.random.default_rng(4).standard_normal((rows, 1, *PLANE)).astype("f")
    images = planes.reshape(rows, *PLANE, 1)
    want = libxai.explain(grey(False), planes, method, 1, **METHODS[method])
    found = libxai.explain(grey(True), images, method, 1, **METHODS[method])
    assert found.map.shape == want.map.shape == (rows, *PLANE)
    assert np.allclose(found.map, want.map, atol=1e-5)
    assert np.allclose(found.values.reshape(want.values.shape), want.values, atol=1e-5 * abs(want.values).max())
