#!/usr/bin/env python3
"""Run the CUDA kernels under compute-sanitizer, the quickest tests of each, several at a time; what was found as JSON.

usage: python benchmarks/sanitize.py --output benchmarks/results/sanitizer.json [--tool memcheck --tool racecheck]

First the GPU tests run plainly, to learn which test launches which kernel and how long it takes; then each kernel's
quickest tests run under the tools. Only own kernels are checked (CuPy's and RAPIDS' would take hours); a broken kernel
checked with the same options shows that the tool sees them. CuPy's memory pool is off, so that the end of every array is
known to the tool. The output keeps each kernel with the digest of its source: what was checked before and has not changed
since is not checked again. That the kernels equal their twins is shown without a GPU, too: ``tests/emulator``.
"""

import collections
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOUND = re.compile(r"^========= (?:Error:|Invalid|Uninitialized|Race|Potential|Program hit|ERROR: )", re.MULTILINE)
CONTROL = """
import cupy
cupy.cuda.set_allocator(None)
kernel = cupy.RawKernel('extern "C" __global__ void NAME(int* a) { a[threadIdx.x] = 1; __shared__ int b[2]; if (threadIdx.x < 2) b[0] = '
                        'threadIdx.x; __syncthreads(); a[0] = b[0]; }', "NAME")
kernel((1,), (64,), (cupy.zeros(3, "int32"),))
cupy.cuda.runtime.deviceSynchronize()
"""


def kernel_digests() -> dict:
    """Every own kernel as ``file.name``, and the digest of the source that it is compiled from."""
    sys.path.insert(0, str(ROOT / "python"))
    from rsc_core import backend

    found = {}
    for source in sorted((ROOT / "python/rsc_core/kernels").glob("*.cu")):
        digest = hashlib.sha256(backend.cuda_source(source).encode()).hexdigest()[:16]
        names = re.findall(r'extern "C" __global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(', source.read_text())
        found |= dict.fromkeys((f"{source.stem}.{name}" for name in names), digest)
    return found


def run_tests(tests, launches, prefix=(), seconds=600, extra=()):
    """pytest with this file as a plugin, its output as text; what was launched goes to the file ``launches``."""
    environment = os.environ | {
        "KERNEL_LOG": str(launches),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT / "python"), os.environ.get("PYTHONPATH", "")]),
        "RSC_CORE_TEST_PLAIN_ALLOCATOR": "1" if prefix else "",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "sanitize", "-m", "gpu", *extra, *tests]
    with tempfile.TemporaryFile("w+") as log:
        limited = ["timeout", str(seconds), *prefix, *command]
        subprocess.run(limited, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, check=False)
        log.seek(0)
        return log.read()


def tool_command(tool, names):
    """The sanitizer with one tool, for these kernels alone (and others of the same name, which it cannot tell apart)."""
    filters = [part for name in sorted({name.split(".")[-1] for name in names}) for part in ("--kernel-name", f"kernel_name={name}")]
    options = ["--racecheck-report", "all"] if tool == "racecheck" else []
    return ["compute-sanitizer", "--tool", tool, "--print-limit", "20", *options, *filters]


def control_found(tool, name):
    """Whether the tool sees the error of a broken kernel."""
    command = [*tool_command(tool, [name]), sys.executable, "-c", CONTROL.replace("NAME", name.split(".")[-1])]
    text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    return bool(FOUND.search(text))


def read_launches(path):
    """Rows (test, seconds, kernel) of the plugin's file."""
    rows = (line.split("\t") for line in Path(path).read_text().splitlines())
    return [(test, float(seconds), kernel) for test, seconds, kernel in rows]


def chosen_tests(rows, kernels, per_kernel):
    """The quickest tests that launch each kernel ``per_kernel`` times together, where there are so many; test -> seconds."""
    by_kernel = collections.defaultdict(list)
    for test, seconds, kernel in rows:
        by_kernel[kernel].append((seconds, test))
    chosen = {}
    for kernel in sorted(kernels, key=lambda k: len(by_kernel[k])):  # those that few tests launch first
        missing = per_kernel - sum(test in chosen for _, test in by_kernel[kernel])
        fresh = sorted(pair for pair in by_kernel[kernel] if pair[1] not in chosen)
        chosen |= {test: seconds for seconds, test in fresh[: max(0, missing)]}
    return chosen


def in_groups(chosen, count):
    """Tests in groups of about the same number of seconds."""
    groups = [[] for _ in range(count)]
    totals = [0.0] * count
    for test, seconds in sorted(chosen.items(), key=lambda pair: -pair[1]):
        least = totals.index(min(totals))
        groups[least].append(test)
        totals[least] += seconds + 0.5
    return [group for group in groups if group]


def check(tool, tests, names, deadline):
    """Tests under a tool: the kernels that ran, the number of findings, the end of the output where there are any."""
    with tempfile.NamedTemporaryFile("r") as log:
        seconds = max(1, int(deadline - time.monotonic()))
        text = run_tests(tests, log.name, tool_command(tool, names), seconds, ["-p", "no:xdist"])
        ran = collections.Counter(kernel for _, _, kernel in read_launches(log.name))
    found = len(FOUND.findall(text))
    failed = re.findall(r"^FAILED (\S+)", text, re.MULTILINE)
    passed = re.search(r"(\d+) passed", text)
    whole = passed is not None or bool(failed)
    result = {"tool": tool, "findings": found, "passed": int(passed[1]) if passed else None, "failed": failed, "ended": whole}
    return ran, result | ({"log": text[-6000:]} if found or failed else {})


class Record:
    """The output: for each kernel the digest of its source and the number of tests it passed under each tool."""

    def __init__(self, path, digests):
        self.path = Path(path)
        old = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.kernels = {k: v for k, v in old.get("kernels", {}).items() if digests.get(k) == v["source"]}
        self.digests, self.runs, self.controls = digests, [], {}

    def stale(self, tool):
        """Kernels that have not been under the tool since their source changed."""
        return [name for name in self.digests if not self.kernels.get(name, {}).get(tool)]

    def add(self, tool, ran, result):
        """Count what ran without findings; and write."""
        for name, times in ran.items() if not result["findings"] else ():
            entry = self.kernels.setdefault(name, {"source": self.digests[name]})
            entry[tool] = entry.get(tool, 0) + times
            entry["date"] = str(date.today())
        self.runs.append(result)
        self.write()

    def write(self):
        """Write the file."""
        from rsc_core import backend

        figures = {
            "what": "own kernels under compute-sanitizer, CuPy's memory pool off: for each the number of tests passed without a finding",
            "device": backend.device_name("gpu"),
            "date": str(date.today()),
            "control_was_found": self.controls,
            "not_checked": {tool: self.stale(tool) for tool in ("memcheck", "racecheck")},
            "runs": self.runs,
            "kernels": dict(sorted(self.kernels.items())),
        }
        self.path.write_text(json.dumps(figures, indent=1) + "\n")


@click.command()
@click.option("--output", required=True)
@click.option("--tool", "tools", multiple=True, default=["memcheck", "racecheck"])
@click.option("--launches", default=None, help="What an earlier plain run wrote; it is made where it is missing.")
@click.option("--tests", "per_kernel", default=3, show_default=True, help="Tests for each kernel.")
@click.option("--jobs", default=14, show_default=True, help="Processes at a time.")
@click.option("--seconds", default=500, show_default=True, help="Time limit of everything after the plain run.")
def main(output, tools, launches, per_kernel, jobs, seconds):
    """Check the kernels; exit code 1 if anything was found, a kernel was left out or a control was not found."""
    digests = kernel_digests()
    record = Record(output, digests)
    launches = launches or tempfile.NamedTemporaryFile(delete=False).name  # noqa: SIM115 (its name alone is used)
    if not Path(launches).exists() or not Path(launches).stat().st_size:
        print(run_tests(["tests"], launches, extra=["-n", str(jobs)])[-2000:])
    rows, deadline = read_launches(launches), time.monotonic() + seconds
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {}
        for tool in tools:
            names = record.stale(tool)
            groups = in_groups(chosen_tests(rows, names, per_kernel), max(1, jobs // len(tools)))
            waiting |= {pool.submit(check, tool, group, names, deadline): tool for group in groups}
        record.controls = {tool: control_found(tool, next(iter(digests))) for tool in tools}
        for done in as_completed(waiting):
            record.add(waiting[done], *done.result())
    record.write()
    left = {tool: record.stale(tool) for tool in tools}
    print(json.dumps({"findings": [r for r in record.runs if r["findings"] or r["failed"]], "not checked": left}, indent=1))
    sys.exit(not all(record.controls.values()) or any(r["findings"] for r in record.runs) or any(left.values()))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """As a plugin of pytest: writes test, seconds and each kernel that it launched to ``$KERNEL_LOG``, if the test passed."""
    from rsc_core import backend

    plain, names, start = backend.kernel, set(), time.perf_counter()

    def noted(source, name):
        names.add(f"{source.stem}.{name}")
        return plain(source, name)

    backend.kernel = noted
    outcome = yield
    backend.kernel = plain
    if outcome.excinfo is None:
        lines = "".join(f"{item.nodeid}\t{time.perf_counter() - start:.3f}\t{name}\n" for name in sorted(names))
        with open(os.environ["KERNEL_LOG"], "a") as log:
            log.write(lines)


if __name__ == "__main__":
    main()
