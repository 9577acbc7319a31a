"""Activities by the walk down a cell's genes: up at a source's targets, down at the others."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.dc._order import Order, permuted_places, places
from rsc_core.dc._p import adjusted
from rsc_core.dc._read import BLOCK_ROWS, blocks, read
from rsc_core.kernels import places as kernels

TIMES, SEED = 1000, 42
SCORES_BYTES = 1 << 27  # of the scores of random sets
STEPS, SPAN = 10_000, 10  # of the table of the normal distribution: how many, over how many standard deviations
KERNELS = ("gaussian", "poisson", None)
MOST_CODES = 4096  # different counts that the table of the Poisson distribution holds


def gsea(data, net, *, times=TIMES, seed=SEED, tmin=5, layer=None, raw=False, bsize=BLOCK_ROWS, verbose=False):
    """Gene set enrichment analysis: how far does the walk down a cell's genes get from 0?

    Of the n genes from the highest value y to the lowest, a target adds \\|y_g\\| / sum over the targets, another gene takes
    1 / (n - k), k the number of targets. ES is the point farthest from 0: high where targets are the highest genes, low
    (negative) where they are the lowest. Of random sets of k genes: score = ES / \\|mean of the ES of its sign\\|,
    p = (1 + #{as far or farther}) / (1 + #{of its sign}).

    Parameters
    ----------
    data, net, tmin, layer, raw, bsize, verbose
        As for :func:`rsc_core.dc.ulm`; weights are not used.
    times
        Number of random sets; with 0 or 1 the score is ES, without a test.
    seed
        Of the random sets, and of the order of tied genes; any integer, 0 is a seed like any other.

    Returns
    -------
    As for :func:`rsc_core.dc.ulm`: ``score_gsea``, and with permutations ``padj_gsea``.

    Raises
    ------
    InvalidInput, ValueError
        As for :func:`rsc_core.dc.ulm`; also ValueError for a source whose targets are all genes.

    Notes
    -----
    Sources with equally many targets share their random sets, which are the same places in all cells. Equal on both
    backends and for any ``bsize``. decoupler 2.2 agrees within 1e-9 in ES without ties; its random sets are others, its p can
    be 0, and with ``seed=0`` its sets are all the observed one. Where a cell expresses no target, or random sets of ES's sign
    do not occur, the score is 0 and p is 1. Subramanian et al. 2005, doi:10.1073/pnas.0506580102.
    """
    given = read("gsea", data, net, tmin, layer, raw, bsize, verbose, signed=False)
    given.check()
    order = Order(given, seed)
    xp, n_sources = order.xp, len(given.sources)
    n_targets = _n_targets(given, order.n_genes)
    sizes, size_of = np.unique(n_targets, return_inverse=True)
    size_indptr, size_of = (xp.asarray(part) for part in (np.concatenate([[0], np.cumsum(sizes)]), size_of.astype(np.int64)))
    null = random_places(order.n_genes, size_indptr, times if times > 1 else 0, seed), size_indptr, size_of
    score, p = xp.empty((2, given.shape[0], n_sources))
    for first, last, block in order.blocks(bytes_of_a_gene=12):
        n_cells = last - first
        place = order.places(n_cells, block)
        columns, amount, zeros = ordered(n_cells, block, order.column, place)
        high, low = _walks(order, columns, amount, n_targets)
        observed = xp.where(high > -low, high, low)
        if times < 2:
            score[first:last] = observed
        else:
            score[first:last], p[first:last] = _against_random(observed, amount, zeros, *null, order.n_genes)
    return given.store(score=score) if times < 2 else given.store(score=score, padj=adjusted(p))


def gsva(
    data,
    net,
    *,
    kcdf="gaussian",
    maxdiff=True,
    absrnk=False,
    tau=1,
    seed=0,
    tmin=5,
    layer=None,
    raw=False,
    bsize=BLOCK_ROWS,
    verbose=False,
):
    """Gene set variation analysis: the walk down a cell's genes, in the order of how high each is among all cells.

    Each gene's value becomes the mean over the cells i of F((y - y_i) / h), F the normal distribution and h a quarter of the
    gene's standard deviation (or the Poisson distribution of mean y_i + 1/2, or the share of cells that are not higher). Of the
    genes in descending order, with ranks r = n, ..., 1, a target adds \\|n/2 - r\\|^tau (in whole numbers) over the sum of the
    targets, another gene takes 1 / (n - k). The score is the sum of the highest and the (negative) lowest point.

    Parameters
    ----------
    data, net, tmin, layer, raw, bsize, verbose
        As for :func:`rsc_core.dc.ulm`; weights are not used.
    kcdf
        ``"gaussian"``, ``"poisson"`` (for counts), or None (shares).
    maxdiff
        False: the score is the point farther from 0.
    absrnk
        With ``maxdiff``: the difference of the two points; sets at either end are high.
    tau
        Exponent of the ranks.
    seed
        Of the order of tied genes.

    Returns
    -------
    None; ``obsm['score_gsva']``: DataFrame (cells, sources), float64, -1 to 1. For a DataFrame: the table. There is no test.

    Raises
    ------
    InvalidInput, ValueError
        As for :func:`rsc_core.dc.ulm`; also ValueError for an unknown ``kcdf``, and for values that are no counts, or more
        than 4,096 different ones, with ``"poisson"``.

    Notes
    -----
    A score depends on all cells, and time grows with the square of their number: meant for pseudobulks and samples. All values
    are dense at once, two float64 arrays (cells, genes). One cell alone keeps its values; a gene with one value is 1/2
    everywhere. F is a table of 10,001 steps, as in Bioconductor's GSVA. decoupler 2.2 agrees within 1e-9 without ties,
    but for genes that its approximation of F (error 1e-7) orders otherwise. Equal on both backends.
    Haenzelmann et al. 2013, doi:10.1186/1471-2105-14-7.
    """
    if kcdf not in KERNELS:
        raise ValueError(f"kcdf is {kcdf!r}; it must be one of gaussian, poisson, None")
    given = read("gsva", data, net, tmin, layer, raw, bsize, verbose, signed=False)
    given.check()
    order = Order(given, seed)
    xp, n_genes = order.xp, order.n_genes
    n_targets = _n_targets(given, n_genes)
    parts, column = given.parts, order.column
    if given.shape[0] > 1:
        parts, column = _as_rows(_tails(_dense(given, order), kcdf)), xp.arange(n_genes, dtype=np.int32)
    rank = n_genes - np.arange(n_genes)
    amount = xp.asarray(np.trunc(np.abs(n_genes / 2 - rank))[None, :] ** tau)
    points = xp.empty((2, given.shape[0], len(given.sources)))
    for first, last, *block in blocks(parts, given.rows(20 * n_genes)):
        place = places(last - first, block, column, n_genes)
        columns, *_ = ordered(last - first, block, column, place)
        for out, point in zip(points, _walks(order, columns, amount, n_targets), strict=True):
            out[first:last] = point
    high, low = points
    if maxdiff:
        return given.store(score=high - low if absrnk else high + low)
    return given.store(score=xp.where(high > -low, high, low))


def _n_targets(given, n_genes):
    n_targets = given.weights.getnnz(axis=0).astype(np.int64)
    if (n_targets == n_genes).any():
        raise ValueError(f"source {given.sources[int(np.argmax(n_targets))]} has all {n_genes} genes as targets; remove it")
    return n_targets


def _walks(order, columns, amount, n_targets):
    """Highest and lowest point of each source's walk: float64 (cells, sources) each; ``amount`` (cells or 1, genes)."""
    xp, n_cells, n_sources = order.xp, len(columns), n_targets.size
    size, sum_, high, low = xp.zeros((4, n_cells, n_sources))
    n_hits = xp.zeros((n_cells, n_sources), dtype=np.int32)
    sets = (*order.genes(), xp.asarray(n_targets), order.n_genes, n_sources)
    kernels.walks(n_cells, columns, amount, int(len(amount) == n_cells), *sets, size, sum_, n_hits, high, low)
    return high, low


def ordered(n_cells, block, column, place):
    """Columns in the order of their places, sizes of the values there, and where those that are 0 begin and end."""
    xp = backend.xp_of(place)
    columns, amount, zeros = xp.empty_like(place), xp.zeros(place.shape), xp.empty((n_cells, 2), dtype=np.int32)
    kernels.order_columns(n_cells, *block, column, place.shape[1], place, columns, amount, zeros)
    return columns, amount, zeros


def random_places(n_genes, size_indptr, times, seed):
    """Ascending places of random sets of each size, side by side: int32 (times, sum of sizes), where ``size_indptr`` is."""
    xp, n_sizes = backend.xp_of(size_indptr), size_indptr.size - 1
    rank = permuted_places(n_genes, 1 + times, seed, xp)[1:]  # number 0 breaks ties
    places = xp.empty((times, int(size_indptr[-1])), dtype=np.int32)
    kernels.random_sets(times * n_sizes, rank, size_indptr, n_genes, n_sizes, places)
    return places


def _against_random(observed, amount, zeros, places, size_indptr, size_of, n_genes):
    """Normalised scores and p-values of the observed ones."""
    xp, (n_cells, n_sources), n_sizes = backend.xp_of(observed), observed.shape, len(size_indptr) - 1
    n_same, n_beyond = xp.zeros((2, n_cells, n_sources), dtype=np.int64)
    total = xp.zeros((n_cells, n_sources))
    at_once = max(1, SCORES_BYTES // (8 * n_cells * n_sizes))
    for start in range(0, len(places), at_once):
        chunk = places[start : start + at_once]
        score = xp.empty((n_cells, len(chunk), n_sizes))
        kernels.null_walks(score.size, amount, zeros, chunk, size_indptr, n_genes, len(chunk), n_sizes, score)
        kernels.signed_moments(observed.size, score, size_of, observed, len(chunk), n_sizes, n_sources, n_same, n_beyond, total)
    known = (total != 0) & (observed != 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return xp.where(known, observed * n_same / xp.abs(total), 0.0), xp.where(known, (1 + n_beyond) / (1 + n_same), 1.0)


def _dense(given, order):
    """Values of the genes seen, in the order of the columns: float64 (cells, columns)."""
    dense = order.xp.zeros((given.shape[0], order.n_genes))
    for first, last, *block in blocks(given.parts, given.bsize):
        kernels.dense_columns(last - first, *block, order.column, order.n_genes, dense[first:last])
    return dense


def _tails(x, kcdf):
    """How high each value is among the cells' values of its gene, 0 to 1: float64 (cells, genes)."""
    from scipy.special import ndtr, pdtr

    xp, (n_cells, n_genes) = backend.xp_of(x), x.shape
    tail = xp.empty(x.shape)
    if kcdf is None:
        kernels.share_tail(x.size, x, n_cells, n_genes, tail)
    elif kcdf == "gaussian":
        table, bandwidth = xp.asarray(ndtr(np.arange(STEPS + 1) * SPAN / STEPS)), xp.empty(n_genes)
        kernels.bandwidths(n_genes, x, n_cells, n_genes, bandwidth)
        kernels.normal_tail(x.size, x, bandwidth, table, STEPS, n_cells, n_genes, tail)
    else:
        counts = xp.unique(x)
        code, counts = xp.searchsorted(counts, x).astype(np.int32), backend.to_host(counts)
        _check_counts(counts)
        table = xp.asarray(pdtr(counts[:, None], counts[None, :] + 0.5).ravel())
        kernels.code_tail(x.size, code, table, counts.size, n_cells, n_genes, tail)
    return tail


def _check_counts(values) -> None:
    """Refuse values that are no counts, and more than the table holds."""
    wrong = values[(values < 0) | (values != np.rint(values))]
    if wrong.size:
        raise ValueError(f"kcdf is 'poisson' and a value is {wrong[0]}; give counts, or use kcdf='gaussian'")
    if values.size > MOST_CODES:
        raise ValueError(f"kcdf is 'poisson' and there are {values.size} different counts, at most {MOST_CODES}; use kcdf='gaussian'")


def _as_rows(dense):
    """A dense matrix as CSR parts that store every value."""
    xp, (n_cells, n_genes) = backend.xp_of(dense), dense.shape
    indptr = xp.arange(n_cells + 1, dtype=np.int64) * n_genes
    return indptr, xp.tile(xp.arange(n_genes, dtype=np.int32), n_cells), dense.ravel()


# The names of decoupler 1.
run_gsea = gsea
run_gsva = gsva
