"""Statistics that several functions share."""

from __future__ import annotations

import numpy as np


def over_rows(function, n_rows: int) -> list:
    """function(row) of each row, in as many threads as numba takes: NumPy and SciPy let others run while they compute."""
    from concurrent.futures import ThreadPoolExecutor

    import numba

    with ThreadPoolExecutor(numba.get_num_threads()) as threads:
        return list(threads.map(function, range(n_rows)))


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
    from scipy.stats import false_discovery_control

    p = np.moveaxis(np.asarray(p, dtype=np.float64), axis, -1)
    if not p.size:
        return np.moveaxis(p, -1, axis).copy()
    families = p.reshape(-1, p.shape[-1])
    adjusted, tested = np.full(families.shape, np.nan), ~np.isnan(families)
    whole = tested.all(axis=1)
    if whole.any():
        adjusted[whole] = false_discovery_control(families[whole], axis=1)
    for i in np.flatnonzero(~whole & tested.any(axis=1)):
        adjusted[i, tested[i]] = false_discovery_control(families[i, tested[i]])
    return np.moveaxis(adjusted.reshape(p.shape), -1, axis)
