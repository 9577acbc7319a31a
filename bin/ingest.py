#!/usr/bin/env python3
"""Read one sample of any format, check that it holds raw counts, and write its counts store."""

from pathlib import Path

import click

from rsc_core import cli


def pairs(context, parameter, values):
    """KEY=VALUE arguments as pairs."""
    for value in values:
        if "=" not in value.strip("="):
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
    return [tuple(value.split("=", 1)) for value in values]


@cli.script
@click.option("--input", required=True, type=click.Path(exists=True), help="File or folder of the sample.")
@click.option("--sample", required=True, help="Name of the sample; becomes obs['sample'].")
@cli.output_option("Counts store (.h5ad)")
@click.option("--format", default="auto", help="Format; auto: by the name of a file, the content of a folder.")
@click.option("--counts-layer", default="", help="Layer that holds the raw counts; empty: X.")
@click.option("--genome", default="", help="Genome to keep, for 10x formats; needed where there are several.")
@click.option(
    "--orientation", type=click.Choice(["cells-by-genes", "genes-by-cells"]), default="cells-by-genes", help="Rows of a csv or tsv."
)
@click.option("--annotation", multiple=True, metavar="KEY=VALUE", callback=pairs, help="Column of obs with one value; repeatable.")
def ingest(**options):
    """Read one sample of any format, check that it holds raw counts, and write its counts store."""
    if Path(options["input"]).is_dir():
        cli.take_in("zarr", "numcodecs")
    from rsc_core.stages.ingest import run

    run(**options)


if __name__ == "__main__":
    cli.run(ingest)
