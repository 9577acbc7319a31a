#!/usr/bin/env python3
"""Compare the communities that CPU and GPU find in the same graphs: equal or not, and modularity beside igraph's; as JSON.

usage: python benchmarks/partitions.py --output partitions.json pancreas=results/pancreas/adata.h5ad 90k=FOLDER_OF_INPUTS
"""

import json
import time
from datetime import date
from pathlib import Path

import anndata as ad
import click
import numpy as np
import pandas as pd
from bench.inputs import Inputs

from rsc_core import backend
from rsc_core.tl import leiden, louvain

METHODS = {"leiden": leiden, "louvain": louvain}


def graph_of(path):
    """The weights in an h5ad file or in a folder of benchmark inputs."""
    if Path(path).is_dir():
        return Inputs(path).csr("connectivities").astype(np.float32)
    return ad.read_h5ad(path).obsp["connectivities"].tocsr().astype(np.float32)


def found(graph, method, resolution, seed):
    """Labels and modularity by backend, and the seconds."""
    result = {}
    for name in backend.BACKENDS:
        adata = ad.AnnData(obs=pd.DataFrame(index=[str(i) for i in range(graph.shape[0])]))
        adata.uns["neighbors"] = {"connectivities_key": "connectivities", "distances_key": "distances", "params": {}}
        adata.obsp["connectivities"] = backend.to_device(graph, name)
        start = time.perf_counter()
        METHODS[method](adata, resolution=resolution, random_state=seed)
        result[name] = (adata.obs[method].to_numpy(), float(adata.uns[method]["modularity"]), time.perf_counter() - start)
    return result


def igraph_modularity(graph, resolution, seeds):
    """Mean modularity of igraph's Leiden (two iterations) over seeds."""
    import random

    import igraph

    sources, targets = graph.nonzero()
    upper = sources < targets
    edges = np.column_stack([sources[upper], targets[upper]])
    weights = np.asarray(graph[edges[:, 0], edges[:, 1]]).ravel()
    network = igraph.Graph(n=graph.shape[0], edges=edges)
    values = []
    for seed in range(seeds):
        random.seed(seed)
        igraph.set_random_number_generator(random)
        part = network.community_leiden("modularity", weights=weights, resolution=resolution, n_iterations=2)
        values.append(network.modularity(part, weights=weights, resolution=resolution))
    return float(np.mean(values))


@click.command()
@click.option("--output", required=True)
@click.option("--seeds", default=5, show_default=True)
@click.option("--resolution", "resolutions", multiple=True, type=float, default=[0.5, 1.0, 2.0])
@click.argument("graphs", nargs=-1, required=True)
def main(output, seeds, resolutions, graphs):
    """Write the rows; they are kept up to date while it runs."""
    rows = []
    for name, path in (pair.split("=", 1) for pair in graphs):
        graph = graph_of(path)
        for resolution in resolutions:
            reference = igraph_modularity(graph, resolution, seeds)
            for method in METHODS:
                runs = [found(graph, method, resolution, seed) for seed in range(seeds)]
                rows.append(
                    {
                        "graph": name,
                        "cells": graph.shape[0],
                        "method": method,
                        "resolution": resolution,
                        "seeds": seeds,
                        "equal_on_both": sum(bool((run["cpu"][0] == run["gpu"][0]).all()) for run in runs),
                        "modularity": float(np.mean([run["gpu"][1] for run in runs])),
                        "igraph_leiden_modularity": reference,
                        "seconds": {b: float(np.median([run[b][2] for run in runs])) for b in backend.BACKENDS},
                    }
                )
                figures = {"date": str(date.today()), "device": backend.device_name("gpu"), "rows": rows}
                Path(output).write_text(json.dumps(figures, indent=1) + "\n")
                print(json.dumps(rows[-1]))


if __name__ == "__main__":
    main()
