#!/usr/bin/env python3
"""Find communities of the neighbour graph."""

import click

from rsc_core import cli


@cli.script
@click.option("--neighbors", required=True, type=cli.existing_file, help="Delta of NEIGHBORS.")
@click.option("--representation", type=cli.existing_file, help="The delta that the neighbours were made from; kmeans needs it.")
@cli.output_option("Delta (.h5ad)")
@cli.backend_option
@cli.seed_option
@click.option("--cluster-methods", default="leiden", callback=cli.comma_separated, help="Among leiden, louvain, kmeans; comma-separated.")
@click.option("--resolutions", default="1.0", callback=cli.comma_separated_numbers, help="Resolutions above 0, separated by commas.")
@click.option("--n-clusters", type=click.IntRange(min=1), default=8, help="Clusters of kmeans.")
@click.option("--leiden-impl", type=click.Choice(["deterministic", "igraph", "cugraph"]), default="deterministic", help="Which Leiden.")
@click.option("--paga", type=bool, default=False, help="Whether the connections between the clusters are computed.")
def cluster(**options):
    """Find communities of the neighbour graph."""
    from rsc_core.stages.cluster import run

    run(**options)


if __name__ == "__main__":
    cli.run(cluster)
