"""The cases where other packages are wrong, one test each, and the cases that Captum's tests compute by hand.

docs/methods/peers.md says what the others do and names these tests.
"""

import itertools
import pathlib
import re

import conftest
import libxai
import numpy as np
import pytest
from onnx import helper
from test_perturbation import owen

SIZE = 15


def test_every_case_of_the_page_has_its_test():
    page = pathlib.Path(__file__).resolve().parents[2] / "docs/methods/peers.md"
    named = set(re.findall(r"`(test_\w+)_\*`", page.read_text(encoding="utf-8")))
    assert named == {f"test_case_{number:02}" for number in range(1, 13)} | {"test_captum_by_hand"}
    assert all(any(found.startswith(name) for found in globals()) for name in named)


class Network:
    """A picture (N, 3, 15, 15), what `body` adds, mean over pixels, three scores."""

    def __init__(self, seed=0):
        self.rng, self.nodes, self.weights, self.count = np.random.default_rng(seed), [], {}, itertools.count()

    def add(self, kind, *inputs, **attributes):
        name = f"v{next(self.count)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, *shape, scale=0.4):
        name = f"c{next(self.count)}"
        self.weights[name] = conftest.float32(self.rng, *shape, scale=scale)
        return name

    def conv(self, x, before, after, taps=3):
        weights = [self.constant(after, before, taps, taps), self.constant(after, scale=0.2)]
        return self.add("Conv", x, *weights, pads=[taps // 2] * 4)

    def model(self, x, channels=8, last=None):
        flat = self.add("Flatten", self.add("GlobalAveragePool", x))
        y = self.add("Gemm", flat, self.constant(channels, 3, scale=1), self.constant(3))
        y = self.add(last, y, axis=1) if last else y
        self.nodes.append(helper.make_node("Identity", [y], ["scores"]))
        return libxai.Model(
            conftest.save(self.nodes, [("x", ["n", 3, SIZE, SIZE])], [("scores", ["n", 3])], self.weights, opset=20)
        )


def pictures(rows=3, seed=1):
    return conftest.float32(np.random.default_rng(seed), rows, 3, SIZE, SIZE)


def adds_up(model, tolerance=1e-5):
    """DeepLIFT and DeepSHAP against zero, against noise and against several rows."""
    x, noise = pictures(), pictures(4, seed=2)
    scores = model(x)[:, 1].astype(np.float64)
    for method, options, base in (
        ("deeplift", {"baseline": 0}, model(0 * x[:1])),
        ("deeplift", {"baseline": noise[:1]}, model(noise[:1])),
        ("deepshap", {"background": noise}, model(noise)),
    ):
        found = libxai.explain(model, x, method, 1, **options)
        change = scores - base[:, 1].astype(np.float64).mean()
        total = found.values.reshape(len(x), -1).sum(1, dtype=np.float64)
        # Where large contributions cancel, float32 leaves a few of its last digits.
        digits = 4 * np.finfo(np.float32).eps * np.abs(found.values).reshape(len(x), -1).sum(1, dtype=np.float64)
        most = np.maximum(tolerance * np.abs(change), np.maximum(digits, 2e-6))
        assert (np.abs(total - change) <= most).all() and (found.completeness_error <= most).all(), method
        assert np.abs(found.values).max() > 0 and not found.warnings


def test_case_01_relu_and_overlapping_max_pool_add_up():
    n = Network()
    pooled = n.add("MaxPool", n.add("Relu", n.conv("x", 3, 8)), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    adds_up(n.model(n.add("Relu", n.conv(pooled, 8, 8))))


def test_case_01_windows_that_share_a_winner_each_give_their_part():
    """y = max(x0, x1) + 3 max(x1, x2) at (0, 2, 1): the middle wins twice, 1 * 2 + 3 * 2. Overwriting leaves 2 or 6."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    weights = {"w": np.array([[1], [3]], np.float32)}
    model = libxai.Model(conftest.save(nodes, [("x", ["n", 1, 3])], [("y", ["n", 1])], weights))
    found = libxai.explain(model, np.array([[[0, 2, 1]]], np.float32), "deeplift", 0)
    assert found.values.tolist() == [[[0, 8, 0]]]


def test_case_02_a_shared_relu_adds_up():
    """One activation read by two branches, and the same weights used twice."""
    n = Network()
    again = [n.constant(8, 8, 3, 3), n.constant(8)]
    first = n.add("Relu", n.conv("x", 3, 8))
    second = n.add("Relu", n.add("Conv", first, *again, pads=[1] * 4))
    third = n.add("Relu", n.add("Conv", second, *again, pads=[1] * 4))
    adds_up(n.model(n.add("Add", third, n.conv(first, 8, 8, taps=1))))


def test_case_03_functional_and_in_place_relus_with_a_residual_add_up():
    """In the graph they are all nodes: relu(conv(h) + h), relu of that again, and h + relu(h)."""
    n = Network()
    h = n.add("Relu", n.conv("x", 3, 8))
    block = n.add("Relu", n.add("Add", n.conv(h, 8, 8), h))
    adds_up(n.model(n.add("Add", n.add("Relu", n.conv(block, 8, 8)), n.add("Relu", block))))


@pytest.mark.parametrize("kind", ["SiLU", "Gelu", "Gelu, tanh", "HardSwish"])
def test_case_04_smooth_activations_add_up(kind):
    n = Network()

    def bend(x):
        if kind == "SiLU":
            return n.add("Mul", x, n.add("Sigmoid", x))
        if kind.startswith("Gelu"):
            return n.add("Gelu", x, **({"approximate": "tanh"} if "tanh" in kind else {}))
        return n.add(kind, x)

    adds_up(n.model(bend(n.conv(bend(n.conv("x", 3, 8)), 8, 8))))


def test_case_05_a_squeeze_and_excitation_gate_adds_up():
    n = Network()
    h = n.add("Relu", n.conv("x", 3, 8))
    squeezed = n.add("Relu", n.conv(n.add("GlobalAveragePool", h), 8, 4, taps=1))
    adds_up(n.model(n.add("Mul", h, n.add("Sigmoid", n.conv(squeezed, 4, 8, taps=1)))))


def softmax_model():
    n = Network()
    return n.model(n.add("Relu", n.conv("x", 3, 8)), last="Softmax")


def test_case_06_softmax_adds_up_and_does_not_depend_on_the_batch():
    model, x = softmax_model(), pictures()
    adds_up(model)
    for method in ("deeplift", "saliency", "integrated_gradients", "lrp"):
        together = libxai.explain(model, x, method, 1)
        for row in range(len(x)):
            assert np.array_equal(together.values[row], libxai.explain(model, x[row], method, 1).values)


@pytest.mark.parametrize("size", [(3, 5), (5, 3), (1, 7)])
def test_case_07_partition_trees_of_odd_sizes_are_owen_values(size):
    height, width = size
    rng = np.random.default_rng(3)
    weights = {"w": conftest.float32(rng, height * width, 6), "u": conftest.float32(rng, 6, 1)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("MatMul", ["a", "u"], ["y"]),
    ]
    model = libxai.Model(conftest.save(nodes, [("x", ["n", 1, height, width])], [("y", ["n", 1])], weights))
    x = conftest.float32(rng, 1, 1, height, width)

    def score(there):
        w, u = weights["w"].astype(np.float64), weights["u"].astype(np.float64)
        return float((np.maximum((there * x[0].astype(np.float64)).reshape(1, -1) @ w, 0) @ u)[0, 0])

    expected = owen(score, (1, height, width))
    found = libxai.explain(model, x, "partition_shap", 0, samples=10000)
    assert np.abs(found.values[0] - expected).max() <= 2e-6 * np.abs(expected).max()


def test_case_08_expected_gradients_of_a_layer_add_up():
    """Behind the layer all is linear: exactly. Where it is not: up to the error of sampling that is told."""
    n = Network()
    layer = n.add("Relu", n.conv("x", 3, 8))
    linear = n.model(layer)
    x, background = pictures(), pictures(6, seed=2)
    found = libxai.explain(linear, x, "gradient_shap", 1, background=background, layer=layer)
    assert found.completeness_error.max() <= 2e-6
    n = Network()
    layer = n.conv("x", 3, 8)
    bent = n.model(n.add("Relu", n.conv(n.add("Relu", layer), 8, 8)))
    found = libxai.explain(bent, x, "gradient_shap", 1, background=background, layer=layer, samples=1536)
    size = np.abs(found.values).reshape(len(x), -1).sum(1)
    assert (found.completeness_error <= 2e-3 * size).all()
    assert np.allclose(found.base_value, bent(background)[:, 1].mean(), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 64])
def test_case_09_weights_of_integrated_gradients_sum_to_one(steps):
    """A linear model: w (x - b) whatever the number of steps. Captum's riemann_trapezoid gives (n - 1) / n of it."""
    weights = {"w": np.linspace(-1, 2, 12, dtype=np.float32)[:, None]}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = libxai.Model(conftest.save(nodes, [("x", ["n", 12])], [("y", ["n", 1])], weights))
    x = conftest.float32(np.random.default_rng(0), 2, 12)
    found = libxai.explain(model, x, "integrated_gradients", 0, steps=steps, baseline=0.25)
    assert np.allclose(found.values, (x - 0.25) * weights["w"][:, 0], rtol=1e-6, atol=1e-7)


def test_case_10_localisation_of_an_empty_mask_is_not_a_number():
    maps, masks = np.random.default_rng(0).random((2, 8, 8)), np.zeros((2, 8, 8))
    masks[1, :4] = 1
    found = libxai.localisation(maps, masks)
    assert all(np.isnan(found[name][0]) and np.isfinite(found[name][1]) for name in found)


@pytest.mark.parametrize(
    "method",
    ["smoothgrad", "vargrad", "gradient_shap", "kernel_shap", "permutation_shap", "sampling_shap", "lime", "rise"],
)
def test_case_11_one_seed_gives_the_same_bits_for_all_threads_and_batches(data, x, method):
    rows = np.concatenate([x, -x, 0.5 * x, x[::-1], 2 * x, 3 * x[:1]])
    options = {"samples": 120 if "shap" in method else 24, "seed": 11}
    if "segments" in libxai.method_options(method):
        options["segments"] = ("grid", 3)
    if method == "gradient_shap":
        options["background"] = x
    alone = np.stack([libxai.explain(libxai.Model(data, threads=1), row, method, 1, **options).values for row in rows])
    for threads, batch in itertools.product((1, 2), (1, 3, 16)):
        model = libxai.Model(data, threads=threads)
        parts = [rows[i : i + batch] for i in range(0, 16, batch)]
        found = np.concatenate([libxai.explain(model, part, method, 1, **options).values for part in parts])
        assert np.array_equal(found, alone)
    other = libxai.explain(libxai.Model(data), rows[0], method, 1, **{**options, "seed": 12})
    assert not np.array_equal(other.values, alone[0])


SIGNED = [
    *(
        "gradcam",
        "gradcam++",
        "hirescam",
        "xgradcam",
        "layercam",
        "elementwise_gradcam",
        "guided_gradcam",
        "reciprocam",
    ),
    *("input_x_gradient", "integrated_gradients", "gradient_shap", "deeplift", "lrp"),
    *("kernel_shap", "partition_shap", "permutation_shap", "sampling_shap", "exact_shap", "lime"),
    *("feature_ablation", "occlusion", "aise"),
]


@pytest.mark.parametrize("method", SIGNED)
def test_case_12_a_map_without_positive_evidence_is_zero_and_says_so(method):
    """The score is minus the mean of a picture that is nowhere negative: nothing speaks for it."""
    nodes = [
        helper.make_node("Conv", ["x", "one"], ["c"]),
        helper.make_node("Relu", ["c"], ["layer"]),
        helper.make_node("GlobalAveragePool", ["layer"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["scores"]),
    ]
    weights = {"one": np.ones((1, 1, 1, 1), np.float32), "w": np.array([[-1, 1]], np.float32)}
    model = libxai.Model(conftest.save(nodes, [("x", ["n", 1, 6, 6])], [("scores", ["n", 2])], weights))
    x = 0.1 + np.random.default_rng(0).random((2, 1, 6, 6), np.float32)
    options = {"segments": ("grid", 3)} if "segments" in libxai.method_options(method) else {}
    found = libxai.explain(model, x, method, [0, 1], **options)
    assert not found.map[0].any() and found.map[1].max() == pytest.approx(1, abs=1e-6)
    about = [text for text in found.warnings if "row 0" in text]
    assert about and ("no positive evidence" in about[0] or "zero" in about[0])
    assert found.facts["rows"][0]["peak"] is None and found.facts["rows"][1]["peak"]["value"] == pytest.approx(1)


# What Captum's tests compute by hand.


def test_captum_by_hand_layer_gradcam():
    """BasicModel_ConvNet_One_Conv of the numbers 0 to 15."""
    weights = {
        "w": np.ones((2, 1, 3, 3), np.float32),
        "b": np.array([-50, -75], np.float32),
        "v": np.concatenate([np.ones((5, 4)), -np.ones((3, 4))]).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["conv1"]),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("Flatten", ["relu1"], ["flat"]),
        helper.make_node("MatMul", ["flat", "v"], ["fc"]),
        helper.make_node("Relu", ["fc"], ["y"]),
    ]
    model = libxai.Model(conftest.save(nodes, [("x", ["n", 1, 4, 4])], [("y", ["n", 4])], weights))
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    for layer, expected in (("conv1", [[11.25, 13.5], [20.25, 22.5]]), ("relu1", [[0, 4], [28, 32.5]])):
        found = libxai.explain(model, x, "gradcam", 0, layer=layer)
        assert np.allclose(found.values[0], expected, atol=1e-5)


@pytest.fixture(scope="module")
def multilayer():
    """BasicModel_MultiLayer: relu(s - 10) + 3 relu(s + 1) - 1 and + 1, s the sum of the three inputs."""
    weights = {
        "w1": np.ones((3, 4), np.float32),
        "b1": np.array([-10, 1, 1, 1], np.float32),
        "w2": np.ones((4, 2), np.float32),
        "b2": np.array([-1, 1], np.float32),
    }

    def make(shape):
        nodes = [
            helper.make_node("Flatten", ["x"], ["row"]),
            helper.make_node("Gemm", ["row", "w1", "b1"], ["linear1"]),
            helper.make_node("Relu", ["linear1"], ["relu"]),
            helper.make_node("Gemm", ["relu", "w2", "b2"], ["y"]),
        ]
        return libxai.Model(conftest.save(nodes, [("x", ["n", *shape])], [("y", ["n", 2])], weights))

    return make


def test_captum_by_hand_kernel_shap(multilayer):
    x = np.array([[20, 50, 30]], np.float32)
    for method in ("kernel_shap", "exact_shap", "permutation_shap", "sampling_shap"):
        found = libxai.explain(multilayer((3,)), x, method, 0)
        sure = method in ("kernel_shap", "exact_shap")
        assert np.allclose(found.values, [[76.66667, 196.66667, 116.66667]], atol=1e-4 if sure else 12)
    grouped = libxai.explain(multilayer((1, 3)), x[None], "kernel_shap", 0, segments=np.array([0, 0, 1]))
    assert np.allclose(grouped.segment_values, [[275, 115]], atol=1e-4)  # Captum repeats: 275, 275, 115
    assert np.allclose(grouped.values, [[[137.5, 137.5, 115]]], atol=1e-4)


def test_captum_by_hand_occlusion(multilayer):
    found = libxai.explain(multilayer((1, 3)), np.array([[[20, 50, 30]]], np.float32), "occlusion", 0, window=1)
    assert np.allclose(found.values, [[[80, 200, 120]]], atol=1e-4)


def test_captum_by_hand_deeplift():
    """ReLUDeepLiftModel: y = 2 relu(x1) + 2 relu(x2 - 1.5); attributions add up with delta 0."""
    weights = {"shift": np.array([[0, -1.5]], np.float32), "w": np.full((2, 1), 2, np.float32)}
    nodes = [
        helper.make_node("Add", ["x", "shift"], ["s"]),
        helper.make_node("Relu", ["s"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    model = libxai.Model(conftest.save(nodes, [("x", ["n", 2])], [("y", ["n", 1])], weights))
    for x, baseline, expected in (
        ([1.0, 2.0], [0.0, 0.0], [2, 1]),
        ([-10.0, 3.0], [2.0, 0.0], [-4, 3]),
    ):
        found = libxai.explain(
            model, np.array([x], np.float32), "deeplift", 0, baseline=np.array([baseline], np.float32)
        )
        assert np.allclose(found.values, [expected], atol=1e-6) and found.completeness_error[0] <= 1e-6
