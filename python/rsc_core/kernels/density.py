"""The sums of a Gaussian kernel density; ``density.cu`` holds the same for CUDA."""

import numba
import numpy as np

from rsc_core.kernels.twin import twin

STEPS = 64.0  # entries of the table of exp(-u) a unit of u
FARTHEST = 40.0  # u beyond which exp(-u) < 5e-18 counts as 0


@twin("float64 int64 int64 int64 int64 int64 float64 float64")
def density_sums(n_items, x, square, start, n_columns, n_rows, reach, table, out):
    """Sum of exp(-squared distance) over the cells in the squares of a grid around each, in their order; x: (cells, 2).

    ``square``: ascending, row after row of the grid; ``start``: the first cell of each square. Squares farther than ``reach``
    hold no cell with u < FARTHEST. exp(-u) = table[k] exp(-r) with k / 64 just below u, exp(-r) by its series to r^5:
    within 1e-13 of the value.
    """
    for cell in numba.prange(n_items):
        total, x0, x1 = 0.0, x[cell, 0], x[cell, 1]
        row, column = square[cell] // n_columns, square[cell] % n_columns
        first, last = max(column - reach, 0), min(column + reach, n_columns - 1)
        for line in range(max(row - reach, 0), min(row + reach, n_rows - 1) + 1):
            for other in range(start[line * n_columns + first], start[line * n_columns + last + 1]):
                gap0, gap1 = x0 - x[other, 0], x1 - x[other, 1]
                u = gap0 * gap0 + gap1 * gap1
                if u < FARTHEST:
                    place = np.int64(u * STEPS)
                    r = place / STEPS - u
                    series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0)))))
                    total += table[place] * series
        out[cell] = total
