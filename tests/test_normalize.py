"""normalize_total, log1p and lognorm against scanpy and NumPy."""

import cases
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from rsc_core import backend
from rsc_core.pp import log1p, normalize_total
from rsc_core.pp._normalize import lognorm, size_factors

# One rounding to float32 here, two in scanpy (which divides or takes logarithms in float32), of half a unit each.
FLOAT32 = 3 * 2.0**-24


def dense(matrix):
    matrix = backend.to_host(matrix)
    return matrix.toarray() if sp.issparse(matrix) else matrix


@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (5, 32), (70, 33), (257, 300)])
@pytest.mark.parametrize("target_sum", [None, 1e4])
def test_normalize_total_equals_scanpy(to_xp, shape, target_sum):
    counts = cases.counts(*shape, mean=3)
    theirs = cases.annotated(counts.toarray())  # scanpy's dense form: its median leaves out empty cells, as documented
    sc.pp.normalize_total(theirs, target_sum=target_sum)
    ours = cases.annotated(to_xp(counts))
    normalize_total(ours, target_sum=target_sum, key_added="size_factor")
    assert ours.X.dtype == np.float32 and hasattr(ours.X, "indptr")
    np.testing.assert_allclose(dense(ours.X), theirs.X, rtol=2 * FLOAT32)
    total = counts.sum(axis=1, dtype=np.float64).A1
    np.testing.assert_array_equal(ours.obs["size_factor"], np.where(total > 0, total, 1) / (target_sum or np.median(total[total > 0])))


def test_log1p_equals_scanpy(to_xp):
    counts = cases.counts(300, 200, mean=3)
    theirs, ours = cases.annotated(counts.copy()), cases.annotated(to_xp(counts))
    sc.pp.log1p(theirs)
    log1p(ours)
    np.testing.assert_allclose(dense(ours.X), theirs.X.toarray(), rtol=FLOAT32)
    assert "log1p" in ours.uns
    np.testing.assert_array_equal(dense(ours.X), np.log1p(counts.toarray().astype(np.float64)).astype(np.float32))


@pytest.mark.parametrize("nnz", [0, 1, 4096, 4097])
def test_log1p_at_the_edges_of_a_piece(to_xp, nnz):
    values = np.arange(nnz, dtype=np.float32).reshape(1, nnz)
    adata = cases.annotated(to_xp(values))
    log1p(adata)
    np.testing.assert_array_equal(dense(adata.X), np.log1p(values.astype(np.float64)).astype(np.float32))


def test_lognorm_is_one_rounding_of_the_formula(to_xp):
    counts = cases.counts(500, 300, mean=2, empty_cell=7, empty_gene=5)
    factor = size_factors(to_xp(counts))
    assert factor[7] == 1.0
    exact = np.log1p(counts.toarray().astype(np.float64) / factor[:, None])
    ours = lognorm(to_xp(counts), factor)
    # Equal to one rounding of the float64 value; its last bits can tip a value on a rounding border.
    np.testing.assert_allclose(dense(ours), exact, rtol=2.0**-24 + 2.0**-50)
    assert (dense(ours) != exact.astype(np.float32)).mean() < 1e-6


def test_lognorm_is_normalize_total_then_log1p(to_xp):
    counts = cases.counts(200, 100, mean=3)
    adata = cases.annotated(to_xp(counts))
    normalize_total(adata, target_sum=1000)
    log1p(adata)
    ours = lognorm(to_xp(counts), size_factors(to_xp(counts), 1000))
    np.testing.assert_allclose(dense(adata.X), dense(ours), rtol=2 * FLOAT32)


def test_logarithms_have_the_same_bits_on_both_backends(to_xp):
    """Small and large values, negative ones, and those that have no logarithm; np.log1p within a rounding border of float32."""
    rng = np.random.default_rng(0)
    values = np.r_[10 ** rng.uniform(-30, 30, 20_000), -(10 ** rng.uniform(-20, -0.001, 2_000)), 0, np.inf, -1, -2, np.nan]
    x = values.astype(np.float32)[None, :]
    ours, host = dense(lognorm(to_xp(x), np.ones(1))), lognorm(x, np.ones(1))
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(host))
    assert ours[~np.isnan(ours)].tobytes() == host[~np.isnan(host)].tobytes()  # NaN of the two has another sign, which says nothing
    with np.errstate(invalid="ignore", divide="ignore"):
        exact = np.log1p(x.astype(np.float64))
    np.testing.assert_array_max_ulp(ours[:, :-5], exact[:, :-5].astype(np.float32), maxulp=1)
    assert (ours == exact.astype(np.float32)).mean() > 0.999
    np.testing.assert_array_equal(ours[0, -5:], [0, np.inf, -np.inf, np.nan, np.nan])


def test_a_doubled_library_gives_the_same_bits(to_xp):
    counts = cases.counts(100, 80)
    once, twice = (dense(lognorm(to_xp(c), size_factors(to_xp(c), 100))) for c in (counts, 2 * counts))
    np.testing.assert_array_equal(once, twice)


@pytest.mark.parametrize("layout", [sp.csc_matrix, lambda m: m.toarray(), lambda m: m.astype(np.int64), lambda m: m.astype(np.float64)])
def test_layouts_of_the_host(layout):
    counts = cases.counts(50, 40)
    wanted = normalize_total(cases.annotated(counts), inplace=False)["X"].toarray()
    np.testing.assert_array_equal(dense(normalize_total(cases.annotated(layout(counts)), inplace=False)["X"]), wanted)


def test_a_layer_and_the_input_stay_apart(to_xp):
    counts = cases.counts(50, 40)
    adata = cases.annotated(to_xp(counts))
    adata.layers["counts"] = adata.X
    normalize_total(adata)
    log1p(adata)
    np.testing.assert_array_equal(dense(adata.layers["counts"]), counts.toarray())
    with pytest.raises(KeyError, match="no layer 'raw'.*counts"):
        normalize_total(adata, layer="raw")


def test_totals_above_float32_are_exact(to_xp):
    counts = sp.csr_matrix(np.full((2, 3), 2.0**24 - 1, dtype=np.float32))
    np.testing.assert_array_equal(size_factors(to_xp(counts), 1.0), np.full(2, 3 * (2.0**24 - 1)))


def test_all_cells_empty(to_xp):
    adata = cases.annotated(to_xp(sp.csr_matrix((3, 4), dtype=np.float32)))
    normalize_total(adata)
    log1p(adata)
    assert dense(adata.X).tolist() == [[0.0] * 4] * 3


@pytest.mark.parametrize("dense_layout", [False, True])
def test_one_pass_gives_the_bytes_of_two(to_xp, dense_layout):
    """A target that is known and the same target as the median of the totals; rows longer than a block of threads."""
    counts = cases.counts(31, 700, mean=2, empty_cell=4)
    total = counts.sum(axis=1).A1
    x = to_xp(counts.toarray() if dense_layout else counts)
    one, two = (normalize_total(cases.annotated(x), target_sum=target, inplace=False) for target in (np.median(total[total > 0]), None))
    assert one["norm_factor"].tobytes() == two["norm_factor"].tobytes()
    assert dense(one["X"]).tobytes() == dense(two["X"]).tobytes()


def test_shares_are_rounded_quotients(to_xp):
    """Quotients in the middle of two floats and beside it, very small ones, zeros; rows shorter and longer than a block keeps."""
    # Over 2 / 49 these are exact halves above 2^23, which the product with the rounded reciprocal misses by a last bit.
    odd = np.arange(342_393, 342_393 + 2 * 3500, 2, dtype=np.float32)
    # Sums that are exact in any order; quotients about the smallest normal float, and about 1.
    small = np.random.default_rng(0).integers(1, 1 << 20, (2, 3500)) * np.array([[2.0**-140], [1.0]])
    x = np.stack([odd, *small, np.where(np.arange(3500) % 3 == 0, odd, 0)]).astype(np.float32)
    for target, rows in ((24.5 * odd.sum(dtype=np.float64), x), (0.7, x), (1e4, np.ascontiguousarray(x[:, :700]))):
        got = normalize_total(cases.annotated(to_xp(rows)), target_sum=target, inplace=False)
        factor = got["norm_factor"]
        np.testing.assert_allclose(factor, rows.sum(axis=1, dtype=np.float64) / target, rtol=1e-14)
        np.testing.assert_array_equal(dense(got["X"]), (rows / factor[:, None]).astype(np.float32))
