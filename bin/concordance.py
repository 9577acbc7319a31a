#!/usr/bin/env python3
"""Analyse some cells again by the other backend or the reference libraries, and compare step by step."""

import click

from rsc_core import cli


@cli.script
@click.option("--store", required=True, type=cli.existing_file, help="Merged counts store.")
@click.option("--cluster", required=True, type=cli.existing_file, help="Delta of CLUSTER.")
@cli.output_option("Table (.csv)")
@cli.backend_option
@cli.seed_option
@click.option("--concordance-cells", type=click.IntRange(min=50), default=10_000, help="Number of cells, drawn from every cluster.")
@click.option("--n-top-genes", type=click.IntRange(min=2), default=2000, help="Number of highly variable genes.")
@click.option("--n-comps", type=click.IntRange(min=1), default=50, help="Number of principal components.")
@click.option("--n-neighbors", type=click.IntRange(min=2), default=15, help="Neighbours of a cell, itself counted.")
@click.option("--resolutions", default="1.0", callback=cli.comma_separated_numbers, help="Of the clusters; the first is compared.")
@click.option("--batch-key", default="sample", help="Column of obs with the batches.")
@click.option("--integration", default="harmony", help="Of the run; compared where it is harmony.")
def concordance(**options):
    """Analyse some cells again by the other backend or the reference libraries, and compare step by step."""
    from rsc_core.stages.concordance import run

    run(**options)


if __name__ == "__main__":
    cli.run(concordance)
