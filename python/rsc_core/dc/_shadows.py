"""viper's correction for targets that active sources share."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import shadows as kernels

ROOM = 1 << 28  # bytes of the cells that are corrected at a time


class Shadows:
    """Which sources share targets, and what that changes in the scores of cells.

    Parameters
    ----------
    weights
        CSR float64 (genes, sources) of the host.
    n_targets
        Sources that share more targets are compared.
    penalty
        Of the likelihood of shared targets.
    least
        Sources with a score farther from 0 are active.
    tails
        Tables of normal quantiles by twice the mean rank: float64 (2 genes + 1,) each, signed and of the distance from the middle.
    """

    def __init__(self, weights, n_targets, penalty, least, tails):
        self.n_genes, self.n_sources = weights.shape
        self.penalty, self.least, self.tails = float(penalty), float(least), tails
        xp = backend.xp_of(*tails)
        by_source = weights.T.tocsr()
        by_source.eliminate_zeros()
        is_target = (by_source != 0).astype(np.int32)
        pairs = (is_target @ is_target.T).tocsr()
        pairs.setdiag(0)
        pairs.data[pairs.data <= n_targets] = 0
        pairs.eliminate_zeros()
        pairs.sort_indices()
        self.n_edges, self.n_pairs = by_source.nnz, pairs.nnz
        edges, sources = backend.csr_parts(by_source, np.float64), backend.csr_parts(pairs)
        self.edges = tuple(xp.asarray(part) for part in edges)
        self.pairs = tuple(xp.asarray(part) for part in sources[:2])
        self.source = xp.asarray(_rows(pairs).astype(np.int32))
        place = type(pairs)((np.arange(pairs.nnz), pairs.indices, pairs.indptr), shape=pairs.shape)
        self.back = xp.asarray(place.T.tocsr().data.astype(np.int64))
        self.shared = tuple(xp.asarray(part) for part in _shared(is_target, pairs))
        self.quantile = xp.asarray(_quantiles(np.diff(edges[0])))

    def correct(self, score, rank) -> None:
        """Change the scores of active sources that share targets with more active ones.

        Parameters
        ----------
        score, rank
            float64 (cells, sources), int32 (cells, genes): twice the mean ranks.
        """
        xp, shaded = backend.xp_of(score), backend.xp_of(score).zeros(len(score), dtype=np.uint8)
        kernels.shaded_cells(score.size, score, self.least, *self.pairs, self.n_sources, shaded)
        cells = xp.flatnonzero(shaded)
        at_once = max(1, ROOM // (12 * self.n_edges + 8 * self.n_pairs + 12 * self.n_sources + 4 * self.n_genes))
        for start in range(0, cells.size, at_once):
            some = cells[start : start + at_once]
            changed = score[some]
            self._rescore(changed, rank[some])
            score[some] = changed

    def _rescore(self, score, rank) -> None:
        xp, (n_cells, n_sources), (indptr, target, weight) = backend.xp_of(score), score.shape, self.edges
        sizes = n_sources, self.n_edges, self.n_pairs
        inside, farthest = xp.zeros((n_cells, self.n_edges), dtype=np.int32), xp.zeros((n_cells, n_sources), dtype=np.int32)
        of_genes = self.n_genes, n_sources, self.n_edges
        kernels.ranks_in_source(score.size, score, self.least, rank, indptr, target, *self.pairs, *of_genes, inside, farthest)
        log_p = xp.empty((n_cells, self.n_pairs))
        ends = indptr, weight, self.source, self.pairs[1]
        kernels.pair_p(log_p.size, score, self.least, *ends, *self.shared, self.quantile, inside, farthest, *sizes, log_p)
        likelihood, pairs = xp.ones((n_cells, self.n_edges)), (self.pairs[0], self.back, *self.shared)
        kernels.rescore(score.size, log_p, rank, *self.edges, *pairs, self.penalty, *self.tails, self.n_genes, *sizes, likelihood, score)


def _rows(matrix):
    """The row of each stored value of a CSR matrix."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _shared(is_target, pairs):
    """Of each pair, the edges of its first source whose targets the second one has: indptr, edges."""
    others = is_target.T.tocsr()[is_target.indices]  # (edges, sources that have the target)
    n_sources, edge = pairs.shape[0], _rows(others)
    key, known = _rows(is_target)[edge] * n_sources + others.indices, _rows(pairs) * n_sources + pairs.indices
    pair = np.searchsorted(known, key)
    is_pair = np.append(known, -1)[pair] == key
    order = np.argsort(pair[is_pair], kind="stable")
    return np.concatenate([[0], np.cumsum(pairs.data)]).astype(np.int64), edge[is_pair][order].astype(np.int64)


def _quantiles(sizes):
    """Normal quantiles at 0, 1, ..., 2 n + 1 of 2 (n + 1), of each size n in turn."""
    from scipy.special import ndtri

    return np.concatenate([ndtri(np.arange(2 * n + 2) / (2 * n + 2)) for n in sizes])
