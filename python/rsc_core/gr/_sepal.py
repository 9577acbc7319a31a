"""Sepal: how long does a gene take to spread evenly over the tissue?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.errors import InvalidInput
from rsc_core.gr._autocorr import gene_positions
from rsc_core.gr._slots import coordinates_of, graph_of
from rsc_core.gr._values import SLAB_NNZ, dense_genes
from rsc_core.kernels import sepal as kernels

# Weights of the neighbours' sum and of the cell itself: the five-point and the seven-point stencil.
STENCILS = {4: (1.0, 4.0), 6: (2.0 / 3.0, 4.0)}
BLOCK_SIZE = 1 << 27  # values of genes that are held at once


def sepal(
    adata,
    max_neighs,
    *,
    genes=None,
    n_iter=30000,
    dt=0.001,
    thresh=1e-8,
    connectivity_key="spatial_connectivities",
    spatial_key="spatial",
    layer=None,
    copy=False,
):
    """Time that a gene's diffusion over the grid takes until its entropy stays the same; high: the gene has a pattern.

    In each step a cell with all its neighbours changes by dt (sum of the neighbours - 4 x own) on squares, by
    dt (2 x sum - 12 x own) / 3 on hexagons; one at the rim changes as its first neighbour that has all, or the nearest such
    cell; what falls below 0 becomes 0. It ends when entropy / cells changes by at most ``thresh``.

    Parameters
    ----------
    adata
        AnnData with a graph of a grid; X or the layer is (cells, genes), CSR or dense, of the host or the device.
    max_neighs
        4 (squares) or 6 (hexagons).
    genes
        Names; by default those with ``var['highly_variable']`` where it exists, else all.
    n_iter, dt, thresh
        Largest number of steps, their length, and when it ends.
    connectivity_key, spatial_key
        Graph in ``obsp`` and coordinates in ``obsm``.
    layer
        Layer to take instead of X.
    copy
        Return the table instead of keeping it in ``uns['sepal_score']``.

    Returns
    -------
    None, or DataFrame (genes) with ``sepal_score`` = dt x number of steps, highest first; NaN where ``n_iter`` steps did not
    suffice. A gene that is expressed nowhere among cells with all neighbours ends at the second step: dt.

    Raises
    ------
    InvalidInput
        When the graph's largest number of neighbours is not ``max_neighs``, or a gene has NaN, infinite or negative values.

    Notes
    -----
    Sums have one order and logarithms the same bits: equal on CPU and GPU. squidpy 1.8 adds in another order: a score may
    differ by a step (dt) or, where the entropy creeps past the threshold, a few. Andersson & Lundeberg 2021,
    Bioinformatics 37:2644.
    """
    if max_neighs not in STENCILS:
        raise ValueError(f"max_neighs is {max_neighs}; it must be 4 or 6")
    if n_iter < 1:
        raise ValueError(f"n_iter is {n_iter}; it must be at least 1")
    x, genes = data.matrix(adata, layer), gene_positions(adata, genes)
    grid = stencil(graph_of(adata, connectivity_key), coordinates_of(adata, spatial_key), max_neighs)
    table = _finished(spreading(grid, x, genes, n_iter, dt, thresh, adata.var_names), dt, adata.var_names[genes])
    if copy:
        return table
    adata.uns["sepal_score"] = table
    return None


def stored_sepal(values, graph, coordinates, max_neighs, *, n_iter=30000, dt=0.001, thresh=1e-8, max_nnz=SLAB_NNZ):
    """The table of :func:`sepal` for all genes of a counts store, of which some are read at a time.

    Parameters
    ----------
    values
        :class:`rsc_core.gr._values.StoredValues` of the cells of the graph.
    graph, coordinates
        CSR (cells, cells) and float64 (cells, 2 or 3) of the host.
    max_neighs, n_iter, dt, thresh
        See :func:`sepal`.
    max_nnz
        Non-zeros that are held at once, one gene's at least; the result does not depend on it.
    """
    grid, names, steps = stencil(graph, coordinates, max_neighs), values.store.var.index, []
    for some, x in values.slabs(np.arange(len(names)), max_nnz):
        steps.append(spreading(grid, x, np.arange(len(some)), n_iter, dt, thresh, names[some]))
    return _finished(np.concatenate(steps), dt, names)


def _finished(steps, dt, names) -> pd.DataFrame:
    table = pd.DataFrame({"sepal_score": np.where(steps < 0, np.nan, dt * steps)}, index=names)
    return table.sort_values("sepal_score", ascending=False, kind="stable")


def spreading(grid, x, genes, n_iter, dt, thresh, names) -> np.ndarray:
    """Steps of each gene, int64 (genes,) of the host, -1 where they did not suffice; ``grid``: see :func:`stencil`."""
    xp, n, (n_full, max_neighs) = backend.xp_of(x), x.shape[0], grid[1].shape
    order, neighbors, source = (xp.asarray(part) for part in grid)
    of_sum, of_own = STENCILS[max_neighs]
    found, block = [], max(1, BLOCK_SIZE // max(n, 1))
    for start in range(0, len(genes), block):
        some = genes[start : start + block]
        amount = xp.ascontiguousarray(dense_genes(x, some)[order].T, dtype=np.float64)
        wrong = np.flatnonzero(~backend.to_host((amount >= 0) & (amount < np.inf)).all(axis=1))
        if wrong.size:
            raise InvalidInput(f"gene {names[some[wrong[0]]]} has NaN, infinite or negative values.", "Give counts or their logarithms.")
        out = xp.empty(len(some), dtype=np.int64)
        args = (amount, n, n_full, neighbors, source, max_neighs, of_sum, of_own, dt, thresh, n_iter)
        kernels.diffused(len(some), *args, xp.empty_like(amount), out)
        found.append(backend.to_host(out))
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def stencil(graph, coordinates, max_neighs):
    """The cells with all neighbours first, then the others.

    Returns
    -------
    order : int64 (cells,)
        Which cell is at each place.
    neighbors : int32 (full cells, max_neighs)
        Places of their neighbours.
    source : int32 (other cells,)
        Place of the full cell that each follows: its first full neighbour, else the nearest (sum of the coordinates' differences).

    Raises
    ------
    InvalidInput
        When the graph's largest number of neighbours is not ``max_neighs``.
    """
    graph = graph.copy()
    graph.eliminate_zeros()
    most = int(np.diff(graph.indptr).max(initial=0))
    if most != max_neighs:
        raise InvalidInput(
            f"max_neighs is {max_neighs}, but the cell with the most neighbours has {most}.",
            "Build the graph with spatial_neighbors(coord_type='grid'), and name the number of its neighbours.",
        )
    degree = np.diff(graph.indptr)
    full, other = np.flatnonzero(degree == max_neighs), np.flatnonzero(degree < max_neighs)
    order = np.concatenate([full, other])
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order))
    neighbors = place[graph.indices[graph.indptr[full][:, None] + np.arange(max_neighs)]]
    source = np.empty(len(other), dtype=np.int32)
    for i, cell in enumerate(other):
        mine = graph.indices[graph.indptr[cell] : graph.indptr[cell + 1]]
        mine = mine[degree[mine] == max_neighs]
        nearest = mine[0] if mine.size else full[np.argmin(np.abs(coordinates[full] - coordinates[cell]).sum(axis=1))]
        source[i] = place[nearest]
    return order, neighbors, source
