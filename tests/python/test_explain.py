"""Explanations: formulas, maps, facts, pictures, files."""

import json
import struct
import zlib

import conftest
import libxai
import numpy as np
import pytest

METHODS = ["gradcam", "gradcam++"]


def formula(method, a, g):
    """Of activations and gradients (N, C, H, W)."""
    a, g = a.astype(np.float64), g.astype(np.float64)
    if method == "gradcam":
        weights = g.mean((2, 3), keepdims=True)
    else:
        alpha = g**2 / (2 * g**2 + a.sum((2, 3), keepdims=True) * g**3 + 1e-6)
        weights = (np.maximum(g, 0) * np.where(g == 0, 0, alpha)).sum((2, 3), keepdims=True)
    return (weights * a).sum(1)


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


def test_methods():
    found = libxai.methods()
    assert {"gradcam", "gradcam++"} <= set(found)
    assert all(isinstance(text, str) and text for text in found.values())


@pytest.mark.parametrize("layer", [None, "act1", "pool1", "conv2"])
@pytest.mark.parametrize("method", METHODS)
def test_values_are_the_formula(model, x, method, layer):
    found = libxai.explain(model, x, method, 1, layer=layer)
    name = layer or "act2"
    assert found.layer == name and found.method == method
    expected = formula(method, model.activations(x, name), model.gradient(x, 1, wrt=name))
    assert found.values.dtype == np.float32 and found.values.shape == expected.shape
    assert np.abs(found.values - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("method", METHODS)
def test_map_is_cut_divided_by_its_maximum_and_resized(model, x, method):
    found = libxai.explain(model, x, method, [0, 1, 2], layer="pool1")
    assert found.map.shape == (3, 20, 24) and found.map.dtype == np.float32
    assert found.map.min() >= 0 and found.map.max() <= 1
    for row in range(3):
        cut = np.maximum(found.values[row].astype(np.float64), 0)
        assert cut.max() > 0
        assert np.abs(found.map[row] - linear_resize(cut / cut.max(), (20, 24))).max() <= 1e-6


def test_map_as_pytorch_grad_cam_scales_it(model, x):
    found = libxai.explain(model, x[0], "gradcam", 1, layer="pool1", scaling="min_max")
    cut = np.maximum(found.values.astype(np.float64), 0)
    cut = linear_resize((cut - cut.min()) / (1e-7 + (cut - cut.min()).max()), (20, 24))
    cut = (cut - cut.min()) / (1e-7 + (cut - cut.min()).max())
    assert np.abs(found.map - cut).max() <= 1e-5


def test_no_positive_evidence_is_an_empty_map_and_a_warning():
    """The score is minus the mean of the layer, which is nowhere negative."""
    nodes = [
        conftest.helper.make_node("Conv", ["image", "w"], ["c"], name="conv"),
        conftest.helper.make_node("Relu", ["c"], ["act"], name="relu"),
        conftest.helper.make_node("GlobalAveragePool", ["act"], ["mean"], name="mean"),
        conftest.helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        conftest.helper.make_node("MatMul", ["flat", "v"], ["scores"], name="head"),
    ]
    weights = {"w": np.ones((1, 1, 1, 1), np.float32), "v": np.array([[-1.0, 1.0]], np.float32)}
    m = libxai.Model(conftest.save(nodes, [("image", ["n", 1, 6, 6])], [("scores", ["n", 2])], weights))
    x = np.random.default_rng(0).random((2, 1, 6, 6), np.float32)
    found = libxai.explain(m, x, "gradcam", [0, 1])
    assert not found.map[0].any() and found.map[1].max() == pytest.approx(1, abs=1e-6)
    assert found.values[0].max() < 0
    assert len(found.warnings) == 1 and "no positive evidence" in found.warnings[0] and "row 0" in found.warnings[0]
    dark = libxai.explain(m, -x[0], "gradcam++", 1)
    assert not dark.map.any() and len(dark.warnings) == 1


def test_saturated_probability_says_so(x):
    m = libxai.Model(conftest.make_convolutional("Sigmoid"))
    found = libxai.explain(m, 1e4 * x[0], "gradcam", score="probability")
    assert not found.map.any()
    assert any("logit" in each for each in found.warnings)


def test_facts(model, x):
    found = libxai.explain(model, x, "gradcam", ["Nodule", 3, None])
    scores = model(x)
    highest = int(scores[2].argmax())
    assert found.target.tolist() == [1, 3, highest]
    assert found.label == ["Nodule", "Fracture", conftest.LABELS[highest]]
    assert np.allclose(found.score, [scores[0, 1], scores[1, 3], scores[2, highest]], rtol=1e-6)
    assert found.evaluations.tolist() == [1, 1, 1] and found.score_kind == "raw"
    assert (
        np.isnan(found.base_value).all()
        and np.isnan(found.completeness_error).all()
        and np.isnan(found.standard_error).all()
    )
    assert found.warnings == []
    assert found.facts["method"] == "gradcam" and found.facts["layer"] == "act2"
    single = libxai.explain(model, x[0], "gradcam", "Nodule")
    assert (single.target, single.label, single.evaluations) == (1, "Nodule", 1)
    assert isinstance(single.score, float) and single.map.shape == (20, 24) and single.values.shape == (10, 12)
    assert "Nodule" in single.label and "gradcam" in repr(single)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_score_kinds(x, score):
    m = libxai.Model(conftest.make_convolutional("Sigmoid"))
    found = libxai.explain(m, x, "gradcam", 1, score=score)
    p = m(x)[:, 1].astype(np.float64)
    expected = np.log(p / (1 - p)) if score == "logit" else p
    assert found.score_kind == score and np.allclose(found.score, expected, rtol=2e-6)
    a, g = m.activations(x, "act2"), m.gradient(x, 1, wrt="act2", score=score)
    expected = formula("gradcam", a, g)
    assert np.abs(found.values - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("method", METHODS)
def test_several_targets_have_the_bits_of_single_calls(model, x, method):
    explainer = libxai.Explainer(model, method)
    targets = [0, "Nodule", None, [3, 2, 1]]
    together = explainer.targets(x, targets)
    assert len(together) == 4
    for found, target in zip(together, targets, strict=True):
        alone = explainer(x, target)
        assert np.array_equal(found.values, alone.values) and np.array_equal(found.map, alone.map)
        assert found.target.tolist() == alone.target.tolist() and found.score.tolist() == alone.score.tolist()


@pytest.mark.parametrize("settings", [{"threads": 1}, {"threads": 2}, {"threads": 3, "mode": "throughput"}])
def test_rows_threads_and_modes_do_not_change_a_bit(data, x, settings):
    rows = np.concatenate([x, -x, x[::-1]])
    base = libxai.Model(data, threads=1)
    m = libxai.Model(data, **settings)
    assert np.array_equal(m(rows), np.stack([base(row) for row in rows]))
    assert np.array_equal(m.gradient(rows, 1), np.stack([base.gradient(row, 1) for row in rows]))
    for method in METHODS:
        found = libxai.explain(m, rows, method, 2)
        for i, row in enumerate(rows):
            alone = libxai.explain(base, row, method, 2)
            assert np.array_equal(found.values[i], alone.values) and np.array_equal(found.map[i], alone.map)


def test_plain_kernels_agree(data, model, x):
    slow = libxai.explain(libxai.Model(data, precision="reference"), x, "gradcam++", 1)
    fast = libxai.explain(model, x, "gradcam++", 1)
    assert np.abs(slow.values - fast.values).max() <= 1e-5 * np.abs(slow.values).max()


def test_segmentation_and_two_inputs(segmentation, two, two_x):
    row = conftest.float32(np.random.default_rng(4), 1, 8, 8)
    found = libxai.explain(segmentation, row, "gradcam", (1, slice(0, 4), slice(None)), layer="act")
    assert found.map.shape == (8, 8) and found.target == -1 and found.label
    found = libxai.explain(two, two_x, "gradcam", 2)
    assert found.map.shape == (3, 8, 8) and found.layer == "act"


def read_png(path):
    """Only what the package writes: 8-bit RGB, no filter."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, kinds = 8, b"", []
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        kinds.append(kind)
        if kind == b"IHDR":
            width, height, *rest = struct.unpack(">IIBBBBB", body)
            assert rest == [8, 2, 0, 0, 0]
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    assert kinds[0] == b"IHDR" and kinds[-1] == b"IEND"
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_overlay(model, x):
    found = libxai.explain(model, x, "gradcam", 1)
    gray = np.random.default_rng(0).integers(0, 256, (40, 48), np.uint8)
    picture = found.overlay(gray, row=1)
    assert picture.shape == (40, 48, 3) and picture.dtype == np.uint8
    assert np.array_equal(found.overlay(np.repeat(gray[..., None], 3, 2), row=1), picture)
    assert np.array_equal(found.overlay(gray, row=1, alpha=0), np.repeat(gray[..., None], 3, 2))
    assert not np.array_equal(found.overlay(gray, row=1, colours="viridis"), picture)
    assert np.array_equal(found.overlay(gray / 255.0, row=1), picture)
    # What has no evidence stays as it was.
    same_size = np.full((20, 24), 100, np.uint8)
    changed = (found.overlay(same_size, row=1) != 100).any(2)
    assert changed.any() and not changed[found.map[1] == 0].any()


def test_overlay_of_the_input_itself():
    m = libxai.Model(conftest.make_segmentation())
    row = conftest.float32(np.random.default_rng(4), 1, 8, 8)
    found = libxai.explain(m, row, "gradcam", (1, slice(0, 4), slice(None)), layer="act")
    plain = found.overlay(alpha=0)
    assert plain.shape == (8, 8, 3) and plain.min() == 0 and plain.max() == 255


def test_save(model, x, tmp_path):
    found = libxai.explain(model, x[0], "gradcam", "Nodule")
    gray = np.arange(480, dtype=np.uint8).reshape(20, 24)
    found.save(tmp_path / "o.png", gray, colours="inferno")
    assert np.array_equal(read_png(tmp_path / "o.png"), found.overlay(gray, colours="inferno"))
    found.save(str(tmp_path / "o.npy"))
    assert np.array_equal(np.load(tmp_path / "o.npy"), found.map)
    found.save(tmp_path / "o.json")
    facts = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert facts == found.facts and "Nodule" in json.dumps(facts)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["o.json", "o.npy", "o.png"]


def test_explanation_outlives_model_and_explainer(data, x):
    m = libxai.Model(data)
    explainer = libxai.Explainer(m, "gradcam++")
    found = explainer(x, 1)
    expected = found.map.copy()
    del m, explainer
    assert np.array_equal(found.map, expected)
    assert found.overlay(np.zeros((20, 24), np.uint8)).shape == (20, 24, 3)


@pytest.mark.needs("shap")
def test_to_shap(model, x):
    """For methods that attribute to the input; the CAM methods attribute to a layer."""
    with pytest.raises(libxai.UnsupportedError):
        libxai.explain(model, x, "gradcam").to_shap()
