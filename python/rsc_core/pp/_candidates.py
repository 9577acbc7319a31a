"""Candidates for nearest neighbours by products of the device's tensor cores."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import search as kernels

ROWS = COLUMNS = 8192  # of the products that are in memory at once: 256 MB; no result depends on it
TERMS = 3  # products of 16 bits that make one of float32
ALIGNED = 8  # numbers of a row that the tensor cores take at once
PRECISION = 2.0**-23  # of their sums, which they cut off
LEAST = 2.0**-23  # four times what of a number below 1 two numbers of 16 bits may miss, the smallest of float16 being 2^-24


def candidate_search(space, members):
    """A function from float32 rows and a number to the places in ``members`` of as many that are nearest: int32 (rows, number).

    The least of |y|² / 2 - x·y, where x = a + b and y = c + d in float16 and x·y = a·c + a·d + b·c.

    Parameters
    ----------
    space : rsc_core.pp._search.Space
    members : int64 indices
    """
    xp = backend.xp_of(space.centred)
    y = space.centred[members] * space.unit
    half, right = (y * y) @ xp.ones(y.shape[1], dtype=np.float32) / 2, _side_by_side(y, (0, 1, 0))

    def search(rows, n_candidates):
        value = xp.full((len(rows), n_candidates), np.inf, dtype=np.float32)
        place = xp.full(value.shape, kernels.NOBODY, dtype=np.int32)
        for start in range(0, len(rows), ROWS):
            here = slice(start, start + ROWS)
            left = _side_by_side(rows[here] * space.unit, (0, 0, 1))
            for first in range(0, len(half), COLUMNS):
                there = slice(first, first + COLUMNS)
                product = backend.products_of_halves(left, right[there])
                size = (product.shape[1], first, n_candidates)
                kernels.keep_least(len(left), product, half[there], *size, value[here], place[here])
        return place

    return search


def error_bounds(n_dims: int, unit: float) -> tuple[float, float]:
    """Bounds of the error of |x|² + |y|² - 2 x·y: r (|x| + |y|)² + s (|x| + |y|) with these r and s."""
    return 2 * (TERMS * n_dims + 8) * PRECISION, LEAST * n_dims**0.5 / float(unit)


def _side_by_side(x, which):
    """Rows float32 of numbers up to 1 as float16: for each of ``which`` the numbers rounded (0), or what that leaves (1)."""
    xp, (n_rows, n_dims) = backend.xp_of(x), x.shape
    rounded = x.astype(np.float16)
    parts = rounded, (x - rounded).astype(np.float16)
    out = xp.zeros((n_rows, -(-TERMS * n_dims // ALIGNED) * ALIGNED), dtype=np.float16)
    for i, part in enumerate(which):
        out[:, i * n_dims : (i + 1) * n_dims] = parts[part]
    return out
