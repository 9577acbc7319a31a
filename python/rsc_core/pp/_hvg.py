"""Genes that vary more between cells than their mean explains."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.kernels import counts as kernels
from rsc_core.pp import _hvg_flavors as others
from rsc_core.pp._blocks import row_blocks
from rsc_core.pp._moments import gene_mean_variance, some_rows

PIECE = 4096  # values that one item of a kernel takes
COPIES = 8  # tables of gene sums that are added into side by side; no result depends on it
COUNT_FLAVORS = ("seurat_v3", "seurat_v3_paper", "pearson_residuals", "poisson_gene_selection")  # of raw counts
FLAVORS = ("seurat", "cell_ranger", *COUNT_FLAVORS)
MIN_BATCH_CELLS = 2  # a variance needs two values
MIN_REGRESSION_GENES = 3  # a quadratic needs three points in its neighbourhood; with none scikit-misc crashes the process


def highly_variable_genes(
    adata,
    *,
    flavor="seurat_v3",
    n_top_genes=2000,
    batch_key=None,
    layer=None,
    span=0.3,
    theta=100.0,
    clip=None,
    min_mean=0.0125,
    max_mean=3.0,
    min_disp=0.5,
    max_disp=np.inf,
    n_bins=20,
    subset=False,
    inplace=True,
):
    """Choose the genes whose variance is largest once its trend with the mean is taken out.

    ``seurat_v3``, ``seurat_v3_paper`` (Stuart et al. 2019, Cell 177:1888): a local quadratic regression (loess) of log10
    variance on log10 mean predicts a standard deviation s for each gene; counts are clipped at mean + s · sqrt(cells);
    ``variances_norm`` is the variance of (count - mean) / s, 1 for a gene on the trend, larger for one that tells cells apart.
    ``pearson_residuals`` (Lause et al. 2021, Genome Biol 22:258): the variance of r = (x - mu) / sqrt(mu + mu² / theta) with
    mu = cell total · gene total / total, clipped to ± ``clip``.
    ``poisson_gene_selection`` (Andrews & Hemberg 2019, Bioinformatics 35:2865): observed (1 - expected), with the fractions of
    zeros observed, and expected of Poisson counts; 1 for a gene that is absent where it should be seen.
    ``seurat`` (Satija et al. 2015), ``cell_ranger`` (Zheng et al. 2017): variance over mean, standardised among genes of like
    mean, of logarithmised values; for ``seurat`` after exp(x) - 1.

    Parameters
    ----------
    adata
        AnnData; X or the layer is (cells, genes), CSR, CSC or dense: raw counts, but log(1 + x) for ``seurat`` and
        ``cell_ranger``.
    flavor
        One of the above.
    n_top_genes
        How many genes to choose; all when there are fewer. None, for ``seurat`` and ``cell_ranger``: those within the limits.
    batch_key
        Column of obs with the batch of each cell.
    layer
        Layer to use instead of X.
    span
        Share of the genes that each local regression takes.
    theta
        Overdispersion of the negative binomial, above 0.
    clip
        Largest size of a residual; by default sqrt(cells of the batch).
    min_mean, max_mean, min_disp, max_disp
        Limits (themselves outside) of ``means`` and ``dispersions_norm``, where ``n_top_genes`` is None.
    n_bins
        Bins of the mean (``seurat``).
    subset
        Keep only the chosen genes in ``adata`` (or in the returned table).
    inplace
        Write to var, or return the table.

    Returns
    -------
    None, or the table, float64 unless said. seurat_v3, its paper, pearson_residuals: ``means``, ``variances``,
    ``variances_norm`` or ``residual_variances`` (mean over batches), ``highly_variable_rank`` (median over batches, NaN outside
    the top of every batch). seurat, cell_ranger: ``means``, ``dispersions``, ``dispersions_norm``. poisson_gene_selection:
    ``observed_fraction_zeros``, ``expected_fraction_zeros``, ``prob_zero_enrichment`` and its ``_rank`` (medians over batches).
    All: ``highly_variable``, bool; with ``batch_key`` ``highly_variable_nbatches`` (poisson: ``prob_zero_enriched_nbatches``),
    int64, and but for seurat_v3 and poisson ``highly_variable_intersection``, bool.

    Notes
    -----
    Over batches: seurat_v3 orders genes by their median rank among the ``n_top_genes`` of each batch, then by the number of
    batches in which they are among these; all others by that number first, then by rank or by mean ``dispersions_norm``.

    Sums of counts and squares are int64, the rest is float64: CPU and GPU choose the same genes. scanpy agrees to 1e-6 in
    ``variances_norm``, to 1e-9 in ``residual_variances`` and the dispersions (1e-4 of float32 input, whose exponentials it
    takes in float32) and in the choice, apart from genes of equal values at the border: these have the order of var here, but
    that of an unstable sort there, which differs between processors. A constant gene has ``variances_norm`` 0, a gene without
    counts ``residual_variances`` 0.

    Different from scanpy: a batch of fewer than 2 cells (seurat_v3: or without a varying gene) is left out, with a warning
    (scanpy: NaN or an error); where the local regression fails (few or equal means) the span is doubled, then set to 1, then
    one quadratic is fitted to all genes, with a warning (scanpy: an error, or a crash below 1 / span genes); ``clip`` None
    is taken from each batch (scanpy: all batches have that of the first). scvi-tools draws ``prob_zero_enrichment`` by chance.

    Raises
    ------
    ValueError
        For values that are no counts where these are needed, or when no batch can be used.
    """
    if flavor not in FLAVORS:
        raise ValueError(f"flavor is {flavor!r}; it must be one of {FLAVORS}")
    if n_top_genes is None and flavor in COUNT_FLAVORS:
        raise ValueError(f"n_top_genes is None; flavor {flavor!r} needs a number")
    if theta <= 0 or (clip is not None and clip < 0):
        raise ValueError(f"theta={theta} must be above 0, clip={clip} at least 0 or None")
    if batch_key is not None and batch_key not in adata.obs:
        raise KeyError(f"batch_key: obs has no column {batch_key!r}; it has {list(adata.obs)}")
    x = data.csr(adata, layer)
    if flavor in COUNT_FLAVORS and not all(_are_counts(block.data) for _, block in row_blocks(x)):
        raise ValueError(f"flavor {flavor!r} takes raw counts; {'X' if layer is None else layer} has negative or fractional values")
    batch, names = (np.zeros(adata.n_obs, dtype=np.int64), ["all"]) if batch_key is None else pd.factorize(adata.obs[batch_key], sort=True)
    if flavor.startswith("seurat_v3"):
        columns = seurat_v3(x, batch, names, n_top_genes, span, flavor == "seurat_v3_paper")
    else:
        batches = _usable_batches(batch, names)
        if flavor == "pearson_residuals":
            columns = by_residuals(x, batches, n_top_genes, theta, clip)
        elif flavor == "poisson_gene_selection":
            columns = others.by_poisson(x, batches, n_top_genes)
        else:
            limits = (min_mean, max_mean, min_disp, max_disp)
            columns = others.by_dispersion(x, batches, flavor, n_top_genes, limits, n_bins, adata.uns.get("log1p", {}).get("base"))
    table = pd.DataFrame(columns, index=adata.var_names)
    if batch_key is None:
        over_batches = ("highly_variable_nbatches", "highly_variable_intersection", "prob_zero_enriched_nbatches")
        table = table.drop(columns=[name for name in over_batches if name in table])
    if not inplace:
        return table[table["highly_variable"]] if subset else table
    adata.var[table.columns] = table
    adata.uns["hvg"] = {"flavor": flavor} | ({"computed_on": layer or "adata.X"} if flavor == "pearson_residuals" else {})
    if subset:
        adata._inplace_subset_var(table["highly_variable"].to_numpy())
    return None


def _are_counts(values) -> bool:
    """Whether all are whole numbers of at least 0; NaN is none."""
    values = values.astype(np.float32, copy=False)
    wrong = backend.xp_of(values).zeros(1, dtype=np.int32)
    kernels.uncountable(-(-values.size // PIECE), values, PIECE, values.size, wrong)
    return not int(wrong[0])


def _usable_batches(batch, names) -> list[np.ndarray]:
    """Positions of the cells of each batch that is large enough; a warning names the others."""
    rows = [np.flatnonzero(batch == number) for number in range(len(names))]
    for name, cells in zip(names, rows, strict=True):
        if cells.size < MIN_BATCH_CELLS:
            warnings.warn(f"batch {str(name)!r} ({cells.size} cells) is left out: {MIN_BATCH_CELLS} are needed", stacklevel=3)
    rows = [cells for cells in rows if cells.size >= MIN_BATCH_CELLS]
    if not rows:
        raise ValueError(f"no batch has {MIN_BATCH_CELLS} cells: there is nothing to choose from")
    return rows


def by_residuals(counts, batches, n_top_genes: int, theta: float, clip: float | None) -> dict[str, np.ndarray]:
    """The columns of ``pearson_residuals``; ``batches`` are the positions of the cells of each."""
    means, variances = gene_mean_variance(counts)
    spread = np.array([others.residual_variances(some_rows(counts, rows), theta, clip) for rows in batches])
    chosen = _chosen(spread, n_top_genes, batches_first=True)
    chosen["residual_variances"] = chosen.pop("variances_norm")
    chosen["highly_variable_intersection"] = chosen["highly_variable_nbatches"] == len(batches)
    return {"means": means, "variances": variances} | chosen


def seurat_v3(counts, batch, names, n_top_genes: int, span: float = 0.3, batches_first: bool = False) -> dict[str, np.ndarray]:
    """The columns of :func:`highly_variable_genes`, arrays (genes,) of the host.

    Parameters
    ----------
    counts
        CSR (cells, genes) of whole numbers below 2^24.
    batch
        int64 (cells,) of the host, positions in ``names``; cells of -1 belong to no batch.
    names
        What the batches are called.
    batches_first
        Genes are ordered by the number of batches before the rank.
    """
    n_genes, never = counts.shape[1], np.full(counts.shape[1], np.inf)
    normalized, total, squares = [], np.zeros(n_genes, dtype=np.int64), np.zeros(n_genes, dtype=np.int64)
    for number in range(-1, len(names)):
        rows = np.flatnonzero(batch == number)
        if number < 0 and not rows.size:
            continue
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
    return {"means": means, "variances": variances} | _chosen(np.array(normalized), n_top_genes, batches_first)


def gene_moments(counts, rows, clip) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums and sums of squares of each gene over some cells, of counts up to a limit; and how many lie above it.

    Parameters
    ----------
    counts
        CSR (cells, genes).
    rows
        int64 positions of the cells, rising.
    clip
        float64 (genes,).

    Returns
    -------
    int64 (genes,) each, on the host; exact.
    """
    xp, n_genes = backend.xp_of(counts), counts.shape[1]
    sums, clip = [xp.zeros((COPIES, n_genes), dtype=np.int64) for _ in range(3)], xp.asarray(clip)
    for start, block in row_blocks(counts):
        first, last = np.searchsorted(rows, (start, start + block.shape[0]))
        here = xp.asarray(rows[first:last] - start)
        kernels.gene_moments(here.size, here, *backend.csr_parts(block, np.float32), clip, n_genes, COPIES, *sums)
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


def _medians(values, sizes) -> np.ndarray:
    """Medians of the columns of a float64 matrix; ``sizes`` says how many values of each are not NaN (none: NaN)."""
    rising, column = np.sort(values, axis=0), np.arange(values.shape[1])  # NaN last
    return (rising[np.maximum(sizes - 1, 0) // 2, column] + rising[sizes // 2, column]) / 2


def _chosen(normalized, n_top_genes: int, batches_first: bool) -> dict[str, np.ndarray]:
    """Ranks over batches, and the genes that they choose: ``normalized`` is float64 (batches, genes)."""
    order = np.argsort(-normalized, axis=1, kind="stable")
    rank = np.empty_like(normalized)
    np.put_along_axis(rank, order, np.arange(normalized.shape[1], dtype=np.float64)[None, :], axis=1)
    rank[rank >= n_top_genes] = np.nan
    n_batches = (~np.isnan(rank)).sum(axis=0)
    median = _medians(rank, n_batches)
    order = np.lexsort((median, -n_batches) if batches_first else (-n_batches, median))
    return {
        "variances_norm": normalized.mean(axis=0),
        "highly_variable_rank": median,
        "highly_variable": others.first(order, n_top_genes),
        "highly_variable_nbatches": n_batches,
    }
