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
@click.option("--spatial-stats", default="moran,ligrec", callback=cli.comma_separated, help="Any of moran, geary, ligrec, with commas.")
@click.option("--n-perms", type=click.IntRange(min=1), default=100, help="Permutations for p-values.")
@click.option("--cluster-key", default="leiden", help="Column with the clusters that ligrec compares.")
def spatial(**options):
    """Find spatially variable genes and ligand-receptor pairs in a sample with coordinates."""
    from rsc_core.stages.spatial import run

    run(**options)


if __name__ == "__main__":
    cli.run(spatial)
