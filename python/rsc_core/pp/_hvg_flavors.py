"""The flavors of highly_variable_genes that need no local regression: dispersions, Pearson residuals, Poisson zeros."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import backend
from rsc_core.kernels import moments as kernels
from rsc_core.pp._moments import gene_mean_variance, some_rows, totals, transposed
from rsc_core.pp._pca import select_genes

NORMAL_QUARTILE = 0.6744897501960817  # of the standard normal: the median absolute deviation over it estimates a standard deviation


def dispersions(x, flavor: str, n_bins: int = 20, log_base: float | None = None) -> pd.DataFrame:
    """Variance over mean of each gene, compared with genes of like mean.

    Parameters
    ----------
    x
        CSR (cells, genes): log(1 + x) of the base ``log_base`` for seurat.
    flavor
        ``"seurat"``: logarithms of the dispersion of exp(x) - 1, standardised by mean and standard deviation of ``n_bins``
        bins of equal width of log mean. ``"cell_ranger"``: dispersions, by median and median absolute deviation of bins
        with a twentieth of the genes each.

    Returns
    -------
    Table (genes,): means, dispersions, dispersions_norm, float64. NaN for a gene without variance (seurat).
    """
    seurat = flavor == "seurat"
    mean, variance = gene_mean_variance(x, np.log(log_base) if seurat and log_base else 1.0, seurat)
    if not np.isfinite(variance).all():
        raise ValueError(f"flavor {flavor!r}: a gene's variance is not finite; it takes log(1 + x), run pp.log1p first")
    mean[mean == 0] = 1e-12  # as in scanpy: a gene expressed nowhere has dispersion 0
    dispersion = variance / mean
    if seurat:
        dispersion[dispersion == 0] = np.nan
        mean, dispersion = np.log1p(mean), np.log(dispersion)
    table = pd.DataFrame({"means": mean, "dispersions": dispersion})
    edges = n_bins if seurat else np.unique(np.r_[-np.inf, np.percentile(mean, np.arange(10, 105, 5)), np.inf])
    bins = pd.cut(table["means"], edges)
    groups = table["dispersions"].groupby(bins, observed=True)
    if seurat:
        center, spread = groups.mean(), groups.std()
        alone = spread.isna()
        spread[alone], center[alone] = center[alone], 0.0  # a gene alone in its bin: 1
    else:
        center = groups.median()
        spread = groups.agg(lambda d: np.median(np.abs(d - np.median(d)))) / NORMAL_QUARTILE
    with np.errstate(divide="ignore", invalid="ignore"):
        table["dispersions_norm"] = (dispersion - center.loc[bins].to_numpy()) / spread.loc[bins].to_numpy()
    return table


def by_dispersion(x, batches, flavor, n_top_genes, limits, n_bins, log_base) -> dict[str, np.ndarray]:
    """The columns of the dispersion flavors.

    Parameters
    ----------
    batches
        Positions of the cells of each batch.
    limits
        (min_mean, max_mean, min_disp, max_disp), open; used where ``n_top_genes`` is None.
    """

    def chosen(table):
        low, high, least, most = limits
        means, norm = table["means"], np.nan_to_num(table["dispersions_norm"])
        return (means > low) & (means < high) & (norm > least) & (norm < most)

    def top(table):
        norm = table["dispersions_norm"].to_numpy()
        some = np.sort(norm[~np.isnan(norm)])
        return norm >= some[-min(n_top_genes, some.size)] if some.size else np.zeros(norm.size, dtype=bool)

    n_genes, tables = x.shape[1], []
    for rows in batches:
        part, genes = some_rows(x, rows), np.arange(n_genes)
        if len(batches) > 1:
            genes = np.flatnonzero(totals(part, 0, expressed=True))
            part = part if genes.size == n_genes else select_genes(part, genes)
        table = dispersions(part, flavor, n_bins, log_base)
        table["highly_variable"] = (chosen(table) if n_top_genes is None else top(table)).astype(np.float64)
        tables.append(table.set_index(genes).reindex(np.arange(n_genes), fill_value=0.0).astype({"highly_variable": bool}))
    if len(tables) == 1:
        return {name: tables[0][name].to_numpy() for name in tables[0]}
    mean = pd.concat(tables).groupby(level=0)[["means", "dispersions", "dispersions_norm"]].mean()  # without NaN
    n_batches = sum(table["highly_variable"].to_numpy().astype(np.int64) for table in tables)
    columns = {name: mean[name].to_numpy() for name in mean}
    columns |= {"highly_variable_nbatches": n_batches, "highly_variable_intersection": n_batches == len(tables)}
    if n_top_genes is None:
        columns["dispersions_norm"] = np.nan_to_num(columns["dispersions_norm"])
        return columns | {"highly_variable": chosen(columns)}
    order = np.lexsort((-np.nan_to_num(columns["dispersions_norm"], nan=-np.inf), -n_batches))
    return columns | {"highly_variable": first(order, n_top_genes)}


def first(order, n: int) -> np.ndarray:
    """Mask of the first n of an order."""
    mask = np.zeros(len(order), dtype=bool)
    mask[order[:n]] = True
    return mask


def model(counts):
    """What an expected count is made of: cell totals (cells,), share of each gene in all counts (genes,), float64 of the host."""
    cell_total, gene_total = totals(counts, 1), totals(counts, 0)
    return cell_total, gene_total / max(gene_total.sum(), 1)


def residual_variances(counts, theta: float, clip: float | None) -> np.ndarray:
    """Variance (n in the denominator) over cells of the clipped Pearson residuals of each gene.

    r = (x - mu) / sqrt(mu + mu²/theta), mu = cell total · gene total / total, clipped to ± ``clip`` (by default sqrt(cells)).

    Parameters
    ----------
    counts
        CSR (cells, genes).

    Returns
    -------
    float64 (genes,) of the host; 0 for a gene without counts.
    """
    n_cells, n_genes = counts.shape
    cell_total, share = model(counts)
    distinct, times = np.unique(cell_total, return_counts=True)
    by_gene = transposed(counts)
    indptr, indices, values = backend.csr_parts(by_gene, np.float32)
    xp = backend.xp_of(values)
    variance = xp.empty(n_genes)
    kernels.residual_variance(
        n_genes,
        indptr,
        indices,
        values,
        *map(xp.asarray, (cell_total, distinct, times)),
        distinct.size,
        xp.asarray(share),
        theta,
        np.sqrt(n_cells) if clip is None else clip,
        n_cells,
        variance,
    )
    return backend.to_host(variance)


def by_poisson(counts, batches, n_top_genes: int) -> dict[str, np.ndarray]:
    """The columns of ``poisson_gene_selection``.

    A gene's expected fraction of zeros is the mean over cells of exp(-cell total · gene total / total). One draw from the
    observed and one from the expected fraction differ in favour of the observed with probability
    observed (1 - expected), which scvi-tools estimates by sampling.
    """
    n_genes, parts = counts.shape[1], []
    for rows in batches:
        part = some_rows(counts, rows)
        cell_total, share = model(part)
        distinct, times = np.unique(cell_total, return_counts=True)
        xp = backend.xp_of(part.data)
        zeros = xp.empty(n_genes)
        kernels.expected_zeros(n_genes, xp.asarray(distinct), xp.asarray(times), xp.asarray(share), distinct.size, zeros)
        observed, expected = 1 - totals(part, 0, expressed=True) / len(rows), backend.to_host(zeros) / len(rows)
        parts.append((observed, expected, observed * (1 - expected)))
    observed, expected, enriched = (np.array(values) for values in zip(*parts, strict=True))
    rank = np.argsort(np.argsort(enriched, axis=1, kind="stable"), axis=1)
    n_batches, rank_median = (rank >= n_genes - n_top_genes).sum(axis=0), np.median(rank, axis=0)
    return {
        "observed_fraction_zeros": np.median(observed, axis=0),
        "expected_fraction_zeros": np.median(expected, axis=0),
        "prob_zero_enriched_nbatches": n_batches,
        "prob_zero_enrichment": np.median(enriched, axis=0),
        "prob_zero_enrichment_rank": rank_median,
        "highly_variable": first(np.lexsort((-rank_median, -n_batches)), n_top_genes),
    }
