"""scrublet against scanpy's on the same simulated doublets, scikit-image's threshold, and known doublets."""

import tracemalloc

import anndata as ad
import cases
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from rsc_core import backend, pp
from rsc_core.pp import _scrublet, _within
from rsc_core.pp._blocks import STRIP, rows_in_blocks
from rsc_core.pp._neighbors import nearest_neighbors
from rsc_core.pp._normalize import scale_rows, size_factors
from rsc_core.pp._scrublet import doublet_scores, minimum_between_modes, pairs
from rsc_core.pp._search import nearest_among


def with_doublets(n_cells=300, n_doublets=30, n_genes=200):
    """Cells of three types, the last of them sums of two of unlike types."""
    counts = cases.counts(n_cells, n_genes, mean=2, seed=3)
    made = counts[:n_doublets] + counts[1 : n_doublets + 1]
    return sp.vstack([counts, made]).tocsr()


def test_scores_are_those_of_scanpy_on_the_same_doublets(to_xp):
    counts = with_doublets()
    n_cells = counts.shape[0]
    parents = first, second = pairs(0, n_cells, 2 * n_cells)
    observed, simulated = (scale_rows(x, size_factors(x, 1e6), False) for x in (counts, counts[first] + counts[second]))
    theirs = ad.AnnData(observed.astype(np.float64))
    made = ad.AnnData(simulated.astype(np.float64), obsm={"doublet_parents": np.c_[first, second]})
    sc.pp.scrublet(theirs, adata_sim=made, use_approx_neighbors=False, n_prin_comps=15, verbose=False)
    ours, ours_made = doublet_scores(to_xp(counts), [to_xp(part) for part in parents], round(0.5 * np.sqrt(n_cells)), 15, 0.05)
    for got, wanted in ((ours, theirs.obs["doublet_score"]), (ours_made, theirs.uns["scrublet"]["doublet_scores_sim"])):
        same = np.isclose(got, wanted, rtol=1e-12, atol=0)
        assert same.mean() > 0.99, same.mean()  # float32 places there and here swap neighbours at the border
    assert minimum_between_modes(ours_made) == pytest.approx(theirs.uns["scrublet"].get("threshold", np.nan), nan_ok=True, rel=0.02)


def test_doublets_of_unlike_cells_score_high(to_xp):
    counts = with_doublets()
    adata = cases.annotated(to_xp(counts))
    pp.scrublet(adata)
    score = adata.obs["doublet_score"]
    assert score.iloc[300:].median() > 2 * score.iloc[:300].median()
    again = cases.annotated(to_xp(counts.tocsc()))
    pp.scrublet(again)
    np.testing.assert_array_equal(again.obs["doublet_score"], score)


@pytest.mark.parametrize(("n_cells", "n_dims", "n_nearest"), [(40, 3, 5), (900, 30, 120), (900, 31, 899), (5000, 4, 60)])
@pytest.mark.parametrize("shape", ["spread", "clumps"])
def test_counts_within_limits_are_those_of_the_sorted_neighbours(to_xp, monkeypatch, n_cells, n_dims, n_nearest, shape):
    generator = np.random.default_rng(n_cells)
    x = generator.normal(size=(n_cells, n_dims))
    if shape == "clumps":  # more ties at the border than there is room for, and a clump far from the mean
        x[: n_cells // 3], x[-n_cells // 4 :] = x[0], np.round(x[-n_cells // 4 :]) + 1e3
    monkeypatch.setattr(_within, "ROWS", 700)
    monkeypatch.setattr(_within, "COLUMNS", 1000)
    monkeypatch.setattr(_within, "PIECE", 300)
    monkeypatch.setattr(_within.kernels, "SAMPLE", 1500)  # of the 5,000 cells a part
    wanted = (nearest_neighbors(x, n_nearest)[0] >= n_cells // 2).sum(axis=1)
    space = _within.Space.of(to_xp(x))
    np.testing.assert_array_equal(_within.by_limits(space, n_nearest, n_cells // 2), wanted)
    np.testing.assert_array_equal(_within.later_neighbors(to_xp(x), n_nearest, n_cells // 2), wanted)


@pytest.mark.parametrize("shape", ["spread", "clumps"])
def test_few_cells_are_searched_again(to_xp, monkeypatch, shape):
    searched, x = [], np.random.default_rng(0).normal(size=(3000, 10))
    if shape == "clumps":
        x[:2000] = x[0]
    monkeypatch.setattr(_within.kernels, "SAMPLE", 1000)
    monkeypatch.setattr(_within, "nearest_among", lambda *args: searched.append(len(args[1])) or nearest_among(*args))
    _within.by_limits(_within.Space.of(to_xp(x)), 80, 1000)
    assert sum(searched) < 3 if shape == "spread" else sum(searched) >= 2000


def test_blocks_by_free_memory_give_the_same_bytes(to_xp, backend_name, monkeypatch):
    """Counts that do not fit are read by strips, and neighbours are listed for a few cells at once."""
    counts = with_doublets(STRIP + 200, 100)
    whole, blocks = (cases.annotated(to_xp(counts)) for _ in range(2))
    pp.scrublet(whole)
    monkeypatch.setenv(backend.LIMITS[backend_name], "100KB")
    monkeypatch.setattr(_within, "LISTED", 100_000)
    assert len(rows_in_blocks(blocks.X, np.arange(blocks.n_obs), 32).edges) == 3
    pp.scrublet(blocks)
    pd.testing.assert_frame_equal(whole.obs, blocks.obs, check_exact=True)
    assert whole.uns["scrublet"]["doublet_scores_sim"].tobytes() == blocks.uns["scrublet"]["doublet_scores_sim"].tobytes()


def test_memory_holds_no_dense_matrix(monkeypatch):
    """40,000 cells and 80,000 doublets of 500 genes: 160 MB as dense float32; their places, a strip and the counts are 70 MB."""
    monkeypatch.setattr(_scrublet, "later_neighbors", lambda places, n_nearest, n_observed: np.zeros(len(places), dtype=np.int64))
    counts = sp.random(40_000, 500, 0.02, format="csr", random_state=0, data_rvs=lambda n: np.arange(n) % 9 + 1.0).astype(np.float32)
    parents = pairs(0, 40_000, 80_000)
    tracemalloc.start()
    doublet_scores(counts, parents, 100, 30, 0.05)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize("backend_name", [pytest.param("gpu", marks=pytest.mark.gpu)], indirect=True)
def test_memory_of_the_device_is_bounded(backend_name, monkeypatch):
    """The pool may hold 400 MB; lists of 300 neighbours of 120,000 cells would take 576 MB."""
    import cupy

    monkeypatch.setattr(_within, "ROWS", 1024)
    monkeypatch.setattr(_within, "COLUMNS", 4096)
    counts = sp.random(40_000, 2_000, 0.02, format="csr", random_state=0, data_rvs=lambda n: np.arange(n) % 9 + 1.0).astype(np.float32)
    adata = cases.annotated(backend.to_device(counts, backend_name))
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + 400 * 10**6)
    try:
        pp.scrublet(adata)
    finally:
        pool.set_limit(size=0)
    assert adata.obs["doublet_score"].notna().all()


def test_batches_are_scored_alone(to_xp):
    counts = with_doublets()
    label = np.array(["a"] * 165 + ["b"] * 160 + ["few"] * 5)
    joint = cases.annotated(to_xp(counts), batch=label)
    with pytest.warns(UserWarning, match="batch 'few' is not scored: 5 cells"):
        pp.scrublet(joint, batch_key="batch", threshold=0.2)
    alone = cases.annotated(to_xp(counts[165:325]))
    pp.scrublet(alone, threshold=0.2)
    np.testing.assert_array_equal(joint.obs["doublet_score"].iloc[165:325], alone.obs["doublet_score"])
    assert joint.obs["doublet_score"].iloc[325:].isna().all() and not joint.obs["predicted_doublet"].iloc[325:].any()
    assert set(joint.uns["scrublet"]["batches"]) == {"a", "b"}


def test_cells_without_genes_have_no_score(to_xp):
    counts = with_doublets().tolil()
    counts[7] = 0
    adata = cases.annotated(to_xp(counts.tocsr()))
    pp.scrublet(adata)
    assert np.flatnonzero(adata.obs["doublet_score"].isna()).tolist() == [7]


@pytest.mark.parametrize("seed", range(4))
def test_threshold_is_that_of_scikit_image(seed):
    from skimage.filters import threshold_minimum

    rng = np.random.default_rng(seed)
    values = np.r_[rng.beta(2, 20, 900), rng.beta(12, 12, 300 + 100 * seed)]
    assert minimum_between_modes(values) == pytest.approx(threshold_minimum(values), rel=1e-6)
    comb = np.round(values * 40) / 40  # scores are fractions: a histogram with holes
    assert minimum_between_modes(comb) == pytest.approx(threshold_minimum(comb), rel=1e-6)
    assert np.isnan(minimum_between_modes(np.ones(50)))


def test_refusals():
    adata = cases.annotated(cases.counts(20, 20))
    with pytest.raises(ValueError, match="expected_doublet_rate=0"):
        pp.scrublet(adata, expected_doublet_rate=0)
    with pytest.raises(KeyError, match="no column 'x'"):
        pp.scrublet(adata, batch_key="x")
    assert backend.xp_of(adata.X.data) is np
