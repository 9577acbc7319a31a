"""Doublets: cells that lie among sums of two others."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from rsc_core import backend, data, rng
from rsc_core.kernels import doublets as kernels
from rsc_core.pp._blocks import STRIP, RowBlocks, in_memory, row_blocks, rows_in_blocks
from rsc_core.pp._hvg_flavors import dispersion_moments, dispersions, within_limits
from rsc_core.pp._moments import gene_mean_variance, rows_of, some_rows, totals
from rsc_core.pp._normalize import lognorm, over_target, scale_rows, size_factors
from rsc_core.pp._pca import dense_blocks, principal_axes, select_genes
from rsc_core.pp._within import later_neighbors

BINS, MAX_SMOOTHINGS = 256, 10_000  # of the histogram of simulated scores, as scikit-image's threshold_minimum
LIMITS = (0.0125, 3.0, 0.5, np.inf)  # of the seurat flavor's means and dispersions, scanpy's defaults
MIN_CELLS = 10  # of a batch; fewer have no neighbourhood
TARGET = 1e6  # counts of a cell, observed or simulated, once normalised
BLOCK_BYTES = 32  # of a non-zero of a block: its logarithm, itself among chosen cells and among chosen genes


def scrublet(
    adata,
    *,
    batch_key=None,
    sim_doublet_ratio=2.0,
    expected_doublet_rate=0.05,
    n_prin_comps=30,
    n_neighbors=None,
    threshold=None,
    layer=None,
    random_state=0,
):
    """How likely is each cell two cells?

    Counts of random pairs of cells are added; observed and simulated cells are normalised, standardised by the observed,
    and projected on the observed cells' principal components. With q = (s + 1) / (k + 2), s of the k - 1 nearest being simulated,
    score = q ρ/r / (1 - ρ - q (1 - ρ - ρ/r)), ρ the expected rate and r the simulated cells per observed one.

    Parameters
    ----------
    adata
        AnnData or CunnData; X or the layer holds raw counts (cells, genes), CSR, CSC or dense.
    batch_key
        Column of obs: doublets arise within a batch.
    sim_doublet_ratio
        Simulated doublets per cell.
    expected_doublet_rate
        ρ, between 0 and 1.
    n_prin_comps
        Components at most.
    n_neighbors
        Neighbours before simulated cells are counted in; by default sqrt(cells) / 2.
    threshold
        Score above which a cell is called a doublet; by default the minimum between the two modes of the simulated scores.
    layer
        Layer to use instead of X.
    random_state
        Seed of the pairs.

    Notes
    -----
    Writes ``obs['doublet_score']`` float64 (NaN for a cell with fewer than 3 genes, or of a batch too small or too uniform to
    be scored, with a warning), ``obs['predicted_doublet']`` bool, and ``uns['scrublet']``: parameters, scores of the simulated
    cells, threshold (NaN where there are not two modes: no cell is called), with ``batch_key`` under ``batches``.

    Pairs come from counters, the same on both backends but not scanpy's; for the same simulated cells scores are those of
    ``scanpy.pp.scrublet(use_approx_neighbors=False)`` (whose k, too, counts the cell itself), but for neighbours whose
    distances differ by less than float32's rounding. Wolock et al. 2019, Cell Syst 8:281.
    """
    if not 0 < expected_doublet_rate < 1 or sim_doublet_ratio <= 0:
        raise ValueError(
            f"expected_doublet_rate={expected_doublet_rate} must lie between 0 and 1, sim_doublet_ratio={sim_doublet_ratio} above 0"
        )
    if batch_key is not None and batch_key not in adata.obs:
        raise KeyError(f"batch_key: obs has no column {batch_key!r}; it has {list(adata.obs)}")
    counts = data.csr(adata, layer)
    label, names = (np.zeros(adata.n_obs, dtype=np.int64), ["all"]) if batch_key is None else _batches(adata.obs[batch_key])
    score, doublet, records = np.full(adata.n_obs, np.nan), np.zeros(adata.n_obs, dtype=bool), {}
    for number, name in enumerate(names):
        rows, observed = chosen_counts(counts, np.flatnonzero(label == number))
        if rows.size < MIN_CELLS or observed.shape[1] < 2:
            warnings.warn(f"batch {name!r} is not scored: {rows.size} cells, {observed.shape[1]} highly variable genes", stacklevel=2)
            continue
        parents = pairs(random_state, rows.size, round(sim_doublet_ratio * rows.size), backend.xp_of(observed))
        k = n_neighbors or round(0.5 * np.sqrt(rows.size))
        score[rows], simulated_score = doublet_scores(observed, parents, k, n_prin_comps, expected_doublet_rate)
        limit = minimum_between_modes(simulated_score) if threshold is None else threshold
        doublet[rows] = score[rows] > limit
        records[name] = {"threshold": limit, "doublet_scores_sim": simulated_score, "n_neighbors": k}
    params = {"expected_doublet_rate": expected_doublet_rate, "sim_doublet_ratio": sim_doublet_ratio, "random_state": random_state}
    adata.obs["doublet_score"], adata.obs["predicted_doublet"] = score, doublet
    adata.uns["scrublet"] = {"parameters": params}
    adata.uns["scrublet"] |= {"batches": records, "batched_by": batch_key} if batch_key else records.get("all", {})


def _batches(column) -> tuple[np.ndarray, list[str]]:
    """Which batch each cell is of, and their names in order."""
    label, names = pd.factorize(column.astype(str), sort=True)
    return label, [str(name) for name in names]


def chosen_counts(counts, rows):
    """Of some cells: those that express 3 of the genes that 3 of the cells express, and their counts of the genes that vary.

    Parameters
    ----------
    counts
        CSR or :class:`~rsc_core.pp._blocks.RowBlocks` (cells, genes). Nothing as large is made of it where it does not fit.
    rows
        int64 positions of the host, rising.

    Returns
    -------
    positions, and CSR counts of the genes that vary by seurat's dispersions
    """
    part = rows_in_blocks(counts, rows, BLOCK_BYTES)
    expressed = np.flatnonzero(totals(part, 0, expressed=True) >= 3)
    total, number = [], []
    for _, block in row_blocks(part):
        block = select_genes(block, expressed)
        total.append(rows_of(block, expressed=False))
        number.append(backend.to_host(rows_of(block, expressed=True)))
    kept, genes = np.flatnonzero(np.concatenate(number) >= 3), expressed[:0]
    if min(rows.size, expressed.size) >= 2:
        moments = dispersion_moments(lognorm(part, over_target(backend.xp_of(counts).concatenate(total))), "seurat")
        table = dispersions(*(values[expressed] for values in moments), "seurat")
        genes = expressed[within_limits(table, LIMITS)]
    return rows[kept], in_memory(some_rows(select_genes(part, genes), kept))


def pairs(seed: int, n_cells: int, n_pairs: int, xp=np):
    """Positions of the two parents of each simulated doublet: int64 (n_pairs,) each, on the backend ``xp``."""
    draw = (rng.uniform(seed, "doublets", xp.arange(2 * n_pairs, dtype=np.uint64)) * n_cells).astype(np.int64)
    return draw[:n_pairs], draw[n_pairs:]


def doublet_scores(counts, parents, n_neighbors: int, n_comps: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of observed and simulated cells, float64 of the host; see :func:`scrublet`.

    Parameters
    ----------
    counts
        CSR (cells, genes): counts of the observed cells.
    parents
        Positions of the two cells that each simulated one is the sum of, int64 (n,) each, on the backend of the counts.
    n_neighbors
        Observed neighbours, k · observed / all.
    """
    xp, n_observed = backend.xp_of(counts), counts.shape[0]
    mean, variance = gene_mean_variance(scale_rows(counts, size_factors(counts, TARGET), take_log=False))
    spread = np.where(variance > 0, np.sqrt(variance), 1.0)
    alone = xp.arange(n_observed, dtype=np.int64), xp.full(n_observed, -1, dtype=np.int64)
    seen, made = (standard_sums(counts, *pair, mean, spread) for pair in (alone, parents))
    loadings = principal_axes(seen, min(n_comps, min(seen.shape) - 1))[0]
    places = xp.empty((n_observed + made.shape[0], loadings.shape[1]))
    for first, cells in ((0, seen), (n_observed, made)):
        for start, block in dense_blocks(cells):
            places[first + start : first + start + len(block)] = block @ loadings
    ratio = made.shape[0] / n_observed
    k = min(round(n_neighbors * (1 + ratio)), len(places) - 1)
    among = later_neighbors(places, k - 1, n_observed)
    q = (among + 1) / (k + 2)
    score = q * rate / ratio / (1 - rate - q * (1 - rate - rate / ratio))
    return score[:n_observed], score[n_observed:]


def standard_sums(counts, first, second, mean, spread) -> RowBlocks:
    """Sums of two cells (one where ``second`` is -1), normalised and standardised: dense float32, a strip at a time.

    Parameters
    ----------
    counts
        CSR (cells, genes).
    first, second
        int64 (n,) positions on the backend of the counts.
    mean, spread
        float64 (genes,) of the host.
    """
    xp, parts, n_genes = backend.xp_of(counts), backend.csr_parts(counts, np.float32), counts.shape[1]
    mean, spread = xp.asarray(mean), xp.asarray(spread)

    def take(start, stop):
        out = xp.empty((stop - start, n_genes), dtype=np.float32)
        kernels.standard_sums(stop - start, first[start:stop], second[start:stop], *parts, TARGET, mean, spread, n_genes, out)
        return out

    return RowBlocks(take, [*range(0, len(first), STRIP), len(first)], (len(first), n_genes), xp)


def minimum_between_modes(values: np.ndarray) -> float:
    """Where the smoothed histogram is lowest between its two modes (Prewitt & Mendelsohn 1966); NaN where it has not two."""
    counts, edges = np.histogram(values, BINS)
    smooth, modes = kernels.smoothed(counts.astype(np.float32), MAX_SMOOTHINGS)
    if modes.size != 2:
        return np.nan
    lowest = modes[0] + int(np.argmin(smooth[modes[0] : modes[1] + 1]))
    return float((edges[lowest] + edges[lowest + 1]) / 2)
