#!/usr/bin/env python3
"""Time the first and the second call of steps in a fresh process whose kernels are in the cache already; as JSON.

usage: python benchmarks/first_call.py --backend gpu --output first_call.json FOLDER_OF_INPUTS

One process fills the cache, the next is timed. The command ends with 1 where a first call is later than allowed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "python")]
STEPS = ("neighbors", "umap", "leiden")


def seconds(folder, backend_name):
    """First and second call of each step, in this process."""
    from bench.inputs import Inputs
    from bench.steps import STEPS as ALL_STEPS
    from bench.steps import fresh
    from bench.tools import TOOLS

    from rsc_core import backend

    def place(value):
        return backend.to_device(value, backend_name)

    inputs, calls, found = Inputs(folder), TOOLS["rsc_core"](backend_name), {}
    for name in STEPS:
        template, both = ALL_STEPS[name].given(inputs, place, place), []
        for _ in range(2):
            adata = fresh(template, ALL_STEPS[name])
            backend.synchronize()
            start = time.perf_counter()
            calls[name](adata, inputs)
            backend.synchronize()
            both.append(time.perf_counter() - start)
        found[name] = {"first": both[0], "second": both[1]}
    return found


def in_a_process(folder, backend_name):
    """:func:`seconds` of a fresh process."""
    command = [sys.executable, __file__, "--backend", backend_name, "--here", folder]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


@click.command()
@click.argument("folder", type=click.Path(exists=True))
@click.option("--backend", "backend_name", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True)
@click.option("--allowed", default=1.0, show_default=True, help="Seconds that a first call may take longer than the second.")
@click.option("--here", is_flag=True, help="Time in this process and print the seconds; the command calls itself so.")
@click.option("--output", help="JSON file. [default: the screen]")
def main(folder, backend_name, allowed, here, output):
    """Fill the cache, time a fresh process, and say which first calls are late."""
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / "rsc_benchmarks_numba"))
    if here:
        print(json.dumps(seconds(folder, backend_name)))
        return
    in_a_process(folder, backend_name)
    found = in_a_process(folder, backend_name)
    late = [name for name, row in found.items() if row["first"] - row["second"] > allowed]
    text = json.dumps(
        {"backend": backend_name, "date": date.today().isoformat(), "allowed": allowed, "steps": found, "late": late}, indent=1
    )
    if output:
        Path(output).write_text(text + "\n")
    else:
        print(text)
    sys.exit(bool(late))


if __name__ == "__main__":
    main()
