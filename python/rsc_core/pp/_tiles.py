"""The exact search among all cells on the host, by tiles of cells that lie near each other."""

from __future__ import annotations

import numba
import numpy as np

from rsc_core.kernels import tiles as kernels

TILE_CELLS = 1024  # at most: the products of two tiles stay near a core, and threads seldom wait; no result depends on it
DIRECTION_CELLS, DIRECTION_ROUNDS = 1024, 8  # of a tile, on which the direction of its split is found


def nearest_by_tiles(space, n_nearest: int):
    """The exact nearest other cells of each cell, as :func:`rsc_core.pp._search.nearest_among` finds them, bit for bit.

    Each pair of cells is looked at once, and two tiles only where a gap between them is not wider than the distances found
    so far: half of the products on noise, a quarter on cells of distinct types.

    Parameters
    ----------
    space : rsc_core.pp._search.Space
        On the host.
    n_nearest
        Below the number of cells.

    Returns
    -------
    nearest : int64 (cells, n_nearest), in the order of (distance, index)
    square : float64 (cells, n_nearest), squared distances
    """
    import scipy.linalg.cython_blas  # noqa: F401  # numba's BLAS, which the next line must find
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):  # the threads are numba's
        return _search(space, n_nearest)


def _search(space, n_nearest):
    unit = float(space.unit)  # neither overflow nor underflow in float32
    centred = space.centred * space.unit
    tiles = _tiles(centred)
    index, starts = np.concatenate(tiles), np.cumsum([0, *map(len, tiles)])
    centred = centred[index]
    square = (centred * centred) @ np.ones(centred.shape[1])
    # (|x| + |y|)^2 <= 2 (|x|^2 + |y|^2): what a product may lose is taken off the squares.
    half, one = (square / 2 * (1 - 2 * space.rounding)).astype(np.float32), np.ones(len(index), dtype=np.float32)
    left, right = np.column_stack([centred, one, -half]), np.column_stack([centred, -half, one])
    centre = np.add.reduceat(left, starts[:-1], axis=0) / np.diff(starts).astype(np.float32)[:, None]
    centre[:, -2:] = 0
    length = np.sqrt(np.maximum.reduceat(square, starts[:-1]))
    near, far = np.empty((len(index), n_nearest), dtype=np.int64), np.empty((len(index), n_nearest))
    kernels.nearest_by_tiles(
        numba.get_num_threads(), starts, centre, length, space.x[index], unit, left, right, index, near, far
    )  # fmt: skip
    nearest, distance = np.empty_like(near), np.empty_like(far)
    nearest[index], distance[index] = near, far
    return nearest, distance


def _tiles(x):
    """Cells of each tile: all cells halved along the direction in which they spread most, and so on."""
    tiles = [np.arange(len(x))]
    while len(tiles) * TILE_CELLS < len(x):
        tiles = [half for cells in tiles for half in _halves(x, cells)]
    return tiles


def _halves(x, cells):
    some = x[cells[:: -(-len(cells) // DIRECTION_CELLS)]]
    some = some - some.mean(axis=0)
    direction = some[np.argmax((some * some).sum(axis=1))]
    for _ in range(DIRECTION_ROUNDS):
        direction = (some @ direction) @ some
        direction = direction / max(np.abs(direction).max(), np.finfo(np.float32).tiny)
    order = np.argpartition(x[cells] @ direction, len(cells) // 2)
    return np.split(cells[order], [len(cells) // 2])
