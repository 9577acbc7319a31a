"""Values of some genes, dense, from a matrix or from the counts store."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from rsc_core import backend
from rsc_core.kernels import autocorr as kernels

SLAB_NNZ = 1 << 28  # non-zeros of some genes that are held at once: 2 GB as float32 with int32 indices


def gene_slabs(store, rows, genes, max_nnz=SLAB_NNZ):
    """Some genes of a counts store after others, as CSR float32 counts of the host.

    Parameters
    ----------
    store
        :class:`rsc_core.io.store.CountsStore`; it is read once for each slab.
    rows
        Positions of the cells, rising.
    genes
        Positions of the genes, (genes,).
    max_nnz
        Non-zeros of a slab, one gene's at least; those of cells that are not asked for count.

    Yields
    ------
    (positions of the slab's genes, CSR (cells, genes of the slab))
    """
    size = np.zeros(store.shape[1], dtype=np.int64)
    for _, _, block in store.blocks():
        size += np.bincount(block.indices, minlength=len(size))
    start, filled = 0, size[genes].cumsum()
    while start < len(genes):
        before = filled[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(filled, before + max_nnz, side="right")))
        some, parts = genes[start:stop], []
        for first, last, block in store.blocks():
            here = rows[(rows >= first) & (rows < last)] - first
            parts.append((block if len(here) == last - first else block[here])[:, some].astype(np.float32))
        yield some, sp.vstack(parts, format="csr")
        start = stop


def dense_genes(x, genes):
    """Some genes of a matrix, dense: float32 (cells, genes)."""
    if not hasattr(x, "indptr"):
        xp = backend.xp_of(x)
        return xp.ascontiguousarray(x[:, xp.asarray(genes)], dtype=np.float32)
    indptr, indices, values = backend.csr_parts(x, np.float32)
    xp, column = backend.xp_of(values), np.full(x.shape[1], -1, dtype=np.int32)
    column[genes] = np.arange(len(genes))
    block = xp.zeros((x.shape[0], len(genes)), dtype=np.float32)
    kernels.dense_columns(x.shape[0], indptr, indices, values, xp.asarray(column), len(genes), block)
    return block
