"""Orders of many numbers row by row, for the host alone: there is no ``orders.cu``.

Numbers are sorted as integers by digits from the last to the first, which keeps equal ones in their places.
"""

import math

import numba
import numpy as np

from rsc_core.kernels import twin  # noqa: F401 - where compiled code is kept

DIGIT, DIGITS = 8, 8  # bits of a digit, and digits of a key: longer tables would not be worth their while for a few hundred numbers


@numba.njit
def sort_key(value):
    """An integer whose order is that of the numbers: both zeros are one, NaN is last."""
    if math.isnan(value):
        return np.uint64(0xFFFFFFFFFFFFFFFF)
    bits = np.float64(value + 0.0).view(np.uint64)
    return bits ^ (np.uint64(0xFFFFFFFFFFFFFFFF) if bits >> np.uint64(63) else np.uint64(0x8000000000000000))


@numba.njit
def digit_of(key, digit):
    return np.int64((key >> np.uint64(digit * DIGIT)) & np.uint64((1 << DIGIT) - 1))


@numba.njit
def order_by_digits(keys, order):
    n, where = keys.size, np.zeros((DIGITS, 1 << DIGIT), dtype=np.int32)
    place, spare, spare_place = np.empty_like(order), np.empty_like(keys), np.empty_like(order)
    for k in range(n):
        place[k] = k
        for digit in range(DIGITS):
            where[digit, digit_of(keys[k], digit)] += 1
    for digit in range(DIGITS):
        if where[digit, digit_of(keys[0], digit)] == n:
            continue
        total = 0
        for value in range(1 << DIGIT):
            count = where[digit, value]
            where[digit, value] = total
            total += count
        for k in range(n):
            value = digit_of(keys[k], digit)
            to = where[digit, value]
            spare[to], spare_place[to] = keys[k], place[k]
            where[digit, value] = to + 1
        keys, spare, place, spare_place = spare, keys, spare_place, place
    for k in range(n):
        order[k] = place[k]


@numba.njit
def stable_order(values, falling, order):
    """The places of rising or falling numbers, equal ones by their place, NaN last."""
    keys = np.empty(values.size, dtype=np.uint64)
    for k in range(values.size):
        keys[k] = sort_key(-values[k] if falling else values[k])
    if values.size:
        order_by_digits(keys, order)


@numba.njit(parallel=True, cache=True)
def highest_first(values, order):
    """The order of falling numbers of each row."""
    for row in numba.prange(len(values)):
        stable_order(values[row], True, order[row])


@numba.njit(parallel=True, cache=True)
def in_order(values, rows, order, out):
    """``out[rank, column]``: of row ``rows[column]`` what comes at this rank in the order of the same row."""
    for rank in numba.prange(len(out)):
        for column in range(rows.size):
            out[rank, column] = values[rows[column], order[rows[column], rank]]


@numba.njit
def adjust(p, adjusted):
    order, least, n_tests = np.empty(p.size, dtype=np.int32), 1.0, p.size
    stable_order(p, False, order)
    while n_tests > 0 and math.isnan(p[order[n_tests - 1]]):
        n_tests -= 1
        adjusted[order[n_tests]] = np.nan
    for k in range(n_tests - 1, -1, -1):
        least = min(least, p[order[k]] * (n_tests / (k + 1)))
        adjusted[order[k]] = least


@numba.njit(parallel=True, cache=True)
def benjamini_hochberg(p, adjusted):
    """See :func:`rsc_core.stats.benjamini_hochberg`; a family a row."""
    for row in numba.prange(len(p)):
        adjust(p[row], adjusted[row])
