"""REPORT: the page that shows what was done and found."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import anndata as ad
import h5py
from anndata.io import read_elem

from rsc_core.io.delta import read_delta
from rsc_core.io.files import replaced
from rsc_core.report import page
from rsc_core.stages._task import Task

DRAWN = ("X_umap", "spatial")


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
        data = read_annotation(adata)
        deltas = [read_delta(path) for path in qc]
        runs = [json.loads(Path(path).read_text()) for path in run_record]
    with task.step("draw"):
        order = list(data.obs["sample"].astype("category").cat.categories)
        qcs = {delta.stage.partition(":")[2]: delta for delta in deltas}
        qcs = {name: qcs[name] for name in sorted(qcs, key=lambda name: order.index(name) if name in order else len(order))}
        sections = page.all_sections(data, qcs, runs, page.read_tables(tables), json.loads(Path(parameters).read_text()))
        text = page.render(title, sections)
    with replaced(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    task.finish()


def read_annotation(path) -> ad.AnnData:
    """What the page shows of a file of ASSEMBLE: no matrices of genes, no graphs, only arrays of two or three columns."""
    with h5py.File(path) as file:
        arrays = {key: read_elem(file["obsm"][key]) for key in DRAWN if key in file["obsm"]}
        return ad.AnnData(obs=read_elem(file["obs"]), var=read_elem(file["var"]), obsm=arrays, uns=read_elem(file["uns"]))
