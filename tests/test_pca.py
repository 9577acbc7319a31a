"""pca against scikit-learn and scanpy."""

import cases
import numpy as np
import pytest
import scanpy as sc
import scipy.linalg
import scipy.sparse as sp
from sklearn.decomposition import PCA, TruncatedSVD

from rsc_core import backend
from rsc_core.kernels import counts
from rsc_core.pp import pca
from rsc_core.pp._normalize import lognorm, size_factors
from rsc_core.pp._pca import BLOCK_ROWS, principal_components, select_genes, sums_and_products


def values(n_cells, n_genes, **options):
    counts = cases.counts(n_cells, n_genes, mean=1, **options)
    return lognorm(counts, size_factors(counts))


def assert_same_components(scores, loadings, variance, ratio, theirs, x, full):
    """Variances to 1e-6 (float32 input of scikit-learn's own sums), subspace and scores to 1e-4 (float32 scores)."""
    n = len(variance)
    np.testing.assert_allclose(variance, theirs.explained_variance_[:n], rtol=1e-6)
    np.testing.assert_allclose(ratio, theirs.explained_variance_ratio_[:n], rtol=1e-6)
    assert np.sin(scipy.linalg.subspace_angles(loadings, theirs.components_[:n].T)).max() < 1e-6
    wanted = theirs.transform(x)[:, :n]
    np.testing.assert_allclose(np.abs(scores), np.abs(wanted), atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("shape", [(3, 40), (60, 5), (200, 100), (BLOCK_ROWS + 1, 40)])
@pytest.mark.parametrize("dense", [False, True])
def test_equals_scikit_learn(to_xp, shape, dense):
    x = values(*shape)
    n = min(4, min(shape) - 1)
    ours = [backend.to_host(part) for part in principal_components(to_xp(x.toarray() if dense else x), n)]
    full = x.toarray().astype(np.float64)
    assert_same_components(*ours, PCA(svd_solver="full").fit(full), full, full)
    assert ours[0].dtype == np.float32 and ours[1].dtype == np.float64


def test_truncated_svd(to_xp):
    x = values(200, 80)
    ours = [backend.to_host(part) for part in principal_components(to_xp(x), 5, zero_center=False)]
    full = x.toarray().astype(np.float64)
    theirs = TruncatedSVD(5, algorithm="arpack", random_state=0).fit(full)
    np.testing.assert_allclose(ours[2], theirs.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(ours[3], theirs.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(np.abs(ours[0]), np.abs(theirs.transform(full)), atol=1e-4 * np.abs(ours[0]).max())


@pytest.mark.parametrize("edge", [-1, 0, 1])
def test_blocks_do_not_matter(to_xp, edge, monkeypatch):
    """Only the order of float64 additions differs: 1e-12 of the variance."""
    x = values(500, 60)
    whole = principal_components(to_xp(x), 6)
    monkeypatch.setattr("rsc_core.pp._pca.BLOCK_ROWS", 125 + edge)
    blocks = principal_components(to_xp(x), 6)
    for one, other in zip(whole, blocks, strict=True):
        np.testing.assert_allclose(backend.to_host(one), backend.to_host(other), rtol=1e-6, atol=1e-9)


def test_equals_scanpy_on_real_counts(to_xp, data_dir):
    adata = sc.read_h5ad(data_dir / "pancreas_lib1.h5ad")
    sc.pp.highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=1000)
    adata.X = lognorm(sp.csr_matrix(adata.X, dtype=np.float32), size_factors(adata.X))
    ours = adata.copy()
    ours.X = to_xp(adata.X)
    sc.pp.pca(adata, n_comps=30, svd_solver="covariance_eigh", dtype="float64")
    pca(ours, n_comps=30)
    np.testing.assert_allclose(ours.uns["pca"]["variance"], adata.uns["pca"]["variance"], rtol=1e-5)
    np.testing.assert_allclose(ours.uns["pca"]["variance_ratio"], adata.uns["pca"]["variance_ratio"], rtol=1e-5)
    assert (ours.varm["PCs"][~ours.var["highly_variable"]] == 0).all()
    # scanpy sums the covariance in float32 here: its last components are mixed at 1e-4.
    scale = np.abs(adata.obsm["X_pca"]).max()
    np.testing.assert_allclose(np.abs(ours.obsm["X_pca"][:, :10]), np.abs(adata.obsm["X_pca"][:, :10]), atol=1e-4 * scale)


@pytest.mark.parametrize("shape", [(1, 3), (31, 32), (BLOCK_ROWS - 1, 20), (BLOCK_ROWS + 1, 33), (100, 300)])
def test_sparse_and_dense_products_agree(to_xp, shape, monkeypatch):
    """Float64 sums in another order: 1e-13 of the sum of sizes, and all terms are positive here."""
    monkeypatch.setattr("rsc_core.pp._pca.DENSE_SHARE", 1.0)
    x = values(*shape)
    total, products = (backend.to_host(part) for part in sums_and_products(to_xp(x)))
    full = x.toarray().astype(np.float64)
    np.testing.assert_allclose(total, full.sum(axis=0), rtol=1e-13)
    np.testing.assert_allclose(products, full.T @ full, rtol=1e-13)


def test_signs_are_fixed(to_xp):
    _, loadings, _, _ = (backend.to_host(part) for part in principal_components(to_xp(values(200, 50)), 8))
    assert (loadings[np.abs(loadings).argmax(axis=0), np.arange(8)] > 0).all()


def test_order_of_cells_does_not_matter(to_xp):
    x, order = values(300, 50), np.random.default_rng(1).permutation(300)
    straight, mixed = (backend.to_host(principal_components(to_xp(m), 5)[0]) for m in (x, x[order]))
    np.testing.assert_allclose(mixed, straight[order], atol=1e-5)


def test_constant_genes_take_no_part(to_xp):
    x = values(100, 30).toarray()
    x[:, 3] = 2.5
    x[:, 9] = 0
    _, loadings, _, _ = (backend.to_host(part) for part in principal_components(to_xp(x), 5))
    np.testing.assert_allclose(loadings[[3, 9]], 0, atol=1e-10)


def test_too_many_components_are_reduced(to_xp):
    adata = cases.annotated(to_xp(values(6, 40)))
    with pytest.warns(UserWarning, match="6 cells and 40 genes have 5"):
        pca(adata)
    assert adata.obsm["X_pca"].shape == (6, 5) and adata.varm["PCs"].shape == (40, 5) and np.isfinite(adata.obsm["X_pca"]).all()


def test_cells_that_are_all_the_same(to_xp):
    scores, _, variance, ratio = (backend.to_host(p) for p in principal_components(to_xp(np.ones((10, 4), dtype=np.float32)), 2))
    assert not scores.any() and not variance.any() and not ratio.any()


def test_one_gene_is_refused(to_xp):
    with pytest.raises(ValueError, match="10 cells and 1 genes have no component"):
        pca(cases.annotated(to_xp(values(10, 1))))


@pytest.mark.parametrize("genes", [[], [0], [31, 32, 33], list(range(70))])
def test_choice_of_genes_equals_indexing(to_xp, genes):
    x = values(40, 70, empty_cell=3)
    chosen = backend.to_host(select_genes(to_xp(x), np.array(genes, dtype=np.int64)))
    np.testing.assert_array_equal(chosen.toarray(), x[:, genes].toarray())
    assert chosen.has_sorted_indices


def test_a_mask_and_a_name(to_xp):
    adata = cases.annotated(to_xp(values(50, 30)))
    mask = np.arange(30) < 20
    pca(adata, 5, mask_var=mask, key_added="place")
    assert adata.obsm["place"].shape == (50, 5) and (adata.varm["place"][20:] == 0).all() and "variance" in adata.uns["place"]
    with pytest.raises(KeyError, match="no column 'hvg'"):
        pca(adata, mask_var="hvg")
    with pytest.raises(ValueError, match="svd_solver is 'lobpcg'"):
        pca(adata, svd_solver="lobpcg")


def test_scores_of_sparse_rows_have_the_same_bits_on_both_backends(to_xp):
    """More components than a warp has lanes; entry after entry, the sums differ from a dense product by float32's rounding."""
    x, rng = values(150, 70), np.random.default_rng(0)
    loadings, shift = rng.normal(size=(70, 37)), rng.normal(size=37)
    x, parts = sp.csr_matrix(x), []
    for place in (lambda part: part, to_xp):
        out = place(np.empty((150, 37), dtype=np.float32))
        entries = (place(part) for part in backend.csr_parts(x, np.float32))
        counts.scores_of_rows(150, *entries, place(loadings), place(shift), 37, out)
        parts.append(backend.to_host(out))
    np.testing.assert_allclose(parts[0], x @ loadings - shift, rtol=1e-6, atol=1e-6)
    assert parts[0].tobytes() == parts[1].tobytes()
