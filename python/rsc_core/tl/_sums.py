"""Sums over cells in a fixed order, to the same bits on both backends."""

from __future__ import annotations

from rsc_core import backend
from rsc_core.kernels import spectral as kernels

LEAST_WIDTH = 512  # cells
MOST_CHUNKS = 264  # two for each multiprocessor of a large GPU; each is summed by one block


def chunks(n_cells: int) -> tuple[int, int]:
    """How many chunks the cells are cut into, and the cells of each."""
    width = LEAST_WIDTH * -(-n_cells // (LEAST_WIDTH * MOST_CHUNKS))
    return -(-n_cells // width), width


def products(a, b):
    """Scalar products of rows float64 (rows, cells) with others: float64 (rows of a, rows of b), on the host."""
    n_cells = a.shape[1]
    n_chunks, width = chunks(n_cells)
    parts = backend.xp_of(a, b).empty((len(b), n_chunks * len(a)))
    for row, out in zip(b, parts, strict=True):
        kernels.dot_parts(n_chunks, a, row, len(a), n_cells, width, out)
    return backend.to_host(parts).reshape(len(b), n_chunks, len(a)).sum(axis=1).T
