"""Neighbours and weights against scanpy with an exact search, and at the edges."""

import math

import anndata as ad
import numba
import numpy as np
import pytest

from rsc_core import backend
from rsc_core.kernels.device import exp_double, log_double
from rsc_core.pp._neighbors import neighbors
from rsc_core.pp._search import SURPLUS, chosen_algorithm, find_neighbors


def blobs(n_cells, n_dims=10, seed=0, n_blobs=4):
    random = np.random.default_rng(seed)
    centres = random.normal(scale=4, size=(n_blobs, n_dims))
    return (centres[random.integers(n_blobs, size=n_cells)] + random.normal(size=(n_cells, n_dims))).astype(np.float32)


def with_pca(x):
    return ad.AnnData(obs={"cell": [str(i) for i in range(len(x))]}, obsm={"X_pca": x})


def exact(x, n_nearest):
    """All distances in float64; ties by index; the cell itself kept out."""
    x = x.astype(np.float64)
    square = ((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)
    np.fill_diagonal(square, np.inf)
    nearest = np.argsort(square, axis=1, kind="stable")[:, :n_nearest]
    return nearest, np.sqrt(np.take_along_axis(square, nearest, axis=1))


def test_exp_is_within_one_unit_of_the_last_place():
    @numba.njit
    def exps(x, out):
        for i in range(x.size):
            out[i] = exp_double(x[i])

    x = np.concatenate([np.linspace(-708, 709, 200_001), -np.logspace(-20, 2, 20_000), [0.0]])
    out = np.empty_like(x)
    exps(x, out)
    theirs = np.array([math.exp(v) for v in x])
    assert np.max(np.abs(out - theirs) / np.spacing(theirs)) <= 1
    assert exp_double(0.0) == 1.0
    assert exp_double(-800.0) == 0.0
    assert exp_double(800.0) == np.inf


def test_log_is_within_two_units_of_the_last_place():
    x = np.concatenate([np.exp(np.linspace(-300, 300, 2001)), 1 + np.linspace(-0.3, 0.45, 1001), [1.0, np.sqrt(0.5), np.sqrt(2.0)]])
    found = np.array([log_double(value) for value in x])
    assert (np.abs(found - np.log(x)) <= 2 * np.spacing(np.abs(np.log(x)))).all()
    assert log_double(1.0) == 0.0


@pytest.mark.parametrize("n_cells", [3, 16, 15 + SURPLUS, 16 + SURPLUS, 700])
def test_neighbours_are_exact(to_xp, n_cells):
    x, n_nearest = blobs(n_cells), min(14, n_cells - 1)
    nearest, distance = (backend.to_host(a) for a in find_neighbors(to_xp(x), n_nearest)[:2])
    theirs, their_distance = exact(x, n_nearest)
    np.testing.assert_array_equal(nearest, theirs)
    np.testing.assert_allclose(distance, their_distance, rtol=1e-14)  # the order of ten additions


def test_a_far_offset_costs_float32_its_digits_but_no_neighbour(to_xp):
    x = blobs(600).astype(np.float64)
    x[:300] += 1e5  # two far groups: centring cannot help
    nearest, *_ = find_neighbors(to_xp(x), 14)
    np.testing.assert_array_equal(backend.to_host(nearest), exact(x, 14)[0])


def test_equals_scanpy(to_xp):
    import scanpy as sc

    x = blobs(1200, 20)
    ours, theirs = with_pca(to_xp(x)), with_pca(x)
    neighbors(ours, 15)
    sc.pp.neighbors(theirs, 15, use_rep="X_pca", transformer="sklearn")
    mine, other = backend.to_host(ours.obsp["distances"]), theirs.obsp["distances"]
    other.sort_indices()
    np.testing.assert_array_equal(np.diff(mine.indptr), 14)
    np.testing.assert_array_equal(mine.indices, other.indices)
    np.testing.assert_allclose(mine.data, other.data, rtol=1e-5)  # scanpy's expand |x|^2 + |y|^2 - 2xy
    mine, other = backend.to_host(ours.obsp["connectivities"]), theirs.obsp["connectivities"]
    np.testing.assert_allclose(mine.toarray(), other.toarray(), atol=1e-5)  # they bisect in float32
    assert mine.has_sorted_indices
    assert mine.dtype == np.float32
    assert abs(mine - mine.T).max() == 0


def test_cosine_equals_scanpy(to_xp):
    import scanpy as sc

    x = blobs(500, 20)
    ours, theirs = with_pca(to_xp(x)), with_pca(x)
    neighbors(ours, 10, metric="cosine")
    sc.pp.neighbors(theirs, 10, use_rep="X_pca", metric="cosine", transformer="sklearn")
    mine, other = backend.to_host(ours.obsp["distances"]), theirs.obsp["distances"]
    other.sort_indices()
    np.testing.assert_array_equal(mine.indices, other.indices)
    np.testing.assert_allclose(mine.data, other.data, atol=1e-6)


def test_doubling_the_coordinates_doubles_the_distances_and_keeps_the_neighbours(to_xp):
    x = blobs(500)
    nearest, distance, _ = find_neighbors(to_xp(x), 14)
    again, doubled, _ = find_neighbors(to_xp(2 * x), 14)
    np.testing.assert_array_equal(backend.to_host(nearest), backend.to_host(again))
    np.testing.assert_array_equal(2 * backend.to_host(distance), backend.to_host(doubled))


def test_correlation_is_cosine_of_centred_rows(to_xp):
    x = blobs(300, 20)
    x[5] = 3.0  # constant: no correlation is defined, 0.5 from every other
    nearest, distance, _ = (backend.to_host(a) if hasattr(a, "shape") else a for a in find_neighbors(to_xp(x), 12, "correlation"))
    with np.errstate(invalid="ignore"):
        truth = 1 - np.corrcoef(x.astype(np.float64))
    truth[5], truth[:, 5] = 0.5, 0.5
    np.fill_diagonal(truth, np.inf)
    rows = np.arange(300) != 5
    np.testing.assert_array_equal(nearest[rows], np.argsort(truth, axis=1, kind="stable")[rows, :12])
    np.testing.assert_allclose(distance, np.take_along_axis(truth, nearest, axis=1), atol=1e-14)


def test_gauss_equals_scanpy(to_xp):
    import scanpy as sc

    x = blobs(400, 20)
    ours, theirs = with_pca(to_xp(x)), with_pca(x)
    neighbors(ours, 12, method="gauss")
    sc.pp.neighbors(theirs, 12, use_rep="X_pca", method="gauss", transformer="sklearn")
    mine, other = backend.to_host(ours.obsp["connectivities"]), theirs.obsp["connectivities"]
    np.testing.assert_allclose(mine.toarray(), other.toarray(), atol=1e-5)  # their distances: |x|^2 + |y|^2 - 2xy in float32
    assert abs(mine - mine.T).max() == 0


def test_jaccard_is_its_definition(to_xp):
    x = blobs(200)
    adata = with_pca(to_xp(x))
    neighbors(adata, 9, method="jaccard")
    sets = [set(row) for row in exact(x, 8)[0]]
    there = np.array([[len(a & b) / len(a | b) if j in a else 0 for j, b in enumerate(sets)] for a in sets])
    mine = backend.to_host(adata.obsp["connectivities"])
    np.testing.assert_allclose(mine.toarray(), (there + there.T) / 2, rtol=1e-6)  # stored in float32
    assert (mine.data > 0).all()


@pytest.mark.parametrize("method", ["gauss", "jaccard"])
def test_weights_of_duplicates(to_xp, method):
    x = np.repeat(blobs(4), 30, axis=0)
    adata = with_pca(to_xp(x))
    neighbors(adata, 10, method=method)
    weights = backend.to_host(adata.obsp["connectivities"])
    assert np.isfinite(weights.data).all() and weights.data.max() <= 1 and weights.data.min() > 0
    assert abs(weights - weights.T).max() == 0


def test_lists_find_99_in_100_and_say_so(to_xp):
    x = blobs(3000, 12, n_blobs=6)
    adata = with_pca(to_xp(x))
    neighbors(adata, 15, algorithm="ivf", random_state=3)
    params = adata.uns["neighbors"]["params"]
    distances = backend.to_host(adata.obsp["distances"])
    truth, _, _ = find_neighbors(x, 14)
    found = distances.indices.reshape(3000, 14)
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)])
    assert recall >= 0.99
    # 14,000 neighbours of the sample: three standard errors of a share of 0.995.
    assert abs(params["recall"] - recall) < 3 * math.sqrt(0.995 * 0.005 / 14_000) + 1e-9
    assert params["algorithm"] == "ivf" and params["random_state"] == 3 and params["n_probes"] < params["n_lists"]
    again = find_neighbors(x, 14, algorithm="ivf", seed=3)[0]
    np.testing.assert_array_equal(np.sort(again, axis=1), found)


def test_lists_of_duplicates(to_xp):
    x = np.repeat(blobs(3), 40, axis=0)
    nearest, _, about = find_neighbors(to_xp(x), 14, algorithm="ivf")
    np.testing.assert_array_equal(backend.to_host(nearest), exact(x, 14)[0])
    assert about["recall"] == 1


def test_graph_search_reaches_its_recall(to_xp):
    x = blobs(3000, 20)
    xp = backend.xp_of(to_xp(x))
    truth = find_neighbors(x, 14)[0]
    for algorithm in ("hnsw",) if xp is np else ("cagra", "nn_descent"):
        nearest, _, about = find_neighbors(to_xp(x), 14, algorithm=algorithm)
        found = backend.to_host(nearest)
        assert about["recall"] >= 0.99
        assert np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]) >= 0.985
        assert not (found == np.arange(3000)[:, None]).any()
    with pytest.raises(ValueError, match="only"):
        find_neighbors(to_xp(x), 14, algorithm="cagra" if xp is np else "hnsw")


def test_algorithm_is_chosen_by_size():
    assert [chosen_algorithm("auto", n) for n in (500_000, 500_001)] == ["exact", "ivf"]
    assert chosen_algorithm("hnsw", 100) == "hnsw"


def test_duplicated_cells_are_neighbours_in_the_order_of_their_index(to_xp):
    x = np.repeat(blobs(4), 60, axis=0)  # more duplicates than candidates
    adata = with_pca(to_xp(x))
    neighbors(adata, 15)
    distances = backend.to_host(adata.obsp["distances"])
    assert distances.nnz == 240 * 14
    np.testing.assert_array_equal(distances.data, 0)
    np.testing.assert_array_equal(distances[59].indices, np.arange(14))
    weights = backend.to_host(adata.obsp["connectivities"])
    np.testing.assert_array_equal(weights.data, 1)


def test_fewer_cells_than_neighbours_are_reduced_with_a_warning(to_xp):
    adata = with_pca(to_xp(blobs(8)))
    with pytest.warns(UserWarning, match="exceeds the 8 cells"):
        neighbors(adata, 15)
    assert adata.uns["neighbors"]["params"]["n_neighbors"] == 5
    np.testing.assert_array_equal(np.diff(backend.to_host(adata.obsp["distances"]).indptr), 4)


def test_what_cannot_be_used_is_refused(to_xp):
    x = blobs(20)
    with pytest.raises(ValueError, match="2 cells"):
        neighbors(with_pca(to_xp(x[:2])))
    x[7, 3] = np.nan
    with pytest.raises(ValueError, match="row 7"):
        neighbors(with_pca(to_xp(x)))
    with pytest.raises(ValueError, match="metric is 'hamming'"):
        neighbors(with_pca(to_xp(x)), metric="hamming")


def test_every_backend_and_run_gives_the_same_bits(to_xp):
    x = blobs(3000, 30)
    graphs = []
    for place in (np.asarray, to_xp):
        adata = with_pca(place(x))
        neighbors(adata)
        graphs.append([backend.to_host(adata.obsp[key]) for key in ("distances", "connectivities")])
    for mine, other in zip(*graphs, strict=True):
        np.testing.assert_array_equal(mine.indptr, other.indptr)
        np.testing.assert_array_equal(mine.indices, other.indices)
        np.testing.assert_array_equal(mine.data, other.data)
