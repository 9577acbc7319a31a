"""Loops over counts as a store holds them, for MERGE, which runs on the CPU alone: there is no ``merge.cu``.

``rows`` are the kept cells of a store with the arrays ``indptr``, ``indices`` and ``data``; integers of any width.
"""

import numba
import numpy as np

from rsc_core.kernels import twin  # noqa: F401 - where compiled code is kept


@numba.njit(parallel=True, cache=True)
def gene_cells(rows, indptr, indices, data, n_cells, largest):
    """Add to ``n_cells`` (threads, genes) how many cells have counts of a gene, and raise ``largest`` (threads,) to the largest count."""
    n_copies = len(n_cells)
    for copy in numba.prange(n_copies):
        for row in rows[copy * rows.size // n_copies : (copy + 1) * rows.size // n_copies]:
            for k in range(indptr[row], indptr[row + 1]):
                n_cells[copy, np.int64(indices[k])] += 1
                largest[copy] = max(largest[copy], np.int64(data[k]))


@numba.njit(parallel=True, cache=True)
def moved_sizes(rows, indptr, indices, column, size):
    """How many counts of each row stay; ``column`` says where a gene goes, -1: nowhere."""
    for item in numba.prange(rows.size):
        stays = 0
        for k in range(indptr[rows[item]], indptr[rows[item] + 1]):
            stays += column[np.int64(indices[k])] >= 0
        size[item] = stays


@numba.njit(parallel=True, cache=True)
def moved_counts(rows, indptr, indices, data, column, new_indptr, new_indices, new_data):
    """The counts that stay, genes of a row in the order of their new places."""
    for item in numba.prange(rows.size):
        start, to, sorted_ = new_indptr[item], new_indptr[item], True
        for k in range(indptr[rows[item]], indptr[rows[item] + 1]):
            gene = column[np.int64(indices[k])]
            if gene >= 0:
                sorted_ &= to == start or new_indices[to - 1] < gene
                new_indices[to], new_data[to] = gene, data[k]
                to += 1
        if not sorted_:
            order = np.argsort(new_indices[start:to], kind="mergesort")
            new_indices[start:to], new_data[start:to] = new_indices[start:to][order], new_data[start:to][order]
