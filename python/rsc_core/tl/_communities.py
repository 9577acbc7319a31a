"""What Leiden and Louvain share: checks, subsets of cells, several resolutions, labels, and what is recorded."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.tl._levels import modularity


def write_communities(
    adata, flavors, flavor, resolution, *, random_state, restrict_to, key_added, neighbors_key, obsp, use_weights, **params
):
    """Cluster the graph at each resolution and write obs and uns as :func:`rsc_core.tl.leiden` says.

    Parameters
    ----------
    flavors
        Functions of (indptr, indices, weight, resolution, seed, n_iterations) by name; they return any integers (cells,).
    """
    graph, _ = data.connectivities(adata, neighbors_key, obsp)
    resolutions = list(resolution) if isinstance(resolution, Iterable) else [resolution]
    if not resolutions or min(resolutions) <= 0:
        raise ValueError(f"resolution is {resolution}; it must be above 0")
    if flavor not in flavors:
        raise ValueError(f"flavor is {flavor!r}; it must be one of {sorted(flavors)}")
    if flavor == "cugraph" and backend.xp_of(graph.data) is np:
        raise ValueError("flavor 'cugraph' needs a graph on the device; move it there, or use 'deterministic' or 'igraph'")
    among = None if restrict_to is None else restricted(adata.obs, *restrict_to)
    if among is not None:
        here = "cpu" if backend.xp_of(graph.data) is np else "gpu"
        graph = backend.to_device(backend.to_host(graph)[among][:, among].tocsr(), here)
        key_added += "_R"
    indptr, indices, weight = backend.csr_parts(graph, np.float32)
    if not use_weights:
        weight = backend.xp_of(weight).ones_like(weight)
    keys = [f"{key_added}_{r:g}" for r in resolutions] if len(resolutions) > 1 else [key_added]
    for key, r in zip(keys, resolutions, strict=True):
        labels = ordered_labels(flavors[flavor](indptr, indices, weight, float(r), int(random_state), params["n_iterations"]))
        adata.obs[key] = categories(labels) if among is None else renamed(adata.obs, among, labels, *restrict_to)
        about = {"resolution": r, "random_state": random_state} | params | {"flavor": flavor}
        if among is not None:
            about["restrict_to"] = [restrict_to[0], [str(c) for c in restrict_to[1]]]
        adata.uns[key] = {"params": about, "modularity": modularity(indptr, indices, weight, labels, float(r))}
    if keys != [key_added]:
        adata.obs[key_added], adata.uns[key_added] = adata.obs[keys[0]], adata.uns[keys[0]]


def restricted(obs, key: str, names) -> np.ndarray:
    """Positions of the cells of some categories of a column."""
    if key not in obs:
        raise KeyError(f"restrict_to: there is no column {key!r} in obs; it has {list(obs.columns)}")
    column, names = obs[key].astype(str), [str(name) for name in names]
    unknown = sorted(set(names) - set(column))
    if unknown or not names:
        raise ValueError(f"restrict_to: obs[{key!r}] has no cells of {unknown or names}; it has {sorted(set(column))}")
    return np.flatnonzero(column.isin(names))


def renamed(obs, among, labels, key: str, names) -> pd.Categorical:
    """The column with the restricted cells named ``a-b,0``, as scanpy does: their categories, and their new label."""
    import natsort

    column = obs[key].astype(str).to_numpy().astype(object)
    column[among] = ["-".join(str(name) for name in names) + f",{label}" for label in labels]
    return pd.Categorical(column, categories=natsort.natsorted(set(column)))


def categories(labels: np.ndarray) -> pd.Categorical:
    """'0', '1', ... of integers from 0."""
    return pd.Categorical.from_codes(labels, [str(i) for i in range(int(labels.max()) + 1)])


def ordered_labels(labels: np.ndarray) -> np.ndarray:
    """Labels 0, 1, ... by falling size, then by the smallest member; any integers (cells,) to int64 (cells,)."""
    codes, names = pd.factorize(labels)  # by first appearance, which is the smallest member
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(-np.bincount(codes), kind="stable")] = np.arange(len(names))
    return rank[codes]


def igraph_of(indptr, indices, weight):
    """An undirected igraph.Graph of a symmetric matrix, and its weights; a graph of the device is copied."""
    import igraph

    indptr, indices, weight = (backend.to_host(part) for part in (indptr, indices, weight))
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    once = rows < indices  # each edge stands in the matrix twice
    graph = igraph.Graph(n=len(indptr) - 1, edges=np.column_stack([rows[once], indices[once]]))
    return graph, weight[once].astype(float).tolist()
