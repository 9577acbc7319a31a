#!/usr/bin/env python3
"""Find the nearest neighbours of each cell and weigh them."""

import click

from rsc_core import cli


@cli.script
@click.option("--representation", required=True, type=cli.existing_file, help="Delta of PREPROCESS or INTEGRATE.")
@cli.output_option("Delta (.h5ad)")
@cli.backend_option
@cli.seed_option
@click.option("--n-neighbors", type=click.IntRange(min=2), default=15, help="Neighbours of a cell, itself counted.")
@click.option("--metric", type=click.Choice(["euclidean", "cosine"]), default="euclidean", help="Distance.")
def neighbors(**options):
    """Find the nearest neighbours of each cell and weigh them."""
    from rsc_core.stages.neighbors import run

    run(**options)


if __name__ == "__main__":
    cli.run(neighbors)
