"""SPATIAL: the graph of a sample's tissue, and statistics of genes and clusters on it."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from rsc_core.backend import to_device
from rsc_core.errors import InvalidInput
from rsc_core.gr._autocorr import stored_autocorr
from rsc_core.gr._build import spatial_neighbors
from rsc_core.gr._values import StoredValues
from rsc_core.io.delta import read_delta
from rsc_core.io.files import digest_of_file
from rsc_core.io.store import CountsStore
from rsc_core.stages import _tissue
from rsc_core.stages._clusters import write_table
from rsc_core.stages._inputs import check_same_cells
from rsc_core.stages._task import Task

KEYS = {"moran": "moranI", "geary": "gearyC"}
STATISTICS = (*KEYS, *_tissue.STATISTICS)
LIGREC_COLUMNS = _tissue.LIGREC_COLUMNS


def run(
    *, store, preprocess, cluster, sample, output, tables, interactions=None, backend="cpu", seed=0, coord_type="grid", n_neighs=6,
    spatial_stats=("moran", "ligrec"), n_perms=100, cluster_key="leiden", spatial_x="", spatial_y="", complex_policy="min",
    corr_axis="clusters", dissociated=False,
):
    """Build the graph of a sample's spots or cells and compute spatial statistics on it.

    Parameters
    ----------
    store, preprocess, cluster
        Merged counts store, deltas of PREPROCESS and CLUSTER. Values are log(1 + count / size factor), or what the store
        holds where PREPROCESS ran with normalization none (proteins).
    sample
        Which cells: those whose ``obs['sample']`` it is.
    output
        Delta of these cells: ``obsp['spatial_connectivities']``, ``obsp['spatial_distances']``, and in ``uns`` what each
        statistic keeps there, under squidpy's names (of ligrec see :func:`rsc_core.gr.restore_ligrec`).
    tables
        Folder for ``<sample>.<statistic>.csv``.
    interactions
        Table of ligands and receptors; needed for ligrec.
    backend, seed
        Where the work runs; of the permutations and simulations.
    coord_type, n_neighs
        See :func:`rsc_core.gr.spatial_neighbors`.
    spatial_stats
        Any of ``STATISTICS``.
    n_perms
        Number of permutations; of simulations of Ripley's statistics.
    cluster_key
        Column of CLUSTER's obs or, where it has none of this name, of the store's.
    spatial_x, spatial_y
        Columns of the store's obs with the coordinates, where ``obsm['spatial']`` does not hold them.
    complex_policy, corr_axis
        See :func:`rsc_core.gr.ligrec`.
    dissociated
        The sample has no coordinates: ligrec alone runs.
    """
    check_statistics(spatial_stats, interactions)
    chosen = ["ligrec"] if dissociated else [name for name in STATISTICS if name in spatial_stats]
    parameters = {
        "sample": sample, "coord_type": coord_type, "n_neighs": n_neighs, "spatial_stats": list(spatial_stats), "n_perms": n_perms,
        "cluster_key": cluster_key, "spatial_x": spatial_x, "spatial_y": spatial_y, "complex_policy": complex_policy,
        "corr_axis": corr_axis, "dissociated": dissociated,
    }
    inputs = {"parents": [store, preprocess, cluster], "parameters": parameters, "seed": seed}
    task = Task(f"spatial:{sample}", output, **inputs, backend_name=backend, packages=["pandas", "scipy"])
    if "ligrec" in chosen:
        if not interactions:
            raise InvalidInput("interactions: no table, which ligrec needs.", "Name a table with ligand and receptor.")
        task.record["interactions"] = {"file": Path(interactions).name, "sha256": digest_of_file(interactions)}
    with task.step("read"):
        columns = None if dissociated else (spatial_x, spatial_y)
        clusters = cluster_key if any(_tissue.STATISTICS[name][1] for name in chosen if name not in KEYS) else None
        values, adata = read_sample(store, preprocess, cluster, sample, clusters, columns, backend)
    if not dissociated:
        with task.step("graph"):
            spatial_neighbors(adata, coord_type=coord_type, n_neighs=n_neighs)
        _warn_of_graph(task, adata, sample)
    options = {
        "task": task, "interactions": interactions, "n_perms": n_perms, "seed": seed, "complex_policy": complex_policy,
        "corr_axis": corr_axis, "values": values,
    }
    for name in chosen:
        with task.step(name):
            if name in KEYS:
                graph = adata.obsp["spatial_connectivities"]
                table = adata.uns[KEYS[name]] = stored_autocorr(values, graph, mode=name, n_perms=n_perms, seed=seed)
                table = table.rename_axis("gene").reset_index()
            else:
                function, least = _tissue.STATISTICS[name]
                if _too_few(task, adata, cluster_key, name, least):
                    continue
                table = function(adata, cluster_key, options)
        write_table(tables, f"{sample}.{name}", table)
    task.write(obs=adata.obs[[]], obsp=dict(adata.obsp.items()), uns=dict(adata.uns))


def check_statistics(spatial_stats, interactions) -> None:
    """Raise InvalidInput where a name is unknown, none is given, or ligrec has no table."""
    unknown = [name for name in spatial_stats if name not in STATISTICS]
    if unknown or not spatial_stats:
        raise InvalidInput(f"spatial_stats: {', '.join(map(repr, unknown)) or 'none'} given.", f"Choose from {', '.join(STATISTICS)}.")
    if "ligrec" in spatial_stats and not interactions:
        raise InvalidInput("interactions: no table, which ligrec needs.", "Name a table with ligand and receptor, or leave ligrec out.")


def read_sample(store, preprocess, cluster, sample, cluster_key, columns, backend_name):
    """A sample's cells with coordinates (on the backend; none where ``columns`` is None) and clusters (none where the key is None).

    Returns
    -------
    (values of the cells, read when they are asked for; AnnData without X)
    """
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
    adata = ad.AnnData(obs=pd.DataFrame(index=obs.index[mine]), var=pd.DataFrame(index=opened.var.index))
    if columns is not None:
        places = _coordinates(opened, obs, mine, sample, columns)
        adata.obsm["spatial"] = to_device(places, backend_name)
    if cluster_key is not None:
        labels = clusters.obs if cluster_key in clusters.obs else obs
        if cluster_key not in labels:
            there = ", ".join([*clusters.obs, *obs])
            raise InvalidInput(f"cluster_key {cluster_key!r}: no such column; there are {there}.", "Name one of these.")
        adata.obs[cluster_key] = pd.Categorical(labels[cluster_key].iloc[mine]).remove_unused_categories()
    as_they_are = normalised.record.get("parameters", {}).get("normalization") == "none"
    factor = None if as_they_are else normalised.obs["size_factor"].to_numpy()[mine]
    return StoredValues(opened, mine, factor, backend_name), adata


def _coordinates(opened, obs, mine, sample, columns) -> np.ndarray:
    if any(columns):
        missing = [name for name in columns if name not in obs]
        if missing:
            there = ", ".join(obs)
            raise InvalidInput(f"spatial_x, spatial_y: no column {missing[0]!r}; there are {there}.", "Name two columns of obs.")
        places = np.column_stack([pd.to_numeric(obs[name].iloc[mine], errors="coerce") for name in columns]).astype(np.float64)
    else:
        places = np.asarray(opened.obsm.get("spatial", np.full((len(obs), 2), np.nan)), dtype=np.float64)[mine]
    if np.isnan(places).all():
        raise InvalidInput(
            f"sample {sample!r}: its cells have no coordinates.",
            "Give a file with obsm['spatial'], name its columns with spatial_x and spatial_y, or set spatial to false for this sample in "
            "the samplesheet.",
        )
    return places


def _too_few(task, adata, cluster_key, name, least) -> bool:
    n = adata.obs[cluster_key].nunique() if least else 0
    if n < least:
        task.warn(f"{name}: {cluster_key} has {n} cluster.", "Raise the resolution of the clusters, or name another column.")
    return n < least


def _warn_of_graph(task, adata, sample) -> None:
    alone = int((np.diff(adata.obsp["spatial_connectivities"].indptr) == 0).sum())
    if alone:
        task.warn(
            f"sample {sample!r}: {alone} of {adata.n_obs} spots or cells have no neighbour.",
            "Nothing to do where tissue has gaps; if there are many, check coord_type and n_neighs.",
        )
