"""Neighbourhoods of clusters: equal to squidpy's and networkx's, by hand on a 3 x 3 grid, degenerate clusters."""

import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import squidpy as sq

from rsc_core import backend, gr
from rsc_core.errors import InvalidInput
from rsc_core.gr._permute import FEW, orders


def grid(side=3, labels=None, to_xp=lambda value: value, **obs):
    """Points on a square grid with clusters; X, which says where the work runs, is empty."""
    n = side * side
    labels = ["a"] * (n // 2) + ["b"] * (n - n // 2) if labels is None else labels
    adata = cases.annotated(to_xp(np.zeros((n, 1), dtype=np.float32)), cluster=pd.Categorical(labels), **obs)
    adata.obsm["spatial"] = np.stack(np.meshgrid(range(side), range(side)), axis=-1).reshape(-1, 2).astype(float)
    gr.spatial_neighbors(adata, coord_type="grid", n_neighs=4)
    return adata


def scattered(to_xp=lambda value: value, n=400, n_groups=5):
    """Points anywhere, clusters in stripes with noise, a directed graph of the nearest."""
    generator = np.random.default_rng(0)
    points = generator.uniform(0, 10, (n, 2))
    labels = np.where(generator.random(n) < 0.3, generator.integers(0, n_groups, n), (points[:, 0] * n_groups / 10).astype(int))
    adata = cases.annotated(to_xp(np.zeros((n, 1), dtype=np.float32)), cluster=pd.Categorical(labels.astype(str)))
    adata.obsm["spatial"] = points
    gr.spatial_neighbors(adata, coord_type="generic")
    return adata


def host(adata):
    copied = adata.copy()
    copied.X = np.zeros((adata.n_obs, 1), dtype=np.float32)
    return copied


def test_by_hand_on_nine_points(to_xp):
    # a a a / a b b / b b b: edges within a: 01 12 03; within b: 45 78 67 47 58; between: 14 25 36 34.
    adata = grid(to_xp=to_xp)
    assert gr.interaction_matrix(adata, "cluster", copy=True).tolist() == [[6, 4], [4, 10]]
    result = gr.nhood_enrichment(adata, "cluster", n_perms=50, copy=True)
    assert result.counts.tolist() == [[6, 4], [4, 10]] and result.zscore[0, 0] > 0 > result.zscore[0, 1]
    scores = gr.centrality_scores(adata, "cluster", copy=True)
    # Outside a lie 4 5 6 7 8, in 1 1 1 2 2 steps; outside b lie 0 1 2 3, in 2 1 1 1 steps; a square has no triangles.
    assert scores["closeness_centrality"].tolist() == [5 / 7, 4 / 5]
    assert scores["degree_centrality"].tolist() == [3 / 5, 3 / 4] and (scores["average_clustering"] == 0).all()


def test_counts_equal_squidpy(to_xp):
    adata = scattered(to_xp)
    result = gr.nhood_enrichment(adata, "cluster", n_perms=300, copy=True)
    theirs = sq.gr.nhood_enrichment(host(adata), "cluster", n_perms=300, seed=0, copy=True, show_progress_bar=False)
    np.testing.assert_array_equal(result.counts, theirs.counts)
    # Two estimates of the same mean and deviation, from 300 permutations each: deviations within 4 sqrt(2/600) of each other.
    np.testing.assert_allclose(result.zscore, theirs.zscore, rtol=0.25, atol=0.4)
    assert (result.pvalues[np.abs(result.zscore) > 6] == 1 / 301).all()


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_interactions_equal_squidpy(weights, normalized):
    adata = scattered()
    adata.obsp["spatial_connectivities"] = adata.obsp["spatial_distances"]
    ours, theirs = (
        f(adata, "cluster", weights=weights, normalized=normalized, copy=True) for f in (gr.interaction_matrix, sq.gr.interaction_matrix)
    )
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_centralities_equal_squidpy(to_xp):
    adata = scattered(to_xp, n=200)
    theirs = sq.gr.centrality_scores(host(adata), "cluster", copy=True, show_progress_bar=False)
    gr.centrality_scores(adata, "cluster")
    pd.testing.assert_frame_equal(adata.uns["cluster_centrality_scores"][theirs.columns], theirs, rtol=1e-12, check_names=False)
    one = gr.centrality_scores(adata, "cluster", score="degree_centrality", copy=True)
    assert list(one) == ["degree_centrality"]


def test_two_components_and_one_cluster(to_xp):
    adata = grid(labels=["a"] * 3 + ["b"] * 3 + ["c"] * 3, to_xp=to_xp)
    graph = adata.obsp["spatial_connectivities"].tolil()
    graph[6:, :6], graph[:6, 6:] = 0, 0
    adata.obsp["spatial_connectivities"] = graph.tocsr()
    scores = gr.centrality_scores(adata, "cluster", copy=True)
    assert scores["closeness_centrality"].tolist() == [2.0, 2.0, 0.0]  # 6 cells outside, 3 of them one step away; none reaches c
    adata.obs["cluster"] = pd.Categorical(["a"] * 9)
    assert gr.centrality_scores(adata, "cluster", copy=True).to_numpy().tolist() == [[0, 0, 0]]
    with pytest.raises(InvalidInput, match="cluster has 1 cluster"):
        gr.nhood_enrichment(adata, "cluster")


def test_cells_without_a_cluster_are_left_out(to_xp):
    adata = grid(labels=["a", "a", "a", "a", None, "b", "b", "b", "b"], to_xp=to_xp)
    assert gr.interaction_matrix(adata, "cluster", copy=True).tolist() == [[6, 2], [2, 6]]
    assert gr.nhood_enrichment(adata, "cluster", n_perms=5, copy=True).counts.tolist() == [[6, 2], [2, 6]]


def test_blocks_of_permutations_change_nothing(to_xp, monkeypatch):
    adata = scattered(to_xp)
    whole = gr.nhood_enrichment(adata, "cluster", n_perms=20, seed=3, copy=True)
    for size in ("ORDER_SIZE", "CACHED_SIZE"):
        monkeypatch.setattr(f"rsc_core.gr._nhood.{size}", 1200)
    monkeypatch.setattr("numba.get_num_threads", lambda: 1)
    for one, other in zip(whole, gr.nhood_enrichment(adata, "cluster", n_perms=20, seed=3, copy=True), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (gr.nhood_enrichment(adata, "cluster", n_perms=20, seed=4, copy=True).zscore != whole.zscore).any()


def test_permutations_stay_within_a_library(to_xp):
    """Each library is one cluster: no permutation changes a count."""
    adata = grid(side=4, to_xp=to_xp, library=pd.Categorical(["x", "y"] * 8))
    adata.obs["cluster"] = adata.obs["library"]
    result = gr.nhood_enrichment(adata, "cluster", library_key="library", n_perms=20, copy=True)
    assert np.isnan(result.zscore).all() and (result.pvalues == 1).all()


@pytest.mark.parametrize("n", [1, 3, FEW, FEW + 1, 3000])
def test_orders_are_permutations_by_number(to_xp, n):
    xp = backend.xp_of(to_xp(np.zeros(1)))
    some = backend.to_host(orders(7, "nhood", n, 0, 6, xp))
    np.testing.assert_array_equal(np.sort(some, axis=1), np.tile(np.arange(n), (6, 1)))
    np.testing.assert_array_equal(some[4:], orders(7, "nhood", n, 4, 2))
    libraries = np.arange(n) % 3
    within = backend.to_host(orders(7, "nhood", n, 0, 6, xp, libraries))
    np.testing.assert_array_equal(libraries[within], np.tile(libraries, (6, 1)))


def test_orders_are_equally_likely():
    # 24 permutations of 4, 24,000 drawn: chi-square with 23 degrees of freedom is below 65 but for once in 10^5.
    some = orders(1, "nhood", 4, 0, 24_000) @ np.array([64, 16, 4, 1])
    assert ((np.unique(some, return_counts=True)[1] - 1000) ** 2 / 1000).sum() < 65
    # Places of 300 cells: 299^2 degrees of freedom, five standard deviations.
    some, n = orders(1, "nhood", 300, 0, 6_000), 300
    found = np.stack([np.bincount(some[:, i], minlength=n) for i in range(n)])
    assert abs(((found - 20) ** 2 / 20).sum() - 299**2) < 5 * np.sqrt(2) * 299
    # Neighbours stay neighbours as rarely as chance has it: mean 5,980 of 6,000 x 299 pairs.
    assert abs((np.diff(some, axis=1) == 1).sum() - 5980) < 5 * np.sqrt(5980)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: gr.nhood_enrichment(a, "kind"), "cluster_key 'kind'"),
        (lambda a: gr.nhood_enrichment(a, "cluster", library_key="kind"), "library_key 'kind'"),
        (lambda a: gr.nhood_enrichment(a, "cluster", n_perms=0), "n_perms is 0"),
        (lambda a: gr.interaction_matrix(a, "cluster", connectivity_key="graph"), "Run spatial_neighbors first"),
        (lambda a: gr.centrality_scores(a, "cluster", score="degree"), "score is 'degree'"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(grid())


def test_a_point_without_neighbours_is_in_no_pair():
    adata = grid()
    adata.obsp["spatial_connectivities"] = sp.csr_matrix((9, 9))
    assert gr.interaction_matrix(adata, "cluster", copy=True).sum() == 0
    assert np.isnan(gr.nhood_enrichment(adata, "cluster", n_perms=5, copy=True).zscore).all()
