"""ACTIVITY: activities of the sources of a network in cells and clusters."""

from __future__ import annotations

from pathlib import Path

from rsc_core.dc._linear import mlm, ulm
from rsc_core.dc._net import read_network
from rsc_core.dc._rank_sources import rank_sources
from rsc_core.errors import InvalidInput
from rsc_core.io.files import digest_of_file
from rsc_core.stages._clusters import read_clusters, write_table
from rsc_core.stages._task import Task

METHODS = {"mlm": mlm, "ulm": ulm}


def run(*, store, preprocess, cluster, network, output, tables, backend="cpu", activity_methods=("ulm", "mlm"), tmin=5, groupby="leiden"):
    """Score each cell by one or more methods, and compare the clusters' scores.

    Parameters
    ----------
    store, preprocess, cluster
        Merged counts store, deltas of PREPROCESS and CLUSTER.
    network
        Table of edges (source, target, weight).
    output
        Delta with ``obsm['score_<method>']`` and ``obsm['padj_<method>']``.
    tables
        Folder for ``activity_<method>.csv``.
    backend
        Where the work runs.
    activity_methods
        ``ulm``, ``mlm``.
    tmin
        Sources with fewer targets in the data are left out.
    groupby
        Column of obs with the clusters.
    """
    unknown = [method for method in activity_methods if method not in METHODS]
    if unknown or not activity_methods:
        raise InvalidInput(
            f"activity_methods: {', '.join(map(repr, unknown)) or 'none'} given.", f"Choose from {', '.join(sorted(METHODS))}."
        )
    net = read_network(network)
    parameters = {"activity_methods": list(activity_methods), "tmin": tmin, "groupby": groupby}
    parents = [store, preprocess, cluster]
    task = Task("activity", output, parameters=parameters, parents=parents, backend_name=backend, packages=["scipy"])
    task.record["network"] = {"file": Path(network).name, "sha256": digest_of_file(network)}
    with task.step("read"):
        adata = read_clusters(store, preprocess, cluster, groupby, backend)
    for method in activity_methods:
        with task.step(method):
            METHODS[method](adata, net, tmin=tmin)
        with task.step(f"table of {method}"):
            write_table(tables, f"activity_{method}", rank_sources(adata.obsm[f"score_{method}"], adata.obs[groupby]))
    _warn(task, adata, groupby, activity_methods[0])
    task.write(obs=adata.obs[[]], obsm=dict(adata.obsm.items()))


def _warn(task, adata, groupby, method) -> None:
    """Warn about cells without scores and clusters without a comparison."""
    missing = int(adata.obsm[f"score_{method}"].isna().all(axis=1).sum())
    if missing:
        task.warn(f"{missing} cells have no activity: they express no gene, or all alike.", "Raise min_genes to leave such cells out.")
    if adata.obs[groupby].nunique() < 2:
        task.warn(f"{groupby} has one cluster: the tables hold its means and no tests.", "Raise the resolution of the clusters.")
