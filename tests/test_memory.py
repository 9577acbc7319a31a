"""The memory ladder through all stages: with little memory the results have the bytes of a run with all of it.

The stages run as the workflow starts them: one that ends with 42 begins again a rung lower, at most twice.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cases
import h5py
import numpy as np
import pandas as pd
import pytest

from rsc_core import backend
from rsc_core.io.delta import read_delta

ROOT = Path(__file__).parents[1]
PATHS = os.pathsep.join(filter(None, [str(ROOT / "python"), os.environ.get("PYTHONPATH")]))
N_CELLS, N_GENES = {"a": 4400, "b": 300}, 300  # a sample of two strips of row blocks and one of one
RETRIES = ("", "blocks", "managed")
EVERYTHING = {
    "qc": ["--min-genes", 1, "--nmads", 0, "--scrublet", "true"],
    "merge": [],
    "preprocess": ["--n-top-genes", 200, "--n-comps", 20, "--scale", "true"],
    "integrate": [],
    "neighbors": [],
    "embed": ["--embeddings", "umap,tsne,diffmap,fa2,mde", "--density", "umap"],
    "cluster": ["--cluster-methods", "leiden,louvain,kmeans", "--paga", "true"],
    "markers": ["--marker-methods", "wilcoxon,t-test,logreg", "--condition-key", "sample"],
    "activity": ["--activity-methods", "ulm,mlm,aucell,gsea,gsva,ora,viper,waggr,zscore", "--times", 20, "--activity-pseudobulk", "true"],
    "spatial": ["--spatial-stats", "moran,geary,nhood_enrichment,co_occurrence,sepal,ligrec", "--n-perms", 20, "--sample", "a"],
    "assemble": ["--output-format", "h5ad"],
}
# The CPU has no limit but for plans and blocks: what has neither is not made to take long there.
OF_CPU = EVERYTHING | {
    "embed": [],
    "cluster": [],
    "markers": ["--condition-key", "sample"],
    "activity": ["--activity-methods", "ulm,mlm,aucell,viper,waggr", "--times", 20, "--activity-pseudobulk", "true"],
    "spatial": ["--spatial-stats", "moran,ligrec", "--n-perms", 20, "--sample", "a"],
}


class Chain:
    """The stages of a run in one folder, one after the other; ``attempts`` takes the rungs that each began with."""

    def __init__(self, folder, inputs, backend_name, **env):
        folder.mkdir()
        self.folder, self.inputs, self.backend, self.env = folder, inputs, backend_name, os.environ | env
        self.attempts, self.imported = {}, {}

    def run(self, stage, output, *arguments):
        arguments = [
            sys.executable,
            ROOT / "bin" / f"{stage}.py",
            "--output",
            output,
            *arguments,
            *(OF_CPU if self.backend == "cpu" else EVERYTHING)[stage],
        ]
        if stage not in ("merge", "assemble"):
            arguments += ["--backend", self.backend]
        for number, rung in enumerate(RETRIES):
            env = self.env | {"RSC_CORE_FIRST_RUNG": rung, "PYTHONPATH": PATHS}
            done = subprocess.run(list(map(str, arguments)), cwd=self.folder, env=env, capture_output=True, text=True, check=False)
            self.attempts[output] = RETRIES[: number + 1]
            self.imported[output] = set(re.findall(r"^import time: .*\| +([\w.]+)$", done.stderr, re.MULTILINE))
            if done.returncode != 42:
                break
        assert done.returncode == 0, f"{output}, rungs {self.attempts[output]}: {done.stderr}"
        return output

    def all(self):
        """Every stage; the names of the files that they made."""
        stores = sorted(self.inputs.glob("*.store.h5ad"))
        samples = [path.name[0] for path in stores]
        made = [self.run("qc", f"{s}.qc.h5ad", "--store", path, "--sample", s) for s, path in zip(samples, stores, strict=True)]
        pairs = [word for path, qc in zip(stores, made, strict=True) for word in ("--store", path, "--qc", qc)]
        store = ["--store", self.run("merge", "merged.h5ad", *pairs)]
        preprocess = ["--preprocess", self.run("preprocess", "preprocess.h5ad", *store)]
        representation = ["--representation", self.run("integrate", "integrate.h5ad", *store, *preprocess)]
        graph = ["--neighbors", self.run("neighbors", "neighbors.h5ad", *representation, *store), *representation]
        self.run("embed", "embed.h5ad", *graph)
        clusters = [*store, *preprocess, "--cluster", self.run("cluster", "cluster.h5ad", *graph), "--tables", "tables"]
        self.run("markers", "markers.h5ad", *clusters)
        self.run("activity", "activity.h5ad", *clusters, "--network", self.inputs / "network.csv")
        self.run("spatial", "a.spatial.h5ad", *clusters, "--interactions", self.inputs / "interactions.csv")
        deltas = sorted(name for name in self.attempts if "qc" not in name and name != "merged.h5ad")
        self.run("assemble", "adata.h5ad", *store, *(word for name in deltas for word in ("--delta", name)))
        return self

    def results(self):
        """Bytes of all data sets and tables; the records say which rung it was, and are left out."""
        found = {}

        def keep(name, item):
            if isinstance(item, h5py.Dataset) and item.shape is not None and not name.startswith("uns/rsc_core"):
                value = np.asarray(item[()], dtype=object if item.dtype.kind == "O" else None)
                value = value.tolist() if item.dtype.hasobject else value.tobytes()
                found[f"{file.name}/{name}"] = (item.dtype.str, item.shape, value)

        for file in self.folder.glob("*.h5ad"):
            with h5py.File(file) as opened:
                opened.visititems(keep)
        return found | {table.name: table.read_bytes() for table in (self.folder / "tables").glob("*.csv")}

    def plan(self, output):
        return json.loads((self.folder / f"{output}.run.json").read_text())["memory"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Two samples with coordinates, a network, and pairs of ligands and receptors."""
    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    genes = [f"g{i}" for i in range(N_GENES)]
    for seed, (sample, n_cells) in enumerate(N_CELLS.items()):
        counts = cases.counts(n_cells, N_GENES, seed=seed, n_types=4, mean=0.5)
        places = {"spatial": rng.uniform(0, 1000, (n_cells, 2))}
        cells = [f"{sample}{i}" for i in range(n_cells)]
        cases.store(folder / f"{sample}.store.h5ad", counts, sample, genes=genes, cells=cells, obsm=places)
    edges = [(f"s{i // 40}", genes[i * 7 % N_GENES], weight) for i, weight in enumerate(rng.normal(size=200))]
    pd.DataFrame(edges, columns=["source", "target", "weight"]).to_csv(folder / "network.csv", index=False)
    pairs = [(genes[i], genes[-1 - i]) for i in range(20)]
    pd.DataFrame(pairs, columns=["ligand", "receptor"]).to_csv(folder / "interactions.csv", index=False)
    return folder


def compare(small, free):
    """All results of two chains, which must be there and alike."""
    one, other = small.results(), free.results()
    assert one.keys() == other.keys() and len(one) > 100
    assert [name for name in one if one[name] != other[name]] == []


@pytest.mark.slow
def test_little_memory_of_the_host(tmp_path, inputs):
    """2 MB is less than all at once needs, and more than a strip. What a stage imports while it works is looked at here, too."""
    free = Chain(tmp_path / "free", inputs, "cpu", RSC_CORE_HOST_MEMORY="", PYTHONPROFILEIMPORTTIME="1").all()
    slow = {"scipy.stats", "sklearn", "matplotlib", "scanpy", "igraph", "umap", "torch"}
    assert all("numpy" in names and not names & slow for names in free.imported.values()), {
        output: sorted(names & slow) for output, names in free.imported.items()
    }
    small = Chain(tmp_path / "small", inputs, "cpu", RSC_CORE_HOST_MEMORY="2MB").all()
    for output in ("a.qc.h5ad", "b.qc.h5ad", "preprocess.h5ad"):
        assert (free.plan(output)["rung"], small.plan(output)["rung"]) == ("whole", "blocks")
        assert read_delta(small.folder / output).record["memory"] == {"rung": "blocks", "needed": small.plan(output)["needed"]}
    compare(small, free)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("limit", ["2GB", "24MB", "1MB"])
def test_little_memory_of_the_device(tmp_path, inputs, limit):
    """Each stage completes, in row blocks or on a retry: with the 2 GB of the documentation at once, with 1 MB on the last rung."""
    if not backend.is_available("gpu"):
        pytest.skip("no NVIDIA device on this machine: this test runs on the GPU machine")
    free = Chain(tmp_path / "free", inputs, "gpu", RSC_CORE_DEVICE_MEMORY="").all()
    small = Chain(tmp_path / "small", inputs, "gpu", RSC_CORE_DEVICE_MEMORY=limit).all()
    compare(small, free)
    retried = [output for output, rungs in small.attempts.items() if len(rungs) > 1]
    print(f"{limit}: began again: {retried}; preprocess {small.plan('preprocess.h5ad')}")
    assert small.plan("preprocess.h5ad")["rung"] == {"2GB": "whole", "24MB": "blocks", "1MB": "managed"}[limit]
    assert limit != "2GB" or not retried
    assert limit != "1MB" or "integrate.h5ad" in retried


@pytest.mark.gpu
def test_a_limit_of_the_device_is_kept_and_ends_with_42(tmp_path):
    """More than the limit is refused by the pool, and the task says whose memory it was."""
    if not backend.is_available("gpu"):
        pytest.skip("no NVIDIA device on this machine: this test runs on the GPU machine")
    code = """
import click
from rsc_core import backend, cli
@click.command()
@click.argument("n", type=int)
def command(n):
    backend.prepare("gpu")
    import cupy
    cupy.zeros(n, dtype=cupy.uint8)
    print("allocated", backend.available_bytes("gpu"))
cli.run(command)
"""
    env = os.environ | {"PYTHONPATH": PATHS, "RSC_CORE_DEVICE_MEMORY": "100MB"}
    for n, first, code_of in ((50_000_000, "", 0), (200_000_000, "", 42), (200_000_000, "blocks", 42), (200_000_000, "managed", 0)):
        command = [sys.executable, "-c", code, str(n)]
        done = subprocess.run(command, env=env | {"RSC_CORE_FIRST_RUNG": first}, capture_output=True, text=True)
        assert done.returncode == code_of, done.stderr
        assert ("error: The device's memory is exhausted" in done.stderr) == (code_of == 42)
