"""REPORT: the page that shows what was done and found."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import anndata as ad

from rsc_core.io.delta import read_delta
from rsc_core.io.files import replaced
from rsc_core.report import page
from rsc_core.stages._task import Task


def run(*, adata, qc, tables, parameters, output, run_record=(), title="rsc-flow"):
    """Write the page.

    Parameters
    ----------
    adata
        File of ASSEMBLE.
    qc
        QC deltas of the samples.
    tables
        Folder with the csv tables of MARKERS, ACTIVITY and SPATIAL.
    parameters
        JSON file with the run's parameters.
    output
        Page to write; it needs no network.
    run_record
        Run records of the tasks, for time, memory and warnings.
    title
        Title of the page.
    """
    task = Task("report", output, packages=("plotly", "jinja2"))
    with task.step("read"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = ad.read_h5ad(adata)
        deltas = [read_delta(path) for path in qc]
        runs = [json.loads(Path(path).read_text()) for path in run_record]
    with task.step("draw"):
        qcs = {delta.stage.partition(":")[2]: delta for delta in deltas}
        sections = page.all_sections(data, qcs, runs, page.read_tables(tables), json.loads(Path(parameters).read_text()))
        text = page.render(title, sections)
    with replaced(output) as temporary:
        temporary.write_text(text)
    task.finish()
