"""SHAP, LIME, occlusion and RISE: against brute force over the model, closed forms and the definitions."""

import itertools
import math

import conftest
import libxai
import numpy as np
import pytest

SHAPLEY = ["kernel_shap", "partition_shap", "permutation_shap", "sampling_shap", "exact_shap"]


def mask(x, segments, coalition, baseline):
    """x (C, H, W) where the segment is in the coalition, else the baseline."""
    return np.where(np.asarray(coalition, bool)[segments][None], x, baseline).astype(np.float32)


def shapley(score, players):
    """Shapley values by the definition over all subsets."""
    v = {s: score([int(s >> i & 1) for i in range(players)]) for s in range(2**players)}
    values = np.zeros(players)
    for i in range(players):
        for s in v:
            if not s >> i & 1:
                k = bin(s).count("1")
                weight = math.factorial(k) * math.factorial(players - k - 1) / math.factorial(players)
                values[i] += weight * (v[s | 1 << i] - v[s])
    return values, v[0]


def owen(score, shape):
    """Owen values of the elements of (C, H, W): the mean over all orders in which halves of halves stay together."""
    values = np.zeros(shape)

    def halves(box):
        for axis in (1, 2, 0):
            length = box[axis][1] - box[axis][0]
            if length > 1 and (axis == 0 or length >= box[3 - axis][1] - box[3 - axis][0]):
                middle = box[axis][0] + length // 2
                parts = [list(box), list(box)]
                parts[0][axis], parts[1][axis] = (box[axis][0], middle), (middle, box[axis][1])
                return tuple(map(tuple, parts))
        return None

    def inside(box):
        out = np.zeros(shape, bool)
        out[tuple(slice(*side) for side in box)] = True
        return out

    def recurse(box, there, weight):
        parts = halves(box)
        if parts is None:
            values[inside(box)] += weight * (score(there | inside(box)) - score(there))
            return
        for one, other in (parts, parts[::-1]):
            recurse(one, there, weight / 2)
            recurse(one, there | inside(other), weight / 2)

    recurse(tuple((0, length) for length in shape), np.zeros(shape, bool), 1.0)
    return values


@pytest.fixture(scope="module")
def nine():
    """Uneven labels, far from 0 .. 8: compacted in their order."""
    labels = np.add.outer(np.arange(20) // 7 * 30, np.arange(24) // 9 * 10) - 5
    return labels.astype(np.int64)


@pytest.fixture(scope="module")
def table():
    """y = x1 x2 + 2 x3 + relu(x4 - x5 + x6), as a network; and the function."""
    rng = np.random.default_rng(3)
    w1, b1, w2 = (conftest.float32(rng, *s) for s in ((6, 16), (16,), (16, 2)))
    from onnx import helper

    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "w2"], ["y"]),
    ]
    data = conftest.save(nodes, [("x", ["n", 6])], [("y", ["n", 2])], {"w1": w1, "b1": b1, "w2": w2})
    return libxai.Model(data)


def test_listed():
    names = list(libxai.methods())
    for name in [*SHAPLEY, "lime", "occlusion", "rise", "feature_ablation"]:
        assert name in names


@pytest.mark.parametrize("method", ["exact_shap", "kernel_shap"])
def test_segments_against_brute_force(model, x, nine, method):
    compact = np.unique(nine, return_inverse=True)[1].reshape(nine.shape)
    expected, empty = shapley(lambda s: float(model(mask(x[0], compact, s, 0.25)[None])[0, 2]), 9)
    e = libxai.explain(model, x[:1], method, target=2, segments=nine, baseline=0.25)
    assert np.array_equal(e.segments[0], compact)
    assert e.segment_values.shape == (1, 9)
    np.testing.assert_allclose(e.segment_values[0], expected, atol=2e-6)
    np.testing.assert_allclose(e.base_value, [empty], atol=1e-6)
    assert e.completeness_error[0] < 1e-9
    assert e.evaluations[0] == 512
    # values spread a segment's attribution evenly over its elements
    for k in range(9):
        inside = e.values[0][:, compact == k]
        np.testing.assert_allclose(inside, expected[k] / inside.size, atol=1e-7)
    np.testing.assert_allclose(e.values.sum(), e.score[0] - empty, atol=1e-5)


def test_table_with_background(table):
    rng = np.random.default_rng(1)
    x, background = conftest.float32(rng, 2, 6), conftest.float32(rng, 5, 6)

    def score(row):
        def of(s):
            return float(table(np.where(s, row, background).astype(np.float32))[:, 1].mean())

        return of

    for method in SHAPLEY:
        options = {} if method == "exact_shap" else {"samples": 2000}
        e = libxai.explain(table, x, method, target=1, background=background, **options)
        for row in range(2):
            expected, empty = shapley(score(x[row]), 6)
            if method != "partition_shap":  # Owen values are others
                exact = method in ("exact_shap", "kernel_shap")
                sure = 1e-5 if exact else 4 * e.standard_error[row]
                assert (np.abs(e.values[row] - expected) <= sure).all() and np.max(sure) < 0.1
            np.testing.assert_allclose(e.base_value[row], empty, atol=1e-6)
            np.testing.assert_allclose(e.values[row].sum(), e.score[row] - empty, atol=1e-5)
        assert e.map is None
        assert e.baseline == "a background of 5 rows"


def test_several_targets_share_the_coalitions(model, x):
    explainer = libxai.Explainer(model, "kernel_shap", samples=200, seed=4)
    together = explainer.targets(x[:1], [0, 1, 3])
    for target, e in zip([0, 1, 3], together, strict=True):
        alone = explainer(x[:1], target)
        assert np.array_equal(alone.values, e.values)
        assert np.array_equal(alone.standard_error, e.standard_error)


@pytest.mark.parametrize("method", [*SHAPLEY[:4], "lime", "rise"])
def test_bits_do_not_depend_on_threads_or_rows(model, x, method):
    options = {"samples": 300, "seed": 7} if method != "partition_shap" else {"samples": 60}
    if method not in ("rise", "partition_shap"):
        options["segments"] = ("grid", 4)
    one = libxai.explain(model, x, method, target=1, threads=1, **options)
    many = libxai.explain(model, x, method, target=1, threads=3, **options)
    alone = libxai.explain(model, x[1:2], method, target=1, **options)
    assert np.array_equal(one.values, many.values)
    assert np.array_equal(one.values[1:2], alone.values)


def test_the_seed_changes_the_samples(model, x):
    options = {"samples": 200, "target": 1}
    a, b = (libxai.explain(model, x[:1], "kernel_shap", seed=s, **options) for s in (1, 2))
    assert not np.array_equal(a.values, b.values)


def test_standard_errors_cover_the_difference_to_exact(model, x):
    """Of 16 segments at least 12 lie within two standard errors of the exact value."""
    exact = libxai.explain(model, x[:1], "exact_shap", target=1, segments=("grid", 4))
    for method, samples in (("kernel_shap", 700), ("permutation_shap", 600), ("sampling_shap", 1600)):
        e = libxai.explain(model, x[:1], method, target=1, segments=("grid", 4), samples=samples)
        off = np.abs(e.segment_values - exact.segment_values)
        assert e.segment_standard_error.min() > 0
        assert (off < 2 * e.segment_standard_error + 1e-7).sum() >= 12, method


@pytest.mark.parametrize("method", ["kernel_shap", "permutation_shap", "sampling_shap", "lime", "rise"])
def test_tolerance(model, x, method):
    options = {"samples": 4000, "target": 1, "tolerance": 2.0 if method == "rise" else 0.5}
    loose = libxai.explain(model, x[:1], method, **options)
    assert loose.converged[0]
    assert loose.evaluations[0] < 4000
    assert loose.warnings == []
    options = {"samples": 600, "target": 1, "tolerance": 1e-6}
    tight = libxai.explain(model, x[:1], method, **options)
    assert not tight.converged[0]
    assert "tolerance" in tight.warnings[0]


@pytest.mark.parametrize("size", [(2, 3), (3, 5), (5, 3), (4, 4)])
def test_partition_is_shaps_owen_value(model, size):
    """All orders in which halves stay together; the odd row or column belongs to the second half."""
    rng = np.random.default_rng(2)
    x = conftest.float32(rng, 1, 2, *size)

    def score(there):
        return float(model(np.where(there, x[0], 0).astype(np.float32)[None])[0, 0])

    expected = owen(score, (2, *size))
    e = libxai.explain(model, x, "partition_shap", target=0, samples=100000)
    np.testing.assert_allclose(e.values[0], expected, atol=2e-6)
    assert e.warnings == []


def test_partition_says_what_it_did_not_resolve(model, x):
    e = libxai.explain(model, x[:1], "partition_shap", target=0, samples=50)
    assert e.evaluations[0] <= 52
    assert "share one value" in e.warnings[0]
    assert np.isnan(e.standard_error if e.standard_error is not None else np.nan).all()
    np.testing.assert_allclose(e.values.sum(), e.score[0] - e.base_value[0], atol=1e-5)


def test_lime_recovers_a_linear_model():
    """y = sum of w x: a segment's coefficient is what it contributes above the baseline."""
    from onnx import helper

    rng = np.random.default_rng(4)
    w = conftest.float32(rng, 64, 1)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    m = libxai.Model(conftest.save(nodes, [("x", ["n", 1, 8, 8])], [("y", ["n", 1])], {"w": w}))
    x = conftest.float32(rng, 1, 1, 8, 8)
    e = libxai.explain(m, x, "lime", target=0, segments=("grid", 2), samples=2000, alpha=1e-6, baseline=0.5)
    contributions = ((x[0, 0] - 0.5) * w.reshape(8, 8)).reshape(2, 4, 2, 4).sum((1, 3))
    np.testing.assert_allclose(e.segment_values[0], contributions.ravel(), atol=1e-4)
    assert e.warnings == []


def test_lime_warns_of_a_poor_fit():
    """y = product of signs of halves (XOR): no linear model fits it."""
    from onnx import helper

    weights = {"w": np.array([[1, 0, 1, 0], [0, 1, 0, 1]], np.float32).T.copy()}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Split", ["h"], ["a", "b"], axis=1, num_outputs=2),
        helper.make_node("Mul", ["a", "b"], ["y"]),
    ]
    m = libxai.Model(conftest.save(nodes, [("x", ["n", 4])], [("y", ["n", 1])], weights, opset=18))
    e = libxai.explain(m, np.array([[1, 1, -0.9, -1.1]], np.float32), "lime", target=0)
    assert "R^2" in e.warnings[0]


def test_occlusion_is_the_definition(model, x):
    """Windows of 6 x 5, stride 4 x 5: the last rows are cut off; overlaps are averaged by hits."""
    e = libxai.explain(model, x[:1], "occlusion", target=3, window="6,5", stride="4,5", baseline=0.1)
    total, hits = np.zeros((20, 24)), np.zeros((20, 24))
    base = float(model(x[:1])[0, 3])
    windows = 0
    for top in range(0, 20 - 6 + 4, 4):
        for left in range(0, 24 - 5 + 5, 5):
            if top - 4 + 6 >= 20 or left - 5 + 5 >= 24:
                continue
            changed = x[:1].copy()
            changed[:, :, top : top + 6, left : left + 5] = 0.1
            total[top : top + 6, left : left + 5] += base - float(model(changed)[0, 3])
            hits[top : top + 6, left : left + 5] += 1
            windows += 1
    assert hits.min() >= 1
    assert e.evaluations[0] == windows + 2  # the row for its score, and as what local edits start from
    np.testing.assert_allclose(e.values[0], np.stack([total / hits] * 2), atol=2e-6)


def test_feature_ablation(model, x):
    e = libxai.explain(model, x[:1], "feature_ablation", target=0, segments=("grid", 3), baseline="mean")
    labels = e.segments[0]
    for k in range(9):
        changed = np.where(labels == k, x[0].mean((1, 2), keepdims=True), x[0]).astype(np.float32)
        drop = float(model(x[:1])[0, 0]) - float(model(changed[None])[0, 0])
        np.testing.assert_allclose(e.segment_values[0, k], drop, atol=2e-6)


def test_rise_of_a_linear_model():
    """f = sum w x with masks of mean p: E[f(m x) m_i] / p has a closed form only through the masks'
    covariance, but its mean over pixels' differences must rank the one pixel that counts highest."""
    from onnx import helper

    w = np.zeros((64, 1), np.float32)
    w[27] = 1  # row 3, column 3
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    m = libxai.Model(conftest.save(nodes, [("x", ["n", 1, 8, 8])], [("y", ["n", 1])], {"w": w}))
    e = libxai.explain(m, np.ones((1, 1, 8, 8), np.float32), "rise", target=0, samples=3000, cells=8)
    assert np.unravel_index(e.map[0].argmax(), (8, 8)) == (3, 3)
    # far away the mask does not depend on that pixel's: E[f m] / p = E[m] = 1/2
    np.testing.assert_allclose(e.values[0, 0, 6:, 6:], 0.5, atol=0.05)
    assert (np.abs(e.values[0, 0, 6:, 6:] - 0.5) < 4 * e.standard_error[0, 0, 6:, 6:]).all()


def test_two_inputs(two, two_x):
    """A picture in segments and a table by elements, in one game."""
    e = libxai.explain(two, two_x, "exact_shap", target=1, segments=("grid", 2))
    rows = 3
    assert set(e.values) == {"image", "patient"}

    def score(row, s):
        labels = np.add.outer(np.arange(8) // 4 * 2, np.arange(8) // 4)
        image = np.where(np.asarray(s[:4], bool)[labels], two_x["image"][row], 0)
        patient = np.where(s[4:], two_x["patient"][row], 0)
        inputs = {"image": image[None].astype(np.float32), "patient": patient[None].astype(np.float32)}
        return float(two(inputs)[0][0, 1])

    for row in range(rows):
        expected, _ = shapley(lambda s, row=row: score(row, s), 6)
        np.testing.assert_allclose(e.segment_values[row], expected[:4], atol=2e-6)
        np.testing.assert_allclose(e.values["patient"][row], expected[4:], atol=2e-6)


@pytest.mark.parametrize("method", [*SHAPLEY, "lime", "rise", "aise", "feature_ablation", "occlusion"])
def test_a_score_that_nothing_changes_leaves_an_empty_map(model, x, method):
    """The row is its own baseline: rounding of the sums over samples must not be stretched to a map."""
    options = {} if method in ("occlusion", "rise", "aise") else {"segments": ("grid", 3)}
    if method in ("rise", "lime"):
        options["samples"] = 50
    e = libxai.explain(model, x, method, target=1, baseline=x, **options)
    assert not e.map.any()
    assert not e.signed_map.any() if e.signed_map is not None else True
    assert len(e.warnings) >= 3


def test_rise_leaves_0_where_no_mask_has_shown_anything(model, x):
    e = libxai.explain(model, x, "rise", target=1, samples=2, cells=4, chance=0.1)
    assert np.isfinite(e.map).all()
    assert np.isfinite(e.signed_map).all()


@pytest.mark.parametrize("how", [("slic", 12), ("quickshift", 2, 8, 0.5), "quickshift", ("grid", 5)])
def test_made_segments(model, x, how):
    e = libxai.explain(model, x, "feature_ablation", target=0, segments=how)
    for labels in e.segments:
        assert labels.min() == 0
        assert (np.unique(labels) == np.arange(labels.max() + 1)).all()
    for row in range(3):
        count = e.segments[row].max() + 1
        assert not e.segment_values[row, count:].any()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"segments": ("grid", 0)}, "grid:0"),
        ({"segments": "slic:x"}, "slic:x"),
        ({"segments": ("quickshift", 0)}, "kernel"),
        ({"segments": np.zeros((4, 4), np.int64)}, "shape"),
        ({"samples": 10}, "samples"),
        ({"window": 3}, "window"),
    ],
)
def test_wrong_options(model, x, options, word):
    with pytest.raises(ValueError, match=word):
        libxai.explain(model, x, "kernel_shap", target=0, **options)


@pytest.mark.parametrize("method", [*SHAPLEY, "lime", "feature_ablation", "gradient_shap"])
def test_a_baseline_and_a_background_are_one_too_many(model, x, method):
    with pytest.raises(ValueError, match="both"):
        libxai.explain(model, x, method, target=0, baseline=0.0, background=x)


@pytest.mark.parametrize("method", ["partition_shap", "permutation_shap", "aise", "lime", "rise"])
def test_progress_ends_at_its_total(model, x, method):
    """Also where a method needs fewer evaluations than it had announced."""
    calls = []
    options = {"samples": 200, "segments": ("grid", 3)} if "shap" in method else {"samples": 60}
    libxai.explain(model, x, method, target=1, progress=lambda *now: calls.append(now), **options)
    assert calls[-1][0] == calls[-1][1]


def test_integer_labels_are_asked_for(model, x):
    with pytest.raises(TypeError, match="segments: int64 is needed, not float64"):
        libxai.explain(model, x, "lime", target=0, segments=np.zeros((20, 24)))


@pytest.mark.parametrize("method", ["lime", "vargrad"])
def test_one_sample_says_nothing(model, x, method):
    with pytest.raises(ValueError, match="samples: 1 is not in"):
        libxai.explain(model, x, method, target=0, samples=1)


def test_too_many_features_for_exact(model, x):
    with pytest.raises(ValueError, match="at most 20"):
        libxai.explain(model, x, "exact_shap", target=0)


def test_cancelled(model, x):
    done = []

    def stop(count, total):
        done.append((count, total))
        return count < 5

    with pytest.raises(libxai.LibXaiError, match="cancelled"):
        libxai.explain(model, x, "kernel_shap", target=0, progress=stop, threads=1)
    assert done[-1][0] == 5


def test_orders_agree():
    """The brute force of this file: over subsets and over orders."""
    rng = np.random.default_rng(0)
    v = rng.standard_normal(16)
    values, _ = shapley(lambda s: v[sum(b << i for i, b in enumerate(s))], 4)
    orders = np.zeros(4)
    for order in itertools.permutations(range(4)):
        there = 0
        for i in order:
            orders[i] += (v[there | 1 << i] - v[there]) / 24
            there |= 1 << i
    np.testing.assert_allclose(values, orders)


@pytest.fixture(scope="module")
def pointwise():
    """A = relu(w x + b) of 3 channels, then the mean, then two scores of tanh; and the tail in numpy."""
    from onnx import helper

    rng = np.random.default_rng(5)
    weights = {
        "w": conftest.float32(rng, 3, 1, 1, 1),
        "b": conftest.float32(rng, 3, scale=0.3),
        "v": conftest.float32(rng, 3, 2),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["a"]),
        helper.make_node("GlobalAveragePool", ["a"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["z"]),
        helper.make_node("Tanh", ["z"], ["y"]),
    ]
    m = libxai.Model(conftest.save(nodes, [("x", ["n", 1, 5, 6])], [("y", ["n", 2])], weights))

    def features(x):
        return np.maximum(weights["w"][:, :, 0, 0] @ x.reshape(1, -1) + weights["b"][:, None], 0).reshape(3, 5, 6)

    return m, features, lambda a: np.tanh(a.mean((1, 2)) @ weights["v"])


@pytest.mark.parametrize("kernel", ["gaussian", "onehot"])
def test_reciprocam_is_the_score_of_one_place(pointwise, kernel):
    m, features, tail = pointwise
    x = conftest.float32(np.random.default_rng(6), 2, 1, 5, 6)
    explainer = libxai.Explainer(m, "reciprocam", kernel=kernel, layer="a")
    for target, e in enumerate(explainer.targets(x, [0, 1])):
        assert e.values.shape == (2, 5, 6)
        assert e.layer == "a"
        for row in range(2):
            a = features(x[row])
            expected = np.zeros((5, 6))
            for h in range(5):
                for w in range(6):
                    k = np.zeros((5, 6))
                    if kernel == "onehot":
                        k[h, w] = 1
                    else:
                        for dh, dw in itertools.product((-1, 0, 1), repeat=2):
                            if 0 <= h + dh < 5 and 0 <= w + dw < 6:
                                k[h + dh, w + dw] = (2 - abs(dh)) * (2 - abs(dw)) / 16
                    expected[h, w] = tail(a * k)[target]
            np.testing.assert_allclose(e.values[row], expected, atol=1e-6)
            nothing = tail(0 * a)[target]
            np.testing.assert_allclose(e.base_value[row], nothing, atol=1e-7)
            cut = np.maximum(expected - nothing, 0)
            if cut.max() > 1e-4:
                np.testing.assert_allclose(e.map[row], cut / cut.max(), atol=2e-3)


def test_aise_finds_the_bright_square():
    """f = mean of a square: the windows gather there, and the search is deterministic."""
    from onnx import helper

    w = np.zeros((24, 30), np.float32)
    w[4:8, 20:26] = 1
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    m = libxai.Model(conftest.save(nodes, [("x", ["n", 1, 24, 30])], [("y", ["n", 1])], {"w": w.reshape(-1, 1)}))
    x = np.ones((1, 1, 24, 30), np.float32)
    e = libxai.explain(m, x, "aise", target=0)
    top, left = np.unravel_index(e.map[0].argmax(), (24, 30))
    assert 2 <= top < 10
    assert 18 <= left < 28
    assert e.evaluations[0] <= 151
    assert e.map[0][16:, :10].max() < 0.3
    again = libxai.explain(m, x, "aise", target=0, threads=2)
    assert np.array_equal(e.values, again.values)
    dark = libxai.explain(m, -x, "aise", target=0)
    assert not dark.map.any()
    assert any("no positive evidence" in w or "zero" in w for w in dark.warnings)


def test_interactions_of_a_product():
    """y = x1 x2 with baseline 0: the values are half the product each, and all of it is interaction."""
    from onnx import helper

    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
        helper.make_node("Mul", ["a", "b"], ["y"]),
    ]
    m = libxai.Model(conftest.save(nodes, [("x", ["n", 2])], [("y", ["n", 1])], {}, opset=18))
    x = np.array([[2, 3], [-1, 4]], np.float32)
    e = libxai.explain(m, x, "exact_shap", target=0, interactions=1)
    for row in range(2):
        half = x[row].prod() / 2
        np.testing.assert_allclose(e.interactions[row], [[0, half], [half, 0]], atol=1e-6)
    np.testing.assert_allclose(e.interactions.sum(-1), e.values, atol=1e-6)
    assert libxai.explain(m, x, "exact_shap", target=0).interactions is None
