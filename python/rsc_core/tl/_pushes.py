"""All cells of a drawing push each other, to the same bits on both backends."""

from __future__ import annotations

import math

import numpy as np

from rsc_core import backend
from rsc_core.kernels import layout as kernels

FIELDS_A_CELL = 16  # finest fields, at least, for each cell
MOST_LEVELS = 10  # 4^10 finest fields


class Pushes:
    """The push of all others on each cell of a drawing (see :mod:`rsc_core.kernels.layout`).

    Parameters
    ----------
    mass
        int64 (cells,) on the backend that does the work.
    law
        ``kernels.T_KERNEL`` or ``kernels.INVERSE``.

    Attributes
    ----------
    state, unit
        ``state[kernels.NORM] / unit``: the sum of 1 / (1 + d^2) over all pairs, for ``kernels.T_KERNEL``.
    """

    def __init__(self, mass, law: int):
        xp, self.mass, self.law, n_cells = backend.xp_of(mass), mass, law, len(mass)
        self.n_levels = min(MOST_LEVELS, max(3, math.ceil(math.log(FIELDS_A_CELL * n_cells, 4))))
        self.unit = 2.0 ** (62 - 2 * math.ceil(math.log2(n_cells)))  # so that the sum, below the cells' square, fits
        self._middle = max(self.n_levels - kernels.TILE_LEVELS, 0)
        self._sums = xp.zeros((3, 4**self.n_levels), dtype=np.int64)
        self._upper = xp.zeros((3, 4**self._middle), dtype=np.int64)
        self._top = xp.zeros((3, 1), dtype=np.int64)
        self._centre = xp.zeros(((4 ** (self.n_levels + 1) - 1) // 3, 4), dtype=np.float32)
        self.state, self._frame = xp.asarray(np.array([kernels.LOWEST, kernels.HIGHEST, 0])), xp.empty(2)
        self.push = xp.empty((n_cells, 2), dtype=np.float32)

    def __call__(self, y):
        """Push float32 (cells, 2) on each of y float64 (cells, 2)."""
        n_cells, n_levels, state, frame, centre = len(y), self.n_levels, self.state, self._frame, self._centre
        kernels.extremes(n_cells, y, state)
        kernels.leaf_sums(n_cells, y, self.mass, state, n_levels, self._sums)
        kernels.field_centres(4**self._middle, self._middle, n_levels, n_levels, self._sums, self._upper, state, frame, centre)
        if self._middle:
            kernels.field_centres(1, 0, self._middle, n_levels, self._upper, self._top, state, frame, centre)
        kernels.pushes(n_cells, y, self.mass, frame, n_levels, self.law, centre, self.unit, self.push, state)
        return self.push
