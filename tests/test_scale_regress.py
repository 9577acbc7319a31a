"""scale, regress_out, normalize_pearson_residuals: against scanpy, least squares, and at the edges."""

import warnings

import cases
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from rsc_core import backend, pp

LAYOUTS = [sp.csr_matrix, sp.csc_matrix, lambda m: m.toarray()]


def dense(matrix):
    matrix = backend.to_host(matrix)
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def logged(n_cells, n_genes, **options):
    counts = cases.counts(n_cells, n_genes, **options)
    return counts.log1p()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zero_center", [True, False])
@pytest.mark.parametrize("max_value", [None, 2.0])
@pytest.mark.parametrize("mask", [None, "column", "array"])
def test_scale_equals_scanpy(to_xp, layout, zero_center, max_value, mask):
    x = logged(131, 70, empty_gene=3, mean=2).toarray()
    x[:, 7] = 0.1  # constant: its float32 mean need not be 0.1
    x = sp.csr_matrix(x)
    chosen = np.arange(131) % 3 != 0
    mask_obs = {"column": "chosen", "array": chosen}.get(mask)
    theirs, ours = (cases.annotated(m, chosen=chosen) for m in (x.toarray().astype(np.float64), to_xp(layout(x))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.scale(theirs, zero_center=zero_center, max_value=max_value, mask_obs=mask_obs)
    pp.scale(ours, zero_center=zero_center, max_value=max_value, mask_obs=mask_obs)
    assert ours.X.dtype == np.float32 and hasattr(ours.X, "indptr") == (not zero_center and layout is not LAYOUTS[2])
    wanted, others = theirs.X.copy(), np.arange(70) != 7
    if not zero_center and max_value is not None:
        wanted[chosen if mask else slice(None)] = np.minimum(wanted[chosen if mask else slice(None)], max_value)
    # One rounding to float32; the constant gene apart, which scanpy's rounded mean leaves a deviation.
    np.testing.assert_allclose(dense(ours.X)[:, others], wanted[:, others], rtol=1e-6, atol=1e-6)
    assert set(ours.var) == set(theirs.var)
    for column in theirs.var:
        np.testing.assert_allclose(ours.var[column][others], theirs.var[column][others], rtol=1e-12)
    inside = dense(ours.X)[chosen if mask else slice(None), 7]
    np.testing.assert_allclose(inside, 0.0 if zero_center else np.float32(0.1), atol=1e-15)


def test_scaling_is_that_of_the_formula(to_xp):
    x = logged(500, 300, mean=1)
    x.data += np.float32(1000)  # far from 0: E[x²] - E[x]² would lose the variance
    ours = cases.annotated(to_xp(x.toarray() + np.float32(1000)))
    exact = dense(ours.X).astype(np.float64)
    pp.scale(ours)
    varies = exact.std(axis=0) > 0
    wanted = (exact - exact.mean(axis=0))[:, varies] / exact.std(axis=0, ddof=1)[varies]
    np.testing.assert_allclose(dense(ours.X)[:, varies], wanted, rtol=1e-6, atol=1e-9)


def test_scale_of_one_cell_layers_and_refusals(to_xp):
    ours = cases.annotated(to_xp(logged(1, 5, mean=3)))
    ours.layers["log"] = ours.X
    pp.scale(ours, layer="log")
    assert dense(ours.layers["log"]).tolist() == [[0.0] * 5] and hasattr(ours.X, "indptr")
    for options, message in (({"max_value": 0}, "max_value"), ({"mask_obs": [True] * 2}, "mask_obs"), ({"mask_obs": [False]}, "no cell")):
        with pytest.raises(ValueError, match=message):
            pp.scale(ours, **{k: np.array(v) if k == "mask_obs" else v for k, v in options.items()})
    with pytest.raises(KeyError, match="no column 'x'"):
        pp.scale(ours, mask_obs="x")


def covariates(n):
    rng = np.random.default_rng(1)
    total = rng.integers(1_000, 100_000, n).astype(np.float64)
    return {"total": total, "percent": rng.random(n) * 100, "kind": pd.Categorical(rng.choice(["a", "b", "c"], n))}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("keys", ["total", ["total", "percent"], "kind"])
def test_regression_equals_scanpy(to_xp, layout, keys):
    x = logged(331, 60, mean=2, empty_gene=4)
    theirs, ours = (cases.annotated(m, **covariates(331)) for m in (x.toarray().astype(np.float64), to_xp(layout(x))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.regress_out(theirs, keys)
    pp.regress_out(ours, keys)
    assert ours.X.dtype == np.float32
    np.testing.assert_allclose(dense(ours.X), theirs.X, atol=1e-6)  # one rounding of values below 8


@pytest.mark.parametrize("n_cells", [5, 4096, 4097])
def test_ill_conditioned_columns_against_least_squares(to_xp, n_cells):
    x = logged(n_cells, 9, mean=2)
    columns = {"a": 1e9 + np.arange(n_cells) % 7, "b": 1e-6 * (np.arange(n_cells) % 5)}
    ours = cases.annotated(to_xp(x), **columns)
    pp.regress_out(ours, ["a", "b"])
    design = np.column_stack([np.ones(n_cells), columns["a"] - 1e9, columns["b"] * 1e6])
    exact = x.toarray().astype(np.float64)
    wanted = exact - design @ np.linalg.lstsq(design, exact, rcond=None)[0]
    np.testing.assert_allclose(dense(ours.X), wanted, atol=2e-6)


def test_columns_that_say_the_same_change_nothing(to_xp):
    x, columns = logged(200, 30), covariates(200)
    one, more = (cases.annotated(to_xp(x), total=columns["total"], twice=2 * columns["total"], same=3.3) for _ in range(2))
    pp.regress_out(one, "total")
    pp.regress_out(more, ["total", "twice", "same"])
    np.testing.assert_allclose(dense(more.X), dense(one.X), atol=1e-6)


def test_regression_refuses(to_xp):
    columns = covariates(20)
    ours = cases.annotated(to_xp(cases.counts(20, 5)), **columns)
    with pytest.raises(ValueError, match="'kind'.*alone"):
        pp.regress_out(ours, ["total", "kind"])
    with pytest.raises(KeyError, match="no column 'x'"):
        pp.regress_out(ours, "x")
    ours.obs.iloc[3, 0] = np.nan
    with pytest.raises(ValueError, match="cell 'c3'"):
        pp.regress_out(ours, "total")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("theta", "clip"), [(100, None), (10, 3.0), (np.inf, None)])
def test_pearson_residuals_equal_scanpy(to_xp, layout, theta, clip):
    counts = cases.counts(150, 90, mean=2)
    counts = counts[:, np.asarray(counts.sum(axis=0)).ravel() > 0]
    theirs, ours = cases.annotated(counts.toarray().astype(np.float64)), cases.annotated(to_xp(layout(counts)))
    sc.experimental.pp.normalize_pearson_residuals(theirs, theta=theta, clip=clip)
    pp.normalize_pearson_residuals(ours, theta=theta, clip=clip)
    np.testing.assert_allclose(dense(ours.X), theirs.X, rtol=1e-6, atol=1e-7)
    assert ours.uns["pearson_residuals_normalization"]["clip"] == (clip or np.sqrt(150))  # scanpy keeps None


def test_residuals_of_empty_cells_and_genes_are_zero(to_xp):
    got = pp.normalize_pearson_residuals(cases.annotated(to_xp(cases.counts(30, 20, empty_cell=2, empty_gene=3))), inplace=False)
    x = dense(got["X"])
    assert np.isfinite(x).all() and not x[2].any() and not x[:, 3].any() and got["clip"] == np.sqrt(30)
