"""REPORT: the page that shows what was done and found, and its figures as files."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numba
import numpy as np
import pandas as pd

from rsc_core.io.delta import read_delta
from rsc_core.io.files import replaced
from rsc_core.io.store import CountsStore
from rsc_core.pp._normalize import lognorm
from rsc_core.report import page, samples, static
from rsc_core.report.cells import Cells
from rsc_core.report.figures import styles
from rsc_core.report.sections import all_sections
from rsc_core.report.sections.clusters import best_genes
from rsc_core.stages._task import Task
from rsc_core.stages.assemble import BLOCK_NNZ, annotated, size_factors_of

NOT_SHOWN = ("varm/*", "obsp/*", "uns/rank_genes_groups*")  # of the deltas
MOST_GENES = 400  # that can be looked up: markers first, then variable genes


def run(
    *, store, delta, qc, tables, parameters, output, figures=None, multiqc=None, run_record=(), title="rsc-flow", formats=("png", "svg")
):
    """Write the page.

    Parameters
    ----------
    store
        Merged counts store.
    delta
        Deltas of one run, in any order: what ASSEMBLE takes, so that the two stages run side by side.
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
    task = Task("report", output, parents=[store, *delta], packages=("plotly", "jinja2", "matplotlib"))
    counts = CountsStore(store)
    with task.step("read"), ThreadPoolExecutor(1) as thread:
        tables = thread.submit(page.read_tables, tables)
        data, _ = annotated(counts, delta, task.record["parents"], NOT_SHOWN)
        scores = {key.removeprefix("score_"): table for key, table in data.obsm.items() if key.startswith("score_")}
        deltas = [read_delta(path, NOT_SHOWN) for path in qc]
        runs = [json.loads(Path(path).read_text()) for path in run_record]
        found = tables.result()
    with task.step("read genes"), ThreadPoolExecutor(1) as thread:
        if figures is not None:
            thread.submit(static.prepare)  # which static.saving does again, and tells what goes wrong
        cells = Cells(data.obs, np.asarray(data.obsm["spatial"], dtype=np.float64) if "spatial" in data.obsm else None)
        cells.add_sources({method: table for method, table in scores.items() if isinstance(table, pd.DataFrame)})
        cells.read_genes(partial(expression, counts, size_factors_of(data)), genes_to_show(data.var, found), data.var_names)
    with task.step("draw"):
        order = list(data.obs["sample"].astype("category").cat.categories)
        qcs = {delta.stage.partition(":")[2]: delta for delta in deltas}
        qcs = {name: qcs[name] for name in sorted(qcs, key=lambda name: order.index(name) if name in order else len(order))}
        sections = all_sections(data, cells, qcs, runs, found, json.loads(Path(parameters).read_text()))
    with ExitStack() as beside:
        if figures is not None:
            beside.enter_context(static.saving(figures, sections, cells, formats))
        with task.step("page"), replaced(output) as temporary:
            temporary.write_text(page.render(title, sections, cells.data()), encoding="utf-8")
        if figures is not None:
            with task.step("figures"):
                beside.close()
    if multiqc is not None:
        with task.step("multiqc"):
            lost = samples.fates(qcs)
            samples.write_multiqc(multiqc, samples.summary(data.obs, qcs), lost, styles(lost.columns))
    task.finish()


def expression(counts: CountsStore, size_factor: np.ndarray, columns: np.ndarray):
    """Row blocks ``(start, stop, log-normalised values)`` of some genes; threads pick them from blocks to come."""

    def picked(span):
        return counts.rows(*span)[:, columns].astype(np.float32)

    spans = list(counts.spans(BLOCK_NNZ))
    with ThreadPoolExecutor(numba.get_num_threads()) as threads:
        for (start, stop), some in zip(spans, threads.map(picked, spans), strict=True):
            yield start, stop, lognorm(some, size_factor[start:stop])


def genes_to_show(var: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Genes that the reader can look up, the most telling ones first."""
    genes = best_genes(tables, MOST_GENES)
    if "highly_variable_rank" in var:
        genes += list(var["highly_variable_rank"].dropna().sort_values(kind="stable").index)
    return list(dict.fromkeys(genes))[:MOST_GENES]
