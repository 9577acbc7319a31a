"""One process of one tool: runs steps, times them, writes an event a line. ``run.py`` starts and watches it."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
import traceback
import warnings
from datetime import date
from pathlib import Path

import numpy as np

from bench import tools
from bench.inputs import Inputs
from bench.memory import of_process
from bench.steps import STEPS, fresh
from rsc_core import backend

PROBE_BYTES = {"cpu": 1 << 28, "gpu": 1 << 31}


class Events:
    """A file of JSON lines that the watching process reads while this one works."""

    def __init__(self, path):
        self.file = open(path, "a")  # noqa: SIM115 - open as long as the process

    def say(self, **event):
        """Write one line."""
        print(json.dumps(event, default=_plain), file=self.file, flush=True)


def _plain(value):
    """A NumPy number as Python's; anything else as text."""
    return value.item() if hasattr(value, "item") and getattr(value, "size", 0) == 1 else str(value)


def main(tool, backend_name, folder, spatial_folder, steps, repeats, budget, events_path):
    """Run the steps of a tool one after the other; an exception of one does not end the others."""
    events = Events(events_path)
    events.say(start="imports")
    warnings.simplefilter("ignore")
    if tool == "rapids_singlecell":
        _pool()
    calls = tools.TOOLS[tool](backend_name)
    inputs, spatial = Inputs(folder), Inputs(spatial_folder)
    about = {
        "tool": tool, "backend": backend_name, "device": backend.device_name(backend_name), "cpus": len(os.sched_getaffinity(0)),
        "host_platform": platform.platform(), "date": date.today().isoformat(), "versions": versions(tool), "probe": probe(backend_name),
    }  # fmt: skip
    for name in steps:
        events.say(start=name)
        step = STEPS[name]
        given = spatial if step.spatial else inputs
        row = about | {"step": name, "n_cells": given.n_cells, "n_genes": given.n_genes, "nonzeros": given.nnz}
        row["input_digest"] = given.digest(step.needs)
        row["bound_bytes"], row["bound_operations"] = (float(x) for x in step.cost(given))
        events.say(about=row)
        try:
            if name not in calls:
                raise tools.Absent(f"{tool} has no such step")
            row |= timed(calls[name], step, given, tool, backend_name, repeats, budget, events)
        except tools.Absent as error:
            row |= {"status": "absent", "reason": str(error)}
        except Exception as error:
            row |= {"status": "error", "reason": f"{type(error).__name__}: {error}"[:1000], "traceback": traceback.format_exc()[-3000:]}
        release(backend_name)
        events.say(row=row)
    events.say(end=True)


def timed(call, step, inputs, tool, backend_name, repeats, budget, events) -> dict:
    """First call, warm calls, memory and quality of one step; ``budget``: seconds after which no further warm call begins."""

    def place(value):
        return backend.to_device(value, backend_name)

    on_host = tool == "rapids_singlecell"  # keeps its graphs on the host
    template = step.given(inputs, place, (lambda value: value) if on_host else place)
    release(backend_name)
    before = reset_peaks(backend_name)
    seconds, started = [], time.perf_counter()
    adata = result = None
    for _ in range(repeats + 1):
        del adata, result
        adata = fresh(template, step)
        backend.synchronize()
        start = time.perf_counter()
        result = call(adata, inputs)
        backend.synchronize()
        seconds.append(time.perf_counter() - start)
        events.say(call=step.name, seconds=seconds[-1])
        if len(seconds) > 1 and time.perf_counter() - started > budget:
            break
    host, device = peaks(backend_name)
    warm = seconds[1:] or seconds
    row = {"status": "ok", "first": seconds[0], "median": float(np.median(warm)), "min": min(warm), "max": max(warm)}
    row |= {"repeats": len(seconds) - 1, "peak_host_bytes": host, "peak_device_bytes": device, "memory_before": before}
    row["peak_memory"] = device if backend_name == "gpu" else host
    events.say(timed=row)
    try:
        row["quality"] = step.quality(result, adata, inputs)
    except Exception as error:
        row["quality"], row["quality_error"] = None, f"{type(error).__name__}: {error}"[:1000] + traceback.format_exc()[-1500:]
    return row


def versions(tool) -> dict:
    """Versions of what a time depends on."""
    names = ["numpy", "scipy", "numba", "anndata", "cupy-cuda13x", "cupy-cuda12x", "cuml-cu13", tools.DISTRIBUTIONS.get(tool, tool)]
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    if tool == "rsc_core":
        from rsc_core import __version__

        found["rsc_core"] = __version__
    return found


def probe(backend_name) -> dict:
    """What the device can do here and now: bytes per second of a copy (read and write), float32 operations per second."""
    size = PROBE_BYTES[backend_name]
    x = backend.to_device(np.ones(size // 4, dtype=np.float32), backend_name)
    xp = backend.xp_of(x)
    y, n = xp.empty_like(x), 2048 if xp is np else 8192
    a = x[: n * n].reshape(n, n)

    def best(work):
        times = []
        for _ in range(4):
            backend.synchronize()
            start = time.perf_counter()
            work()
            backend.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)

    copy, product = best(functools.partial(y.__setitem__, slice(None), x)), best(functools.partial(xp.matmul, a, a))
    return {"bytes_per_second": 2 * size / copy, "operations_per_second": 2 * n**3 / product}


def _pool():
    """The allocator that rapids-singlecell's documentation asks for, with its peak counted."""
    import cupy
    import rmm
    from rmm.allocators.cupy import rmm_cupy_allocator

    rmm.reinitialize(pool_allocator=True)
    with contextlib.suppress(ImportError, AttributeError):
        importlib.import_module("rmm.statistics").enable_statistics()
    cupy.cuda.set_allocator(rmm_cupy_allocator)


def release(backend_name):
    """Give back the memory that nothing uses any more."""
    import gc

    gc.collect()
    if backend_name == "gpu":
        import cupy

        cupy.get_default_memory_pool().free_all_blocks()


def _statistics():
    """RMM's counters where they are on."""
    module = sys.modules.get("rmm.statistics")
    return module.get_statistics() if module else None


def reset_peaks(backend_name) -> int:
    """Start to count peaks anew; bytes that are in use now, of the device or the host."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if backend_name == "cpu":
        return of_process("VmRSS")
    found = _statistics()
    if found is not None:
        sys.modules["rmm.statistics"].push_statistics()
        return int(found.current_bytes)
    return backend.peak_device_bytes()


def peaks(backend_name) -> tuple[int, int]:
    """Largest bytes of the host and of the device since :func:`reset_peaks`; inputs that lay there count."""
    host = of_process("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if backend_name == "cpu":
        return host, 0
    if _statistics() is not None:
        return host, int(sys.modules["rmm.statistics"].pop_statistics().peak_bytes)
    return host, backend.peak_device_bytes()


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    main(**options)
