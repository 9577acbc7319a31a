"""The order of a cell's genes by value, and what follows from it; ``places.cu`` holds the same for CUDA.

Columns are the genes seen in the order that breaks ties: of genes with one value, the lower column comes first.
"""

import math

import numba
import numpy as np

from rsc_core.kernels.twin import twin


# Places from the highest value (0) of the stored genes that are not 0; genes below 0 come after all that are 0. The
# other places stay as they are. ``n_above``: how many genes of a cell are above 0. ``sorted_value``, ``sorted_column``: room
# for all stored values.
@twin("int64 int32 float64 int32 int64 float64 int32 int32 int32", per_item=256)
def places_of_stored(n_items, indptr, indices, values, column, n_genes, sorted_value, sorted_column, place, n_above):
    for cell in numba.prange(n_items):
        row, n_stored, above = np.full(n_genes, 0.0), 0, 0
        for k in range(indptr[cell], indptr[cell + 1]):
            if values[k] != 0:
                row[column[indices[k]]] = values[k]
                n_stored += 1
                above += values[k] > 0
        where, negated, n = sorted_column[indptr[cell] :], sorted_value[indptr[cell] : indptr[cell] + n_stored], 0
        for c in range(n_genes):
            if row[c] != 0:
                where[n], negated[n] = c, -row[c]
                n += 1
        order = np.argsort(negated, kind="mergesort")
        for rank in range(n_stored):
            place[cell, where[order[rank]]] = rank if rank < above else rank + n_genes - n_stored
        n_above[cell] = above


# Places of the genes that are 0, marked -1: after those above 0, in the order of the columns.
@twin("int64 int32 int32", per_item=32)
def places_of_zeros(n_items, n_genes, n_above, place):
    for cell in numba.prange(n_items):
        next_ = n_above[cell]
        for c in range(n_genes):
            if place[cell, c] < 0:
                place[cell, c] = next_
                next_ += 1


# Twice the mean rank of each gene, 2 for the lowest: ties share the mean of their ranks.
@twin("int64 int32 float64 int32 int64 float64 int32 int32", per_item=256)
def mean_ranks(n_items, indptr, indices, values, column, n_genes, sorted_value, sorted_column, rank):
    for cell in numba.prange(n_items):
        n_stored, below = 0, 0
        for k in range(indptr[cell], indptr[cell + 1]):
            n_stored += values[k] != 0
            below += values[k] < 0
        for c in range(n_genes):
            rank[cell, c] = 2 * below + n_genes - n_stored + 1
        where, value, n = sorted_column[indptr[cell] :], sorted_value[indptr[cell] : indptr[cell] + n_stored], 0
        for k in range(indptr[cell], indptr[cell + 1]):
            if values[k] != 0:
                where[n], value[n] = column[indices[k]], values[k]
                n += 1
        order = np.argsort(value, kind="mergesort")
        first = 0
        while first < n_stored:
            last = first
            while last + 1 < n_stored and value[order[last + 1]] == value[order[first]]:
                last += 1
            less = first + (n_genes - n_stored if value[order[first]] > 0 else 0)
            for i in range(first, last + 1):
                rank[cell, where[order[i]]] = 2 * less + last - first + 2
            first = last + 1


# Of each cell and source: sum over its targets of the weight times the table's value at the target's place.
@twin("int32 int64 int32 float64 float64 int64 int64 float64")
def place_sums(n_items, place, source_indptr, target, weight, table, n_genes, n_sources, out):
    for cell in numba.prange(n_items // n_sources):
        for s in range(n_sources):
            sum_ = 0.0
            for e in range(source_indptr[s], source_indptr[s + 1]):
                sum_ += weight[e] * table[place[cell, target[e]]]
            out[cell, s] = sum_


# The columns in the order of their places, and the sizes of the values (0 before) of the stored genes there. ``zeros``: of
# each cell, the first place of a gene that is 0, and the first place after these.
@twin("int64 int32 float64 int32 int64 int32 int32 float64 int32", per_item=32)
def order_columns(n_items, indptr, indices, values, column, n_genes, place, order, amount, zeros):
    for cell in numba.prange(n_items):
        for c in range(n_genes):
            order[cell, place[cell, c]] = c
        above, below = 0, 0
        for k in range(indptr[cell], indptr[cell + 1]):
            if values[k] != 0:
                amount[cell, place[cell, column[indices[k]]]] = abs(values[k])
                above += values[k] > 0
                below += values[k] < 0
        zeros[cell, 0], zeros[cell, 1] = above, n_genes - below


# Ascending places of random sets of some sizes, side by side, from the ranks of all genes: those whose rank is below the size.
@twin("int32 int64 int64 int64 int32", per_item=32)
def random_sets(n_items, rank, size_indptr, n_genes, n_sizes, places):
    for o in numba.prange(n_items // n_sizes):
        drawn = np.empty(n_genes, dtype=np.int32)
        for gene in range(n_genes):
            drawn[rank[o, gene]] = gene
        for u in range(n_sizes):
            start, end = size_indptr[u], size_indptr[u + 1]
            places[o, start:end] = np.sort(drawn[: end - start])


# Highest and lowest point of each source's walk down a cell's genes: a target adds its share of the targets' amounts
# (``size`` takes their sum), another gene takes 1 / (number of other genes). ``step``: rows of ``amount`` are cells (1), or
# there is one for all (0). ``sum_``, ``n_hits`` hold the state and begin with 0, as ``size``, ``high``, ``low`` do.
@twin("int32 float64 int64 int64 int32 int64 int64 int64 float64 float64 int32 float64 float64", per_item=32)
def walks(n_items, order, amount, step, gene_indptr, source, n_targets, n_genes, n_sources, size, sum_, n_hits, high, low):
    for cell in numba.prange(n_items):
        for place in range(n_genes):
            column = order[cell, place]
            if amount[cell * step, place] == 0:
                continue
            for e in range(gene_indptr[column], gene_indptr[column + 1]):
                size[cell, source[e]] += amount[cell * step, place]
        for place in range(n_genes):
            column = order[cell, place]
            for e in range(gene_indptr[column], gene_indptr[column + 1]):
                s = source[e]
                if size[cell, s] > 0:
                    missed = (place - n_hits[cell, s]) / (n_genes - n_targets[s])
                    low[cell, s] = min(low[cell, s], sum_[cell, s] / size[cell, s] - missed)
                    sum_[cell, s] += amount[cell * step, place]
                    n_hits[cell, s] += 1
                    high[cell, s] = max(high[cell, s], sum_[cell, s] / size[cell, s] - missed)


# The same of random sets, given by their ascending places: of each cell, permutation and number of targets, the point
# that is farther from 0, as a score. Among places without an amount the walk goes down: the last of a set alone can matter.
@twin("float64 int32 int32 int64 int64 int64 int64 float64")
def null_walks(n_items, amount, zeros, places, size_indptr, n_genes, n_orders, n_sizes, score):
    for cell in numba.prange(n_items // (n_orders * n_sizes)):
        for o in range(n_orders):
            for u in range(n_sizes):
                start, end = size_indptr[u], size_indptr[u + 1]
                size, sum_, share, high, low = 0.0, 0.0, 0.0, 0.0, 0.0
                up, down = start, end  # the set's places from up to down have no amount
                while up < end and places[o, up] < zeros[cell, 0]:
                    size += amount[cell, places[o, up]]
                    up += 1
                while down > up and places[o, down - 1] >= zeros[cell, 1]:
                    down -= 1
                for i in range(down, end):
                    size += amount[cell, places[o, i]]
                if size > 0:
                    i = start
                    while i < end:
                        if i == up and up < down:
                            i = down if down < end else end - 1
                        missed = (places[o, i] - (i - start)) / (n_genes - (end - start))
                        low = min(low, share - missed)
                        sum_ += amount[cell, places[o, i]]
                        share = sum_ / size
                        high = max(high, share - missed)
                        i += 1
                score[cell, o, u] = high if high > -low else low


# Of each cell and source: how many scores of random sets have the sign of the observed one (0 counts as above), how
# many of these are at least as far from 0, and their sum.
@twin("float64 int64 float64 int64 int64 int64 int64 int64 float64")
def signed_moments(n_items, score, size_of, observed, n_orders, n_sizes, n_sources, n_same, n_beyond, total):
    for cell in numba.prange(n_items // n_sources):
        for s in range(n_sources):
            seen = observed[cell, s]
            for o in range(n_orders):
                here = score[cell, o, size_of[s]]
                if (here >= 0) == (seen >= 0):
                    n_same[cell, s] += 1
                    n_beyond[cell, s] += abs(here) >= abs(seen)
                    total[cell, s] += here


# Values of the genes in the order of the columns (0 before).
@twin("int64 int32 float64 int32 int64 float64", per_item=32)
def dense_columns(n_items, indptr, indices, values, column, n_genes, out):
    for cell in numba.prange(n_items):
        for k in range(indptr[cell], indptr[cell + 1]):
            if values[k] != 0:
                out[cell, column[indices[k]]] = values[k]


# A quarter of each gene's standard deviation (with n - 1); 0 where a gene has one value.
@twin("float64 int64 int64 float64")
def bandwidths(n_items, x, n_cells, n_genes, out):
    for g in numba.prange(n_items):
        total, squares, varies = 0.0, 0.0, False
        for cell in range(n_cells):
            total += x[cell, g]
            varies |= x[cell, g] != x[0, g]
        mean = total / n_cells
        for cell in range(n_cells):
            squares += (x[cell, g] - mean) * (x[cell, g] - mean)
        out[g] = math.sqrt(squares / (n_cells - 1)) / 4 if varies else 0.0


# Of each cell and gene: share of the cells that are not higher.
@twin("float64 int64 int64 float64")
def share_tail(n_items, x, n_cells, n_genes, out):
    for g in numba.prange(n_genes):
        ascending = np.sort(x[:, g])
        for cell in range(n_cells):
            out[cell, g] = np.searchsorted(ascending, x[cell, g], side="right") / n_cells


# Of each cell and gene: mean over the cells of a table's value at (own code, other cell's code).
@twin("int32 float64 int64 int64 int64 float64")
def code_tail(n_items, code, table, n_codes, n_cells, n_genes, out):
    for cell in numba.prange(n_cells):
        sums = np.zeros(n_genes)
        for other in range(n_cells):
            for g in range(n_genes):
                sums[g] += table[code[cell, g] * n_codes + code[other, g]]
        out[cell] = sums / n_cells


# Of each cell and gene: mean over the cells of the normal distribution at (own value - other value) / bandwidth, from a
# table of 10 standard deviations; a bandwidth of 0 makes it 1/2.
@twin("float64 float64 float64 int64 int64 int64 float64")
def normal_tail(n_items, x, bandwidth, table, n_steps, n_cells, n_genes, out):
    for cell in numba.prange(n_cells):
        sums = np.zeros(n_genes)
        for other in range(n_cells):
            for g in range(n_genes):
                distance = (x[cell, g] - x[other, g]) / bandwidth[g] if bandwidth[g] > 0 else 0.0
                if distance > 10:
                    sums[g] += 1.0
                elif distance >= 0:
                    sums[g] += table[int(distance / 10 * n_steps)]
                elif distance >= -10:
                    sums[g] += 1.0 - table[int(-distance / 10 * n_steps)]
        out[cell] = sums / n_cells
