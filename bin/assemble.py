#!/usr/bin/env python3
"""Put the counts and all deltas together to the one AnnData file that users open."""

import click

from rsc_core import cli


@cli.script
@click.option("--store", required=True, type=cli.existing_file, help="Merged counts store.")
@click.option("--delta", required=True, multiple=True, type=cli.existing_file, help="Delta of a stage; repeatable.")
@cli.output_option("AnnData file (.h5ad)")
@click.option("--tables", help="Folder for the tables that samples share.")
@click.option("--x-content", type=click.Choice(["lognorm", "counts"]), default="lognorm", help="What X holds.")
@click.option("--output-format", "formats", default="h5ad", callback=cli.comma_separated, help="h5ad, or h5ad,zarr for a folder beside it.")
@click.option("--run-record", multiple=True, type=cli.existing_file, help="Run record of a task; repeatable.")
@click.option("--provenance", type=cli.existing_file, help="JSON of the run: parameters, revision, images.")
def assemble(**options):
    """Put the counts and all deltas together to the one AnnData file that users open."""
    if "zarr" in options["formats"]:
        cli.take_in("zarr", "numcodecs")
    from rsc_core.stages.assemble import run

    run(**options)


if __name__ == "__main__":
    cli.run(assemble)
