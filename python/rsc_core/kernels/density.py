"""The sums of a Gaussian kernel density by way of a grid; ``density.cu`` holds the same for CUDA.

exp(-|x - y|²) is, but for a factor, the sum of exp(-2|x - p|²) exp(-2|p - y|²) over the points p of a grid (Greengard & Strain
1991, doi:10.1137/0912004, with the grid of Greengard & Lee 2004, doi:10.1137/S003614450343200X). With SPACING, and points
farther than 13.5 SPACING left out, the sum errs by 2e-13 of the largest term. The cells of a square of SIDE points reach WINDOW
points in each dimension, of which each square has its own: memory grows with the squares that have cells, not with the grid.
"""

import numba
import numpy as np

from rsc_core.kernels.device import exp_double
from rsc_core.kernels.moments import joined
from rsc_core.kernels.twin import twin

SPACING = 0.285  # of the points of the grid
SIDE = 4  # points of a square
WINDOW = 32  # points that the cells of a square reach
APART = 7  # squares whose windows still overlap
LINE = 1 << 32  # a square's number is row · LINE + column
STEEP = 2.0 * SPACING * SPACING


@numba.njit
def bends():
    """exp(-STEEP k²) of the points' distances k = 0.5, 1.5, ... from the middle of their window."""
    out = np.empty(WINDOW // 2)
    for k in range(WINDOW // 2):
        out[k] = exp_double(-STEEP * (k + 0.5) * (k + 0.5))
    return out


@numba.njit
def weights(apart, bend, out):
    """exp(-STEEP (k - apart)²) of the points of a window, ``apart`` the distance of a cell from its middle: two exponentials."""
    base, step = exp_double(-STEEP * apart * apart), exp_double(STEEP * apart)
    up, down = base * step, base / step
    rise, fall = step * step, 1.0 / (step * step)
    for k in range(WINDOW // 2):
        out[WINDOW // 2 + k] = up * bend[k]
        out[WINDOW // 2 - 1 - k] = down * bend[k]
        up *= rise
        down *= fall


@numba.njit(inline="always")
def from_middle(place, square):
    return place - SIDE * square - SIDE / 2


@twin("float64 int64 int64 float64", per_item=256)
def window_sums(n_items, place, square, start, windows):
    """Sums over the cells of each square of their weights at the points of its window (squares, WINDOW, WINDOW).

    ``place``: cells (cells, 2) in units of the points, square after square; ``start``: the first cell of each square.
    """
    for item in numba.prange(n_items):
        row, column = square[item] // LINE, square[item] % LINE
        sums, across, along, bend = np.zeros((WINDOW, WINDOW)), np.empty(WINDOW), np.empty(WINDOW), bends()
        for cell in range(start[item], start[item + 1]):
            weights(from_middle(place[cell, 0], column), bend, across)
            weights(from_middle(place[cell, 1], row), bend, along)
            for i in range(WINDOW):
                for j in range(WINDOW):
                    sums[i, j] += along[i] * across[j]
        windows[item] = sums


@twin("float64 int64 int64 float64 float64", per_item=256)
def window_values(n_items, place, square, start, windows, out):
    """Of each cell the sum of its weights times those of all cells, over the points of its window."""
    for item in numba.prange(n_items):
        row, column = square[item] // LINE, square[item] % LINE
        sums, across, along, bend = np.zeros((WINDOW, WINDOW)), np.empty(WINDOW), np.empty(WINDOW), bends()
        for line in range(row - APART, row + APART + 1):
            other = np.searchsorted(square, line * LINE + column - APART)
            while other < n_items and square[other] <= line * LINE + column + APART:
                down, right = SIDE * (line - row), SIDE * (square[other] % LINE - column)
                for i in range(max(down, 0), min(WINDOW + down, WINDOW)):
                    for j in range(max(right, 0), min(WINDOW + right, WINDOW)):
                        sums[i, j] += windows[other, i - down, j - right]
                other += 1
        by_column = np.empty(WINDOW)
        for cell in range(start[item], start[item + 1]):
            weights(from_middle(place[cell, 0], column), bend, across)
            weights(from_middle(place[cell, 1], row), bend, along)
            by_column[:] = 0.0
            for i in range(WINDOW):
                for j in range(WINDOW):
                    by_column[j] += along[i] * sums[i, j]
            by_column *= across
            out[cell] = joined(by_column)
