"""Statistics that several functions share."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from rsc_core.kernels import orders as kernels


def in_threads(function, items) -> list:
    """function(item) of each item, in as many threads as numba takes: NumPy and SciPy let others run while they compute."""
    with ThreadPoolExecutor(numba.get_num_threads()) as threads:
        return list(threads.map(function, items))


def benjamini_hochberg(p, axis=-1) -> np.ndarray:
    """p-values adjusted to control the false discovery rate.

    adjusted p_(i) = min over j >= i of p_(j) m / j, at most 1; p_(1) <= p_(2) <= ... are the m p-values in order.

    Parameters
    ----------
    p
        p-values of the host, any shape. NaN: no test was made.
    axis
        The axis along which the p-values are one family.

    Returns
    -------
    float64, the shape of ``p``. NaN stays NaN and does not count to m. Equal to scipy.stats.false_discovery_control,
    which refuses NaN. Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57:289.
    """
    p = np.moveaxis(np.asarray(p, dtype=np.float64), axis, -1)
    families = np.ascontiguousarray(p).reshape(math.prod(p.shape[:-1]), p.shape[-1])
    adjusted = np.empty_like(families)
    kernels.benjamini_hochberg(families, adjusted)
    return np.moveaxis(adjusted.reshape(p.shape), -1, axis)
