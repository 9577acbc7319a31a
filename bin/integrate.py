#!/usr/bin/env python3
"""Move the batches onto each other."""

import click

from rsc_core import cli


@cli.script
@click.option("--store", required=True, type=cli.existing_file, help="Merged counts store; only its obs is read.")
@click.option("--preprocess", required=True, type=cli.existing_file, help="Delta of PREPROCESS.")
@cli.output_option("Delta (.h5ad)")
@cli.backend_option
@cli.seed_option
@click.option("--integration", type=click.Choice(["harmony"]), default="harmony", help="Method.")
@click.option("--batch-key", default="sample", help="Column of obs with the batch.")
@click.option("--theta", type=click.FloatRange(min=0), default=2.0, help="Strength of mixing.")
@click.option("--max-iter-harmony", type=click.IntRange(min=1), default=10, help="Corrections at most.")
def integrate(**options):
    """Move the batches onto each other."""
    from rsc_core.stages.integrate import run

    run(**options)


if __name__ == "__main__":
    cli.run(integrate)
