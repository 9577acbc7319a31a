"""One epoch of UMAP's optimiser; ``umap.cu`` holds the same for CUDA."""

import numba
import numpy as np

from rsc_core.kernels.device import random_bits
from rsc_core.kernels.twin import twin

SHARE_BITS = 30  # an arc's share of the epochs is a multiple of 2^-30
FIRST_EXPONENT, LAST_EXPONENT = -24, 40  # of the squared distances in the tables of coefficients
STEP_BITS = 16  # mantissa bits between two entries of a table: 2^7 entries an octave
TABLE_SIZE = ((LAST_EXPONENT - FIRST_EXPONENT) << (23 - STEP_BITS)) + 1
LONGEST_STEP = np.float32(4.0)


@numba.njit
def interpolated(table, square):
    """The table's function at a squared distance: linear between neighbours, constant beyond the ends."""
    bits = np.float32(square).view(np.int32)
    place = (bits >> np.int32(STEP_BITS)) - np.int32((127 + FIRST_EXPONENT) << (23 - STEP_BITS))
    if place < 0:
        return table[0]
    if place >= TABLE_SIZE - 1:
        return table[TABLE_SIZE - 1]
    part = np.float32(bits & np.int32((1 << STEP_BITS) - 1)) * np.float32(1.0 / (1 << STEP_BITS))
    return table[place] + part * (table[place + 1] - table[place])


@twin("int64 int32 int32 float32 float32 float32 int64 int64 int64 uint64 uint64 float32 float32", threads=64)
def umap_epoch(n_items, indptr, indices, share, old, attraction, repulsion, n_dims, epoch, n_negatives, seed, purpose, rate, moved):
    """Each cell is moved by its arcs that are due in this epoch, all others held where they were.

    An arc is due as often as ``share`` says. It pulls twice, as UMAP moves both ends of an edge and each edge is two arcs;
    after that the cell is pushed away from ``n_negatives`` random cells. Each move starts from where the last one ended.
    """
    for cell in numba.prange(n_items):
        for d in range(n_dims):
            moved[cell, d] = old[cell, d]
        for arc in range(indptr[cell], indptr[cell + 1]):
            due = np.int64(share[arc]) * epoch
            if (due >> SHARE_BITS) == ((due - np.int64(share[arc])) >> SHARE_BITS):
                continue
            for draw in range(n_negatives + 2):
                if draw < 2:
                    other = np.int64(indices[arc])
                else:
                    index = np.uint64((epoch * indptr[n_items] + arc) * n_negatives + draw)
                    other = np.int64(((random_bits(seed, purpose, index) >> np.uint64(32)) * np.uint64(n_items)) >> np.uint64(32))
                if other == cell:
                    continue
                square = np.float32(0.0)
                for d in range(n_dims):
                    gap = moved[cell, d] - old[other, d]
                    square += gap * gap
                pull = interpolated(attraction, square) if draw < 2 else interpolated(repulsion, square)
                for d in range(n_dims):
                    move = pull * (moved[cell, d] - old[other, d])
                    moved[cell, d] += rate * min(max(move, -LONGEST_STEP), LONGEST_STEP)
