"""What every stage does around its work: record of the delta, seconds and memory, versions."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rsc_core import __version__, backend
from rsc_core.io.delta import Delta, digest_of, write_delta
from rsc_core.io.files import replaced

CUPY = ("cupy-cuda12x", "cupy-cuda13x")  # distributions of CuPy, one of which a GPU image has


class Task:
    """One run of a stage.

    Parameters
    ----------
    stage
        Name of the stage, for one sample ``"stage:sample"``.
    output
        The file that the stage makes. ``<output>.run.json`` beside it takes what differs from run to run: seconds and
        memory of each step, device, host, versions.
    parameters
        What the result depends on, as the user gave it; kept in the record.
    parents
        Input files, kept in the record with their digests.
    backend
        ``"cpu"`` or ``"gpu"``; checked before anything is read.
    seed
        None for a stage without random numbers.
    packages
        Distributions whose versions the result depends on; those that are not installed are passed over.
    """

    def __init__(self, stage, output, *, parameters=None, parents=(), backend_name="cpu", seed=None, packages=()):
        if not gc.isenabled():  # a script's start (cli.run): what it imported stays, and need not be looked through
            gc.freeze()
            gc.enable()
        backend.prepare(backend_name)
        self.stage, self.output, self.backend = stage, Path(output), backend_name
        self.versions = {"python": platform.python_version(), "rsc_core": __version__} | {
            name: importlib.metadata.version(name)
            for name in sorted({"numpy", "anndata", *packages, *(CUPY if backend_name == "gpu" else ())})
            if _is_installed(name)
        }
        self.record = {
            "stage": stage,
            "parameters": parameters or {},
            "parents": dict(zip((Path(parent).name for parent in parents), _digests(parents), strict=True)),
            "backend": backend_name,
            "seed": seed,
            "versions": self.versions,
        }
        self.plan = None  # of memory, by stages._counts
        self.steps, self._started, self._start_seconds = [], time.perf_counter(), process_seconds()

    @contextlib.contextmanager
    def step(self, name: str):
        """Time a part of the stage; says on stderr that it began, with a moving sign where someone watches."""
        start = time.perf_counter()
        with _shown(f"{self.stage}: {name}"):
            yield
            backend.synchronize()
        self.steps.append(
            {
                "step": name,
                "seconds": round(time.perf_counter() - start, 4),
                "peak_host_bytes": peak_host_bytes(),
                "device_bytes": backend.peak_device_bytes(),
            }
        )

    def warn(self, cause: str, remedy: str) -> None:
        """Say what a user should know although the work goes on; the report repeats it."""
        print(f"warning: {cause}\nremedy: {remedy}", file=sys.stderr, flush=True)
        self.record.setdefault("warnings", []).append(f"{cause} {remedy}")

    def write(self, *, obs, **slots) -> None:
        """Write the stage's delta and its side file."""
        with self.step("write"):
            write_delta(self.output, Delta(self.stage, obs, record=self.record, **slots))
        self.finish()

    def finish(self) -> None:
        """Write the side file."""
        run = {
            "stage": self.stage,
            "backend": self.backend,
            "device": backend.device_name(self.backend),
            "driver": driver_version(),
            "host": platform.node(),
            "cpus": len(os.sched_getaffinity(0)),
            "started": round(time.time() - process_seconds(), 2),
            "start_seconds": round(self._start_seconds, 4),
            "process_seconds": round(process_seconds(), 4),
            "seconds": round(time.perf_counter() - self._started, 4),
            "peak_host_bytes": peak_host_bytes(),
            "peak_device_bytes": backend.peak_device_bytes(),
            "versions": self.versions,
            "warnings": self.record.get("warnings", []),
            "memory": dataclasses.asdict(self.plan) if self.plan else None,
            "steps": self.steps,
        }
        with replaced(f"{self.output}.run.json") as temporary:
            temporary.write_text(json.dumps(run, indent=1) + "\n")


@contextlib.contextmanager
def _shown(text: str):
    """A line for a file; for a terminal a spinner, and the seconds when it is done."""
    if not sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)
        yield
        return
    from rich.console import Console

    console, start = Console(stderr=True), time.perf_counter()
    with console.status(text):
        yield
    console.print(f"{text} [dim]{time.perf_counter() - start:.1f} s[/dim]", highlight=False)


def peak_host_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def driver_version() -> str:
    """Version of the machine's NVIDIA driver; empty where there is none."""
    told = Path("/proc/driver/nvidia/version")
    words = told.read_text().split() if told.exists() else []
    return next((word for word in words if word[0].isdigit() and "." in word), "")


def process_seconds() -> float:
    """Seconds since this process started, imports included."""
    started = int(Path("/proc/self/stat").read_text().rsplit(") ", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - started


def _digests(files) -> list[str]:
    with ThreadPoolExecutor(max(1, min(4, len(files)))) as threads:  # hashing does not hold the interpreter
        return list(threads.map(digest_of, files))


def _is_installed(distribution: str) -> bool:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return bool(importlib.metadata.version(distribution))
    return False
