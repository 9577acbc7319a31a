"""Activities by aggregates of a source's targets, tested by permutations of the genes."""

from __future__ import annotations

import functools

import numpy as np

from rsc_core import backend, rng
from rsc_core.dc._p import adjusted
from rsc_core.dc._read import BLOCK_ROWS, blocks, read, spread_rows
from rsc_core.kernels import network as kernels

TIMES, SEED = 1000, 42
DIGITS = 52  # bits of the largest sum of whole numbers; float64 holds 53
TILES_COST = 0.12  # of a target in dense tiles, beside a stored gene or edge that is looked up in lists
CELLS, SUMS_BYTES = 512, 1 << 23  # cells at a time on the CPU, and bytes of their sums under permutations: about its cache
MOST_SOURCES = 320  # whose sums a CUDA block holds at once
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
    The genes that are permuted are those that are not 0 in all cells, in the order of the data. Sums that are compared
    are of whole numbers: a cell's values and a source's weights, rounded to 21 bits of their largest (for 512 targets; a
    bit less for 4 times as many). They are exact, so that a tie is a tie, and p equal on both backends and for any
    ``bsize``; norm differs by about 1e-6 from that of unrounded values. Where the null does not vary (a cell without
    expression), norm is 0 and p is 1.

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
        estimate, norm, p = _by_function(given, fun, times, seed)
    else:
        estimate = _estimate(given, fun)
        norm, p = _test(given, times, seed) if times > 1 else (None, None)
    if times > 1:
        return given.store(score=norm, padj=adjusted(p))
    return given.store(score=estimate)


def _weighted(name, table, net, times, seed, tmin, layer, raw, bsize, verbose):
    given = read(name, table, net, tmin, layer, raw, bsize, verbose)
    estimate = _estimate(given, name)
    if times < 2:
        return given.store(score=estimate)
    norm, p = _test(given, times, seed)
    return given.store(score=estimate, norm=norm, corr=estimate * -np.log10(p), padj=adjusted(p))


def _estimate(given, name):
    product = backend.to_host(given.product)
    if name == "wsum":
        return product
    with np.errstate(invalid="ignore"):
        return product / np.asarray(abs(given.weights).sum(axis=0)).ravel()


def orders(seen, times, seed, xp):
    """Permutations of the genes seen, as rows of weights: int32 (times, genes); other genes stay where they are."""
    where = np.flatnonzero(seen).astype(np.int32)
    order = xp.empty((times, len(seen)), dtype=np.int32)
    order[:] = xp.arange(len(seen), dtype=np.int32)
    stream = np.uint64(seed & (1 << 64) - 1), np.uint64(rng.PURPOSES["network"])
    keys = xp.empty(times * where.size, dtype=np.uint64)
    kernels.random_keys(keys.size, *stream, keys)
    kernels.permute(keys.size, keys, where.size, len(seen), xp.asarray(where), order)
    return order


def _test(given, times, seed):
    """Normalised estimates and p-values of weighted sums under permutations."""
    given.check()
    xp = backend.xp_of(given.parts[2])
    weights, bits = _whole_weights(given.weights)
    weights, order = spread_rows(weights, given.seen), orders(given.seen, times, seed, xp)
    norm, p = np.empty((2, given.shape[0], weights.shape[1]))
    for start in range(0, weights.shape[1], MOST_SOURCES):
        some = slice(start, start + MOST_SOURCES)
        norm[:, some], p[:, some] = _test_some(given, weights[:, some], bits, order)
    return norm, p


def _test_some(given, weights, bits, order):
    """The same for a part of the sources."""
    xp, times, (n_genes, n_sources) = backend.xp_of(order), len(order), weights.shape
    per_cell = len(given.parts[2]) / max(1, given.shape[0])
    as_tiles = TILES_COST * weights.nnz < per_cell * (1 + weights.nnz / n_genes)
    sums_of = (_tiles if as_tiles else _lists)(weights, bits, xp)
    same = xp.arange(n_genes, dtype=np.int32)[None, :]
    if as_tiles:
        inverse = xp.empty_like(order)
        inverse[xp.arange(times)[:, None], order] = same
        order = inverse
    norm, p = np.empty((2, given.shape[0], n_sources))
    room = SUMS_BYTES if xp is np else backend.available_bytes("gpu") // 8
    step = max(1, min(given.rows(8 * n_genes), CELLS if xp is np else BLOCK_ROWS, room // (8 * n_sources * 32)))
    for first, last, indptr, indices, values in blocks(given.parts, step):
        n_cells = last - first
        whole = xp.empty_like(values)
        kernels.whole_numbers(n_cells, indptr, values, bits, whole)
        block = (n_cells, indptr, indices, whole)
        observed = sums_of(block, same)[:, 0].copy()
        above, below = xp.zeros((2, n_cells, n_sources), dtype=np.int64)
        total, squares = xp.zeros((2, n_cells, n_sources))
        at_once = max(1, min(room // (8 * n_sources * n_cells), times))
        for start in range(0, times, at_once):
            sums = sums_of(block, order[start : start + at_once])
            kernels.add_moments(n_cells * n_sources, sums, observed, sums.shape[1], n_sources, above, below, total, squares)
        host = (backend.to_host(part) for part in (above, below, total, squares))
        norm[first:last], p[first:last] = _normalised(*host, times)
    return norm, p


def _whole_weights(weights):
    """Weights as whole numbers, each source's largest below 2^bits; the bits of values and weights whose sums are exact.

    Sums of products hold 52 bits, and sums of either half of the products' bits 31.
    """
    n_terms = int(weights.getnnz(axis=0).max()).bit_length()
    bits = min(24, (DIGITS - n_terms) // 2, 31 - n_terms)
    largest = abs(weights).max(axis=0).toarray().ravel()
    whole = weights.copy()
    whole.data = np.rint(np.ldexp(whole.data, (bits - np.frexp(largest)[1])[whole.indices]))
    return whole, bits


def _lists(weights, bits, xp):
    """A function that sums cells under permutations (permutations, genes), by the edges of each gene."""
    indptr, source, weight = backend.csr_parts(weights, np.float64)
    last = np.zeros(source.size, dtype=np.int64)
    last[indptr[1:][np.diff(indptr) > 0] - 1] = 1
    edges = xp.asarray(weight.astype(np.int64) * (1 << 16) + source * np.int64(2) + last)
    first_edge = xp.asarray(np.where(np.diff(indptr) > 0, indptr[:-1], -1).astype(np.int32))
    n_genes, n_sources = weights.shape

    def sums_of(block, order):
        n_cells, n_orders = block[0], len(order)
        sums = xp.empty((n_cells, n_orders, n_sources))
        sizes = n_cells, n_genes, n_orders, n_sources, bits
        kernels.permuted_sums(n_cells * n_orders, *block[1:], first_edge[order], edges, *sizes, sums)
        return sums

    return sums_of


def _tiles(weights, bits, xp):
    """The same by the targets of each source, for dense tiles of cells; it takes the inverse permutations."""
    by_source = tuple(xp.asarray(part) for part in backend.csr_parts(weights.T.tocsr(), np.float64))
    n_genes, n_sources = weights.shape

    def sums_of(block, order):
        n_cells, n_orders, n_tiles = block[0], len(order), -(-block[0] // kernels.TILE)
        tiles = xp.zeros((n_tiles, n_genes, kernels.TILE), dtype=np.float32)
        kernels.fill_tiles(*block, n_genes, tiles)
        sums = xp.empty((n_cells, n_orders, n_sources))
        n_items = n_tiles * n_orders * n_sources * kernels.TILE
        kernels.tile_sums(n_items, tiles, order, *by_source, n_cells, n_genes, n_orders, n_sources, sums)
        return sums

    return sums_of


def _normalised(above, below, total, squares, times):
    """norm and p from counts, sums and sums of squares of (permuted - observed)."""
    mean = total / times
    spread = squares - total * mean
    still = spread <= times * np.finfo(np.float64).eps * squares
    spread[still] = 1.0
    norm = np.where(still, 0.0, -mean / np.sqrt(spread / (times - 1)))
    return norm, np.minimum(1.0, 2 * (1 + np.minimum(above, below)) / (times + 1))


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
    estimate, norm, p = np.empty(shape), np.zeros(shape), np.ones(shape)
    same = np.arange(where.size)
    permutations = [rng.permutation(seed, "network", where.size, number) for number in range(times)]
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
            norm[first:last], p[first:last] = _normalised(above, below, total, squares, times)
    return estimate, norm, p


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
