"""Damaged ONNX models for the fuzz suite: mutate.py FOLDER COUNT [SEED].

Writes FOLDER/seeds/*.onnx (small whole models of many kinds, all of which load) and FOLDER/mutants/*.onnx: COUNT
models damaged in one to three ways. The same SEED gives the same bytes, so a number is enough to name a finding.
"""

import glob
import os
import random
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)

# Which fields of a message are messages again, by the numbers of onnx.proto.
SCHEMA = {
    "Model": {7: "Graph", 8: "Opset", 14: "Entry", 25: "Function"},
    "Function": {7: "Node", 9: "Opset", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 11: "Value", 12: "Value", 13: "Value"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph"},
    "Tensor": {13: "Entry"},
    "Value": {2: "Type"},
    "Type": {1: "TensorType"},
    "TensorType": {2: "Shape"},
    "Shape": {1: "Dimension"},
}
TEXTS = [b"", b"\0", b"a\0b", b"\xff\xfe", b"\xc3", b"\x1b[2J", b"x" * 70000, b"-1", b"9" * 20]
TEXTS += [b"../external.bin", b"/etc/passwd", b"."]
LISTED = {"Node", "Tensor", "Value", "Attribute", "Dimension"}
HUGE = [0, 1, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]


# Seeds ---------------------------------------------------------------------------------------------------------


def make(nodes, inputs, outputs, constants, opset=17):
    """A checked model; inputs and outputs are (name, shape) or (name, shape, type)."""

    def values(items):
        return [helper.make_tensor_value_info(i[0], i[2] if len(i) > 2 else FLOAT, i[1]) for i in items]

    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)  # fills the outputs whose shape is None
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def seeds():
    """Name -> model. Small on purpose: a flipped bit should hit structure, not weights."""
    rng = np.random.default_rng(0)
    node = helper.make_node

    def f32(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    def i64(*values):
        return np.array(values, np.int64)

    image, made = ("x", ["n", 3, 8, 8]), {}
    made["conv"] = make(
        [
            node("Conv", ["x", "w", "b"], ["c"], name="conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["r"]),
            node("GlobalAveragePool", ["r"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "fw", "fb"], ["y"], transB=1),
        ],
        [image], [("y", ["n", 2])], {"w": f32(4, 3, 3, 3), "b": f32(4), "fw": f32(2, 4), "fb": f32(2)},
    )  # fmt: skip
    made["group_conv"] = make(
        [node("Conv", ["x", "w"], ["y"], group=3, dilations=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")],
        [image], [("y", None)], {"w": f32(6, 1, 3, 3)},
    )  # fmt: skip
    made["batchnorm_pool"] = make(
        [
            node("BatchNormalization", ["x", "s", "b", "m", "v"], ["n1"], epsilon=1e-3),
            node("MaxPool", ["n1"], ["p"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
            node("AveragePool", ["p"], ["y"], kernel_shape=[2, 2], count_include_pad=1, pads=[1, 1, 0, 0]),
        ],
        [image], [("y", None)], {"s": f32(3), "b": f32(3), "m": f32(3), "v": np.abs(f32(3))},
    )  # fmt: skip
    made["dense_block"] = make(
        [
            node("Conv", ["x", "w1"], ["a"]),
            node("Concat", ["x", "a"], ["c"], axis=1),
            node("Relu", ["c"], ["r"]),
            node("Conv", ["r", "w2"], ["d"]),
            node("Concat", ["c", "d"], ["y"], axis=1),
        ],
        [image], [("y", None)], {"w1": f32(2, 3, 1, 1), "w2": f32(2, 5, 1, 1)},
    )  # fmt: skip
    made["mlp"] = make(
        [
            node("MatMul", ["x", "w"], ["h"]),
            node("Add", ["h", "b"], ["a"]),
            node("Sigmoid", ["a"], ["s"]),
            node("Mul", ["a", "s"], ["m"]),
            node("Softmax", ["m"], ["y"], axis=-1),
        ],
        [("x", ["n", 4])], [("y", ["n", 3])], {"w": f32(4, 3), "b": f32(3)},
    )  # fmt: skip
    made["attention"] = make(
        [
            node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
            node("MatMul", ["x", "t"], ["q"]),
            node("Div", ["q", "scale"], ["d"]),
            node("Softmax", ["d"], ["s"]),
            node("MatMul", ["s", "x"], ["o"]),
            node("LayerNormalization", ["o", "g", "b"], ["y"], axis=-1),
        ],
        [("x", ["n", 5, 4])], [("y", None)], {"scale": np.float32(2), "g": f32(4), "b": f32(4)},
    )  # fmt: skip
    made["shapes"] = make(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n0"], axis=0),
            node("Unsqueeze", ["n0", "axes"], ["u"]),
            node("Concat", ["u", "rest"], ["to"], axis=0),
            node("Reshape", ["x", "to"], ["y"]),
        ],
        [image], [("y", None)], {"zero": np.array(0, np.int64), "axes": i64(0), "rest": i64(-1)},
    )  # fmt: skip
    made["slices"] = make(
        [
            node("Slice", ["x", "begin", "end", "axes", "step"], ["s"]),
            node("Pad", ["s", "pads", "value"], ["p"], mode="constant"),
            node("Split", ["p", "sizes"], ["a", "b"], axis=1),
            node("Sub", ["a", "b"], ["y"]),
        ],
        [image], [("y", None)],
        {"begin": i64(1), "end": i64(3), "axes": i64(1), "step": i64(1), "pads": i64(0, 0, 1, 1, 0, 0, 1, 1),
         "value": np.float32(0), "sizes": i64(1, 1)},
    )  # fmt: skip
    made["resize"] = make(
        [
            node("Resize", ["x", "", "scales"], ["r"], mode="linear"),
            node("ConvTranspose", ["r", "w"], ["y"], strides=[2, 2], output_padding=[1, 1]),
        ],
        [image], [("y", None)], {"scales": np.array([1, 1, 2, 2], np.float32), "w": f32(3, 2, 3, 3)},
    )  # fmt: skip
    made["reduce"] = make(
        [
            node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=1),
            node("Sub", ["x", "m"], ["d"]),
            node("Pow", ["d", "two"], ["p"]),
            node("ReduceSum", ["p", "axes"], ["y"], keepdims=0),
        ],
        [image], [("y", None)], {"two": np.float32(2), "axes": i64(2, 3)},
    )  # fmt: skip
    made["gelu"] = make(
        [
            node("Div", ["x", "root"], ["d"]),
            node("Erf", ["d"], ["e"]),
            node("Add", ["e", "one"], ["a"]),
            node("Mul", ["x", "a"], ["m"]),
            node("Mul", ["m", "half"], ["y"]),
        ],
        [("x", ["n", 6])], [("y", None)],
        {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)},
    )  # fmt: skip
    made["clip_activations"] = make(
        [
            node("Clip", ["x", "low", "high"], ["c"]),
            node("HardSwish", ["c"], ["h"]),
            node("LeakyRelu", ["h"], ["l"], alpha=0.1),
            node("PRelu", ["l", "slope"], ["p"]),
            node("Elu", ["p"], ["y"], alpha=1.5),
        ],
        [image], [("y", None)], {"low": np.float32(0), "high": np.float32(6), "slope": f32(3, 1, 1)},
    )  # fmt: skip
    made["select"] = make(
        [
            node("Greater", ["x", "zero"], ["g"]),
            node("Where", ["g", "x", "zero"], ["w"]),
            node("Cast", ["w"], ["i"], to=TensorProto.INT32),
            node("Cast", ["i"], ["y"], to=FLOAT),
        ],
        [("x", ["n", 4])], [("y", None)], {"zero": np.float32(0)},
    )  # fmt: skip
    made["constants"] = make(
        [
            node("Constant", [], ["k"], value=numpy_helper.from_array(f32(4))),
            node("Constant", [], ["two"], value_float=2.0),
            node("Constant", [], ["shape"], value_ints=[1, 4]),
            node("ConstantOfShape", ["shape"], ["z"], value=numpy_helper.from_array(np.ones(1, np.float32))),
            node("Mul", ["x", "k"], ["a"]),
            node("Mul", ["a", "two"], ["b"]),
            node("Add", ["b", "z"], ["y"]),
        ],
        [("x", ["n", 4])], [("y", None)], {},
    )  # fmt: skip
    made["expand"] = make(
        [node("Expand", ["x", "to"], ["e"]), node("Tile", ["e", "times"], ["y"])],
        [("x", [1, 4])], [("y", None)], {"to": i64(3, 4), "times": i64(1, 2)},
    )  # fmt: skip
    made["range"] = make(
        [
            node("Range", ["from", "to", "step"], ["r"]),
            node("Cast", ["r"], ["f"], to=FLOAT),
            node("Add", ["x", "f"], ["y"]),
        ],
        [("x", ["n", 5])], [("y", None)],
        {"from": np.array(0, np.int64), "to": np.array(5, np.int64), "step": np.array(1, np.int64)},
    )  # fmt: skip
    made["keras_transposes"] = make(
        [
            node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            node("Conv", ["t", "w"], ["c"]),
            node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]),
        ],
        [("x", ["n", 8, 8, 3])], [("y", None)], {"w": f32(2, 3, 1, 1)},
    )  # fmt: skip
    made["instance_norm"] = make(
        [node("InstanceNormalization", ["x", "s", "b"], ["i"]), node("Identity", ["i"], ["y"])],
        [image], [("y", None)], {"s": f32(3), "b": f32(3)},
    )  # fmt: skip
    two = make(
        [node("Add", ["x", "z"], ["y"]), node("Mul", ["x", "z"], ["y2"])],
        [("x", ["n", 4]), ("z", ["n", 4])], [("y", None), ("y2", None)], {},
    )  # fmt: skip
    helper.set_model_props(two, {"xai.labels": "a,b", "xai.input.range": "0,1", "note": "x" * 40})
    made["two_inputs"] = two

    typed = make([node("Add", ["x", "k"], ["y"])], [("x", ["n", 2])], [("y", None)], {"k": f32(2)})
    types = [FLOAT, TensorProto.DOUBLE, TensorProto.INT8, TensorProto.UINT64, INT64]
    types += [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.BOOL, TensorProto.STRING]
    for kind in types:
        values = [b"a", b"b"] if kind == TensorProto.STRING else [1, 0]
        typed.graph.initializer.append(helper.make_tensor(f"typed{kind}", kind, [2], values))
    made["typed_data"] = typed
    return made


def folded(nodes, constants, opset=17):
    """A model whose operators compute while it is loaded: all they read is constant; y = x + their sums."""
    results = [nodes[-1].output[0]]
    ends = [helper.make_node("ReduceSum", [name], [f"sum_{name}"], keepdims=0) for name in results]
    adds = [helper.make_node("Add", ["x", f"sum_{results[0]}"], ["y"])]
    return make([*nodes, *ends, *adds], [("x", ["n", 2])], [("y", None)], constants, opset)


def sequence_seeds():
    """Recurrent layers, attention, sampling, regions, quantised numbers."""
    rng = np.random.default_rng(1)
    node, made = helper.make_node, {}

    def f32(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    for kind, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        weights = {"s": f32(3, 2, 2), "w": f32(2, gates * 3, 2), "r": f32(2, gates * 3, 3), "b": f32(2, gates * 6)}
        layer = node(kind, ["s", "w", "r", "b"], ["h"], hidden_size=3, direction="bidirectional")
        made[f"folded_{kind.lower()}"] = folded([layer], weights)
    made["folded_attention"] = folded(
        [node("Attention", ["q", "k", "v", "m"], ["h"], q_num_heads=2, kv_num_heads=1, is_causal=1, softcap=2.0)],
        {"q": f32(1, 3, 4), "k": f32(1, 4, 2), "v": f32(1, 4, 3), "m": f32(3, 4)},
        23,
    )
    made["folded_rotary"] = folded(
        [node("RotaryEmbedding", ["q", "c", "s", "p"], ["h"])],
        {"q": f32(1, 2, 3, 4), "c": f32(5, 2), "s": f32(5, 2), "p": np.array([[4, 0, 2]], np.int64)},
        23,
    )
    made["folded_einsum"] = folded(
        [node("Einsum", ["a", "b"], ["h"], equation="...ij,jk->...ik")], {"a": f32(2, 3, 4), "b": f32(4, 2)}
    )
    made["folded_sample"] = folded(
        [
            node("AffineGrid", ["t", "z"], ["g"], align_corners=1),
            node("GridSample", ["i", "g"], ["h"], mode="cubic", padding_mode="reflection"),
        ],
        {"t": f32(1, 2, 3), "z": np.array([1, 2, 3, 4], np.int64), "i": f32(1, 2, 4, 5)},
        20,
    )
    made["folded_regions"] = folded(
        [node("RoiAlign", ["i", "b", "n"], ["h"], output_height=2, output_width=2, sampling_ratio=2)],
        {
            "i": f32(2, 2, 4, 5),
            "b": np.array([[0, 0, 3, 3], [1, 1, 4, 2]], np.float32),
            "n": np.array([0, 1], np.int64),
        },
    )
    made["folded_suppression"] = folded(
        [
            node("NonMaxSuppression", ["b", "s", "k", "o", "l"], ["i"]),
            node("Cast", ["i"], ["h"], to=FLOAT),
        ],
        {
            "b": np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [2, 2, 3, 3]]], np.float32),
            "s": np.array([[[0.9, 0.8, 0.7]]], np.float32),
            "k": np.array([2], np.int64),
            "o": np.array([0.5], np.float32),
            "l": np.array([0.1], np.float32),
        },
    )
    zero, scale = np.array(3, np.uint8), np.array(0.1, np.float32)
    made["folded_quantised"] = folded(
        [
            node("QuantizeLinear", ["i", "s", "z"], ["q"]),
            node("QLinearConv", ["q", "s", "z", "w", "s", "wz", "s", "z"], ["c"], pads=[1, 1, 1, 1]),
            node("DequantizeLinear", ["c", "s", "z"], ["h"]),
        ],
        {"i": f32(1, 2, 4, 4), "s": scale, "z": zero, "wz": np.array(0, np.int8),
         "w": rng.integers(-9, 9, (3, 2, 3, 3)).astype(np.int8)},
    )  # fmt: skip
    made["quantised"] = make(
        [node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
         node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1)],
        [("x", ["n", 3, 2])], [("y", None)],
        {"s": np.array([0.1, 0.2, 0.3], np.float32), "z": np.array([1, 2, 3], np.uint8)},
    )  # fmt: skip
    return made


def control_seeds():
    """Local functions, If, Loop, Scan; not checked by onnx, whose inference wants types inside."""
    node, made = helper.make_node, {}

    def info(name, kind=FLOAT, shape=None):
        return helper.make_tensor_value_info(name, kind, shape)

    def model(nodes, constants, functions=()):
        tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
        graph = helper.make_graph(nodes, "g", [info("x", shape=["n", 3])], [info("y")], tensors)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))

    branches = [helper.make_graph([node(op, ["x"], [op])], op, [], [info(op)]) for op in ("Relu", "Neg")]
    choose = node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    made["if"] = model([choose], {"c": np.bool_(True)})
    body = helper.make_graph(
        [node("Add", ["s", "x"], ["t"]), node("Identity", ["c"], ["d"]), node("ReduceSum", ["t"], ["r"])],
        "body",
        [info("i", INT64, []), info("c", TensorProto.BOOL, []), info("s")],
        [info("d", TensorProto.BOOL, []), info("t"), info("r")],
    )
    loop = node("Loop", ["k", "", "x"], ["y", "all"], body=body)
    made["loop"] = model([loop], {"k": np.int64(3)})
    late = [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Cast", ["m"], ["k"], to=INT64)]
    made["late_loop"] = model([*late, loop], {})
    made["late_if"] = model([late[0], node("Cast", ["m"], ["c"], to=TensorProto.BOOL), choose], {})
    made["late_choice"] = model(
        [
            *late,
            node("Unsqueeze", ["k", "0"], ["ks"]),
            node("TopK", ["x", "ks"], ["v", "i"]),
            node("NonZero", ["v"], ["z"]),
            node("Transpose", ["z"], ["p"]),
            node("GatherND", ["v", "p"], ["f"]),
            node("Greater", ["f", "m"], ["b"]),
            node("Compress", ["f", "b"], ["y"]),
        ],
        {"0": np.array([0])},
    )
    made["late_boxes"] = model(
        [
            node("Concat", ["x", "x"], ["t"], axis=1),
            node("Slice", ["t", "0", "4", "1"], ["u"]),
            node("Unsqueeze", ["u", "0"], ["boxes"]),
            node("ReduceSum", ["boxes", "2"], ["s"], keepdims=0),
            node("Unsqueeze", ["s", "1"], ["scores"]),
            node("NonMaxSuppression", ["boxes", "scores", "4", "o"], ["chosen"]),
            node("Cast", ["chosen"], ["y"], to=FLOAT),
        ],
        {
            "0": np.array([0]),
            "1": np.array([1]),
            "2": np.array([2]),
            "4": np.array([4]),
            "o": np.array([0.5], np.float32),
        },
    )
    cell = helper.make_graph(
        [node("Mul", ["h", "e"], ["m"]), node("Identity", ["m"], ["o"])],
        "cell", [info("h"), info("e")], [info("m"), info("o")],
    )  # fmt: skip
    made["scan"] = model(
        [node("Scan", ["h0", "x"], ["y", "all"], body=cell, num_scan_inputs=1, scan_input_axes=[1])],
        {"h0": np.float32(1)},
    )
    inner = node("LeakyRelu", ["a"], ["b"])
    reference = inner.attribute.add()
    reference.name, reference.ref_attr_name, reference.type = "alpha", "slope", 1
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    leak = helper.make_function(
        "local", "Leak", ["a"], ["b"], [inner], opsets, [], [helper.make_attribute("slope", 0.1)]
    )
    sides = {side: branches_of(node, info, name) for side, name in (("then_branch", "t"), ("else_branch", "a"))}
    calls = [node("Leak", ["a"], ["t"], domain="local", slope=0.2), node("If", ["f"], ["b"], **sides)]
    outer = helper.make_function("local", "Outer", ["a", "f"], ["b"], calls, opsets)
    made["functions"] = model(
        [node("Outer", ["x", "flag"], ["y"], domain="local")], {"flag": np.bool_(False)}, [leak, outer]
    )
    return made


def branches_of(node, info, source):
    """A branch that calls a local function with a value from around it."""
    return helper.make_graph([node("Leak", [source], ["e"], domain="local")], "branch", [], [info("e")])


def external_seed(folder):
    """A model whose weights lie in a file beside it. The file must lie beside every mutant too."""
    model = seeds()["conv"]
    offset = 0
    with open(os.path.join(folder, "external.bin"), "wb") as out:
        for tensor in model.graph.initializer:
            payload = numpy_helper.to_array(tensor).tobytes()
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            entries = {"location": "external.bin", "offset": offset, "length": len(payload)}
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=str(value))
            out.write(payload)
            offset += len(payload)
    return model


def official_seeds(limit=40):
    """Models that come with the onnx package, evenly chosen among the small ones."""
    folder = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
    paths = [p for p in sorted(glob.glob(folder + "/**/model.onnx", recursive=True)) if os.path.getsize(p) < 20000]
    models = [onnx.load(path) for path in paths[:: max(1, len(paths) // limit)][:limit]]
    for model in models:
        for opset in model.opset_import:  # most are of version 6: raised, so that they get past the first check
            opset.version = max(opset.version, 9)
    return [model.SerializeToString() for model in models]


# The wire format, as a tree that can be edited -----------------------------------------------------------------


class Field:
    """One field; `value` is an int, bytes, or a list of Fields when its message type is known."""

    def __init__(self, number, wire, value, kind=None):
        self.number, self.wire, self.value, self.kind = number, wire, value, kind
        self.length = None  # what to write instead of the true length

    def copy(self):
        twin = Field(self.number, self.wire, self.value, self.kind)
        if isinstance(self.value, list):
            twin.value = [each.copy() for each in self.value]
        return twin


def varint(value):
    out = bytearray()
    while True:
        out.append((value & 0x7F) | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def read(data, kind="Model"):
    fields, at = [], 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = read_varint(data, at)
            fields.append(Field(number, wire, value))
            continue
        if wire == BYTES:
            size, at = read_varint(data, at)
        else:
            size = 4 if wire == FIXED32 else 8
        value, at = data[at : at + size], at + size
        inner = SCHEMA.get(kind, {}).get(number) if wire == BYTES else None
        fields.append(Field(number, wire, read(value, inner) if inner else value, inner))
    return fields


def write(fields):
    out = bytearray()
    for field in fields:
        out += varint(field.number << 3 | field.wire)
        if isinstance(field.value, int):
            out += varint(field.value)
            continue
        payload = write(field.value) if isinstance(field.value, list) else field.value
        if field.wire == BYTES:
            out += varint(len(payload) if field.length is None else field.length)
        out += payload
    return bytes(out)


def every_list(fields):
    """All lists of fields in the tree."""
    yield fields
    for field in fields:
        if isinstance(field.value, list):
            yield from every_list(field.value)


# Damage --------------------------------------------------------------------------------------------------------


def any_field(rng, tree, want=lambda field: True):
    """(list, position) of a random field that fits, or None."""
    found = [(items, i) for items in every_list(tree) for i, field in enumerate(items) if want(field)]
    return rng.choice(found) if found else None


def is_text(field):
    return isinstance(field.value, bytes) and field.wire == BYTES


def edit_tree(rng, data, donors):
    """Damage that keeps the wire format valid (but for `length`): what a hostile writer would do."""
    tree = read(data)
    kind = rng.choice(
        ["huge", "huge", "near", "near", "data", "data", "rename", "rename", "duplicate", "delete", "splice", "swap"]
        + ["length", "wire", "group", "text"]
    )
    if kind in ("huge", "near"):
        at = any_field(rng, tree, lambda f: isinstance(f.value, int))
        if at:
            field = at[0][at[1]]
            field.value = rng.choice(HUGE) if kind == "huge" else (field.value + rng.choice([-2, -1, 1, 2])) % 2**64
    elif kind == "duplicate":
        listed = rng.random() < 0.8  # repeated fields mostly: any other twice is refused at once
        items, i = any_field(rng, tree, lambda f: not listed or f.kind in LISTED)
        for _ in range(rng.choice([1, 1, 2, 40])):
            items.insert(rng.randrange(len(items) + 1), items[i].copy())
    elif kind == "data":  # constants: axes, target shapes, sizes, repeats, or weights that become infinite
        at = any_field(rng, tree, lambda f: f.number == 9 and is_text(f) and len(f.value) >= 4)
        if at:
            field = at[0][at[1]]
            number = rng.choice([rng.choice(HUGE), 2**64 - rng.randrange(1, 9), rng.randrange(9), 0x7FC0_0000])
            size = 8 if len(field.value) >= 8 else 4
            i = rng.randrange(len(field.value) // size) * size
            field.value = field.value[:i] + (number % 256**size).to_bytes(size, "little") + field.value[i + size :]
    elif kind == "delete":
        items, i = any_field(rng, tree)
        del items[i]
    elif kind == "splice":
        items, i = any_field(rng, tree)
        other, k = any_field(rng, read(rng.choice(donors)), lambda f: f.kind == items[i].kind) or (items, i)
        items[i] = other[k].copy()
    elif kind == "swap":
        items = rng.choice([each for each in every_list(tree) if len(each) > 1])
        i, k = rng.sample(range(len(items)), 2)
        items[i], items[k] = items[k], items[i]
    elif kind == "rename":  # makes cycles, duplicate names, missing values, other operators
        texts = [f for items in every_list(tree) for f in items if is_text(f)]
        if texts:
            rng.choice(texts).value = rng.choice(texts).value
    elif kind == "length":
        at = any_field(rng, tree, lambda f: f.wire == BYTES)
        field = at[0][at[1]]
        true = len(write(field.value)) if isinstance(field.value, list) else len(field.value)
        field.length = rng.choice([max(true - 1, 0), true + 1, true * 2 + 7, 0, *HUGE])
    elif kind == "wire":
        items, i = any_field(rng, tree)
        wire, value = rng.choice([(VARINT, rng.choice(HUGE)), (FIXED32, b"\1\2\3\4"), (BYTES, rng.randbytes(5))])
        items[i] = Field(items[i].number, wire, value)
    elif kind == "group":
        items, _ = any_field(rng, tree)
        depth = rng.choice([1, 3, 31, 32, 33, 5000])
        ends = varint(100 << 3 | GROUP_END) * rng.choice([depth, depth - 1])
        opened = Field(100, GROUP, varint(100 << 3 | GROUP) * (depth - 1) + ends)
        items.insert(rng.randrange(len(items) + 1), opened)
    else:
        at = any_field(rng, tree, is_text)
        if at:
            at[0][at[1]].value = rng.choice(TEXTS)
    return write(tree)


def edit_bytes(rng, data):
    """Damage that knows nothing of the format: disks, networks, truncated downloads."""
    data = bytearray(data)
    kind = rng.choice(["flip", "flip", "set", "cut", "remove", "insert", "repeat"])
    at = rng.randrange(len(data)) if data else 0
    if not data:
        return bytes(data)
    if kind == "flip":
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "set":
        data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
    elif kind == "cut":
        del data[at:]
    elif kind == "remove":
        del data[at : at + rng.choice([1, 2, 16])]
    elif kind == "insert":
        data[at:at] = rng.randbytes(rng.choice([1, 4, 64]))
    else:
        data[at:at] = data[at : at + rng.choice([4, 64, 512])]
    return bytes(data)


def mutants(rng, originals, count):
    """(label, bytes) of damaged models."""
    labels = sorted(originals)
    for i in range(count):
        label = labels[i % len(labels)]
        data = originals[label]
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            try:
                data = edit_tree(rng, data, list(originals.values())) if rng.random() < 0.8 else edit_bytes(rng, data)
            except (IndexError, TypeError):  # no longer a tree after earlier damage
                data = edit_bytes(rng, data)
        yield label, data


def main(folder, count, seed=1):
    for name in ("seeds", "mutants"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        for old in glob.glob(os.path.join(folder, name, "*")):
            os.remove(old)
    all_seeds = {**seeds(), **sequence_seeds(), **control_seeds()}
    originals = {name: model.SerializeToString() for name, model in all_seeds.items()}
    for name in ("seeds", "mutants"):
        originals["external"] = external_seed(os.path.join(folder, name)).SerializeToString()
    for name, data in originals.items():
        with open(os.path.join(folder, "seeds", name + ".onnx"), "wb") as out:
            out.write(data)
    own = len(originals)
    for i, data in enumerate(official_seeds()):
        originals[f"official{i:02d}"] = data
    rng = random.Random(seed)
    for i, (label, data) in enumerate(mutants(rng, originals, count)):
        with open(os.path.join(folder, "mutants", f"{i:05d}-{label}.onnx"), "wb") as out:
            out.write(data)
    print(f"{own} seeds, {len(originals) - own} official models, {count} mutants")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
