"""Diffusion maps, and the pseudotime along them."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, data
from rsc_core.tl._spectral import components, eigenvectors

TOLERANCE = 1e-6  # length of T v - value v; the error of a value is about its square over the gap to the next
STATIONARY = 0.9994  # scanpy's: larger eigenvalues count as 1


def diffmap(adata, n_comps=15, *, neighbors_key=None, random_state=0):
    """Coordinates in which distance is how differently random walks on the neighbour graph go on (Coifman & Lafon 2006).

    K = W_ij / (q_i q_j) with q the row sums of the connectivities W, T = K_ij / sqrt(z_i z_j) with z the row sums of K; the
    coordinates are the eigenvectors of T of the largest eigenvalues. An eigenvalue near 1: a direction in which the
    walk is slow.

    Parameters
    ----------
    adata
        With a neighbour graph, whose backend does the work.
    n_comps
        Eigenvectors, above 2; no more than there are cells.
    neighbors_key
        Key of uns with the graph; by default ``neighbors``.
    random_state
        Seed of the start of the search; it changes last bits only.

    Returns
    -------
    None. Sets ``obsm['X_diffmap']`` float32 (cells, n_comps), the entry of largest magnitude of a column positive, and
    ``uns['diffmap_evals']`` float32 (n_comps,), descending.

    Notes
    -----
    Every connected part of more than one cell has an eigenvalue 1, whose vector is 0 elsewhere; the largest parts come
    first. An isolated cell is 0 in every vector (scanpy: NaN). CPU = GPU bit for bit. scanpy: eigenvalues within 1e-6; vectors
    up to sign within 1e-4 where the eigenvalue is not near another. scanpy orders by magnitude, this by value.
    """
    if n_comps <= 2:
        raise ValueError(f"n_comps is {n_comps}; it must be above 2")
    graph, _ = data.connectivities(adata, neighbors_key)
    values, vectors = eigenvectors(graph, min(n_comps, graph.shape[0]), density_normalize=True, seed=random_state, tolerance=TOLERANCE)
    adata.obsm["X_diffmap"] = np.ascontiguousarray(vectors.T, dtype=np.float32)
    adata.uns["diffmap_evals"] = values.astype(np.float32)


def dpt(adata, n_dcs=10, *, neighbors_key=None):
    """Diffusion pseudotime: how far is each cell from the root cell along the graph? (Haghverdi 2016, doi:10.1038/nmeth.3971)

    d(i)^2 = sum over k of (l_k / (1 - l_k) (v_k(root) - v_k(i)))^2 for eigenvalues l_k below 0.9994, plus
    (v_k(root) - v_k(i))^2 for the others; divided by the largest. 0: the root; 1: the farthest cell.

    Parameters
    ----------
    adata
        With ``uns['iroot']``, the position of the root cell; without ``obsm['X_diffmap']`` :func:`diffmap` is run first.
    n_dcs
        Diffusion components that count.
    neighbors_key
        Key of uns with the graph.

    Returns
    -------
    None. Sets ``obs['dpt_pseudotime']`` float64 (cells,): infinite in connected parts without the root, 0 for all where no cell is
    away from the root. scanpy: within 1e-4 (it computes in float32). Branchings are not looked for.

    Raises
    ------
    ValueError
        No ``uns['iroot']``, or one that is not a position.
    """
    n_cells = adata.shape[0]
    root = adata.uns.get("iroot")
    if root is None or not 0 <= int(root) < n_cells:
        raise ValueError(f"uns['iroot'] is {root!r}; it must be the position of the root cell, 0 to {n_cells - 1}")
    if "X_diffmap" not in adata.obsm:
        diffmap(adata, neighbors_key=neighbors_key)
    graph, _ = data.connectivities(adata, neighbors_key)
    vectors = np.asarray(backend.to_host(adata.obsm["X_diffmap"]), dtype=np.float64)[:, :n_dcs]
    values = np.asarray(adata.uns["diffmap_evals"], dtype=np.float64)[:n_dcs]
    if vectors.shape[1] < n_dcs:
        raise ValueError(f"n_dcs is {n_dcs}, but X_diffmap has {vectors.shape[1]} columns; run tl.diffmap with n_comps={n_dcs}")
    slow = values >= STATIONARY
    scale = np.where(slow, 1.0, values / np.where(slow, 1.0, 1 - values))
    distance = np.sqrt((((vectors[int(root)] - vectors) * scale) ** 2).sum(axis=1))
    part = backend.to_host(components(graph))
    distance[part != part[int(root)]] = np.inf
    farthest = distance[np.isfinite(distance)].max()
    adata.obs["dpt_pseudotime"] = distance / farthest if farthest > 0 else distance
