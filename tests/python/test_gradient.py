"""Gradients against differences, targets and kinds of score."""

import conftest
import libxai
import numpy as np
import pytest


@pytest.fixture(scope="module")
def smooth():
    """A network whose scores are differentiable everywhere, in float64."""
    return libxai.Model(conftest.make_convolutional("Sigmoid", smooth=True), precision="reference")


def difference(f, x, directions, step=1e-2):
    """Central differences of f along unit directions, extrapolated once (error of order step^4)."""
    found = []
    for d in directions:
        slopes = [(f(x + h * d) - f(x - h * d)) / (2 * h) for h in (step, step / 2)]
        found.append((4 * slopes[1] - slopes[0]) / 3)
    return np.array(found)


def unit_directions(shape, count):
    d = np.random.default_rng(2).standard_normal((count, *shape))
    return d / np.linalg.norm(d.reshape(count, -1), axis=1).reshape(-1, *[1] * len(shape))


@pytest.mark.parametrize("target", [0, 2])
def test_gradient_is_the_slope_of_the_scores(smooth, x, target):
    row = x[0].astype(np.float64)
    directions = unit_directions(row.shape, 8)
    gradient = smooth.gradient(row, target).astype(np.float64)
    slopes = difference(lambda z: float(smooth(z)[target]), row, directions, step=0.5)
    found = (directions * gradient).reshape(8, -1).sum(1)
    # Scores are float32: their last digit is worth 1e-7 of a slope.
    assert np.abs(found - slopes).max() <= 2e-4 * np.linalg.norm(gradient)


def test_gradient_with_relu_and_max_pool_is_the_slope(model, x):
    """Nearly linear pieces: a short step stays inside one for most elements."""
    row = x[0]
    gradient = model.gradient(row, 1)
    rng = np.random.default_rng(3)
    close = 0
    for _ in range(40):
        at = tuple(rng.integers(size) for size in row.shape)
        step = np.zeros_like(row)
        step[at] = 2e-3
        slope = (float(model(row + step)[1]) - float(model(row - step)[1])) / 4e-3
        close += abs(slope - gradient[at]) <= 0.05 * np.abs(gradient).max()
    assert close >= 36


def test_gradient_of_a_layer(smooth, x):
    """What follows the layer is a mean, a product and a sigmoid: its gradient is known."""
    row = x[0]
    w3 = np.random.default_rng(5)
    gradient = smooth.gradient(row, 2, wrt="act2")
    p = float(smooth(row)[2])
    rng = w3
    conftest.float32(rng, 8, 2, 3, 3), conftest.float32(rng, 12, 8, 3, 3)
    weights = conftest.float32(rng, 4, 12, scale=0.8)
    expected = p * (1 - p) * weights[2][:, None, None] / 120 * np.ones((1, 10, 12))
    assert gradient.shape == (12, 10, 12)
    assert np.abs(gradient - expected).max() <= 1e-6 * np.abs(expected).max()


def test_layer_by_name_node_index_and_object(model, x):
    expected = model.gradient(x, 1, wrt="act1")
    layer = next(each for each in model.layers if each.name == "act1")
    for same in ("/stem/act", layer, layer.number, np.int64(layer.number)):
        assert np.array_equal(model.gradient(x, 1, wrt=same), expected)
    assert np.array_equal(model.gradient(x, 1, wrt="image"), model.gradient(x, 1))


def test_probability_and_logit_of_a_final_sigmoid(x):
    m = libxai.Model(conftest.make_convolutional("Sigmoid"))
    p = m(x)[:, 1].reshape(-1, 1, 1, 1).astype(np.float64)
    logit = m.gradient(x, 1, score="logit").astype(np.float64)
    probability = m.gradient(x, 1, score="probability")
    assert np.abs(probability - p * (1 - p) * logit).max() <= 1e-6 * np.abs(probability).max()
    assert np.array_equal(m.gradient(x, 1, score="raw"), probability)
    # The network without its sigmoid gives the same.
    assert np.allclose(
        libxai.Model(conftest.make_convolutional()).gradient(x, 1), logit, rtol=0, atol=1e-6 * np.abs(logit).max()
    )


def test_probability_of_a_model_whose_card_names_the_sigmoid(model, x):
    p = 1 / (1 + np.exp(-model(x)[:, 1].reshape(-1, 1, 1, 1).astype(np.float64)))
    raw = model.gradient(x, 1)
    assert np.array_equal(model.gradient(x, 1, score="logit"), raw)
    found = model.gradient(x, 1, score="probability")
    assert np.abs(found - p * (1 - p) * raw).max() <= 1e-6 * np.abs(found).max()


def test_logit_of_a_final_softmax(x):
    m = libxai.Model(conftest.make_convolutional("Softmax"))
    logits = np.stack([m.gradient(x, k, score="logit") for k in range(4)], 1).astype(np.float64)
    p = m(x).astype(np.float64)
    # d p_1 = p_1 (d z_1 - sum_k p_k d z_k)
    expected = p[:, 1, None, None, None] * (logits[:, 1] - np.einsum("nk,nkchw->nchw", p, logits))
    found = m.gradient(x, 1, score="probability")
    assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()


def test_probability_needs_to_be_known(segmentation):
    with pytest.raises(libxai.UnsupportedError):
        segmentation.gradient(np.zeros((1, 8, 8), np.float32), (0, 1, 1), score="probability")


def test_targets(model, x):
    by_index = model.gradient(x, 2)
    for same in (
        "Pneumothorax",
        -2,
        np.int64(2),
        np.uint8(2),
        (2,),
        [2, 2, 2],
        np.array([2, 2, 2]),
        np.array(2),
        (slice(2, 3),),
    ):
        assert np.array_equal(model.gradient(x, same), by_index), same
    mixed = model.gradient(x, ["Effusion", -1, (1,)])
    for row, index in enumerate((0, 3, 1)):
        assert np.array_equal(mixed[row], model.gradient(x, index)[row])


def test_no_target_is_the_highest_score_of_each_row(model, x):
    highest = model(x).argmax(1)
    assert np.array_equal(model.gradient(x), model.gradient(x, highest))
    assert np.array_equal(model.gradient(x, [None, int(highest[1]), None]), model.gradient(x))


def test_region_is_the_sum_of_its_elements(segmentation):
    row = conftest.float32(np.random.default_rng(1), 1, 8, 8)
    box = segmentation.gradient(row, (1, slice(2, 5), slice(6, None))).astype(np.float64)
    each = sum(segmentation.gradient(row, (1, y, x)).astype(np.float64) for y in (2, 3, 4) for x in (6, 7))
    assert np.abs(box - each).max() <= 2e-6 * np.abs(each).max()
    everything = segmentation.gradient(row, (slice(None), slice(None), slice(None)))
    parts = sum(segmentation.gradient(row, (k, slice(None), slice(None))).astype(np.float64) for k in range(2))
    assert np.abs(everything - parts).max() <= 2e-6 * np.abs(parts).max()
    last = segmentation.gradient(row, (-1, -1, -1))
    assert np.array_equal(last, segmentation.gradient(row, (1, 7, 7)))


def test_several_inputs_give_a_dict(two, two_x):
    found = two.gradient(two_x, 1)
    assert set(found) == {"image", "patient"}
    assert found["image"].shape == (3, 1, 8, 8) and found["patient"].shape == (3, 2)
    v = conftest.make_two_inputs()[1]["v"]
    assert np.allclose(found["patient"], v[4:, 1], rtol=1e-6)
    assert np.array_equal(two.gradient(two_x, 1, wrt="patient"), found["patient"])


def test_other_output(two, two_x):
    found = two.gradient(two_x, 0, output="risk")
    u = conftest.make_two_inputs()[1]["u"]
    expected = (1 - np.tanh(two_x["patient"].astype(np.float64)) ** 2) * u[:, 0]
    assert np.abs(found["patient"] - expected).max() <= 1e-6
    assert not found["image"].any()


def test_gradients_of_several_targets_do_not_mix(model, x):
    first = model.gradient(x, 0)
    model.gradient(x, 3), model(x), model.gradient(x, 1, wrt="act1")
    assert np.array_equal(model.gradient(x, 0), first)
