"""Activities by the ranks of a regulon's genes on both ends of a cell's order (aREA), corrected for shared targets."""

from __future__ import annotations

import numpy as np

from rsc_core.dc._order import Order, room_to_sort
from rsc_core.dc._p import adjusted, normal_p
from rsc_core.dc._read import BLOCK_ROWS, read
from rsc_core.dc._shadows import Shadows
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
    0 above 8.3; here the tail itself. A cell without differences has the score 0, a source whose weights are all 0 has
    NaN. Scores are equal on both backends. Alvarez et al. 2016, doi:10.1038/ng.3593.
    """
    from scipy.special import ndtri

    if not 0 < reg_sign < 1:
        raise ValueError(f"reg_sign is {reg_sign}; it must be between 0 and 1")
    given = read("viper", data, net, tmin, layer, raw, bsize, verbose)
    given.check()
    order = Order(given, 0)
    xp, n_sources = order.xp, len(given.sources)
    indptr, target, weight = order.sources()
    unsigned = xp.where(weight == 0, 0.0, 1.0 - xp.abs(weight))
    tails = tuple(xp.asarray(table) for table in _tails(order.n_genes))
    shadows = Shadows(given.weights[order.where], n_targets, penalty, -ndtri(reg_sign / 2), tails) if pleiotropy else None
    n = np.asarray((given.weights != 0).sum(axis=0)).ravel()
    n, length = xp.asarray(n), xp.asarray(np.sqrt(n))
    score = xp.empty((given.shape[0], n_sources))
    for first, last, block in order.blocks():
        n_cells = last - first
        rank = xp.empty((n_cells, order.n_genes), dtype=np.int32)
        kernels.mean_ranks(n_cells, *block, order.column, order.n_genes, *room_to_sort(block), rank)
        sums = xp.empty((2, n_cells, n_sources))
        for out, amount, table in zip(sums, (weight, unsigned), tails, strict=True):
            kernels.place_sums(n_cells * n_sources, rank, indptr, target, amount, table, order.n_genes, n_sources, out)
        signed, both = sums
        with np.errstate(invalid="ignore"):  # a source without weights
            score[first:last] = (xp.abs(signed) + xp.maximum(both, 0)) / n * xp.sign(signed) * length
        if pleiotropy:
            shadows.correct(score[first:last], rank)
    return given.store(score=score, padj=adjusted(normal_p(score)))


def _tails(n_genes):
    """Normal quantiles of twice the mean ranks of n genes, as tables: signed, and of the distance from the middle."""
    from scipy.special import ndtri

    q = np.arange(2 * n_genes + 1) / (2 * (n_genes + 1))
    q[0] = 0.5  # no rank is 0
    return ndtri(q), ndtri(2 * np.abs(q - 0.5) + 1 / (n_genes + 1))


# The names of decoupler 1.
run_viper = viper
