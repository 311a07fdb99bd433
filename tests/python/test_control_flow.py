"""Local functions, If, Loop and Scan: written out when the shapes are known, then ordinary operators."""

import libxai
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
PRECISIONS = ["standard", "reference"]


def info(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def make(nodes, inputs, outputs, weights=None, functions=(), opset=17):
    """Make a model; inputs and outputs are value infos."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))


def check(proto, x, precision="standard", atol=1e-5):
    """Forward against ONNX's reference; return the model."""
    model = libxai.Model(proto.SerializeToString(), precision=precision)
    expected = ReferenceEvaluator(proto).run(None, {proto.graph.input[0].name: x})
    np.testing.assert_allclose(model(x), expected[0], atol=atol)
    return model


def function(name, inputs, outputs, nodes, attributes=(), defaults=(), opset=17):
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, inputs, outputs, nodes, opsets, list(attributes), list(defaults))


def reference_to(node, attribute, kind, named):
    """Let an attribute of a node take its value from the function's call."""
    made = node.attribute.add()
    made.name, made.ref_attr_name, made.type = attribute, named, kind
    return node


def leaky_block():
    """local.Block(x, w, bias?) = LeakyRelu(MatMul(x, w) + bias), its slope an attribute with a default."""
    slope = helper.make_node("LeakyRelu", ["sum"], ["y"], name="act")
    reference_to(slope, "alpha", 1, "slope")
    shift = helper.make_node("Add", ["product", "bias"], ["sum"])
    return function(
        "Block",
        ["x", "w", "bias"],
        ["y"],
        [helper.make_node("MatMul", ["x", "w"], ["product"]), shift, slope],
        defaults=[helper.make_attribute("slope", 0.25)],
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_local_functions_are_inlined_with_their_attributes(precision):
    rng = np.random.default_rng(0)
    w, v, b = (rng.standard_normal(s).astype(np.float32) for s in ((5, 4), (4, 3), (4,)))
    twice = function(
        "Twice",
        ["a", "m", "n", "c"],
        ["z"],
        [
            helper.make_node("Block", ["a", "m", "c"], ["h"], domain="local", name="first"),
            helper.make_node("MatMul", ["h", "n"], ["z"], name="second"),
        ],
    )
    nodes = [
        helper.make_node("Block", ["x", "u", "zero"], ["g"], domain="local", name="input", slope=0.5),
        helper.make_node("Twice", ["g", "w", "v", "b"], ["y"], domain="local", name="body"),
    ]
    u = rng.standard_normal((6, 5)).astype(np.float32)
    weights = {"u": u, "w": w, "v": v, "b": b, "zero": np.zeros(5, np.float32)}
    proto = make(nodes, [info("x", shape=["n", 6])], [info("y", shape=["n", 3])], weights, [leaky_block(), twice])
    x = rng.standard_normal((3, 6)).astype(np.float32)
    model = libxai.Model(proto.SerializeToString(), precision=precision)
    leak = lambda t, slope: np.where(t > 0, t, slope * t)  # noqa: E731
    hidden = leak(x @ u, 0.5) @ w + b
    np.testing.assert_allclose(model(x), leak(hidden, 0.25) @ v, atol=1e-5)
    wanted = ((v[:, 1] * np.where(hidden > 0, 1, 0.25)) @ w.T * np.where(x @ u > 0, 1, 0.5)) @ u.T
    np.testing.assert_allclose(model.gradient(x, target=1), wanted, atol=1e-5)
    assert any("body/first" in layer.node for layer in model.layers)


def test_an_input_left_out_is_left_out_inside():
    clip = function("Cut", ["x", "low", "high"], ["y"], [helper.make_node("Clip", ["x", "low", "high"], ["y"])])
    nodes = [helper.make_node("Cut", ["x", "", "high"], ["y"], domain="local")]
    proto = make(nodes, [info("x", shape=[4])], [info("y", shape=[4])], {"high": np.float32(1)}, [clip])
    model = libxai.Model(proto.SerializeToString())
    np.testing.assert_array_equal(model(np.array([-5, 0, 2, 1], np.float32)), [-5, 0, 1, 1])


@pytest.mark.parametrize("calls, message", [(1, "or themselves"), (2, "or themselves")])
def test_functions_that_call_themselves_are_refused(calls, message):
    body = [helper.make_node("F", ["x"], [f"t{i}"], domain="local") for i in range(calls)]
    body.append(helper.make_node("Sum", [f"t{i}" for i in range(calls)], ["y"]))
    endless = function("F", ["x"], ["y"], body)
    proto = make(
        [helper.make_node("F", ["x"], ["y"], domain="local")], [info("x", shape=[1])], [info("y")], {}, [endless]
    )
    with pytest.raises(libxai.UnsupportedError, match=message):
        libxai.Model(proto.SerializeToString())


def test_a_small_file_cannot_call_itself_large():
    levels = [function("F0", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])])]
    for i in range(1, 25):
        nodes = [helper.make_node(f"F{i - 1}", ["x"], [f"t{k}"], domain="local") for k in range(2)]
        levels.append(function(f"F{i}", ["x"], ["y"], [*nodes, helper.make_node("Add", ["t0", "t1"], ["y"])]))
    call = helper.make_node("F24", ["x"], ["y"], domain="local")
    proto = make([call], [info("x", shape=[1])], [info("y")], {}, levels)
    with pytest.raises(libxai.UnsupportedError, match="262144 nodes"):
        libxai.Model(proto.SerializeToString())


def branch(name, op, **attributes):
    return helper.make_graph([helper.make_node(op, ["h"], [name], **attributes)], name, [], [info(name)])


def make_branching(condition_nodes, weights, inputs):
    """h = x w; y = If(condition) Sigmoid(h) else Relu(h)."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        *condition_nodes,
        helper.make_node(
            "If", ["condition"], ["y"], name="choose",
            then_branch=branch("a", "Sigmoid"), else_branch=branch("b", "Relu"),
        ),
    ]  # fmt: skip
    return make(nodes, inputs, [info("y", shape=["n", "k"])], weights)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rows, wide", [(2, True), (5, False)])
def test_if_takes_the_branch_that_the_shape_decides(rows, wide, precision):
    """The condition compares a size of the input: known once the shapes are."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.standard_normal((4, 3)).astype(np.float32), "three": np.int64(3), "at": np.int64(1)}
    condition = [
        helper.make_node("Shape", ["x"], ["dims"]),
        helper.make_node("Gather", ["dims", "at"], ["size"]),
        helper.make_node("Less", ["size", "three"], ["condition"]),
    ]
    proto = make_branching(condition, weights, [info("x", shape=[1, "t", 4])])
    proto.graph.output[0].CopyFrom(info("y", shape=[1, "t", 3]))
    x = rng.standard_normal((1, rows, 4)).astype(np.float32)
    model = check(proto, x, precision)
    h = x @ weights["w"]
    slope = np.where(wide, 1 / (1 + np.exp(-h)) * (1 - 1 / (1 + np.exp(-h))), h > 0)
    wanted = np.zeros_like(h)
    wanted[0, 1, 2] = slope[0, 1, 2]
    np.testing.assert_allclose(model.gradient(x, target=(1, 2)), wanted @ weights["w"].T, atol=1e-5)


def test_a_condition_of_the_data_is_followed_but_has_no_gradient():
    condition = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["condition"]),
    ]
    weights = {"w": np.ones((4, 3), np.float32), "zero": np.float32(0)}
    proto = make_branching(condition, weights, [info("x", shape=[2, 4])])
    for sign in (1, -1):
        model = check(proto, sign * np.ones((2, 4), np.float32))
        with pytest.raises(libxai.UnsupportedError, match=r"'choose' \(If\).*depends on data"):
            model.gradient(sign * np.ones((2, 4), np.float32), target=(0, 0))


def make_loop(limit, inputs=("limit", "yes"), condition=None):
    """s = s + x w, k times; each iteration's row maximum is collected."""
    nodes = [
        helper.make_node("MatMul", ["s", "w"], ["p"]),
        helper.make_node("Add", ["p", "x"], ["s_next"]),
        helper.make_node("ReduceSum", ["s_next"], ["row"], keepdims=0),
        condition or helper.make_node("Identity", ["go"], ["go_next"]),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [info("i", INT64, []), info("go", BOOL, []), info("s")],
        [info("go_next", BOOL, []), info("s_next"), info("row")],
    )
    weights = {"w": (0.5 * np.eye(3) + 0.1).astype(np.float32), "limit": np.int64(limit), "yes": np.bool_(True)}
    weights["three"] = np.int64(3)
    loop = helper.make_node("Loop", [*inputs, "x"], ["y", "rows"], name="loop", body=body)
    head = helper.make_node("Sum", ["y", "y"], ["z"])
    return make([loop, head], [info("x", shape=[2, 3])], [info("z", shape=[2, 3]), info("rows")], weights), weights


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("limit", [1, 4, 40])
def test_loops_with_a_constant_number_of_iterations_are_written_out(limit, precision):
    proto, weights = make_loop(limit)
    x = np.random.default_rng(2).standard_normal((2, 3)).astype(np.float32)
    model = libxai.Model(proto.SerializeToString(), precision=precision)
    state, rows, slope = x.astype(np.float64), [], np.eye(3)
    for _ in range(limit):
        state = state @ weights["w"] + x
        slope = slope @ weights["w"] + np.eye(3)
        rows.append(state.sum())
    z, collected = model(x)
    np.testing.assert_allclose(z, 2 * state, rtol=1e-5)
    np.testing.assert_allclose(collected, rows, rtol=1e-5)
    np.testing.assert_allclose(model.gradient(x, target=2), np.tile(2 * slope[:, 2], (2, 1)), rtol=1e-5)


def test_a_condition_within_the_loop_ends_it():
    proto, _ = make_loop(100, condition=helper.make_node("Less", ["i", "three"], ["go_next"]))
    x = np.ones((2, 3), np.float32)
    model = libxai.Model(proto.SerializeToString())
    assert model(x)[1].shape == (4,)  # i = 0..3: 3 < 3 is asked before i = 4
    expected = ReferenceEvaluator(proto).run(None, {"x": x})
    for given, wanted in zip(model(x), expected, strict=True):
        np.testing.assert_allclose(given, wanted.reshape(given.shape), rtol=1e-5)  # (4, 1) for collected scalars


def test_loops_without_end_are_refused():
    proto, _ = make_loop(1, inputs=("", ""))
    with pytest.raises(libxai.UnsupportedError, match="2048 iterations"):
        libxai.Model(proto.SerializeToString())(np.ones((2, 3), np.float32))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_scan_runs_over_an_axis(precision):
    """A recurrent layer written as Scan: h = tanh(x_t w + h u); all states are collected backwards."""
    rng = np.random.default_rng(3)
    weights = {"w": rng.standard_normal((3, 4)), "u": 0.5 * rng.standard_normal((4, 4)), "h0": np.zeros((2, 4))}
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["x_t", "w"], ["a"]),
            helper.make_node("MatMul", ["h", "u"], ["b"]),
            helper.make_node("Add", ["a", "b"], ["c"]),
            helper.make_node("Tanh", ["c"], ["h_next"]),
            helper.make_node("Identity", ["h_next"], ["seen"]),
        ],
        "cell",
        [info("h"), info("x_t")],
        [info("h_next"), info("seen")],
    )
    scan = helper.make_node(
        "Scan", ["h0", "x"], ["y", "all"], body=body, num_scan_inputs=1, scan_input_axes=[1],
        scan_output_axes=[1], scan_output_directions=[1],
    )  # fmt: skip
    proto = make([scan], [info("x", shape=[2, "t", 3])], [info("y", shape=[2, 4]), info("all")], weights)
    model = libxai.Model(proto.SerializeToString(), precision=precision)
    for steps in (1, 6):
        x = rng.standard_normal((2, steps, 3)).astype(np.float32)
        h, states = weights["h0"].astype(np.float64), []
        for t in range(steps):
            h = np.tanh(x[:, t] @ weights["w"] + h @ weights["u"])
            states.insert(0, h)
        y, every = model(x)
        np.testing.assert_allclose(y, h, atol=1e-5)
        np.testing.assert_allclose(every, np.stack(states, 1), atol=1e-5)
    gradient = model.gradient(x, target=2)
    moved = x.copy()
    moved[1, 0, 1] += 1e-2
    other = x.copy()
    other[1, 0, 1] -= 1e-2
    slope = (model(moved)[0][1, 2] - model(other)[0][1, 2]) / 2e-2
    np.testing.assert_allclose(gradient[1, 0, 1], slope, atol=1e-3)


def test_subgraphs_within_functions_see_the_call():
    """An If inside a function: its branch reads the function's input and an attribute of the call."""
    node = helper.make_node("LeakyRelu", ["v"], ["a"])
    reference_to(node, "alpha", 1, "slope")
    then_branch = helper.make_graph([node], "then", [], [info("a")])
    else_branch = helper.make_graph([helper.make_node("Neg", ["v"], ["b"])], "else", [], [info("b")])
    chosen = function(
        "Choose",
        ["v", "flag"],
        ["r"],
        [helper.make_node("If", ["flag"], ["r"], then_branch=then_branch, else_branch=else_branch)],
        attributes=["slope"],
    )
    x = np.array([-2, 3], np.float32)
    for flag, wanted in ((True, [-0.2, 3]), (False, [2, -3])):
        nodes = [helper.make_node("Choose", ["x", "flag"], ["y"], domain="local", slope=0.1)]
        proto = make(nodes, [info("x", shape=[2])], [info("y", shape=[2])], {"flag": np.bool_(flag)}, [chosen])
        np.testing.assert_allclose(libxai.Model(proto.SerializeToString())(x), wanted, rtol=1e-6)
