"""The flavors of highly_variable_genes that need no local regression: dispersions, Pearson residuals, Poisson zeros."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import backend
from rsc_core.kernels import moments as kernels
from rsc_core.kernels import panels
from rsc_core.pp._blocks import row_blocks
from rsc_core.pp._moments import PANEL, by_panels, gene_mean_variance, some_rows, tiles, totals

NODES = 28  # of a piece of length 2 in log share: 3.4^-28 is below 1e-14
NORMAL_QUARTILE = 0.6744897501960817  # of the standard normal: the median absolute deviation over it estimates a standard deviation


def dispersion_moments(x, flavor: str, log_base: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances of the genes of which a flavor makes dispersions: ``x`` holds log(1 + x) of the base for seurat."""
    seurat = flavor == "seurat"
    mean, variance = gene_mean_variance(x, np.log(log_base) if seurat and log_base else 1.0, seurat)
    if not np.isfinite(variance).all():
        raise ValueError(f"flavor {flavor!r}: a gene's variance is not finite; it takes log(1 + x), run pp.log1p first")
    return mean, variance


def dispersions(mean, variance, flavor: str, n_bins: int = 20) -> dict[str, np.ndarray]:
    """Variance over mean of each gene, compared with genes of like mean.

    Parameters
    ----------
    mean, variance
        float64 (genes,) of :func:`dispersion_moments`.
    flavor
        ``"seurat"``: logarithms of the dispersion of exp(x) - 1, standardised by mean and standard deviation of ``n_bins``
        bins of equal width of log mean. ``"cell_ranger"``: dispersions, by median and median absolute deviation of bins
        with a twentieth of the genes each.

    Returns
    -------
    means, dispersions, dispersions_norm: float64 (genes,). NaN for a gene without variance (seurat).
    """
    if not mean.size:  # a batch without counts
        return {name: np.zeros(0) for name in ("means", "dispersions", "dispersions_norm")}
    mean = np.where(mean == 0, 1e-12, mean)  # as in scanpy: a gene expressed nowhere has dispersion 0
    dispersion = variance / mean
    if flavor == "seurat":
        dispersion[dispersion == 0] = np.nan
        mean, dispersion = np.log1p(mean), np.log(dispersion)
        edges = np.linspace(mean.min(), mean.max(), n_bins + 1)
        edges[0] -= 0.001 * (edges[-1] - edges[0])
    else:
        edges = np.unique(np.r_[-np.inf, np.percentile(mean, np.arange(10, 105, 5)), np.inf])
    bins = np.searchsorted(edges, mean)

    def of_bins(values, statistic):
        return pd.Series(values).groupby(bins).transform(statistic).to_numpy()

    if flavor == "seurat":
        center, spread = of_bins(dispersion, "mean"), of_bins(dispersion, "std")
        alone = np.isnan(spread)  # a gene alone in its bin: 1
        center, spread = np.where(alone, 0.0, center), np.where(alone, center, spread)
    else:
        center = of_bins(dispersion, "median")
        spread = of_bins(np.abs(dispersion - center), "median") / NORMAL_QUARTILE
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"means": mean, "dispersions": dispersion, "dispersions_norm": (dispersion - center) / spread}


def within_limits(table, limits) -> np.ndarray:
    """Which genes lie within (min_mean, max_mean, min_disp, max_disp), the limits themselves outside."""
    low, high, least, most = limits
    means, norm = table["means"], np.nan_to_num(table["dispersions_norm"])
    return (means > low) & (means < high) & (norm > least) & (norm < most)


def by_dispersion(x, batches, flavor, n_top_genes, limits, n_bins, log_base) -> dict[str, np.ndarray]:
    """The columns of the dispersion flavors.

    Parameters
    ----------
    batches
        Positions of the cells of each batch.
    limits
        See :func:`within_limits`; used where ``n_top_genes`` is None.
    """

    def top(table):
        norm = table["dispersions_norm"]
        some = np.sort(norm[~np.isnan(norm)])
        return norm >= some[-min(n_top_genes, some.size)] if some.size else np.zeros(norm.size, dtype=bool)

    n_genes, tables = x.shape[1], []
    for rows in batches:
        part = some_rows(x, rows)
        moments = dispersion_moments(part, flavor, log_base)
        genes = slice(None) if len(batches) == 1 else totals(part, 0, expressed=True) > 0
        table = dispersions(*(values[genes] for values in moments), flavor, n_bins)
        table["highly_variable"] = within_limits(table, limits) if n_top_genes is None else top(table)
        tables.append({name: _placed(values, genes, n_genes) for name, values in table.items()})
    if len(tables) == 1:
        return tables[0]
    n_batches = sum(table.pop("highly_variable").astype(np.int64) for table in tables)
    joined = pd.DataFrame({name: np.concatenate([table[name] for table in tables]) for name in tables[0]})
    mean = joined.groupby(np.tile(np.arange(n_genes), len(tables))).mean()  # without NaN
    columns = {name: mean[name].to_numpy() for name in mean}
    columns |= {"highly_variable_nbatches": n_batches, "highly_variable_intersection": n_batches == len(tables)}
    if n_top_genes is None:
        columns["dispersions_norm"] = np.nan_to_num(columns["dispersions_norm"])
        return columns | {"highly_variable": within_limits(columns, limits)}
    order = np.lexsort((-np.nan_to_num(columns["dispersions_norm"], nan=-np.inf), -n_batches))
    return columns | {"highly_variable": first(order, n_top_genes)}


def _placed(values, genes, n_genes: int) -> np.ndarray:
    """Values of some genes among those of all, which are 0."""
    out = np.zeros(n_genes, dtype=values.dtype)
    out[genes] = values
    return out


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
    clip = np.sqrt(n_cells) if clip is None else clip
    cell_total, share = model(counts)
    xp, total = backend.xp_of(counts), backend.xp_of(counts).zeros((2, n_genes))
    of_cells, of_genes = xp.asarray(cell_total), xp.asarray(share)
    for start, block in row_blocks(counts):
        n_rows, entries = block.shape[0], (*backend.csr_parts(block, np.float32), of_cells[start : start + block.shape[0]], of_genes)

        def add(first, n_panels, parts, n_rows=n_rows, entries=entries):
            items, width = tiles(n_panels, n_genes, xp, 2)
            panels.panel_residuals(items, first, *entries, theta, clip, n_rows, n_genes, PANEL, width, parts)

        by_panels(add, n_rows, total)

    def of_zeros(distinct, times, shares):
        sums, squares = xp.empty(shares.size), xp.empty(shares.size)
        kernels.zero_residuals(shares.size, distinct, times, shares, distinct.size, theta, clip, sums, squares)
        return sums, squares

    most = cell_total.max(initial=0) * share.max(initial=0)
    clips = most / (1 + most / theta) > clip * clip  # no smooth function any more
    sums, squares = over_cells(of_zeros, cell_total, share, xp, exact=clips) + backend.to_host(total)
    return squares / n_cells - (sums / n_cells) ** 2


def over_cells(function, cell_total, share, xp, exact: bool = False) -> np.ndarray:
    """Sums over cells of functions of cell total · share, for each share.

    Such a sum is an analytic function of log share. It is computed at Chebyshev nodes of pieces of log share of length 2 and
    interpolated between them: within 1e-12 of the largest value of a piece where the terms are bounded within
    an imaginary distance of pi / 2, as exp(-x) and x / (1 + x / theta) are.

    Parameters
    ----------
    function
        Of (distinct totals, how often each occurs, shares) on the backend ``xp``: a tuple of float64 (shares,).
    cell_total, share
        float64 of the host.
    exact
        Compute every share.

    Returns
    -------
    float64 (functions, shares) of the host; for share 0 the value of the function there.
    """
    distinct, times = (xp.asarray(part) for part in np.unique(cell_total, return_counts=True))

    def at(shares):
        return np.array([backend.to_host(part) for part in function(distinct, times, xp.asarray(shares))])

    some = np.flatnonzero(share > 0)
    low, high = (np.log(extreme(share[some])) for extreme in (np.min, np.max)) if some.size else (0.0, 0.0)
    n_pieces = max(1, int(np.ceil((high - low) / 2)))
    if exact or some.size <= 8 * n_pieces * NODES:
        return at(share)
    place = (np.log(share[some]) - low) / max((high - low) / n_pieces, 1e-300)
    piece = np.minimum(place.astype(np.int64), n_pieces - 1)
    nodes = np.cos((np.arange(NODES) + 0.5) * np.pi / NODES)
    width = (high - low) / n_pieces
    values = at(np.exp(low + width * (np.arange(n_pieces)[:, None] + (nodes + 1) / 2)).ravel())
    values = values.reshape(-1, n_pieces, NODES)
    result = np.repeat(at(np.zeros(1)), share.size, axis=1)
    within = 2 * (place - piece) - 1
    for number in range(n_pieces):
        here = piece == number
        fit = np.polynomial.chebyshev.chebvander(nodes, NODES - 1) * 2 / NODES
        fit[:, 0] /= 2
        result[:, some[here]] = np.polynomial.chebyshev.chebval(within[here], (values[:, number] @ fit).T)
    return result


def by_poisson(counts, batches, n_top_genes: int) -> dict[str, np.ndarray]:
    """The columns of ``poisson_gene_selection``.

    A gene's expected fraction of zeros is the mean over cells of exp(-cell total · gene total / total). One draw from the
    observed and one from the expected fraction differ in favour of the observed with probability
    observed (1 - expected), which scvi-tools estimates by sampling.
    """
    n_genes, parts = counts.shape[1], []
    for rows in batches:
        part = some_rows(counts, rows)
        xp, (cell_total, share) = backend.xp_of(part), model(part)

        def of_zeros(distinct, times, shares, xp=xp):
            out = xp.empty(shares.size)
            kernels.expected_zeros(shares.size, distinct, times, shares, distinct.size, out)
            return (out,)

        observed = 1 - totals(part, 0, expressed=True) / len(rows)
        expected = over_cells(of_zeros, cell_total, share, xp)[0] / len(rows)
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
