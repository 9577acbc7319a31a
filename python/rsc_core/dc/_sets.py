"""Activities by the ranks of a source's targets among a cell's genes; weights are not used."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.dc._order import Order
from rsc_core.dc._p import adjusted
from rsc_core.dc._read import BLOCK_ROWS, read

SHARE = 0.05  # of the genes that are high, by default
SAME = 1 + 1e-7  # probabilities closer than this are the same, as in scipy and R


def aucell(data, net, *, n_up=None, seed=0, tmin=5, layer=None, raw=False, bsize=BLOCK_ROWS, verbose=False):
    """Area under the curve that shows how early a source's targets come among a cell's highest genes.

    Of a cell's genes in descending order, r_g = 1 is the highest: score = sum_g max(0, n_up - r_g) over the k targets,
    divided by its largest possible value, the same sum for r = 1, ..., k. 1: the targets are the highest genes; 0: none is
    among the first n_up - 1.

    Parameters
    ----------
    data, net, tmin, layer, raw, bsize, verbose
        As for :func:`rsc_core.dc.ulm`; weights are not used.
    n_up
        Number of genes that count as high, at least 2; by default 5% of the genes that are not 0 in all cells.
    seed
        Of the order of the genes that breaks ties, the same in all cells.

    Returns
    -------
    None; ``obsm['score_aucell']``: DataFrame (cells, sources), float64, 0 to 1. For a DataFrame: the table. There is no test.

    Raises
    ------
    InvalidInput, ValueError
        As for :func:`rsc_core.dc.ulm`; also ValueError for n_up outside 2 to the number of genes.

    Notes
    -----
    A cell with fewer than n_up genes above 0 fills up with genes that are 0, in the order that the seed gives: use n_up
    below the number of genes that cells express. A cell without expression has NaN. Equal on both backends. decoupler 2.2
    agrees within 1e-12 where no values are tied; ties it breaks by another order. Aibar et al. 2017, doi:10.1038/nmeth.4463.
    """
    given = read("aucell", data, net, tmin, layer, raw, bsize, verbose, signed=False)
    given.check()
    n_genes = int(given.seen.sum())
    n_up = _number_up(n_up, n_genes)
    score = Order(given, seed).sums(np.maximum(n_up - 1.0 - np.arange(n_genes), 0.0))
    n_targets = given.weights.getnnz(axis=0)
    first = np.minimum(n_targets, n_up - 1)
    score /= backend.xp_of(score).asarray(first * n_up - first * (first + 1) / 2)
    return given.store(score=_where_expressed(given, score))


def ora(data, net, *, n_up=None, n_bm=0, n_bg=20_000, ha_corr=0.5, seed=0, tmin=5, layer=None, raw=False, bsize=BLOCK_ROWS, verbose=False):
    """Over-representation: are there more targets of a source among a cell's highest genes than by chance?

    Of the table a (high and targets), b (targets alone), c (high alone), d (neither):
    score = ln[(a + h)(d + h) / ((b + h)(c + h))], h = ``ha_corr``; p of Fisher's exact test, two-sided.

    Parameters
    ----------
    data, net, tmin, layer, raw, bsize, verbose
        As for :func:`rsc_core.dc.ulm`; weights are not used.
    n_up
        Number of highest genes; by default 5% of the genes that are not 0 in all cells, at least 2.
    n_bm
        Number of lowest genes that are selected beside them.
    n_bg
        Number of genes of the background; None: those that are not 0 in all cells.
    ha_corr
        Correction of Haldane and Anscombe, which keeps the score finite.
    seed
        Of the order of the genes that breaks ties, the same in all cells.

    Returns
    -------
    As for :func:`rsc_core.dc.ulm`: ``score_ora``, ``padj_ora``.

    Raises
    ------
    InvalidInput, ValueError
        As for :func:`rsc_core.dc.ulm`; also ValueError for more genes selected than there are, and a background that is
        smaller than the genes selected and the targets.

    Notes
    -----
    Genes in the order of their values; see :func:`aucell` for ties and cells without expression. Equal on both backends.
    decoupler 2.2 documents n_up as the number of top genes and takes all but the n_up lowest ones (and n_bm - 1 instead of
    n_bm); for n_up = genes - n_up it agrees within 1e-9.
    """
    given = read("ora", data, net, tmin, layer, raw, bsize, verbose, signed=False)
    given.check()
    n_genes = int(given.seen.sum())
    n_up = int(max(np.ceil(SHARE * n_genes), 2)) if n_up is None else n_up
    if n_up < 1 or n_bm < 0 or n_up + n_bm > n_genes:
        raise ValueError(f"n_up is {n_up} and n_bm is {n_bm}; together they must be 1 to {n_genes}, the number of genes")
    n_background = n_genes if n_bg is None else int(n_bg)
    rank = np.arange(n_genes)
    both = Order(given, seed).sums(((rank < n_up) | (rank >= n_genes - n_bm)).astype(np.float64))
    score, p = _by_count(both, given.weights.getnnz(axis=0), n_up + n_bm, n_background, ha_corr)
    return given.store(score=_where_expressed(given, score), padj=adjusted(_where_expressed(given, p)))


def _where_expressed(given, values):
    """Values (cells, sources), NaN for cells without expression: the order of their genes is chance."""
    return backend.xp_of(values).where(given.squares[:, None] > 0, values, np.nan)


def _by_count(both, n_targets, n_chosen, n_background, ha_corr):
    """Scores and p of the numbers of targets chosen (cells, sources), from tables of all numbers that a source can have."""
    xp = backend.xp_of(both)
    if n_background < n_chosen + n_targets.max():
        least = backend.to_host(both).min(axis=0, initial=n_chosen)
        if (n_background < n_chosen + n_targets - least).any():
            raise ValueError(
                f"n_bg is {n_background}; it must be at least {n_chosen + n_targets.max()}: the genes selected and the targets"
            )
    count = np.arange(n_targets.max() + 1)
    alone = n_targets[:, None] - count
    neither = n_background - alone - n_chosen
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.log((count + ha_corr) * (neither + ha_corr) / ((alone + ha_corr) * (n_chosen - count + ha_corr)))
    p = np.full(score.shape, np.nan)
    of_size = {n: _fisher(int(n), n_chosen, n_background) for n in set(n_targets)}
    for s, n in enumerate(n_targets):
        p[s, : n + 1] = of_size[n]
    at = both.astype(np.int64) + xp.arange(n_targets.size, dtype=np.int64) * count.size
    return tuple(xp.take(xp.asarray(table.ravel()), at) for table in (score, p))


def _number_up(n_up, n_genes) -> int:
    n_up = int(np.clip(np.ceil(SHARE * n_genes), 2, n_genes)) if n_up is None else int(np.ceil(n_up))
    if not 2 <= n_up <= n_genes:
        raise ValueError(f"n_up is {n_up}; it must be 2 to {n_genes}, the number of genes")
    return n_up


def _fisher(n_targets, n_chosen, n_background) -> np.ndarray:
    """Two-sided p of Fisher's exact test for each number of targets chosen, 0 to n_targets."""
    from scipy.stats import hypergeom

    chance = hypergeom.pmf(np.arange(n_targets + 1), n_background, n_targets, n_chosen)
    ascending = np.sort(chance)
    upto = np.searchsorted(ascending, chance * SAME, side="right")
    return np.minimum(np.cumsum(ascending)[upto - 1], 1.0)


# The names of decoupler 1.
run_aucell = aucell
run_ora = ora
