"""Progress, cancellation, memory, threads, processes."""

import concurrent.futures
import gc
import os
import subprocess
import sys
import threading

import conftest
import libxai
import numpy as np
import pytest


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_progress_counts_the_rows(model, x, mode):
    seen = []
    rows = np.concatenate([x, x])
    found = libxai.explain(
        model, rows, "gradcam", 1, mode=mode, progress=lambda done, total: seen.append((done, total))
    )
    assert found.map.shape[0] == 6
    assert {total for _, total in seen} == {6}
    done = [each for each, _ in seen]
    assert done == sorted(done) and done[-1] == 6
    assert 1 <= len(seen) <= 7


# Few evaluations; what is not named has them anyway.
SMALL = {
    "integrated_gradients": {"steps": 4},
    "lime": {"samples": 40, "segments": ("grid", 3)},
    "kernel_shap": {"samples": 40, "segments": ("grid", 3)},
    "permutation_shap": {"samples": 40, "segments": ("grid", 3)},
    "sampling_shap": {"samples": 72, "segments": ("grid", 3)},
    "partition_shap": {"samples": 30, "segments": ("grid", 3)},
    "exact_shap": {"segments": ("grid", 2)},
    "feature_ablation": {"segments": ("grid", 3)},
}


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("method", sorted(set(libxai.methods()) - {"tree_shap"}))
def test_progress_knows_its_total_from_the_beginning(model, x, method, rows):
    """A bar that jumps from full to empty, or never fills, is no bar."""
    seen = []
    options = dict(SMALL.get(method, {}))
    known = libxai.method_options(method)
    if "samples" in known and "samples" not in options:
        options["samples"] = 8
    if "background" in known and method in ("gradient_shap", "deepshap"):
        options["background"] = x[1:]
    libxai.explain(model, x[:rows], method, 1, progress=lambda done, total: seen.append((done, total)), **options)
    total = seen[0][1]
    assert total >= rows and {each for _, each in seen} == {total}, seen[:3]
    done = [each for each, _ in seen]
    assert done[0] == 0 and done[-1] == total and done == sorted(done)


def test_progress_false_cancels(model, x):
    seen = []

    def stop(done, total):
        seen.append(done)
        return False

    explainer = libxai.Explainer(model, "gradcam", progress=stop)
    with pytest.raises(libxai.CancelledError) as caught:
        explainer(np.concatenate([x, x]))
    assert caught.value.status == 8 and len(seen) == 1


def test_other_results_of_progress_go_on(model, x):
    for result in (None, True, 0, 1, "no"):
        assert libxai.explain(model, x, progress=lambda done, total, result=result: result).map.shape == (3, 20, 24)


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, libxai.ShapeError])
def test_exception_in_progress_propagates_once(model, x, kind):
    fail = [True]

    def progress(done, total):
        if fail[0]:
            raise kind("from the callback")

    explainer = libxai.Explainer(model, "gradcam", progress=progress)
    with pytest.raises(kind, match="from the callback"):
        explainer(x)
    fail[0] = False
    assert np.array_equal(explainer(x).map, libxai.explain(model, x).map)


def test_memory_limit(data, x):
    small = libxai.Model(data, memory_limit=1000)
    with pytest.raises(libxai.MemoryLimitError) as caught:
        small(x)
    assert caught.value.status == 2 and isinstance(caught.value, MemoryError)
    with pytest.raises(libxai.MemoryLimitError):
        libxai.explain(small, x)
    enough = libxai.Model(data, memory_limit=10_000_000)
    assert np.array_equal(enough(x), libxai.Model(data)(x))
    assert libxai.explain(small, x, memory_limit=10_000_000).map.shape == (3, 20, 24)


def test_threads_of_python_share_a_model(model, x):
    rows = [np.roll(x, shift, 3) for shift in range(8)]
    scores = [model(each) for each in rows]
    gradients = [model.gradient(each, 1) for each in rows]
    maps = [libxai.explain(model, each, "gradcam++", 1).map for each in rows]
    start = threading.Barrier(4)

    def work(worker):
        start.wait()
        for turn in range(24):
            i = (turn + worker) % 8
            assert np.array_equal(model(rows[i]), scores[i])
            assert np.array_equal(model.gradient(rows[i], 1), gradients[i])
            assert np.array_equal(libxai.explain(model, rows[i], "gradcam++", 1).map, maps[i])
        return True

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_other_threads_run_during_a_call(model):
    """The interpreter's lock is given back: a counter goes on while the library works."""
    big = np.random.default_rng(0).standard_normal((64, 2, 160, 160)).astype(np.float32)
    counted, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1
            stop.wait(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    libxai.Model(conftest.make_convolutional(), threads=1, precision="standard")(big)
    during = counted[0] - before
    stop.set()
    thread.join()
    assert during >= 3


def test_fork_after_use(data, tmp_path):
    """A child may use its parent's model."""
    program = """
import os, sys, numpy as np, libxai
m = libxai.Model(open(sys.argv[1], "rb").read(), threads=2)
x = np.ones((1, 2, 160, 160), np.float32)
expected = m(x)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(m(x), expected) and libxai.explain(m, x).map.shape == (1, 160, 160) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=120)


def test_end_of_the_process_is_quiet(data, tmp_path):
    """Handles that are still alive when Python ends."""
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    program = (
        "import sys, numpy as np, libxai; m = libxai.Model(sys.argv[1]); x = np.ones((1, 2, 8, 8), 'f')\n"
        "e = libxai.Explainer(m, 'gradcam', progress=lambda d, t: True); r = e(x); g = m.gradient(x)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc")
def test_memory_does_not_grow(data, x):
    def once():
        m = libxai.Model(data, threads=1)
        m(x), m.gradient(x, 1), m.activations(x, "act1")
        explainer = libxai.Explainer(m, "gradcam++", progress=lambda done, total: True)
        explainer.targets(x, [0, 1])[0].overlay(np.zeros((20, 24), np.uint8))
        for bad in (lambda: m(x[:, :1]), lambda: m.gradient(x, 9), lambda: libxai.Model(data[:500])):
            with pytest.raises(libxai.LibXaiError):
                bad()

    for _ in range(20):
        once()
    gc.collect()
    before = resident()
    for _ in range(100):
        once()
    gc.collect()
    # One kept model, or the tensors of one call, would make 100 times 50 kB.
    assert resident() - before < 2_500_000


def test_handles_are_freed_in_any_order(data, x):
    for order in range(3):
        m = libxai.Model(data)
        explainer = libxai.Explainer(m, "gradcam")
        found = explainer(x, 1)
        things = [m, explainer, found]
        del m, explainer, found
        things.pop(order)
        things.pop(0)
        gc.collect()
        assert repr(things[0])
