"""Diffusion map, pseudotime, PAGA and density against scanpy, and what they answer where there is no answer."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rsc_core import backend
from rsc_core.kernels import density
from rsc_core.pp._neighbors import neighbors
from rsc_core.tl import _embedding_density
from rsc_core.tl._diffmap import diffmap, dpt
from rsc_core.tl._embedding_density import embedding_density, scaled_density
from rsc_core.tl._paga import paga
from rsc_core.tl._spectral import components, eigenvectors
from rsc_core.tl._sums import chunks, products


def tree(n_cells, seed=0, n_arms=4):
    random = np.random.default_rng(seed)
    ends, arm = 5 * random.normal(size=(n_arms, 12)), random.integers(n_arms, size=n_cells)
    x = ends[arm] * random.random((n_cells, 1)) + 0.5 * random.normal(size=(n_cells, 12))
    return x.astype(np.float32), pd.Categorical(arm.astype(str))


def annotated(x, groups=None, **options):
    obs = pd.DataFrame(index=[f"c{i}" for i in range(x.shape[0])])
    if groups is not None:
        obs["group"] = groups
    adata = ad.AnnData(obs=obs, obsm={"X_pca": x})
    neighbors(adata, **options)
    return adata


def on_host(adata):
    slots = ({key: backend.to_host(value) for key, value in slot.items()} for slot in (adata.obsm, adata.obsp))
    obsm, obsp = slots
    return ad.AnnData(obs=adata.obs.copy(), obsm=obsm, obsp=obsp, uns=adata.uns.copy())


@pytest.mark.parametrize("n_cells", [300, 900])  # dense on the host; Lanczos
def test_diffusion_map_equals_scanpy(to_xp, n_cells):
    """Eigenvalues within 1e-6 (float32 of order 1). Vectors up to sign: 1e-3, errors are as the residual over the gap."""
    import scanpy as sc

    adata = annotated(to_xp(tree(n_cells)[0]))
    theirs = on_host(adata)
    diffmap(adata)
    sc.tl.diffmap(theirs)
    np.testing.assert_allclose(adata.uns["diffmap_evals"], theirs.uns["diffmap_evals"], atol=1e-6, rtol=0)
    ours, reference = adata.obsm["X_diffmap"], theirs.obsm["X_diffmap"]
    assert ours.dtype == np.float32
    gap = -np.diff(adata.uns["diffmap_evals"])
    clear = np.minimum(np.append(gap, 0), np.append(1, gap)) > 1e-3
    assert clear.sum() >= 5
    np.testing.assert_allclose(np.abs((ours * reference).sum(axis=0))[clear], 1, atol=1e-3)
    largest = ours[np.abs(ours).argmax(axis=0), np.arange(15)]
    assert (largest > 0).all()


def test_eigenvectors_are_the_same_bits_on_both_backends_and_any_threads(to_xp):
    import numba

    graph = annotated(tree(900)[0]).obsp["connectivities"]
    numba.set_num_threads(1)
    one = eigenvectors(graph, 6)
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    there = eigenvectors(to_xp(graph), 6)
    np.testing.assert_array_equal(there[0], one[0])
    np.testing.assert_array_equal(there[1], one[1])


def test_parts_equal_scipy_and_are_named_after_their_first_cell(to_xp):
    graph = sp.random(2000, 2000, 0.0006, format="csr", random_state=0, dtype=np.float32)
    graph = (graph + graph.T).tocsr()
    ours, theirs = backend.to_host(components(to_xp(graph))), sp.csgraph.connected_components(graph, directed=False)[1]
    _, first, number = np.unique(theirs, return_index=True, return_inverse=True)
    assert len(first) > 100
    np.testing.assert_array_equal(ours, first[number])


@pytest.mark.parametrize("n_cells", [1, 511, 513, 300_000])  # the last: chunks of more than the least width
def test_products_of_rows_have_the_same_bits_on_both_backends(to_xp, n_cells):
    random = np.random.default_rng(0)
    a, b = random.normal(size=(3, n_cells)), random.normal(size=(2, n_cells))
    there = products(to_xp(a), to_xp(b))
    np.testing.assert_allclose(there, a @ b.T, rtol=1e-10, atol=1e-9)  # rounding of so many terms of order 1
    np.testing.assert_array_equal(there, products(a, b))
    n_chunks, width = chunks(n_cells)
    assert (n_chunks - 1) * width < n_cells <= n_chunks * width


def test_every_part_of_a_graph_has_an_eigenvalue_of_one(to_xp):
    """Three parts and an isolated cell: three eigenvalues 1, the largest part first, their vectors 0 elsewhere; then scipy's."""
    x = np.vstack([tree(500, seed)[0] + 1000 * seed for seed in range(3)])[: 500 + 500 + 300]
    graph = annotated(x).obsp["connectivities"].tolil()
    graph[3] = 0
    graph[:, 3] = 0
    graph = graph.tocsr().astype(np.float32)
    values, vectors = eigenvectors(to_xp(graph), 6)
    np.testing.assert_allclose(values[:3], 1, rtol=1e-12)
    assert (vectors[2, :1000] == 0).all() and (vectors[2, 1000:] > 0).all()
    assert (vectors[:, 3] == 0).all()
    sums = np.asarray(graph.sum(axis=1)).ravel()
    root = sp.diags_array(np.divide(1, np.sqrt(sums), out=np.zeros_like(sums), where=sums > 0))
    reference = sp.linalg.eigsh((root @ graph.astype(float) @ root).tocsr(), k=6, which="LA")[0][::-1]
    np.testing.assert_allclose(values, reference, atol=1e-7)  # their weights were float32's roots
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(6), atol=1e-10)


@pytest.mark.parametrize("n_cells", [4, 16])
def test_a_map_of_few_cells_has_as_many_columns_as_cells(to_xp, n_cells):
    adata = annotated(to_xp(tree(n_cells)[0]), n_neighbors=3)
    diffmap(adata)
    assert adata.obsm["X_diffmap"].shape == (n_cells, min(n_cells, 15))
    assert np.isfinite(adata.obsm["X_diffmap"]).all()


def test_pseudotime_equals_scanpy(to_xp):
    """1e-4: scanpy sums in float32, and the vectors differ by their residuals."""
    import scanpy as sc

    adata = annotated(to_xp(tree(700)[0]))
    adata.uns["iroot"] = 5
    dpt(adata)
    theirs = on_host(adata)
    sc.tl.dpt(theirs)
    np.testing.assert_allclose(adata.obs["dpt_pseudotime"], theirs.obs["dpt_pseudotime"], atol=1e-4)
    assert adata.obs["dpt_pseudotime"].iloc[5] == 0 and adata.obs["dpt_pseudotime"].max() == 1


def test_pseudotime_is_infinite_in_other_parts_of_the_graph():
    x = tree(120)[0]
    x[100:] += 1000
    adata = annotated(x, n_neighbors=15)
    adata.uns["iroot"] = 0
    dpt(adata)
    assert np.isinf(adata.obs["dpt_pseudotime"].iloc[100:]).all()
    assert np.isfinite(adata.obs["dpt_pseudotime"].iloc[:100]).all()
    with pytest.raises(ValueError, match="iroot'\\] is 120"):
        adata.uns["iroot"] = 120
        dpt(adata)


def test_paga_equals_scanpy(to_xp):
    import scanpy as sc

    adata = annotated(to_xp(tree(400)[0]), tree(400)[1])
    theirs = on_host(adata)
    paga(adata, "group")
    sc.tl.paga(theirs, "group")
    for slot in ("connectivities", "connectivities_tree"):
        np.testing.assert_allclose(adata.uns["paga"][slot].toarray(), theirs.uns["paga"][slot].toarray(), rtol=1e-12)
    np.testing.assert_array_equal(adata.uns["group_sizes"], theirs.uns["group_sizes"])
    assert adata.uns["paga"]["groups"] == "group"


def test_paga_of_one_group_has_no_connections_and_missing_categories_are_refused():
    adata = annotated(tree(40)[0], pd.Categorical(["a"] * 40))
    paga(adata, "group")
    assert adata.uns["paga"]["connectivities"].nnz == 0
    adata.obs["group"] = pd.Categorical(["a"] * 39 + [None])
    with pytest.raises(ValueError, match="row 39"):
        paga(adata, "group")
    with pytest.raises(ValueError, match="must be a column with categories"):
        paga(adata, "cluster")


@pytest.mark.parametrize("groupby", [None, "group"])
def test_density_equals_scanpy(to_xp, groupby):
    """1e-9: the table of exp errs by 1e-13; covariances and sums round in other orders."""
    import scanpy as sc

    x, groups = tree(500)
    adata = annotated(x, groups)
    adata.obsm["X_umap"] = x[:, :2].astype(np.float64)
    theirs = adata.copy()
    adata.obsm["X_umap"] = to_xp(adata.obsm["X_umap"])
    embedding_density(adata, groupby=groupby)
    sc.tl.embedding_density(theirs, groupby=groupby)
    key = "umap_density" if groupby is None else "umap_density_group"
    np.testing.assert_allclose(adata.obs[key], theirs.obs[key], atol=1e-9)
    assert adata.uns[f"{key}_params"]["components"] == list(theirs.uns[f"{key}_params"]["components"])


def test_density_sums_over_all_cells(to_xp):
    """Groups of cells and a far one, against all pairs."""
    from scipy.stats import gaussian_kde

    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(scale=0.02, size=(500, 2)) + centre for centre in random.uniform(size=(8, 2))] + [[[900.0, -3.0]]])
    truth = gaussian_kde(x.T)(x.T)
    truth = (truth - truth.min()) / (truth.max() - truth.min())
    # 1e-9: the covariance, of numbers near 1 beside one of 900, keeps 1e-11 of their distances.
    np.testing.assert_allclose(backend.to_host(scaled_density(to_xp(np.ascontiguousarray(x.T)))), truth, atol=1e-9)


@pytest.mark.parametrize("spread", [0.0, 0.3, 4.0, 300.0])  # one place, one square of the grid, windows that overlap, and that do not
def test_sums_by_way_of_the_grid_are_those_of_all_pairs(to_xp, spread):
    random = np.random.default_rng(1)
    x = random.normal(scale=spread, size=(2, 150)) + [[-70.0], [1e4]]
    truth = np.exp(-((x[:, :, None] - x[:, None, :]) ** 2).sum(axis=0)).sum(axis=1)
    sums = backend.to_host(_embedding_density._sums(to_xp(x)))
    constant = np.pi / (2 * density.SPACING) ** 2  # of the integral over the grid's points
    # 2e-13 of each of the 150 terms, of which one at least is 1.
    np.testing.assert_allclose(sums / constant, truth, rtol=2e-13 * 150)


def test_density_where_there_is_none(to_xp):
    x, _ = tree(60)
    adata = annotated(x, pd.Categorical(["a"] * 30 + ["b"] * 28 + ["c"] * 2))
    drawn = x[:, :2].copy()
    drawn[:30] = 7  # constant
    adata.obsm["X_umap"] = to_xp(drawn)
    embedding_density(adata, groupby="group")
    density = adata.obs["umap_density_group"].to_numpy()
    assert np.isnan(density[:30]).all() and np.isnan(density[58:]).all()
    assert density[30:58].min() == 0 and density[30:58].max() == 1
    with pytest.raises(ValueError, match="there is no obsm"):
        embedding_density(adata, "tsne")
    with pytest.raises(ValueError, match="components are '1,3'"):
        embedding_density(adata, components="1,3")
