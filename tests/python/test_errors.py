"""What is raised, with which status and message."""

import conftest
import libxai
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

STATUS = {
    "ArgumentError": 1,
    "WrongTypeError": 1,
    "MemoryLimitError": 2,
    "FileError": 3,
    "FormatError": 4,
    "UnsupportedError": 5,
    "ShapeError": 6,
    "NotFoundError": 7,
    "CancelledError": 8,
    "NumericError": 9,
    "InternalError": 10,
}


def test_classes():
    for name, status in STATUS.items():
        kind = getattr(libxai, name)
        assert issubclass(kind, libxai.LibXaiError) and kind.status == status
    for name in ("ArgumentError", "FormatError", "ShapeError", "NotFoundError"):
        assert issubclass(getattr(libxai, name), ValueError)
    assert issubclass(libxai.WrongTypeError, TypeError) and issubclass(libxai.MemoryLimitError, MemoryError)
    assert issubclass(libxai.FileError, OSError)


def raises(kind, text, call, *arguments, **options):
    """The call raises exactly this class, and its message speaks of what matters."""
    with pytest.raises(libxai.LibXaiError) as caught:
        call(*arguments, **options)
    assert type(caught.value) is kind, repr(caught.value)
    assert caught.value.status == STATUS[kind.__name__]
    assert text in str(caught.value), str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path):
    raises(libxai.FileError, "missing.onnx", libxai.Model, tmp_path / "missing.onnx")
    raises(libxai.FileError, str(tmp_path), libxai.Model, tmp_path)


def test_damaged_models(data, tmp_path):
    raises(libxai.FormatError, "", libxai.Model, b"")
    raises(libxai.FormatError, "", libxai.Model, b"this is not a model")
    raises(libxai.FormatError, "", libxai.Model, data[: len(data) // 2])
    (tmp_path / "garbage.onnx").write_bytes(bytes(range(256)) * 20)
    raises(libxai.FormatError, "garbage.onnx", libxai.Model, tmp_path / "garbage.onnx")
    (tmp_path / "card.onnx").write_bytes(data)
    (tmp_path / "card.xai.json").write_text("{labels: ")
    raises(libxai.FormatError, "card.xai.json", libxai.Model, tmp_path / "card.onnx")


def test_unknown_operator():
    nodes = [helper.make_node("Frobnicate", ["image"], ["scores"], name="odd", domain="org.example")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", 1, ["n", 3])],
        [helper.make_tensor_value_info("scores", 1, ["n", 3])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("org.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    text = raises(libxai.UnsupportedError, "Frobnicate", libxai.Model, model)
    assert "org.example" in text and "odd" in text


def test_wrong_source():
    raises(libxai.WrongTypeError, "int", libxai.Model, 3)
    raises(libxai.WrongTypeError, "NoneType", libxai.Model, None)
    raises(libxai.ArgumentError, "NUL", libxai.Model, "a\0b")


@pytest.mark.parametrize("shape", [(2, 3, 20, 24), (20, 24), (1, 1, 2, 20, 24), (0, 2, 20, 24), ()])
def test_wrong_shapes(model, shape):
    raises(libxai.ShapeError, "image", model, np.zeros(shape, np.float32))
    raises(libxai.ShapeError, "image", model.gradient, np.zeros(shape, np.float32), 0)
    raises(libxai.ShapeError, "image", libxai.explain, model, np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(2, 0, 24), (2, 1, 1)])
def test_shapes_too_small_for_the_network(model, shape):
    raises(libxai.ShapeError, "/stem/", model, np.zeros(shape, np.float32))


@pytest.mark.parametrize("array", [np.zeros((2, 8, 8), complex), np.array(["a"]), np.array([None]), "image", object()])
def test_wrong_element_types(model, array):
    raises(libxai.WrongTypeError, "image", model, array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(model, x, value):
    bad = x.copy()
    bad[1, 0, 3, 4] = value
    raises(libxai.NumericError, "image", model, bad)
    raises(libxai.NumericError, "image", model.gradient, bad, 0)
    raises(libxai.NumericError, "image", libxai.explain, model, bad)
    too_large = x.astype(np.float64)
    too_large[0, 0, 0, 0] = 1e300
    raises(libxai.NumericError, "image", model, too_large)
    assert np.isfinite(model(x)).all()  # and the session still works


def spoil(data, name, value):
    """The model with one number of one weight replaced."""
    model = onnx.load_from_string(data)
    (tensor,) = [each for each in model.graph.initializer if each.name == name]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] = value
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return model.SerializeToString()


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("name", ["w1", "bn1_shift", "bn2_scale", "w3"])
def test_weights_that_make_nan(data, x, name, value):
    """A ReLU must not make 0 of NaN, and a score of it."""
    with pytest.raises(libxai.NumericError):
        libxai.Model(spoil(data, name, value))(1e3 * x)


def test_negative_variance(data, x):
    with pytest.raises((libxai.NumericError, libxai.FormatError)):
        libxai.Model(spoil(data, "bn1_variance", -1))(x)


def test_overflow_inside(model, x):
    """A fused ReLU would make 0 of the NaN."""
    raises(libxai.NumericError, "range", model, 3e38 * np.sign(x))
    raises(libxai.NumericError, "range", model.gradient, 3e38 * np.sign(x), 0)
    assert np.isfinite(model(x)).all()


def test_overflow_inside_passes_when_it_is_allowed(data, x):
    """Then no score is a harmless number: infinite or NaN, as plain arithmetic has it."""
    model = libxai.Model(data, allow_nonfinite=True)
    assert not np.isfinite(model(3e38 * np.sign(x))).any()
    np.testing.assert_array_equal(model(x), libxai.Model(data)(x))


def test_inputs_by_name(two, two_x):
    raises(libxai.NotFoundError, "picture", two, {**two_x, "picture": two_x["image"]})
    raises(libxai.ArgumentError, "patient", two, {"image": two_x["image"]})
    raises(libxai.ArgumentError, "2 inputs", two, two_x["image"])
    raises(libxai.ShapeError, "row", two, {"image": two_x["image"], "patient": two_x["patient"][0]})
    raises(libxai.ShapeError, "", two, {"image": two_x["image"], "patient": two_x["patient"][:2]})


def test_layers(model, x):
    text = raises(libxai.NotFoundError, "act3", model.gradient, x, 0, wrt="act3")
    assert "act1" in text or "act2" in text
    text = raises(libxai.NotFoundError, "act3", libxai.explain, model, x, layer="act3")
    assert "act1" in text or "act2" in text
    raises(libxai.NotFoundError, "act3", model.activations, x, "act3")
    raises(libxai.NotFoundError, "999", libxai.explain, model, x, layer=999)
    raises(libxai.ArgumentError, "layer", libxai.explain, model, x, layer="act2\0b")
    raises(libxai.NotFoundError, "-1", libxai.explain, model, x, layer=-1)
    raises(libxai.WrongTypeError, "float", libxai.explain, model, x, layer=1.5)
    raises(libxai.WrongTypeError, "bool", libxai.explain, model, x, layer=True)
    raises(libxai.UnsupportedError, "flat", libxai.explain, model, x, layer="flat")


def test_methods_and_options(model, x):
    text = raises(libxai.NotFoundError, "gradcam+", libxai.explain, model, x, "gradcam+")
    assert "gradcam++" in text
    raises(libxai.WrongTypeError, "int", libxai.explain, model, x, 3)
    raises(libxai.ArgumentError, "steps", libxai.explain, model, x, "gradcam", steps=5)
    raises(libxai.ArgumentError, "scaling", libxai.explain, model, x, scaling="minmax")
    raises(libxai.WrongTypeError, "Model", libxai.Explainer, "model.onnx", "gradcam")
    raises(libxai.ArgumentError, "targets", libxai.Explainer(model, "gradcam").targets, x, [])


@pytest.mark.parametrize("settings", [{"threads": -1}, {"threads": 100000}, {"threads": 2**40}, {"memory_limit": -1}])
def test_settings_out_of_range(data, model, settings):
    raises(libxai.ArgumentError, next(iter(settings)), libxai.Model, data, **settings)
    raises(libxai.ArgumentError, next(iter(settings)), libxai.Explainer, model, "gradcam", **settings)


def test_settings_of_the_wrong_kind(data):
    raises(libxai.WrongTypeError, "threads", libxai.Model, data, threads="two")
    raises(libxai.WrongTypeError, "memory_limit", libxai.Model, data, memory_limit=1.5)
    raises(libxai.ArgumentError, "mode", libxai.Model, data, mode="fast")
    raises(libxai.ArgumentError, "precision", libxai.Model, data, precision="double")
    raises(libxai.ArgumentError, "mode", libxai.Model, data, mode=["latency"])
    raises(libxai.ArgumentError, "memory_limit", libxai.Model, data, memory_limit=2**70)


@pytest.mark.parametrize(
    "target", [4, -5, 2**40, "effusion", "Cardiomegaly", "", (1, 2), (slice(0, 5),), (slice(2, 2),)]
)
def test_targets_that_do_not_exist(model, x, target):
    for call in (model.gradient, lambda x, target: libxai.explain(model, x, target=target)):
        with pytest.raises(ValueError) as caught:
            call(x, target)
        assert isinstance(caught.value, libxai.LibXaiError)


@pytest.mark.parametrize(
    "target", [1.5, True, object(), {"a": 1}, [1.5, 1, 1], (1.5,), [[1], [2], [3]], b"Nodule", np.array([0.0])]
)
def test_targets_of_the_wrong_kind(model, x, target):
    raises(libxai.WrongTypeError, "target", model.gradient, x, target)


def test_number_of_targets(model, x):
    raises(libxai.ShapeError, "", model.gradient, x, [0, 1])
    raises(libxai.ArgumentError, "target", model.gradient, x, [])
    raises(libxai.ArgumentError, "target", model.gradient, x, (slice(0, 4, 2),))
    raises(libxai.ArgumentError, "target", model.gradient, x, 2**70)
    raises(libxai.ArgumentError, "target", model.gradient, x, "Nodule\0b")


def test_outputs_and_scores(model, x):
    raises(libxai.NotFoundError, "risk", model.gradient, x, 0, output="risk")
    raises(libxai.NotFoundError, "risk", libxai.explain, model, x, output="risk")
    raises(libxai.ArgumentError, "score", model.gradient, x, 0, score="odds")
    raises(libxai.WrongTypeError, "score", model.gradient, x, 0, score=1)
    raises(libxai.ArgumentError, "score", libxai.explain, model, x, score="odds")
    raises(libxai.WrongTypeError, "output", model.gradient, x, 0, output=1)


def test_no_layer_to_explain():
    nodes = [helper.make_node("MatMul", ["row", "v"], ["scores"], name="head")]
    m = libxai.Model(
        conftest.save(nodes, [("row", ["n", 3])], [("scores", ["n", 2])], {"v": np.ones((3, 2), np.float32)})
    )
    assert m.default_layer is None
    raises(libxai.UnsupportedError, "layer", libxai.explain, m, np.ones((1, 3), np.float32))


def test_pictures(model, x, tmp_path):
    found = libxai.explain(model, x, "gradcam", 1)
    gray = np.zeros((20, 24), np.uint8)
    raises(libxai.ArgumentError, "row", found.overlay, gray, row=3)
    raises(libxai.ArgumentError, "row", found.overlay, gray, row=-1)
    raises(libxai.ArgumentError, "image", found.overlay, np.zeros((20, 24, 2), np.uint8))
    raises(libxai.ArgumentError, "image", found.overlay, np.zeros((20, 24), np.uint16))
    raises(libxai.ArgumentError, "image", found.overlay, np.full((20, 24), np.nan))
    raises(libxai.ArgumentError, "image", found.overlay, np.zeros((0, 24)))
    raises(libxai.ArgumentError, "alpha", found.overlay, gray, alpha=1.5)
    raises(libxai.NotFoundError, "jet", found.overlay, gray, colours="jet")
    raises(libxai.UnsupportedError, "image", found.overlay)  # two channels
    raises(libxai.ArgumentError, ".jpg", found.save, tmp_path / "o.jpg", gray)
    raises(libxai.FileError, "missing", found.save, tmp_path / "missing" / "o.png", gray)
    raises(libxai.FileError, "missing", found.save, tmp_path / "missing" / "o.npy")
    raises(libxai.FileError, "missing", found.save, tmp_path / "missing" / "o.json")
    assert list(tmp_path.iterdir()) == []
