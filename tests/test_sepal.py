"""Sepal: equal to squidpy's, by hand, degenerate genes and graphs."""

import cases
import numpy as np
import pytest
import scipy.sparse as sp
import squidpy as sq

from rsc_core import gr
from rsc_core.errors import InvalidInput
from rsc_core.gr._sepal import stencil


def square(side, x, to_xp=lambda value: value):
    adata = cases.annotated(to_xp(x))
    adata.obsm["spatial"] = np.stack(np.meshgrid(range(side), range(side)), axis=-1).reshape(-1, 2).astype(float)
    gr.spatial_neighbors(adata, coord_type="grid", n_neighs=4)
    return adata


def expressed(n, n_genes, side):
    generator, place = np.random.default_rng(0), np.arange(n) % side
    return generator.poisson(np.exp(np.sin(place[:, None] / generator.uniform(1, 4, n_genes)))).astype(np.float32)


@pytest.mark.parametrize("stored", [np.asarray, sp.csr_matrix])
def test_squares_equal_squidpy(to_xp, stored):
    x = expressed(144, 11, 12)
    ours = gr.sepal(square(12, stored(x), to_xp), 4, copy=True)
    theirs = sq.gr.sepal(square(12, x), 4, copy=True, show_progress_bar=False)
    # Sums in another order may move the end by one step of 0.001.
    np.testing.assert_allclose(ours["sepal_score"], theirs["sepal_score"].loc[ours.index], atol=0.0011)
    assert ours["sepal_score"].is_monotonic_decreasing and ours["sepal_score"].max() > 0.1


def test_hexagons_equal_squidpy(to_xp, data_dir):
    import anndata as ad

    adata = ad.read_h5ad(data_dir / "visium_prostate_normal.h5ad")[:, :5].copy()
    adata.X = adata.X.astype(np.float32)
    gr.spatial_neighbors(adata, coord_type="grid")
    theirs = sq.gr.sepal(adata, 6, copy=True, n_iter=300, thresh=1e-6, show_progress_bar=False)
    adata.X = to_xp(adata.X)
    ours = gr.sepal(adata, 6, copy=True, n_iter=300, thresh=1e-6)
    np.testing.assert_allclose(ours["sepal_score"], theirs["sepal_score"].loc[ours.index], atol=0.0011)


def test_what_cells_follow_on_nine_points():
    adata = square(3, np.ones((9, 1), dtype=np.float32))
    order, neighbors, source = stencil(adata.obsp["spatial_connectivities"], adata.obsm["spatial"], 4)
    assert order.tolist() == [4, 0, 1, 2, 3, 5, 6, 7, 8] and order[neighbors[0]].tolist() == [1, 3, 5, 7] and (source == 0).all()


def test_constant_absent_and_unfinished_genes(to_xp):
    x = np.zeros((25, 3), dtype=np.float32)
    x[:, 0], x[12, 2] = 1, 5
    adata = square(5, x, to_xp)
    score = gr.sepal(adata, 4, copy=True)["sepal_score"]
    # The entropy starts at 1: a constant gene's is the same at the second step, and so is one without any counts.
    assert score["g0"] == 0.001 and score["g1"] == 0.001 and score["g2"] > 0.001
    assert np.isnan(gr.sepal(adata, 4, genes=["g2"], n_iter=3, copy=True)["sepal_score"]).all()


def test_blocks_of_genes_change_nothing(to_xp, monkeypatch):
    adata = square(12, expressed(144, 11, 12), to_xp)
    gr.sepal(adata, 4)
    monkeypatch.setattr("rsc_core.gr._sepal.BLOCK_SIZE", 3 * 144)
    assert adata.uns["sepal_score"].equals(gr.sepal(adata, 4, copy=True))


def test_what_cannot_be_used():
    adata = square(5, np.ones((25, 2), dtype=np.float32))
    with pytest.raises(InvalidInput, match="max_neighs is 6, but the cell with the most neighbours has 4"):
        gr.sepal(adata, 6)
    for wrong in (np.nan, -1):
        adata.X[3, 1] = wrong
        with pytest.raises(InvalidInput, match="gene g1 has NaN"):
            gr.sepal(adata, 4)
    with pytest.raises(ValueError, match="max_neighs is 5"):
        gr.sepal(adata, 5)
