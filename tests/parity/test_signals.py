"""Signals (N, L, C) of Keras, and those that recurrent layers read: maps have one axis, time, whichever way the layers
inside are laid out. The numbers are computed here from the layer's values and gradients, or by evaluating the model."""

import functools
import pathlib

import libxai
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).resolve().parent / "families"
NAMES = ["keras_signal", "keras_lstm", "keras_gru", "lstm", "gru", "rnn"]
LAYERS = {  # the layer that is explained, and the axes of time and (then) of channels in one row of it
    "keras_signal": ("signal_2/max_pooling1d_2_1/MaxPool1d:0", 2),  # (N, C, 1, L)
    "keras_lstm": ("lstm_1/bidirectional_2_1/concat:0", 0),  # (L, N, C): what the second layer reads
    "lstm": ("/layers/Transpose_3_output_0", 1),  # (N, L, C)
    "gru": ("/layers/Transpose_3_output_0", 1),
    "rnn": ("/layers/Transpose_1_output_0", 1),
}


@functools.cache
def model(name):
    return libxai.Model(FOLDER / f"{name}.onnx", threads=1)


def signal(name):
    return np.load(FOLDER / f"{name}.npz")["input_signal"]


def layer_of(name, x):
    """Values and gradients (C, l) of the layer for one row."""
    layer, time = LAYERS[name]
    values, slopes = model(name).activations(x, layer), model(name).gradient(x, 1, wrt=layer)
    assert values.shape == slopes.shape
    if time == 2:
        return values[0, :, 0], slopes[0, :, 0]
    return [each.reshape(-1, each.shape[-1]).T for each in (values, slopes)]


def stretched(raw, length):
    """The raw map, cut at 0, divided by its maximum, with half-pixel centres at another length."""
    raw = np.maximum(raw, 0) / (raw.max() if raw.max() > 0 else 1)
    places = (np.arange(length) + 0.5) * len(raw) / length - 0.5
    return np.interp(places, np.arange(len(raw)), raw)


@pytest.mark.parametrize("name", LAYERS)
def test_gradcam_is_a_map_over_time(name):
    x = signal(name)
    found = libxai.explain(model(name), x, "gradcam", target=1)
    assert found.layer == LAYERS[name][0] and found.map.shape == x.shape[:2]
    for row in range(len(x)):
        values, slopes = layer_of(name, x[row : row + 1])
        raw = slopes.mean(1) @ values
        np.testing.assert_allclose(found.values[row], raw, atol=1e-5 * np.abs(raw).max())
        np.testing.assert_allclose(found.map[row], stretched(raw, x.shape[1]), atol=1e-4)


@pytest.mark.parametrize("name", ["keras_signal", "lstm"])
def test_scorecam_masks_time(name):
    """Wang et al.: softmax over channels of the scores of x times the channel's stretched map."""
    x = signal(name)[:1]
    found = libxai.explain(model(name), x, "scorecam", target=1)
    values, _ = layer_of(name, x)
    places = np.linspace(0, values.shape[1] - 1, x.shape[1])
    scores = []
    for channel in values:
        mask = np.interp(places, np.arange(len(channel)), channel)
        mask = (mask - mask.min()) / (mask.max() - mask.min() + 1e-8)
        scores.append(float(model(name)((x * mask[None, :, None]).astype("f"))[0, 1]))
    weights = np.exp(scores - np.max(scores))
    raw = weights / weights.sum() @ values
    np.testing.assert_allclose(found.values[0], raw, atol=1e-5 * np.abs(raw).max())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "reciprocam"])
def test_layers_are_masked_one_row_at_a_time_where_time_is_first(name, method):
    x = signal(name)
    if LAYERS[name][1] == 0:
        with pytest.raises(libxai.UnsupportedError, match="no row axis; give one row at a time"):
            libxai.explain(model(name), x, method, target=1)
    else:
        assert libxai.explain(model(name), x, method, target=1).map.shape == x.shape[:2]
    one = libxai.explain(model(name), x[:1], method, target=1)
    assert one.map.shape == (1, x.shape[1]) and one.values.shape[1] == layer_of(name, x[:1])[0].shape[1]


def test_ablationcam_of_a_layer_with_time_first():
    """Desai and Ramaswamy: (S - S without the channel) / |S|; here by brute force on the rest of the network."""
    name = "keras_lstm"
    x = signal(name)[:1]
    found = libxai.explain(model(name), x, "ablationcam", target=1)
    values, slopes = layer_of(name, x)
    assert found.values.shape == (1, values.shape[1])
    # To first order the drop is <gradient, channel>: the map points the same way.
    linear = (slopes * values).sum(1) @ values
    assert np.corrcoef(linear, found.values[0])[0, 1] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_drawn_over_time(name):
    x = signal(name)
    found = libxai.explain(model(name), x, "saliency", target=1)
    sums = np.abs(np.asarray(model(name).gradient(x, 1))).sum(2)
    np.testing.assert_allclose(found.map, sums / sums.max(1, keepdims=True), atol=1e-5)
    assert libxai.explain(model(name), x, "fullgrad", target=1).map.shape == x.shape[:2]


@pytest.mark.parametrize("name", NAMES)
def test_segments_are_stretches_of_time_in_all_channels(name):
    x = signal(name)[:1]
    length = x.shape[1]
    labels = np.arange(length) // 4
    found = libxai.explain(model(name), x, "feature_ablation", target=1, segments=labels, baseline=0).values[0]
    score = model(name)(x)[0, 1]
    for label in range(labels.max() + 1):
        hidden = x.copy()
        hidden[:, labels == label] = 0
        drop = score - model(name)(hidden)[0, 1]
        assert found[labels == label].sum() == pytest.approx(drop, abs=1e-6)
    grid = libxai.explain(model(name), x, "kernel_shap", target=1, segments="grid:3", samples=32)
    assert grid.segments.shape == (1, length) and grid.segments.max() == 2


def test_a_network_without_a_layer_over_time_says_so():
    """Loops that were written out: there is the input, turned round in time, and nothing else to draw."""
    with pytest.raises(libxai.UnsupportedError, match="no spatial layer"):
        libxai.explain(model("keras_gru"), signal("keras_gru"), "gradcam", target=1)


@pytest.mark.parametrize("name", ["keras_signal", "lstm"])
def test_plots_are_traces_over_the_map(name):
    import matplotlib

    matplotlib.use("Agg")
    x = signal(name)
    found = libxai.explain(model(name), x, "integrated_gradients", target=0)
    for kind, heat in ((None, found.map[1]), ("signed", found.signed_map[1])):
        axes = found.plot(row=1, kind=kind).axes[0]
        np.testing.assert_array_equal(np.stack([line.get_ydata() for line in axes.lines], axis=1), x[1])
        np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), heat[None])
        assert axes.images[0].get_extent()[:2] == [-0.5, x.shape[1] - 0.5]
    given = np.arange(x.shape[1]) * 2.0
    assert found.plot(given, row=1).axes[0].lines[0].get_ydata().tolist() == given.tolist()
    with pytest.raises(libxai.UnsupportedError, match="this is a signal"):
        found.plot(kind="contour")
    with pytest.raises(libxai.ArgumentError, match="signal of"):
        found.plot(np.zeros(5))
