"""All cells of a drawing push each other, and sums over cells, to the same bits on both backends."""

from __future__ import annotations

import math

from rsc_core import backend
from rsc_core.kernels import layout as kernels
from rsc_core.kernels import spectral

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
    """

    def __init__(self, mass, law: int):
        self.xp, self.mass, self.law, n_cells = backend.xp_of(mass), mass, law, len(mass)
        self.n_levels = min(MOST_LEVELS, max(3, math.ceil(math.log(FIELDS_A_CELL * n_cells, 4))))
        n_fields = (4 ** (self.n_levels + 1) - 1) // 3
        self._sums = self.xp.zeros((n_fields, 3), dtype=self.xp.int64)
        self._centre = self.xp.zeros((n_fields, 3))
        self.push, self.norm = self.xp.empty((n_cells, 2)), self.xp.empty(n_cells)

    def __call__(self, y):
        """Push float64 (cells, 2) on each of y float64 (cells, 2), and sum of 1 / (1 + d^2) over all others (cells,)."""
        n_cells, n_levels = len(y), self.n_levels
        low, high = float(y.min()), float(y.max())
        scale = 2.0 ** (n_levels + kernels.FRACTION_BITS) / ((high - low) * (1 + 1e-9) if high > low else 1.0)
        self._sums[(4**n_levels - 1) // 3 :] = 0
        kernels.leaf_sums(n_cells, y, self.mass, low, scale, n_levels, self._sums)
        for level in range(n_levels, 0, -1):
            kernels.field_centres(4**level, level, n_levels, low, scale, self._sums, self._centre)
        kernels.pushes(n_cells, y, self.mass, low, scale, n_levels, self.law, self._centre, self.push, self.norm)
        return self.push, self.norm


class Sums:
    """Sums of rows over cells in a fixed order."""

    def __init__(self, n_rows: int, n_cells: int, xp):
        self.n_cells, self.n_chunks = n_cells, -(-n_cells // spectral.CHUNK)
        self._ones, self._parts = xp.ones(n_cells), xp.empty((n_rows, self.n_chunks, spectral.LANES))
        self._before, self.total = xp.zeros(n_rows), xp.empty(n_rows)

    def __call__(self, rows):
        """Totals float64 (rows,) of float64 (rows, cells), on their backend."""
        n_rows = len(rows)
        spectral.product_parts(n_rows * self.n_chunks * spectral.LANES, rows, self._ones, self.n_cells, self.n_chunks, self._parts)
        spectral.add_parts(n_rows, self._parts, self.n_chunks, self._before, self.total)
        return self.total
