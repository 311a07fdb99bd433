"""The shapes that other packages expect: shap's plots, Captum's classes, Quantus's explain_func."""

import importlib

import conftest
import libxai
import numpy as np
import pytest
from onnx import helper


def make_table():
    """Risk of a row of five numbers: a network with one hidden layer."""
    rng = np.random.default_rng(3)
    weights = {"v": conftest.float32(rng, 5, 6), "b": conftest.float32(rng, 6), "u": conftest.float32(rng, 6, 2)}
    nodes = [
        helper.make_node("Gemm", ["row", "v", "b"], ["hidden"], name="hidden"),
        helper.make_node("Tanh", ["hidden"], ["bent"], name="bent"),
        helper.make_node("MatMul", ["bent", "u"], ["scores"], name="head"),
    ]
    return conftest.save(nodes, [("row", ["batch", 5])], [("scores", ["batch", 2])], weights)


@pytest.fixture(scope="module")
def table():
    rows = conftest.float32(np.random.default_rng(4), 12, 5)
    return libxai.Model(make_table()), rows


@pytest.fixture(scope="module")
def shapley(table):
    model, rows = table
    return libxai.explain(model, rows, "exact_shap", 1, background=rows[:6])


def test_bars_of_a_table(shapley):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed").use("Agg")
    names = [f"marker {i}" for i in range(5)]
    axes = shapley.plot(row=3, names=names).axes[0]
    widths = {
        label.get_text(): bar.get_width() for label, bar in zip(axes.get_yticklabels(), axes.patches, strict=True)
    }
    assert widths == {name: pytest.approx(value) for name, value in zip(names, shapley.values[3], strict=True)}
    assert abs(axes.patches[-1].get_width()) == pytest.approx(np.abs(shapley.values[3]).max())
    with pytest.raises(libxai.ArgumentError, match="names"):
        shapley.plot(names=["one"])


@pytest.mark.needs("shap", "matplotlib")
class TestShap:
    @pytest.fixture
    def shap(self):
        importlib.import_module("matplotlib").use("Agg")
        return importlib.import_module("shap")

    def test_explanation(self, shap, shapley, table):
        made = shapley.to_shap(["a", "b", "c", "d", "e"])
        assert isinstance(made, shap.Explanation) and made.shape == (12, 5)
        total = made.values.sum(1) + made.base_values
        assert np.allclose(total, table[0](table[1])[:, 1], atol=1e-5)

    def test_values_are_those_of_shap(self, shap, shapley, table):
        model, rows = table
        theirs = shap.ExactExplainer(lambda x: model(x.astype(np.float32))[:, 1], rows[:6])(rows)
        assert np.allclose(shapley.values, theirs.values, atol=1e-5)
        assert np.allclose(shapley.base_value, theirs.base_values, atol=1e-5)

    def test_plots_of_tables(self, shap, shapley):
        import matplotlib.pyplot as plt

        made = shapley.to_shap(["a", "b", "c", "d", "e"])
        for draw, given in ((shap.plots.waterfall, made[0]), (shap.plots.beeswarm, made), (shap.plots.bar, made)):
            plt.close("all")
            draw(given, show=False)
            shown = [label.get_text() for axes in plt.gcf().axes for label in axes.get_yticklabels()]
            assert any("e" in text for text in shown)
        plt.close("all")

    def test_plot_of_pictures(self, shap):
        import matplotlib.pyplot as plt

        model = libxai.Model(conftest.make_segmentation())
        x = conftest.float32(np.random.default_rng(0), 2, 1, 8, 8)
        made = libxai.explain(model, x, "occlusion", (0, 3, 3)).to_shap()
        assert made.values.shape == made.data.shape == (2, 8, 8, 1)
        shap.image_plot(made, show=False)
        drawn = [image.get_array().shape for axes in plt.gcf().axes for image in axes.get_images()]
        assert drawn.count((8, 8)) >= 4
        plt.close("all")


@pytest.mark.needs("shap")
def test_to_shap_of_a_layer_is_refused(model, x):
    with pytest.raises(libxai.UnsupportedError, match="does not attribute"):
        libxai.explain(model, x, "gradcam").to_shap()


class TestCaptumStyle:
    def test_arrays(self, table):
        from libxai import captum_style

        model, rows = table
        made, delta = captum_style.KernelShap(model, seed=1).attribute(
            rows, [1] * 12, baselines=0, n_samples=64, return_convergence_delta=True
        )
        expected = libxai.explain(model, rows, "kernel_shap", 1, baseline=0, samples=64, seed=1)
        assert np.array_equal(made, expected.values)
        assert np.allclose(delta, made.sum(1) - (model(rows)[:, 1] - model(rows * 0)[:, 1]), atol=1e-5)

    def test_layer(self, model, x):
        from libxai import captum_style

        made = captum_style.LayerGradCam(model, "act2").attribute(x, target=2)
        assert np.array_equal(made[:, 0], libxai.explain(model, x, "gradcam", 2, layer="act2").values)

    @pytest.mark.needs("torch", "captum")
    def test_modules_and_tensors(self):
        torch, captum = importlib.import_module("torch"), importlib.import_module("captum.attr")
        from libxai import captum_style

        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
        x = torch.randn(5, 4)
        ours = captum_style.Attribution(module, "exact_shap").attribute(x, torch.tensor([0, 1, 2, 0, 1]), baselines=0)
        assert isinstance(ours, torch.Tensor) and ours.shape == x.shape
        theirs = [
            sum(captum.ShapleyValues(module).attribute(x[i : i + 1], target=t) for i, t in [(i, t)])
            for i, t in enumerate([0, 1, 2, 0, 1])
        ]
        assert torch.allclose(ours, torch.cat(theirs).to(ours.dtype), atol=1e-5)

    @pytest.mark.needs("torch", "captum")
    @pytest.mark.parametrize(
        "name, options",
        [
            ("Saliency", {}),
            ("InputXGradient", {}),
            ("IntegratedGradients", {"n_steps": 64}),
            ("DeepLift", {"baselines": 0.0}),
        ],
    )
    def test_same_numbers_as_captum(self, name, options):
        torch, captum = importlib.import_module("torch"), importlib.import_module("captum.attr")
        from libxai import captum_style

        ours = getattr(captum_style, name)
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
        x = torch.randn(5, 4)
        found = ours(module).attribute(x, target=1, **options)
        theirs = getattr(captum, name)(module).attribute(x, target=1, **options)
        tolerance = 2e-3 if name == "IntegratedGradients" else 1e-5  # other nodes of the same integral
        assert torch.allclose(found, theirs.detach().to(found.dtype), atol=tolerance)


@pytest.mark.needs("torch", "quantus")
class TestQuantus:
    @pytest.fixture
    def quantus(self):
        return importlib.import_module("quantus")

    def test_metrics_take_it(self, quantus):
        import torch

        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)]
        module = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(8, 3)).eval()
        x = np.random.default_rng(0).standard_normal((4, 1, 16, 16)).astype(np.float32)
        y = module(torch.from_numpy(x)).argmax(1).numpy()
        maps = libxai.quantus_explain(module, x, y, method="gradcam")
        assert maps.shape == x.shape
        metric = quantus.Sparseness(disable_warnings=True)
        arguments = {"explain_func": libxai.quantus_explain, "explain_func_kwargs": {"method": "gradcam"}}
        scores = metric(model=module, x_batch=x, y_batch=y, a_batch=None, device="cpu", **arguments)
        given = metric(model=module, x_batch=x, y_batch=y, a_batch=maps, device="cpu")
        assert np.allclose(scores, given) and np.isfinite(scores).all()

    def test_changed_weights_are_exported_anew(self, quantus):
        import torch

        module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
        x = np.ones((1, 1, 2, 2), np.float32)
        before = libxai.quantus_explain(module, x, [0], method="exact_shap", baseline=0)
        with torch.no_grad():
            module[1].weight *= 2
        after = libxai.quantus_explain(module, x, [0], method="exact_shap", baseline=0)
        assert np.allclose(after, 2 * before, atol=1e-6)
