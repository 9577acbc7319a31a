#!/usr/bin/env python3
"""Compute QC metrics of a sample's cells and mark those that fail a threshold."""

import click

from rsc_core import cli


@cli.script
@click.option("--store", required=True, type=cli.existing_file, help="Counts store of the sample.")
@click.option("--sample", required=True, help="Name of the sample, for messages.")
@cli.output_option("QC delta (.h5ad)")
@cli.backend_option
@click.option("--min-counts", type=click.IntRange(min=0), default=1, help="Smallest total of a cell.")
@click.option("--max-counts", type=click.IntRange(min=0), default=0, help="Largest total of a cell; 0: no limit.")
@click.option("--min-genes", type=click.IntRange(min=0), default=200, help="Smallest number of expressed genes.")
@click.option("--max-genes", type=click.IntRange(min=0), default=0, help="Largest number of expressed genes; 0: no limit.")
@click.option("--max-mito-percent", type=click.FloatRange(0, 100), default=20.0, help="Largest share of mitochondrial counts.")
@click.option("--nmads", type=click.FloatRange(min=0), default=5.0, help="Allowed distance from the median in MADs; 0: off.")
@click.option("--mito-prefix", default="MT-", callback=cli.comma_separated, help="Prefixes of mitochondrial genes; case ignored.")
@click.option("--ribo-prefix", default="RPS,RPL", callback=cli.comma_separated, help="Prefixes of ribosomal genes; case ignored.")
@click.option("--hb-pattern", default="^HB[^P]", help="Regular expression of haemoglobin genes; case ignored.")
@click.option("--gene-families", default="", help="Further families NAME=PREFIX|PREFIX, separated by commas; case ignored.")
@click.option("--scrublet", type=bool, default=False, help="Score how likely each cell is two cells (doublet_score).")
@click.option("--expected-doublet-rate", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, help="Share of doublets.")
@click.option("--sim-doublet-ratio", type=click.FloatRange(min=0, min_open=True), default=2.0, help="Simulated doublets per cell.")
@click.option("--filter-doublets", type=bool, default=False, help="Cells that scrublet calls doublets fail QC.")
@cli.seed_option
def qc(**options):
    """Compute QC metrics of a sample's cells and mark those that fail a threshold."""
    from rsc_core.stages.qc import run

    run(**options)


if __name__ == "__main__":
    cli.run(qc)
