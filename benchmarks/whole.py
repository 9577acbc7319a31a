#!/usr/bin/env python3
"""Time the whole workflow on synthetic cells, from an .h5ad on disk to the report, with real Nextflow and cold tasks.

usage: python benchmarks/whole.py --size 90k --backend gpu --output benchmarks/results/whole_90k.json

The steps are those of rapids-singlecell's announcement: preprocessing, seurat_v3 genes, regress_out, scale, PCA, Harmony,
neighbours, UMAP, t-SNE, ForceAtlas2, Louvain, Leiden, logistic regression, mlm and wsum. Each run has a work folder of its
own; ``--repeats 2`` shows what compiled kernels in the cache save.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import anndata as ad
import click
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "python")]

from bench.cells import generate  # noqa: E402
from bench.inputs import Inputs, number_of_cells  # noqa: E402
from bench.steps import PROGENY  # noqa: E402
from workflow import tasks, wall_of_run  # noqa: E402

from rsc_core import backend  # noqa: E402

PARAMETERS = {
    "hvg_flavor": "seurat_v3", "regress_out": "total_counts,pct_counts_mt", "scale": True, "batch_key": "batch",
    "embeddings": "umap,tsne,fa2", "cluster_methods": "leiden,louvain", "marker_methods": "logreg", "activity_methods": "mlm,wsum",
    "min_genes": 200, "nmads": 0, "max_mito_percent": 100,
}  # fmt: skip


def prepare(folder: Path, n_cells: int, backend_name: str, inputs: str | None) -> None:
    """Write the cells as a plain .h5ad, the network of PROGENY's size and the samplesheet."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "samplesheet.csv").exists():
        return
    made = Path(inputs or folder / "made")
    if not (made / "made.json").exists():
        made.mkdir(parents=True, exist_ok=True)
        generate(made / "counts.h5ad", n_cells, backend_name=backend_name)
        (made / "made.json").write_text(json.dumps({"backend": backend_name}))
    given = Inputs(made)
    store = given.store
    ad.AnnData(X=store.counts(), obs=store.obs, var=store.var[[]]).write_h5ad(folder / "cells.h5ad")
    given.network(*PROGENY).to_csv(folder / "network.csv", index=False)
    pd.DataFrame({"sample": ["synthetic"], "path": ["cells.h5ad"]}).to_csv(folder / "samplesheet.csv", index=False)


def run(folder: Path, backend_name: str, log) -> dict:
    """One run in a folder of its own; seconds from the command to its end, and by task."""
    work = Path(tempfile.mkdtemp(dir=folder))
    parameters = PARAMETERS | {"input": str(folder / "samplesheet.csv"), "network": str(folder / "network.csv"), "backend": backend_name}
    (work / "parameters.json").write_text(json.dumps(parameters))
    command = [ROOT / "tools/nextflow", "run", ROOT, "-params-file", "parameters.json", "-w", "work", "--outdir", "results"]
    start = time.perf_counter()
    code = subprocess.run(list(map(str, command)), cwd=work, stdout=log, stderr=log, check=False).returncode
    seconds = time.perf_counter() - start
    trace = next((work / "results/pipeline_info").glob("*trace*.txt"), None)
    found = {"exit_code": code, "seconds": seconds, "first_task_to_last": wall_of_run(trace) if trace else None}
    found |= {"report": (work / "results/report.html").exists(), "tasks": tasks(trace) if trace else []}
    shutil.rmtree(work)
    return found


@click.command()
@click.option("--size", default="90k", show_default=True, help="Cells: 3000, 90k, 500k.")
@click.option("--backend", "backend_name", type=click.Choice(backend.BACKENDS), default="cpu", show_default=True)
@click.option("--repeats", default=2, show_default=True)
@click.option("--folder", default=None, help="Where the cells are written, and kept. [default: in the system's folder for temporary files]")
@click.option("--inputs", default=None, help="Folder of benchmarks/run.py that has the cells already.")
@click.option("--output", required=True)
def main(size, backend_name, repeats, folder, inputs, output):
    """Write a row for each run."""
    n_cells, rows = number_of_cells(size), []
    folder = Path(folder or Path(tempfile.gettempdir()) / f"rsc_whole_{size}").resolve()
    prepare(folder, n_cells, backend_name, inputs)
    about = {"date": str(date.today()), "cells": n_cells, "backend": backend_name, "device": backend.device_name(backend_name)}
    with open(folder / "log", "w") as log:
        for _ in range(repeats):
            rows.append(about | run(folder, backend_name, log))
            Path(output).write_text(json.dumps({"parameters": PARAMETERS, "rows": rows}, indent=1) + "\n")
            print({key: value for key, value in rows[-1].items() if key != "tasks"}, flush=True)


if __name__ == "__main__":
    main()
