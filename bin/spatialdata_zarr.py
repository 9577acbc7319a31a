#!/usr/bin/env python3
"""Write the result in the layout of the package spatialdata."""

import click

from rsc_core import cli


@cli.script
@click.option("--adata", required=True, type=cli.existing_file, help="AnnData file of ASSEMBLE.")
@click.option("--output", required=True, type=click.Path(file_okay=False), help="Folder (.zarr) to write.")
def spatialdata(**options):
    """Write the result in the layout of the package spatialdata."""
    from rsc_core.stages.spatialdata_zarr import run

    run(**options)


if __name__ == "__main__":
    cli.run(spatialdata)
