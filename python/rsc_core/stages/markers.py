"""MARKERS: genes that tell the clusters apart."""

from __future__ import annotations

import pandas as pd

from rsc_core.errors import InvalidInput
from rsc_core.stages._clusters import read_clusters, write_table
from rsc_core.stages._task import Task
from rsc_core.tl._group_moments import summarize
from rsc_core.tl._rank_genes_groups import METHODS, TIDY, ranked, tidy

ONE_CLUSTER = "Raise the resolution of the clusters, or check that the samples hold cells of more than one kind."


def run(*, store, preprocess, cluster, output, tables, backend="cpu", groupby="leiden", marker_methods=("wilcoxon", "t-test")):
    """Compare each cluster with all other cells.

    Parameters
    ----------
    store, preprocess, cluster
        Merged counts store, deltas of PREPROCESS and CLUSTER.
    output
        Delta with ``uns['rank_genes_groups']`` for the first method, ``uns['rank_genes_groups_<method>']`` for others.
    tables
        Folder for ``markers_<method>.csv``.
    backend
        Where the work runs.
    groupby
        Column of obs with the clusters.
    marker_methods
        Of ``rsc_core.tl.rank_genes_groups``.

    Notes
    -----
    Clusters of one cell are left out. Where fewer than two clusters remain to be compared, the tables are empty.
    """
    unknown = [method for method in marker_methods if method not in METHODS]
    if unknown or not marker_methods:
        raise InvalidInput(
            f"marker_methods: {', '.join(map(repr, unknown)) or 'none'} given.", f"Choose from {', '.join(sorted(METHODS))}."
        )
    parameters = {"groupby": groupby, "marker_methods": list(marker_methods)}
    task = Task("markers", output, parameters=parameters, parents=[store, preprocess, cluster], backend_name=backend, packages=["scipy"])
    with task.step("read"):
        adata = read_clusters(store, preprocess, cluster, groupby, backend)
    groups = _comparable(task, adata.obs[groupby], groupby)
    results = {}
    if groups:
        with task.step("sums and ranks"):
            moments = summarize(adata, groupby, groups=groups, with_ranks="wilcoxon" in marker_methods)
    for number, method in enumerate(marker_methods):
        table = pd.DataFrame(columns=TIDY)
        if groups:
            with task.step(method):
                params = {"groupby": groupby, "reference": "rest", "method": method, "use_raw": False, "layer": None}
                result = {"params": params | {"corr_method": "benjamini-hochberg"}, **ranked(moments, *METHODS[method](moments), pts=True)}
                results["rank_genes_groups" + (f"_{method}" if number else "")] = result
                table = tidy(result)
        with task.step(f"table of {method}"):
            write_table(tables, f"markers_{method}", table)
    task.write(obs=adata.obs[[]], uns=results)


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
