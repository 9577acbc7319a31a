"""Doublets: cells that lie among sums of two others."""

from __future__ import annotations

import warnings

import numpy as np

from rsc_core import backend, data, rng
from rsc_core.pp._blocks import in_memory
from rsc_core.pp._hvg_flavors import by_dispersion
from rsc_core.pp._moments import gene_mean_variance, some_rows, totals
from rsc_core.pp._normalize import lognorm, scale_rows, size_factors
from rsc_core.pp._pca import dense_blocks, principal_components, select_genes
from rsc_core.pp._scale import scaled
from rsc_core.pp._within import later_neighbors

BINS, MAX_SMOOTHINGS = 256, 10_000  # of the histogram of simulated scores, as scikit-image's threshold_minimum
LIMITS = (0.0125, 3.0, 0.5, np.inf)  # of the seurat flavor's means and dispersions, scanpy's defaults
MIN_CELLS = 10  # of a batch; fewer have no neighbourhood


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
    label = adata.obs[batch_key].astype(str).to_numpy() if batch_key else np.full(adata.n_obs, "all")
    score, doublet, records = np.full(adata.n_obs, np.nan), np.zeros(adata.n_obs, dtype=bool), {}
    for name in np.unique(label):
        rows = np.flatnonzero(label == name)
        part, genes = prepared(some_rows(counts, rows))
        kept = totals(part, 1, expressed=True) >= 3
        rows, observed = rows[kept], in_memory(select_genes(some_rows(part, np.flatnonzero(kept)), genes))
        if rows.size < MIN_CELLS or genes.size < 2:
            warnings.warn(f"batch {str(name)!r} is not scored: {rows.size} cells, {genes.size} highly variable genes", stacklevel=2)
            continue
        first, second = pairs(random_state, rows.size, round(sim_doublet_ratio * rows.size))
        simulated = some_rows(observed, first) + some_rows(observed, second)
        k = n_neighbors or round(0.5 * np.sqrt(rows.size))
        observed, simulated = (scale_rows(x, size_factors(x, 1e6), take_log=False) for x in (observed, simulated))
        score[rows], simulated_score = doublet_scores(observed, simulated, k, n_prin_comps, expected_doublet_rate)
        limit = minimum_between_modes(simulated_score) if threshold is None else threshold
        doublet[rows] = score[rows] > limit
        records[str(name)] = {"threshold": limit, "doublet_scores_sim": simulated_score, "n_neighbors": k}
    params = {"expected_doublet_rate": expected_doublet_rate, "sim_doublet_ratio": sim_doublet_ratio, "random_state": random_state}
    adata.obs["doublet_score"], adata.obs["predicted_doublet"] = score, doublet
    adata.uns["scrublet"] = {"parameters": params}
    adata.uns["scrublet"] |= {"batches": records, "batched_by": batch_key} if batch_key else records.get("all", {})


def prepared(counts):
    """Counts of the genes that 3 cells express, and the positions among them of those that vary (seurat's dispersions)."""
    part = select_genes(counts, np.flatnonzero(totals(counts, 0, expressed=True) >= 3))
    if min(part.shape) < 2:
        return part, np.empty(0, dtype=np.int64)
    columns = by_dispersion(lognorm(part, size_factors(part)), [np.arange(part.shape[0])], "seurat", None, LIMITS, 20, None)
    return part, np.flatnonzero(columns["highly_variable"])


def pairs(seed: int, n_cells: int, n_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the two parents of each simulated doublet: int64 (n_pairs,) each, of the host."""
    draw = (rng.uniform(seed, "doublets", np.arange(2 * n_pairs, dtype=np.uint64)) * n_cells).astype(np.int64)
    return draw[:n_pairs], draw[n_pairs:]


def doublet_scores(observed, simulated, n_neighbors: int, n_comps: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of observed and simulated cells, float64 of the host; see :func:`scrublet`.

    Parameters
    ----------
    observed, simulated
        CSR (cells, genes), normalised, of the same genes.
    n_neighbors
        Observed neighbours, k · observed / all.
    """
    xp, n_observed = backend.xp_of(observed.data), observed.shape[0]
    mean, variance = gene_mean_variance(observed)
    spread = np.where(variance > 0, np.sqrt(variance), 1.0)
    seen, made = (scaled(x, np.ones(x.shape[0], dtype=bool), mean, spread, np.inf) for x in (observed, simulated))
    scores, loadings, _, _ = principal_components(seen, min(n_comps, min(seen.shape) - 1))
    places = xp.empty((n_observed + made.shape[0], scores.shape[1]))
    for start, block in dense_blocks(seen):  # both by the same product: the stored scores are rounded to float32
        places[start : start + len(block)] = block @ loadings
    for start, block in dense_blocks(made):
        places[n_observed + start : n_observed + start + len(block)] = block @ loadings
    ratio = made.shape[0] / n_observed
    k = min(round(n_neighbors * (1 + ratio)), len(places) - 1)
    among = later_neighbors(places, k - 1, n_observed)
    q = (among + 1) / (k + 2)
    score = q * rate / ratio / (1 - rate - q * (1 - rate - rate / ratio))
    return score[:n_observed], score[n_observed:]


def minimum_between_modes(values: np.ndarray) -> float:
    """Where the smoothed histogram is lowest between its two modes (Prewitt & Mendelsohn 1966); NaN where it has not two."""
    from scipy.ndimage import uniform_filter1d

    counts, edges = np.histogram(values, BINS)
    smooth = counts.astype(np.float32)
    for _ in range(MAX_SMOOTHINGS):
        smooth = uniform_filter1d(smooth, 3)
        step = np.diff(smooth)
        place = np.flatnonzero(step)
        falls = step[place] < 0
        modes = place[falls & ~np.r_[False, falls[:-1]]]
        if modes.size < 3:
            break
    if modes.size != 2:
        return np.nan
    lowest = modes[0] + int(np.argmin(smooth[modes[0] : modes[1] + 1]))
    return float((edges[lowest] + edges[lowest + 1]) / 2)
