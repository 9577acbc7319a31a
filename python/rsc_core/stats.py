"""Statistics that several functions share."""

from __future__ import annotations

import numpy as np


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

    p = np.asarray(p, dtype=np.float64)
    missing = np.isnan(p)
    if not missing.any():
        return false_discovery_control(p, axis=axis) if p.size else p.copy()
    p, missing = np.moveaxis(p, axis, -1), np.moveaxis(missing, axis, -1)
    adjusted = np.full(p.shape, np.nan)
    whole = ~missing.any(axis=-1)
    if whole.any():
        adjusted[whole] = false_discovery_control(p[whole], axis=-1)
    for at in zip(*np.nonzero(~whole & ~missing.all(axis=-1)), strict=True):
        tested = ~missing[at]
        adjusted[at][tested] = false_discovery_control(p[at][tested])
    return np.moveaxis(adjusted, -1, axis)
