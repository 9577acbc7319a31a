#!/usr/bin/env python3
"""Score the activity of regulators or pathways in each cell."""

import click

from rsc_core import cli


@cli.script
@click.option("--store", required=True, type=cli.existing_file, help="Merged counts store.")
@click.option("--preprocess", required=True, type=cli.existing_file, help="Delta of PREPROCESS.")
@click.option("--cluster", required=True, type=cli.existing_file, help="Delta of CLUSTER.")
@click.option("--network", required=True, type=cli.existing_file, help="Table (csv, tsv, parquet) with source, target and weight, or gmt.")
@click.option("--network-name", default="", help="Ends the names of tables and slots, where there are several networks.")
@cli.output_option("Delta (.h5ad)")
@cli.tables_option
@cli.backend_option
@cli.seed_option
@click.option(
    "--activity-methods",
    default="ulm,mlm",
    callback=cli.comma_separated,
    help="Which, separated by commas: aucell, gsea, gsva, mlm, ora, ulm, viper, waggr, wmean, wsum, zscore, consensus.",
)
@click.option("--tmin", type=click.IntRange(min=1), default=5, help="Sources with fewer targets in the data are left out.")
@click.option("--times", type=click.IntRange(min=0), default=1000, help="Permutations of gsea, waggr, wmean, wsum.")
@click.option("--activity-pseudobulk", type=bool, default=False, help="Also score the sums of each sample's clusters.")
def activity(**options):
    """Score the activity of regulators or pathways in each cell."""
    from rsc_core.stages.activity import run

    run(**options)


if __name__ == "__main__":
    cli.run(activity)
