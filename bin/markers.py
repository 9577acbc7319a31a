#!/usr/bin/env python3
"""Find the genes that tell the clusters apart."""

import click

from rsc_core import cli


@cli.script
@click.option("--store", required=True, type=cli.existing_file, help="Merged counts store.")
@click.option("--preprocess", required=True, type=cli.existing_file, help="Delta of PREPROCESS.")
@click.option("--cluster", required=True, type=cli.existing_file, help="Delta of CLUSTER.")
@cli.output_option("Delta (.h5ad)")
@cli.tables_option
@cli.backend_option
@click.option("--groupby", default="leiden", help="Column of obs with the clusters.")
@click.option(
    "--marker-methods",
    default="wilcoxon,t-test",
    callback=cli.comma_separated,
    help="Which, separated by commas: wilcoxon, t-test, t-test_overestim_var, logreg.",
)
@click.option("--sample-key", default="sample", help="Column of obs with the samples, for sums of counts.")
@click.option("--condition-key", default="condition", help="Column of obs; where it is, sums of samples and clusters are written.")
def markers(**options):
    """Find the genes that tell the clusters apart."""
    from rsc_core.stages.markers import run

    run(**options)


if __name__ == "__main__":
    cli.run(markers)
