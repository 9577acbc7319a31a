#!/usr/bin/env python3
"""Make the page that shows what was done and found."""

import click

from rsc_core import cli


@cli.script
@click.option("--store", required=True, type=cli.existing_file, help="Counts store of all samples.")
@click.option("--delta", required=True, multiple=True, type=cli.existing_file, help="Delta of a stage; repeatable.")
@click.option("--qc", required=True, multiple=True, type=cli.existing_file, help="QC delta of a sample; repeatable.")
@click.option("--run-record", multiple=True, type=cli.existing_file, help="Run record of a task; repeatable.")
@cli.tables_option
@click.option("--parameters", required=True, type=cli.existing_file, help="Parameters of the run as JSON.")
@cli.output_option("Page (.html)")
@click.option("--figures", type=click.Path(file_okay=False), help="Folder to write each figure to as a file; none without.")
@click.option("--figure-formats", "formats", default="png,svg", callback=cli.comma_separated, help="Of png, svg, pdf; comma-separated.")
@click.option("--multiqc", type=click.Path(file_okay=False), help="Folder to write MultiQC's custom content to; none without.")
@click.option("--title", default="rsc-flow", help="Title of the page.")
def report(**options):
    """Make the page that shows what was done and found."""
    from rsc_core.stages.report import run

    run(**options)


if __name__ == "__main__":
    cli.run(report)
