"""Scores of marker tests from the sums of groups and genes, for the host alone: there is no ``markers.cu``.

``table`` (groups + 1, genes, FIELDS) as in :mod:`rsc_core.kernels.ranks`; ``n``, ``m`` (groups,): cells of a group, and of those that
it is compared with, row ``reference`` or, below 0, all others. Results are (groups, genes). Scores are computed for the genes from
``first`` to ``last``, without the interpreter's lock: threads of Python go on to their p-values, which SciPy computes.
"""

import math

import numba
import numpy as np
from numba.extending import register_jitable

from rsc_core.kernels import twin  # noqa: F401 - where compiled code is kept

NOISE = 4 * np.finfo(np.float64).eps  # four roundings of a sum of squares less the product of a sum and a mean


@register_jitable
def joined(high, low, scale):
    """Sums from their two words, rounded once; of numbers or arrays."""
    return (high + (low >> 32) + (low & 0xFFFFFFFF) / 2.0**32) / scale


@numba.njit
def words(table, row, gene):
    """The words of a sum and of a sum of squares."""
    return table[row, gene, 1], table[row, gene, 2], table[row, gene, 3], table[row, gene, 4]


@numba.njit
def words_of_all(table, gene):
    high = low = high_square = low_square = 0
    for row in range(len(table)):
        high += table[row, gene, 1]
        low += table[row, gene, 2]
        high_square += table[row, gene, 3]
        low_square += table[row, gene, 4]
    return high, low, high_square, low_square


@numba.njit
def words_of_others(table, group, gene, reference, total):
    if reference >= 0:
        return words(table, reference, gene)
    own = words(table, group, gene)
    return total[0] - own[0], total[1] - own[1], total[2] - own[2], total[3] - own[3]


@numba.njit
def mean_and_variance(n, words, scale, scale_squares):
    """Mean and unbiased variance; a variance within the rounding of its difference is 0."""
    total, squares = joined(words[0], words[1], scale), joined(words[2], words[3], scale_squares)
    mean = total / n
    spread = squares - total * mean
    return mean, 0.0 if spread <= NOISE * squares else spread / max(n - 1, 1)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def welch(first, last, table, n, m, m_assumed, reference, scale, scale_squares, score, df):
    """Welch's t and its degrees of freedom; ``m_assumed``: the number of the others that the test takes."""
    for gene in range(first, last):
        total = words_of_all(table, gene)
        for group in range(len(score)):
            others = words_of_others(table, group, gene, reference, total)
            mean, variance = mean_and_variance(n[group], words(table, group, gene), scale, scale_squares)
            mean_others, variance_others = mean_and_variance(m[group], others, scale, scale_squares)
            share, share_others = variance / n[group], variance_others / m_assumed[group]
            both = share + share_others
            t = (mean - mean_others) / math.sqrt(both)
            freedom = both * both / (share * share / (n[group] - 1) + share_others * share_others / (m_assumed[group] - 1))
            score[group, gene] = 0.0 if math.isnan(t) else t
            df[group, gene] = 1.0 if math.isnan(freedom) else freedom


@numba.njit(nogil=True, cache=True, error_model="numpy")
def rank_sum_scores(first, last, rank_sum, ties, n, m, n_ties, continuity, score):
    """z from twice the rank sums (genes, groups + 1); the order of operations is scanpy's.

    ``ties`` (genes, groups + 2): a sixth of the sum of t^3 - t over ties of t cells among the others, or all cells, in its last
    column, and what each group adds to it; ``n_ties`` (groups,): that sum if all cells were tied, infinite for no correction.
    """
    for gene in range(first, last):
        for group in range(len(score)):
            untied = 1.0 - 6.0 * (ties[gene, group] + ties[gene, ties.shape[1] - 1]) / n_ties[group]
            own, other, plus_one = n[group], m[group], n[group] + m[group] + 1
            gap = rank_sum[gene, group] / 2 - own * (plus_one / 2.0)
            if continuity:
                gap = math.copysign(max(abs(gap) - 0.5, 0.0), gap)
            z = gap / math.sqrt(untied * own * other * plus_one / 12.0)
            score[group, gene] = 0.0 if math.isnan(z) else z


@numba.njit(parallel=True, cache=True, error_model="numpy")
def fold_changes(table, n, m, reference, scale, log_base, out):
    """log2 fold changes of the means without their logarithm, whose base has the natural logarithm ``log_base``."""
    for gene in numba.prange(out.shape[1]):
        total = words_of_all(table, gene)
        for group in range(len(out)):
            own, others = words(table, group, gene), words_of_others(table, group, gene, reference, total)
            mean, mean_others = joined(own[0], own[1], scale) / n[group], joined(others[0], others[1], scale) / m[group]
            out[group, gene] = np.log2((np.expm1(mean * log_base) + 1e-9) / (np.expm1(mean_others * log_base) + 1e-9))
