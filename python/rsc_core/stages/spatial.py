"""SPATIAL: the graph of a sample's tissue, spatially variable genes, ligand-receptor pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from rsc_core import data
from rsc_core.errors import InvalidInput
from rsc_core.gr._autocorr import spatial_autocorr
from rsc_core.gr._build import spatial_neighbors
from rsc_core.gr._ligrec import NothingToTest, ligrec, storable_ligrec, tidy
from rsc_core.io.delta import read_delta
from rsc_core.io.files import digest_of_file
from rsc_core.io.store import CountsStore
from rsc_core.pp._normalize import lognorm
from rsc_core.stages._clusters import write_table
from rsc_core.stages._inputs import check_same_cells
from rsc_core.stages._task import Task

STATISTICS = ("moran", "geary", "ligrec")
KEYS = {"moran": "moranI", "geary": "gearyC"}
LIGREC_COLUMNS = ("source", "target", "cluster_1", "cluster_2", "mean", "p_value", "adjusted_p_value")


def run(
    *, store, preprocess, cluster, sample, output, tables, interactions=None, backend="cpu", seed=0, coord_type="grid", n_neighs=6,
    spatial_stats=("moran", "ligrec"), n_perms=100, cluster_key="leiden",
):
    """Build the graph of a sample's spots or cells and compute spatial statistics on it.

    Parameters
    ----------
    store, preprocess, cluster
        Merged counts store, deltas of PREPROCESS and CLUSTER.
    sample
        Which cells: those whose ``obs['sample']`` it is.
    output
        Delta of these cells: ``obsp['spatial_connectivities']``, ``obsp['spatial_distances']``, ``uns['moranI']``,
        ``uns['gearyC']``, ``uns['<cluster_key>_ligrec']`` (see :func:`rsc_core.gr.restore_ligrec`).
    tables
        Folder for ``<sample>.moran.csv``, ``<sample>.geary.csv`` and ``<sample>.ligrec.csv``.
    interactions
        Table of ligands and receptors; needed for ligrec.
    backend, seed
        Where the work runs; of the permutations.
    coord_type, n_neighs
        See :func:`rsc_core.gr.spatial_neighbors`.
    spatial_stats
        ``moran``, ``geary``, ``ligrec``.
    n_perms
        Number of permutations.
    cluster_key
        Column of CLUSTER's obs or, where it has none of this name, of the store's.
    """
    unknown = [name for name in spatial_stats if name not in STATISTICS]
    if unknown or not spatial_stats:
        raise InvalidInput(f"spatial_stats: {', '.join(map(repr, unknown)) or 'none'} given.", f"Choose from {', '.join(STATISTICS)}.")
    if "ligrec" in spatial_stats and not interactions:
        raise InvalidInput("interactions: no table, which ligrec needs.", "Name a table with ligand and receptor, or leave ligrec out.")
    parameters = {
        "sample": sample, "coord_type": coord_type, "n_neighs": n_neighs, "spatial_stats": list(spatial_stats), "n_perms": n_perms,
        "cluster_key": cluster_key,
    }
    inputs = {"parents": [store, preprocess, cluster], "parameters": parameters, "seed": seed}
    task = Task(f"spatial:{sample}", output, **inputs, backend_name=backend, packages=["pandas", "scipy"])
    if "ligrec" in spatial_stats:
        task.record["interactions"] = {"file": Path(interactions).name, "sha256": digest_of_file(interactions)}
    with task.step("read"):
        adata = read_sample(store, preprocess, cluster, sample, cluster_key if "ligrec" in spatial_stats else None, backend)
    with task.step("graph"):
        spatial_neighbors(adata, coord_type=coord_type, n_neighs=n_neighs)
    _warn_of_graph(task, adata, sample)
    for mode in [name for name in KEYS if name in spatial_stats]:
        with task.step(mode):
            spatial_autocorr(adata, mode=mode, n_perms=n_perms, seed=seed)
        write_table(tables, f"{sample}.{mode}", adata.uns[KEYS[mode]].rename_axis("gene").reset_index())
    if "ligrec" in spatial_stats:
        with task.step("ligrec"):
            table = _ligrec(task, adata, cluster_key, interactions, n_perms, seed)
        write_table(tables, f"{sample}.ligrec", table)
    task.write(obs=adata.obs[[]], obsp=dict(adata.obsp.items()), uns=dict(adata.uns))


def read_sample(store, preprocess, cluster, sample, cluster_key, backend):
    """A sample's cells, log-normalised on the backend, with coordinates and clusters (none where cluster_key is None)."""
    opened = CountsStore(store)
    obs = opened.obs
    normalised, clusters = read_delta(preprocess), read_delta(cluster)
    for delta, path in ((normalised, preprocess), (clusters, cluster)):
        check_same_cells(obs.index, delta.obs.index, Path(path).name)
    names = obs["sample"].astype(str) if "sample" in obs else pd.Series("", index=obs.index)
    mine = np.flatnonzero(names == sample)
    if not mine.size:
        there = ", ".join(names.unique())
        raise InvalidInput(f"sample {sample!r}: no cells; there are {there}.", "Name one of these, or loosen the QC thresholds.")
    adata = data.load(opened, backend, rows=mine)
    if "spatial" not in adata.obsm or np.isnan(np.asarray(adata.obsm["spatial"], dtype=np.float64)).all():
        raise InvalidInput(
            f"sample {sample!r}: its cells have no coordinates.",
            "Give a file with obsm['spatial'], or set spatial to false for this sample in the samplesheet.",
        )
    columns = {}
    if cluster_key is not None:
        labels = clusters.obs if cluster_key in clusters.obs else obs
        if cluster_key not in labels:
            there = ", ".join([*clusters.obs, *obs])
            raise InvalidInput(f"cluster_key {cluster_key!r}: no such column; there are {there}.", "Name one of these.")
        columns[cluster_key] = pd.Categorical(labels[cluster_key].iloc[mine])
    adata.X = lognorm(adata.X, normalised.obs["size_factor"].to_numpy()[mine])
    adata.obs = pd.DataFrame(columns, index=adata.obs_names)
    return adata


def _ligrec(task, adata, cluster_key, interactions, n_perms, seed) -> pd.DataFrame:
    """Run ligrec into uns; returns its table, empty with a warning where there is nothing to test."""
    try:
        result = ligrec(adata, cluster_key, interactions=interactions, n_perms=n_perms, seed=seed, copy=True)
    except NothingToTest as error:
        task.warn(f"ligrec: {error.cause} The table is empty.", error.remedy)
        return pd.DataFrame(columns=list(LIGREC_COLUMNS))
    adata.uns[f"{cluster_key}_ligrec"] = storable_ligrec(result)
    return tidy(result)


def _warn_of_graph(task, adata, sample) -> None:
    alone = int((np.diff(adata.obsp["spatial_connectivities"].indptr) == 0).sum())
    if alone:
        task.warn(
            f"sample {sample!r}: {alone} of {adata.n_obs} spots or cells have no neighbour.",
            "Nothing to do where tissue has gaps; if there are many, check coord_type and n_neighs.",
        )
