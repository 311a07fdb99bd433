"""Run the ONNX project's own tests through libxai.onnx_backend: official.py RESULTS [--only PART] [--update].

Each test runs twice, with the fast kernels and with the portable ones, and is compared by the official runner. What
libxai refuses with a clear error is no failure; RESULTS names every test with its outcome, one a line:

    passed NAME | refused NAME: reason | wrong NAME: what differs | crashed NAME: how

passing.txt lists the tests that must pass; --update writes it anew. known.txt lists tests whose expected numbers we do
not give, and why. A test that is listed in passing.txt and does not pass, or is wrong and not in known.txt, or crashes,
is a failure.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import sys
import unittest
import warnings
from collections import Counter

HERE = pathlib.Path(__file__).resolve().parent
PRECISIONS = ("standard", "reference")
SECONDS = 120  # a test


def make_suites():
    """Return the official test methods by name, once for each precision."""
    import onnx.backend.test
    from libxai import onnx_backend

    suites = []
    for precision in PRECISIONS:

        class Adapted(onnx_backend.LibXaiBackend):
            """The backend with one precision."""

            chosen = precision

            @classmethod
            def prepare(cls, model, device="CPU", **kwargs):
                return super().prepare(model, device, precision=cls.chosen, threads=1)

            @classmethod
            def is_compatible(cls, model, device="CPU", **kwargs):
                return True  # the reason of a refusal is wanted, not a skip

        found = {}
        for case in onnx.backend.test.BackendTest(Adapted, __name__).test_cases.values():
            for name in dir(case):
                # Models that would have to be downloaded are left out (the light_ ones come with the package).
                if name.endswith("_cpu") and not is_download(case.__name__, name):
                    found[name[: -len("_cpu")]] = (case, name)
        suites.append(found)
    return suites


def is_download(category, name):
    """Tell whether the official runner would fetch a model for this test."""
    return category == "OnnxBackendRealModelTest" and not name.startswith("test_light_")


def run_once(case, method):
    """Run one official test; return (outcome, message)."""
    from libxai import UnsupportedError

    test = case(method)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(test, method)()
    except UnsupportedError as error:
        return "refused", str(error)
    except unittest.SkipTest as error:
        return "refused", f"skipped: {error}"
    except Exception as error:
        text = " ".join(str(error).split())
        return "wrong", f"{type(error).__name__}: {text}"[:400]
    return "passed", ""


def run_test(suites, name):
    """Run a test in every precision; the first that does not pass decides."""
    for precision, suite in zip(PRECISIONS, suites, strict=True):
        outcome, message = run_once(*suite[name])
        if outcome != "passed":
            return outcome, message if precision == "standard" else f"[{precision}] {message}"
    return "passed", ""


def child(suites, names, pipe):
    """Run tests one after another, saying before each what begins."""
    out = os.fdopen(pipe, "w")
    for name in names:
        out.write(json.dumps([name]) + "\n")
        out.flush()
        signal.alarm(SECONDS)
        outcome, message = run_test(suites, name)
        signal.alarm(0)
        out.write(json.dumps([name, outcome, message]) + "\n")
        out.flush()
    out.close()
    os._exit(0)


def run_all(suites, names):
    """Run tests in child processes, so that a crash is one result."""
    results = {}
    left = list(names)
    while left:
        read, write = os.pipe()
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            os.close(read)
            child(suites, left, write)
        os.close(write)
        running = None
        with os.fdopen(read) as lines:
            for line in lines:
                record = json.loads(line)
                running = record[0]
                if len(record) == 3:
                    results[running] = (record[1], record[2])
                    running = None
        _, status = os.waitpid(process, 0)
        if running is not None:
            how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else status
            results[running] = ("crashed", f"the process ended with {how}")
        elif status != 0:
            raise SystemExit("conformance: a process failed outside the tests")
        left = [name for name in left if name not in results]
    return results


def reason_of(message):
    """Shorten a refusal to what many tests share: no node names, no numbers of elements."""
    text = re.sub(r"^\[\w+\] ", "", message)
    text = re.sub(r"node '[^']*' \(([\w.]+)\): ", r"\1: ", text)
    text = re.sub(r"(initializer|input|output|value|model in memory)( '[^']*'|):? ?", "", text)
    return text.strip()[:110]


def listed(path):
    """Read the names in a list, without comments."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def report(results, strict, update, failures):
    """Print counts, reasons and failures, besides those already found; return their number."""
    totals = Counter(outcome for outcome, _ in results.values())
    reasons = Counter(reason_of(message) for outcome, message in results.values() if outcome == "refused")
    for reason, count in reasons.most_common(25):
        print(f"refused {count:4d}  {reason}")
    if len(reasons) > 25:
        print(f"refused {sum(reasons.values()) - sum(c for _, c in reasons.most_common(25)):4d}  for other reasons")
    known, expected = listed(HERE / "known.txt"), listed(HERE / "passing.txt")
    passed = {name for name, (outcome, _) in results.items() if outcome == "passed"}
    for name, (outcome, message) in sorted(results.items()):
        if outcome == "crashed" or (outcome == "wrong" and name not in known):
            print(f"{outcome} {name}: {message}")
            failures += 1
        elif name in expected and outcome != "passed":
            print(f"no longer passes: {name}: {outcome}, {message}")
            failures += 1
    for name in sorted(known & passed):
        print(f"known.txt lists {name}, which passes")
        failures += 1
    for name in sorted(expected - set(results)) if strict else ():
        print(f"passing.txt lists {name}, which this version of onnx does not have")
        failures += 1
    new = passed - expected
    if update:
        text = "# Official tests that must pass: tests/conformance/official.py --update writes this list.\n"
        (HERE / "passing.txt").write_text(text + "".join(f"{name}\n" for name in sorted(passed)))
    elif new and strict:
        print(f"{len(new)} tests pass that passing.txt does not list (tests/conformance/run --update)")
    wrong = totals["wrong"]
    print(
        f"executed and passed {totals['passed']}, refused {totals['refused']}, "
        f"wrong {wrong} ({wrong - failed_wrong(results, known)} in known.txt), "
        f"crashed {totals['crashed']}"
    )
    print(f"{len(passed)} passed, {failures} failed, {wrong - failed_wrong(results, known)} skipped")
    return failures


def failed_wrong(results, known):
    """Count wrong tests that known.txt does not excuse."""
    return sum(outcome == "wrong" and name not in known for name, (outcome, _) in results.items())


def main():
    """Run, write RESULTS, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--only", default="", help="tests whose name contains this")
    parser.add_argument("--update", action="store_true", help="write passing.txt anew")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    suites = make_suites()
    names = sorted(name for name in suites[0] if arguments.only in name)
    results = run_all(suites, names)
    lines = (f"{o} {name}{': ' + m if m else ''}\n" for name, (o, m) in sorted(results.items()))
    arguments.results.write_text("".join(lines))
    outdated = 0
    if not arguments.only:
        import operators

        outdated = operators.check(results, arguments.update)
    sys.exit(report(results, not arguments.only, arguments.update, outdated) > 0)


if __name__ == "__main__":
    main()
