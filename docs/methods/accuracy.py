"""Error against evaluations beside SHAP and Captum: writes accuracy.md and its two plots (SVG).

Needs numpy, matplotlib, shap, captum, torch and libxai. Two subjects, both with fixed random weights:

- a table: 12 inputs, 32 hidden ReLUs, one output;
- a network: a picture of 1 x 24 x 24, three convolutions with ReLU and a max pool, for the Shapley values in 3 x 4
  segments.

Exact values: Shapley values from all 4,096 coalitions against a baseline of zero; integrated gradients from 20,000
midpoints in float64 against zero; expected gradients the mean of those over 10 background rows. The error is the root
mean square over values and seeds, as a part of the root mean square of the exact values. Every estimator sees the same
function; what is counted are evaluations of it (for gradients: forward with backward).
"""

import copy
import io
import itertools
import math
import pathlib
import warnings

import libxai
import numpy as np
import shap
import torch
from captum.attr import GradientShap, IntegratedGradients, KernelShap, ShapleyValueSampling
from torch import nn

FEATURES = 12
BUDGETS = (100, 200, 400, 800, 1600)
STEPS = (5, 10, 20, 50, 100, 200)
SAMPLES = (20, 50, 100, 200, 500, 1000)
SEEDS = 20
COLOURS = {"libxai": "#0072b2", "SHAP": "#d55e00", "Captum": "#009e73"}
HERE = pathlib.Path(__file__).parent
TEXT = """# Error against evaluations

Made by `docs/methods/accuracy.py`, which says what is measured: relative error, root mean square over values and
{seeds} seeds. In brackets: evaluations that were really made.

![Shapley values](accuracy-shapley.svg)

![Integrated and expected gradients](accuracy-gradients.svg)
{sections}"""


class Subject:
    """A torch module, the same as a model of libxai, a row, and a background."""

    def __init__(self, name, module, shape, segments):
        rng = np.random.default_rng(0)
        self.name, self.module, self.segments = name, module.eval(), segments
        self.x = rng.standard_normal((1, *shape)).astype(np.float32)
        self.background = 0.5 * rng.standard_normal((10, *shape)).astype(np.float32)
        file = io.BytesIO()
        torch.onnx.export(
            self.module,
            torch.from_numpy(self.x),
            file,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )
        self.model = libxai.Model(file.getvalue())
        self.double = copy.deepcopy(self.module).double()

    def coalitions(self):
        """(4096, 12) and the score of each."""
        table = np.array([[s >> i & 1 for i in range(FEATURES)] for s in range(2**FEATURES)])
        rows = self.x * (table if self.segments is None else table[:, self.segments][:, None])
        with torch.no_grad():
            scores = self.double(torch.from_numpy(rows).double())[:, 0].numpy()
        return table, scores

    def mean_gradient(self, baseline, points=20000):
        """(x - b) times the gradient averaged over midpoints of the path, in float64."""
        x, b = torch.from_numpy(self.x).double(), torch.from_numpy(baseline).double()
        total = torch.zeros_like(x)
        for part in torch.chunk((torch.arange(points).double() + 0.5) / points, 40):
            at = (b + part.view(-1, *[1] * (x.dim() - 1)) * (x - b)).requires_grad_()
            total += torch.autograd.grad(self.double(at).sum(), at)[0].sum(0, keepdim=True)
        return (total / points * (x - b)).numpy()[0]


def subjects():
    torch.manual_seed(3)
    dense = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 1))
    with torch.no_grad():
        dense[0].weight.normal_()
        dense[0].bias.normal_()
        dense[2].weight.normal_(0, 0.25)
    yield Subject("table", dense, (FEATURES,), None)
    channels = (1, 8, 16, 16)
    layers = []
    for before, after in itertools.pairwise(channels):
        conv = nn.Conv2d(before, after, 3, padding=1)
        with torch.no_grad():
            conv.weight.normal_(0, math.sqrt(2 / (9 * before)))
            conv.bias.normal_(0, 0.3)
        layers += [conv, nn.ReLU()]
        if after == 8:
            layers.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(16 * 12 * 12, 16), nn.ReLU(), nn.Linear(16, 1)]
    with torch.no_grad():
        head[1].weight.mul_(3)
        head[3].weight.mul_(3)
    segments = np.arange(24)[:, None] // 8 * 4 + np.arange(24)[None] // 6
    yield Subject("network", nn.Sequential(*layers, *head), (1, 24, 24), segments)


def shapley_values(table, scores):
    sizes = table.sum(1)
    weights = [math.factorial(k) * math.factorial(FEATURES - k - 1) / math.factorial(FEATURES) for k in range(FEATURES)]
    values = np.zeros(FEATURES)
    for i in range(FEATURES):
        without = np.flatnonzero(table[:, i] == 0)
        values[i] = (np.array(weights)[sizes[without]] * (scores[without | 1 << i] - scores[without])).sum()
    return values


def shapley_estimators(subject, scores):
    """Name and a function of (budget, seed) that gives 12 values and the evaluations made."""
    bits = 1 << np.arange(FEATURES)
    zero, ones = np.zeros((1, FEATURES)), np.ones((1, FEATURES))
    forward = lambda rows: torch.from_numpy(scores[(rows.numpy() > 0.5) @ bits])  # noqa: E731
    for name, options in {
        "libxai kernel_shap": {"method": "kernel_shap"},
        "libxai kernel_shap, leverage": {"method": "kernel_shap", "sampling": "leverage"},
        "libxai permutation_shap": {"method": "permutation_shap"},
        "libxai sampling_shap": {"method": "sampling_shap"},
    }.items():
        given = options if subject.segments is None else {**options, "segments": subject.segments}

        def run(budget, seed, given=given):
            e = libxai.explain(subject.model, subject.x, target=0, samples=budget, seed=seed, **given)
            return (e.values if subject.segments is None else e.segment_values)[0], e.evaluations[0]

        yield name, run

    def counted(explain):
        def run(budget, seed):
            calls = [0]

            def score(rows):
                calls[0] += len(rows)
                return scores[(np.asarray(rows) > 0.5) @ bits]

            np.random.seed(seed)
            return explain(score, budget, seed), calls[0]

        return run

    def permutation(score, budget, seed):
        return shap.PermutationExplainer(score, zero, seed=seed)(ones, max_evals=budget, silent=True).values[0]

    yield (
        "SHAP KernelExplainer",
        counted(lambda s, n, seed: shap.KernelExplainer(s, zero).shap_values(ones[0], nsamples=n, silent=True)),
    )
    yield (
        "SHAP KernelExplainer, l1_reg=False",
        counted(
            lambda s, n, seed: shap.KernelExplainer(s, zero).shap_values(ones[0], nsamples=n, silent=True, l1_reg=False)
        ),
    )
    yield "SHAP PermutationExplainer", counted(permutation)
    yield (
        "SHAP SamplingExplainer",
        counted(lambda s, n, seed: shap.SamplingExplainer(s, zero).shap_values(ones, nsamples=n, silent=True)[0]),
    )

    def captum_kernel(budget, seed):
        torch.manual_seed(seed)
        np.random.seed(seed)
        return KernelShap(forward).attribute(torch.from_numpy(ones), n_samples=budget).numpy()[0], budget

    yield "Captum KernelShap", captum_kernel

    def captum_sampling(budget, seed):
        torch.manual_seed(seed)
        orders = max(1, budget // FEATURES)
        out = ShapleyValueSampling(forward).attribute(torch.from_numpy(ones), n_samples=orders)
        return out.numpy()[0], orders * FEATURES + 1

    yield "Captum ShapleyValueSampling", captum_sampling


def path_estimators(subject):
    x, zero = torch.from_numpy(subject.x), torch.zeros(subject.x.shape)

    def own(steps, seed):
        e = libxai.explain(subject.model, subject.x, "integrated_gradients", 0, steps=steps)
        return e.values[0], e.evaluations[0]

    def adaptive(steps, seed):
        e = libxai.explain(subject.model, subject.x, "integrated_gradients", 0, steps=max(steps, 9), tolerance=1e-9)
        return e.values[0], e.evaluations[0]

    yield "libxai integrated_gradients", own
    yield "libxai integrated_gradients, tolerance", adaptive
    for method in ("gausslegendre", "riemann_middle", "riemann_trapezoid"):

        def captum(steps, seed, method=method):
            found = IntegratedGradients(subject.module).attribute(x, zero, 0, n_steps=steps, method=method)
            return found.detach().numpy()[0], steps

        yield f"Captum IntegratedGradients, {method}", captum


def expected_estimators(subject):
    x, background = torch.from_numpy(subject.x), torch.from_numpy(subject.background)

    def own(samples, seed):
        options = {"background": subject.background, "samples": samples, "seed": seed}
        e = libxai.explain(subject.model, subject.x, "gradient_shap", 0, **options)
        return e.values[0], e.evaluations[0]

    def shaps(samples, seed):
        of = shap.GradientExplainer(subject.module, background)
        return np.asarray(of.shap_values(x, nsamples=samples, rseed=seed)).reshape(subject.x.shape)[0], samples

    def captum(samples, seed):
        torch.manual_seed(seed)
        np.random.seed(seed)
        found = GradientShap(subject.module).attribute(x, background, n_samples=samples, stdevs=0.0, target=0)
        return found.detach().numpy()[0], samples

    yield "libxai gradient_shap", own
    yield "SHAP GradientExplainer", shaps
    yield "Captum GradientShap", captum


def measure(estimators, budgets, exact, seeds):
    """{name: [(evaluations, error)]} for every budget; NaN where a budget is too small for the estimator."""
    scale = np.sqrt((exact**2).mean())
    found = {}
    for name, run in estimators:
        points = []
        for budget in budgets:
            try:
                results = [run(budget, seed) for seed in range(seeds)]
            except (ValueError, libxai.LibXaiError):
                points.append((math.nan, math.nan))
                continue
            off = np.array([np.asarray(values, np.float64) - exact for values, _ in results])
            points.append((np.mean([count for _, count in results]), np.sqrt((off**2).mean()) / scale))
        found[name] = points
        print(f"{name}: " + ", ".join(f"{100 * error:.3g} % ({count:.0f})" for count, error in points), flush=True)
    return found


def section(title, budgets, found):
    lines = ["", f"## {title}", "", "| samples | " + " | ".join(str(each) for each in budgets) + " |"]
    lines.append("| --- |" + " --- |" * len(budgets))
    for name, points in found.items():
        cells = ["too few" if math.isnan(error) else f"{100 * error:.2f} % ({count:.0f})" for count, error in points]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(path, panels):
    """Panels in rows of two: title and what was measured."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "libxai", "font.size": 9})
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(panels) // 2, 2, figsize=(11, 5.2 * (len(panels) // 2)), squeeze=False)
    marks = ("o", "s", "^", "v")
    for at, (title, found) in zip(axes.flat, panels, strict=True):
        seen = dict.fromkeys(COLOURS, 0)
        for name, points in found.items():
            who = name.partition(" ")[0]
            counts, errors = np.array([each for each in points if not math.isnan(each[1])]).T
            style = {"marker": marks[seen[who]], "linestyle": ("-", "--", ":", "-.")[seen[who]], "markersize": 4}
            at.loglog(counts, 100 * errors, color=COLOURS[who], label=name, **style)
            seen[who] += 1
        at.set(title=title, xlabel="evaluations", ylabel="relative error, %")
        at.grid(True, alpha=0.3)
        at.legend(fontsize=7, ncol=2, loc="upper center", bbox_to_anchor=(0.5, -0.13))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sections, shapley, gradients = [], [], []
    for subject in subjects():
        table, scores = subject.coalitions()
        found = measure(shapley_estimators(subject, scores), BUDGETS, shapley_values(table, scores), SEEDS)
        title = f"Shapley values of 12 {'features' if subject.segments is None else 'segments'}, {subject.name}"
        shapley.append((title, found))
        sections.append(section(title, BUDGETS, found))
        found = measure(path_estimators(subject), STEPS, subject.mean_gradient(0 * subject.x), 1)
        gradients.append((f"Integrated gradients, {subject.name}", found))
        sections.append(section(gradients[-1][0] + " (columns: steps)", STEPS, found))
        exact = np.mean([subject.mean_gradient(row[None], 4000) for row in subject.background], axis=0)
        found = measure(expected_estimators(subject), SAMPLES, exact, SEEDS)
        gradients.append((f"Expected gradients, 10 background rows, {subject.name}", found))
        sections.append(section(gradients[-1][0], SAMPLES, found))
    draw(HERE / "accuracy-shapley.svg", shapley)
    draw(HERE / "accuracy-gradients.svg", gradients)
    HERE.joinpath("accuracy.md").write_text(TEXT.format(seeds=SEEDS, sections="".join(sections)))


if __name__ == "__main__":
    main()
