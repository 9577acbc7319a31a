#!/usr/bin/env python3
"""Time the whole way from counts on disk to UMAP, Leiden and markers on the CPU, each tool in processes of its own.

usage: python benchmarks/chain.py --size 90k --tool rsc_core --tool scanpy --tool brisc=/tmp/peers/bin/python --output FILE.json

A tool's name may be followed by the Python in which it is installed. Every tool goes through the same steps: cells with 200
genes or more, 2,000 genes by seurat_v3, logarithms, 50 principal components, 15 neighbours (the cell counted), Leiden at
resolution 1, UMAP, markers of the clusters, with its own defaults otherwise (brisc clusters on shared neighbours, and its
markers are no test). Each run is a new process; its first step is the import. Rows as those of run.py.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
STEPS = ("import", "read", "filter", "hvg", "normalize", "pca", "neighbors", "leiden", "umap", "markers")
LABEL = "from counts to markers"


def rsc_core(store, plain):
    """This package, from its counts store."""
    from rsc_core import data, pp, tl
    from rsc_core.io.store import CountsStore

    yield
    adata = data.load(CountsStore(store), "cpu")
    yield
    pp.filter_cells(adata, min_genes=200)
    yield
    yield from _as_scanpy(pp, tl, adata, {})


def scanpy(store, plain):
    """scanpy; Leiden as its documentation recommends."""
    import scanpy as sc

    yield
    adata = sc.read_h5ad(plain)
    yield
    sc.pp.filter_cells(adata, min_genes=200)
    yield
    yield from _as_scanpy(sc.pp, sc.tl, adata, {"flavor": "igraph", "n_iterations": 2, "directed": False})


def _as_scanpy(pp, tl, adata, leiden):
    pp.highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=2000)
    yield
    pp.normalize_total(adata, target_sum=1e4)
    pp.log1p(adata)
    yield
    pp.pca(adata, n_comps=50)
    yield
    pp.neighbors(adata, n_neighbors=15, use_rep="X_pca")
    yield
    tl.leiden(adata, resolution=1.0, **leiden)
    yield
    tl.umap(adata)
    yield
    tl.rank_genes_groups(adata, "leiden", method="t-test", use_raw=False)
    yield adata.obs["leiden"].astype(str).to_numpy(), adata.obsm["X_umap"], adata.obsm["X_pca"], ["numpy", "scipy", "numba"]


def brisc(store, plain):
    """brisc."""
    from brisc import SingleCell

    yield
    cells = SingleCell(plain)
    yield
    cells = cells.qc(min_genes=200, max_mito_fraction=None, nonzero_MALAT1=False, subset=True, allow_float=True)
    yield
    cells = cells.hvg(num_genes=2000)
    yield
    cells = cells.normalize(method="logCP10k")
    yield
    cells = cells.pca(num_PCs=50)
    yield
    cells = cells.neighbors(num_neighbors=14).shared_neighbors()
    yield
    cells = cells.cluster(resolution=1)
    yield
    cells = cells.umap()
    yield
    cells.find_markers("cluster")
    yield cells.obs["cluster"].cast(str).to_numpy(), cells.obsm["umap"], cells.obsm["pca"], ["numpy", "polars"]


def crest(store, plain):
    """CREST."""
    import crest as c

    yield
    cells = c.read_h5ad(plain)
    yield
    cells = c.pp.filter_cells(cells, min_genes=200)
    yield
    c.pp.highly_variable_genes(cells, n_top_genes=2000, flavor="seurat_v3")
    yield
    c.pp.normalize_total(cells, target_sum=1e4)
    c.pp.log1p(cells)
    yield
    c.tl.pca(cells, n_comps=50)
    yield
    c.pp.neighbors(cells, n_neighbors=15)
    yield
    c.tl.leiden(cells, resolution=1.0)
    yield
    c.tl.umap(cells)
    yield
    c.tl.rank_genes_groups(cells, "leiden", method="t-test")
    yield cells.obs["leiden"].to_numpy(), cells.obsm["X_umap"], cells.obsm["X_pca"], ["numpy", "polars"]


TOOLS = {f.__name__: f for f in (rsc_core, scanpy, brisc, crest)}
DISTRIBUTIONS = {"crest": "crest-sc"}


def child(tool, store, plain, result):
    """One run: seconds of each step, memory, and what the quality is computed from."""
    import importlib.metadata

    import numpy as np
    from bench.memory import of_process

    seconds, found, start = [], [], time.perf_counter()
    for given in TOOLS[tool](store, plain):
        seconds.append(time.perf_counter() - start)
        found.append(given)
        start = time.perf_counter()
    label, layout, components, packages = found[-1]
    memory = of_process("VmHWM")  # what getrusage tells begins with the memory of the process that started this one
    np.savez(result, label=np.asarray(label).astype(str), umap=np.asarray(layout), pca=np.asarray(components))
    own = {} if tool == "rsc_core" else {tool: importlib.metadata.version(DISTRIBUTIONS.get(tool, tool))}
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages} | own
    print(json.dumps({"seconds": dict(zip(STEPS, seconds, strict=True)), "memory": memory, "versions": versions}))


def quality(path, types) -> dict:
    """Agreement of the clusters with the true types, their number; the share of neighbours in PCA that UMAP kept."""
    import numpy as np
    from sklearn.metrics import adjusted_rand_score

    from rsc_core import metrics

    with np.load(path) as found:
        label, layout, components = found["label"], found["umap"], found["pca"]
    trust = metrics.trustworthiness(components.astype(np.float64), layout.astype(np.float64), n_neighbors=15, max_cells=3000)
    return {"ari_types": float(adjusted_rand_score(types, label)), "clusters": len(np.unique(label)), "trustworthiness": float(trust)}


def prepared(folder, n_cells, n_genes):
    """The counts store, and the same counts as a plain .h5ad without compression."""
    import anndata as ad
    import numpy as np
    from bench.inputs import prepare

    given, plain = prepare(folder, n_cells, n_genes=n_genes), Path(folder) / "plain.h5ad"
    if not plain.exists():
        ad.AnnData(X=given.store.counts().astype(np.float32), obs=given.store.obs, var=given.store.var).write_h5ad(plain)
    return given, plain


def timed(tool, python, given, plain) -> dict:
    """One run of a tool in a process of its own."""
    from run import environment

    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "result.npz"
        command = [python, __file__, "--child", tool, given.store.path, plain, result]
        done = subprocess.run(list(map(str, command)), env=environment(), capture_output=True, text=True)
        if done.returncode:
            return {"failed": done.stderr[-2000:]}
        run = json.loads(done.stdout.splitlines()[-1])
        return run | {"quality": quality(result, given.store.obs["cell_type"].to_numpy())}


def rows_of(tool, size, given, runs) -> list[dict]:
    """A row for each step and one for all, from the runs of a tool."""
    import numpy as np

    from rsc_core import backend

    about = {
        "tool": tool, "backend": "cpu", "size": size, "label": LABEL, "n_cells": given.n_cells, "n_genes": given.n_genes,
        "nonzeros": given.nnz, "date": date.today().isoformat(), "device": backend.device_name("cpu"),
        "cpus": len(os.sched_getaffinity(0)), "versions": runs[-1].get("versions", {}),
    }  # fmt: skip
    if "failed" in runs[-1]:
        return [about | {"step": "all", "status": "error", "reason": runs[-1]["failed"]}]
    table = {step: [run["seconds"][step] for run in runs] for step in STEPS} | {"all": [sum(run["seconds"].values()) for run in runs]}
    memory = {"peak_memory": max(run["memory"] for run in runs), "quality": runs[-1]["quality"]}
    return [
        about
        | {"step": step, "status": "ok", "first": seconds[0], "median": float(np.median(seconds)), "min": min(seconds), "max": max(seconds)}
        | {"repeats": len(seconds)}
        | memory
        for step, seconds in table.items()
    ]


def main():
    """Run the tools by turns, so that what disturbs the machine disturbs all."""
    import click

    @click.command()
    @click.option("--tool", "tools", multiple=True, required=True, help=f"{', '.join(TOOLS)}, or NAME=PYTHON; may be given several times.")
    @click.option("--size", default="90k", show_default=True)
    @click.option("--genes", "n_genes", default=25_000, show_default=True)
    @click.option("--repeats", default=3, show_default=True)
    @click.option("--inputs", default=None, help="Folder of benchmarks/run.py that has the cells already.")
    @click.option("--output", required=True)
    def command(tools, size, n_genes, repeats, inputs, output):
        from bench.inputs import number_of_cells

        named = {name: python or sys.executable for name, _, python in (tool.partition("=") for tool in tools)}
        unknown = [name for name in named if name not in TOOLS]
        if unknown:
            raise click.BadParameter(f"{unknown[0]} is none of {', '.join(TOOLS)}")
        n_cells = number_of_cells(size)
        folder = inputs or Path(tempfile.gettempdir()) / "rsc_benchmarks" / f"{n_cells}x{n_genes}_0"
        given, plain = prepared(folder, n_cells, n_genes)
        runs = {tool: [] for tool in named}
        for _ in range(repeats):
            for tool, python in named.items():
                run = timed(tool, python, given, plain)
                runs[tool].append(run)
                print(tool, run.get("failed") or {step: round(seconds, 2) for step, seconds in run["seconds"].items()}, flush=True)
        rows = [row for tool in named for row in rows_of(tool, size, given, runs[tool])]
        about = {"what": "from counts on disk to markers, a process a run", "date": date.today().isoformat()}
        Path(output).write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")

    command()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        sys.path[:0] = [str(HERE), str(HERE.parent / "python")]
        os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / "rsc_benchmarks_numba"))
        main()
