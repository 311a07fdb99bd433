"""DeepLIFT, DeepSHAP, guided backpropagation, deconvnet and LRP on small networks of every family."""

import functools
import pathlib

import libxai
import numpy as np
import onnx
import pytest

FOLDER = pathlib.Path(__file__).resolve().parent / "models"
REFERENCES = np.load(FOLDER.parent / "rules.npz")  # made by make_rules.py
FILES = sorted(path.stem for path in FOLDER.glob("*.onnx"))


@functools.cache
def model(file):
    return libxai.Model(FOLDER / f"{file}.onnx", threads=1)


@functools.cache
def image(file):
    return np.load(FOLDER / f"{file.removesuffix('_dynamo')}.npz")["image"]


def target(file):
    return (0, 5, 6) if file.startswith("unet") else 1


def other(file, rows=1, seed=123):
    shape = (rows, *image(file).shape[1:])
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def score(m, x, where):
    return np.asarray(m(x))[(slice(None), *np.atleast_1d(where))]


@pytest.mark.parametrize("baseline", ["zero", "random"])
@pytest.mark.parametrize("file", FILES)
def test_deeplift_adds_up(file, baseline):
    m, x, where = model(file), image(file), target(file)
    b = other(file) if baseline == "random" else np.zeros_like(x[:1])
    e = libxai.explain(m, x, "deeplift", target=where, baseline=b if baseline == "random" else 0)
    change = score(m, x, where) - score(m, b, where)
    total = e.values.reshape(len(x), -1).sum(1, dtype=np.float64)
    size = np.abs(e.values).reshape(len(x), -1).sum(1)
    # 1e-5 of the change; where large contributions cancel, float32 leaves 1e-6 of those.
    assert np.all(np.abs(total - change) <= np.maximum(1e-5 * np.abs(change), 1e-6 * size))
    assert np.all(np.abs(e.completeness_error - np.abs(total - change)) <= 1e-6 * np.maximum(1, size))
    assert e.base_value == pytest.approx(np.broadcast_to(score(m, b, where), len(x)), rel=1e-5, abs=1e-6)
    assert not e.warnings


@pytest.mark.parametrize("reference", sorted(REFERENCES.files))
def test_captum_agrees_where_it_is_right(reference):
    method, file = reference.split("_", 1) if reference.startswith("deep") else reference.rsplit("_", 1)
    options = {}
    if method == "deconvnet" or method == "guided_backprop":
        pass
    elif method.endswith("zero"):
        options["baseline"] = 0
    else:
        noise = np.random.default_rng(99).standard_normal(image(file).shape)
        options["baseline"] = noise.astype(np.float32)
    e = libxai.explain(model(file), image(file), method.split("-")[0], target=1, **options)
    expected = REFERENCES[reference]
    assert np.abs(expected).max() > 0
    assert np.linalg.norm(e.values - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("file", ["residual", "dense", "efficientnet", "vit"])
def test_deepshap_is_the_mean_of_deeplift(file):
    m, x, where = model(file), image(file), target(file)
    background = other(file, 4)
    e = libxai.explain(m, x, "deeplift", target=where, baseline=0)
    alone = np.stack(
        [libxai.explain(m, x, "deeplift", target=where, baseline=background[k : k + 1]).values for k in range(4)]
    ).astype(np.float64)
    for cache in (128, 0):  # kept and recomputed activations
        explainer = libxai.Explainer(m, "deepshap", background=background, cache=cache)
        for _ in range(2):  # the second call finds what the first one kept
            e = explainer(x, target=where)
            scale = np.abs(alone.mean(0)).max()
            assert np.abs(e.values - alone.mean(0)).max() <= 1e-6 * scale
            error = alone.std(0, ddof=1) / 2
            assert np.abs(e.standard_error - error).max() <= 1e-5 * error.max()
            assert e.base_value == pytest.approx(
                np.full(len(x), score(m, background, where).mean()), rel=1e-5, abs=1e-6
            )


def test_deepshap_needs_a_background():
    with pytest.raises(libxai.LibXaiError, match="deeplift"):
        libxai.explain(model("residual"), image("residual"), "deepshap", target=1)


def test_deeplift_of_a_probability_adds_up():
    """The softmax behind the logits, as the card declares it, follows the rule too."""
    file = onnx.load(FOLDER / "residual.onnx")
    onnx.helper.set_model_props(file, {"xai.output.score": "logit-softmax"})
    m = libxai.Model(file.SerializeToString(), threads=1)
    x, b = image("residual"), other("residual")
    e = libxai.explain(m, x, "deeplift", target=1, baseline=b, score="probability")

    def probability(z):
        z = np.exp(z - z.max(1, keepdims=True))
        return (z / z.sum(1, keepdims=True))[:, 1]

    change = probability(m(x).astype(np.float64)) - probability(m(b).astype(np.float64))
    total = e.values.reshape(len(x), -1).sum(1, dtype=np.float64)
    assert np.abs(total - change).max() <= 1e-5 * np.abs(change).max()


@pytest.mark.parametrize("file", ["residual", "vgg", "grouped", "dense", "shuffle"])
def test_epsilon_zero_is_input_times_gradient(file):
    m, x, where = model(file), image(file), target(file)
    e = libxai.explain(m, x, "lrp", target=where, epsilon=0)
    expected = x * m.gradient(x, target=where)
    assert np.abs(e.values - expected).max() <= 2e-6 * np.abs(expected).max()
    assert np.all(np.isfinite(e.completeness_error))


@pytest.mark.parametrize("rule", ["gamma", "alpha_beta", "z_plus"])
def test_lrp_rules_are_finite_and_differ(rule):
    m, x = model("vgg"), image("vgg")
    plain = libxai.explain(m, x, "lrp", target=1).values
    found = libxai.explain(m, x, "lrp", target=1, rule=rule, first="flat").values
    assert np.all(np.isfinite(found))
    assert np.abs(found - plain).max() > 1e-3 * np.abs(plain).max()


def test_the_box_rule_refuses_inputs_outside_the_box():
    with pytest.raises(libxai.LibXaiError, match="low"):
        libxai.explain(model("vgg"), image("vgg"), "lrp", target=1, first="box", low=-0.1, high=0.1)


@pytest.mark.parametrize("file", ["residual", "vit"])  # vit: softmax of attention, which peers spread over a batch
@pytest.mark.parametrize("method", ["deeplift", "guided_backprop", "deconvnet", "lrp"])
def test_threads_and_batches_leave_the_bits(method, file):
    x = np.concatenate([image(file), other(file, 3)])
    one = libxai.explain(model(file), x, method, target=1).values
    m = libxai.Model(FOLDER / f"{file}.onnx", threads=2)
    assert np.array_equal(libxai.explain(m, x, method, target=1).values, one)
    rows = [libxai.explain(m, x[i : i + 1], method, target=1).values for i in range(len(x))]
    assert np.array_equal(np.concatenate(rows), one)


@pytest.mark.parametrize("rule", ["gamma", "alpha_beta", "z_plus"])
@pytest.mark.parametrize("file", FILES)
def test_relevance_by_signs_agrees_with_the_formulas_in_double(file, rule):
    """The portable kernels follow the formulas pair by pair; the fast ones convolve with the weights of one sign."""
    exact = libxai.Model(FOLDER / f"{file}.onnx", threads=1, precision="reference")
    fast, slow = (
        libxai.explain(m, image(file)[:1], "lrp", target=target(file), rule=rule).values for m in (model(file), exact)
    )
    assert np.abs(slow).max() > 0
    assert np.linalg.norm(fast - slow) <= 5e-4 * np.linalg.norm(slow)  # quotients of small sums magnify rounding
