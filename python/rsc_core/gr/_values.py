"""Values of some genes, dense, from a matrix or from the counts store."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import autocorr as kernels


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
