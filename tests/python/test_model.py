"""Models: what they tell about themselves, and their scores."""

import importlib
import os
import pathlib
import subprocess

import conftest
import libxai
import numpy as np
import onnx
import pytest


def test_inputs_and_outputs(model, two):
    (image,) = model.inputs
    assert (image.name, image.dtype, image.shape) == ("image", "float32", ("batch", 2, "height", "width"))
    assert [each.name for each in two.inputs] == ["image", "patient"]
    assert [each.name for each in two.outputs] == ["scores", "risk"]
    assert two.outputs[1].shape == ("batch", 1)


def test_layers_in_the_order_of_computation(model):
    names = [each.name for each in model.layers]
    spatial = ["conv1", "norm1", "act1", "pool1", "conv2", "norm2", "act2", "mean"]
    assert [name for name in names if name in spatial] == spatial
    assert "act2" in names and "pool1" in names
    layer = model.layers[names.index("act2")]
    assert (layer.node, layer.operator, str(layer)) == ("/block/act", "Relu", "act2")
    assert "act2" in model.layers and "nothing" not in model.layers
    assert [each.number for each in model.layers] == list(range(len(model.layers)))


def test_default_layer_is_the_last_spatial_activation(model):
    assert model.default_layer.name == "act2"


def test_labels_and_metadata(model):
    assert model.labels == list(conftest.LABELS)
    assert model.metadata["xai.output.score"] == "logit-sigmoid"
    assert libxai.Model(conftest.make_segmentation()).labels == []


def test_model_from_path_string_bytes_and_memoryview(tmp_path, data, model, x):
    path = tmp_path / "Lunge-Ödem 肺.onnx"
    path.write_bytes(data)
    expected = model(x)
    for source in (path, str(path), os.fsencode(path) and data, bytearray(data), memoryview(data)):
        assert np.array_equal(libxai.Model(source)(x), expected)


def test_card_beside_the_file_wins(tmp_path, data):
    (tmp_path / "m.onnx").write_bytes(data)
    (tmp_path / "m.xai.json").write_text('{"labels": ["a", "b", "c", "d"]}')
    assert libxai.Model(tmp_path / "m.onnx").labels == ["a", "b", "c", "d"]


def test_scores_are_those_of_onnx_own_evaluator(data, model, x):
    from onnx.reference import ReferenceEvaluator

    (expected,) = ReferenceEvaluator(onnx.load_from_string(data)).run(None, {"image": x})
    scores = model(x)
    assert scores.dtype == np.float32 and scores.shape == (3, 4)
    assert np.abs(scores - expected).max() <= 2e-6 * np.abs(expected).max()


def test_row_without_n_gives_results_without_n(model, x):
    assert model(x[0]).shape == (4,)
    assert np.array_equal(model(x[0]), model(x)[0])
    assert model.gradient(x[0], 1).shape == (2, 20, 24)
    assert np.array_equal(model.gradient(x[0], 1), model.gradient(x, 1)[0])
    assert model.gradient(x[0], 1, wrt="act2").shape == (12, 10, 12)
    assert model.activations(x[0], "act2").shape == (12, 10, 12)


def test_two_inputs_and_two_outputs(two, two_x):
    scores, risk = two(two_x)
    weights = conftest.make_two_inputs()[1]
    expected = np.tanh(two_x["patient"].astype(np.float64)) @ weights["u"]
    assert scores.shape == (3, 3) and risk.shape == (3, 1)
    assert np.abs(risk - expected).max() <= 1e-6
    again = two([two_x["image"], two_x["patient"]])
    assert np.array_equal(again[0], scores) and np.array_equal(again[1], risk)
    single = two({name: value[1] for name, value in two_x.items()})
    assert single[0].shape == (3,) and np.array_equal(single[0], scores[1])


def test_other_element_types_are_converted(model, x):
    assert np.array_equal(model(x.astype(np.float64)), model(x))
    whole = np.round(3 * x)
    assert np.array_equal(model(whole.astype(np.int64)), model(whole))
    assert np.array_equal(model(np.abs(whole).astype(np.uint8)), model(np.abs(whole)))
    half = x.astype(np.float16)
    assert np.array_equal(model(half), model(half.astype(np.float32)))
    assert np.array_equal(model(x.astype(">f4")), model(x))


def test_arrays_need_not_be_contiguous(model, x):
    wide = np.zeros((3, 2, 20, 48), np.float32)
    wide[..., ::2] = x
    assert np.array_equal(model(wide[..., ::2]), model(x))
    assert np.array_equal(model(np.asfortranarray(x)), model(x))
    assert np.array_equal(model(x[::-1]), model(x)[::-1])
    assert np.array_equal(model(x.tolist()), model(x))
    frozen = x.copy()
    frozen.flags.writeable = False
    assert np.array_equal(model(frozen), model(x))


def test_dlpack_and_detached_tensors(model, x):
    class Capsule:
        """Only DLPack, as other libraries' arrays."""

        def __dlpack__(self, **options):
            return x.__dlpack__(**options)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    class Tensor:
        """A tensor that wants to be detached first, as PyTorch's do."""

        def __init__(self, detached=False):
            self.detached = detached

        def detach(self):
            return Tensor(True)

        def __array__(self, dtype=None, copy=None):
            if not self.detached:
                raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
            return x if dtype is None else x.astype(dtype)

    assert np.array_equal(model(Capsule()), model(x))
    assert np.array_equal(model(Tensor()), model(x))


@pytest.mark.needs("torch")
def test_torch_tensors(model, x):
    torch = importlib.import_module("torch")
    tensor = torch.from_numpy(x.copy()).requires_grad_(True)
    assert np.array_equal(model(tensor), model(x))
    assert np.array_equal(model(torch.from_numpy(x.copy()).double()), model(x))


def test_input_is_not_changed(model, x):
    before = x.copy()
    model(x), model.gradient(x, 0), libxai.explain(model, x)
    assert np.array_equal(x, before)


def test_sizes_may_change_from_call_to_call(model, x):
    for height, width in ((20, 24), (9, 16), (20, 24), (33, 8), (8, 8), (16, 16), (20, 24)):
        part = np.resize(x, (1, 2, height, width))
        assert np.array_equal(model(part), libxai.Model(conftest.make_convolutional())(part))


def test_activations(model, x):
    values = model.activations(x, "act1", "/block/act", 0, model.layers[1])
    assert [each.shape for each in values] == [(3, 8, 20, 24), (3, 12, 10, 12), *(v.shape for v in values[2:])]
    assert (values[0] >= 0).all()
    pooled = values[0].reshape(3, 8, 10, 2, 12, 2).max((3, 5))
    # What is asked for is not fused away: another sum, other last digits.
    assert np.abs(model.activations(x, "pool1") - pooled).max() <= 1e-6 * pooled.max()


def test_versions():
    text = pathlib.Path(__file__).resolve().parents[2].joinpath("meson.build").read_text()
    assert f"version: '{libxai.__version__}'" in text
    assert libxai.abi_version() >= 1 and libxai.version() == libxai.__version__
    assert isinstance(libxai.math_library(), str)


@pytest.mark.parametrize("name", ["chest", "mammogram"])
def test_shipped_models(name):
    path = conftest.PHANTOM / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    shipped = libxai.Model(path)
    assert len(shipped.labels) >= 1 and shipped.metadata
    (image,) = shipped.inputs
    shape = [size if isinstance(size, int) else 128 for size in image.shape[1:]]
    row = np.random.default_rng(0).random(shape, np.float32)
    scores = shipped(row)
    assert scores.shape == (len(shipped.labels),) and np.isfinite(scores).all()
    found = libxai.explain(shipped, row, "gradcam++", shipped.labels[0])
    assert found.label == shipped.labels[0] and found.map.shape == tuple(shape[1:])


def test_prepare_is_what_the_program_does(tmp_path):
    """The same scores from a picture: grey, colour, other sizes."""
    program = os.environ.get("XAI_PROGRAM")
    if not program:
        pytest.skip("XAI_PROGRAM names no program")
    path = conftest.PHANTOM / "chest.onnx"
    picture = np.random.default_rng(0).integers(0, 256, (200, 170), np.uint8)
    np.save(tmp_path / "picture.npy", picture)
    scores = tmp_path / "scores.npy"
    subprocess.run([program, "run", path, tmp_path / "picture.npy", "--npy", scores], check=True, capture_output=True)
    model = libxai.Model(path)
    assert np.allclose(model(model.prepare(picture)[None]), np.load(scores), atol=1e-6)
    assert np.array_equal(model.prepare(picture), model.prepare(np.repeat(picture[..., None], 3, 2)))
    assert np.allclose(model.prepare(picture / np.float32(255)), model.prepare(picture), atol=1e-6)
    for wrong in (picture.astype(np.int64), picture[0], picture.astype(np.float32)):
        with pytest.raises(libxai.ArgumentError, match="picture"):
            model.prepare(wrong)
