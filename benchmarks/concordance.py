#!/usr/bin/env python3
"""Compare two finished runs of the workflow, one on each backend, step by step, and write the figures as JSON.

usage: python benchmarks/concordance.py --cpu results_cpu/adata.h5ad --gpu results_gpu/adata.h5ad --output figures.json
"""

import json
import platform
from datetime import date

import anndata as ad
import click
import numpy as np
import pandas as pd
import scanpy as sc

from rsc_core import backend, metrics
from rsc_core.tl._leiden import leiden


def largest_difference(a, b):
    """Largest absolute difference, and the same as a share of the largest absolute value."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return {
        "max_absolute": float(np.nanmax(np.abs(a - b))),
        "max_relative_to_largest": float(np.nanmax(np.abs(a - b)) / np.nanmax(np.abs(a))),
    }


def neighbours(adata):
    """The neighbours of each cell, from the distances matrix: a list of sets."""
    graph = adata.obsp["distances"].tocsr()
    return [set(graph.indices[a:b]) for a, b in zip(graph.indptr[:-1], graph.indptr[1:], strict=True)]


def markers(cpu, gpu):
    """Differences of every gene's statistics in the groups that both runs have by the same cells."""
    both = cpu.obs["leiden"].cat.categories.intersection(gpu.obs["leiden"].cat.categories)
    same = [group for group in both if ((cpu.obs["leiden"] == group) == (gpu.obs["leiden"] == group)).all()]
    rows = []
    for group in same:
        a, b = (sc.get.rank_genes_groups_df(x, group).set_index("names") for x in (cpu, gpu))
        b = b.loc[a.index]
        rows.append({c: float(np.abs(a[c].to_numpy(float) - b[c].to_numpy(float)).max()) for c in ("scores", "pvals", "logfoldchanges")})
    worst = pd.DataFrame(rows).max().to_dict() if rows else None
    return {"groups_compared": len(same), "groups": len(cpu.obs["leiden"].cat.categories), "max_absolute_difference": worst}


def same_graph(cpu):
    """ARI of the two backends' Leiden on the graph of the CPU run; None without a GPU."""
    if not backend.is_available("gpu"):
        return None
    labels = []
    for name in backend.BACKENDS:
        adata = ad.AnnData(obs=pd.DataFrame(index=cpu.obs_names), uns={"neighbors": cpu.uns["neighbors"]})
        adata.obsp["connectivities"] = backend.to_device(cpu.obsp["connectivities"].tocsr(), name)
        leiden(adata)
        labels.append(adata.obs["leiden"].to_numpy())
    return metrics.adjusted_rand_index(*labels)


@click.command()
@click.option("--cpu", "cpu_file", required=True)
@click.option("--gpu", "gpu_file", required=True)
@click.option("--output", required=True)
def main(cpu_file, gpu_file, output):
    """Write the figures."""
    cpu, gpu = ad.read_h5ad(cpu_file), ad.read_h5ad(gpu_file)
    if not cpu.obs_names.equals(gpu.obs_names):
        raise click.ClickException("the two runs kept different cells: compare runs of the same samplesheet and thresholds")
    graphs = [x.obsp["connectivities"].tocsr() for x in (cpu, gpu)]
    figures = {
        "date": date.today().isoformat(),
        "device": backend.device_name("gpu") if backend.is_available("gpu") else None,
        "host": platform.processor() or platform.machine(),
        "versions": {
            "cpu": json.loads(cpu.uns["rsc_core"]["neighbors"])["versions"],
            "gpu": json.loads(gpu.uns["rsc_core"]["neighbors"])["versions"],
        },
        "cells": cpu.n_obs,
        "genes": cpu.n_vars,
        "normalised_values": largest_difference(cpu.X.data, gpu.X.data),
        "variable_genes_equal": bool((cpu.var["highly_variable"] == gpu.var["highly_variable"]).all()),
        "pca": largest_difference(cpu.obsm["X_pca"], gpu.obsm["X_pca"]),
        "harmony": largest_difference(cpu.obsm["X_pca_harmony"], gpu.obsm["X_pca_harmony"]) if "X_pca_harmony" in cpu.obsm else None,
        "knn_overlap_mean": metrics.knn_overlap(*(x.obsp["distances"].tocsr() for x in (cpu, gpu))),
        "knn_cells_that_differ": sum(a != b for a, b in zip(neighbours(cpu), neighbours(gpu), strict=True)),
        "connectivities_max_absolute": float(abs(graphs[0] - graphs[1]).max()),
        "leiden_ari_same_graph": same_graph(cpu),
        "leiden_ari_end_to_end": metrics.adjusted_rand_index(cpu.obs["leiden"].to_numpy(), gpu.obs["leiden"].to_numpy()),
        "leiden_clusters": [x.obs["leiden"].nunique() for x in (cpu, gpu)],
        "leiden_modularity": [float(x.uns["leiden"]["modularity"]) for x in (cpu, gpu)],
        "markers": markers(cpu, gpu),
        "embedding_trustworthiness": [
            metrics.trustworthiness(x.obsm["X_pca_harmony" if "X_pca_harmony" in x.obsm else "X_pca"], x.obsm["X_umap"]) for x in (cpu, gpu)
        ],
        "activity": {k: largest_difference(cpu.obsm[k], gpu.obsm[k]) for k in cpu.obsm if k.startswith("score_")} or None,
        "moran": {k: largest_difference(*(x.uns[k].sort_index()["I"] for x in (cpu, gpu))) for k in cpu.uns if k.startswith("moranI")}
        or None,
    }
    with open(output, "w") as handle:
        json.dump(figures, handle, indent=1)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
