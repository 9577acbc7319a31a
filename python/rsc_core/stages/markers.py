"""MARKERS: genes that tell the clusters apart."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from rsc_core.errors import InvalidInput
from rsc_core.get._pseudobulk import pseudobulk_blocks
from rsc_core.stages._clusters import read_labels, row_blocks, write_table
from rsc_core.stages._task import Task
from rsc_core.tl._group_moments import group_codes, summarize_blocks
from rsc_core.tl._rank_genes_groups import METHODS, TIDY, ranked, regression_scores, tidy

ONE_CLUSTER = "Raise the resolution of the clusters, or check that the samples hold cells of more than one kind."


def run(
    *,
    store,
    preprocess,
    cluster,
    output,
    tables,
    backend="cpu",
    groupby="leiden",
    marker_methods=("wilcoxon", "t-test"),
    sample_key="sample",
    condition_key="condition",
    max_nnz=0,
):
    """Compare each cluster with all other cells.

    Parameters
    ----------
    store, preprocess, cluster
        Merged counts store, deltas of PREPROCESS and CLUSTER.
    output
        Delta with ``uns['rank_genes_groups']`` for the first method, ``uns['rank_genes_groups_<method>']`` for others.
    tables
        Folder for ``markers_<method>`` and, where the store has the column ``condition_key``, ``pseudobulk_counts`` (a row for each gene,
        a column for each sample and cluster) and ``pseudobulk_samples``; csv and parquet.
    backend
        Where the work runs.
    groupby
        Column of obs with the clusters.
    marker_methods
        Of ``rsc_core.tl.rank_genes_groups``; logreg compares the clusters with each other.
    sample_key, condition_key
        Columns of the store's obs; an empty ``condition_key``: no sums of samples.
    max_nnz
        Values of a block of cells; 0: by the free memory. No result depends on it.

    Notes
    -----
    Clusters of one cell are left out. Where fewer than two clusters remain to be compared, the tables are empty.
    """
    known = [*METHODS, "logreg"]
    unknown = [method for method in marker_methods if method not in known]
    if unknown or not marker_methods:
        raise InvalidInput(f"marker_methods: {', '.join(map(repr, unknown)) or 'none'} given.", f"Choose from {', '.join(sorted(known))}.")
    parameters = {"groupby": groupby, "marker_methods": list(marker_methods), "sample_key": sample_key, "condition_key": condition_key}
    packages = ["scipy", "pyarrow"]
    task = Task("markers", output, parameters=parameters, parents=[store, preprocess, cluster], backend_name=backend, packages=packages)
    with task.step("read"):
        counts, obs, factor = read_labels(store, preprocess, cluster, groupby)
        genes = counts.var.index.to_numpy(dtype=object)
        if condition_key in obs:
            _write_pseudobulk(task, tables, row_blocks(counts, backend, None, max_nnz), obs, genes, sample_key, groupby)
        blocks = row_blocks(counts, backend, factor, max_nnz)
    groups = _comparable(task, obs[groupby], groupby)
    results = {}
    if groups:
        with task.step("sums and ranks"):
            moments = summarize_blocks(blocks, obs, groupby, genes, groups=groups, with_ranks="wilcoxon" in marker_methods)
    for number, method in enumerate(marker_methods):
        table = pd.DataFrame(columns=TIDY)
        if groups:
            with task.step(method):
                result = _result(task, method, moments, blocks, obs[groupby], groups, groupby)
                results["rank_genes_groups" + (f"_{method}" if number else "")] = result
                table = tidy(result)
        with task.step(f"table of {method}"):
            write_table(tables, f"markers_{method}", table, parquet=True)
    task.write(obs=obs[[]], uns=results)


def _result(task, method, moments, blocks, labels, groups, groupby) -> dict:
    """What goes to uns for one method."""
    params = {"groupby": groupby, "reference": "rest", "method": method, "use_raw": False, "layer": None}
    params["corr_method"] = "benjamini-hochberg"
    if method != "logreg":
        return {"params": params, **ranked(moments, *METHODS[method](moments), pts=True)}
    if len(groups) < 2:
        raise InvalidInput(f"logreg: {groupby} has one cluster of two cells or more.", ONE_CLUSTER)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        group = group_codes(pd.Categorical(labels), groups)
        score, rows, stated = regression_scores(blocks, group, len(groups), len(moments.genes))
    for warning in caught:
        task.warn(f"{warning.message}.", "Leave logreg out, or cluster with a lower resolution.")
    return {"params": params | stated, **ranked(moments, score, pts=True, rows=rows)}


def _write_pseudobulk(task, tables, blocks, obs, genes, sample_key, groupby) -> None:
    """Sums of counts for tests between samples: genes in rows, as DESeq2 and edgeR take them."""
    if sample_key not in obs:
        raise InvalidInput(f"sample_key {sample_key!r}: no such column; there are {', '.join(obs)}.", "Name one of these.")
    sums, rows = pseudobulk_blocks(blocks, obs, len(genes), sample_key, groupby)
    numbers = pd.DataFrame(np.rint(sums).astype(np.int64).T, columns=rows.index)
    numbers.insert(0, "gene", genes)
    write_table(tables, "pseudobulk_counts", numbers, parquet=True)
    rows.insert(0, "name", rows.index)
    write_table(tables, "pseudobulk_samples", rows, parquet=True)


def _comparable(task, labels, groupby) -> list:
    """Clusters of two cells or more, if they can be compared with others; warns about what is left out."""
    sizes = labels.value_counts().reindex(labels.cat.categories)
    groups = [name for name, size in sizes.items() if size > 1]
    single = [str(name) for name, size in sizes.items() if size == 1]
    if not groups or sizes.max() == len(labels):
        task.warn(f"{groupby} has one cluster: there is nothing to compare it with, and no markers.", ONE_CLUSTER)
        return []
    if single:
        cause = f"{groupby}: clusters of one cell have no markers: {', '.join(single[:20])}."
        task.warn(cause, "Lower the resolution to have fewer clusters.")
    return groups
