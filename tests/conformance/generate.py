"""Write the ONNX project's operator tests as folders for node_tests: generate.py OUTPUT (needs the package onnx).

Packages of onnx before 1.19 bring these folders ready-made in backend/test/data/node; newer ones only make them.
"""

import pathlib
import sys

from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

SERIALIZERS = {
    "sequence_type": numpy_helper.from_list,
    "optional_type": numpy_helper.from_optional,
    "map_type": numpy_helper.from_dict,
}


def serialize(value, info):
    """One input or output of a test as the bytes of its protocol buffer."""
    if not isinstance(value, TensorProto):
        kind = info.type.WhichOneof("value")
        value = SERIALIZERS.get(kind, numpy_helper.from_array)(value, info.name)
    return value.SerializeToString()


def main():
    output = pathlib.Path(sys.argv[1])
    count = 0
    for case in collect_testcases(None):
        folder = output / case.name
        data = folder / "test_data_set_0"
        data.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(case.model.SerializeToString())
        inputs, outputs = case.data_sets[0]
        for name, values, infos in (
            ("input", inputs, case.model.graph.input),
            ("output", outputs, case.model.graph.output),
        ):
            for index, value in enumerate(values):
                (data / f"{name}_{index}.pb").write_bytes(serialize(value, infos[index]))
        count += 1
    print(f"{count} tests in {output}")


if __name__ == "__main__":
    main()
