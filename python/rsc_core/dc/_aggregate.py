"""Activities by aggregates of a source's targets, tested by permutations of the genes."""

from __future__ import annotations

import functools

import numpy as np

from rsc_core import backend
from rsc_core.dc._order import permuted_places
from rsc_core.dc._p import adjusted
from rsc_core.dc._read import BLOCK_ROWS, blocks, read
from rsc_core.kernels import network as kernels

TIMES, SEED = 1000, 42
DIGITS = 52  # bits of the largest sum of whole numbers; float64 holds 53
WIDTH, LEAST_GENES = 32, 1024  # permutations of a group, for at least so many genes
CELLS = 512  # cells at a time on the CPU, whose rows are about its cache
TABLE_BYTES = 1 << 29  # of the places of targets under permutations
FUNCTIONS = ("wmean", "wsum")


def wsum(data, net, *, times=TIMES, seed=SEED, tmin=5, layer=None, raw=False, bsize=BLOCK_ROWS, verbose=False):
    """Weighted sum of the expression of a source's targets, tested by permutations of the genes.

    E = sum_g w_g y_g. Of ``times`` permutations of the genes' weights (the same for all cells and sources), E_1, E_2, ...:
    norm = (E - mean E_i) / sd E_i (with times - 1), p = 2 min(1 + #{E_i >= E}, 1 + #{E_i <= E}) / (times + 1), at most 1,
    and corr = -E log10 p.

    Parameters
    ----------
    data, net, tmin, layer, raw, bsize, verbose
        As for :func:`rsc_core.dc.ulm`.
    times
        Number of permutations; with 0 or 1 there is the estimate alone.
    seed
        Any integer; 0 is a seed like any other.

    Returns
    -------
    None; DataFrames (cells, sources), float64, in obsm: ``score_wsum`` (E), and with permutations ``norm_wsum``,
    ``corr_wsum``, ``padj_wsum`` (p adjusted by Benjamini-Hochberg over the sources of a cell). For a DataFrame: the tables.

    Raises
    ------
    InvalidInput, ValueError
        As for :func:`rsc_core.dc.ulm`.

    Notes
    -----
    The genes that are permuted are those that are not 0 in all cells. From 1,024 genes on, permutations come in groups of 32:
    a random order of the weights is moved on gene by gene, along a random order of the genes. Each alone is any order with
    one probability, so that p means the same; two of a group are as good as independent (the correlation of their sums is
    about 1 / sqrt(genes)). Sums that are compared are of whole numbers: a cell's values and a source's weights, rounded to
    21 bits of their largest (for 512 targets; a bit less for 4 times as many). They are exact, so that a tie is a tie, and p
    equal on both backends and for any ``bsize``; norm differs by about 1e-6 from that of unrounded values. Where the null
    does not vary (a cell without expression), norm is 0 and p is 1.

    decoupler 1 and 2 count \\|E_i\\| > \\|E\\| and fold that at 1/2, which for sums of one sign is nearly our p (without
    ties, and 2/times for 0), and has no meaning otherwise: a sum in the middle of its null can have a small p. Ours is
    never 0 (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585).
    Badia-i-Mompel et al. 2022, doi:10.1093/bioadv/vbac016.
    """
    return _weighted("wsum", data, net, times, seed, tmin, layer, raw, bsize, verbose)


def wmean(data, net, *, times=TIMES, seed=SEED, tmin=5, layer=None, raw=False, bsize=BLOCK_ROWS, verbose=False):
    """Weighted mean of the expression of a source's targets, tested by permutations of the genes.

    E = sum_g w_g y_g / sum_g \\|w_g\\|; norm, p and corr as for :func:`wsum`, whose norm and p it shares.

    Parameters
    ----------
    data, net, times, seed, tmin, layer, raw, bsize, verbose
        As for :func:`wsum`.

    Returns
    -------
    As for :func:`wsum`: ``score_wmean``, ``norm_wmean``, ``corr_wmean``, ``padj_wmean``. A source whose weights are all 0
    has the score NaN.

    Raises
    ------
    InvalidInput, ValueError
        As for :func:`rsc_core.dc.ulm`.
    """
    return _weighted("wmean", data, net, times, seed, tmin, layer, raw, bsize, verbose)


def waggr(data, net, *, fun="wmean", times=TIMES, seed=SEED, tmin=5, layer=None, raw=False, bsize=BLOCK_ROWS, verbose=False):
    """Aggregate of the expression of a source's targets by any function; decoupler 2's name of :func:`wsum`, :func:`wmean`.

    Parameters
    ----------
    data, net, times, seed, tmin, layer, raw, bsize, verbose
        As for :func:`wsum`.
    fun
        ``"wmean"``, ``"wsum"``, or a function of ``x`` and ``w``, float64 (genes,), that returns a number: the values of a
        cell and the weights of a source, 0 where a gene is no target. numba must be able to compile it; it runs on the
        CPU.

    Returns
    -------
    As decoupler 2: ``score_waggr`` is norm of :func:`wsum` with permutations and the estimate without; ``padj_waggr`` is
    there with permutations only.

    Raises
    ------
    InvalidInput, ValueError
        As for :func:`rsc_core.dc.ulm`; also ValueError for an unknown name and for a function that fails.
    """
    if not callable(fun) and fun not in FUNCTIONS:
        raise ValueError(f"fun is {fun!r}; it must be one of {', '.join(FUNCTIONS)}, or a function of x and w")
    given = read("waggr", data, net, tmin, layer, raw, bsize, verbose)
    if callable(fun):
        estimate, norm, least = _by_function(given, fun, times, seed)
    else:
        estimate = _estimate(given, fun)
        norm, least = _test(given, times, seed) if times > 1 else (None, None)
    if times > 1:
        return given.store(score=norm, padj=adjusted(_p_of(least, times)[0]))
    return given.store(score=estimate)


def _weighted(name, table, net, times, seed, tmin, layer, raw, bsize, verbose):
    given = read(name, table, net, tmin, layer, raw, bsize, verbose)
    estimate = _estimate(given, name)
    if times < 2:
        return given.store(score=estimate)
    norm, least = _test(given, times, seed)
    p, evidence = _p_of(least, times)
    return given.store(score=estimate, norm=norm, corr=estimate * evidence, padj=adjusted(p))


def _estimate(given, name):
    if name == "wsum":
        return given.product
    size = np.asarray(abs(given.weights).sum(axis=0)).ravel()
    with np.errstate(invalid="ignore"):
        return given.product / backend.xp_of(given.product).asarray(size)


def places(n_genes, times, seed, xp):
    """Places of the genes (those seen), as they are observed and under permutations.

    Of fewer than 1,024 genes, a permutation is an order of its own. Of more, 32 are a group: a random order of the weights is
    moved on by 0, 1, ..., 31 genes, along a random order of the genes.

    Returns
    -------
    int32 (1 + groups, genes)
        The observed places, and the first places of each group.
    width
        Permutations of a group: permutation i moves the places of row 1 + i // width on by i % width, from the end to the
        beginning.
    """
    width = WIDTH if n_genes >= LEAST_GENES else 1
    n_groups = -(-times // width)
    place = xp.empty((1 + n_groups, n_genes), dtype=np.int32)
    drawn = permuted_places(n_genes, n_groups + (width > 1), seed, xp)
    place[0] = drawn[n_groups] if width > 1 else xp.arange(n_genes, dtype=np.int32)
    place[1:] = drawn[:n_groups]
    return place, width


def _test(given, times, seed):
    """Normalised estimates of weighted sums under permutations, and the permutations on the side that has fewer."""
    given.check()
    xp, n_genes = backend.xp_of(given.parts[2]), given.weights.shape[0]
    place, width = places(n_genes, times, seed, xp)
    home = np.full(given.seen.size, -1, dtype=np.int32)
    home[given.seen] = backend.to_host(place[0])
    home = xp.asarray(home)
    n_sources = len(given.sources)
    norm, least = xp.empty((given.shape[0], n_sources)), xp.empty((given.shape[0], n_sources), dtype=np.int32)
    most_edges = TABLE_BYTES // (4 * len(place))
    for some in _parts(given.weights.getnnz(axis=0), most_edges):
        _test_some(given, some, home, place, width, times, norm, least)
    return norm, least


def _parts(sizes, most):
    """Slices of neighbouring sources that have at most so many edges together, or are one source."""
    start, held = 0, 0
    for s, size in enumerate(sizes):
        if s > start and held + size > most:
            yield slice(start, s)
            start, held = s, 0
        held += size
    yield slice(start, len(sizes))


def _test_some(given, some, home, place, width, times, norm, least):
    """The same for a part of the sources, whose columns of the results it fills."""
    xp, n_genes = backend.xp_of(place), place.shape[1]
    indptr, target, weight, bits = _whole_edges(given.weights[:, some])
    n_sources, length = len(indptr) - 1, n_genes + width - 1
    edges = xp.take(place, xp.asarray(target), axis=1), xp.asarray(indptr), xp.asarray(weight)
    for first, last, *block in blocks(given.parts, min(given.rows(4 * length), CELLS if xp is np else BLOCK_ROWS)):
        n_cells = last - first
        rows = xp.zeros((n_cells, length), dtype=np.int32)
        kernels.fill_rows(n_cells, *block, home, bits, n_genes, length, rows)
        above, below = xp.empty((2, n_cells, n_sources), dtype=np.int32)
        total, squares = xp.empty((2, n_cells, n_sources))
        sizes = length, width, times, target.size, n_sources
        kernels.permuted_moments(n_cells, rows, *edges, *sizes, above, below, total, squares)
        norm[first:last, some] = _normalised(total, squares, times)
        least[first:last, some] = xp.minimum(above, below)


def _whole_edges(weights):
    """Each source's targets and weights as whole numbers, the largest below 2^bits, filled up to a multiple of 4 with 0.

    ``bits`` are those of values and weights whose sums of products are exact.
    """
    by_source = weights.T.tocsr()
    n_targets = np.diff(by_source.indptr)
    bits = min(24, (DIGITS - int(n_targets.max()).bit_length()) // 2)
    largest = abs(by_source).max(axis=1).toarray().ravel()
    indptr = np.concatenate([[0], np.cumsum((n_targets + 3) // 4 * 4)])
    source = np.repeat(np.arange(n_targets.size), n_targets)
    at = np.arange(source.size) + (indptr[:-1] - by_source.indptr[:-1])[source]
    target, weight = np.zeros((2, indptr[-1]), dtype=np.int32)
    target[at] = by_source.indices
    weight[at] = np.rint(np.ldexp(by_source.data, (bits - np.frexp(largest)[1])[source]))
    return indptr, target, weight, bits


def _normalised(total, squares, times):
    """Normalised estimates from sums and sums of squares of (permuted - observed)."""
    xp = backend.xp_of(total)
    mean = total / times
    spread = squares - total * mean
    still = spread <= times * np.finfo(np.float64).eps * squares
    return xp.where(still, 0.0, -mean / xp.sqrt(xp.where(still, 1.0, spread) / (times - 1)))


def _p_of(least, times):
    """p and -log10 p for numbers of permuted sums on the side that has fewer, each where the numbers are."""
    xp = backend.xp_of(least)
    p = np.minimum(1.0, 2 * (1 + np.arange(times + 1)) / (times + 1))
    return tuple(xp.asarray(table)[least] for table in (p, -np.log10(p)))


def _by_function(given, fun, times, seed):
    """Estimates, norm and p of a function of a cell's values and a source's weights."""
    given.check()
    apply = _compiled(fun)
    weights = np.ascontiguousarray(given.weights.toarray().T)
    try:
        apply(np.array([[1.0, 2.0, 3.0]]), np.array([[-1.0, 0.0, 2.0]]), np.arange(3))
    except Exception as error:
        raise ValueError(f"fun cannot be compiled or fails for x = (1, 2, 3), w = (-1, 0, 2): {error}") from error
    where = np.flatnonzero(given.seen)
    shape = (given.shape[0], len(given.sources))
    estimate, norm, least = np.empty(shape), np.zeros(shape), np.zeros(shape, dtype=np.int64)
    same = np.arange(where.size)
    permutations = list(_as_orders(*places(where.size, times, seed, np), times)) if times > 1 else []
    column = np.full(given.shape[1], -1)
    column[where] = same
    for first, last, indptr, indices, values in blocks(given.parts, min(given.bsize, 1024)):
        indptr, indices, values = (backend.to_host(part) for part in (indptr, indices, values))
        dense, at = np.zeros((last - first, where.size)), column[indices]
        cell = np.repeat(np.arange(last - first), np.diff(indptr))
        dense[cell[at >= 0], at[at >= 0]] = values[at >= 0]
        estimate[first:last] = observed = apply(dense, weights, same)
        if times > 1:
            above, below, total, squares = np.zeros((4, *observed.shape))
            for order in permutations:
                difference = apply(dense, weights, order) - observed
                above += difference >= 0
                below += difference <= 0
                total += difference
                squares += difference * difference
            norm[first:last], least[first:last] = _normalised(total, squares, times), np.minimum(above, below)
    return estimate, norm, least


def _as_orders(place, width, times):
    """Each permutation as the gene whose weight a gene takes: int64 (genes,)."""
    n_genes = place.shape[1]
    order = np.empty(n_genes, dtype=np.int64)
    for number in range(times):
        order[(place[1 + number // width] + number % width) % n_genes] = np.arange(n_genes)
        yield order[place[0]]


@functools.lru_cache(maxsize=16)
def _compiled(fun):
    """A compiled loop over cells and sources that calls the function; kept by the function itself, not by its name."""
    import numba

    inner = fun if isinstance(fun, numba.core.registry.CPUDispatcher) else numba.njit(fun)

    @numba.njit(parallel=True)
    def apply(values, weights, order):
        out = np.empty((values.shape[0], weights.shape[0]))
        for cell in numba.prange(values.shape[0]):
            for s in range(weights.shape[0]):
                out[cell, s] = inner(values[cell], weights[s][order])
        return out

    return apply


# The names of decoupler 1.
run_waggr = waggr
run_wmean = wmean
run_wsum = wsum
