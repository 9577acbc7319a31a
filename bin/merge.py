#!/usr/bin/env python3
"""Write the cells of all samples that passed QC to one counts store."""

import click

from rsc_core import cli


@cli.script
@click.option("--store", required=True, multiple=True, type=cli.existing_file, help="Counts store of a sample; repeatable.")
@click.option("--qc", required=True, multiple=True, type=cli.existing_file, help="QC delta of each store, in the same order.")
@cli.output_option("Counts store of all samples (.h5ad)")
@click.option("--join", type=click.Choice(["inner", "outer"]), default="outer", help="Genes that all samples have, or that any has.")
@click.option("--min-cells", type=click.IntRange(min=0), default=3, help="Drop genes with counts in fewer kept cells.")
def merge(**options):
    """Write the cells of all samples that passed QC to one counts store."""
    from rsc_core.stages.merge import run

    if len(options["store"]) != len(options["qc"]):
        raise click.UsageError(f"{len(options['store'])} --store and {len(options['qc'])} --qc came; each store needs its QC delta")
    run(**options)


if __name__ == "__main__":
    cli.run(merge)
