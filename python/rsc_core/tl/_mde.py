"""Minimum-distortion embedding that keeps neighbours."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, data, rng
from rsc_core.kernels import mde as kernels
from rsc_core.kernels import spectral
from rsc_core.tl._start import start_positions
from rsc_core.tl._sums import products

REPULSIVE_FRACTION = 0.5  # pairs pushed apart for each pair of neighbours
LONGEST_STEP = 0.3  # of a coordinate, whose standard deviation is 1


def mde(adata, *, n_components=2, init_pos="spectral", random_state=0, maxiter=300, key_added=None, neighbors_key=None):
    """Draw the cells so that neighbours are near and other pairs are not (Agrawal, Ali & Boyd 2021, doi:10.1561/2200000090).

    Minimises the mean of w log(1 + d^1.5) over pairs of neighbours (w is 1, or 2 where each is the other's) and of -log(1 -
    exp(-d)) over half as many random other pairs, with the coordinates standardised: mean 0, covariance the unit matrix.
    This is PyMDE's ``preserve_neighbors(constraint=Standardized())``.

    Parameters
    ----------
    adata
        With a neighbour graph and its representation, on the backend that is to do the work.
    n_components
        Dimensions, below the number of cells.
    init_pos
        As in :func:`rsc_core.tl.umap`.
    random_state
        Seed of the random pairs and of the noise of the start.
    maxiter
        Steps down the gradient, each of the length of Barzilai & Borwein 1988; the best embedding met is kept.
    key_added
        Name of the slots; by default ``X_mde`` and ``mde``.
    neighbors_key
        Key of uns with the graph.

    Returns
    -------
    None. Sets ``obsm['X_mde']`` float32 (cells, n_components) and ``uns['mde']``, with the mean ``distortion``.

    Raises
    ------
    ValueError
        Not more cells than dimensions: they cannot be standardised.

    Notes
    -----
    CPU = GPU bit for bit from equal starts, unless two embeddings met are equally good within rounding. PyMDE's random pairs and
    its L-BFGS differ; the distortions of the results can be compared.
    """
    graph, neighbors = data.connectivities(adata, neighbors_key)
    n_cells = graph.shape[0]
    if n_cells <= n_components:
        raise ValueError(f"there are {n_cells} cells; {n_components} standardised dimensions need more")
    params = neighbors["params"]
    x = data.representation(adata, params.get("use_rep") or data.default_representation(adata), params.get("n_pcs"))
    start, used = start_positions(adata, graph, x, init_pos, n_components, random_state)
    pairs = neighbor_pairs(adata.obsp[neighbors["distances_key"]])
    y, distortion = minimise(pairs, other_pairs(pairs, random_state), start, maxiter)
    adata.obsm[key_added or "X_mde"] = y.astype(np.float32)
    about = {"random_state": random_state, "init_pos": used, "maxiter": maxiter, "constraint": "standardized", "algorithm": "rsc"}
    adata.uns[key_added or "mde"] = {"params": about, "distortion": distortion}


def neighbor_pairs(distances):
    """CSR float64 (cells, cells), symmetric: 1 where one is the other's neighbour, 2 where both are."""
    one = distances.copy().astype(np.float64)
    one.data[:] = 1
    return one + one.T.tocsr()


def other_pairs(pairs, seed: int):
    """A random partner that is not a neighbour of each cell in each round: int32 (rounds, cells), -1 for none."""
    n_cells = pairs.shape[0]
    xp = backend.xp_of(pairs.data)
    indptr, indices = (backend.to_host(part) for part in backend.csr_parts(pairs)[:2])
    n_rounds = max(1, round(REPULSIVE_FRACTION * indices.size / n_cells))
    partner = np.full((n_rounds, n_cells), -1, dtype=np.int32)
    arcs = np.sort(np.repeat(np.arange(n_cells, dtype=np.int64), np.diff(indptr)) * n_cells + indices, kind="stable")
    arcs = np.append(arcs, n_cells * n_cells)  # above all, so that every search ends at an arc
    for number in range(n_rounds):
        order = rng.permutation(seed, "mde", n_cells, number)
        one, two = order[: n_cells // 2], order[n_cells // 2 : n_cells // 2 * 2]
        wanted = one * n_cells + two
        free = arcs[np.searchsorted(arcs, wanted)] != wanted
        partner[number, one[free]], partner[number, two[free]] = two[free], one[free]
    return xp.asarray(partner)


class _Rows:
    """Sums over cells, and combinations, of a few rows (dimensions, cells)."""

    def __init__(self, n_cells, xp):
        self.xp, self.n_cells, self.ones = xp, n_cells, xp.ones((1, n_cells))

    def sums(self, rows):
        """Of each row, on the host."""
        return products(rows, self.ones)[:, 0]

    def combined(self, factor, rows):
        out = self.xp.empty_like(rows)
        factor = self.xp.asarray(np.ascontiguousarray(factor))
        spectral.combine_rows(self.n_cells, rows, factor, len(rows), len(rows), out)
        return out

    def standardised(self, y):
        """The nearest rows of mean 0 and covariance 1; a direction without any spread stays at 0."""
        y = y - self.xp.asarray(self.sums(y) / self.n_cells)[:, None]
        values, vectors = np.linalg.eigh(products(y, y) / self.n_cells)
        scale = np.where(values > 1e-12 * max(values.max(), 1e-300), 1 / np.sqrt(np.maximum(values, 1e-300)), 0)
        return self.combined((vectors * scale) @ vectors.T, y)

    def tangent(self, gradient, y):
        """The part of the gradient that keeps mean and covariance."""
        gradient = gradient - self.xp.asarray(self.sums(gradient) / self.n_cells)[:, None]
        along = products(gradient, y) / self.n_cells
        return gradient - self.combined((along + along.T) / 2, y)


def minimise(pairs, partner, start, maxiter=300):
    """Embedding float64 (cells, dimensions) on the backend of the pairs, and its mean distortion."""
    xp, (n_cells, n_dims) = backend.xp_of(pairs.data, partner, start), start.shape
    indptr, indices, weight = backend.csr_parts(pairs, np.float64)
    n_pairs = (indices.size + int((backend.to_host(partner) >= 0).sum())) / 2
    rows = _Rows(n_cells, xp)
    y, gradient, share = rows.standardised(xp.ascontiguousarray(start.T, dtype=np.float64)), xp.empty((n_dims, n_cells)), xp.empty(n_cells)
    best, lowest, before, rate = y, np.inf, None, 1.0
    for step in range(maxiter + 1):
        kernels.mde_gradient(n_cells, indptr, indices, weight, partner, len(partner), y, n_dims, gradient, share)
        value = float(rows.sums(share[None])[0]) / n_pairs
        if value < lowest:
            best, lowest = y, value
        slope = rows.tangent(gradient, y)
        largest = float(abs(slope).max())
        if step == maxiter or largest == 0:
            break
        if before is not None:
            moved, turned = y - before[0], slope - before[1]
            rate = abs(np.trace(products(moved, moved)) / (np.trace(products(moved, turned)) or 1.0))
        before = y, slope
        y = rows.standardised(y - min(rate, LONGEST_STEP / largest) * slope)
    return xp.ascontiguousarray(best.T), lowest
