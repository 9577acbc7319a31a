#!/usr/bin/env python3
"""Draw the neighbour graph in two dimensions."""

import click

from rsc_core import cli


@cli.script
@click.option("--neighbors", required=True, type=cli.existing_file, help="Delta of NEIGHBORS.")
@click.option("--representation", required=True, type=cli.existing_file, help="Delta that the neighbours were made from.")
@cli.output_option("Delta (.h5ad)")
@cli.backend_option
@cli.seed_option
@click.option("--embeddings", default="umap", callback=cli.comma_separated, help="Which, separated by commas: umap.")
@click.option("--min-dist", type=click.FloatRange(min=0), default=0.5, help="Least distance of drawn cells.")
@click.option("--spread", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Scale of the drawing.")
def embed(**options):
    """Draw the neighbour graph in two dimensions."""
    from rsc_core.stages.embed import run

    run(**options)


if __name__ == "__main__":
    cli.run(embed)
