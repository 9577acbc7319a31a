"""The sections of the report: what each shows, and one sentence on how to read it."""

from __future__ import annotations

from rsc_core.report import figures
from rsc_core.report.page import Section
from rsc_core.report.sections import cells as quality
from rsc_core.report.sections import clusters, concordance, integration, methods, run, tissue


def looks(names) -> dict[str, dict]:
    """The look of each sample, the same in all figures."""
    return {look["name"]: look for look in figures.styles(names)}


def all_sections(adata, cells, qcs, runs, tables, parameters) -> list[Section]:
    """Every section for which there is something to show, in reading order; the summary says why others are not there.

    Parameters
    ----------
    adata
        Annotation of the result, without matrices.
    cells
        :class:`rsc_core.report.cells.Cells`, with its genes read.
    qcs
        QC delta of each sample.
    runs
        Run records of the tasks.
    tables
        The csv tables of the stages by name.
    parameters
        Of the run.
    """
    look = looks(dict.fromkeys([*adata.obs["sample"].astype("category").cat.categories, *qcs]))
    runs = run.in_order(runs)
    optional = {
        "Integration": (integration.integration(adata, cells), "INTEGRATE did not run: one batch, or --integration none."),
        "Marker genes": (clusters.markers(tables, cells.means), "MARKERS found no two clusters to compare, or its tables were not given."),
        "Activity": (clusters.activity(tables), "ACTIVITY did not run: it needs --network."),
        "Concordance": (concordance.concordance(tables, runs), "CONCORDANCE did not run: it needs --concordance."),
        "Tissue": (tissue.spatial(adata, cells, tables), "No sample has coordinates."),
    }
    left_out = [(title, why) for title, (section, why) in optional.items() if section is None]
    found = [
        run.summary(adata, qcs, runs, left_out),
        quality.quality(qcs, look),
        quality.variation(adata),
        optional["Integration"][0],
        quality.embedding(adata, cells),
        clusters.clusters(adata, look),
        *(optional[title][0] for title in ("Marker genes", "Activity", "Tissue", "Concordance")),
        run.resources_used(runs),
        methods.methods(adata, parameters, {run.stage_of(record) for record in runs}),
        run.provenance(adata, parameters, runs),
    ]
    return [section for section in found if section is not None]
