"""How many of a cell's many nearest cells are of one kind: no neighbour is kept or sorted.

A sample of the cells gives each cell a limit that a little more than the wanted number of neighbours lie within, in float32; those
that do are candidates, and float64 decides among them. A cell whose candidates cannot be proved to hold its nearest ones is
searched by :func:`rsc_core.pp._search.nearest_among`.
"""

from __future__ import annotations

import numpy as np

from rsc_core import backend, rng
from rsc_core.kernels import within as kernels
from rsc_core.pp._search import SURPLUS, Space, nearest_among, nearest_of_all

ROWS, COLUMNS = 4096, 1 << 15  # of the products that are in memory at once; no result depends on it
PIECE = 4096  # columns that an item of a kernel takes
DEVIATIONS = 5  # of the sample's count that the limits, and the room for candidates, leave
MOST_CANDIDATES = 12_000  # of a cell: chips from 2020 on have the shared memory
LISTED = 1 << 27  # neighbours, 16 bytes each, that are listed at once where cells are searched; no result depends on it


def later_neighbors(x, n_nearest: int, from_cell: int) -> np.ndarray:
    """How many of the nearest other cells of each cell have an index of at least ``from_cell``.

    Parameters
    ----------
    x
        (cells, dimensions), float64.
    n_nearest
        Below the number of cells. Neighbours are taken in the order of (distance, index), as
        by :func:`rsc_core.pp._search.find_neighbors`.

    Returns
    -------
    int64 (cells,) of the host, equal on CPU and GPU from equal coordinates.
    """
    space = Space.of(x)
    if backend.xp_of(x) is np:
        if len(space.cells) * n_nearest <= LISTED:
            return (nearest_of_all(space, n_nearest)[0] >= from_cell).sum(axis=1)
        return _searched(space, space.cells, n_nearest, from_cell)
    return by_limits(space, n_nearest, from_cell)


def _searched(space: Space, cells, n_nearest: int, from_cell: int) -> np.ndarray:
    """:func:`later_neighbors` of some cells by a search that lists their neighbours, those of a few cells at once."""
    step, found = max(1, LISTED // n_nearest), []
    for start in range(0, len(cells), step):
        nearest = nearest_among(space, cells[start : start + step], space.cells, n_nearest)[0]
        found.append(backend.to_host((nearest >= from_cell).sum(axis=1)))
    return np.concatenate(found)


def by_limits(space: Space, n_nearest: int, from_cell: int) -> np.ndarray:
    """:func:`later_neighbors` without lists of neighbours; see the module."""
    xp, (n_cells, n_dims) = backend.xp_of(space.x), space.x.shape
    place, room = _sizes(n_nearest, n_cells)
    among, kth = xp.zeros(n_cells, dtype=np.int64), xp.full(n_cells, np.inf)
    limit, square = xp.zeros(n_cells, dtype=np.float32), (space.centred * space.centred) @ xp.ones(n_dims, dtype=np.float32)
    if room <= MOST_CANDIDATES:
        ours, others = _folded(space.centred, square)
        sample = xp.ascontiguousarray(others[xp.asarray(_drawn(n_cells))])
        for start in range(0, n_cells, ROWS):
            here = slice(start, min(start + ROWS, n_cells))
            rows, n_rows = ours[here], here.stop - start
            kernels.row_quantiles(n_rows, xp.ascontiguousarray(rows @ sample.T), len(sample), place, limit[here])
            candidates, filled = xp.empty((n_rows, room), dtype=np.int32), xp.zeros(n_rows, dtype=np.int32)
            for first in range(0, n_cells, COLUMNS):
                values = xp.ascontiguousarray(rows @ others[first : first + COLUMNS].T)
                size = (n_rows, values.shape[1], PIECE, first)
                kernels.within_limits(n_rows * -(-values.shape[1] // PIECE), values, *size, limit[here], room, candidates, filled)
            kernels.nearest_from(n_rows, space.x, n_dims, start, candidates, filled, room, n_nearest, from_cell, kth[here], among[here])
    reach = xp.maximum(limit.astype(np.float64) + square, 0.0)
    unsure = kth >= reach - 2 * space.float32_error(slice(None), reach)
    rest = np.flatnonzero(backend.to_host(unsure))
    among = backend.to_host(among)
    if len(rest):
        among[rest] = _searched(space, xp.asarray(rest), n_nearest, from_cell)
    return among


def _sizes(n_nearest: int, n_cells: int) -> tuple[int, int]:
    """Which of the sorted distances to the sample is a cell's limit, and for how many candidates there is room."""
    n_sample = min(n_cells, kernels.SAMPLE)
    left_out = 1 - n_sample / n_cells
    expected = (n_nearest + 1 + SURPLUS) * n_sample / n_cells
    place = min(n_sample - 1, int(expected + DEVIATIONS * np.sqrt(expected * left_out)) + 4)
    room = (place + 1) * n_cells / n_sample * (1 + DEVIATIONS * np.sqrt(left_out / (place + 1)))
    return place, int(room) + SURPLUS


def _drawn(n_cells: int) -> np.ndarray:
    """The sample: all cells, or some with replacement."""
    if n_cells <= kernels.SAMPLE:
        return np.arange(n_cells)
    return (rng.uniform(0, "knn", np.arange(kernels.SAMPLE, dtype=np.uint64)) * n_cells).astype(np.int64)


def _folded(x, square):
    """Two float32 matrices whose product is |y|² - 2 x·y: the squared distance but for |x|²."""
    xp, (n_cells, n_dims) = backend.xp_of(x), x.shape
    ours, others = (xp.zeros((n_cells, -(-(n_dims + 1) // 4) * 4), dtype=np.float32) for _ in range(2))
    ours[:, :n_dims], ours[:, n_dims] = -2 * x, 1
    others[:, :n_dims], others[:, n_dims] = x, square
    return ours, others
