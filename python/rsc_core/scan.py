"""Running sums on both backends, without the seconds that the device's library functions take to compile at first use."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import scan as kernels

CHUNK = 64  # values that one thread of the device adds up (the CPU: all); integers: no result depends on it


def running_sums(values):
    """0, values[0], values[0] + values[1], ...: where groups of these sizes begin, and where the last ends.

    Parameters
    ----------
    values
        int64 (n,).

    Returns
    -------
    int64 (n + 1,), on the backend of ``values``.
    """
    xp, n = backend.xp_of(values), len(values)
    if n == 0:
        return xp.zeros(1, dtype=np.int64)
    chunk = n if xp is np else CHUNK
    n_chunks = -(-n // chunk)
    out = xp.empty(n + 1, dtype=np.int64)
    if n_chunks == 1:
        starts = xp.zeros(1, dtype=np.int64)
    else:
        sums = xp.empty(n_chunks, dtype=np.int64)
        kernels.chunk_sums(n_chunks, values, n, chunk, sums)
        starts = running_sums(sums)
    kernels.chunk_running_sums(n_chunks, values, n, chunk, starts, out)
    return out
