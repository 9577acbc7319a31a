"""Genes that vary more between cells than their mean explains."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.kernels import counts as kernels

COPIES = 8  # tables of gene sums that are added into side by side; no result depends on it
FLAVORS = ("seurat_v3",)
MIN_BATCH_CELLS = 2  # a variance needs two values
MIN_REGRESSION_GENES = 3  # a quadratic needs three points in its neighbourhood; with none scikit-misc crashes the process


def highly_variable_genes(
    adata, *, flavor="seurat_v3", n_top_genes=2000, batch_key=None, layer=None, span=0.3, subset=False, inplace=True
):
    """Choose the genes whose variance is largest once its trend with the mean is taken out.

    In each batch: a local quadratic regression (loess) of log10 variance on log10 mean predicts a standard deviation s
    for each gene; counts are clipped at mean + s · sqrt(cells); ``variances_norm`` is the variance of (count - mean) / s,
    1 for a gene on the trend, larger for one that tells cells apart. Genes are ordered by their median rank among the
    ``n_top_genes`` of each batch, then by the number of batches in which they are among these.

    Parameters
    ----------
    adata
        AnnData; X or the layer holds raw counts (cells, genes), CSR, CSC or dense.
    flavor
        ``"seurat_v3"``.
    n_top_genes
        How many genes to choose; all when there are fewer.
    batch_key
        Column of obs with the batch of each cell.
    layer
        Layer to use instead of X.
    span
        Share of the genes that each local regression takes.
    subset
        Keep only the chosen genes in ``adata`` (or in the returned table).
    inplace
        Write to var, or return the table.

    Returns
    -------
    None, or the table: ``means``, ``variances``, ``variances_norm`` (mean over batches), ``highly_variable_rank`` (NaN
    outside the top of every batch), float64; ``highly_variable``, bool; with ``batch_key`` ``highly_variable_nbatches``, int64.

    Notes
    -----
    Sums of counts and squares are int64, the rest is float64 on the host: CPU and GPU are equal. scanpy agrees to 1e-6 in
    ``variances_norm`` and in the choice, apart from genes of equal ``variances_norm`` at the border: these have the order of
    var here, but that of an unstable sort there, which differs between processors. A constant gene has ``variances_norm`` 0.
    Different from scanpy: a batch of fewer than 2 cells or without a varying gene is left out, with a warning (scanpy: NaN
    or an error); where the local regression fails (few or equal means) the span is doubled, then set to 1, then one
    quadratic is fitted to all genes, with a warning (scanpy: an error, or a crash below 1 / span genes).
    Stuart et al. 2019, Cell 177:1888.

    Raises
    ------
    ValueError
        For values that are no counts, or when no batch can be used.
    """
    if flavor not in FLAVORS:
        raise ValueError(f"flavor is {flavor!r}; it must be one of {FLAVORS}")
    if batch_key is not None and batch_key not in adata.obs:
        raise KeyError(f"batch_key: obs has no column {batch_key!r}; it has {list(adata.obs)}")
    counts = data.csr(adata, layer)
    xp = backend.xp_of(counts.data)
    if bool((counts.data < 0).any()) or not bool((counts.data == xp.rint(counts.data)).all()):
        raise ValueError(f"flavor {flavor!r} takes raw counts; {'X' if layer is None else layer} has negative or fractional values")
    batch, names = (np.zeros(adata.n_obs, dtype=np.int64), ["all"]) if batch_key is None else pd.factorize(adata.obs[batch_key], sort=True)
    table = pd.DataFrame(seurat_v3(counts, batch, names, n_top_genes, span), index=adata.var_names)
    if batch_key is None:
        del table["highly_variable_nbatches"]
    if not inplace:
        return table[table["highly_variable"]] if subset else table
    adata.var[table.columns] = table
    adata.uns["hvg"] = {"flavor": flavor}
    if subset:
        adata._inplace_subset_var(table["highly_variable"].to_numpy())
    return None


def seurat_v3(counts, batch, names, n_top_genes: int, span: float = 0.3) -> dict[str, np.ndarray]:
    """The columns of :func:`highly_variable_genes`, arrays (genes,) of the host.

    Parameters
    ----------
    counts
        CSR (cells, genes) of whole numbers below 2^24.
    batch
        int64 (cells,) of the host, positions in ``names``; cells of -1 belong to no batch.
    names
        What the batches are called.
    """
    n_genes, never = counts.shape[1], np.full(counts.shape[1], np.inf)
    normalized, total, squares = [], np.zeros(n_genes, dtype=np.int64), np.zeros(n_genes, dtype=np.int64)
    for number in range(-1, len(names)):
        rows = np.flatnonzero(batch == number)
        sums, sums_of_squares, _ = gene_moments(counts, rows, never)
        total, squares = total + sums, squares + sums_of_squares
        if number < 0:
            continue
        mean, variance = mean_variance(sums, sums_of_squares, rows.size)
        if rows.size < MIN_BATCH_CELLS or not (variance > 0).any():
            warnings.warn(f"batch {str(names[number])!r} ({rows.size} cells) is left out: no gene varies in it", stacklevel=3)
            continue
        spread = np.sqrt(trend(mean, variance, span))
        clip = mean + spread * np.sqrt(rows.size)
        below, below_squares, above = gene_moments(counts, rows, clip)
        clipped, clipped_squares = below + above * clip, below_squares + above * clip * clip
        deviation = rows.size * mean**2 + clipped_squares - 2 * clipped * mean
        normalized.append(np.where(variance > 0, deviation / ((rows.size - 1) * spread**2), 0.0))
    if not normalized:
        raise ValueError("no gene varies in any batch: there is nothing to choose from")
    means, variances = mean_variance(total, squares, counts.shape[0])
    return {"means": means, "variances": variances} | _chosen(np.array(normalized), n_top_genes)


def gene_moments(counts, rows, clip) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums and sums of squares of each gene over some cells, of counts up to a limit; and how many lie above it.

    Parameters
    ----------
    counts
        CSR (cells, genes).
    rows
        int64 positions of the cells.
    clip
        float64 (genes,).

    Returns
    -------
    int64 (genes,) each, on the host; exact.
    """
    indptr, indices, values = backend.csr_parts(counts, np.float32)
    xp, n_genes = backend.xp_of(values), counts.shape[1]
    sums = [xp.zeros((COPIES, n_genes), dtype=np.int64) for _ in range(3)]
    kernels.gene_moments(rows.size, xp.asarray(rows), indptr, indices, values, xp.asarray(clip), n_genes, COPIES, *sums)
    return tuple(backend.to_host(part).sum(axis=0) for part in sums)


def mean_variance(total, squares, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (n - 1 in the denominator) from int64 sums: exactly 0 for a constant gene; 0 for n = 1.

    With total = q n + r the sum of squared deviations is (squares - q total) - r total / n, whose first part is exact.
    """
    quotient, rest = np.divmod(total, max(n, 1))
    deviation = (squares - quotient * total) - rest / max(n, 1) * total
    return total / max(n, 1), np.maximum(deviation, 0.0) / max(n - 1, 1)


def trend(mean, variance, span: float) -> np.ndarray:
    """The variance that the mean of a gene explains: 10 to the power of a local quadratic regression; 1 for constant genes."""
    from skmisc.loess import loess

    varies = variance > 0
    x, y = np.log10(mean[varies]), np.log10(variance[varies])
    expected = np.ones_like(mean)
    for width in (min(span, 1.0), min(2 * span, 1.0), 1.0):
        if int(width * x.size) < MIN_REGRESSION_GENES:
            continue
        try:
            model = loess(x, y, span=width, degree=2)
            model.fit()
            fitted = np.asarray(model.outputs.fitted_values)
        except ValueError:
            continue
        if np.isfinite(fitted).all():
            if width > span:
                warnings.warn(f"the local regression of {x.size} genes failed with span {span}; {width} was used", stacklevel=4)
            break
    else:
        warnings.warn(f"the local regression of {x.size} genes failed; one quadratic was fitted to all of them", stacklevel=4)
        degree = min(2, np.unique(x).size - 1)
        fitted = np.polynomial.Polynomial.fit(x, y, degree)(x) if degree else np.full_like(y, y.mean())
    expected[varies] = 10.0**fitted
    return expected


def _chosen(normalized, n_top_genes: int) -> dict[str, np.ndarray]:
    """Ranks over batches, and the genes that they choose: ``normalized`` is float64 (batches, genes)."""
    order = np.argsort(-normalized, axis=1, kind="stable")
    rank = np.empty_like(normalized)
    np.put_along_axis(rank, order, np.arange(normalized.shape[1], dtype=np.float64)[None, :], axis=1)
    rank[rank >= n_top_genes] = np.nan
    n_batches = (~np.isnan(rank)).sum(axis=0)
    median = np.full(normalized.shape[1], np.nan)
    median[n_batches > 0] = np.nanmedian(rank[:, n_batches > 0], axis=0)
    highly_variable = np.zeros(normalized.shape[1], dtype=bool)
    highly_variable[np.lexsort((-n_batches, median))[:n_top_genes]] = True
    return {
        "variances_norm": normalized.mean(axis=0),
        "highly_variable_rank": median,
        "highly_variable": highly_variable,
        "highly_variable_nbatches": n_batches,
    }
