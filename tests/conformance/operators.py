"""docs/operators.md from the library's tables (list_operators), the official tests, and element types tried out."""

import os
import pathlib
import re
import subprocess
from collections import defaultdict

import numpy as np
import onnx
from libxai import LibXaiError, onnx_backend
from onnx import TensorProto, helper, numpy_helper

DOMAINS = ("", "ai.onnx.ml")
OLDEST = 7  # opset of the default domain
TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float64": TensorProto.DOUBLE,
    **{f"{s}int{b}": getattr(TensorProto, f"{s}INT{b}".upper()) for s in ("", "u") for b in (8, 16, 32, 64)},
    "bool": TensorProto.BOOL,
}
FLOATS = ("float32", "float16", "bfloat16", "float64")
INTEGERS = tuple(name for name in TYPES if "int" in name)

# What neither tables nor tests show.
RESTRICTIONS = {
    "If": "where the condition depends on data (D): forward only",
    "Loop": "where number or condition depends on data (D): forward only; at most 2048 iterations",
    "Scan": "the scanned axes have the same length; at most 2048 iterations",
    "QuantizeLinear": "gradient straight through together with the DequantizeLinear behind it",
    "DequantizeLinear": "gradient straight through together with the QuantizeLinear before it",
    "NonMaxSuppression": "forward only (D)",
    "NonZero": "forward only (D)",
    "Compress": "a condition that is no constant: forward only (D)",
    "TopK": "k that is no constant: forward only (D); the gradient is not defined",
    "RoiAlign": "regions have no gradient",
    "RotaryEmbedding": "caches have no gradient",
    "Attention": "qk_matmul_output has no gradient",
    "BatchNormalization": "inference only",
    "Dropout": "inference only",
    "Reshape": "a shape that depends on data: forward only (D)",
    "Resize": "scales, sizes or roi that depend on data: forward only (D)",
    "Slice": "starts, ends, axes or steps that depend on data: forward only (D)",
    "Range": "forward only (D) unless known once the shapes are",
    "Tile": "repeats that depend on data: forward only (D)",
    "Expand": "a shape that depends on data: forward only (D)",
}


def schemas():
    """Return {(domain, name): opsets that changed it}, deprecated operators left out."""
    found = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain in DOMAINS:
            found[(schema.domain, schema.name)].append(schema)
    return {
        key: sorted(s.since_version for s in versions)
        for key, versions in sorted(found.items())
        if not max(versions, key=lambda s: s.since_version).deprecated
    }


def ask_library(names, program):
    """Return {(domain, name): (first opset, gradient)} for the operators that the library has."""
    lines = "".join(f"{domain or '-'} {name}\n" for domain, name in names)
    answers = subprocess.run([program], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    known = {}
    for key, answer in zip(names, answers, strict=True):
        if answer != "absent":
            since, gradient = answer.split()
            known[key] = (int(since), gradient)
    return known


def single_node_tests():
    """Return {(domain, name): test cases of one node, the smallest first}."""
    from onnx.backend.test.case.node import collect_testcases

    found = defaultdict(list)
    for case in collect_testcases(None):
        nodes = case.model.graph.node
        if len(nodes) == 1:
            domain = "" if nodes[0].domain == "ai.onnx" else nodes[0].domain
            found[(domain, nodes[0].op_type)].append(case)
    return found


def takes(case, positions, kind):
    """Try a test with other element types at some inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs = list(case.data_sets[0][0])
    dtype = helper.tensor_dtype_to_np_dtype(TYPES[kind])
    inputs = [numpy_helper.to_array(each) if isinstance(each, TensorProto) else each for each in inputs]
    for position in positions:
        if isinstance(inputs[position], (list, type(None))) or np.asarray(inputs[position]).dtype.kind in "OUS":
            return False
        value = np.asarray(inputs[position]).astype(np.float64)
        inputs[position] = (value if kind in FLOATS else np.abs(value)).astype(dtype)
        model.graph.input[position].type.tensor_type.elem_type = TYPES[kind]
    for output in model.graph.output:
        output.ClearField("type")
    try:
        onnx_backend.run_model(model, inputs)
    except (LibXaiError, ValueError, TypeError):
        return False
    return True


def types_of_test(key, case):
    """Return the element types that the first input of a test may have."""
    node = case.model.graph.node[0]
    domains = {"", "ai.onnx"} if not key[0] else {key[0]}
    version = next(each.version for each in case.model.opset_import if each.domain in domains)
    try:
        schema = onnx.defs.get_schema(key[1], version, key[0])
    except onnx.defs.SchemaError:
        return set()
    if not node.input or not node.input[0] or not schema.inputs:
        return set()
    names = [info.name for info in case.model.graph.input]
    kinds = [each.type_str for each in schema.inputs]
    kinds += kinds[-1:] * len(node.input)
    positions = [names.index(n) for n, kind in zip(node.input, kinds) if n in names and kind == kinds[0]]  # noqa: B905
    spelled = {"float32": "float", "float64": "double"}
    wanted = [name for name in TYPES if f"tensor({spelled.get(name, name)})" in schema.inputs[0].types]
    return {name for name in wanted if takes(case, positions, name)}


def element_types(key, cases, passed):
    """Return the element types that the first input may have, tried on a few tests that pass."""
    good = [case for case in cases if case.name in passed and case.data_sets[0][0]]
    return set().union(*(types_of_test(key, case) for case in good[:4]))


def spell(types):
    """Shorten a list of types."""
    words = []
    if all(name in types for name in FLOATS):
        words.append("floats")
    else:
        words += [name for name in FLOATS if name in types]
    if all(name in types for name in INTEGERS):
        words.append("integers")
    else:
        words += [name for name in INTEGERS if name in types]
    return ", ".join(words + ["bool"] * ("bool" in types))


def refusals(cases, results):
    """Return the reasons for which official tests of an operator are refused."""
    reasons = set()
    for case in cases:
        outcome, message = results.get(case.name, ("", ""))
        if outcome != "refused":
            continue
        text = re.sub(r"^\[\w+\] ", "", message)
        text = re.sub(r"(node|input|output|initializer|value) '[^']*'( \([\w.]+\))?:? ?", "", text).strip()
        text = re.sub(r"(cannot cast to type number) \d+", r"no float8, float4, int4, int2", text)
        text = re.sub(
            r"tensors of (float8|float4|int4|int2|uint4|uint2)\w* are not supported",
            "no float8, float4, int4, int2",
            text,
        )
        text = re.sub(r"quantising to type number \d+.*", "no float8, float4, int4, int2", text)
        reasons.add(text.replace("|", "/")[:140])
    return sorted(reasons)


def opset_text(domain, since, versions):
    first = max(since, versions[0], OLDEST if not domain else 1)
    return f"{first}+"


def make_text(results, program):
    """Return the document."""
    history = schemas()
    known = ask_library(list(history), program)
    cases = single_node_tests()
    passed = {name for name, (outcome, _) in results.items() if outcome == "passed"}
    counts = defaultdict(int)
    for outcome, _ in results.values():
        counts[outcome] += 1
    lines = [
        "# Operators",
        "",
        "Written by `tests/conformance/run --update` from the library's tables, from the official ONNX tests "
        f"(onnx {onnx.__version__}), and from element types tried out on them; `tests/run conformance` checks "
        "that it is current.",
        "",
        f"Of {len(results)} official tests {counts['passed']} pass, {counts['refused']} are refused with their reason, "
        f"{counts['wrong']} give other numbers (`tests/conformance/known.txt` says why), {counts['crashed']} crash.",
        "",
        "*Types* are those of the first input, as far as official tests could be run with them. *Gradient*: the "
        "vector-Jacobian product, checked against finite differences (`tests/gradients`); where there is none, no "
        "gradient passes. *import*: becomes other operators when the model is read. *Tests*: official tests of this "
        "operator alone that pass, of all. *(D)*: its shapes depend on data. It and what reads it are computed behind "
        "the plan, by the portable kernels, and can be neither explained nor differentiated; what lies in front can "
        "([architecture](architecture.md)).",
        "",
    ]
    for domain in DOMAINS:
        lines += [
            f"## {domain or 'ai.onnx'}",
            "",
            "| operator | opsets | types | gradient | tests | restrictions |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for key, versions in history.items():
            if key[0] != domain or key not in known:
                continue
            since, gradient = known[key]
            own = sorted(cases[key], key=lambda case: (len(case.model.graph.input), case.name))
            good = sum(case.name in passed for case in own)
            notes = [RESTRICTIONS[key[1]]] if key[1] in RESTRICTIONS else []
            notes += [each for each in refusals(own, results) if each not in notes]
            tests = f"{good} of {len(own)}" if own else ""
            types = spell(element_types(key, own, passed))
            cells = (key[1], opset_text(domain, since, versions), types, gradient, tests, "; ".join(notes))
            lines.append(f"| {' | '.join(cells)} |")
        absent = [name for own_domain, name in history if own_domain == domain and (own_domain, name) not in known]
        lines += ["", f"Not supported: {', '.join(absent)}.", ""]
    return "\n".join(lines)


def check(results, update):
    """Compare docs/operators.md with what it should be, or write it; return the number of failures."""
    root = pathlib.Path(__file__).resolve().parents[2]
    path = root / "docs/operators.md"
    program = pathlib.Path(os.environ.get("XAI_BUILD_ROOT", root / "build")) / "tests/conformance/list_operators"
    text = make_text(results, program)
    if update:
        path.write_text(text)
    elif not path.exists() or path.read_text() != text:
        print("docs/operators.md is not current: tests/conformance/run --update writes it")
        return 1
    return 0
