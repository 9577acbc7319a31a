"""Activities by linear models: a cell's genes explained by the weights of one source, or of all sources together."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.dc._p import adjusted, student_p
from rsc_core.dc._read import BLOCK_ROWS, read
from rsc_core.errors import InvalidInput
from rsc_core.kernels import activity as kernels

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
        Say on stderr how many sources, genes and cells there are.

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
    given = read(name, table, net, tmin, layer, raw, bsize, verbose)
    score, df = method(given.weights, given.total, given.squares, given.product, given.sources)
    return given.store(score=score, padj=adjusted(student_p(score, df)))


def _ulm(weights, total, squares, product, sources):
    """Scores (cells, sources) and degrees of freedom."""
    xp, n_genes = backend.xp_of(product), weights.shape[0]
    df = _degrees_of_freedom(n_genes, 1)
    mean, length = (xp.asarray(part) for part in _centre(weights))
    score = xp.empty(product.shape)
    kernels.correlation_scores(product.size, product, total, squares, mean, length, n_genes, df, len(sources), score)
    return score, df


def _mlm(weights, total, squares, product, sources):
    """Scores (cells, sources) and degrees of freedom."""
    from threadpoolctl import threadpool_limits

    xp, (n_genes, n_sources) = backend.xp_of(product), weights.shape
    df = _degrees_of_freedom(n_genes, n_sources)
    mean, length = _centre(weights)
    inverse = _inverse_correlation(weights, mean, length, sources)
    mean, length, scale = (xp.asarray(part) for part in (mean, length, np.sqrt(np.diag(inverse))))
    covariance, score = xp.empty_like(product), xp.empty_like(product)
    kernels.centred_products(product.size, product, total, mean, length, n_sources, covariance)
    with threadpool_limits(1):  # the same bits on any number of cores
        coefficient = covariance @ xp.asarray(inverse)
    kernels.coefficient_scores(len(score), coefficient, covariance, total, squares, scale, n_genes, df, n_sources, score)
    return score, df


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


# The names of decoupler 1.
run_mlm = mlm
run_ulm = ulm
