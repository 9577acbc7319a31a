"""Sums over pairs of neighbours, for the values of genes as they lie and as permutations scatter them over the tissue."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rsc_core import backend
from rsc_core.gr._permute import orders as permuted_orders
from rsc_core.gr._values import gene_groups
from rsc_core.kernels import autocorr as kernels

CHUNK_ROWS = 1024  # cells whose values one thread adds up; the last bits of a mean depend on it
GENE_BLOCK, DENSE_SIZE = 256, 1 << 26  # genes that are dense at once: so many, or as many as have so many values
ORDER_SIZE = 1 << 28  # numbers of cells in the permutations that are held at once
PARTS_SIZE = 1 << 26  # partial sums that are held at once


class Tiles(NamedTuple):
    """A graph cut into tiles: see :func:`rsc_core.kernels.autocorr.pair_sums`; arrays of one backend."""

    cell_start: object
    row_start: object
    rows: object
    indptr: object
    local: object
    weight: object
    degree: object


def tiles_of(graph, xp) -> Tiles:
    """A graph (CSR float64 of the host) cut into tiles of cells that lie together, and of each cell the sum of its row and column."""
    indptr, indices, weight = backend.csr_parts(graph)
    n = graph.shape[0]
    cells, tile_of, cell_start = np.empty(n, dtype=np.int32), np.full(n, -1, dtype=np.int32), np.zeros(n + 2, dtype=np.int64)
    n_tiles = kernels.grown_tiles(indptr, indices, cells, tile_of, cell_start) if n else 0
    cell_start = cell_start[: n_tiles + 1]
    row_start, edge_start = np.zeros(n_tiles + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    rows, local, weight_of = np.empty(n + graph.nnz, dtype=np.int32), np.empty(graph.nnz, dtype=np.int32), np.empty(graph.nnz)
    kernels.rows_of_tiles(indptr, indices, weight, cells, cell_start, row_start, rows, edge_start, local, weight_of)
    parts = cell_start, row_start, rows[: row_start[-1]], edge_start, local, weight_of, degrees(graph)[cells]
    return Tiles(*(xp.asarray(part) for part in parts))


def degrees(graph) -> np.ndarray:
    """Sum of the row and the column of each cell of a graph (CSR float64 of the host)."""
    return np.asarray(graph.sum(axis=1)).ravel() + np.bincount(graph.indices, graph.data, graph.shape[0])


def sums_of(graph, x, genes, n_perms, seed, n_sums=2):
    """Sums over pairs of neighbours for some genes, on the host.

    Returns
    -------
    mean : (genes,)
    sums : (3, genes)
        Sum w_ij z_i z_j, sum (w_i. + w_.i) z_i^2, sum z_i^2; the last is NaN where the gene is constant.
    permuted : (n_sums, n_perms, genes)
        The first one or two of them for the permutations, which do not change the last.
    """
    x = x.tocsr() if hasattr(x, "tocsr") else x
    xp, n = backend.xp_of(x), x.shape[0]
    tiles = tiles_of(graph, xp)
    mean, sums, permuted = np.empty(len(genes)), np.empty((3, len(genes))), np.empty((n_sums, n_perms, len(genes)))
    batch, width = max(1, ORDER_SIZE // max(n, 1)), max(GENE_BLOCK, DENSE_SIZE // max(n, 1))
    for first in range(0, max(n_perms, 1), batch):
        orders = permuted_orders(seed, "autocorr", n, first, min(batch, n_perms - first), xp)
        for start in range(0, len(genes), width):
            here = slice(start, min(start + width, len(genes)))
            size = here.stop - start
            block = gene_groups(x, genes[here], kernels.GENES)
            shift, constant = means(block)
            if first == 0:
                mean[here] = backend.to_host(shift)[:size]
                sums[:, here] = pair_sums(tiles, block, shift, xp.arange(n, dtype=np.int32).reshape(1, -1), 3)[:, 0, :size]
                sums[2, here][constant[:size]] = np.nan
            if n_perms:
                permuted[:, first : first + len(orders), here] = pair_sums(tiles, block, shift, orders, n_sums)[..., :size]
    return mean, sums, permuted


def means(block):
    """Mean of each gene of (groups, cells, GENES), float64, added up in one order on both backends; and which are constant, on the host."""
    xp, n, n_genes = backend.xp_of(block), block.shape[1], len(block) * kernels.GENES
    total, differing = xp.zeros((1, -(-n // CHUNK_ROWS), n_genes)), xp.zeros((-(-n // CHUNK_ROWS), n_genes), dtype=np.int64)
    kernels.gene_sums(total.size, block, n, n_genes, CHUNK_ROWS, total[0], differing)
    return _added(total)[0] / max(n, 1), (backend.to_host(differing) == 0).all(axis=0)


def _added(parts):
    """Sums over chunks: (rows, chunks, genes) to (rows, genes)."""
    n_rows, n_chunks, n_genes = parts.shape
    out = backend.xp_of(parts).empty((n_rows, n_genes))
    kernels.add_chunks(out.size, parts, n_chunks, n_genes, out)
    return out


def pair_sums(tiles, block, mean, orders, n_sums) -> np.ndarray:
    """Sums over pairs of neighbours for each order of the cells, on the host.

    Parameters
    ----------
    tiles
        The graph: see :func:`tiles_of`.
    block
        float32 (groups, cells, GENES).
    mean
        float64 (genes,), genes of zeros at the end too.
    orders
        int32 (orders, cells): which cell's values come to each place.
    n_sums
        How many of the sums, 1 to 3.

    Returns
    -------
    float64 (sums, orders, genes): sum w_ij z_i z_j, sum (w_i. + w_.i) z_i^2, sum z_i^2.
    """
    xp, (n_groups, n, _), n_tiles = backend.xp_of(block), block.shape, len(tiles.cell_start) - 1
    n_genes = n_groups * kernels.GENES
    at_once = max(1, PARTS_SIZE // max(n_sums * n_tiles * n_genes, 1))
    results = []
    for first in range(0, len(orders), at_once):
        some = orders[first : first + at_once]
        parts = xp.empty((n_sums, len(some), n_tiles, n_genes))
        kernels.pair_sums(n_groups * len(some) * n_tiles, *tiles, block, mean, some, n, n_genes, n_tiles, len(some), n_sums, parts)
        results.append(backend.to_host(_added(parts.reshape(-1, n_tiles, n_genes))).reshape(n_sums, len(some), n_genes))
    return np.concatenate(results, axis=1)
