#!/usr/bin/env python3
"""What the start of each stage costs: ``--help``, imports, a smallest run with empty and with filled kernel caches.

usage: python benchmarks/startup.py --output benchmarks/results/startup_cpu.json [--backend gpu] [--repeats 3]

The stages run one after the other on the two Visium sections of tests/data, each in a process of its own as the workflow
starts it. ``start`` is from the start of the process to that of its work, as the stage itself records it; ``run`` is the
whole process. Seconds are the least of the repeats; CPU seconds stand beside them, as a machine that does other things too
lengthens the others.
"""

import collections
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
CACHES = {"NUMBA_CACHE_DIR": "numba", "CUPY_CACHE_DIR": "cupy", "CUDA_CACHE_PATH": "cuda", "MPLCONFIGDIR": "matplotlib"}
STORE, CLUSTERED = ["--store", "merged.h5ad"], ["--preprocess", "preprocess.h5ad", "--cluster", "cluster.h5ad", "--tables", "tables"]
GRAPH = ["--neighbors", "neighbors.h5ad", "--representation", "integrate.h5ad"]
REPORT = ["--qc", "normal.qc.h5ad", "--tables", "of_report", "--parameters", "parameters.json"]
DELTAS = [f"{name}.h5ad" for name in ("preprocess", "integrate", "neighbors", "embed", "cluster", "markers", "activity", "spatial")]
# Stage, output, arguments; a stage reads what those before it wrote. The first run of a stage gives its row.
STAGES = (
    *(("ingest", f"{s}.h5ad", ["--input", str(DATA / f"visium_prostate_{s}.h5ad"), "--sample", s]) for s in ("normal", "cancer")),
    *(("qc", f"{s}.qc.h5ad", ["--store", f"{s}.h5ad", "--sample", s]) for s in ("normal", "cancer")),
    ("merge", "merged.h5ad", [word for s in ("normal", "cancer") for word in ("--store", f"{s}.h5ad", "--qc", f"{s}.qc.h5ad")]),
    ("preprocess", "preprocess.h5ad", STORE),
    ("integrate", "integrate.h5ad", [*STORE, "--preprocess", "preprocess.h5ad"]),
    ("neighbors", "neighbors.h5ad", ["--representation", "integrate.h5ad"]),
    ("embed", "embed.h5ad", GRAPH),
    ("cluster", "cluster.h5ad", GRAPH),
    ("markers", "markers.h5ad", [*STORE, *CLUSTERED]),
    ("activity", "activity.h5ad", [*STORE, *CLUSTERED, "--network", str(ROOT / "assets" / "msigdb_hallmark.csv")]),
    ("spatial", "spatial.h5ad", [*STORE, *CLUSTERED, "--sample", "normal", "--spatial-stats", "moran"]),
    ("assemble", "adata.h5ad", [*STORE, *(word for name in DELTAS for word in ("--delta", name))]),
    (
        "report",
        "report.html",
        ["--adata", "adata.h5ad", "--qc", "normal.qc.h5ad", "--tables", "of_report", "--parameters", "parameters.json"],
    ),
)
WITHOUT_BACKEND = ("ingest", "merge", "assemble", "report")
IMPORTED = """
import sys
from rsc_core import cli
cli.leave_out()
__import__("rsc_core.stages." + sys.argv[1])
"""


def timed(command, folder, env) -> tuple[float, float]:
    """Seconds and seconds of CPU of a command that must succeed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(list(map(str, command)), cwd=folder, env=env, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise click.ClickException(f"{' '.join(map(str, command))}\n{done.stderr}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def least(command, folder, env, repeats) -> dict:
    """The least seconds, and the least seconds of CPU, of some repeats."""
    found = [timed(command, folder, env) for _ in range(repeats)]
    return {"seconds": round(min(row[0] for row in found), 3), "cpu_seconds": round(min(row[1] for row in found), 3)}


def row(stage, output, arguments, folder, backend, repeats) -> dict:
    """All that is measured of one stage."""
    script = [sys.executable, ROOT / "bin" / f"{stage}.py"]
    env = os.environ | {"PYTHONPATH": str(ROOT / "python"), "RSC_CORE_WITHOUT": "dask,xarray,zarr,numcodecs"}
    env |= {name: str(folder / "caches" / stage / place) for name, place in CACHES.items()}
    run = [*script, "--output", output, *arguments, *([] if stage in WITHOUT_BACKEND else ["--backend", backend])]
    found = {"stage": stage, "help": least([*script, "--help"], folder, env, repeats)}
    found["import"] = least([sys.executable, "-c", IMPORTED, stage], folder, env, repeats)
    found["run_cold"] = least(run, folder, env, 1)
    found["run_warm"] = least(run, folder, env, repeats)
    found["start"] = json.loads((folder / f"{output}.run.json").read_text())["start_seconds"]
    traced = subprocess.run(
        list(map(str, [sys.executable, "-X", "importtime", *run[1:]])), cwd=folder, env=env, capture_output=True, text=True
    )
    return found | {"import_seconds": import_seconds(traced.stderr)}


def import_seconds(text: str) -> dict:
    """Seconds that each package's own modules took, from what ``-X importtime`` prints; those of a hundredth and more."""
    found = collections.Counter()
    for own, name in re.findall(r"^import time: +(\d+) \| +\d+ \| +([\w.]+)", text, re.MULTILINE):
        found[name.split(".")[0]] += int(own) / 1e6
    return {name: round(seconds, 3) for name, seconds in found.most_common() if seconds >= 0.01}


@click.command()
@click.option("--backend", type=click.Choice(["cpu", "gpu"]), default="cpu")
@click.option("--repeats", type=click.IntRange(1), default=3)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="JSON file.")
def main(backend, repeats, output):
    """Write the rows, which docs/pages.py makes a table of."""
    from rsc_core import __version__
    from rsc_core.backend import device_name

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "parameters.json").write_text("{}")
        for stage, file, arguments in STAGES:
            found = row(stage, file, arguments, Path(folder), backend, repeats)
            if stage not in [other["stage"] for other in rows]:
                print(f"{stage}: {found}", file=sys.stderr)
                rows.append(found)
    machine = {"device": device_name(backend), "cpus": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    result = {"what": "start of each stage on the two Visium sections of tests/data, one process each"}
    result |= {"date": date.today().isoformat(), "rsc_core": __version__, "backend": backend, "machine": machine, "rows": rows}
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
