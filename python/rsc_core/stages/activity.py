"""ACTIVITY: activities of the sources of a network in cells and clusters."""

from __future__ import annotations

from pathlib import Path

from rsc_core.dc._aggregate import waggr, wmean, wsum
from rsc_core.dc._consensus import consensus
from rsc_core.dc._linear import mlm, ulm
from rsc_core.dc._net import read_network
from rsc_core.dc._rank_sources import rank_sources
from rsc_core.dc._sets import aucell, ora
from rsc_core.dc._zscore import zscore
from rsc_core.errors import InvalidInput
from rsc_core.io.files import digest_of_file
from rsc_core.stages._clusters import read_clusters, write_table
from rsc_core.stages._task import Task

METHODS = {"aucell": aucell, "mlm": mlm, "ora": ora, "ulm": ulm, "waggr": waggr, "wmean": wmean, "wsum": wsum, "zscore": zscore}
PERMUTED = ("waggr", "wmean", "wsum")
SEEDED = ("aucell", "ora", *PERMUTED)


def run(
    *,
    store,
    preprocess,
    cluster,
    network,
    output,
    tables,
    backend="cpu",
    seed=0,
    activity_methods=("ulm", "mlm"),
    tmin=5,
    times=1000,
    groupby="leiden",
):
    """Score each cell by one or more methods, and compare the clusters' scores.

    Parameters
    ----------
    store, preprocess, cluster
        Merged counts store, deltas of PREPROCESS and CLUSTER.
    network
        Table of edges (source, target, weight), or gmt.
    output
        Delta with ``obsm['score_<method>']`` and ``obsm['padj_<method>']``.
    tables
        Folder for ``activity_<method>.csv``.
    backend
        Where the work runs.
    seed
        Of permutations, and of the order of tied genes.
    activity_methods
        ``aucell``, ``mlm``, ``ora``, ``ulm``, ``waggr``, ``wmean``, ``wsum``, ``zscore``; ``consensus`` is made of the others.
    tmin
        Sources with fewer targets in the data are left out.
    times
        Permutations of waggr, wmean and wsum.
    groupby
        Column of obs with the clusters.
    """
    known = sorted([*METHODS, "consensus"])
    unknown = [method for method in activity_methods if method not in known]
    if unknown or not set(activity_methods) - {"consensus"}:
        raise InvalidInput(
            f"activity_methods: {', '.join(map(repr, unknown)) or ', '.join(activity_methods) or 'none'} given.",
            f"Choose from {', '.join(known)}; consensus needs another.",
        )
    activity_methods = sorted(activity_methods, key=lambda method: method == "consensus")  # last; the others in their order
    net = read_network(network)
    parameters = {"activity_methods": list(activity_methods), "tmin": tmin, "times": times, "groupby": groupby}
    parents = [store, preprocess, cluster]
    task = Task("activity", output, parameters=parameters, parents=parents, seed=seed, backend_name=backend, packages=["scipy"])
    task.record["network"] = {"file": Path(network).name, "sha256": digest_of_file(network)}
    with task.step("read"):
        adata = read_clusters(store, preprocess, cluster, groupby, backend)
    for method in activity_methods:
        with task.step(method):
            if method == "consensus":
                consensus(adata)
            else:
                options = {"times": times} if method in PERMUTED else {}
                options |= {"seed": seed} if method in SEEDED else {}
                METHODS[method](adata, net, tmin=tmin, **options)
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
