"""Niches: surroundings equal to squidpy's and by hand, clusters that a planted tissue shows, degenerate cells."""

import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.sparse.csgraph import shortest_path
from squidpy.gr import _niche as theirs

from rsc_core import gr
from rsc_core.gr._niche import averaged, profile, rings


def striped(to_xp=lambda value: value, side=16):
    """Two halves of a tissue in which the same two types of cells are mixed 8 : 2 and 2 : 8, with genes of their types."""
    generator, n = np.random.default_rng(0), side * side
    points = np.stack(np.meshgrid(range(side), range(side)), axis=-1).reshape(-1, 2)
    half = (points[:, 0] >= side // 2).astype(int)
    kind = np.where(generator.random(n) < 0.2, 1 - half, half)
    x = generator.poisson(1 + 6 * (kind[:, None] == np.arange(20) % 2)).astype(np.float32)
    adata = cases.annotated(
        to_xp(x), kind=pd.Categorical(kind.astype(str)), library=pd.Categorical(np.where(points[:, 1] < side // 2, "u", "v"))
    )
    adata.obsm["spatial"], adata.obsm["X_rep"] = points.astype(float), x[:, :4].astype(np.float64)
    gr.spatial_neighbors(adata, coord_type="generic", n_neighs=8)
    return adata, half


def test_profiles_equal_squidpy():
    adata, _ = striped()
    graph = adata.obsp["spatial_connectivities"]
    for steps, absolute in ((1, False), (1, True)):
        expected = theirs._calculate_neighborhood_profile(adata, "kind", graph.tocoo(), absolute)
        np.testing.assert_allclose(profile(graph, pd.Categorical(adata.obs["kind"]), steps, None, False, absolute), expected, rtol=1e-14)


def test_rings_equal_shortest_paths():
    """squidpy 1.8 asks for two walks to a cell of the second ring; the paper's rings are those of the shortest path."""
    adata, _ = striped()
    graph, x = adata.obsp["spatial_connectivities"], adata.obsm["X_rep"]
    ours, steps = rings(graph, x, 3).reshape(len(x), 4, 4), shortest_path(graph, unweighted=True)
    for step in range(4):
        ring = (steps == step).astype(float)
        np.testing.assert_allclose(ours[:, step], ring @ x / ring.sum(axis=1, keepdims=True), rtol=1e-12)


def test_surroundings_by_hand():
    # A line a - b - c - d with the values 0 1 2 3; types x y y x.
    line = sp.csr_matrix(np.diag(np.ones(3), 1) + np.diag(np.ones(3), -1))
    x = np.arange(4.0)[:, None]
    np.testing.assert_array_equal(rings(line, x, 2), [[0, 1, 2], [1, 1, 3], [2, 2, 0], [3, 2, 1]])
    np.testing.assert_array_equal(rings(line, x, 1, "variance")[:, 1], [0, 1, 1, 0])
    kinds = pd.Categorical(["x", "y", "y", "x"])
    np.testing.assert_array_equal(profile(line, kinds, scale=False), [[0, 1], [0.5, 0.5], [0.5, 0.5], [0, 1]])
    np.testing.assert_array_equal(profile(line, kinds, 2, [1, 0], False), profile(line, kinds, scale=False))
    alone = sp.csr_matrix((2, 2))
    assert averaged(alone).nnz == 0 and averaged(alone, itself=True).toarray().tolist() == [[1, 0], [0, 1]]
    np.testing.assert_array_equal(profile(alone, pd.Categorical(["x", None])), [[0], [0]])


@pytest.mark.parametrize(
    ("flavor", "options", "column"),
    [
        ("neighborhood", {"groups": "kind", "distance": 3, "resolutions": 0.1}, "nhood_niche_res=0.1"),
        ("utag", {"resolutions": 0.1}, "utag_niche_res=0.1"),
        ("cellcharter", {"n_components": 4, "use_rep": "X_rep"}, "cellcharter_niche"),
        ("smoothed", {"resolutions": [0.1], "distance": 5, "alpha": 0.8}, "smoothed_niche_res=0.1"),
    ],
)
def test_planted_halves_are_found(to_xp, flavor, options, column):
    adata, half = striped(to_xp)
    gr.calculate_niche(adata, flavor, **options)
    # Share of the cells in the half that has most of their niche; the types of the cells alone give 0.8.
    share = pd.Series(half).groupby(adata.obs[column].to_numpy()).agg(lambda of: max(of.sum(), len(of) - of.sum())).sum() / len(half)
    assert share > 0.86
    first = adata.obs[column].copy()
    gr.calculate_niche(adata, flavor, **options)
    assert (adata.obs[column] == first).all()


def test_libraries_mask_and_small_niches():
    adata, _ = striped()
    keep = adata.obsm["spatial"][:, 0] > 2
    gr.spatial_neighbors(adata, coord_type="generic", n_neighs=8, library_key="library")
    options = {"groups": "kind", "resolutions": [0.1, 0.5], "library_key": "library", "mask": pd.Series(keep, index=adata.obs_names)}
    gr.calculate_niche(adata, "neighborhood", **options)
    niche = adata.obs["nhood_niche_res=0.5"].astype(str)
    assert ((niche == "not_a_niche") == ~keep).all()
    assert (niche[keep].str[:6] == ("lib=" + adata.obs["library"].astype(str) + "_")[keep]).all()
    gr.calculate_niche(adata, "neighborhood", **options, min_niche_size=1000)
    assert (adata.obs["nhood_niche_res=0.1"] == "not_a_niche").all()


@pytest.mark.parametrize(
    ("flavor", "options", "message"),
    [
        ("domains", {}, "flavor is 'domains'"),
        ("neighborhood", {}, "needs a column of obs"),
        ("neighborhood", {"groups": "type"}, "groups 'type': no such column"),
        ("smoothed", {"use_rep": "X_vae"}, "no obsm\\['X_vae'\\]"),
        ("smoothed", {"alpha": 2}, "alpha is 2"),
        ("cellcharter", {"aggregation": "sum"}, "aggregation is 'sum'"),
        ("cellcharter", {"distance": 0}, "distance is 0"),
        ("utag", {"spatial_connectivities_key": "graph"}, "Run spatial_neighbors first"),
    ],
)
def test_wrong_arguments(flavor, options, message):
    with pytest.raises(ValueError, match=message):
        gr.calculate_niche(striped(side=4)[0], flavor, **options)
