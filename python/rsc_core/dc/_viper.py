"""Activities by the ranks of a regulon's genes on both ends of a cell's order (aREA), corrected for shared targets."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.dc._order import Order, room_to_sort
from rsc_core.dc._p import adjusted, normal_p
from rsc_core.dc._read import BLOCK_ROWS, read
from rsc_core.kernels import places as kernels


def viper(
    data,
    net,
    *,
    pleiotropy=True,
    reg_sign=0.05,
    n_targets=10,
    penalty=20,
    tmin=5,
    layer=None,
    raw=False,
    bsize=BLOCK_ROWS,
    verbose=False,
):
    """Are a source's targets at the ends of a cell's order of genes, where their weights say?

    With q_g = mean rank / (n + 1) of the n genes, w the weights, l a target's likelihood (1) over the sum of its source's:
    S2 = sum_g l_g w_g Phi^-1(q_g), S1 = sum_g l_g (1 - \\|w_g\\|) Phi^-1(2 \\|q_g - 1/2\\| + 1 / (n + 1)),
    score = sign(S2) (\\|S2\\| + max(S1, 0)) sqrt(sum l^2); p two-sided from the standard normal distribution.

    Parameters
    ----------
    data, net, tmin, layer, raw, bsize, verbose
        As for :func:`rsc_core.dc.ulm`; weights from -1 to 1 are meant.
    pleiotropy
        Lower the likelihood of the targets that a source shares with a more active one, and score again.
    reg_sign
        Sources whose p is below it are compared with each other.
    n_targets
        Sources that share more targets are compared.
    penalty
        The shared targets' likelihood is divided by (1 + \\|log10 p_a / p_b\\|)^(penalty / comparisons of the source).

    Returns
    -------
    As for :func:`rsc_core.dc.ulm`: ``score_viper``, ``padj_viper``.

    Raises
    ------
    InvalidInput, ValueError
        As for :func:`rsc_core.dc.ulm`; also ValueError for a ``reg_sign`` outside 0 to 1.

    Notes
    -----
    decoupler 2.2 agrees within 1e-6. It shifts S1's quantiles by their largest in all the cells that it is given together,
    and in a cell that it scores again by that cell's alone, so that a score depends on the other cells; here the largest is
    that of a highest gene without ties, which is the same wherever one cell has one. Of the comparisons it takes 1 - Phi,
    0 above 8.3; here the tail itself. A cell without differences has the score 0. Ranks and scores are computed where the
    data are; the correction runs on the host for both backends. Alvarez et al. 2016, doi:10.1038/ng.3593.
    """
    from scipy.special import ndtri

    if not 0 < reg_sign < 1:
        raise ValueError(f"reg_sign is {reg_sign}; it must be between 0 and 1")
    given = read("viper", data, net, tmin, layer, raw, bsize, verbose)
    given.check()
    order = Order(given, 0)
    xp, n_sources = order.xp, len(given.sources)
    weights = given.weights[order.where].toarray()
    tails = Tails(order.n_genes)
    indptr, target, weight = order.sources()
    unsigned = xp.where(weight == 0, 0.0, 1.0 - xp.abs(weight))
    signed, both = xp.asarray(tails.signed), xp.asarray(tails.both)
    score = np.empty((given.shape[0], n_sources))
    for first, last, block in order.blocks():
        n_cells = last - first
        rank = xp.empty((n_cells, order.n_genes), dtype=np.int32)
        kernels.mean_ranks(n_cells, *block, order.column, order.n_genes, *room_to_sort(block), rank)
        sums = xp.empty((2, n_cells, n_sources))
        for out, amount, table in zip(sums, (weight, unsigned), (signed, both), strict=True):
            kernels.place_sums(n_cells * n_sources, rank, indptr, target, amount, table, order.n_genes, n_sources, out)
        n = (weights != 0).sum(axis=0)
        score[first:last] = _score(*backend.to_host(sums), n, np.sqrt(n))
        if pleiotropy:
            rank = backend.to_host(rank)
            for cell in np.flatnonzero((np.abs(score[first:last]) > -ndtri(reg_sign / 2)).sum(axis=1) > 1):
                row = score[first + cell]
                chosen = np.flatnonzero(np.abs(row) > -ndtri(reg_sign / 2))
                likelihood, changed = shadows(row[chosen], rank[cell], weights[:, chosen], n_targets, penalty)
                row[chosen[changed]] = tails.score(rank[cell], weights[:, chosen[changed]], likelihood[:, changed])
    return given.store(score=score, padj=adjusted(normal_p(score)))


class Tails:
    """Normal quantiles of twice the mean ranks of n genes, as tables: signed, and of the distance from the middle."""

    def __init__(self, n_genes):
        from scipy.special import ndtri

        q = np.arange(2 * n_genes + 1) / (2 * (n_genes + 1))
        q[0] = 0.5  # no rank is 0
        self.signed, self.both = ndtri(q), ndtri(2 * np.abs(q - 0.5) + 1 / (n_genes + 1))

    def score(self, rank, weights, likelihood):
        """Scores of a cell: rank (genes,), weights and likelihood (genes, sources)."""
        likelihood = likelihood / likelihood.max(axis=0)
        signed = self.signed[rank] @ (likelihood * weights)
        both = self.both[rank] @ (likelihood * (1 - np.abs(weights)))
        return _score(signed, both, likelihood.sum(axis=0), np.sqrt((likelihood**2).sum(axis=0)))


def _score(signed, both, n, length):
    return (np.abs(signed) + np.maximum(both, 0)) / n * np.sign(signed) * length


def shadows(score, rank, weights, n_targets, penalty):
    """Likelihood of the targets of a cell's active sources, and which sources lose some to another.

    Parameters
    ----------
    score, rank, weights
        (sources,), (genes,), (genes, sources).

    Returns
    -------
    float64 (genes, sources), int64 (sources that lose,)
    """
    from scipy.special import log_ndtr

    is_target = weights != 0
    likelihood = is_target.astype(np.float64)
    z = np.array([_among_targets_of(j, score[j], rank, weights, is_target, n_targets) for j in range(len(score))])
    log_p = log_ndtr(-z) / np.log(10)
    first, second = np.nonzero(np.triu(~np.isnan(log_p), 1))
    difference = log_p[second, first] - log_p[first, second]
    loser, winner = np.where(difference > 0, (first, second), (second, first))
    n_pairs = np.bincount(np.concatenate([first, second]), minlength=len(score))
    for x, y, d in zip(loser, winner, np.abs(difference), strict=True):
        likelihood[is_target[:, x] & is_target[:, y], x] /= (1 + d) ** (penalty / n_pairs[x])
    return likelihood, np.unique(loser)


def _among_targets_of(j, score, rank, weights, is_target, n_targets):
    """Scores of all sources among the targets of source j, whose weights they take; NaN where they share too few."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    mine = is_target[:, j]
    shared, weight = is_target[mine].astype(np.float64), weights[mine, j]
    signed = rankdata(rank[mine]) / (mine.sum() + 1) * 2 - 1
    both = np.abs(signed) * 2 - 1
    both = ndtri((both + (1 - both.max()) / 2) / 2 + 0.5)
    signed = ndtri(signed / 2 + 0.5) * (np.sign(score) or 1)
    n = shared.sum(axis=0)
    sum_signed, sum_both = (weight * signed) @ shared, ((1 - np.abs(weight)) * both) @ shared
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (np.abs(sum_signed) + np.maximum(sum_both, 0)) / np.sqrt(n) * np.where(sum_signed < 0, -1, 1)
    z[n <= n_targets] = np.nan
    z[j] = np.nan
    return z


# The names of decoupler 1.
run_viper = viper
