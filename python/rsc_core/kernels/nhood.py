"""Loops over the edges of a graph of labelled cells; ``nhood.cu`` holds the same for CUDA. All results are whole numbers."""

import numba
import numpy as np

from rsc_core.kernels.twin import twin

TOGETHER = 8  # orders of the labels that a thread of the CPU takes together
THREADS = 256  # of the block that counts the edges of one order of the labels


@numba.njit
def count_pairs(indptr, indices, label, n_groups, count):
    """Edges by the two labels of (cells, TOGETHER), in ``count`` (TOGETHER, groups x groups).

    Counters of different orders do not wait for each other.
    """
    row = np.empty(TOGETHER, dtype=np.uint32)
    for i in range(len(label)):
        for o in range(TOGETHER):
            row[o] = label[i, o] * n_groups
        for k in range(indptr[i], indptr[i + 1]):
            there = label[indices[k]]
            for o in range(TOGETHER):
                count[o, row[o] + there[o]] += 1


@numba.njit(cache=True)
def edges_between(indptr, indices, weight, code, total):
    """Sum of the weights (where there are none: number) of the edges from each group to each other, in the order of the cells."""
    for i in range(len(code)):
        for k in range(indptr[i], indptr[i + 1]):
            total[code[i], code[indices[k]]] += weight[k] if len(weight) > 0 else 1.0


@twin("int16 int32 int64 int16")
def labels_in_order(n_items, label, order, n_cells, out):
    """``label[order]``; both (orders, cells)."""
    for row in numba.prange(n_items // n_cells):
        for i in range(n_cells):
            out[row, i] = label[order[row, i]]


@twin("int64 int32 int16 int64 int64 int64", threads=THREADS, per_item=THREADS)
def pair_counts(n_items, indptr, indices, label, n_cells, n_groups, out):
    """Edges from each group to each other, for each order of the labels (orders, cells)."""
    for part in numba.prange((n_items + TOGETHER - 1) // TOGETHER):
        first, width = part * TOGETHER, min(TOGETHER, n_items - part * TOGETHER)
        mine, count = np.zeros((n_cells, TOGETHER), dtype=np.uint16), np.zeros((TOGETHER, n_groups * n_groups), dtype=np.int64)
        for o in range(width):
            for i in range(n_cells):
                mine[i, o] = label[first + o, i]
        count_pairs(indptr, indices, mine, n_groups, count)
        for o in range(width):
            for p in range(n_groups * n_groups):
                out[first + o, p // n_groups, p % n_groups] += count[o, p]


@twin("int64 int32 int32 int64 int32 uint8")
def next_level(n_items, indptr, indices, level, n_cells, number, found):
    """Cells that no step has reached yet and that have a neighbour which step ``number - 1`` reached; (groups, cells)."""
    for item in numba.prange(n_items):
        group, cell = item // n_cells, item % n_cells
        if level[group, cell] < 0:
            for k in range(indptr[cell], indptr[cell + 1]):
                if level[group, indices[k]] == number - 1:
                    level[group, cell] = number
                    found[group] = 1
                    break


@twin("int64 int32 int64")
def triangles(n_items, indptr, indices, out):
    """Pairs of neighbours of a cell that are neighbours themselves; indices in order, no edge from a cell to itself."""
    for cell in numba.prange(n_items):
        count = 0
        for k in range(indptr[cell], indptr[cell + 1]):
            other = indices[k]
            a, b = indptr[cell], indptr[other]
            while a < indptr[cell + 1] and b < indptr[other + 1]:
                if indices[a] == indices[b]:
                    count += 1
                    a += 1
                    b += 1
                elif indices[a] < indices[b]:
                    a += 1
                else:
                    b += 1
        out[cell] = count // 2
