#!/usr/bin/env python3
"""Compute size factors, highly variable genes and principal components."""

import click

from rsc_core import cli


@cli.script
@click.option("--store", required=True, type=cli.existing_file, help="Merged counts store.")
@cli.output_option("Delta (.h5ad)")
@cli.backend_option
@cli.seed_option
@click.option("--target-sum", type=click.FloatRange(min=0), default=0.0, help="Total of a cell after normalisation; 0: the median.")
@click.option("--n-top-genes", type=click.IntRange(min=2), default=2000, help="Number of highly variable genes.")
@click.option("--batch-key", default="sample", help="Column of obs within which gene variability is judged; empty: none.")
@click.option("--normalization", type=click.Choice(["log", "pearson", "none"]), default="log", help="Of the values that are projected.")
@click.option("--hvg-flavor", default="seurat_v3", help="How genes are chosen; a flavor of highly_variable_genes.")
@click.option("--hvg-batch", default="", help="Column of obs within which gene variability is judged; empty: batch-key, none: no batches.")
@click.option("--regress-out", default="", callback=cli.comma_separated, help="Columns of obs whose effect is taken off, by commas.")
@click.option("--scale", type=bool, default=False, help="Give every chosen gene mean 0 and variance 1.")
@click.option("--max-value", type=click.FloatRange(min=0), default=10.0, help="Limit of scaled values; 0: none.")
@click.option("--pca-method", type=click.Choice(["covariance", "randomized", "lanczos", "truncated"]), default="covariance", help="How.")
@click.option("--n-comps", type=click.IntRange(min=1), default=50, help="Number of principal components.")
def preprocess(**options):
    """Compute size factors, highly variable genes and principal components."""
    from rsc_core.stages.preprocess import run

    run(**options)


if __name__ == "__main__":
    cli.run(preprocess)
