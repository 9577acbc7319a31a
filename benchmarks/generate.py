#!/usr/bin/env python3
"""Write synthetic cells as a counts store, and say how alike to real ones they are.

usage: python benchmarks/generate.py --cells 90k --output cells_90k.h5ad [--accept]
"""

import json
import time

import click
from bench.accept import BAND, figures
from bench.cells import generate
from bench.inputs import number_of_cells

from rsc_core.io.store import CountsStore


@click.command()
@click.option("--cells", required=True, help="Number of cells: 6000, 90k, 1.3M.")
@click.option("--genes", default=25_000, show_default=True)
@click.option("--batches", default=8, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--backend", "backend_name", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True)
@click.option("--output", required=True)
@click.option("--accept", is_flag=True, help="Measure the first 20,000 cells against the acceptance band.")
def main(cells, genes, batches, seed, backend_name, output, accept):
    """Write the store; print its size, digest and figures as JSON."""
    start = time.perf_counter()
    generate(output, number_of_cells(cells), n_genes=genes, n_batches=batches, seed=seed, backend_name=backend_name)
    store = CountsStore(output)
    said = {"cells": store.shape[0], "genes": store.shape[1], "nonzeros": int(store.indptr[-1]), "seconds": time.perf_counter() - start}
    print(json.dumps(said | {"counts_digest": store.record["counts_digest"]}))
    if accept:
        found = figures(store.rows(0, min(store.shape[0], 20_000)), store.obs["cell_type"].to_numpy()[:20_000], backend_name)
        inside = {key: low <= found[key] <= high for key, (low, high) in BAND.items()}
        print(json.dumps({"figures": found, "band": BAND, "inside": inside}, indent=1))


if __name__ == "__main__":
    main()
