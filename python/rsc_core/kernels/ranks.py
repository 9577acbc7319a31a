"""Loops of marker tests: exact sums of groups, and the ranks of each gene's values; ``ranks.cu`` holds the same for CUDA.

All sums are of integers: their bits depend on no order, so that threads, blocks of cells and the backend are free in theirs.
A value is cut into two words, units of 1 / scale and of 1 / scale / 2^32. A key holds, from the top, the gene's number in
its block (16 bits), its value (float32 in 32 bits whose order is that of the numbers) and the code of the cell's group (16
bits). Zeros have no key, stored or not: what a group lacks of its size is zero.
"""

import math

import numba
import numpy as np

from rsc_core.kernels.twin import twin

FIELDS = 5  # of a table of sums: number of values that are not 0, two words of their sum, two of the sum of squares
PIECE = 4096  # values of which one item finds the largest
DIGITS = ((0, 11), (11, 5), (16, 11), (27, 11), (38, 10))  # first bit and bits of the digits that keys of a gene are sorted by
FEW = 48  # keys that are sorted by insertion


@numba.njit(inline="always")
def ordered_bits(value):
    bits = np.uint64(np.float32(value).view(np.uint32))
    return bits ^ (np.uint64(0xFFFFFFFF) if bits >> np.uint64(31) else np.uint64(0x80000000))


@numba.njit(inline="always")
def is_positive(key):
    return (key >> np.uint64(47)) & np.uint64(1) == np.uint64(1)


@numba.njit(inline="always")
def group_of(key):
    return np.int64(key & np.uint64(0xFFFF))


@numba.njit(inline="always")
def tie_term(t):
    pairs = t * (t - 1) // 2
    return pairs // 3 * (t + 1) if pairs % 3 == 0 else pairs * ((t + 1) // 3)


# out: zeros.
@twin("float32 int64 float32", per_item=32)
def largest(n_items, values, n_values, out):
    for item in numba.prange(n_items):
        found = np.float32(0.0)
        for k in range(item * PIECE, min((item + 1) * PIECE, n_values)):
            size = abs(values[k])
            if not size <= found:  # NaN stays
                found = size
                if math.isnan(size):
                    break
        out[item] = found


def n_parts() -> int:
    """Parts in which threads of the CPU share the genes; a kernel that asked itself could not be cached."""
    return numba.get_num_threads()


# Each thread of the CPU owns some genes and goes through all cells, group by group: what it adds to stays in its cache.
@twin("int64 int32 float32 int64 uint16 int64 int64 float64 float64 int64", per_item=32)
def group_sums(n_items, indptr, indices, values, order, group, n_parts, n_genes, scale, scale_squares, table):
    for part in numba.prange(n_parts):
        first, last = part * n_genes // n_parts, (part + 1) * n_genes // n_parts
        for item in range(n_items):
            cell = order[item]
            sums = table[group[cell]]
            for k in range(indptr[cell], indptr[cell + 1]):
                gene = indices[k]
                if first <= gene < last and values[k] != 0:
                    value = np.float64(values[k])
                    scaled, square = value * scale, value * value * scale_squares
                    high, high_square = math.floor(scaled), math.floor(square)
                    sums[gene, 0] += 1
                    sums[gene, 1] += np.int64(high)
                    sums[gene, 2] += np.int64((scaled - high) * 4294967296.0)
                    sums[gene, 3] += np.int64(high_square)
                    sums[gene, 4] += np.int64((square - high_square) * 4294967296.0)


# only < 0: the keys of all cells; else of the cells of that group. They lie gene by gene, in any order within a gene.
@twin("int64 int32 float32 uint16 int64 int64 int64 int64 int64 uint64", per_item=32)
def fill_keys(n_items, indptr, indices, values, group, n_parts, first_gene, last_gene, only, cursor, keys):
    width = last_gene - first_gene
    for part in numba.prange(n_parts):
        first, last = first_gene + part * width // n_parts, first_gene + (part + 1) * width // n_parts
        for cell in range(n_items):
            if only >= 0 and group[cell] != only:
                continue
            for k in range(indptr[cell], indptr[cell + 1]):
                if first <= indices[k] < last and values[k] != 0:
                    gene = indices[k] - first_gene
                    keys[cursor[gene]] = (
                        np.uint64(gene) << np.uint64(48) | ordered_bits(values[k]) << np.uint64(16) | np.uint64(group[cell])
                    )
                    cursor[gene] += 1


@numba.njit
def sort_by_insertion(keys, first, stop):
    for k in range(first + 1, stop):
        key, to = keys[k], k
        while to > first and keys[to - 1] > key:
            keys[to] = keys[to - 1]
            to -= 1
        keys[to] = key


@numba.njit
def sort_by_digits(keys, spare, first, stop):
    differ = np.uint64(0)
    for k in range(first, stop):
        differ |= keys[k] ^ keys[first]
    source, target, where = keys, spare, np.empty(2048, dtype=np.int64)
    moved = False
    for low, bits in DIGITS:
        shift, mask = np.uint64(low), np.uint64((1 << bits) - 1)
        if (differ >> shift) & mask == np.uint64(0):
            continue
        where[:] = 0
        for k in range(first, stop):
            where[(source[k] >> shift) & mask] += 1
        total = first
        for digit in range(1 << bits):
            count = where[digit]
            where[digit] = total
            total += count
        for k in range(first, stop):
            digit = (source[k] >> shift) & mask
            target[where[digit]] = source[k]
            where[digit] += 1
        source, target = target, source
        moved = not moved
    if moved:
        keys[first:stop] = spare[first:stop]


# Sorts the keys of each gene; CUDA sorts all keys at once instead.
@twin("uint64 uint64 int64")
def sort_keys(n_items, keys, spare, start):
    for gene in numba.prange(n_items):
        if start[gene + 1] - start[gene] <= FEW:
            sort_by_insertion(keys, start[gene], start[gene + 1])
        else:
            sort_by_digits(keys, spare, start[gene], start[gene + 1])


# twice: with reference < 0 twice the sum of the ranks among all cells, else twice the number of pairs (cell of the group,
# cell of the reference) in which the group's value is larger, ties counting half. base: the keys that ranks are taken among,
# of all cells or of the reference. tie: a sixth of the sum of t^3 - t over ties of t cells, in tie[gene, n_groups] of all
# cells (of the reference), in tie[gene, group] what the group's own cells add to it. An item of CUDA is a key.
@twin("uint64 int64 uint64 int64 int64 int64 int64 int64 int64 int64")
def group_ranks(n_items, keys, start, base, base_start, n_base, n_genes, n_groups, reference, twice, tie):
    for gene in numba.prange(n_genes):
        base_first, base_stop = base_start[gene], base_start[gene + 1]
        zeros = n_base - (base_stop - base_first)
        low = high = base_first
        for k in range(start[gene], start[gene + 1]):
            value, group = keys[k] >> np.uint64(16), group_of(keys[k])
            if k == start[gene] or keys[k - 1] >> np.uint64(16) != value:
                low = high
                while low < base_stop and base[low] >> np.uint64(16) < value:
                    low += 1
                high = low
                while high < base_stop and base[high] >> np.uint64(16) == value:
                    high += 1
                if reference < 0:
                    tie[gene, n_groups] += tie_term(high - low)
            below, tied = low - base_first + (zeros if is_positive(keys[k]) else 0), high - low
            twice[gene, group] += 2 * below + tied + (1 if reference < 0 else 0)
            if reference >= 0 and (k == start[gene] or keys[k - 1] != keys[k]):
                stop = k + 1
                while stop < start[gene + 1] and keys[stop] == keys[k]:
                    stop += 1
                tie[gene, group] += tie_term(stop - k + tied) - tie_term(tied)
                if group == reference:
                    tie[gene, n_groups] += tie_term(tied)


# What the zeros add to the result of group_ranks.
@twin("uint64 int64 int64 int64 int64 int64 int64 int64 int64")
def zero_ranks(n_items, base, base_start, n_base, size, count, n_groups, reference, twice, tie):
    for gene in numba.prange(n_items):
        first, stop = base_start[gene], base_start[gene + 1]
        zeros, low, high = n_base - (stop - first), first, stop
        while low < high:
            middle = (low + high) // 2
            if is_positive(base[middle]):
                high = middle
            else:
                low = middle + 1
        tie[gene, n_groups] += tie_term(zeros)
        for group in range(n_groups):
            own = size[group] - count[group, gene]
            twice[gene, group] += own * (2 * (low - first) + zeros + (1 if reference < 0 else 0))
            if reference >= 0:
                tie[gene, group] += tie_term(own + zeros) - tie_term(zeros)
