"""Permutations that need no sorting; ``shuffle.cu`` holds the same for CUDA.

A place i of n is written as (i // width, i % width) on a board of ``height`` times ``width`` fields; in each round one half
is moved round by a random number of the other half, and the halves change roles (a generalised Feistel network, Black &
Rogaway 2002, doi:10.1007/3-540-45760-7_9). A result outside of n is put in again. Every place is worked out by itself.
"""

import numba
import numpy as np

from rsc_core.kernels.device import random_bits
from rsc_core.kernels.twin import twin

ROUNDS = 8


@numba.njit(inline="always")
def mix32(x):
    """Mixing of 32 bits (lowbias32 of Wellons 2018)."""
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@numba.njit(inline="always")
def moved(place, key, height, width):
    """Where the field ``place`` of the board goes; ``key``: a random number a round."""
    row = np.uint32(place // width)
    column = np.uint32(place - row * width)
    for pair in range(ROUNDS // 2):
        row += np.uint32((np.uint64(mix32(np.uint32(column ^ key[2 * pair]))) * np.uint64(height)) >> np.uint64(32))
        row = min(row, np.uint32(row - height))
        column += np.uint32((np.uint64(mix32(np.uint32(row ^ key[2 * pair + 1]))) * np.uint64(width)) >> np.uint64(32))
        column = min(column, np.uint32(column - width))
    return np.uint32(row * width + column)


@twin("int32 uint64 uint64 int64 int64 int64 int64 int64 int64 int32")
def permuted(n_items, members, seed, purpose, first_number, step, n_members, n_cells, height, width, out):
    """``out[order, members[i]] = members[where i goes]``: the members change places; order k is permutation ``first_number + k step``."""
    for order in numba.prange(n_items // n_members):
        key = np.empty(ROUNDS, dtype=np.uint32)
        for r in range(ROUNDS):
            counter = np.uint64((first_number + order * step) * ROUNDS + r)
            key[r] = np.uint32(random_bits(seed, purpose, counter) >> np.uint64(32))
        h, w, n = np.uint32(height), np.uint32(width), np.uint32(n_members)
        to = np.empty(n_members, dtype=np.uint32)
        for i in range(n_members):
            to[i] = moved(np.uint32(i), key, h, w)
        for i in range(n_members):
            place = to[i]
            while place >= n:
                place = moved(place, key, h, w)
            out[order, members[i]] = members[place]


@twin("int32 uint64 uint64 int64 int64 int64 int64 int32")
def ranked(n_items, members, seed, purpose, first_number, step, n_members, n_cells, out):
    """As ``permuted``, for few members: each goes to its rank among random numbers, so that all permutations are equally likely."""
    for item in numba.prange(n_items):
        order, i = item // n_members, item % n_members
        first = (first_number + order * step) * n_members
        own = random_bits(seed, purpose, np.uint64(first + i))
        rank = 0
        for j in range(n_members):
            other = random_bits(seed, purpose, np.uint64(first + j))
            rank += (other < own) or (other == own and j < i)
        out[order, members[i]] = members[rank]
