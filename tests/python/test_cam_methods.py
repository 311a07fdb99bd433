"""CAM methods: raw maps against pytorch-grad-cam's, their formulas, and what each must satisfy."""

import pathlib

import conftest
import libxai
import numpy as np
import pytest
from onnx import helper

REFERENCES = dict(np.load(pathlib.Path(__file__).with_name("references.npz")))
TARGETS = [1, 0, 2]
PRODUCTS = ["hirescam", "xgradcam", "layercam", "elementwise_gradcam"]
EIGEN = ["eigencam", "eigengradcam"]
CHANNELS = ["scorecam", "ablationcam"]


def relative(found, expected):
    """Relative L2, of the worst row."""
    difference = (np.asarray(found, np.float64) - expected).reshape(len(expected), -1)
    return (np.linalg.norm(difference, axis=1) / np.linalg.norm(expected.reshape(len(expected), -1), axis=1)).max()


@pytest.mark.parametrize("layer", ["act2", "pool1"])
@pytest.mark.parametrize("method", PRODUCTS + EIGEN + CHANNELS)
def test_raw_maps_are_those_of_pytorch_grad_cam(model, x, method, layer):
    found = libxai.explain(model, x, method, TARGETS, layer=layer)
    expected = REFERENCES[f"{method}_{layer}"].astype(np.float64)
    if method in EIGEN:  # the sign of a singular vector is arbitrary there
        expected *= np.sign((expected * found.values).sum((1, 2)))[:, None, None]
    if method == "ablationcam":  # there divided by the score, here by its absolute value
        expected *= np.sign(found.score)[:, None, None]
    assert found.layer == layer and relative(found.values, expected) <= 2e-5


def test_hirescam_and_xgradcam_sum_to_the_score_of_a_linear_head(model, x):
    scores = model(x)[range(3), TARGETS]
    bias = scores - (model.activations(x, "flat") * model.gradient(x, TARGETS, wrt="flat")).sum(1)
    for method in ("hirescam", "xgradcam"):
        found = libxai.explain(model, x, method, TARGETS)
        assert np.allclose(found.values.sum((1, 2)), scores - bias, rtol=1e-4, atol=1e-5)


def test_eigencam_is_the_first_component_and_points_along_the_activations(model, x):
    """Also where pixels outnumber channels (act1) and where they do not (act2 of a small picture)."""
    for layer, picture in (("act1", x), ("act2", x[:, :, :6, :6])):
        a = model.activations(picture, layer).astype(np.float64)
        found = libxai.explain(model, picture, "eigencam", 0, layer=layer)
        again = libxai.explain(model, picture, "eigencam", 3, layer=layer)
        assert np.array_equal(found.values, again.values)
        for n, row in enumerate(a.reshape(3, a.shape[1], -1)):
            centred = row - row.mean(1, keepdims=True)
            u, s, _ = np.linalg.svd(centred.T, full_matrices=False)
            map = found.values[n].ravel()
            assert abs(abs(u[:, 0] @ map) - s[0]) <= 1e-4 * s[0]
            assert map @ row.sum(0) >= 0


def test_ablation_of_a_channel_is_what_the_head_loses(model, x):
    """Behind act2 all is linear: w_c = mean(A_c) head_c / |S|."""
    found = libxai.explain(model, x, "ablationcam", TARGETS)
    a = model.activations(x, "act2").astype(np.float64)
    head = model.gradient(x, TARGETS, wrt="flat").astype(np.float64)
    weights = a.mean((2, 3)) * head / np.abs(found.score)[:, None]
    assert relative(found.values, (weights[:, :, None, None] * a).sum(1)) <= 1e-4
    assert found.evaluations.tolist() == [14, 14, 14]


def test_ablation_through_a_bypass():
    """y = mean(b) + mean(a) with b = relu(2 a): without a channel of b the way around it stays."""
    rng = np.random.default_rng(3)
    weights = {"w": conftest.float32(rng, 4, 1, 3, 3), "v": 2 * np.eye(4, dtype=np.float32)[:, :, None, None]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "v"], ["a2"]),
        helper.make_node("Relu", ["a2"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["y"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["y", "one"], ["scores"]),
    ]
    weights["one"] = np.array([1], np.int64)
    m = libxai.Model(conftest.save(nodes, [("x", ["N", 1, 6, 6])], [("scores", ["N", 1])], weights))
    picture = conftest.float32(rng, 2, 1, 6, 6)
    b = m.activations(picture, "b").astype(np.float64)
    found = libxai.explain(m, picture, "ablationcam", 0, layer="b")
    w = b.mean((2, 3)) / 4 / np.abs(found.score)[:, None]
    assert relative(found.values, (w[:, :, None, None] * b).sum(1)) <= 1e-4


@pytest.mark.parametrize("method", PRODUCTS + EIGEN + CHANNELS)
def test_targets_rows_and_threads_do_not_change_a_bit(data, x, method):
    base = libxai.Explainer(libxai.Model(data, threads=1), method)
    alone = np.stack([base(row, target).values for row, target in zip(x, TARGETS, strict=True)])
    for settings in ({"threads": 2}, {"threads": 3, "mode": "throughput"}):
        together = libxai.Explainer(libxai.Model(data, **settings), method)
        first, second = together.targets(x, [TARGETS, [3, 3, 3]])
        assert np.array_equal(first.values, alone)
        assert np.array_equal(second.values, base(x, 3).values)


@pytest.mark.parametrize("method", PRODUCTS + EIGEN + CHANNELS)
def test_maps_are_cut_scaled_and_resized(model, x, method):
    found = libxai.explain(model, x, method, TARGETS, layer="pool1")
    assert found.map.shape == (3, 20, 24) and found.map.min() >= 0 and found.map.max() <= 1
    peer = libxai.explain(model, x, method, TARGETS, layer="pool1", scaling="min_max")
    assert np.allclose(peer.map.max((1, 2)), 1, atol=1e-5) and np.allclose(peer.map.min((1, 2)), 0, atol=1e-6)
    assert np.array_equal(found.values, peer.values)


def test_channel_methods_stop_when_told(model, x):
    for method in CHANNELS:
        with pytest.raises(libxai.CancelledError):
            libxai.explain(model, x, method, 1, progress=lambda done, total: done < 4)


def linear_resize(picture, size):
    """Half-pixel centres, edges repeated; (H, W) -> size."""
    for axis, count in enumerate(size):
        n = picture.shape[axis]
        at = np.clip((np.arange(count) + 0.5) * n / count - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, n - 1)
        share = (at - low).reshape([-1, 1] if axis == 0 else [1, -1])
        picture = picture.take(low, axis) * (1 - share) + picture.take(high, axis) * share
    return picture


@pytest.mark.parametrize("scale", ["layer", "channel"])
def test_fullgrad_adds_up_inputs_and_biases(model, x, scale):
    """By its definition from gradients: the biases are those that BatchNorm stands for."""
    import onnx
    from onnx import numpy_helper

    weights = {
        each.name: numpy_helper.to_array(each).astype(np.float64)
        for each in onnx.load_from_string(conftest.make_convolutional()).graph.initializer
    }
    terms = [x.astype(np.float64) * model.gradient(x, TARGETS)]
    for name, value in (("bn1", "norm1"), ("bn2", "norm2")):
        deviation = np.sqrt(weights[name + "_variance"] + 1e-5)
        bias = weights[name + "_shift"] - weights[name + "_mean"] * weights[name + "_scale"] / deviation
        terms.append(bias[:, None, None] * model.gradient(x, TARGETS, wrt=value))
    expected = np.zeros((3, 20, 24))
    for term in terms:
        for n, row in enumerate(np.abs(term)):
            axes = (1, 2) if scale == "channel" else (0, 1, 2)
            row = row - row.min(axes, keepdims=True)
            row = row / (1e-7 + row.max(axes, keepdims=True))
            expected[n] += linear_resize(row.sum(0), (20, 24))
    found = libxai.explain(model, x, "fullgrad", TARGETS, scale=scale)
    assert relative(found.values, expected) <= 1e-4
    assert np.allclose(found.map.max((1, 2)), 1) and found.evaluations.tolist() == [1, 1, 1]


def test_guided_gradcam_is_the_product_of_its_two_methods(model, x):
    cam = libxai.explain(model, x, "gradcam", TARGETS, layer="pool1")
    guided = libxai.explain(model, x, "guided_backprop", TARGETS)
    found = libxai.explain(model, x, "guided_gradcam", TARGETS, layer="pool1")
    assert found.layer == "pool1" and found.method == "guided_gradcam"
    assert np.array_equal(found.values, guided.values * cam.map[:, None])
    assert found.evaluations.tolist() == [2, 2, 2] and found.map.shape == (3, 20, 24)


@pytest.mark.parametrize("method", CHANNELS)
def test_channels_without_a_map_share_one_evaluation(method):
    """Dead channels of a ReLU, and for Score-CAM those of one value: weights as if each had been evaluated."""
    rng = np.random.default_rng(3)
    w, b = conftest.float32(rng, 8, 2, 3, 3), conftest.float32(rng, 8)
    w[[1, 4, 6]], b[[1, 4, 6]] = 0, [-1, -2, 3]  # zero, zero, a constant
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "h"], ["y"]),
    ]
    weights = {"w": w, "b": b, "h": conftest.float32(rng, 8, 4)}
    model = libxai.Model(conftest.save(nodes, [("x", ["n", 2, 12, 12])], [("y", ["n", 4])], weights))
    x = conftest.float32(rng, 1, 2, 12, 12)
    a = model.activations(x, "r")[0].astype(np.float64)
    if method == "scorecam":
        masks = [(plane - plane.min()) / (np.ptp(plane) + 1e-8) for plane in a]
        scores = model(np.stack([x[0] * mask for mask in masks]).astype(np.float32))[:, 1].astype(np.float64)
        channels = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    else:  # the head is linear
        channels = a.mean((1, 2)) * weights["h"][:, 1] / abs(model(x)[0, 1])
    found = libxai.explain(model, x, method, 1, layer="r")
    assert np.allclose(found.values[0], np.tensordot(channels, a, 1), rtol=1e-4, atol=1e-5)
    assert found.evaluations[0] == (5 + 1 if method == "scorecam" else 6 + 1) + 2
