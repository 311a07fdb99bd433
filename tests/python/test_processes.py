"""Ctrl-C, progress bars, and processes made by fork and spawn."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys

import conftest
import libxai
import numpy as np
import pytest

INTERRUPT = """
import json, os, signal, sys, threading, time, numpy as np, libxai
mode, call = sys.argv[2:4]
m = libxai.Model(sys.argv[1], mode=mode, threads=2)
x = np.random.default_rng(0).standard_normal((1, 2, 192, 192)).astype("f")
calls = {
    "scores": lambda m, x: m(x),
    "gradient": lambda m, x: m.gradient(x, 0),
    "explain": lambda m, x: libxai.explain(m, x, "gradcam", 0, mode=mode),
}
run = calls[call]
run(m, x)
begin = time.monotonic()
run(m, x)
one = time.monotonic() - begin
many = np.repeat(x, 400, 0)
sent = []
def send():
    time.sleep(0.05)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=send).start()
caught = None
begin = time.monotonic()
try:
    run(m, many)
except KeyboardInterrupt:
    caught = time.monotonic()
again = run(m, x)  # everything still works
print(json.dumps({"caught": caught is not None, "after": (caught or 0) - sent[0], "one": one}))
"""


@pytest.mark.parametrize("mode", ["latency", "throughput"])
@pytest.mark.parametrize("call", ["scores", "gradient", "explain"])
def test_ctrl_c_stops_within_one_evaluation(data, tmp_path, mode, call):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT, path, mode, call], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    # 400 evaluations take far longer than this; the constant is for a busy machine.
    assert facts["caught"] and facts["after"] < 5 * facts["one"] + 0.3, facts


def test_interrupt_of_the_last_row_is_not_lost(model, x):
    """The call itself succeeds, because nothing is left to stop."""

    def progress(done, total):
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        libxai.explain(model, x, progress=progress)
    assert libxai.explain(model, x).map.shape == (3, 20, 24)


def test_progress_true_draws_a_line_without_tqdm(model, x, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    explainer = libxai.Explainer(model, "gradcam", progress=True)
    for _ in range(2):
        explainer(x)
        assert capsys.readouterr().err.endswith("\rgradcam: 3/3\x1b[K\n")


def test_progress_true_draws_with_tqdm(model, x, capsys):
    pytest.importorskip("tqdm")
    libxai.explain(model, x, progress=True)
    assert "gradcam: 100%" in capsys.readouterr().err


def test_pickle(data, tmp_path, x):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for source in (path, data):
        again = pickle.loads(pickle.dumps(libxai.Model(source, threads=1, mode="throughput")))
        assert np.array_equal(again(x), libxai.Model(data)(x)) and again._settings["mode"] == "throughput"


PROCESSES = """
import multiprocessing, sys, numpy as np, libxai

def explain(pair):
    model, x = pair
    return model(x), model.gradient(x, 0), libxai.explain(model, x, "gradcam", 0).map

def same(a, b):
    return all(np.array_equal(p, q) for p, q in zip(a, b))

if __name__ == "__main__":
    m = libxai.Model(sys.argv[2], threads=2)
    x = np.random.default_rng(0).standard_normal((2, 2, 128, 128)).astype("f")
    expected = explain((m, x))  # the parent's threads are at work before the children are made
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        found = pool.map(explain, [(m, x)] * 4)
    assert all(same(each, expected) for each in found)
    assert same(explain((m, x)), expected)
    print("same")
"""


@pytest.mark.parametrize(
    "start", sorted(set(multiprocessing.get_all_start_methods()) & {"fork", "spawn", "forkserver"})
)
def test_processes_with_threads_each(tmp_path, start):
    """GNU OpenMP's team of the parent is not there in a child made by fork; waiting for it would hang."""
    program, path = tmp_path / "many.py", tmp_path / "m.onnx"
    program.write_text(PROCESSES)
    path.write_bytes(conftest.make_convolutional())
    done = subprocess.run([sys.executable, program, start, path], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


UNLOADED = """
import sys, numpy as np, libxai
m = libxai.Model(sys.argv[1], threads=2)
m(np.zeros((2, 2, 128, 128), "f"))
"""


def test_a_process_ends_while_threads_still_spin(tmp_path):
    """The interpreter closes the library at its end; code that OpenMP's threads are in must stay mapped."""
    path = tmp_path / "m.onnx"
    path.write_bytes(conftest.make_convolutional())
    done = subprocess.run(
        [sys.executable, "-c", UNLOADED, path],
        env={**os.environ, "OMP_WAIT_POLICY": "active"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
