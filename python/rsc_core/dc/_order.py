"""The order of each cell's genes, in blocks of cells: what the methods of ranks begin with."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, rng
from rsc_core.dc._read import blocks
from rsc_core.kernels import places as kernels
from rsc_core.kernels.network import permute, random_keys

TIES = 0  # the permutation of the genes that breaks ties


class Order:
    """Places of the genes seen, which are the columns; of genes with one value, the lower column comes first.

    Attributes
    ----------
    column
        Column of each gene, -1 for genes that are not seen: int32 (genes,).
    n_genes
        Number of genes seen.
    where
        Gene of each column among the genes seen: int64 (genes seen,), of the host.
    """

    def __init__(self, given, seed):
        self.given, self.xp = given, backend.xp_of(given.parts[2])
        self.n_genes = int(given.seen.sum())
        self.where = rng.permutation(seed, "network", self.n_genes, TIES)
        column = np.full(given.seen.size, -1, dtype=np.int32)
        column[np.flatnonzero(given.seen)[self.where]] = np.arange(self.n_genes, dtype=np.int32)
        self.column = self.xp.asarray(column)

    def sources(self):
        """Columns of each source's targets: indptr, targets, weights, on the backend."""
        by_source = self.given.weights[self.where].T.tocsr()
        return tuple(self.xp.asarray(part) for part in backend.csr_parts(by_source, np.float64))

    def genes(self):
        """Sources of each column: indptr, sources, on the backend."""
        by_gene = self.given.weights[self.where].tocsr()
        return tuple(self.xp.asarray(part) for part in backend.csr_parts(by_gene, np.float64)[:2])

    def blocks(self, bytes_of_a_gene=0):
        """Row blocks ``(first, last, block)``; ``bytes_of_a_gene``: what the caller needs for each cell and gene."""
        for first, last, *block in blocks(self.given.parts, self.given.rows((4 + bytes_of_a_gene) * self.n_genes)):
            yield first, last, block

    def places(self, n_cells, block):
        """Places from the highest value, 0, 1, ...: int32 (cells, columns)."""
        return places(n_cells, block, self.column, self.n_genes)

    def sums(self, amount):
        """Sums over the targets of each source of the weight times the amount of the targets' places.

        Parameters
        ----------
        amount
            Of each place: float64 (genes seen,) of the host.

        Returns
        -------
        float64 (cells, sources) where the data are.
        """
        indptr, target, ones = self.sources()
        amount, n_sources = self.xp.asarray(amount), len(self.given.sources)
        out = self.xp.empty((self.given.shape[0], n_sources))
        for first, last, block in self.blocks():
            place = self.places(last - first, block)
            kernels.place_sums((last - first) * n_sources, place, indptr, target, ones, amount, self.n_genes, n_sources, out[first:last])
        return out


def places(n_cells, block, column, n_genes):
    """Places of a block's genes from the highest value, 0, 1, ...: int32 (cells, columns)."""
    xp = backend.xp_of(column)
    place, n_above = xp.full((n_cells, n_genes), -1, dtype=np.int32), xp.empty(n_cells, dtype=np.int32)
    kernels.places_of_stored(n_cells, *block, column, n_genes, *room_to_sort(block), place, n_above)
    kernels.places_of_zeros(n_cells, n_genes, n_above, place)
    return place


def permuted_places(n_genes, times, seed, xp):
    """The place that each gene gets in ``rng.permutation(seed, "network", n_genes, number)``: int32 (times, genes)."""
    keys, place = xp.empty(times * n_genes, dtype=np.uint64), xp.empty((times, n_genes), dtype=np.int32)
    random_keys(keys.size, np.uint64(seed & (1 << 64) - 1), np.uint64(rng.PURPOSES["network"]), keys)
    permute(keys.size, keys, n_genes, place)
    return place


def room_to_sort(block):
    """Room for the values and the columns of a block's stored genes."""
    xp, n_stored = backend.xp_of(block[2]), block[2].size
    return xp.empty(n_stored), xp.empty(n_stored, dtype=np.int32)
