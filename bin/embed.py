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
@click.option("--embeddings", default="umap", callback=cli.comma_separated, help="Which, by commas: umap, tsne, diffmap, fa2, mde.")
@click.option("--min-dist", type=click.FloatRange(min=0), default=0.5, help="Least distance of drawn cells.")
@click.option("--spread", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Scale of the drawing.")
@click.option("--umap-impl", type=click.Choice(["rsc", "library"]), default="rsc", help="Own UMAP, or umap-learn (cpu) and cuML (gpu).")
@click.option("--perplexity", type=click.FloatRange(min=1), default=30.0, help="Of t-SNE: about the neighbours that count.")
@click.option("--n-diffmap", type=click.IntRange(min=3), default=15, help="Components of the diffusion map.")
@click.option("--density", default="", callback=cli.comma_separated, help="Embeddings whose density is computed, separated by commas.")
@click.option("--root-cell", default="", help="Name of the cell where pseudotime starts; empty: no pseudotime.")
def embed(**options):
    """Draw the neighbour graph in two dimensions."""
    from rsc_core.stages.embed import run

    run(**options)


if __name__ == "__main__":
    cli.run(embed)
