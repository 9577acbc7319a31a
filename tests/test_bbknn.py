"""Batch-balanced neighbours against the published algorithm, written out with scipy and umap-learn."""

import anndata as ad
import numpy as np
import pytest
from scipy.spatial import cKDTree

from rsc_core import backend
from rsc_core.pp._bbknn import bbknn

N_CELLS, WITHIN = 300, 3


def batches(seed=0):
    random = np.random.default_rng(seed)
    batch = random.choice(["a", "b", "c"], size=N_CELLS, p=[0.6, 0.3, 0.1])
    kind = random.integers(3, size=N_CELLS)
    shift = {"a": 0.0, "b": 3.0, "c": -2.0}
    x = random.normal(size=(N_CELLS, 8)) + 6 * np.eye(8)[kind] + np.array([shift[b] for b in batch])[:, None]
    return x.astype(np.float32), batch


def annotated(x, batch):
    return ad.AnnData(obs={"batch": batch}, obsm={"X_pca": x})


def reference(x, batch, trim):
    """The steps of bbknn.matrix: k-d trees of the batches, umap-learn's weights, thresholds of rows, then of columns."""
    import scipy.sparse as sp
    from umap.umap_ import fuzzy_simplicial_set

    distance, index = [], []
    for name in np.unique(batch):
        members = np.flatnonzero(batch == name)
        d, i = cKDTree(x[members]).query(x, k=WITHIN)
        distance.append(d)
        index.append(members[i])
    distance, index = np.hstack(distance), np.hstack(index)
    order = np.argsort(distance, axis=1)
    distance, index = np.take_along_axis(distance, order, axis=1), np.take_along_axis(index, order, axis=1)
    weights = fuzzy_simplicial_set(sp.coo_matrix((len(x), 1)), index.shape[1], None, None, knn_indices=index, knn_dists=distance)[0]
    dense = weights.toarray()
    threshold = np.zeros(len(x))
    for i, row in enumerate(dense):
        stored = row[row > 0]
        if trim and len(stored) > trim:
            threshold[i] = np.sort(stored)[-trim]
    dense[dense < threshold[:, None]] = 0
    dense[dense < threshold[None, :]] = 0
    return index, distance, dense


@pytest.mark.parametrize("trim", [0, 12, None])
def test_equals_the_published_algorithm(to_xp, trim):
    x, batch = batches()
    adata = annotated(to_xp(x), batch)
    bbknn(adata, neighbors_within_batch=WITHIN, trim=trim)
    index, distance, weights = reference(x, batch, trim=10 * WITHIN * 3 if trim is None else trim)
    mine = backend.to_host(adata.obsp["distances"])
    for cell in range(N_CELLS):
        row = mine[cell]
        order = np.argsort(row.data)
        np.testing.assert_array_equal(row.indices[order], index[cell][1:])  # theirs begins with the cell itself
        np.testing.assert_allclose(row.data[order], distance[cell][1:], rtol=1e-6)  # stored in float32
    mine = backend.to_host(adata.obsp["connectivities"])
    np.testing.assert_allclose(mine.toarray(), weights, atol=1e-5)  # umap-learn bisects in float32
    assert abs(mine - mine.T).max() == 0
    params = adata.uns["neighbors"]["params"]
    assert params["n_neighbors"] == 9 and params["trim"] == (90 if trim is None else trim) and params["batch_key"] == "batch"


def test_trimming_removes_edges_and_keeps_the_strongest(to_xp):
    x, batch = batches(1)
    adata = annotated(to_xp(x), batch)
    bbknn(adata, trim=0)
    whole = backend.to_host(adata.obsp["connectivities"]).toarray()
    bbknn(adata, trim=5)
    kept = backend.to_host(adata.obsp["connectivities"]).toarray()
    assert 0 < (kept > 0).sum() < (whole > 0).sum()
    np.testing.assert_array_equal(kept[kept > 0], whole[kept > 0])
    fifth = np.sort(whole, axis=1)[:, -5]
    np.testing.assert_array_equal(kept > 0, (whole > 0) & (whole >= np.maximum(fifth[:, None], fifth[None, :])))


def test_batches_are_balanced_and_one_batch_is_plain_neighbours(to_xp):
    from rsc_core.pp._neighbors import neighbors

    x, batch = batches(2)
    adata = annotated(to_xp(x), batch)
    bbknn(adata)
    rows = backend.to_host(adata.obsp["distances"])
    for cell in range(N_CELLS):
        names, number = np.unique(batch[rows[cell].indices], return_counts=True)
        assert dict(zip(names, number, strict=True)) == {b: WITHIN - (b == batch[cell]) for b in "abc"}
    alone = annotated(to_xp(x), ["a"] * N_CELLS)
    bbknn(alone, neighbors_within_batch=10, trim=0)
    one = backend.to_host(alone.obsp["connectivities"])
    neighbors(alone, 10)
    assert abs(one - backend.to_host(alone.obsp["connectivities"])).max() == 0


def test_a_batch_of_as_many_cells_as_neighbours_and_of_one_fewer(to_xp):
    x, batch = batches(3)
    batch[batch == "c"] = "a"
    batch[:3] = "c"
    adata = annotated(to_xp(x), batch)
    bbknn(adata)
    assert set(backend.to_host(adata.obsp["distances"])[7].indices) >= {0, 1, 2}
    batch[2] = "a"
    with pytest.raises(ValueError, match="'c'.*has 2 cells"):
        bbknn(annotated(to_xp(x), batch))
    with pytest.raises(KeyError, match="donor"):
        bbknn(adata, "donor")


def test_one_neighbour_in_each_batch(to_xp):
    """Of its own batch a cell then has none but itself."""
    x, batch = batches(4)
    adata = annotated(to_xp(x), batch)
    bbknn(adata, neighbors_within_batch=1)
    rows = backend.to_host(adata.obsp["distances"])
    assert all(set(batch[rows[cell].indices]) == set("abc") - {batch[cell]} for cell in range(N_CELLS))
