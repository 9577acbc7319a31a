"""Functions that kernels call, for the CPU; ``device.cuh`` holds the same for CUDA.

Random numbers come from counters: the value depends on (seed, purpose, index) alone, not on how many were drawn before,
so that it is the same for any number of threads and on both backends. The mixing function is splitmix64
(Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195).
"""

import math

import numba
import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
EXPONENT = np.uint64(52)
MANTISSA, ONE, TWO_TO_52 = np.uint64(0xFFFFFFFFFFFFF), np.uint64(0x3FF0000000000000), np.uint64(0x4330000000000000)


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


@numba.njit(inline="always")
def exp_double(x):
    """exp(x) with the same bits on both backends; libm's and CUDA's differ in the last bit.

    exp(x) = 2^n exp(r) with n = round(x / ln 2), r = x - n ln 2 in two parts (Cody & Waite 1980), |r| <= ln(2)/2, and the
    Taylor series to r^13 (its remainder is below 0.03 ulp). Within 1 ulp of the exact value where that is a normal
    number; 0 below -745.2 and infinite above 709.8.
    """
    if x > 709.8:
        return np.inf
    if x < -745.2:
        return 0.0
    n = math.floor(x * 1.4426950408889634 + 0.5)
    r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    return math.ldexp(1.0 + (r + (r * r) * p), int(n))


@numba.njit(inline="always")
def log_double(x):
    """log(x) of a positive normal number, with the same bits on both backends; x = 0 gives a finite number.

    log(x) = e log 2 + log(m), x = 2^e m, sqrt(1/2) < m <= sqrt(2), log(m) = 2 atanh(s), s = (m - 1) / (m + 1): series to
    s^21. Within 2 ulp. Without branches and calls, so that loops become loops of vectors where the caller does not ask for
    a check of divisors (``error_model="numpy"``).
    """
    bits = np.float64(x).view(np.uint64)
    m = np.uint64((bits & MANTISSA) | ONE).view(np.float64)
    # The exponent as the last bits of 2^52 + exponent: vectors of the CPU have no conversion of 64-bit integers.
    e = np.uint64((bits >> EXPONENT) | TWO_TO_52).view(np.float64) - 4503599627371519.0
    large = m > 1.4142135623730951
    m = m * 0.5 if large else m
    e = e + 1.0 if large else e
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = 1.0 / 21.0
    p = p * z + 1.0 / 19.0
    p = p * z + 1.0 / 17.0
    p = p * z + 1.0 / 15.0
    p = p * z + 1.0 / 13.0
    p = p * z + 1.0 / 11.0
    p = p * z + 1.0 / 9.0
    p = p * z + 1.0 / 7.0
    p = p * z + 1.0 / 5.0
    p = p * z + 1.0 / 3.0
    return e * 0.6931471805599453 + 2.0 * (s + s * z * p)


@numba.njit(error_model="numpy")
def log1p_double(x):
    """log(1 + x), with the same bits on both backends; NaN below -1.

    log(u) of u = 1 + x as in :func:`log_double`, but m and e come from the bits of u, so that several values are worked on at
    once; below 1 what the rounding of u left out is added. Within 3 ulp.
    """
    u = np.float64(1.0 + x)
    bits = u.view(np.int64)
    e = (bits - np.int64(0x3FE6A09E667F3BCD)) >> np.int64(52)
    m = np.int64(bits - (e << np.int64(52))).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = 1.0 / 21.0
    p = p * z + 1.0 / 19.0
    p = p * z + 1.0 / 17.0
    p = p * z + 1.0 / 15.0
    p = p * z + 1.0 / 13.0
    p = p * z + 1.0 / 11.0
    p = p * z + 1.0 / 9.0
    p = p * z + 1.0 / 7.0
    p = p * z + 1.0 / 5.0
    p = p * z + 1.0 / 3.0
    lost = x - (u - 1.0) if x < 1.0 else 0.0
    value = np.float64(e) * 0.6931471805599453 + (2.0 * (s + s * z * p) + lost)
    if x > -1.0 and x < np.inf:
        return value
    return x if x > 0.0 else -np.inf if x == -1.0 else np.nan


@numba.njit
def keep_nearest(other, d, filled, nearest, nearest_distance):
    """Put a neighbour in its place by (distance, index) unless it is there or all places are nearer; how many are filled."""
    place = filled
    while place > 0 and (d < nearest_distance[place - 1] or (d == nearest_distance[place - 1] and other < nearest[place - 1])):
        place -= 1
    if place >= nearest.size or (place > 0 and nearest[place - 1] == other):
        return filled
    filled = min(filled + 1, nearest.size)
    for k in range(filled - 1, place, -1):
        nearest[k], nearest_distance[k] = nearest[k - 1], nearest_distance[k - 1]
    nearest[place], nearest_distance[place] = other, d
    return filled


@numba.njit
def sort_row(start, stop, indices, values):
    """Entries ``start`` to ``stop`` by index, in place (Shell 1959); the indices differ, so that there is one order."""
    gap = 1
    while gap < (stop - start) // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(start + gap, stop):
            index, value, place = indices[i], values[i], i
            while place - gap >= start and indices[place - gap] > index:
                indices[place], values[place] = indices[place - gap], values[place - gap]
                place -= gap
            indices[place], values[place] = index, value
        gap //= 3
