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
@click.option("--n-comps", type=click.IntRange(min=1), default=50, help="Number of principal components.")
def preprocess(**options):
    """Compute size factors, highly variable genes and principal components."""
    from rsc_core.stages.preprocess import run

    run(**options)


if __name__ == "__main__":
    cli.run(preprocess)
