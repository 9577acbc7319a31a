"""Functions that kernels call, for the CPU; ``device.cuh`` holds the same for CUDA.

Random numbers come from counters: the value depends on (seed, purpose, index) alone, not on how many were drawn before,
so that it is the same for any number of threads and on both backends. The mixing function is splitmix64
(Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195).
"""

import numba
import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(inline="always")
def mix64(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(inline="always")
def random_bits(seed, purpose, index):
    """64 random bits of a counter.

    Parameters
    ----------
    seed, purpose, index
        uint64. ``purpose`` separates the streams of one seed (one number a use).
    """
    key = mix64(np.uint64(seed) + GOLDEN * (np.uint64(purpose) + np.uint64(1)))
    return mix64(key + GOLDEN * (np.uint64(index) + np.uint64(1)))
