"""Loops of marker tests: the values of a block of genes as sortable keys, sums and ranks of each gene's groups.

A key holds, from the top, the gene's number in its block (16 bits), its value (float32 in 32 bits whose order is that of
the numbers) and the code of the cell's group (16 bits). Sorted keys lie gene by gene, value by value, group by group.
Zeros have no key, stored or not: what a group lacks of its size is zero. ``ranks.cu`` holds the same for CUDA.
"""

import numba
import numpy as np

from rsc_core.kernels.twin import twin


@numba.njit(inline="always")
def ordered_bits(value):
    bits = np.uint64(np.float32(value).view(np.uint32))
    return bits ^ (np.uint64(0xFFFFFFFF) if bits >> np.uint64(31) else np.uint64(0x80000000))


@numba.njit(inline="always")
def value_of(key):
    bits = (key >> np.uint64(16)) & np.uint64(0xFFFFFFFF)
    bits = bits ^ (np.uint64(0x80000000) if bits >> np.uint64(31) else np.uint64(0xFFFFFFFF))
    return np.float64(np.uint32(bits).view(np.float32))


@numba.njit(inline="always")
def is_positive(key):
    return (key >> np.uint64(47)) & np.uint64(1) == np.uint64(1)


@numba.njit(inline="always")
def group_of(key):
    return np.int64(key & np.uint64(0xFFFF))


@numba.njit(inline="always")
def first_key(keys, n_keys, gene):
    low, high = np.int64(0), np.int64(n_keys)
    while low < high:
        middle = (low + high) // 2
        if np.int64(keys[middle] >> np.uint64(48)) < gene:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(inline="always")
def cube(count):
    t = np.float64(count)
    return t * t * t - t


@numba.njit(inline="always")
def add_tie(gene, group, n_own, below, tied, reference, twice, tie):
    if reference < 0:
        twice[gene, group] += n_own * (2 * below + tied + 1)
    else:
        twice[gene, group] += n_own * (2 * below + tied)
        tie[gene, group] += cube(n_own + tied) - cube(tied)


@twin("int64 int32 float32 int64 int64 int64", per_item=32)
def key_counts(n_items, indptr, indices, values, first_gene, last_gene, count):
    for cell in numba.prange(n_items):
        found = 0
        for k in range(indptr[cell], indptr[cell + 1]):
            if first_gene <= indices[k] < last_gene and values[k] != 0:
                found += 1
        count[cell] = found


@twin("int64 int32 float32 uint16 int64 int64 int64 uint64", per_item=32)
def fill_keys(n_items, indptr, indices, values, group, first_gene, last_gene, offset, keys):
    for cell in numba.prange(n_items):
        to = offset[cell]
        for k in range(indptr[cell], indptr[cell + 1]):
            if first_gene <= indices[k] < last_gene and values[k] != 0:
                gene = np.uint64(indices[k] - first_gene)
                keys[to] = gene << np.uint64(48) | ordered_bits(values[k]) << np.uint64(16) | np.uint64(group[cell])
                to += 1


# The counts, sums and sums of squares of each group's values, added in the order of the keys.
@twin("uint64 int64 int64 int64 float64 float64", threads=64)
def group_moments(n_items, keys, n_keys, n_groups, count, total, squares):
    for gene in numba.prange(n_items):
        for k in range(first_key(keys, n_keys, gene), first_key(keys, n_keys, gene + 1)):
            group, value = group_of(keys[k]), value_of(keys[k])
            count[gene, group] += 1
            total[gene, group] += value
            squares[gene, group] += value * value


# reference < 0: twice the rank sums among all cells. Else twice the number of pairs (cell of the group, cell of the
# reference) in which the group's value is larger, ties counting half. tie: the sum of t^3 - t over ties of t cells, in
# tie[gene, n_groups] of all cells (of the reference), in tie[gene, group] what the group's own cells add to it.
@twin("uint64 int64 int64 int64 int64 int64 int64 float64", threads=64)
def group_ranks(n_items, keys, n_keys, size, n_groups, reference, count, twice, tie):
    for gene in numba.prange(n_items):
        k, stop = first_key(keys, n_keys, gene), first_key(keys, n_keys, gene + 1)
        below, zeros_left = np.int64(0), True
        while k < stop or zeros_left:
            tied = np.int64(0)
            if zeros_left and (k == stop or is_positive(keys[k])):
                zeros_left = False
                for group in range(n_groups):
                    if reference < 0 or group == reference:
                        tied += size[group] - count[gene, group]
                for group in range(n_groups):
                    add_tie(gene, group, size[group] - count[gene, group], below, tied, reference, twice, tie)
            else:
                end = k
                while end < stop and keys[end] >> np.uint64(16) == keys[k] >> np.uint64(16):
                    if reference < 0 or group_of(keys[end]) == reference:
                        tied += 1
                    end += 1
                while k < end:
                    start, group = k, group_of(keys[k])
                    while k < end and group_of(keys[k]) == group:
                        k += 1
                    add_tie(gene, group, k - start, below, tied, reference, twice, tie)
            tie[gene, n_groups] += cube(tied)
            below += tied
