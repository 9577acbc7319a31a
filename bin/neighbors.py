#!/usr/bin/env python3
"""Find the nearest neighbours of each cell and weigh them."""

import click

from rsc_core import cli


@cli.script
@click.option("--representation", required=True, type=cli.existing_file, help="Delta of PREPROCESS or INTEGRATE.")
@click.option("--store", type=cli.existing_file, help="Counts store of all samples; its batch column is read for bbknn.")
@cli.output_option("Delta (.h5ad)")
@cli.backend_option
@cli.seed_option
@click.option("--n-neighbors", type=click.IntRange(min=2), default=15, help="Neighbours of a cell, itself counted.")
@click.option("--metric", type=click.Choice(["euclidean", "cosine", "correlation"]), default="euclidean", help="Distance.")
@click.option("--neighbors-method", type=click.Choice(["umap", "gauss", "jaccard"]), default="umap", help="Weights of the edges.")
@click.option(
    "--neighbors-algorithm",
    type=click.Choice(["auto", "exact", "ivf", "hnsw", "cagra", "nn_descent"]),
    default="auto",
    help="Search; auto is exact up to 500,000 cells.",
)
@click.option("--integration", default="none", help="bbknn: the same number of neighbours from each batch. Others change nothing here.")
@click.option("--batch-key", default="sample", help="Column of the store's obs with the batches of bbknn.")
@click.option("--neighbors-within-batch", type=click.IntRange(min=1), default=3, help="Neighbours of a cell in each batch of bbknn.")
@click.option(
    "--trim", type=click.IntRange(min=-1), default=-1, help="Edges that a cell keeps in bbknn; -1: ten times its neighbours; 0: all."
)
def neighbors(**options):
    """Find the nearest neighbours of each cell and weigh them."""
    from rsc_core.stages.neighbors import run

    run(**options)


if __name__ == "__main__":
    cli.run(neighbors)
