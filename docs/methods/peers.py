"""Where SHAP, Captum and Quantus are wrong, measured beside libxai: writes peers.md.

Needs torch, captum, shap, quantus, grad-cam and libxai. Small networks with fixed random weights; what is missed is
the largest |sum of the attributions - (S(x) - S(baseline))| of two pictures, as a part of |S(x) - S(baseline)|,
against a zero baseline and against a picture of noise. Every number of the table is made here;
tests/python/test_where_peers_fail.py asserts the same of libxai without these packages.
"""

import copy
import io
import pathlib
import warnings

import libxai
import numpy as np
import shap
import torch
import torch.nn.functional as functional
from captum.attr import DeepLift, IntegratedGradients, NoiseTunnel, Saliency
from torch import nn

SIZE, TARGET = 15, 1
TEXT = """# Where peers fail

Made by `docs/methods/peers.py` ({versions}), which says what is measured. "Misses" is the part
of the change of the score that the attributions do not add up to, against a zero baseline / against noise. The tests
are in `tests/python/test_where_peers_fail.py`; their names begin with the number of the case.

| case | peers | libxai | test |
| --- | --- | --- | --- |
{rows}

Captum's own tests compute some cases by hand; libxai gives the same numbers (`test_captum_by_hand_*`):

| case | numbers |
| --- | --- |
| LayerGradCam of a convolution and of a ReLU | (11.25, 13.5; 20.25, 22.5) and (0, 4; 28, 32.5) |
| KernelShap of (20, 50, 30) | (76.667, 196.667, 116.667) |
| KernelShap with the groups 0, 0, 1 | 275 and 115 in `segment_values`; `values` share them (137.5, 137.5, 115) |
| the same in Captum | each element has its group's whole value (275, 275, 115) |
| Occlusion of (20, 50, 30), window 1 | (80, 200, 120) |
| DeepLift of 2 relu(x1) + 2 relu(x2 - 1.5) | (2, 1) at (1, 2); (-4, 3) at (-10, 3) against (2, 0); nothing missing |

Other differences stand on the page of each method under "Differences from peers". Accuracy for the same cost:
[accuracy.md](accuracy.md).
"""


class Block(nn.Module):
    """A convolution, what `middle` does with it, mean over pixels, three scores."""

    def __init__(self, middle, last=None):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = middle
        tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)]
        self.tail = nn.Sequential(*tail, *([last] if last else []))

    def forward(self, x):
        return self.tail(self.middle(self.first(x)))


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu, self.conv = nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.relu(self.conv(self.relu(x)))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        y = functional.relu(x)
        return functional.relu(self.conv(y) + y)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.one(x)
        z = self.conv(y)
        z += y
        return self.two(z)


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        squeeze = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1), nn.Sigmoid()]
        self.relu, self.gate = nn.ReLU(), nn.Sequential(*squeeze)

    def forward(self, x):
        y = self.relu(x)
        return y * self.gate(y)


def twice(activation):
    return nn.Sequential(activation(), nn.Conv2d(8, 8, 3, padding=1), activation())


def pool():
    layers = [nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def export(network, example):
    file = io.BytesIO()
    torch.onnx.export(
        network,
        example[:1],
        file,
        dynamo=False,
        opset_version=17,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
    )
    return libxai.Model(file.getvalue())


def part(value):
    return f"{value:.2g}"


def missed(values, scores, base):
    change = scores - base
    gap = np.asarray(values, np.float64).reshape(len(scores), -1).sum(1) - change
    return np.abs(gap).max() / np.abs(change).max()


def told(run):
    try:
        return part(run())
    except Exception as error:
        return f"fails ({type(error).__name__})"


def deeplift(network, x, noise):
    """What Captum, SHAP and libxai miss, each against zero and against noise."""
    network = network.eval()
    model = export(copy.deepcopy(network), x)
    scores = network(x)[:, TARGET].detach().numpy()
    found = {"Captum": [], "SHAP": [], "libxai": []}
    for baseline in (torch.zeros_like(noise), noise):
        base = float(network(baseline)[0, TARGET])

        def captum(baseline=baseline, base=base):
            of = DeepLift(copy.deepcopy(network))
            return missed(of.attribute(x.clone(), baseline.expand_as(x).clone(), TARGET).detach(), scores, base)

        def shaps(baseline=baseline, base=base):
            of = shap.DeepExplainer(copy.deepcopy(network), baseline.clone())
            return missed(of.shap_values(x.clone(), check_additivity=False)[..., TARGET], scores, base)

        own = libxai.explain(model, x.numpy(), "deeplift", TARGET, baseline=baseline.numpy())
        found["Captum"].append(told(captum))
        found["SHAP"].append(told(shaps))
        found["libxai"].append(part(missed(own.values, scores, base)))
    return {name: " / ".join(dict.fromkeys(each)) for name, each in found.items()}


def softmax_batch(x):
    torch.manual_seed(6)
    network = Block(nn.ReLU(), nn.Softmax(1)).eval()
    zero = torch.zeros_like(x)
    both = DeepLift(copy.deepcopy(network)).attribute(x, zero, target=TARGET).detach().numpy()
    one = DeepLift(copy.deepcopy(network)).attribute(x[:1], zero[:1], target=TARGET).detach().numpy()
    model = export(network, x)
    own = libxai.explain(model, x.numpy(), "deeplift", TARGET).values[:1]
    alone = libxai.explain(model, x.numpy()[:1], "deeplift", TARGET).values
    return part(np.abs(both[:1] - one).max() / np.abs(one).max()), part(np.abs(own - alone).max())


def odd_partition():
    """Largest difference from the Owen values by brute force, relative to the largest value."""
    rng = np.random.default_rng(0)
    height, width = 3, 5
    w, u = rng.standard_normal((height * width, 6)), rng.standard_normal(6)
    picture = rng.standard_normal((1, height, width, 1))

    def score(rows):
        return np.maximum(np.asarray(rows, float).reshape(len(rows), -1) @ w, 0) @ u

    masker = shap.maskers.Image(np.zeros((height, width, 1)), (height, width, 1))
    explainer = shap.PartitionExplainer(lambda rows: score(rows)[:, None], masker)
    theirs = explainer(picture, max_evals=100000, silent=True).values[0, ..., 0, 0]
    exact = np.zeros((height, width))

    def recurse(box, there, weight):
        top, bottom, left, right = box
        inside = np.zeros((height, width), bool)
        inside[top:bottom, left:right] = True
        if (bottom - top) * (right - left) == 1:
            gain = score([picture[0, ..., 0] * (there | inside)]) - score([picture[0, ..., 0] * there])
            exact[inside] += weight * gain[0]
            return
        if bottom - top >= right - left:
            middle = top + (bottom - top) // 2
            one, other = (top, middle, left, right), (middle, bottom, left, right)
        else:
            middle = left + (right - left) // 2
            one, other = (top, bottom, left, middle), (top, bottom, middle, right)
        for first, second in ((one, other), (other, one)):
            before = there.copy()
            before[second[0] : second[1], second[2] : second[3]] = True
            recurse(first, there, weight / 2)
            recurse(first, before, weight / 2)

    recurse((0, height, 0, width), np.zeros((height, width), bool), 1.0)

    class Network(nn.Module):
        def forward(self, x):
            return functional.relu(x.flatten(1) @ torch.tensor(w).float()) @ torch.tensor(u).float()[:, None]

    x = torch.tensor(picture[..., 0][:, None]).float()
    own = libxai.explain(export(Network(), x), x.numpy(), "partition_shap", 0, samples=100000).values[0, 0]
    scale = np.abs(exact).max()
    return part(np.abs(theirs - exact).max() / scale), part(np.abs(own - exact).max() / scale)


def layer_gradients(x, background):
    torch.manual_seed(8)
    network = Block(twice(nn.ReLU)).eval()
    layer = network.middle[1]
    values = shap.GradientExplainer((network, layer), background).shap_values(x, nsamples=2000, rseed=0)[..., TARGET]
    scores = network(x)[:, TARGET].detach().numpy()
    base = float(network(background)[:, TARGET].mean())
    model = export(network, x)
    name = next(str(each) for each in model.layers if "middle.1" in str(each))
    own = libxai.explain(
        model, x.numpy(), "gradient_shap", TARGET, background=background.numpy(), layer=name, samples=2000
    )
    return part(missed(values, scores, base)), part(missed(own.values, scores, base))


def weights_of_the_path(x):
    torch.manual_seed(9)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 3)).eval()
    zero = torch.zeros_like(x)
    change = (network(x) - network(zero))[0, TARGET].item()
    of = IntegratedGradients(network)
    theirs = of.attribute(x[:1], zero[:1], TARGET, n_steps=50, method="riemann_trapezoid").sum().item() / change
    own = libxai.explain(export(network, x), x.numpy(), "integrated_gradients", TARGET)
    return f"{theirs:.3f}", f"{own.values[0].sum(dtype=np.float64) / change:.6f}"


def empty_mask():
    try:
        import quantus
    except ImportError:
        return "not installed"
    maps = np.random.default_rng(0).random((1, 1, 8, 8))
    metric = quantus.PointingGame(disable_warnings=True)
    return metric(None, maps, np.zeros(1, int), a_batch=maps, s_batch=np.zeros_like(maps))[0]


def same_seed(x, background):
    """What changes in a row's values when another row is explained with it."""
    torch.manual_seed(11)
    network = Block(nn.ReLU()).eval()
    model = export(network, x)

    def tunnel(rows):
        torch.manual_seed(1)
        made = NoiseTunnel(Saliency(network)).attribute(rows, nt_samples=8, stdevs=0.3, target=TARGET)
        return made.detach().numpy()[-1]

    def gradients(rows):
        of = shap.GradientExplainer(network, background)
        return of.shap_values(rows, nsamples=50, rseed=1)[-1, ..., TARGET]

    def own(rows):
        options = {"background": background.numpy(), "samples": 50, "seed": 1}
        return libxai.explain(model, rows.numpy(), "gradient_shap", TARGET, **options).values[-1]

    for run in (tunnel, gradients, own):
        alone = run(x[1:])
        yield part(np.abs(run(x) - alone).max() / np.abs(alone).max())


def no_evidence():
    """The score is minus the mean of a positive layer."""
    library = torch.library.Library("torchvision", "DEF")
    try:
        for name in ("nms", "qnms"):  # torchvision without its compiled operators cannot be imported without them
            library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:
        pass
    from pytorch_grad_cam import EigenGradCAM, GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class Negative(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(1, 1, 1, bias=False), nn.ReLU()
            self.conv.weight.data[:] = 1

        def forward(self, x):
            return -self.relu(self.conv(x)).mean((2, 3))

    network, x = Negative().eval(), 0.1 + torch.rand(1, 1, 6, 6)
    for kind in (GradCAM, EigenGradCAM):
        yield part(kind(model=network, target_layers=[network.relu])(x, [ClassifierOutputTarget(0)]).max())
    found = libxai.explain(export(network, x), x.numpy(), "gradcam", 0)
    yield part(found.map.max())
    yield f"`{found.warnings[0]}`"


def rows():
    torch.manual_seed(0)
    x, noise = torch.randn(2, 3, SIZE, SIZE), torch.randn(1, 3, SIZE, SIZE)
    background = torch.randn(10, 3, SIZE, SIZE)
    networks = (
        ("1 ReLU, then max pool 3 x 3, stride 2", pool(), None, "test_case_01_*"),
        ("2 one ReLU used twice", Shared(), None, "test_case_02_*"),
        ("3 functional ReLUs with a residual", Functional(), None, "test_case_03_*"),
        ("3 in-place ReLUs and sums", InPlace(), None, "test_case_03_*"),
        ("4 SiLU", twice(nn.SiLU), None, "test_case_04_*"),
        ("4 GELU", twice(nn.GELU), None, "test_case_04_*"),
        ("4 HardSwish", twice(nn.Hardswish), None, "test_case_04_*"),
        ("5 squeeze and excitation", Gate(), None, "test_case_05_*"),
        ("6 softmax", nn.ReLU(), nn.Softmax(1), "test_case_06_*"),
    )
    for name, middle, last, test in networks:
        found = deeplift(Block(middle, last), x, noise)
        peers = f"DeepLIFT misses: Captum {found['Captum']}; SHAP {found['SHAP']}"
        yield f"| {name} | {peers} | misses {found['libxai']} | `{test}` |"
    theirs, own = softmax_batch(x)
    yield (
        f"| 6 softmax and the batch | Captum's DeepLift changes by {theirs} of its maximum with another row beside it "
        f"| changes by {own} | `test_case_06_*` |"
    )
    theirs, own = odd_partition()
    yield (
        f"| 7 partition tree of 3 x 5 pixels | SHAP's PartitionExplainer is off the Owen values by {theirs} of them "
        f"| off by {own} | `test_case_07_*` |"
    )
    theirs, own = layer_gradients(x, background)
    yield (
        f"| 8 expected gradients of a layer, 2000 samples | SHAP's GradientExplainer multiplies by the raw activation: "
        f"misses {theirs} | misses {own} (sampling) | `test_case_08_*` |"
    )
    theirs, own = weights_of_the_path(x)
    yield (
        f"| 9 weights of integrated gradients, 50 steps | Captum's `riemann_trapezoid` gives {theirs} of a linear "
        f"model's change | {own} | `test_case_09_*` |"
    )
    yield (
        f"| 10 localisation with an empty mask | Quantus's PointingGame: {empty_mask()} | `libxai.localisation`: NaN "
        "| `test_case_10_*` |"
    )
    tunnel, gradients, own = same_seed(x, background)
    yield (
        f"| 11 the same seed, a row alone and beside another | Captum's NoiseTunnel changes by {tunnel} of its "
        f"maximum, SHAP's GradientExplainer by {gradients} | changes by {own} | `test_case_11_*` |"
    )
    plain, eigen, own, words = no_evidence()
    yield (
        f"| 12 nothing speaks for the target | pytorch-grad-cam's maximum is {plain} for GradCAM, without a word, and "
        f"{eigen} for EigenGradCAM | {own}; `warnings`: {words} | `test_case_12_*` |"
    )


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    import captum

    versions = f"PyTorch {torch.__version__.partition('+')[0]}, Captum {captum.__version__}, SHAP {shap.__version__}"
    text = TEXT.format(versions=versions, rows="\n".join(rows()))
    pathlib.Path(__file__).with_name("peers.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
