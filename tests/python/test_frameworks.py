"""Arrays and models of other libraries, skipped where they are not installed; a small exporter of DLPack stands in."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys

import conftest
import libxai
import numpy as np
import pytest
from libxai._tensors import as_numpy, to_array


class Exporter:
    """An array of some other library, known by DLPack alone."""

    def __init__(self, array, device=1):
        self.array, self.device = array, device

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return (self.device, 0)


def test_dlpack_is_not_copied(model, x):
    assert np.shares_memory(to_array(Exporter(x), 1), x)
    assert np.array_equal(model(Exporter(x)), model(x))


class OnDevice(Exporter):
    """An array of a GPU, such as CuPy's or PyTorch's: its memory cannot be read here, by whatever protocol."""

    def __dlpack__(self, **options):
        raise AssertionError("memory of another device was asked for")

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")  # as CuPy says


@pytest.mark.parametrize("device, name", [(2, "CUDA, DLPack type 2"), (10, "ROCm"), (99, r"\(DLPack type 99\)")])
def test_dlpack_on_another_device_is_refused(model, x, device, name):
    array = OnDevice(x, device)
    calls = [
        lambda: model(array),
        lambda: model.gradient(array, 0),
        lambda: libxai.explain(model, array, "gradcam", 0),
        lambda: libxai.explain(model, x, "integrated_gradients", 0, baseline=array),
    ]
    for call in calls:
        with pytest.raises(libxai.WrongTypeError, match=f"another device .*{name}.*") as caught:
            call()
        assert "x.cpu()" in str(caught.value) and "x.get() of CuPy" in str(caught.value)


def test_array_protocol(model, x):
    class Wrapped:
        def __array__(self, dtype=None, copy=None):
            return x

    assert to_array(Wrapped(), 1) is x
    assert np.array_equal(model(Wrapped()), model(x))


def test_other_libraries_are_not_imported():
    names = {"torch", "jax", "keras", "sklearn", "shap", "matplotlib"}
    code = f"import sys, libxai; print(sorted({names} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    "package, call",
    [
        ("torch", lambda: libxai.from_torch(None, None)),
        ("skl2onnx", lambda: libxai.from_sklearn(None, np.zeros((1, 2)))),
    ],
)
def test_missing_packages_are_named(monkeypatch, package, call):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(libxai.UnsupportedError, match=f"pip install {package}"):
        call()


def test_card_is_appended():
    from libxai._frameworks import with_card

    labels = ["Erguß", "b" * 300, "c", "d"]
    made = libxai.Model(with_card(conftest.make_convolutional(), {"xai.labels": json.dumps(labels), "note": ""}))
    assert made.labels == labels and made.metadata["note"] == ""


@pytest.mark.needs("torch")
class TestTorch:
    @pytest.fixture
    def torch(self):
        return importlib.import_module("torch")

    @pytest.fixture
    def module(self, torch):
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(2, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU()]
        head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)]
        module = torch.nn.Sequential(*layers, *head)
        module(torch.randn(16, 2, 12, 12))  # statistics of the BatchNorm
        return module

    def test_tensors_are_not_copied(self, torch, model, x):
        tensor = torch.from_numpy(x)
        assert np.shares_memory(to_array(tensor, 1), x)
        assert np.array_equal(model(tensor.requires_grad_()), model(x))
        assert as_numpy(tensor.detach().bfloat16()).dtype == np.float32
        assert np.allclose(model(tensor.double()), model(x))

    def test_model(self, torch, module):
        x = torch.randn(3, 2, 12, 12)
        module.train()
        made = libxai.from_torch(
            module, x[:1], labels=["a", "b", "c"], card={"output.score": "logit-softmax"}, threads=1
        )
        assert module.training and module[1].training
        module.eval()
        scores = module(x).detach().numpy()
        assert np.abs(made(x) - scores).max() <= 1e-4 * np.abs(scores).max()
        assert made.labels == ["a", "b", "c"] and made.inputs == ["input"] and made.outputs == ["scores"]
        y = x.clone().requires_grad_()
        module(y)[:, 1].sum().backward()
        assert np.allclose(made.gradient(x, "b"), y.grad.numpy(), rtol=1e-3, atol=1e-6)
        probability = libxai.explain(made, x, "gradcam", "a", score="probability").score
        assert np.allclose(probability, torch.softmax(module(x), 1)[:, 0].detach().numpy(), atol=1e-5)

    def test_two_inputs_have_the_names_of_forward(self, torch):
        class Two(torch.nn.Module):
            def forward(self, image, age):
                return image.mean((1, 2, 3))[:, None] + age, age * 2

        made = libxai.from_torch(Two(), (torch.randn(2, 1, 4, 4), torch.randn(2, 1)))
        assert made.inputs == ["image", "age"] and made.outputs == ["scores_0", "scores_1"]

    def test_what_tracing_freezes_is_refused(self, torch):
        class Counting(torch.nn.Module):
            calls = 0

            def forward(self, x):
                self.calls += 1
                return x * self.calls

        with pytest.raises(libxai.NumericError, match="does not compute the same function"):
            libxai.from_torch(Counting(), torch.ones(1, 2))

    def test_wrong_arguments(self, torch):
        with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
            libxai.from_torch("resnet", torch.ones(1))
        with pytest.raises(TypeError, match="example"):
            libxai.from_torch(torch.nn.Identity(), np.ones(1))


class TestSklearn:
    @pytest.fixture
    def table(self):
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
        pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((300, 5)).astype(np.float32)
        return rows, np.where(rows[:, 0] + rows[:, 1] * rows[:, 2] > 0, "ill", "well")

    @pytest.mark.parametrize("kind", ["network", "logistic", "boosting"])
    def test_classifier(self, table, kind):
        from sklearn.ensemble import GradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        rows, answers = table
        estimator = {
            "network": make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=300, random_state=0)),
            "logistic": LogisticRegression(),
            "boosting": GradientBoostingClassifier(n_estimators=8, random_state=0),
        }[kind].fit(rows, answers)
        made = libxai.from_sklearn(estimator, rows)
        assert made.labels == ["ill", "well"]
        assert np.abs(made(rows) - estimator.predict_proba(rows)).max() < 1e-5

    def test_regressor(self, table):
        from sklearn.linear_model import LinearRegression

        rows, _ = table
        estimator = LinearRegression().fit(rows, rows @ np.arange(5.0) + 1)
        made = libxai.from_sklearn(estimator)
        assert np.allclose(made(rows)[:, 0], estimator.predict(rows), atol=1e-4)

    def test_what_cannot_be_converted_is_named(self, table):
        from sklearn.base import BaseEstimator

        class Own(BaseEstimator):
            n_features_in_ = 3

        with pytest.raises(libxai.UnsupportedError, match="Own"):
            libxai.from_sklearn(Own())


def import_keras():
    if importlib.util.find_spec("tensorflow") is None:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    return importlib.import_module("keras")


@pytest.mark.needs("keras", "torch")
def test_keras():
    keras = import_keras()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((16, 16, 1))
    maps = layers.Conv2D(6, 3, padding="same", activation="relu")(image)
    scores = layers.Dense(2)(layers.GlobalAveragePooling2D()(maps))
    network = keras.Model(image, scores)
    made = libxai.from_keras(network, labels=["a", "b"])
    x = np.random.default_rng(0).standard_normal((3, 16, 16, 1)).astype(np.float32)
    assert np.allclose(made(x), np.asarray(network.predict(x, verbose=0)), atol=1e-5)
    assert libxai.explain(made, x, "gradcam", "a").map.shape == (3, 16, 16)


@pytest.mark.needs("keras", "torch")
def test_keras_subclass_needs_an_example():
    keras = import_keras()

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    network, x = Own(), np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    with pytest.raises(libxai.ArgumentError, match="give an example"):
        libxai.from_keras(network)
    made = libxai.from_keras(network, example=x)
    assert np.allclose(made(x), np.asarray(network.predict(x, verbose=0)), atol=1e-6)


@pytest.mark.needs("jax")
def test_jax(model, x):
    jax = importlib.import_module("jax")
    array = jax.numpy.asarray(x)
    assert to_array(array, 1).ctypes.data == array.unsafe_buffer_pointer()  # not copied
    assert np.array_equal(model(array), model(x))
    found = libxai.explain(model, array, "integrated_gradients", 0, baseline=jax.numpy.zeros_like(array[:1]), steps=4)
    assert np.array_equal(
        found.values, libxai.explain(model, x, "integrated_gradients", 0, baseline=np.zeros_like(x[:1]), steps=4).values
    )
    rounded = array.astype(jax.numpy.bfloat16)
    assert np.array_equal(model(rounded), model(np.asarray(rounded.astype(jax.numpy.float32))))
    with pytest.raises(jax.errors.JAXTypeError):  # nothing can be traced through the library
        jax.jit(lambda traced: model(traced))(array)
