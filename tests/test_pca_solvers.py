"""Randomized and Lanczos components against scikit-learn and the covariance method; what blocks, order and layout change: nothing."""

import cases
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from hypothesis import given, settings
from sklearn.decomposition import PCA, TruncatedSVD

from rsc_core import backend, pp
from rsc_core.pp import _pca, _qc
from rsc_core.pp._hvg_flavors import over_cells, residual_variances
from rsc_core.pp._moments import gene_mean_variance, totals
from rsc_core.pp._normalize import lognorm, size_factors


def values(n_cells, n_genes):
    counts = cases.counts(n_cells, n_genes, mean=1, n_types=12)
    return lognorm(counts, size_factors(counts))


@pytest.mark.parametrize(("solver", "tolerance"), [("randomized", 1e-4), ("lanczos", 1e-9)])
@pytest.mark.parametrize("shape", [(120, 300), (400, 60), (40, 12)])
def test_solvers_equal_scikit_learn(to_xp, solver, tolerance, shape):
    x, n = values(*shape), 8
    _, loadings, variance, ratio = (backend.to_host(part) for part in _pca.principal_components(to_xp(x), n, True, solver, 1))
    theirs = PCA(svd_solver="full").fit(x.toarray().astype(np.float64))
    np.testing.assert_allclose(variance, theirs.explained_variance_[:n], rtol=tolerance)
    np.testing.assert_allclose(ratio, theirs.explained_variance_ratio_[:n], rtol=tolerance)
    # Six: the last ones turn with what is left of the seventh and eighth neighbours' variance.
    angle = np.sin(scipy.linalg.subspace_angles(loadings[:, :6], theirs.components_[:6].T)).max()
    assert angle < (1e-5 if solver == "lanczos" else 0.05), angle
    np.testing.assert_allclose(loadings.T @ loadings, np.eye(n), atol=1e-10)


@pytest.mark.parametrize("solver", ["randomized", "lanczos"])
def test_truncated(to_xp, solver):
    x = values(200, 80)
    variance = backend.to_host(_pca.principal_components(to_xp(x), 5, False, solver)[2])
    theirs = TruncatedSVD(5, algorithm="arpack", random_state=0).fit(x.toarray().astype(np.float64))
    np.testing.assert_allclose(variance, theirs.explained_variance_, rtol=1e-6)


def test_equal_eigenvalues_and_no_variance(to_xp):
    x = np.zeros((40, 20), dtype=np.float32)
    x[np.arange(40), np.arange(40) % 20] = 1
    for matrix, wanted in ((x, PCA().fit(x.astype(np.float64)).explained_variance_[:6]), (np.ones_like(x), np.zeros(6))):
        variance = backend.to_host(_pca.principal_components(to_xp(matrix), 6, True, "lanczos")[2])
        np.testing.assert_allclose(variance, wanted, rtol=1e-9, atol=1e-15)


def test_seed_and_names(to_xp):
    adata = cases.annotated(to_xp(values(60, 30)))
    pp.pca(adata, 4, svd_solver="arpack", random_state=3)
    first = adata.obsm["X_pca"].copy()
    pp.pca(adata, 4, svd_solver="lanczos", random_state=3)
    assert first.tobytes() == adata.obsm["X_pca"].tobytes() and adata.uns["pca"]["params"]["svd_solver"] == "lanczos"


@pytest.mark.parametrize("theta", [100.0, np.inf])
def test_interpolated_sums_over_cells(theta):
    """1e-12 of the sum over 3,000 shares of six decades; every share computed is the reference."""
    rng = np.random.default_rng(0)
    total, share = np.round(rng.lognormal(8, 0.7, 500)), np.r_[0.0, 10 ** rng.uniform(-8, -2, 8000)]

    def function(distinct, times, shares):
        mu = distinct[:, None] * shares
        return (times @ np.exp(-mu), times @ np.sqrt(mu / (1 + mu / theta)))

    got, wanted = over_cells(function, total, share, np), over_cells(function, total, share, np, exact=True)
    np.testing.assert_allclose(got[:, 1:], wanted[:, 1:], rtol=1e-11)
    np.testing.assert_array_equal(got[:, 0], wanted[:, 0])


# ---- properties of the sparse kernels

COUNTS = hnp.arrays(
    np.float32, st.tuples(st.integers(2, 40), st.integers(1, 12)), elements=st.sampled_from([0, 0, 0, 1, 2, 7, 3000]).map(np.float32)
)
QUICK = settings(max_examples=15, deadline=None, derandomize=True)


@QUICK
@given(COUNTS, st.randoms(use_true_random=False))
def test_order_of_cells_does_not_matter(counts, random):
    order = list(range(len(counts)))
    random.shuffle(order)
    x, mixed = sp.csr_matrix(counts), sp.csr_matrix(counts[order])
    classes = np.arange(counts.shape[1], dtype=np.int32) % 2
    ours, theirs = _qc.count_sums(x, classes, 1), _qc.count_sums(mixed, classes, 1)
    for name, part in ours.items():
        np.testing.assert_array_equal(part[order] if name in _qc.CELL_SUMS else part, theirs[name])
    for one, other in zip(gene_mean_variance(x), gene_mean_variance(mixed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(residual_variances(x, 100.0, None), residual_variances(mixed, 100.0, None), rtol=1e-9, atol=1e-12)


@QUICK
@given(COUNTS)
def test_dense_and_sparse_agree(counts):
    x = sp.csr_matrix(counts)
    for axis in (0, 1):
        np.testing.assert_array_equal(totals(x, axis), totals(counts, axis))
        np.testing.assert_array_equal(totals(x, axis, expressed=True), (counts > 0).sum(axis=axis))
    full = counts.astype(np.float64)
    for matrix in (x, counts, x.tocsc()):
        mean, variance = gene_mean_variance(matrix)
        np.testing.assert_allclose(mean, full.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(variance, full.var(axis=0, ddof=1), rtol=1e-11, atol=1e-18)
        assert (variance[full.min(axis=0) == full.max(axis=0)] == 0).all()
    for one, other in zip(_pca.sums_and_products(x), _pca.sums_and_products(counts), strict=True):
        np.testing.assert_array_equal(one, other)  # whole numbers below 2^53


@QUICK
@given(COUNTS, st.integers(1, 12))
def test_genes_are_chosen_in_order(counts, n):
    genes = np.arange(0, counts.shape[1], n)
    np.testing.assert_array_equal(_pca.select_genes(sp.csr_matrix(counts), genes).toarray(), counts[:, genes])
