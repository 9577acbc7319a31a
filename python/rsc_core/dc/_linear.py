"""Activities by linear models: a cell's genes explained by the weights of one source, or of all sources together."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.dc._net import align
from rsc_core.errors import InvalidInput
from rsc_core.kernels import network as kernels
from rsc_core.stats import benjamini_hochberg

BLOCK_ROWS = 16384  # cells whose values are float64 at a time
COLLINEAR = 1e-10  # smallest share of a source's weights that the other sources must leave unexplained


def ulm(data, net, *, tmin=5, layer=None, raw=False, bsize=BLOCK_ROWS, verbose=False):
    """Univariate linear model: is a cell's expression of genes correlated with their weights in a source?

    y_g = b0 + b1 w_g + e_g over the n genes; the score is t = r sqrt((n - 2) / (1 - r^2)), r the correlation of y and w;
    p two-sided from Student's t with n - 2 degrees of freedom. High: targets with a positive weight are expressed more
    than the other genes (activity), low: less.

    Parameters
    ----------
    data
        AnnData, (cells, genes), CSR (CSC and dense are converted), NumPy or CuPy inside; or a DataFrame.
    net
        DataFrame with source, target and weight (1 where the column is missing); see :func:`rsc_core.dc.read_network`.
    tmin
        Sources with fewer targets in the data are left out.
    layer
        Layer to use instead of X.
    raw
        Use ``data.raw``.
    bsize
        Cells computed at a time; no result depends on it.
    verbose
        Say on stderr how many sources, genes and degrees of freedom there are.

    Returns
    -------
    None; ``obsm['score_ulm']`` and ``obsm['padj_ulm']`` take the scores and the p-values, adjusted by
    Benjamini-Hochberg over the sources of a cell: DataFrames (cells, sources), float64. For a DataFrame: the two tables.

    Raises
    ------
    InvalidInput
        Where the network does not fit the genes.
    ValueError
        For repeated gene names, values that are not finite, or no degrees of freedom.

    Notes
    -----
    Genes that are 0 in all cells are left out; a weight is 0 for a gene that is no target. A cell without expression, or
    with the same value in all genes, has NaN (decoupler drops the first). Sums in float64 in a fixed order, the same on
    both backends. decoupler 2.2 agrees within 1e-6 (rounding; it adjusts p-values in float32).
    Badia-i-Mompel et al. 2022, Bioinformatics Advances 2:vbac016.
    """
    return _run("ulm", _ulm, data, net, tmin, layer, raw, bsize, verbose)


def mlm(data, net, *, tmin=5, layer=None, raw=False, bsize=BLOCK_ROWS, verbose=False):
    """Multivariate linear model: how much of a cell's expression does a source explain beside all others?

    y_g = b0 + sum_s b_s w_gs + e_g over the n genes; the score of a source is t = b_s / SE(b_s), p two-sided from
    Student's t with n - (number of sources) - 1 degrees of freedom. High and low as for :func:`ulm`.

    Parameters
    ----------
    data, net, tmin, layer, raw, bsize, verbose
        As for :func:`ulm`.

    Returns
    -------
    As for :func:`ulm`: ``obsm['score_mlm']``, ``obsm['padj_mlm']``.

    Raises
    ------
    InvalidInput, ValueError
        As for :func:`ulm`; also InvalidInput for sources whose weights are a combination of others'.

    Notes
    -----
    Normal equations of centred weights of unit length, in float64. decoupler 2.2 agrees within 1e-6 in scores. Its
    ``padj_mlm`` is not adjusted and is 0 below 1e-16; ours is adjusted as for ulm and keeps small p-values.
    """
    return _run("mlm", _mlm, data, net, tmin, layer, raw, bsize, verbose)


def _run(name, method, table, net, tmin, layer, raw, bsize, verbose):
    """Read the values, fit the network to the genes, run a method, store its scores."""
    x, obs_names, var_names = _values(table, layer, raw)
    parts = backend.csr_parts(x)
    if bsize < 1:
        raise ValueError(f"bsize is {bsize}; it must be 1 or more")
    seen = genes_seen(parts, x.shape, bsize)
    sources, weights = align(net, var_names[seen], tmin)
    if verbose:
        print(f"{name}: {len(sources)} sources, {int(seen.sum())} genes, {len(obs_names)} cells", file=sys.stderr)
    sums = source_sums(parts, x.shape, _spread_rows(weights, seen), bsize)
    _check_values(sums[1], parts, obs_names, var_names)
    score, df = method(weights, *sums, sources)
    adjusted = benjamini_hochberg(p_values(score, df), axis=1)
    score, adjusted = (pd.DataFrame(values, obs_names, sources) for values in (score, adjusted))
    if isinstance(table, pd.DataFrame):
        return score, adjusted
    table.obsm[f"score_{name}"], table.obsm[f"padj_{name}"] = score, adjusted
    return None


def _values(table, layer, raw):
    """CSR values (cells, genes), names of the cells, names of the genes."""
    if isinstance(table, pd.DataFrame):
        x = backend.sparse_of(np).csr_matrix(table.to_numpy(dtype=np.float64))
        obs_names, var_names = table.index, table.columns
    elif raw:
        if table.raw is None:
            raise ValueError("raw is True, but data.raw is empty")
        x, obs_names, var_names = data.csr(table.raw), table.obs_names, table.raw.var_names
    else:
        x, obs_names, var_names = data.csr(table, layer), table.obs_names, table.var_names
    if not var_names.is_unique:
        name = var_names[var_names.duplicated()][0]
        raise ValueError(f"the gene name {name!r} comes more than once; make names unique with var_names_make_unique()")
    return x, obs_names, var_names


def genes_seen(parts, shape, bsize=BLOCK_ROWS) -> np.ndarray:
    """Which genes are not 0 in at least one cell: bool (genes,) on the host. ``parts``: of the CSR values."""
    seen = backend.xp_of(parts[2]).zeros(shape[1], dtype=np.uint8)
    for first, last, *block in _blocks(parts, bsize):
        kernels.mark_genes(last - first, *block, seen)
    return backend.to_host(seen).astype(bool)


def source_sums(parts, shape, weights, bsize=BLOCK_ROWS):
    """Sum and sum of squares of each cell's values, and their products with the weights.

    Parameters
    ----------
    parts
        indptr, indices, values of the CSR values (cells, genes).
    shape
        Number of cells and genes.
    weights
        CSR float64 (genes, sources) of the host.

    Returns
    -------
    total, squares : float64 (cells,)
    product : float64 (cells, sources)
        All on the host, where the few operations that follow are the same for both backends.
    """
    xp = backend.xp_of(parts[2])
    gene_indptr, source, weight = (xp.asarray(part) for part in backend.csr_parts(weights, np.float64))
    total, squares, product = xp.empty(shape[0]), xp.empty(shape[0]), xp.zeros((shape[0], weights.shape[1]))
    for first, last, *block in _blocks(parts, bsize):
        outputs = (out[first:last] for out in (total, squares, product))
        kernels.weighted_sums(last - first, *block, gene_indptr, source, weight, weights.shape[1], *outputs)
    return backend.to_host(total), backend.to_host(squares), backend.to_host(product)


def _blocks(parts, bsize):
    """Row blocks of CSR parts ``(first, last, indptr, indices, values)``, values as float64."""
    indptr, indices, values = parts
    ends = backend.to_host(indptr)
    for first in range(0, ends.size - 1, bsize):
        last = min(ends.size - 1, first + bsize)
        here = slice(int(ends[first]), int(ends[last]))
        yield first, last, indptr[first : last + 1] - indptr[first], indices[here], values[here].astype(np.float64)


def _spread_rows(weights, seen):
    """Weights (genes seen, sources) as (genes, sources): rows without weights for the other genes."""
    indptr = np.zeros(seen.size + 1, dtype=np.int64)
    indptr[1:][seen] = np.diff(weights.indptr)
    parts = (weights.data, weights.indices, np.cumsum(indptr))
    return type(weights)(parts, shape=(seen.size, weights.shape[1]))


def _check_values(squares, parts, obs_names, var_names) -> None:
    """Raise ValueError that names the first value that is not finite."""
    wrong = np.flatnonzero(~np.isfinite(squares))
    if wrong.size:
        indptr, indices, values = (backend.to_host(part) for part in parts)
        here = slice(indptr[wrong[0]], indptr[wrong[0] + 1])
        at = np.flatnonzero(~np.isfinite(values[here]))
        what = f"gene {var_names[indices[here][at[0]]]!r} is {values[here][at[0]]}" if at.size else "values are too large to be squared"
        raise ValueError(f"cell {obs_names[wrong[0]]!r}: {what}; remove the cell, or replace the value")


def _ulm(weights, total, squares, product, sources):
    """Scores (cells, sources) and degrees of freedom."""
    n_genes = weights.shape[0]
    df = _degrees_of_freedom(n_genes, 1)
    mean, length = _centre(weights)
    covariance, spread = _centred(n_genes, total, squares, product, mean)
    correlation = covariance / (np.sqrt(spread)[:, None] * length)
    # The tiny number keeps a perfect correlation finite; it is decoupler's.
    return correlation * np.sqrt(df / ((1.0 - correlation + 2.2e-16) * (1.0 + correlation + 2.2e-16))), df


def _mlm(weights, total, squares, product, sources):
    """Scores (cells, sources) and degrees of freedom."""
    from threadpoolctl import threadpool_limits

    n_genes, n_sources = weights.shape
    df = _degrees_of_freedom(n_genes, n_sources)
    mean, length = _centre(weights)
    covariance, spread = _centred(n_genes, total, squares, product, mean)
    inverse = _inverse_correlation(weights, mean, length, sources)
    covariance /= length
    with threadpool_limits(1):  # the same bits on any number of cores
        coefficient = covariance @ inverse
    residual = np.maximum(spread - np.einsum("cs,cs->c", coefficient, covariance), 0)
    with np.errstate(divide="ignore"):  # a perfect fit: infinite scores
        return coefficient / (np.sqrt(residual / df)[:, None] * np.sqrt(np.diag(inverse))), df


def _degrees_of_freedom(n_genes, n_sources) -> int:
    df = n_genes - n_sources - 1
    if df < 1:
        raise ValueError(f"{n_genes} genes do not suffice for {n_sources} sources; use more genes, or raise tmin to have fewer sources")
    return df


def _centre(weights):
    """Mean of each source's weights over the genes, and the length of the centred weights; NaN where they do not vary."""
    n_genes = weights.shape[0]
    total, squares = np.asarray(weights.sum(axis=0)).ravel(), np.asarray(weights.multiply(weights).sum(axis=0)).ravel()
    spread = squares - total * (total / n_genes)
    spread[spread <= n_genes * np.finfo(np.float64).eps * squares] = np.nan
    return total / n_genes, np.sqrt(spread)


def _centred(n_genes, total, squares, product, mean):
    """Sums of products and of squares after centring; the latter NaN for cells whose genes all have one value."""
    spread = squares - total * (total / n_genes)
    spread[spread <= n_genes * np.finfo(np.float64).eps * squares] = np.nan
    return product - total[:, None] * mean, spread


def _inverse_correlation(weights, mean, length, sources):
    """Inverse of the correlation matrix of the sources' weights."""
    from scipy.linalg import cho_solve, cholesky

    correlation = ((weights.T @ weights).toarray() - weights.shape[0] * np.outer(mean, mean)) / np.outer(length, length)
    remedy = "Remove it from the network, or raise tmin."
    if np.isnan(length).any():
        raise InvalidInput(f"Source {sources[np.argmax(np.isnan(length))]} has the same weight for all genes.", remedy)
    np.fill_diagonal(correlation, 1.0)
    try:
        factor = cholesky(correlation, lower=True)
        wrong = np.diag(factor) ** 2 < COLLINEAR
    except np.linalg.LinAlgError:
        wrong = _first_dependent(correlation)
    if wrong.any():
        at = int(np.argmax(wrong))
        like = sources[int(np.argmax(np.abs(correlation[at, :at])))]
        raise InvalidInput(f"The weights of source {sources[at]} are a combination of other sources' (most like {like}).", remedy)
    return cho_solve((factor, True), np.eye(len(sources)))


def _first_dependent(correlation) -> np.ndarray:
    """Which source is the first that those before it explain, as a mask."""
    left = np.ones(len(correlation))  # share of a source's weights that those before it leave unexplained
    for i in range(1, len(correlation)):
        with_others = correlation[i, :i]
        left[i] -= with_others @ np.linalg.lstsq(correlation[:i, :i], with_others, rcond=None)[0]
        if left[i] < COLLINEAR:
            break
    return left < COLLINEAR


def p_values(score, df) -> np.ndarray:
    """Two-sided p-values of Student's t; NaN for NaN."""
    from scipy.special import stdtr

    return 2 * stdtr(df, -np.abs(score))
