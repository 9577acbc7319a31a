"""Loops over the edges of a graph of labelled cells; ``nhood.cu`` holds the same for CUDA. All results are whole numbers."""

import numba

from rsc_core.kernels.twin import twin

THREADS = 256  # of the block that counts the edges of one order of the labels


@twin("int64 int32 int16 int64 int64 int64", threads=THREADS, per_item=THREADS)
def pair_counts(n_items, indptr, indices, label, n_cells, n_groups, out):
    """Edges from each group to each other, for each order of the labels (orders, cells)."""
    for order in numba.prange(n_items):
        for i in range(n_cells):
            row = out[order, label[order, i]]
            for k in range(indptr[i], indptr[i + 1]):
                row[label[order, indices[k]]] += 1


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
