"""Error against evaluations of the Shapley estimators, beside SHAP and Captum: writes accuracy.md.

Needs numpy, onnx, shap, captum, torch and libxai. The game: a network of 12 inputs, 32 hidden units
and one output on a fixed row against a zero baseline; the exact values come from all 4,096 coalitions.
The error is the root mean square over features and over seeds, as a part of the root mean square of
the exact values. Every estimator scores the same function; only the number of its calls is counted.
"""

import math
import pathlib
import warnings

import libxai
import numpy as np
import shap
import torch
from captum.attr import KernelShap, ShapleyValueSampling
from onnx import TensorProto, helper, numpy_helper

FEATURES, HIDDEN, SEEDS = 12, 32, 20
BUDGETS = (100, 200, 400, 800, 1600)


def make():
    rng = np.random.default_rng(0)
    w1 = rng.standard_normal((FEATURES, HIDDEN)).astype(np.float32)
    b1 = rng.standard_normal(HIDDEN).astype(np.float32)
    w2 = (rng.standard_normal((HIDDEN, 1)) / 4).astype(np.float32)
    x = rng.standard_normal((1, FEATURES)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["a"]),
            helper.make_node("MatMul", ["a", "w2"], ["y"]),
        ],
        "game",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(a, n) for a, n in ((w1, "w1"), (b1, "b1"), (w2, "w2"))],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return libxai.Model(data), x, lambda rows: np.maximum(rows @ w1 + b1, 0) @ w2[:, 0]


def exact(f, x):
    table = np.array([[s >> i & 1 for i in range(FEATURES)] for s in range(2**FEATURES)])
    v = f(table * x)
    sizes = table.sum(1)
    weights = [math.factorial(k) * math.factorial(FEATURES - k - 1) / math.factorial(FEATURES) for k in range(FEATURES)]
    values = np.zeros(FEATURES)
    for i in range(FEATURES):
        without = np.flatnonzero(table[:, i] == 0)
        values[i] = (np.array(weights)[sizes[without]] * (v[without | 1 << i] - v[without])).sum()
    return values


def estimators(model, x, f):
    zero = np.zeros((1, FEATURES), np.float32)
    forward = lambda rows: torch.from_numpy(f(rows.numpy()))  # noqa: E731
    ours = {
        "libxai kernel_shap": {"method": "kernel_shap"},
        "libxai kernel_shap, leverage": {"method": "kernel_shap", "sampling": "leverage"},
        "libxai permutation_shap": {"method": "permutation_shap"},
        "libxai sampling_shap": {"method": "sampling_shap"},
    }
    for name, options in ours.items():

        def run(budget, seed, options=options):
            e = libxai.explain(model, x, target=0, samples=budget, seed=seed, **options)
            return e.values[0], e.evaluations[0]

        yield name, run

    def counted(explain):
        def run(budget, seed):
            calls = [0]

            def score(rows):
                calls[0] += len(rows)
                return f(np.asarray(rows))

            np.random.seed(seed)
            return explain(score, budget, seed), calls[0]

        return run

    kernel = lambda s, n, seed: shap.KernelExplainer(s, zero).shap_values(x[0], nsamples=n, silent=True)  # noqa: E731
    yield "SHAP KernelExplainer", counted(kernel)
    full = lambda s, n, seed: shap.KernelExplainer(s, zero).shap_values(  # noqa: E731
        x[0], nsamples=n, silent=True, l1_reg=False
    )
    yield "SHAP KernelExplainer, l1_reg=False", counted(full)

    def permutation(s, n, seed):
        if n < 2 * FEATURES + 1:
            return np.full(FEATURES, np.nan)
        return shap.PermutationExplainer(s, zero, seed=seed)(x, max_evals=n, silent=True).values[0]

    yield "SHAP PermutationExplainer", counted(permutation)
    sampling = lambda s, n, seed: shap.SamplingExplainer(s, zero).shap_values(x, nsamples=n, silent=True)[0]  # noqa: E731
    yield "SHAP SamplingExplainer", counted(sampling)

    def captum_kernel(budget, seed):
        torch.manual_seed(seed)
        np.random.seed(seed)
        out = KernelShap(forward).attribute(torch.from_numpy(x), n_samples=budget)
        return out.numpy()[0], budget

    yield "Captum KernelShap", captum_kernel

    def captum_sampling(budget, seed):
        torch.manual_seed(seed)
        out = ShapleyValueSampling(forward).attribute(torch.from_numpy(x), n_samples=max(1, budget // FEATURES))
        return out.numpy()[0], max(1, budget // FEATURES) * FEATURES + 1

    yield "Captum ShapleyValueSampling", captum_sampling


def main():
    warnings.simplefilter("ignore")
    model, x, f = make()
    reference = exact(f, x)
    scale = np.sqrt((reference**2).mean())
    lines = [
        "# Error against evaluations",
        "",
        "Made by `docs/methods/accuracy.py`, which says what is measured: relative error of the Shapley values of",
        f"{FEATURES} features, root mean square over {SEEDS} seeds. In brackets: evaluations that were really made.",
        "",
        "| samples | " + " | ".join(str(b) for b in BUDGETS) + " |",
        "| --- |" + " --- |" * len(BUDGETS),
    ]
    for name, run in estimators(model, x, f):
        cells = []
        for budget in BUDGETS:
            try:
                results = [run(budget, seed) for seed in range(SEEDS)]
            except ValueError:
                cells.append("too few")
                continue
            off = np.array([values - reference for values, _ in results])
            used = np.mean([count for _, count in results])
            cells.append(f"{100 * np.sqrt((off**2).mean()) / scale:.2f} % ({used:.0f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    pathlib.Path(__file__).with_name("accuracy.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
