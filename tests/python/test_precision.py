"""Precision `fast`: other algorithms for 3x3 convolutions, close to `standard` and as reproducible."""

import conftest
import libxai
import numpy as np
import pytest
from onnx import helper

SIZE = 30


def make_network(scale=1.0, activation="Softplus", channels=32, amplitude=1.0, size=SIZE):
    """A stem, two residual blocks of 3x3 convolutions and a head; smooth, so that gradients have no jumps."""
    rng = np.random.default_rng(3)
    weights = {
        "stem": conftest.float32(rng, channels, 3, 3, 3, scale=scale * amplitude / 27**0.5),
        "head": conftest.float32(rng, 4, channels, scale=0.5),
        "bias": conftest.float32(rng, 4),
    }
    nodes = [helper.make_node("Conv", ["image", "stem"], ["r0"], pads=[1, 1, 1, 1])]
    for i in range(2):
        for j in range(2):
            weights[f"w{i}{j}"] = conftest.float32(rng, channels, channels, 3, 3, scale=scale / (9 * channels) ** 0.5)
        nodes += [
            helper.make_node("Conv", [f"r{i}", f"w{i}0"], [f"c{i}"], pads=[1, 1, 1, 1]),
            helper.make_node(activation, [f"c{i}"], [f"a{i}"]),
            helper.make_node("Conv", [f"a{i}", f"w{i}1"], [f"d{i}"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", [f"d{i}", f"r{i}"], [f"s{i}"]),
            helper.make_node(activation, [f"s{i}"], [f"r{i + 1}"]),
        ]
    nodes += [
        helper.make_node("GlobalAveragePool", ["r2"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head", "bias"], ["score"], transB=1),
    ]
    return conftest.save(nodes, [("image", ["N", 3, size, size])], [("score", ["N", 4])], weights)


def pictures(rows=1, size=SIZE):
    return np.random.default_rng(1).standard_normal((rows, 3, size, size)).astype(np.float32)


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("activation", ["Softplus", "Relu"])
def test_scores_and_gradients_are_those_of_the_reference(activation):
    data, x = make_network(activation=activation), pictures()
    fast, exact = (libxai.Model(data, precision=precision) for precision in ("fast", "reference"))
    assert relative(fast(x), exact(x)) < 1e-5
    if activation == "Softplus":  # a ReLU at 1e-7 may be on in one and off in the other
        assert relative(fast.gradient(x, target=1), exact.gradient(x, target=1)) < 1e-5


def test_every_rule_works():
    data, x = make_network(activation="Relu"), pictures()
    for method in ("gradcam", "guided_backprop", "lrp", "deeplift", "occlusion", "integrated_gradients"):
        fast, standard = (
            libxai.explain(libxai.Model(data, precision=precision), x, method, target=1).values
            for precision in ("fast", "standard")
        )
        assert relative(fast, standard) < 2e-3, method


@pytest.mark.parametrize("method", ["occlusion", "feature_ablation"])
def test_drops_are_differences_of_fast_scores(method):
    """Not of a fast score and a standard one: faint windows would all carry the same error."""
    data, x = make_network(activation="Relu", size=96), pictures(size=96)
    model = libxai.Model(data, precision="fast")
    window = {"window": 16} if method == "occlusion" else {"segments": ("grid", 6)}
    e = libxai.explain(model, x, method, target=1, **window)
    edited = np.repeat(x, 36, 0)
    for k in range(36):
        edited[k, :, k // 6 * 16 : k // 6 * 16 + 16, k % 6 * 16 : k % 6 * 16 + 16] = 0
    drops = (model(x)[0, 1] - model(edited)[:, 1]).reshape(6, 6)
    values = e.values[0, 0, ::16, ::16] if method == "occlusion" else e.segment_values[0].reshape(6, 6)
    assert np.array_equal(values.astype(np.float32), drops)


def test_same_bits_for_any_threads_and_batch():
    data, x = make_network(), pictures(3)
    one = libxai.Model(data, precision="fast", threads=1)
    scores, gradients = one(x), one.gradient(x, target=2)
    for threads, mode in ((2, "latency"), (3, "latency"), (2, "throughput")):
        model = libxai.Model(data, precision="fast", threads=threads, mode=mode)
        assert np.array_equal(model(x), scores)
        assert np.array_equal(model.gradient(x, target=2), gradients)
    for row in range(3):
        assert np.array_equal(one(x[row : row + 1])[0], scores[row])
        assert np.array_equal(one.gradient(x[row : row + 1], target=2)[0], gradients[row])


@pytest.mark.parametrize("amplitude", [1e20, 1e30, 1e34, 1e36, 1e38])
def test_no_number_out_of_an_overflow(amplitude):
    """Either an error, or the numbers of the reference: large sums inside may not become a harmless 0."""
    data, x = make_network(activation="Relu", amplitude=amplitude), pictures()
    exact = libxai.Model(data, precision="reference")
    try:
        got = libxai.Model(data, precision="fast")(x)
    except libxai.LibXaiError:
        assert amplitude > 1e30
        return
    assert relative(got, exact(x)) < 1e-5


def test_nonfinite_values_pass_where_they_may():
    """Not beyond the positions that see them: the other algorithms would spread a NaN over a tile."""
    data, x = make_network(activation="Relu"), pictures()
    x[0, 0, 4, 4] = np.nan
    assert np.isnan(libxai.Model(data, precision="fast", allow_nonfinite=True)(x)).all()


def test_the_memory_limit_counts_the_scratchpad():
    with pytest.raises(libxai.LibXaiError, match="memory"):
        libxai.Model(make_network(), precision="fast", memory_limit=200_000)(pictures())
