"""Counter-based random numbers as arrays: the same values in NumPy, CuPy, numba and CUDA."""

from __future__ import annotations

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
# One number a use: two uses of one seed must not share a stream.
PURPOSES = {"kmeans": 1, "harmony": 2, "ligrec": 3, "autocorr": 4, "knn": 5, "network": 6, "spectral": 7, "sample": 8, "embedding": 9}
PURPOSES |= {"score_genes": 20, "doublets": 21, "pca": 22, "concordance": 70}
PURPOSES |= {"nhood": 40, "ripley": 41}
PURPOSES |= {"umap": 50, "start": 51, "draw_graph": 52, "mde": 53}


def mix64(x):
    """Splitmix64's mixing of a uint64 array: the function ``mix64`` of ``kernels/device.py``."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def bits(seed: int, purpose: str, index):
    """64 random bits for each index.

    Parameters
    ----------
    seed
        Any integer; 0 is a seed like any other.
    purpose
        A key of ``PURPOSES``.
    index
        uint64 array of counters (NumPy or CuPy); the result lies where it lies.

    Returns
    -------
    uint64 array of the shape of ``index``: the function ``random_bits`` of ``kernels/device.py``.
    """
    mask = (1 << 64) - 1
    start = np.array([((seed & mask) + GOLDEN * (PURPOSES[purpose] + 1)) & mask], dtype=np.uint64)
    key = int(mix64(start)[0])
    counter = index.astype(np.uint64) + np.uint64(1)
    return mix64(counter * np.uint64(GOLDEN) + np.uint64(key))


def uniform(seed: int, purpose: str, index):
    """Uniform float64 in [0, 1) for each index: the upper 53 bits of :func:`bits`."""
    return (bits(seed, purpose, index) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, purpose: str, n: int, number: int, xp=np):
    """A permutation of ``range(n)``: the order of the random bits of n counters.

    Parameters
    ----------
    number
        Which permutation of this seed and purpose (0, 1, ...).
    xp
        ``numpy`` or ``cupy``.

    Returns
    -------
    int64 (n,). Equal on both backends: 64-bit keys are distinct for all practical n, and ties keep their order.
    """
    index = xp.arange(n, dtype=np.uint64) + np.uint64(number * n)
    return xp.argsort(bits(seed, purpose, index), kind="stable")
