"""viper's correction for targets that active sources share; ``shadows.cu`` holds the same for CUDA.

A source is active in a cell where its score is farther from 0 than ``least``. Edges are (source, target), in the order of the
sources; pairs are two sources that share targets, in the order of the first one.
"""

import math

import numba
import numpy as np

from rsc_core.kernels.device import exp_double, log_double
from rsc_core.kernels.twin import twin

LOG_10 = 2.302585092994046
LOG_ROOT_2PI = 0.9189385332046727
DENSITY_AT_0 = 0.3989422804014327


# Whether two active sources of a cell are a pair (0 before). Several threads may set one flag: all set it to 1.
@twin("float64 float64 int64 int32 int64 uint8")
def shaded_cells(n_items, score, least, pair_indptr, partner, n_sources, shaded):
    for cell in numba.prange(n_items // n_sources):
        for s in range(n_sources):
            if abs(score[cell, s]) > least:
                for pair in range(pair_indptr[s], pair_indptr[s + 1]):
                    if abs(score[cell, partner[pair]]) > least:
                        shaded[cell] = 1


# Twice the mean rank of each target among its source's targets, from those among all genes, and the largest distance of these
# from their middle; of active sources that are one of a pair with another active one.
@twin("float64 float64 int32 int64 int32 int64 int32 int64 int64 int64 int32 int32", per_item=32)
def ranks_in_source(n_items, score, least, rank, indptr, target, pair_indptr, partner, n_genes, n_sources, n_edges, rank_inside, farthest):
    for cell in numba.prange(n_items // n_sources):
        for s in range(n_sources):
            compared = False
            for pair in range(pair_indptr[s], pair_indptr[s + 1]):
                compared |= abs(score[cell, partner[pair]]) > least
            if not (compared and abs(score[cell, s]) > least):
                continue
            start, n = indptr[s], indptr[s + 1] - indptr[s]
            mine = np.empty(n, dtype=np.int32)
            for e in range(n):
                mine[e] = rank[cell, target[start + e]]
            order, first, most = np.argsort(mine, kind="mergesort"), 0, 0
            while first < n:
                last = first
                while last + 1 < n and mine[order[last + 1]] == mine[order[first]]:
                    last += 1
                for i in range(first, last + 1):
                    rank_inside[cell, start + order[i]] = first + last + 2
                most = max(most, abs(first + last + 1 - n))
                first = last + 1
            farthest[cell, s] = most


@numba.njit
def log_tail(z):
    """log P(Z > z) of the standard normal distribution: series to 3 (Marsaglia 2004), beyond it Laplace's continued fraction."""
    y = abs(z)
    if y < 3.0:
        term, total, k = y, 0.0, 1.0
        while total + term != total:
            total += term
            k += 2.0
            term *= y * y / k
        half = total * exp_double(-0.5 * (y * y)) * DENSITY_AT_0
        return log_double(0.5 - half) if z >= 0 else log_double(0.5 + half)
    ratio = y
    for k in range(60, 0, -1):
        ratio = y + k / ratio
    tail = -0.5 * (y * y) - log_double(ratio) - LOG_ROOT_2PI
    return tail if z >= 0 else log_double(1.0 - exp_double(tail))


# log10 p of a pair's second source among the targets of its first one, whose weights it takes; NaN unless both are active.
# ``quantile``: of n targets, from 2 (their first edge + source) on, the normal quantiles at 0, 1, ... of 2 (n + 1).
@twin("float64 float64 int64 float64 int32 int32 int64 int64 float64 int32 int32 int64 int64 int64 float64")
def pair_p(
    n_items,
    score,
    least,
    indptr,
    weight,
    source,
    partner,
    shared_indptr,
    shared,
    quantile,
    rank_inside,
    farthest,
    n_sources,
    n_edges,
    n_pairs,
    log_p,
):
    for cell in numba.prange(n_items // n_pairs):
        for pair in range(n_pairs):
            s, n_shared = source[pair], shared_indptr[pair + 1] - shared_indptr[pair]
            if not (abs(score[cell, s]) > least and abs(score[cell, partner[pair]]) > least):
                log_p[cell, pair] = np.nan
                continue
            table, n = 2 * (indptr[s] + s), indptr[s + 1] - indptr[s]
            signed, both = 0.0, 0.0
            for k in range(shared_indptr[pair], shared_indptr[pair + 1]):
                w, twice = weight[shared[k]], rank_inside[cell, shared[k]]
                signed += w * quantile[table + twice]
                both += (1.0 - abs(w)) * quantile[table + 2 * abs(twice - (n + 1)) + n + 1 - farthest[cell, s]]
            if score[cell, s] < 0:
                signed = -signed
            z = (abs(signed) + max(both, 0.0)) / math.sqrt(float(n_shared))
            log_p[cell, pair] = log_tail(-z if signed < 0 else z) / LOG_10


# Of a pair the source with the higher p loses likelihood of the shared targets (1 before); who lost some is scored again.
# Sums: every 32nd target, and these in pairs.
@twin(
    "float64 int32 int64 int32 float64 int64 int64 int64 int64 float64 float64 float64 int64 int64 int64 int64 float64 float64",
    per_item=32,
)
def rescore(
    n_items,
    log_p,
    rank,
    indptr,
    target,
    weight,
    pair_indptr,
    back,
    shared_indptr,
    shared,
    penalty,
    signed_tail,
    both_tail,
    n_genes,
    n_sources,
    n_edges,
    n_pairs,
    likelihood,
    score,
):
    for cell in numba.prange(n_items // n_sources):
        for s in range(n_sources):
            n_compared, lost = 0, False
            for pair in range(pair_indptr[s], pair_indptr[s + 1]):
                n_compared += not math.isnan(log_p[cell, pair])
            for pair in range(pair_indptr[s], pair_indptr[s + 1]):
                difference = log_p[cell, back[pair]] - log_p[cell, pair]
                if difference > 0:
                    lost = True
                    by = exp_double(penalty / n_compared * log_double(1.0 + difference))
                    for k in range(shared_indptr[pair], shared_indptr[pair + 1]):
                        likelihood[cell, shared[k]] /= by
            if not lost:
                continue
            largest, sums = 0.0, np.zeros((4, 32))
            for e in range(indptr[s], indptr[s + 1]):
                largest = max(largest, likelihood[cell, e])
            for e in range(indptr[s], indptr[s + 1]):
                share, twice, lane = likelihood[cell, e] / largest, rank[cell, target[e]], (e - indptr[s]) % 32
                sums[0, lane] += share
                sums[1, lane] += share * share
                sums[2, lane] += signed_tail[twice] * (share * weight[e])
                sums[3, lane] += both_tail[twice] * (share * (1.0 - abs(weight[e])))
            half = 16
            while half > 0:
                sums[:, :half] += sums[:, half : 2 * half]
                half //= 2
            size = (abs(sums[2, 0]) + max(sums[3, 0], 0.0)) / sums[0, 0] * math.sqrt(sums[1, 0])
            score[cell, s] = math.copysign(size, sums[2, 0]) if sums[2, 0] != 0 else 0.0
