"""Values of some genes, dense, from a matrix or from the counts store."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from rsc_core import backend
from rsc_core.kernels import autocorr as kernels
from rsc_core.pp._normalize import lognorm

SLAB_NNZ = 1 << 28  # non-zeros of some genes that are held at once: 2 GB as float32 with int32 indices


class StoredValues(NamedTuple):
    """Values of some cells of a counts store, read for the genes that are asked for.

    Parameters
    ----------
    store
        :class:`rsc_core.io.store.CountsStore`.
    rows
        Positions of the cells, rising.
    size_factor
        float64 (cells,): values are log(1 + count / size factor). None: the counts themselves.
    backend_name
        ``"cpu"`` or ``"gpu"``.
    """

    store: object
    rows: np.ndarray
    size_factor: np.ndarray | None = None
    backend_name: str = "cpu"

    def of(self, genes):
        """The values of some genes at once: CSR float32 (cells, genes) on the backend."""
        x = backend.to_device(sp.vstack([block[:, genes].astype(np.float32) for block in self._blocks()], format="csr"), self.backend_name)
        return x if self.size_factor is None else lognorm(x, self.size_factor)

    def slabs(self, genes, max_nnz=SLAB_NNZ):
        """Some genes after others, as many as have ``max_nnz`` non-zeros (one at least): (their positions, their values)."""
        filled, start = self._sizes(max_nnz)[genes].cumsum(), 0
        while start < len(genes):
            before = filled[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(filled, before + max_nnz, side="right")))
            yield genes[start:stop], self.of(genes[start:stop])
            start = stop

    def _sizes(self, enough):
        """Non-zeros of each gene, int64 (genes,), unknown (0) where all together are no more than enough."""
        size = np.zeros(self.store.shape[1], dtype=np.int64)
        if np.diff(self.store.indptr)[self.rows].sum() > enough:
            for block in self._blocks():
                size += np.bincount(block.indices, minlength=len(size))
        return size

    def _blocks(self):
        """The counts of the cells, some cells after others."""
        if not len(self.rows):
            yield self.store.rows(0, 0)
            return
        for first, last, block in self.store.blocks(start=int(self.rows[0]), end=int(self.rows[-1]) + 1):
            here = self.rows[(self.rows >= first) & (self.rows < last)] - first
            yield block if len(here) == last - first else block[here]


def dense_genes(x, genes):
    """Some genes of a matrix, dense: float32 (cells, genes)."""
    return gene_groups(x, genes, max(len(genes), 1))[0] if len(genes) else backend.xp_of(x).zeros((x.shape[0], 0), dtype=np.float32)


def gene_groups(x, genes, width):
    """Some genes of a matrix, dense, ``width`` together: float32 (groups, cells, width), the last with genes of zeros."""
    n, n_groups = x.shape[0], -(-len(genes) // width)
    if hasattr(x, "indptr"):
        indptr, indices, values = backend.csr_parts(x, np.float32)
        xp, column = backend.xp_of(values), np.full(x.shape[1], -1, dtype=np.int32)
        column[genes] = np.arange(len(genes))
        block = xp.zeros((n_groups, n, width), dtype=np.float32)
        kernels.dense_columns(n, indptr, indices, values, xp.asarray(column), width, block)
        return block
    xp = backend.xp_of(x)
    block = xp.zeros((n, n_groups * width), dtype=np.float32)
    block[:, : len(genes)] = x[:, xp.asarray(genes)]
    return xp.ascontiguousarray(block.reshape(n, n_groups, width).transpose(1, 0, 2))
