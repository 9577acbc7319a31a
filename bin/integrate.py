#!/usr/bin/env python3
"""Move the batches onto each other."""

import click

from rsc_core import cli


@cli.script
@click.option("--store", required=True, type=cli.existing_file, help="Merged counts store; harmony reads its obs alone.")
@click.option("--preprocess", required=True, type=cli.existing_file, help="Delta of PREPROCESS.")
@cli.output_option("Delta (.h5ad)")
@cli.backend_option
@cli.seed_option
@click.option("--integration", type=click.Choice(["harmony", "combat"]), default="harmony", help="Method.")
@click.option("--batch-key", default="sample", help="Column of obs with the batch.")
@click.option("--label-key", default="", help="Column of obs with cell types, for cLISI and silhouettes; empty: none.")
@click.option("--theta", type=click.FloatRange(min=0), default=2.0, help="Strength of mixing.")
@click.option("--max-iter-harmony", type=click.IntRange(min=1), default=10, help="Corrections at most.")
@click.option(
    "--harmony-flavor", type=click.Choice(["harmony1", "harmony2"]), default="harmony2", help="As published, or as harmonypy 2.1."
)
def integrate(**options):
    """Move the batches onto each other."""
    from rsc_core.stages.integrate import run

    run(**options)


if __name__ == "__main__":
    cli.run(integrate)
