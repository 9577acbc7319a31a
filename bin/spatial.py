#!/usr/bin/env python3
"""Find spatially variable genes and ligand-receptor pairs in a sample with coordinates."""

import click

from rsc_core import cli


@cli.script
@click.option("--store", required=True, type=cli.existing_file, help="Merged counts store.")
@click.option("--preprocess", required=True, type=cli.existing_file, help="Delta of PREPROCESS.")
@click.option("--cluster", required=True, type=cli.existing_file, help="Delta of CLUSTER.")
@click.option("--sample", required=True, help="Name of the sample in the samplesheet.")
@click.option("--interactions", type=cli.existing_file, help="Table (csv) with ligand and receptor; needed for ligrec.")
@cli.output_option("Delta (.h5ad)")
@cli.tables_option
@cli.backend_option
@cli.seed_option
@click.option("--coord-type", type=click.Choice(["grid", "generic"]), default="grid", help="Spots on a grid, or points anywhere.")
@click.option("--n-neighs", type=click.IntRange(min=1), default=6, help="Neighbours of each spot or cell.")
@click.option("--spatial-stats", default="moran,ligrec", callback=cli.comma_separated, help="Which, with commas; see --spatial_stats.")
@click.option("--n-perms", type=click.IntRange(min=1), default=100, help="Permutations, simulations.")
@click.option("--cluster-key", default="leiden", help="Column with the clusters.")
@click.option("--spatial-x", default="", help="Column of obs with x, where obsm['spatial'] has no coordinates.")
@click.option("--spatial-y", default="", help="Column of obs with y.")
@click.option("--complex-policy", type=click.Choice(["min", "all"]), default="min", help="Least expressed part of a complex, or all.")
@click.option("--corr-axis", type=click.Choice(["clusters", "interactions"]), default="clusters", help="Family of p-values of ligrec.")
@click.option("--dissociated", is_flag=True, help="The sample has no coordinates: run ligrec alone.")
def spatial(**options):
    """Find spatially variable genes and ligand-receptor pairs in a sample with coordinates."""
    from rsc_core.stages.spatial import run

    run(**options)


if __name__ == "__main__":
    cli.run(spatial)
