"""ACTIVITY: activities of the sources of a network in cells and clusters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from rsc_core import data
from rsc_core.backend import to_device
from rsc_core.dc._aggregate import waggr, wmean, wsum
from rsc_core.dc._consensus import consensus
from rsc_core.dc._linear import mlm, ulm
from rsc_core.dc._net import read_network
from rsc_core.dc._pseudobulk import get_pseudobulk
from rsc_core.dc._rank_sources import rank_sources
from rsc_core.dc._sets import aucell, ora
from rsc_core.dc._viper import viper
from rsc_core.dc._walks import gsea, gsva
from rsc_core.dc._zscore import zscore
from rsc_core.errors import InvalidInput
from rsc_core.io.files import digest_of_file
from rsc_core.io.store import CountsStore
from rsc_core.pp._normalize import lognorm, size_factors
from rsc_core.stages._clusters import read_clusters, write_table
from rsc_core.stages._task import Task

METHODS = {"aucell": aucell, "gsea": gsea, "gsva": gsva, "mlm": mlm, "ora": ora, "ulm": ulm, "viper": viper}
METHODS |= {"waggr": waggr, "wmean": wmean, "wsum": wsum, "zscore": zscore}
PERMUTED = ("gsea", "waggr", "wmean", "wsum")
SEEDED = ("aucell", "gsva", "ora", *PERMUTED)


def run(
    *,
    store,
    preprocess,
    cluster,
    network,
    network_name="",
    output,
    tables,
    backend="cpu",
    seed=0,
    activity_methods=("ulm", "mlm"),
    tmin=5,
    times=1000,
    activity_pseudobulk=False,
    groupby="leiden",
):
    """Score each cell by one or more methods, and compare the clusters' scores.

    Parameters
    ----------
    store, preprocess, cluster
        Merged counts store, deltas of PREPROCESS and CLUSTER.
    network
        Table of edges (source, target, weight), or gmt.
    network_name
        Where there are several networks: ends the names in obsm (``score_<method>_<name>``), stands in those of the tables
        (``activity_<name>_<method>.csv``) and in that of the stage.
    output
        Delta with ``obsm['score_<method>']`` and ``obsm['padj_<method>']``.
    tables
        Folder for ``activity_<method>.csv``.
    backend
        Where the work runs.
    seed
        Of permutations, and of the order of tied genes.
    activity_methods
        Names of :data:`METHODS`; ``consensus`` is made of the others.
    tmin
        Sources with fewer targets in the data are left out.
    times
        Permutations of gsea, waggr, wmean and wsum.
    activity_pseudobulk
        Also score the sums of counts of each sample's clusters: ``pseudobulk_activity_<method>.csv``.
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
    parameters |= {"network_name": network_name, "activity_pseudobulk": activity_pseudobulk}
    parents = [store, preprocess, cluster]
    stage = f"activity.{network_name}" if network_name else "activity"
    task = Task(stage, output, parameters=parameters, parents=parents, seed=seed, backend_name=backend, packages=["scipy"])
    task.record["network"] = {"file": Path(network).name, "sha256": digest_of_file(network)}
    with task.step("read"):
        adata = read_clusters(store, preprocess, cluster, groupby, backend)
        bulk = _bulk(store, adata.obs[groupby], backend) if activity_pseudobulk else None
    prefix = stage.replace(".", "_", 1)
    for method in activity_methods:
        with task.step(method):
            _score(adata, method, net, tmin, times, seed)
        with task.step(f"table of {method}"):
            write_table(tables, f"{prefix}_{method}", rank_sources(adata.obsm[f"score_{method}"], adata.obs[groupby]))
        if activity_pseudobulk:
            with task.step(f"pseudobulk of {method}"):
                _score(bulk, method, net, tmin, times, seed)
                write_table(tables, f"pseudobulk_{prefix}_{method}", _long(bulk, method))
    _warn(task, adata, groupby, activity_methods[0])
    suffix = f"_{network_name}" if network_name else ""
    task.write(obs=adata.obs[[]], obsm={f"{key}{suffix}": value for key, value in adata.obsm.items()})


def _score(adata, method, net, tmin, times, seed) -> None:
    """Run a method; its tables go to obsm."""
    if method == "consensus":
        consensus(adata)
        return
    options = {"times": times} if method in PERMUTED else {}
    options |= {"seed": seed} if method in SEEDED else {}
    METHODS[method](adata, net, tmin=tmin, **options)


def _bulk(store, clusters, backend):
    """Sums of counts of each sample's clusters, log-normalised, on the backend."""
    counts = data.load(CountsStore(store), backend)
    counts.obs["cluster"] = clusters.astype(object).where(clusters.notna()).to_numpy()
    bulk = get_pseudobulk(counts, "sample", "cluster", min_counts=1)
    sums = sp.csr_matrix(bulk.X, dtype=np.float32)
    bulk.X = to_device(lognorm(sums, size_factors(sums)), backend)
    return bulk


def _long(bulk, method):
    """A row for each pseudobulk and source: sample, cluster, n_cells, source, score, and the adjusted p-value where there is one."""
    columns = {"score": bulk.obsm[f"score_{method}"]}
    if f"padj_{method}" in bulk.obsm:
        columns["adjusted_p_value"] = bulk.obsm[f"padj_{method}"]
    sources = columns["score"].columns
    table = bulk.obs[["sample", "cluster", "n_cells"]].loc[bulk.obs_names.repeat(sources.size)].reset_index(drop=True)
    table["source"] = np.tile(sources, bulk.n_obs)
    return table.assign(**{name: values.to_numpy().ravel() for name, values in columns.items()})


def _warn(task, adata, groupby, method) -> None:
    """Warn about cells without scores and clusters without a comparison."""
    missing = int(adata.obsm[f"score_{method}"].isna().all(axis=1).sum())
    if missing:
        task.warn(f"{missing} cells have no activity: they express no gene, or all alike.", "Raise min_genes to leave such cells out.")
    if adata.obs[groupby].nunique() < 2:
        task.warn(f"{groupby} has one cluster: the tables hold its means and no tests.", "Raise the resolution of the clusters.")
