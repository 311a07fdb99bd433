"""Pictures by matplotlib: what is drawn, not how it looks."""

import sys

import libxai
import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    import matplotlib.pyplot

    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def found(model, x):
    return libxai.explain(model, x, "gradcam", 1)


PICTURE = np.linspace(0, 1, 40 * 48).reshape(40, 48)


def images(figure):
    return figure.axes[0].get_images()


def test_overlay_shows_the_map_from_0_to_1_with_a_colour_bar(found):
    figure = found.plot(PICTURE, row=2)
    picture, heat = images(figure)
    assert np.array_equal(picture.get_array(), PICTURE)
    assert np.array_equal(heat.get_array(), found.map[2]) and (heat.norm.vmin, heat.norm.vmax) == (0, 1)
    assert np.allclose(heat.get_alpha(), 0.6 * found.map[2])  # nothing where there is no evidence
    assert tuple(heat.get_extent()) == tuple(picture.get_extent()) == (0, 48, 40, 0)
    assert len(figure.axes) == 2 and figure.axes[1].get_ylabel() == "evidence for"
    assert figure.axes[0].get_title() == f"gradcam: Nodule {found.score[2]:.3g}"


def test_image_alone(found):
    assert len(images(found.plot(PICTURE, kind="image"))) == 1


def test_contour_lies_at_the_threshold(found):
    figure = found.plot(PICTURE, kind="contour", threshold=0.5)
    (lines,) = [each for each in figure.axes[0].collections if hasattr(each, "levels")]
    assert list(lines.levels) == [0.5]
    # Every point of the line: the map there, between pixel centres, is the threshold.
    heat = found.map[0]
    points = np.concatenate([path.vertices for path in lines.get_paths()])
    column = points[:, 0] / 48 * heat.shape[1] - 0.5
    row = points[:, 1] / 40 * heat.shape[0] - 0.5
    left, top = np.floor(column + 1e-9).astype(int), np.floor(row + 1e-9).astype(int)
    right, below = np.minimum(left + 1, heat.shape[1] - 1), np.minimum(top + 1, heat.shape[0] - 1)
    a, b = column - left, row - top
    there = (1 - b) * ((1 - a) * heat[top, left] + a * heat[top, right])
    there += b * ((1 - a) * heat[below, left] + a * heat[below, right])
    assert len(points) > 4 and np.allclose(there, 0.5, atol=1e-3)


def test_signed_scale_has_zero_in_the_middle(model, x):
    found = libxai.explain(model, x, "occlusion", 1)
    figure = found.plot(PICTURE, kind="signed")
    drawn = images(figure)[1]
    signed = np.asarray(drawn.get_array())
    assert signed.min() < 0 < signed.max()
    assert drawn.norm.vmin == -drawn.norm.vmax == -np.abs(signed).max()
    red, green, blue = np.array(drawn.cmap([0.0, 1.0]))[:, :3].T
    grey = drawn.cmap(0.5)[:3]
    assert np.ptp(grey) < 0.02  # zero has no hue
    # For and against differ in blue, which no red-green blindness hides.
    assert abs(blue[0] - blue[1]) > 0.2 and len(red) == len(green) == 2


def test_no_evidence_is_said(data):
    model = libxai.Model(data)
    zero = libxai.explain(model, np.zeros((2, 20, 24), np.float32), "gradcam", 0)
    figure = zero.plot(PICTURE)
    said = figure.axes[0].get_xlabel()
    assert (said == "no positive evidence") == (zero.map.max() == 0)
    assert zero.plot(PICTURE, kind="contour")


def gaussian(plane, sigma):
    """By its definition: weights over all pixels of the plane mirrored around itself, cut at 4 sigma."""
    height, width = plane.shape
    wide = np.pad(plane, 3 * max(plane.shape), mode="symmetric")
    out = np.empty_like(plane, float)
    reach = int(4 * sigma + 0.5)
    near = np.arange(-reach, reach + 1)
    weights = np.exp(-(near[:, None] ** 2 + near**2) / (2 * sigma**2))
    for y in range(height):
        for x in range(width):
            at_y, at_x = y + 3 * max(plane.shape), x + 3 * max(plane.shape)
            around = wide[at_y - reach : at_y + reach + 1, at_x - reach : at_x + reach + 1]
            out[y, x] = (weights * around).sum() / weights.sum()
    return out


def test_percentile_and_smoothing_are_for_display_alone(model, x):
    found = libxai.explain(model, x, "integrated_gradients", 1, steps=4)
    before = found.map.copy()
    figure = found.plot(PICTURE, percentile=90, smoothing=1.5)
    heat = images(figure)[1]
    smoothed = gaussian(found.map[0].astype(float), 1.5)
    reach = np.percentile(smoothed[smoothed > 0], 90)
    assert np.allclose(heat.get_array(), smoothed, atol=1e-7)
    assert heat.norm.vmin == 0 and heat.norm.vmax == pytest.approx(reach, rel=1e-6)
    assert np.allclose(heat.get_alpha(), 0.6 * np.clip(smoothed / reach, 0, 1), atol=1e-6)
    said = figure.axes[1].get_ylabel()
    assert "smoothed, 1.5 pixels" in said and "percentile 90" in said
    assert np.array_equal(found.map, before)
    # The library draws the same: full strength exactly where the smoothed map reaches the percentile.
    drawn = found.overlay(np.zeros((20, 24)), alpha=1, colours="viridis", percentile=90, smoothing=1.5)
    full = (drawn == (253, 231, 37)).all(2)  # the last colour
    assert full[smoothed > reach * 1.001].all() and not full[smoothed < reach * 0.99].any() and full.any()
    assert np.array_equal(found.map, before)


def test_signed_percentile_keeps_zero_in_the_middle(model, x):
    found = libxai.explain(model, x, "integrated_gradients", 1, steps=4)
    figure = found.plot(PICTURE, kind="signed", percentile=95)
    drawn = images(figure)[1]
    signed = np.abs(np.asarray(drawn.get_array()))
    assert drawn.norm.vmax == -drawn.norm.vmin == pytest.approx(np.percentile(signed[signed > 0], 95))
    bar = figure.axes[1]
    assert bar.get_ylabel() == "← against      for →\ncut at percentile 95"


def test_signed_map_of_a_layer_has_the_size_of_the_input(model, x):
    found = libxai.explain(model, x, "gradcam", 1)
    drawn = np.asarray(images(found.plot(PICTURE, kind="signed"))[1].get_array())
    assert found.values.shape[1:] != drawn.shape == found.map.shape[1:]
    # It is the map, up to the scale, wherever the layer's four values around are positive.
    raw = found.values[0]
    positive = np.kron(raw, np.ones((2, 2))) > 0
    inner = positive.copy()
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        inner &= np.roll(positive, step, axis)
    inner[1:-1, 1:-1] &= positive[:-2, :-2] & positive[2:, 2:] & positive[:-2, 2:] & positive[2:, :-2]
    assert 50 < inner.sum() < inner.size
    assert np.allclose((drawn / raw.max())[inner], found.map[0][inner], atol=1e-5)


def test_contour_of_an_overlay(found):
    plain = found.overlay(np.zeros((20, 24)), alpha=0)
    lined = found.overlay(np.zeros((20, 24)), alpha=0, contour=0.5)
    line = (lined == (255, 176, 0)).all(2)
    assert not plain.any() and line.any() and not (line & (found.map[0] < 0.5)).any()
    assert np.array_equal(lined[~line], plain[~line])


def test_wrong_displays(found):
    wrongs = [{"percentile": 0}, {"percentile": float("nan")}, {"smoothing": -1}]
    for wrong in wrongs:
        with pytest.raises(libxai.ArgumentError, match=next(iter(wrong))):
            found.plot(PICTURE, **wrong)
    for wrong in [*wrongs, {"contour": 2}]:
        with pytest.raises(libxai.ArgumentError, match=next(iter(wrong))):
            found.overlay(PICTURE, **wrong)


def test_long_titles_break(model, x):
    found = libxai.explain(model, x, "integrated_gradients", "Pneumothorax", steps=2)
    assert found.plot(PICTURE).axes[0].get_title() == f"integrated_gradients\nPneumothorax {found.score[0]:.3g}"
    both = libxai.plot([found, libxai.explain(model, x, "gradcam", 1)], PICTURE)
    assert all("\n" in each.get_title() for each in both.axes[:2])


def test_side_by_side(model, x):
    several = [libxai.explain(model, x, method, 1) for method in ("gradcam", "gradcam++")]
    figure = libxai.plot(several, PICTURE)
    titles = [each.get_title() for each in figure.axes if each.get_title()]
    assert [each.partition(":")[0] for each in titles] == ["gradcam", "gradcam++"]
    one, two = matplotlib.pyplot.subplots(1, 2)[1]
    assert libxai.plot(several, PICTURE, ax=[one, two]) is one.figure


def test_millimetres(found):
    figure = found.plot(PICTURE, spacing=(0.5, 0.25))
    assert tuple(images(figure)[0].get_extent()) == (0, 12, 20, 0)
    assert figure.axes[0].get_xlabel() == "mm"


def test_saves_a_file(found, tmp_path):
    found.plot(PICTURE).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_wrong_arguments(found, monkeypatch):
    for wrong in ({"kind": "pie"}, {"row": 3}, {"image": np.zeros((2, 2, 2))}, {"ax": [1, 2]}):
        with pytest.raises(libxai.ArgumentError):
            found.plot(**{"image": PICTURE, **wrong})
    with pytest.raises(libxai.ArgumentError):
        libxai.plot([])
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(libxai.UnsupportedError, match="pip install matplotlib"):
        found.plot(PICTURE)
