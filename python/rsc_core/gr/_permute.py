"""Permutations of the cells, all of them or within libraries, the same on both backends."""

from __future__ import annotations

import math

import numpy as np

from rsc_core import rng
from rsc_core.kernels import shuffle as kernels

FEW = 256  # members of a library that are ranked; the rounds of the other way do not reach all permutations of so few


def orders(seed: int, purpose: str, n_cells: int, first: int, count: int, xp=np, libraries=None):
    """Some permutations of the cells.

    Parameters
    ----------
    seed, purpose
        See :func:`rsc_core.rng.bits`.
    first, count
        Which permutations: numbers ``first`` to ``first + count - 1``; each depends on its number, not on ``first``.
    libraries
        int (cells,) of the host, 0, 1, ...: cells change places within their library only. None: one library.

    Returns
    -------
    int32 (count, cells) of ``xp``: which cell comes to each place.
    """
    seed, number = seed & (1 << 64) - 1, rng.PURPOSES[purpose]
    groups = (
        [np.arange(n_cells)] if libraries is None else [np.flatnonzero(libraries == i) for i in range(int(libraries.max(initial=0)) + 1)]
    )
    out = xp.empty((count, n_cells), dtype=np.int32)
    for i, members in enumerate(groups):
        n, place = len(members), (xp.asarray(members, dtype=np.int32), seed, number, first * len(groups) + i, len(groups))
        if n <= FEW:
            kernels.ranked(count * n, *place, n, n_cells, out)
        else:
            height = math.isqrt(n - 1) + 1
            kernels.permuted(count * n, *place, n, n_cells, height, -(-n // height), out)
    return out
