"""REPORT: the page that shows what was done and found, and its figures as files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, sparse_dataset

from rsc_core.io.delta import read_delta
from rsc_core.io.files import ahead, replaced
from rsc_core.report import page, samples, static
from rsc_core.report.cells import Cells
from rsc_core.report.figures import styles
from rsc_core.report.sections import all_sections
from rsc_core.report.sections.clusters import best_genes
from rsc_core.stages._task import Task

MOST_GENES = 400  # that can be looked up: markers first, then variable genes
BLOCK_NNZ = 1 << 24  # non-zeros of a row block


def run(*, adata, qc, tables, parameters, output, figures=None, multiqc=None, run_record=(), title="rsc-flow", formats=("png", "svg")):
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
    figures
        Folder for each figure as a file; None: no files.
    multiqc
        Folder for MultiQC's custom content; None: not written.
    run_record
        Run records of the tasks, for time, memory and warnings.
    title
        Title of the page.
    formats
        Kinds of figure files, of png, svg, pdf.
    """
    task = Task("report", output, packages=("plotly", "jinja2", "matplotlib"))
    with task.step("read"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data, scores = read_annotation(adata)
        deltas = [read_delta(path) for path in qc]
        runs = [json.loads(Path(path).read_text()) for path in run_record]
        found = page.read_tables(tables)
    with task.step("read genes"):
        cells = Cells(data.obs, np.asarray(data.obsm["spatial"], dtype=np.float64) if "spatial" in data.obsm else None)
        cells.add_sources(scores)
        cells.read_genes(ahead(blocks_of(adata, "log1p" in data.uns)), genes_to_show(data.var, found), data.var_names)
    with task.step("draw"):
        order = list(data.obs["sample"].astype("category").cat.categories)
        qcs = {delta.stage.partition(":")[2]: delta for delta in deltas}
        qcs = {name: qcs[name] for name in sorted(qcs, key=lambda name: order.index(name) if name in order else len(order))}
        sections = all_sections(data, cells, qcs, runs, found, json.loads(Path(parameters).read_text()))
        text = page.render(title, sections, cells.data())
    with replaced(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if figures is not None:
        with task.step("figures"):
            static.save_all(figures, sections, cells, formats)
    if multiqc is not None:
        with task.step("multiqc"):
            lost = samples.fates(qcs)
            samples.write_multiqc(multiqc, samples.summary(data.obs, qcs), lost, styles(lost.columns))
    task.finish()


def read_annotation(path) -> tuple[ad.AnnData, dict[str, pd.DataFrame]]:
    """What the page shows of a file of ASSEMBLE: no matrices of genes, no graphs, two components; activities of the sources by method."""
    with h5py.File(path) as file:
        keys = [key for key in file["obsm"] if key.startswith("X_") and not key.startswith("X_pca")] + ["spatial"] * (
            "spatial" in file["obsm"]
        )
        arrays = {key: read_elem(file["obsm"][key]) for key in keys}
        if "integration" in file["uns"]:
            components = [key for key in file["obsm"] if key.startswith("X_pca") and file["obsm"][key].shape[1] > 1]
            arrays |= {key: file["obsm"][key][:, :2] for key in components}
        scores = {key.removeprefix("score_"): read_elem(file["obsm"][key]) for key in file["obsm"] if key.startswith("score_")}
        uns = {key: read_elem(file["uns"][key]) for key in file["uns"] if not key.startswith("rank_genes_groups")}  # markers come as tables
        data = ad.AnnData(obs=read_elem(file["obs"]), var=read_elem(file["var"]), obsm=arrays, uns=uns)
    return data, {name: table for name, table in scores.items() if isinstance(table, pd.DataFrame)}


def genes_to_show(var: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Genes that the reader can look up, the most telling ones first."""
    genes = best_genes(tables, MOST_GENES)
    if "highly_variable_rank" in var:
        genes += list(var["highly_variable_rank"].dropna().sort_values(kind="stable").index)
    return list(dict.fromkeys(genes))[:MOST_GENES]


def blocks_of(path, is_log: bool):
    """Row blocks of X as (start, stop, CSR of logarithms)."""
    with h5py.File(path) as file:
        matrix = sparse_dataset(file["X"])
        n_cells = matrix.shape[0]
        rows = max(1, int(BLOCK_NNZ // max(1, file["X/data"].shape[0] / max(1, n_cells))))
        for start in range(0, n_cells, rows):
            stop = min(n_cells, start + rows)
            block = matrix[start:stop].tocsr()
            yield start, stop, block if is_log else block.log1p()
