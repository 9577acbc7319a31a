#!/usr/bin/env python3
"""Run the tests of the CUDA kernels under compute-sanitizer, several at a time, and write what it found as JSON.

usage: python benchmarks/sanitize.py --output sanitizer.json [--tool memcheck --tool racecheck] [tests/test_x.py ...]

Only own kernels are checked (CuPy's and RAPIDS' would take hours); a broken kernel checked with the same options shows
that the tool sees them. CuPy's memory pool is off, so that the end of every array is known to the tool.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = "not (real or libraries or harmonypy or umap_learn or stage or pancreas)"  # minutes in the references
CONTROL = """
import cupy
cupy.cuda.set_allocator(None)
kernel = cupy.RawKernel('extern "C" __global__ void NAME(int* a) { a[threadIdx.x] = 1; __shared__ int b[2]; if (threadIdx.x < 2) b[0] = '
                        'threadIdx.x; __syncthreads(); a[0] = b[0]; }', "NAME")
kernel((1,), (64,), (cupy.zeros(3, "int32"),))
cupy.cuda.runtime.deviceSynchronize()
"""


def kernel_names():
    """Every own kernel, from the sources."""
    sources = sorted((ROOT / "python/rsc_core/kernels").glob("*.cu"))
    return sorted(
        {
            name
            for source in sources
            for name in re.findall(r'extern "C" __global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(', source.read_text())
        }
    )


def checked(tool, command, names, seconds):
    """Run a command under one tool of the sanitizer; its output and number of errors (None: no summary came)."""
    filters = [part for name in names for part in ("--kernel-name", f"kernel_name={name}")]
    options = ["--racecheck-report", "all"] if tool == "racecheck" else []
    full = ["timeout", str(seconds), "compute-sanitizer", "--tool", tool, "--print-limit", "20", *options, *filters, *command]
    with tempfile.TemporaryFile("w+") as log:
        subprocess.run(
            full, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=os.environ | {"RSC_CORE_TEST_PLAIN_ALLOCATOR": "1"}, check=False
        )
        log.seek(0)
        text = log.read()
    summary = re.search(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): (\d+)", text)
    return text, int(summary[1]) if summary else None


def run_file(tool, test, names, seconds):
    """One test file under one tool: what passed, the errors, the kernels that ran."""
    with tempfile.NamedTemporaryFile("r") as log:
        os.environ.setdefault("PYTHONPATH", "")
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "gpu", "-k", NOT_OURS]
        command = [
            "env",
            f"PYTHONPATH={Path(__file__).parent}:{os.environ['PYTHONPATH']}",
            f"KERNEL_LOG={log.name}",
            *pytest,
            "-p",
            "sanitize",
            test,
        ]
        text, errors = checked(tool, command, names, seconds)
        ran = log.read().split()
    result = re.search(r"(\d+) passed", text)
    return {
        "tool": tool,
        "test": test,
        "errors": errors,
        "passed": int(result[1]) if result else 0,
        "failed": int(m[1]) if (m := re.search(r"(\d+) failed", text)) else 0,
        "kernels": ran,
        "log": "" if errors == 0 and result else text[-6000:],
    }


def summary(tools, names, seen, rows):
    """The figures of what has been done so far."""
    ran = {tool: sorted({k for row in rows if row["tool"] == tool for k in row["kernels"]} & set(names)) for tool in tools}
    return {
        "what": "own kernels under compute-sanitizer, CuPy's memory pool off",
        "date": str(date.today()),
        "control_was_found": seen,
        "errors": {tool: sum(row["errors"] or 0 for row in rows if row["tool"] == tool) for tool in tools},
        "kernels_checked": {tool: len(ran[tool]) for tool in tools},
        "kernels_not_run": {tool: sorted(set(names) - set(ran[tool])) for tool in tools},
        "rows": sorted(rows, key=lambda row: (row["tool"], row["test"])),
    }


@click.command()
@click.option("--output", required=True)
@click.option("--tool", "tools", multiple=True, default=["memcheck", "racecheck"])
@click.option("--jobs", default=14, show_default=True)
@click.option("--seconds", default=280, show_default=True, help="Time limit of one test file under one tool.")
@click.argument("tests", nargs=-1)
def main(output, tools, jobs, seconds, tests):
    """Check the kernels; exit code 1 if anything was found or a control was not."""
    names = kernel_names()
    control = [sys.executable, "-c", CONTROL.replace("NAME", names[0])]
    rows, seen = [], {}
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(run_file, tool, test, names, seconds): None for test in tests for tool in tools}
        waiting |= {pool.submit(checked, tool, control, names, 60): tool for tool in tools}
        for done in as_completed(waiting):
            if waiting[done]:
                seen[waiting[done]] = (done.result()[1] or 0) > 0
            else:
                rows.append(done.result())
            figures = summary(tools, names, seen, rows)
            Path(output).write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({k: v for k, v in figures.items() if k != "rows"}, indent=1))
    for row in rows:
        print(row["tool"], row["test"], "errors", row["errors"], "passed", row["passed"], "failed", row["failed"])
    sys.exit(not (all(seen.values()) and all(row["errors"] == 0 for row in rows)))


def pytest_configure(config):
    """As a plugin of pytest: writes the name of every kernel that is launched to ``$KERNEL_LOG``."""
    from rsc_core import backend

    plain, seen, log = backend.module, set(), open(os.environ["KERNEL_LOG"], "a")  # noqa: SIM115 (open until the process ends)

    class Recorded:
        def __init__(self, module):
            self.module = module

        def get_function(self, name):
            if name not in seen:
                seen.add(name)
                print(name, file=log, flush=True)
            return self.module.get_function(name)

    backend.module = lambda source: Recorded(plain(source))


if __name__ == "__main__":
    main()
