#!/usr/bin/env python3
"""Run the steps that need all cells, up to millions of them, within a limit of device memory; rows as JSON.

usage: python benchmarks/scale.py --backend gpu --size 250k --size 1.3M --size 4M --cap 20GB --total 180 --output scale.json

Cells are drawn on the backend, block by block, and kept by the host as a counts store keeps them (4 bytes a non-zero). The
library takes them in the place of a store's file: its plan of memory, its row blocks, its steps from PREPROCESS and MARKERS.
Up to ``--whole`` cells the same is done without a limit, and with one that the whole does not fit (half of what it needs):
results must have the same bytes, or the script fails. A first run of few cells, not shown, compiles the kernels.
``table.py`` makes tables of the output, growth with the cells among them.
"""

import dataclasses
import hashlib
import json
import os
import sys
import time
import traceback
from datetime import date
from pathlib import Path

import click
import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "python")]

from bench.cells import DENSE_BYTES, drawn, gene_names  # noqa: E402
from bench.inputs import number_of_cells  # noqa: E402
from bench.model import CHUNK, N_TYPES, make_cells, make_model  # noqa: E402
from bench.worker import release, versions  # noqa: E402
from table import exponent  # noqa: E402

from rsc_core import backend  # noqa: E402
from rsc_core.io.store import CountsStore  # noqa: E402
from rsc_core.pp import calculate_qc_metrics, highly_variable_genes  # noqa: E402
from rsc_core.pp._normalize import lognorm, size_factors  # noqa: E402
from rsc_core.pp._pca import principal_components, select_genes  # noqa: E402
from rsc_core.stages._clusters import row_blocks  # noqa: E402
from rsc_core.stages._counts import open_counts  # noqa: E402
from rsc_core.stages._task import Task  # noqa: E402
from rsc_core.tl._group_moments import summarize_blocks  # noqa: E402
from rsc_core.tl._rank_genes_groups import METHODS  # noqa: E402

WARM_UP = 8192  # cells of the first run
ROOM = 1.05  # of the host's arrays for more non-zeros than the first block makes expect
MARGIN = 1.2  # of the time that a size may take over what the size before it took by cell
TOGETHER = "all steps"


class KeptStore(CountsStore):
    """Counts that lie in the host's memory, not in a file."""

    obs = var = obsm = None  # are not read from a file

    def __init__(self, indptr, indices, data, obs, var):
        self.indptr, self.indices, self.data = indptr, indices, data
        self.obs, self.var, self.obsm, self.shape = obs, var, {}, (len(obs), len(var))


class Drawn:
    """Cells that were drawn so far; more of them begin with these."""

    def __init__(self, n_most: int, n_genes: int, seed: int, backend_name: str):
        self.model, self.backend, self.n_most = make_model(n_genes, seed=seed), backend_name, n_most
        self.step = max(CHUNK, DENSE_BYTES[backend_name] // (2 * n_genes) // CHUNK * CHUNK)
        self.indptr, self.kinds, self.seconds = np.zeros(1, dtype=np.int64), [], 0.0
        self.data = self.indices = None

    def first(self, n_cells: int) -> KeptStore:
        """A store of the first cells."""
        begun = time.perf_counter()
        while len(self.indptr) <= n_cells:
            start = len(self.indptr) - 1
            some = make_cells(self.model, start, min(start + self.step, n_cells))
            self.kinds.append(some.kind)
            self._keep(*drawn(self.model, some, self.backend))
        self.seconds += time.perf_counter() - begun
        nnz, kind = int(self.indptr[n_cells]), np.concatenate(self.kinds)[:n_cells]
        types = pd.Categorical.from_codes(kind, [f"type_{i:02d}" for i in range(N_TYPES)])
        obs = pd.DataFrame({"cell_type": types}, index=pd.RangeIndex(n_cells))
        n_genes = self.model.n_genes
        var = pd.DataFrame({"mt": np.arange(n_genes) < 13}, index=gene_names(n_genes))
        return KeptStore(self.indptr[: n_cells + 1], self.indices[:nnz], self.data[:nnz], obs, var)

    def _keep(self, values, indices, indptr):
        """Add a block to the arrays of the host; their pages come into being when they are first written."""
        if self.data is None:
            room = int(ROOM * self.n_most * indptr[-1] / (len(indptr) - 1))
            self.data, self.indices = np.empty(room, dtype=np.uint16), np.empty(room, dtype=np.uint16)
        here = slice(self.indptr[-1], self.indptr[-1] + indptr[-1])
        for kept, part in ((self.data, values), (self.indices, indices.astype(np.uint16))):
            backend.fill(kept[here], backend.to_host(part))
        self.indptr = np.concatenate([self.indptr, self.indptr[-1] + indptr[1:]])


def limit(backend_name: str, n_bytes: int | None) -> None:
    """Hold what follows to so many bytes of the backend's memory; None: to no limit."""
    os.environ.pop(backend.LIMITS[backend_name], None)
    if n_bytes is not None:
        os.environ[backend.LIMITS[backend_name]] = str(n_bytes)
    release(backend_name)
    backend.prepare(backend_name)


def steps(store: KeptStore, backend_name: str, n_genes: int, n_comps: int):
    """What PREPROCESS and MARKERS make of all cells: their task with its seconds and bytes, the digest of all results."""
    task = Task("scale", "none", backend_name=backend_name)
    with task.step("open"):
        adata = open_counts(task, store, n_square=n_genes)
    with task.step("qc"):
        cells, genes = calculate_qc_metrics(adata, qc_vars=["mt"])
    with task.step("size factors"):
        factor = size_factors(adata.X)
    with task.step("highly variable genes"):
        table = highly_variable_genes(adata, n_top_genes=n_genes, inplace=False)
    with task.step("principal components"):
        x = lognorm(select_genes(adata.X, np.flatnonzero(table["highly_variable"])), factor)
        axes = [backend.to_host(part) for part in principal_components(x, n_comps)]
    del adata, x
    with task.step("group sums"):
        blocks = row_blocks(store, backend_name, factor)
        moments = summarize_blocks(blocks, store.obs, "cell_type", store.var.index, with_ranks=False)
        tested = METHODS["t-test"](moments)
    del blocks
    tables = [column.to_numpy() for part in (cells, genes, table) for _, column in part.items()]
    return task, digest([*tables, factor, *axes, moments.table, *tested])


def digest(arrays) -> str:
    """SHA-256 of arrays one after the other."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


def device_bytes_in_use(backend_name: str) -> int:
    """Of the device, by this process and all others, its context and libraries included."""
    if backend_name == "cpu":
        return 0
    import cupy

    free, total = cupy.cuda.runtime.memGetInfo()
    return total - free


@dataclasses.dataclass
class Run:
    """Of a run: digest of its results, bytes that the whole matrix would need, what was wrong."""

    digest: str = ""
    needed: int = 0
    problem: str = ""


class Report:
    """The rows, written after each run."""

    def __init__(self, path, backend_name: str, genes: int):
        self.path, self.rows = Path(path), []
        self.common = {
            "tool": "rsc_core", "backend": backend_name, "device": backend.device_name(backend_name), "cpus": len(os.sched_getaffinity(0)),
            "n_genes": genes, "date": date.today().isoformat(), "versions": versions("rsc_core"),
        }  # fmt: skip

    def add(self, size: str, label: str, step: str, **found) -> None:
        """One row; ``seconds`` are those of its only call."""
        row = self.common | {"size": size, "n_cells": number_of_cells(size), "label": label, "step": step, "status": "ok"} | found
        if "seconds" in row:
            seconds = row.pop("seconds")
            row |= {"first": seconds, "median": seconds, "min": seconds, "max": seconds, "repeats": 0}
        self.rows.append(row)
        about = {"what": "steps of all cells within a limit of device memory", "growth": self.growth(), "rows": self.rows}
        self.path.write_text(json.dumps(about, indent=1) + "\n")
        told = f"{row['median']:.2f} s" if "median" in row else row["reason"]
        print(f"{size:>6} {label:>7} {step:<22} {row['status']:<8} {told}", flush=True)

    def growth(self) -> dict:
        """Exponent of each step's seconds over the cells, of the runs in row blocks."""
        seconds = {}
        for row in self.rows:
            if row.get("rung") == "blocks":
                seconds.setdefault(row["step"], {})[row["n_cells"]] = row["median"]
        return {step: round(exponent(by_cells), 3) for step, by_cells in seconds.items() if len(by_cells) > 1}


def run(report: Report, store: KeptStore, size: str, label: str, cap: int | None, options) -> Run:
    """Do the steps and add their rows; what goes wrong becomes a row."""
    backend_name = report.common["backend"]
    limit(backend_name, cap)
    try:
        task, found = steps(store, backend_name, **options)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        report.add(size, label, TOGETHER, status="error", reason=reason[:1000], cap_bytes=cap, traceback=traceback.format_exc()[-3000:])
        return Run(problem=reason)
    same = {"nonzeros": int(store.indptr[-1]), "cap_bytes": cap, "rung": task.plan.rung, "block_nonzeros": task.plan.block_nnz}
    same |= {"quality": {"sha256": found[:16]}}
    for step in task.steps:
        report.add(size, label, step["step"], seconds=step["seconds"], **memory(step, backend_name), **same)
    peak = max(step["device_bytes"] for step in task.steps)
    same |= memory(task.steps[-1] | {"device_bytes": peak}, backend_name) | {"device_bytes_in_use": device_bytes_in_use(backend_name)}
    report.add(size, label, TOGETHER, seconds=sum(step["seconds"] for step in task.steps), **same)
    over = cap is not None and peak > cap
    return Run(found, task.plan.needed, f"{peak} bytes of the device were taken, {cap} was the limit" if over else "")


def memory(step: dict, backend_name: str) -> dict:
    """Peaks of a step of a task, with the names that other benchmarks use."""
    host, device = step["peak_host_bytes"], step["device_bytes"]
    return {"peak_host_bytes": host, "peak_device_bytes": device, "peak_memory": device if backend_name == "gpu" else host}


@click.command()
@click.option(
    "--size", "sizes", multiple=True, default=["250k"], show_default=True, help="Cells, rising: 250k, 1.3M; may be given several times."
)
@click.option("--genes", type=click.IntRange(40, 1 << 16), default=25_000, show_default=True)
@click.option("--top-genes", default=2000, show_default=True, help="Highly variable genes.")
@click.option("--comps", default=50, show_default=True, help="Principal components.")
@click.option("--backend", "backend_name", type=click.Choice(backend.BACKENDS), default="cpu", show_default=True)
@click.option("--cap", default="20GB", show_default=True, help="Device memory of the runs above --whole.")
@click.option("--whole", default="250k", show_default=True, help="Up to so many cells: without a limit, too; results must be equal.")
@click.option("--total", default=180.0, show_default=True, help="Seconds; a size that will not fit into what is left is not begun.")
@click.option("--seed", default=0, show_default=True)
@click.option("--output", required=True, help="JSON file.")
def main(sizes, genes, top_genes, comps, backend_name, cap, whole, total, seed, output):
    """Draw the cells of each size, run the steps, write the rows."""
    started = time.monotonic()
    counts = [number_of_cells(size) for size in sizes]
    if counts != sorted(counts):
        raise click.UsageError("sizes must rise: the cells of one are the first of the next")
    limit(backend_name, None)
    cells, report = Drawn(counts[-1], genes, seed, backend_name), Report(output, backend_name, genes)
    options = {"n_genes": top_genes, "n_comps": comps}
    steps(cells.first(min(WARM_UP, counts[0])), backend_name, **options)
    seconds_of_cell, problems = 0.0, []
    for size, n_cells in zip(sizes, counts, strict=True):
        left = total - (time.monotonic() - started)
        if MARGIN * n_cells * seconds_of_cell > left:
            report.add(size, "capped", TOGETHER, status="not run", reason=f"about {n_cells * seconds_of_cell:.0f} s; {left:.0f} s are left")
            continue
        limit(backend_name, None)
        store, n_bytes = cells.first(n_cells), backend.parse_bytes(cap)
        nnz = int(store.indptr[-1])
        report.add(size, "", "generation", seconds=cells.seconds, nonzeros=nnz, quality={"nonzeros_of_a_cell": nnz / n_cells})
        runs = {}
        if n_cells <= number_of_cells(whole):
            runs["whole"] = run(report, store, size, "whole", None, options)
            n_bytes = min(n_bytes, runs["whole"].needed // 2 or n_bytes)
        begun = time.monotonic()
        runs["capped"] = run(report, store, size, "capped", n_bytes, options)
        seconds_of_cell = (cells.seconds + time.monotonic() - begun) / n_cells
        problems += [f"{size}, {label}: {done.problem}" for label, done in runs.items() if done.problem]
        if len({done.digest for done in runs.values() if done.digest}) > 1:
            problems.append(f"{size}: results in row blocks are not those of the whole")
    if problems:
        raise click.ClickException("\n".join(problems))


if __name__ == "__main__":
    main()
