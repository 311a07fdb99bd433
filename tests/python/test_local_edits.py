"""Local edits: occlusion and ablation recompute only what a box can reach. Against the edited images, one by one."""

from __future__ import annotations

import math

import libxai
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """A small network, node by node; every method gives the name of its output."""

    def __init__(self, shape: list[int], seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.shape, self.nodes, self.weights = shape, [], []

    def weight(self, values: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"n_{name}", **attributes))
        return name

    def conv(self, x: str, out: int, into: int, kernel: int = 3, groups: int = 1, rank: int = 2, **attributes) -> str:
        fan = into // groups * kernel**rank
        weights = self.random.standard_normal((out, into // groups, *[kernel] * rank)) / fan**0.5
        attributes.setdefault("pads", [kernel // 2] * 2 * rank)
        bias = self.weight(self.random.standard_normal(out) / 4)
        return self.node("Conv", x, self.weight(weights), bias, group=groups, **attributes)

    def norm(self, x: str, channels: int) -> str:
        r = self.random
        values = [r.uniform(0.5, 1.5, channels), r.standard_normal(channels) / 4] * 2
        values[2:] = [r.standard_normal(channels) / 4, r.uniform(0.5, 1.5, channels)]
        return self.node("BatchNormalization", x, *[self.weight(v) for v in values])

    def model(self, x: str, channels: int, classes: int = 5) -> libxai.Model:
        pooled = self.node("Flatten", self.node("GlobalAveragePool", x))
        head = self.random.standard_normal((channels, classes))
        self.nodes.append(helper.make_node("MatMul", [pooled, self.weight(head)], ["y"]))
        graph = helper.make_graph(
            self.nodes,
            "local",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *self.shape[1:]])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return libxai.Model(model.SerializeToString())


def residual(b: Builder) -> tuple[str, int]:
    """Identity and projected shortcuts, as ResNet."""
    x = b.node("Relu", b.conv("x", 16, 3, 7, strides=[2, 2]))
    x = b.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = b.conv(b.node("Relu", b.conv(x, 16, 16)), 16, 16)
    x = b.node("Relu", b.node("Add", y, x))
    y = b.conv(b.node("Relu", b.conv(x, 32, 16, strides=[2, 2])), 32, 32)
    x = b.node("Relu", b.node("Add", y, b.conv(x, 32, 16, 1, strides=[2, 2])))
    return b.conv(x, 32, 32), 32


def concat(b: Builder) -> tuple[str, int]:
    """Normalisation and ReLU before convolutions of growing concatenations, as DenseNet; one is read bare."""
    x = b.node("Relu", b.conv("x", 16, 3, strides=[2, 2]))
    parts, channels = [x], 16
    for _ in range(3):
        joined = b.node("Concat", *parts, axis=1) if len(parts) > 1 else x
        y = b.conv(b.node("Relu", b.norm(joined, channels)), 32, channels, 1)
        parts.append(b.conv(b.node("Relu", y), 16, 32))
        channels += 16
    joined = b.node("Concat", *parts, axis=1)
    bare = b.conv(joined, 16, channels, 1)
    x = b.conv(b.node("Relu", b.norm(joined, channels)), 16, channels, 1)
    x = b.node("AveragePool", b.node("Add", x, bare), kernel_shape=[2, 2], strides=[2, 2])
    return x, 16


def depthwise(b: Builder) -> tuple[str, int]:
    """Grouped and depthwise convolutions with clips, channels that fill no block, as MobileNet."""
    zero, six = b.weight(np.float32(0)), b.weight(np.float32(6))
    x = b.node("Clip", b.conv("x", 24, 3, strides=[2, 2]), zero, six)
    y = b.node("Clip", b.conv(x, 24, 24, groups=24), zero, six)
    x = b.node("Add", b.conv(y, 24, 24, 1), x)
    x = b.node("Clip", b.conv(x, 32, 24, 1), zero, six)
    return b.node("HardSwish", b.conv(x, 32, 32, groups=4, strides=[2, 2])), 32


def pools(b: Builder) -> tuple[str, int]:
    """Pools whose last windows hang over (ceil_mode), and activations that nothing fuses."""
    x = b.node("Tanh", b.conv("x", 20, 3))
    x = b.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = b.node("Sigmoid", b.conv(x, 16, 20))
    x = b.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    return b.conv(x, 16, 16), 16


def dilated(b: Builder) -> tuple[str, int]:
    x = b.node("LeakyRelu", b.conv("x", 16, 3, pads=[2] * 4, dilations=[2, 2]), alpha=0.2)
    return b.node("Relu", b.conv(x, 16, 16, pads=[0, 1, 2, 3], dilations=[1, 2], strides=[1, 2])), 16


def upsampling(b: Builder) -> tuple[str, int]:
    """A transposed convolution is computed densely: the frontier lies before it."""
    x = b.node("Relu", b.conv("x", 16, 3, strides=[2, 2]))
    weights = b.weight(b.random.standard_normal((16, 8, 2, 2)) / 4)
    x = b.node("ConvTranspose", x, weights, strides=[2, 2])
    return b.node("Concat", b.conv("x", 8, 3), x, axis=1), 16


NETWORKS = [residual, concat, depthwise, pools, dilated, upsampling]
SIDE = (44, 52)


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda f: f.__name__)
def network(request) -> tuple[libxai.Model, np.ndarray]:
    b = Builder([1, 3, *SIDE])
    x, channels = request.param(b)
    return b.model(x, channels), np.random.default_rng(1).standard_normal((1, 3, *SIDE)).astype(np.float32)


def dense(model: libxai.Model, x: np.ndarray, boxes: list[tuple[slice, slice]], value: float) -> np.ndarray:
    """Scores of all classes, with each box replaced."""
    edited = np.repeat(x, len(boxes), 0)
    for row, box in zip(edited, boxes, strict=True):
        row[(slice(None), *box)] = value
    return np.asarray(model(edited))


def windows(size: tuple[int, int], stride: tuple[int, int]) -> list[tuple[slice, slice]]:
    """The last window of an axis may be cut at the border."""
    begins = [range(0, max(-(-(n - s) // t), 0) * t + 1, t) for n, s, t in zip(SIDE, size, stride, strict=True)]
    return [
        (slice(y, min(y + size[0], SIDE[0])), slice(x, min(x + size[1], SIDE[1]))) for y in begins[0] for x in begins[1]
    ]


@pytest.mark.parametrize("size,stride", [((8, 8), (8, 8)), ((9, 6), (4, 5)), ((3, 2), (3, 2)), ((44, 5), (44, 5))])
def test_occlusion_equals_the_edited_images(network, size, stride):
    model, x = network
    e = libxai.explain(model, x, "occlusion", 2, window=f"{size[0]},{size[1]}", stride=f"{stride[0]},{stride[1]}")
    boxes = windows(size, stride)
    scores, whole = dense(model, x, boxes, 0)[:, 2], np.asarray(model(x))
    sums, hits = np.zeros(SIDE), np.zeros(SIDE)
    for box, score in zip(boxes, scores, strict=True):
        sums[box] += float(whole[0, 2]) - score
        hits[box] += 1
    scale = np.abs(whole).max()
    np.testing.assert_allclose(e.values[0, 0], sums / hits, atol=1e-5 * scale)
    assert e.evaluations[0] == len(boxes) + 2  # the row for its score, and as what edits start from


def test_a_window_larger_than_the_image_is_the_image(network):
    model, x = network
    e = libxai.explain(model, x, "occlusion", 1, window=100)
    whole, gone = np.asarray(model(x)), np.asarray(model(np.zeros_like(x)))
    np.testing.assert_allclose(e.values, whole[0, 1] - gone[0, 1], atol=1e-5 * np.abs(whole).max())


def test_ablation_equals_the_edited_images(network):
    """Segments that are no boxes: an L and a diagonal, and what is left."""
    model, x = network
    segments = np.zeros(SIDE, np.int32)
    segments[:10, :3] = segments[7:10, :12] = 1
    for i in range(12):
        segments[25 + i, 30 + i : 33 + i] = 2
    segments[40:, 48:] = 3
    e = libxai.explain(model, x, "feature_ablation", 3, segments=segments, baseline=0.5)
    whole = np.asarray(model(x))
    edited = np.repeat(x, 4, 0)
    for k in range(4):
        edited[k][:, segments == k] = 0.5
    expected = whole[0, 3] - np.asarray(model(edited))[:, 3]
    np.testing.assert_allclose(e.segment_values[0], expected, atol=1e-5 * np.abs(whole).max())


def test_ablation_of_a_grid_equals_occlusion_of_its_cells(network):
    model, x = network
    ablated = libxai.explain(model, x, "feature_ablation", 0, segments=("grid", 4))
    boxes = [(slice(y, y + 11), slice(z, z + 13)) for y in range(0, 44, 11) for z in range(0, 52, 13)]
    whole = np.asarray(model(x))
    expected = whole[0, 0] - dense(model, x, boxes, 0)[:, 0]
    np.testing.assert_allclose(ablated.segment_values[0], expected, atol=1e-5 * np.abs(whole).max())


def test_ablation_of_many_segments_equals_the_edited_images(network):
    """As many as are computed in boxes, of uneven shape: a checkerboard of two in each cell of a grid."""
    model, x = network
    y, z = np.mgrid[: SIDE[0], : SIDE[1]]
    segments = (y // 11 * 4 + z // 13) * 2 + (y + z) % 2
    noise = np.random.default_rng(5).standard_normal(x.shape).astype(np.float32)
    e = libxai.explain(model, x, "feature_ablation", 4, segments=segments.astype(np.int32), baseline=noise)
    whole = np.asarray(model(x))
    edited = np.stack([np.where(segments == k, noise[0], x[0]) for k in range(32)])
    expected = whole[0, 4] - np.asarray(model(edited))[:, 4]
    np.testing.assert_allclose(e.segment_values[0], expected, atol=1e-5 * np.abs(whole).max())
    assert e.evaluations[0] == 32 + 3  # the row twice, the empty picture


@pytest.mark.parametrize(
    "method,options", [("occlusion", {"window": 7}), ("feature_ablation", {"segments": ("grid", 6)})]
)
def test_bits_do_not_depend_on_threads(network, method, options):
    model, x = network
    one, three = [libxai.explain(model, x, method, 0, threads=t, **options).values for t in (1, 3)]
    np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize(
    "method,options", [("occlusion", {"window": 7}), ("feature_ablation", {"segments": ("grid", 6)})]
)
def test_what_an_explainer_keeps_of_its_calls_changes_no_bit(network, method, options):
    """The plan of the boxes serves later calls: other pictures, several at once, other targets."""
    model, x = network
    other = np.random.default_rng(7).standard_normal((2, *x.shape[1:])).astype(np.float32)
    kept = libxai.Explainer(model, method, **options)
    for rows in (x, other, x):
        for targets in ([0], [0, 3]):
            for target, found in zip(targets, kept.targets(rows, targets), strict=True):
                fresh = libxai.Explainer(model, method, **options)(rows, target)
                np.testing.assert_array_equal(found.values, fresh.values)


def test_an_explainer_follows_segments_from_picture_to_picture(network):
    """Boxes of segments follow from the picture: those of the last one must not serve the next."""
    model, x = network
    kept = libxai.Explainer(model, "feature_ablation", segments="slic:40")
    for seed in (1, 2, 1):
        picture = np.random.default_rng(seed).standard_normal(x.shape).astype(np.float32)
        fresh = libxai.Explainer(model, "feature_ablation", segments="slic:40")
        np.testing.assert_array_equal(kept(picture, 2).values, fresh(picture, 2).values)


def test_segments_that_change_nothing_have_exactly_nothing(network):
    """The black border of a radiograph: rounding is no evidence."""
    model, x = network
    dark = x.copy()
    dark[..., :22, :] = 0
    e = libxai.explain(model, dark, "feature_ablation", 1, segments=("grid", 8))
    values = e.segment_values[0].reshape(8, 8)
    assert not values[:3].any()
    assert values[4:].all()
    nothing = libxai.explain(model, x, "feature_ablation", 1, segments=("grid", 8), baseline=x)
    assert not nothing.values.any()


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda f: f.__name__)
def large(request) -> tuple[libxai.Model, np.ndarray]:
    """On a picture so large that a step from coalition to coalition reaches a small part of it."""
    b = Builder([1, 3, 96, 112], seed=1)
    model = b.model(*request.param(b))
    return model, np.random.default_rng(2).standard_normal((1, 3, 96, 112)).astype(np.float32)


def test_exact_values_equal_those_of_all_edited_images(large):
    """Coalitions in Gray's order are computed from each other."""
    model, x = large
    k = 7
    segments = np.mgrid[:96, :112][1] * k // 112
    e = libxai.explain(model, x, "exact_shap", 2, segments=segments.astype(np.int32), baseline=0.25, interactions=1)
    sets = np.arange(2**k)
    there = sets[:, None] >> np.arange(k) & 1
    images = np.where(there[:, segments][:, None], x, np.float32(0.25))
    v = np.concatenate([np.asarray(model(part))[:, 2] for part in np.split(images, 8)]).astype(np.float64)
    size = there.sum(1)
    weight = np.array([1 / (k * math.comb(k - 1, s)) if s < k else 0 for s in size])
    without = [sets[there[:, i] == 0] for i in range(k)]
    expected = [np.sum(weight[s] * (v[s | 1 << i] - v[s])) for i, s in enumerate(without)]
    scale = np.abs(np.asarray(model(x))).max()
    np.testing.assert_allclose(e.segment_values[0], expected, atol=1e-5 * scale)
    np.testing.assert_allclose(e.interactions[0].sum(1), expected, atol=1e-5 * scale)


@pytest.mark.parametrize("method,samples", [("permutation_shap", 60), ("sampling_shap", 128)])
def test_walks_equal_the_reference_kernels(large, method, samples):
    """The same coalitions, each image by itself and in double."""
    model, x = large
    options = {"segments": ("grid", 4), "samples": samples, "baseline": 0.25}
    e = libxai.Explainer(model, method, **options).targets(x, [0, 3])
    reference = libxai.Explainer(model, method, precision="reference", **options).targets(x, [0, 3])
    scale = np.abs(np.asarray(model(x))).max()
    np.testing.assert_allclose(e[0].segment_values, reference[0].segment_values, atol=1e-5 * scale)
    np.testing.assert_allclose(e[1].segment_values, reference[1].segment_values, atol=1e-5 * scale)
    np.testing.assert_array_equal(e[0].evaluations, reference[0].evaluations)


@pytest.mark.parametrize(
    "method,options",
    [
        ("permutation_shap", {"samples": 250}),
        ("permutation_shap", {"samples": 800, "tolerance": 0.1}),
        ("sampling_shap", {"samples": 200}),
        ("exact_shap", {"segments": ("grid", 3)}),
    ],
)
def test_bits_of_walks_do_not_depend_on_threads_and_memory(large, method, options):
    model, x = large
    options = {"segments": ("grid", 5), **options}
    one, three, small = [
        libxai.explain(model, x, method, 0, **options, **how).values
        for how in ({"threads": 1}, {"threads": 3}, {"threads": 3, "memory_limit": 16 << 20})
    ]
    np.testing.assert_array_equal(one, three)
    np.testing.assert_array_equal(one, small)


@pytest.mark.parametrize(
    "method,options",
    [
        ("permutation_shap", {"samples": 250}),
        ("sampling_shap", {"samples": 200}),
        ("exact_shap", {"segments": ("grid", 3)}),
    ],
)
def test_what_changes_nothing_has_exactly_nothing_in_walks(large, method, options):
    model, x = large
    dark = x.copy()
    dark[..., :40, :] = 0
    e = libxai.explain(model, dark, method, 1, **{"segments": ("grid", 5), **options})
    side = int(e.segment_values.size**0.5)
    values = e.segment_values[0].reshape(side, side)
    assert not values[:1].any()
    assert values[-2:].all()
    nothing = libxai.explain(model, x, method, 1, baseline=x, **{"segments": ("grid", 5), **options})
    assert not nothing.values.any()


def test_a_walk_can_be_cancelled_between_two_of_its_steps(large):
    model, x = large
    seen = []

    def stop(done: int, total: int) -> bool:
        seen.append((done, total))
        return len(seen) < 15

    with pytest.raises(libxai.CancelledError):
        libxai.explain(model, x, "permutation_shap", 0, segments=("grid", 5), samples=960, threads=1, progress=stop)
    assert len(seen) == 15
    assert seen[-1][0] < 15  # no piece of the walk, 24 evaluations, had come to its end


@pytest.mark.parametrize("rank", [1, 3])
def test_signals_and_volumes_are_edited_too(rank):
    """No images: evaluated densely."""
    side = (60,) if rank == 1 else (9, 8, 10)
    b = Builder([1, 2, *side])
    model = b.model(b.node("Relu", b.conv("x", 16, 2, rank=rank)), 16)
    x = np.random.default_rng(2).standard_normal((1, 2, *side)).astype(np.float32)
    e = libxai.explain(model, x, "occlusion", 0, window=4)
    edited = x.copy()
    edited[(0, slice(None), *[slice(0, 4)] * rank)] = 0
    drop = np.asarray(model(x))[0, 0] - np.asarray(model(edited))[0, 0]
    assert abs(e.values[(0, 0, *[0] * rank)] - drop) <= 1e-5 * np.abs(np.asarray(model(x))).max()


def test_a_memory_limit_that_boxes_do_not_fit_is_no_error(network):
    model, x = network
    free = libxai.explain(model, x, "occlusion", 0, window=8).values
    for limit in (1_500_000, 4_000_000):
        try:
            tight = libxai.explain(model, x, "occlusion", 0, window=8, memory_limit=limit).values
        except libxai.LibXaiError as error:  # not even one dense evaluation fits
            assert "limit" in str(error)
        else:
            np.testing.assert_allclose(tight, free, atol=1e-5 * np.abs(np.asarray(model(x))).max())
