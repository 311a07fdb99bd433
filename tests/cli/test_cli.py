"""The program `xai`: what it prints and writes, its exit codes, and that it never leaves half a file."""

import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from conftest import CARD, make_model, read_png, scores_of, write_png
from onnx import helper


def succeeds(process):
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process.stdout


def fails(process, *words):
    """Exit status 1 and one line on standard error that has these words."""
    assert process.returncode == 1, (process.returncode, process.stdout, process.stderr)
    assert process.stderr.startswith("xai: ") and process.stderr.count("\n") == 1, process.stderr
    for word in words:
        assert word in process.stderr
    return process.stderr


def misused(process, *words):
    assert process.returncode == 2, (process.returncode, process.stdout, process.stderr)
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1 and "see 'xai help" in process.stderr
    for word in words:
        assert word in process.stderr


def printed_scores(text):
    return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line.startswith("  ")}


def resized(picture, size):
    """Triangle-weighted means, the definition of the smooth resize, in float64."""

    def axis(n, out):
        scale = n / out
        support = max(scale, 1)
        centre = (np.arange(out)[:, None] + 0.5) * scale
        weights = np.maximum(1 - np.abs(np.arange(n)[None] + 0.5 - centre) / support, 0)
        return weights / weights.sum(1, keepdims=True)

    return axis(picture.shape[0], size) @ picture @ axis(picture.shape[1], size).T


# --- help, version, usage


def test_help_names_every_command(xai):
    text = succeeds(xai("help"))
    for command in ("info", "run", "explain", "methods", "bench"):
        assert f"  {command} " in text
        assert f"usage: xai {command}" in succeeds(xai("help", command))
        assert f"usage: xai {command}" in succeeds(xai(command, "--help"))


def test_version_is_that_of_the_library(xai):
    assert succeeds(xai("--version")).startswith("xai 0.1.0 (interface 1, ")


def test_methods_are_listed_with_a_line_each(xai):
    names = [line.split()[0] for line in succeeds(xai("methods")).splitlines()]
    assert {"gradcam", "gradcam++"} <= set(names)


@pytest.mark.parametrize(
    "arguments, word",
    [
        ([], "no command"),
        (["frobnicate"], "frobnicate"),
        (["help", "frobnicate"], "frobnicate"),
        (["info"], "no model"),
        (["info", "a.onnx", "b.onnx"], "b.onnx"),
        (["run", "a.onnx"], "no image"),
        (["explain", "a.onnx"], "no image"),
        (["explain", "a.onnx", "b.png", "--frob", "1"], "--frob"),
        (["explain", "a.onnx", "b.png", "--threads"], "--threads"),
        (["explain", "a.onnx", "b.png", "--threads", "two"], "two"),
        (["explain", "a.onnx", "b.png", "--threads=-1"], "-1"),
        (["explain", "a.onnx", "b.png", "--precision", "half"], "half"),
        (["run", "a.onnx", "b.png", "--precision", "half"], "half"),
        (["bench", "a.onnx", "--precision", "half"], "half"),
        (["explain", "a.onnx", "b.png", "--score", "odds"], "odds"),
        (["explain", "a.onnx", "b.png", "--scaling", "none"], "none"),
        (["explain", "a.onnx", "b.png", "--colours", "jet"], "jet"),
        (["explain", "a.onnx", "b.png", "--alpha", "2"], "2"),
        (["explain", "a.onnx", "b.png", "--alpha", "nan"], "nan"),
        (["explain", "a.onnx", "b.png", "--window", "5,5"], "5,5"),
        (["explain", "a.onnx", "b.png", "-o", "same", "--json", "same"], "same"),
        (["methods", "extra"], "extra"),
        (["bench", "a.onnx", "--runs", "0"], "--runs"),
    ],
)
def test_wrong_usage_has_status_2_and_one_line(xai, arguments, word):
    misused(xai(*arguments), word)


# --- info and run


def test_info_tells_inputs_outputs_labels_and_layers(xai, model):
    text = succeeds(xai("info", model, "--layers"))
    assert "input 'image': float32 (batch, 1, 16, 16)" in text
    assert "output 'scores': float32 (batch, 3)" in text
    assert "0 Effusion, 1 Nodule, 2 7" in text
    assert "by default" in text and "'activation' (Relu)" in text


def test_run_normalises_a_picture_as_the_card_says(xai, model, weights, image, picture):
    values = (resized(picture / 255, 16) - 0.5) / 0.25
    expected = scores_of(weights, values[None, None])[0]
    scores = printed_scores(succeeds(xai("run", model, image)))
    assert list(scores) == ["Effusion", "Nodule", "7"]
    np.testing.assert_allclose(list(scores.values()), expected, rtol=1e-4, atol=1e-5)


def test_run_reads_16_bits_with_and_without_a_window(xai, tmp_path, model, weights, picture):
    deep = picture.astype(np.uint16) * 16  # 12 bits in 16
    write_png(tmp_path / "deep.png", deep)
    for arguments, white in (([], 65535), (["--window", "0,4080"], 4080)):
        expected = scores_of(weights, ((resized(deep / white, 16) - 0.5) / 0.25)[None, None])[0]
        scores = printed_scores(succeeds(xai("run", model, tmp_path / "deep.png", *arguments)))
        np.testing.assert_allclose(list(scores.values()), expected, rtol=1e-4, atol=1e-5)


def test_gray_goes_into_three_channels_and_rgb_into_one(xai, tmp_path, model, image, picture):
    write_png(tmp_path / "rgb.png", np.stack([picture] * 3, -1))
    assert succeeds(xai("run", model, tmp_path / "rgb.png")) == succeeds(xai("run", model, image))
    weights = make_model(tmp_path / "three.onnx", {**CARD, "xai.input.mean": "[0.4, 0.5, 0.6]"}, channels=3)
    values = (resized(picture / 255, 16)[None] - np.array([0.4, 0.5, 0.6])[:, None, None]) / 0.25
    scores = printed_scores(succeeds(xai("run", tmp_path / "three.onnx", image)))
    np.testing.assert_allclose(list(scores.values()), scores_of(weights, values[None])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16), (1, 1, 16, 16)])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4"])
def test_an_npy_of_floats_is_the_tensor_itself(xai, tmp_path, model, weights, shape, dtype):
    values = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    scores = printed_scores(succeeds(xai("run", model, tmp_path / "x.npy")))
    expected = scores_of(weights, values.astype(np.float64).reshape(1, 1, 16, 16))[0]
    np.testing.assert_allclose(list(scores.values()), expected, rtol=1e-4, atol=1e-5)


def test_an_npy_of_bytes_is_a_picture(xai, tmp_path, model, image, picture):
    np.save(tmp_path / "x.npy", np.asfortranarray(picture))
    assert succeeds(xai("run", model, tmp_path / "x.npy")) == succeeds(xai("run", model, image))


def test_run_writes_the_scores_of_a_batch(xai, tmp_path, model, weights):
    values = np.random.default_rng(1).standard_normal((5, 1, 16, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    succeeds(xai("run", model, tmp_path / "x.npy", "--npy", tmp_path / "y.npy"))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), scores_of(weights, values), rtol=1e-4, atol=1e-5)


def test_top_sorts_by_score(xai, model, image):
    scores = printed_scores(succeeds(xai("run", model, image)))
    best = printed_scores(succeeds(xai("run", model, image, "--top", "2")))
    assert list(best) == sorted(scores, key=scores.get, reverse=True)[:2]


# --- explain


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_explain_writes_overlay_facts_and_map(xai, tmp_path, model, image, picture, method):
    overlay, facts, npy, values = (tmp_path / name for name in ("o.png", "f.json", "m.npy", "v.npy"))
    text = succeeds(
        xai("explain", model, image, "--method", method, "--target", "Nodule", "-o", overlay, "--json", facts,
            "--npy", npy, "--values", values)
    )  # fmt: skip
    assert text.startswith("Nodule ")
    told = json.loads(facts.read_text())
    assert told["method"] == method
    cam, drawn = np.load(npy), read_png(overlay)
    assert cam.shape == (1, 16, 16) and cam.dtype == np.float32 and cam.min() >= 0 and cam.max() <= 1
    assert np.load(values).shape == (1, 16, 16)
    assert drawn.shape == (40, 48, 3), "the picture's own size"
    flat = drawn.reshape(-1, 3)
    unchanged = (flat == picture.reshape(-1, 1)).all(1)
    assert (cam.max() > 0) == (not unchanged.all())
    for path in (overlay, facts, npy, values):
        assert oct(path.stat().st_mode & 0o777) == oct(0o666 & ~current_umask())
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["small.onnx", "image.png", "o.png", "f.json", "m.npy", "v.npy"]
    )


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_display_is_told_and_changes_no_number(xai, tmp_path, model, image):
    plain, shown = {}, {}
    for kept, extra in ((plain, []), (shown, ["--percentile", "90", "--smoothing", "1.5"])):
        text = succeeds(
            xai("explain", model, image, "--method", "saliency", "--target", "1", "-o", tmp_path / "o.png", "--json",
                tmp_path / "f.json", "--npy", tmp_path / "m.npy", *extra)
        )  # fmt: skip
        kept.update(facts=json.loads((tmp_path / "f.json").read_text()), map=np.load(tmp_path / "m.npy"), text=text)
        kept["picture"] = read_png(tmp_path / "o.png")
    assert np.array_equal(plain["map"], shown["map"]) and (plain["picture"] != shown["picture"]).any()
    display = shown["facts"].pop("display")
    assert shown["facts"] == plain["facts"]
    strongest = display.pop("strongest")
    assert display == {"row": 0, "percentile": 90, "smoothing": 1.5, "contour": 0}
    # The Gaussian by its definition, over the map mirrored at its borders.
    size, reach = 16, 6
    near = np.arange(-reach, reach + 1)
    weights = np.exp(-(near[:, None] ** 2 + near**2) / (2 * 1.5**2))
    wide = np.pad(plain["map"][0].astype(float), reach, mode="symmetric")
    window = np.lib.stride_tricks.sliding_window_view(wide, (2 * reach + 1, 2 * reach + 1))
    smoothed = (window * weights).sum((2, 3)) / weights.sum()
    assert smoothed.shape == (size, size)
    assert strongest == pytest.approx(np.percentile(smoothed[smoothed > 0], 90), rel=1e-5)
    assert "overlay: smoothed by 1.5 pixels of the map; strongest colour from " in shown["text"]
    assert "(percentile 90)" in shown["text"] and "overlay:" not in plain["text"]


def test_contour_is_drawn(xai, tmp_path, model, image):
    succeeds(xai("explain", model, image, "-o", tmp_path / "o.png", "--contour", "0.5", "--alpha", "0"))
    drawn = read_png(tmp_path / "o.png").reshape(-1, 3)
    line = (drawn == (255, 176, 0)).all(1)
    assert line.any() and (drawn[~line] == drawn[~line][:, :1]).all()  # the rest is the grey picture


@pytest.mark.parametrize(
    "option, value", [("--percentile", "0"), ("--percentile", "101"), ("--smoothing", "-1"), ("--contour", "1.5")]
)
def test_wrong_display_is_wrong_usage(xai, model, image, option, value):
    misused(xai("explain", model, image, option, value), option)


def test_a_label_wins_over_an_index(xai, model, image):
    """The label of score 2 is "7"; "1" is no label, so it is an index."""
    assert succeeds(xai("explain", model, image, "--target", "7")).startswith("7 ")
    assert succeeds(xai("explain", model, image, "--target", "1")).startswith("Nodule ")
    assert succeeds(xai("explain", model, image, "--target", "-3")).startswith("Effusion ")


def test_without_a_target_the_highest_score_is_explained(xai, model, image):
    best = next(iter(printed_scores(succeeds(xai("run", model, image, "--top", "1")))))
    assert succeeds(xai("explain", model, image)).startswith(best + " ")


@pytest.fixture
def three(tmp_path):
    """The sum of three inputs times their weights; two names differ in what files cannot carry alone."""
    names = ["picture", "patient/age", "sex"]
    weights = {name: np.random.default_rng(i).standard_normal((4, 1)).astype("f") for i, name in enumerate(names)}
    nodes = [helper.make_node("MatMul", [name, f"w{i}"], [f"s{i}"]) for i, name in enumerate(names)]
    nodes.append(helper.make_node("Sum", ["s0", "s1", "s2"], ["score"]))
    given = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in names]
    score = helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, [1, 1])
    tensors = [onnx.numpy_helper.from_array(weights[name], f"w{i}") for i, name in enumerate(names)]
    graph = helper.make_graph(nodes, "three", given, [score], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    rows = {name: np.random.default_rng(9 + i).standard_normal((1, 4)).astype("f") for i, name in enumerate(names)}
    for i, name in enumerate(names):
        np.save(tmp_path / f"x{i}.npy", rows[name])
    files = [tmp_path / f"x{i}.npy" for i in range(3)]
    return tmp_path / "m.onnx", files, [rows[name] * weights[name].T for name in names]


def test_values_of_every_input_are_written(xai, three, tmp_path):
    model, files, wanted = three
    folder = tmp_path / "a.b"  # a point in the folder's name is no ending
    folder.mkdir()
    arguments = ["explain", model, *files, "--method", "input_x_gradient", "--target", "0", "--values"]
    told = succeeds(xai(*arguments, folder / "v.npy"))
    written = [folder / name for name in ("v.npy", "v.patient_age.npy", "v.sex.npy")]
    assert sorted(folder.iterdir()) == written
    for path, values in zip(written, wanted, strict=True):
        assert f"wrote {path}\n" in told
        np.testing.assert_allclose(np.load(path), values, rtol=1e-6)
    succeeds(xai(*arguments, folder / "plain"))
    assert (folder / "plain.sex").exists() and (folder / "plain.patient_age").exists()


def test_values_that_cannot_be_written_leave_nothing(xai, three, tmp_path):
    model, files, _ = three
    (tmp_path / "v.sex.npy").mkdir()
    done = xai("explain", model, *files, "--method", "saliency", "--target", "0", "--values", tmp_path / "v.npy")
    assert done.returncode == 1 and "v.sex.npy: it is a folder" in done.stderr
    assert not (tmp_path / "v.npy").exists() and not (tmp_path / "v.patient_age.npy").exists()


def test_facts_say_what_a_sampled_explanation_rests_on(xai, model, image):
    text = succeeds(
        xai("explain", model, image, "--method", "kernel_shap", "--target", "Nodule", "--option", "segments=grid:3",
            "--option", "samples=100", "--option", "tolerance=1e-9", "--option", "baseline=0.25", "--json", "-")
    )  # fmt: skip
    facts = json.loads(text)
    (row,) = facts["rows"]
    assert facts["baseline"] == "0.25" and facts["segment_count"] == 9
    assert facts["features"] == "9 segments (grid of 3 x 3)"
    assert row["completeness_error"] <= 1e-6 and row["score"] != row["base_value"]
    assert row["evaluations"] == row["samples"] == 102 and row["converged"] is False
    assert 1e-9 < row["relative_standard_error"] < 1
    assert ["not reached" in each["text"] for each in facts["warnings"]] == [True]


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_is_told_the_time_left(xai, model, image):
    import pty

    ours, theirs = pty.openpty()
    command = [xai.program, "explain", model, image, "--method", "rise", "--option", "samples=3000000"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    try:
        told, end = b"", time.monotonic() + 60
        while not re.search(rb"\d+/3000001, \d+ s left", told) and time.monotonic() < end:
            told = told[-1000:] + os.read(ours, 4096)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert re.search(rb"\d+/3000001, \d+ s left", told)


def test_json_goes_to_standard_output(xai, model, image):
    assert json.loads(succeeds(xai("explain", model, image, "--json", "-")))["method"] == "gradcam"


def test_threads_do_not_change_a_bit(xai, tmp_path, model, image):
    for threads in ("1", "2", "3"):
        succeeds(xai("explain", model, image, "--npy", tmp_path / f"{threads}.npy", "--threads", threads))
    assert (tmp_path / "1.npy").read_bytes() == (tmp_path / "2.npy").read_bytes() == (tmp_path / "3.npy").read_bytes()


def test_every_precision_gives_the_same_map_up_to_rounding(xai, tmp_path, model, image):
    maps = []
    for precision in ("standard", "reference", "fast"):
        succeeds(xai("explain", model, image, "--npy", tmp_path / "map.npy", "--precision", precision))
        maps.append(np.load(tmp_path / "map.npy"))
        succeeds(xai("run", model, image, "--precision", precision))
    assert maps[0].any()
    assert np.allclose(maps[1], maps[0], atol=1e-3)
    assert np.allclose(maps[2], maps[0], atol=1e-3)


def test_a_symbolic_link_stays_and_its_file_is_replaced(xai, tmp_path, model, image):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("folder/real.json")
    succeeds(xai("explain", model, image, "--json", tmp_path / "link.json"))
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "folder/real.json").read_text())["method"] == "gradcam"


# --- failures


def test_errors_have_status_1_and_one_line(xai, tmp_path, model, image):
    fails(xai("info", tmp_path / "absent.onnx"), "absent.onnx")
    fails(xai("info", tmp_path), str(tmp_path))
    fails(xai("info", image))
    fails(xai("run", model, tmp_path / "absent.png"), "absent.png", "No such file")
    fails(xai("run", model, model), "neither a PNG nor an NPY")
    fails(xai("explain", model, image, "--method", "gradcan"), "gradcan", "gradcam")
    fails(xai("explain", model, image, "--target", "Effussion"), "Effussion")
    fails(xai("explain", model, image, "--target", "3"), "3")
    fails(xai("explain", model, image, "--layer", "nowhere"), "nowhere")
    fails(xai("explain", model, image, "--output", "nowhere"), "nowhere")
    fails(xai("explain", model, image, "--threads", "5000"))
    fails(xai("run", model, image, image), "1 input")


def test_a_line_break_in_a_path_stays_one_line(xai):
    fails(xai("info", "two\nlines\x1b[2J.onnx"))


def test_a_picture_without_a_card_tells_how_to_make_one(xai, tmp_path, image):
    make_model(tmp_path / "bare.onnx")
    fails(xai("run", tmp_path / "bare.onnx", image), "card", "docs/model-card.md", "NPY")
    (tmp_path / "bare.xai.json").write_text('{"input": {"range": [0, 1]}}')
    succeeds(xai("run", tmp_path / "bare.onnx", image))


def test_a_tensor_of_another_size_is_refused(xai, tmp_path, model):
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 16), np.float32))
    fails(xai("run", model, tmp_path / "x.npy"), "16")


def test_not_a_number_in_the_input_is_refused(xai, tmp_path, model):
    values = np.zeros((1, 1, 16, 16), np.float32)
    values[0, 0, 3, 5] = np.nan
    np.save(tmp_path / "x.npy", values)
    fails(xai("explain", model, tmp_path / "x.npy"))


def test_every_cut_picture_is_refused(xai, tmp_path, model, image):
    data = image.read_bytes()
    for length in (0, 7, 8, 20, 33, 60, len(data) - 13, len(data) - 1):
        (tmp_path / "cut.png").write_bytes(data[:length])
        fails(xai("run", model, tmp_path / "cut.png"), "cut.png")


def test_a_damaged_picture_is_refused(xai, tmp_path, model, image):
    data = bytearray(image.read_bytes())
    data[60] ^= 0xFF
    (tmp_path / "damaged.png").write_bytes(data)
    fails(xai("run", model, tmp_path / "damaged.png"), "damaged.png")


def test_a_picture_that_claims_to_be_vast_is_refused_at_once(xai, tmp_path, model):
    write_png(tmp_path / "one.png", np.zeros((1, 1), np.uint8))
    data = bytearray((tmp_path / "one.png").read_bytes())
    import struct
    import zlib

    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (tmp_path / "vast.png").write_bytes(data)
    fails(xai("run", model, tmp_path / "vast.png"), "million pixels")


def test_an_output_is_never_an_input(xai, model, image):
    before = image.read_bytes(), model.read_bytes()
    fails(xai("explain", model, image, "-o", image), "overwritten")
    fails(xai("explain", model, image, "--json", model), "overwritten")
    assert before == (image.read_bytes(), model.read_bytes())


def test_unwritable_outputs_leave_nothing(xai, tmp_path, model, image):
    fails(xai("explain", model, image, "-o", tmp_path / "absent/o.png"), "absent/o.png", "No such file")
    fails(xai("explain", model, image, "-o", tmp_path), "folder")
    good = tmp_path / "facts.json"
    good.write_text("old")
    fails(xai("explain", model, image, "--json", good, "--npy", tmp_path / "absent/m.npy"))
    assert good.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["facts.json", "image.png", "small.onnx"]


def test_a_failure_after_the_outputs_were_opened_leaves_nothing(xai, tmp_path, model):
    np.save(tmp_path / "x.npy", np.full((1, 1, 16, 16), np.inf, np.float32))
    fails(xai("explain", model, tmp_path / "x.npy", "-o", tmp_path / "o.png", "--json", tmp_path / "f.json"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.onnx", "x.npy"]


@pytest.mark.parametrize("option", ["-o", "--json", "--npy"])
def test_a_full_disk_is_one_error_and_leaves_the_device(xai, model, image, option):
    fails(xai("explain", model, image, option, "/dev/full"), "/dev/full", "No space left")
    assert os.stat("/dev/full").st_rdev != 0


@pytest.mark.parametrize("option", ["-o", "--json", "--npy"])
def test_a_file_that_may_not_grow_is_one_error_and_leaves_the_old_one(xai, tmp_path, model, image, option):
    """The limit on the size of files stands for a disk that runs full while writing."""
    target = tmp_path / "out"
    target.write_text("old")

    def limit():
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    fails(xai("explain", model, image, option, target, preexec_fn=limit), "cannot write", "out")
    assert target.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.png", "out", "small.onnx"]


def test_standard_output_that_cannot_be_written_is_an_error(xai, model):
    with open("/dev/full", "w") as full:
        process = xai("info", model, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    fails(process, "standard output")


# --- bench


def test_bench_prints_times_and_memory(xai, model):
    text = succeeds(xai("bench", model, "--runs", "2", "--threads", "1"))
    assert {"scores", "gradient", "gradcam"} <= {line.split()[0] for line in text.splitlines()}
    assert "peak memory" in text


def test_bench_profile_names_every_node_with_its_rate(xai, model):
    text = succeeds(xai("bench", model, "--profile", "--runs", "2", "--threads", "1"))
    lines = [line.split() for line in text.splitlines() if " Conv " in line or " Gemm " in line]
    assert {(words[1], words[-1]) for words in lines} >= {
        ("forward", "conv"),
        ("forward", "head"),
        ("backward", "conv"),
    }
    assert "scores" not in text  # instead of the times


def test_bench_json_counts_operations_and_time(xai, model, tmp_path):
    file = tmp_path / "profile.json"
    assert succeeds(xai("bench", model, "--json", file, "--runs", "3", "--threads", "1")) == ""
    facts = json.loads(file.read_text())
    assert facts["model"] == str(model)
    steps = facts["steps"]
    assert [step["step"] for step in steps] == list(range(len(steps)))
    assert [step["pass"] for step in steps] == sorted((step["pass"] for step in steps), reverse=True)
    for which in ("forward", "backward"):
        total = sum(step["milliseconds"] for step in steps if step["pass"] == which)
        assert facts[f"{which}_milliseconds"] == pytest.approx(total, abs=1e-5)
        assert total > 0
    for step in steps:
        if step["node"] == "conv" and step["operations"]:
            # 4 kernels of 3 x 3 over 16 x 16 positions, a product and a sum each; the same backward
            assert step["operations"] == 2 * 4 * 9 * 16 * 16
            assert step["gigaflops"] == pytest.approx(step["operations"] / step["milliseconds"] / 1e6, rel=0.01)


def test_bench_memory_plan_has_room_for_everything_alive(xai, model, tmp_path):
    file = tmp_path / "memory.json"
    text = succeeds(xai("bench", model, "--memory", "--json", file, "--runs", "1", "--threads", "1"))
    assert "working memory of a row" in text and "prepared weights" in text
    facts = json.loads(file.read_text())
    buffers = facts["buffers"]
    assert {"image", "activation"} <= {buffer["value"] for buffer in buffers}
    assert {"forward", "backward"} == {buffer["pass"] for buffer in buffers}
    end = facts["arena_bytes"] - facts["scratchpad_bytes"]
    assert max(buffer["offset"] + buffer["bytes"] for buffer in buffers) == end
    for i, a in enumerate(buffers):
        for b in buffers[:i]:
            together = a["first_step"] <= b["last_step"] and b["first_step"] <= a["last_step"]
            apart = a["offset"] + a["bytes"] <= b["offset"] or b["offset"] + b["bytes"] <= a["offset"]
            assert apart or not together, (a, b)


TOKENS = pathlib.Path(__file__).resolve().parents[1] / "parity/families/text.onnx"


@pytest.fixture
def sentence(tmp_path):
    """Files of ids and of a mask, (2, 10)."""
    rng = np.random.default_rng(3)
    np.save(tmp_path / "ids.npy", rng.integers(5, 30, (2, 10)))
    np.save(tmp_path / "mask.npy", np.ones((2, 10), np.int64))
    np.save(tmp_path / "absent.npy", np.full(10, 4))
    np.save(tmp_path / "words.npy", np.repeat([0, 1, 2, 3, 4], 2))
    return tmp_path / "ids.npy", tmp_path / "mask.npy"


def test_tokens_are_masked_by_a_named_id(xai, tmp_path, sentence):
    found = []
    for absent in ("4", "ids=4", f"ids={tmp_path / 'absent.npy'}"):
        options = ["--baseline", absent, "--segments", tmp_path / "words.npy", "--target", "1"]
        outputs = ["--values", tmp_path / "v.npy", "--json", tmp_path / "f.json"]
        output = succeeds(xai("explain", TOKENS, *sentence, "--method", "exact_shap", *options, *outputs))
        assert "no positive evidence" not in output
        assert "'ids': " in json.loads((tmp_path / "f.json").read_text())["baseline"]
        found.append(np.load(tmp_path / "v.npy"))
    assert found[0].shape == (2, 10)
    assert np.abs(found[0]).max() > 0
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[0][:, 0::2], found[0][:, 1::2])  # the halves of a word
    both = succeeds(xai("explain", TOKENS, *sentence, "--method", "feature_ablation", "--baseline", "ids=4,mask=0",
                        "--json", "-"))  # fmt: skip
    assert json.loads(both)["baseline"] == "'ids': 4, 'mask': 0"


@pytest.mark.parametrize(
    ("absent", "words"),
    [([], "input 'ids'"), (["--baseline", "99"], "99 is not in the table"), (["--baseline", "ids=4.5"], "4.5"),
     (["--baseline", "mask=x"], "'x'"), (["--baseline", "word=4"], "word=4")],
)  # fmt: skip
def test_absent_tokens_that_are_refused(xai, sentence, absent, words):
    fails(xai("explain", TOKENS, *sentence, "--method", "exact_shap", *absent), words)


def test_segments_of_a_picture_from_a_file(xai, tmp_path, model, image):
    labels = np.arange(16)[:, None] // 8 * 2 + np.arange(16)[None] // 8
    np.save(tmp_path / "s.npy", labels)
    command = ["explain", model, image, "--method", "exact_shap", "--values"]
    succeeds(xai(*command, tmp_path / "a.npy", "--segments", tmp_path / "s.npy"))
    succeeds(xai(*command, tmp_path / "b.npy", "--segments", "grid:2"))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
