"""viper's correction for targets that active sources share: loops over cells on the host, for data of both backends."""

from __future__ import annotations

import math

import numba
import numpy as np

ROOM = 1 << 27  # bytes of the scores of pairs
MIDDLE = (  # Wichura 1988, Applied Statistics 37:477, doi:10.2307/2347330 (AS 241)
    (
        2509.0809287301227,
        33430.57558358813,
        67265.7709270087,
        45921.95393154987,
        13731.69376550946,
        1971.5909503065513,
        133.14166789178438,
        3.3871328727963665,
    ),
    (
        5226.495278852854,
        28729.085735721943,
        39307.89580009271,
        21213.794301586597,
        5394.196021424751,
        687.1870074920579,
        42.31333070160091,
        1.0,
    ),
)
TAIL = (
    (
        0.0007745450142783414,
        0.022723844989269184,
        0.2417807251774506,
        1.2704582524523684,
        3.6478483247632045,
        5.769497221460691,
        4.630337846156546,
        1.4234371107496835,
    ),
    (
        1.0507500716444169e-09,
        0.0005475938084995345,
        0.015198666563616457,
        0.14810397642748008,
        0.6897673349851,
        1.6763848301838038,
        2.053191626637759,
        1.0,
    ),
)


class Shadows:
    """Which sources share targets, and what that changes in the scores of cells.

    Parameters
    ----------
    weights
        CSR float64 (genes, sources).
    n_targets
        Sources that share more targets are compared.
    penalty
        Of the likelihood of shared targets.
    tails
        Tables of normal quantiles by twice the mean rank: float64 (2 genes + 1,) each, signed and of the distance from the middle.
    """

    def __init__(self, weights, n_targets, penalty, tails):
        self.n_sources, self.penalty, self.tails = weights.shape[1], float(penalty), tails
        by_source = weights.T.tocsr()
        by_source.eliminate_zeros()
        by_source.sort_indices()
        self.indptr, self.target, self.weight = by_source.indptr.astype(np.int64), by_source.indices, by_source.data
        is_target = (by_source != 0).astype(np.int32)
        shared = (is_target @ is_target.T).tocsr()
        shared.setdiag(0)
        shared.data[shared.data <= n_targets] = 0
        shared.eliminate_zeros()
        shared.sort_indices()
        self.overlaps = shared != 0
        self.pair_indptr, self.partner = shared.indptr.astype(np.int64), shared.indices
        self.shared_indptr = np.concatenate([[0], np.cumsum(shared.data)]).astype(np.int64)
        self.shared = np.empty(self.shared_indptr[-1], dtype=np.int64)
        _find_shared(self.indptr, self.target, *self._pairs)

    def cells(self, active) -> np.ndarray:
        """Cells where two active sources overlap; ``active``: bool (cells, sources)."""
        return np.flatnonzero((active & ((active.astype(np.float32) @ self.overlaps.astype(np.float32)) > 0)).any(axis=1))

    def correct(self, score, active, rank) -> None:
        """Change the scores (cells, sources) of active sources that share targets with more active ones.

        Parameters
        ----------
        score, active, rank
            float64 (cells, sources), bool (cells, sources), int32 (cells, genes): twice the mean ranks.
        """
        from scipy.special import log_ndtr

        at_once = max(1, ROOM // (8 * max(1, self.partner.size)))
        for start in range(0, len(score), at_once):
            here = slice(start, start + at_once)
            z = np.full((len(score[here]), self.partner.size), np.nan)
            _pair_scores(score[here], active[here], rank[here], *self._edges, *self._pairs, z)
            log_p = np.full(z.shape, np.nan)
            known = ~np.isnan(z)
            log_p[known] = log_ndtr(-z[known]) / np.log(10)
            _rescore(active[here], rank[here], *self._edges, *self._pairs, log_p, self.penalty, *self.tails, score[here])

    @property
    def _edges(self):
        return self.indptr, self.target, self.weight

    @property
    def _pairs(self):
        return self.pair_indptr, self.partner, self.shared_indptr, self.shared


# The edges of a pair's first source whose targets the other one has; targets ascend.
@numba.njit(parallel=True, cache=True)
def _find_shared(indptr, target, pair_indptr, partner, shared_indptr, shared):
    for source in numba.prange(len(pair_indptr) - 1):
        for pair in range(pair_indptr[source], pair_indptr[source + 1]):
            filled, other, end = shared_indptr[pair], indptr[partner[pair]], indptr[partner[pair] + 1]
            for e in range(indptr[source], indptr[source + 1]):
                while other < end and target[other] < target[e]:
                    other += 1
                if other < end and target[other] == target[e]:
                    shared[filled] = e
                    filled += 1


@numba.njit(cache=True)
def _quantile(p):
    """Normal quantile for 1e-11 < p < 1 - 1e-11, within 1e-15 of its size."""
    q = p - 0.5
    if abs(q) <= 0.425:
        return q * _ratio(0.180625 - q * q, MIDDLE)
    x = _ratio(math.sqrt(-math.log(min(p, 1 - p))) - 1.6, TAIL)
    return x if q > 0 else -x


@numba.njit(cache=True)
def _ratio(r, coefficients):
    above, below = 0.0, 0.0
    for i in range(8):
        above, below = above * r + coefficients[0][i], below * r + coefficients[1][i]
    return above / below


@numba.njit(cache=True)
def _mean_ranks(rank):
    """Twice the mean ranks among some genes, from those among all."""
    order, result, first = np.argsort(rank, kind="mergesort"), np.empty(rank.size), 0
    while first < rank.size:
        last = first
        while last + 1 < rank.size and rank[order[last + 1]] == rank[order[first]]:
            last += 1
        for i in range(first, last + 1):
            result[order[i]] = first + last + 2
        first = last + 1
    return result


# Scores of a pair's other source among the targets of its first one, whose weights it takes.
@numba.njit(parallel=True, cache=True)
def _pair_scores(score, active, rank, indptr, target, weight, pair_indptr, partner, shared_indptr, shared, z):
    for cell in numba.prange(len(score)):
        for source in range(active.shape[1]):
            compared = False
            for pair in range(pair_indptr[source], pair_indptr[source + 1]):
                compared |= active[cell, partner[pair]]
            if not (active[cell, source] and compared):
                continue
            start, end = indptr[source], indptr[source + 1]
            place = _mean_ranks(rank[cell][target[start:end]]) / (end - start + 1) - 1  # from -1 to 1
            highest = 2 * np.abs(place).max() - 1
            sign = -1.0 if score[cell, source] < 0 else 1.0
            for pair in range(pair_indptr[source], pair_indptr[source + 1]):
                if not active[cell, partner[pair]]:
                    continue
                signed, both = 0.0, 0.0
                for k in range(shared_indptr[pair], shared_indptr[pair + 1]):
                    here, w = place[shared[k] - start], weight[shared[k]]
                    signed += w * _quantile(here / 2 + 0.5) * sign
                    if abs(w) != 1:
                        both += (1 - abs(w)) * _quantile((2 * abs(here) - 1 + (1 - highest) / 2) / 2 + 0.5)
                n_shared = shared_indptr[pair + 1] - shared_indptr[pair]
                z[cell, pair] = (abs(signed) + max(both, 0.0)) / math.sqrt(n_shared) * (-1.0 if signed < 0 else 1.0)


# Of two active sources the one with the higher p there loses likelihood; who lost some is scored again.
@numba.njit(parallel=True, cache=True)
def _rescore(
    active, rank, indptr, target, weight, pair_indptr, partner, shared_indptr, shared, log_p, penalty, signed_tail, both_tail, score
):
    n_sources = active.shape[1]
    for cell in numba.prange(len(score)):
        likelihood, n_pairs = np.ones(target.size), np.zeros(n_sources)
        lost = np.zeros(n_sources, dtype=np.bool_)
        for source in range(n_sources):
            for pair in range(pair_indptr[source], pair_indptr[source + 1]):
                n_pairs[source] += not np.isnan(log_p[cell, pair])
        for first in range(n_sources):
            for pair in range(pair_indptr[first], pair_indptr[first + 1]):
                second = partner[pair]
                if second < first or np.isnan(log_p[cell, pair]):
                    continue
                back = pair_indptr[second] + np.searchsorted(partner[pair_indptr[second] : pair_indptr[second + 1]], first)
                difference = log_p[cell, back] - log_p[cell, pair]
                loser, its_pair = (first, pair) if difference > 0 else (second, back)
                by = (1 + abs(difference)) ** (penalty / n_pairs[loser])
                lost[loser] = True
                for k in range(shared_indptr[its_pair], shared_indptr[its_pair + 1]):
                    likelihood[shared[k]] /= by
        for source in range(n_sources):
            if not lost[source]:
                continue
            largest, n, squares, signed, both = 0.0, 0.0, 0.0, 0.0, 0.0
            for e in range(indptr[source], indptr[source + 1]):
                largest = max(largest, likelihood[e])
            for e in range(indptr[source], indptr[source + 1]):
                share, twice = likelihood[e] / largest, rank[cell, target[e]]
                n += share
                squares += share * share
                signed += signed_tail[twice] * (share * weight[e])
                both += both_tail[twice] * (share * (1 - abs(weight[e])))
            score[cell, source] = (abs(signed) + max(both, 0.0)) / n * np.sign(signed) * math.sqrt(squares)
