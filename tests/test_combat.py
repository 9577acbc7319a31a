"""ComBat against scanpy, and its defined answers."""

import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rsc_core import backend
from rsc_core.pp import combat


def cells(n_cells=150, n_genes=30, seed=0):
    random = np.random.default_rng(seed)
    batch, kind, age = random.integers(3, size=n_cells), random.integers(2, size=n_cells), random.normal(size=n_cells)
    x = random.normal(size=(n_cells, n_genes)) + random.normal(size=(3, n_genes))[batch] + 3 * kind[:, None] * random.random(n_genes)
    x *= (1 + 0.5 * batch[:, None]) * random.lognormal(size=n_genes)
    return x, {"batch": pd.Categorical([f"b{b}" for b in batch]), "age": age, "kind": np.array(["k", "l"])[kind]}


@pytest.mark.parametrize("covariates", [None, ["age"]])
@pytest.mark.parametrize("sparse", [False, True])
def test_equals_scanpy(to_xp, covariates, sparse):
    """1e-6: scanpy goes on from the same estimates, but its sums are of standardised values one by one."""
    import scanpy as sc

    x, obs = cells()
    if sparse:
        x = np.where(np.random.default_rng(1).random(x.shape) < 0.3, x, 0)
    ours, theirs = cases.annotated(to_xp(sp.csr_matrix(x) if sparse else x), **obs), cases.annotated(x, **obs)
    combat(ours, covariates=covariates)
    sc.pp.combat(theirs, covariates=covariates)
    assert ours.X.dtype == np.float64
    np.testing.assert_allclose(backend.to_host(ours.X), theirs.X, rtol=1e-6, atol=1e-6)


def test_levels_of_a_covariate_are_its_indicators(to_xp):
    x, obs = cells()
    obs["is_l"] = (obs["kind"] == "l").astype(float)
    adata = cases.annotated(to_xp(x), **obs)
    by_level, by_number = (backend.to_host(combat(adata, covariates=[name], inplace=False)) for name in ("kind", "is_l"))
    np.testing.assert_allclose(by_level, by_number, atol=1e-10)


def test_constant_genes_stay_and_do_not_disturb(to_xp):
    x, obs = cells()
    expected = backend.to_host(combat(cases.annotated(to_xp(x), **obs), inplace=False))
    x = np.column_stack([x, np.full(150, 0.1), np.zeros(150)])
    result = backend.to_host(combat(cases.annotated(to_xp(x), **obs), inplace=False))
    np.testing.assert_array_equal(result[:, 30:], x[:, 30:])
    np.testing.assert_allclose(result[:, :30], expected, atol=1e-10)


def test_one_batch_and_one_gene(to_xp):
    x, obs = cells()
    adata = cases.annotated(to_xp(x), **obs)
    adata.obs["batch"] = "b"
    np.testing.assert_array_equal(backend.to_host(combat(adata, inplace=False)), x)
    one = backend.to_host(combat(cases.annotated(to_xp(x[:, :1].copy()), **obs), inplace=False))
    means = [one[obs["batch"] == b].mean() for b in ("b0", "b1", "b2")]
    np.testing.assert_allclose(means, means[0], atol=1e-10)


def test_refused(to_xp):
    x, obs = cells()
    for change, options, error, message in [
        ({}, {"key": "no"}, KeyError, "no column 'no'"),
        ({}, {"covariates": ["no"]}, KeyError, "no column 'no'"),
        ({}, {"covariates": ["batch"]}, ValueError, "not have the batch"),
        ({"copy": obs["batch"]}, {"covariates": ["copy"]}, ValueError, "cannot be told from the batches"),
        ({"age": np.full(150, np.nan)}, {"covariates": ["age"]}, ValueError, "no value for the cell 'c0'"),
        ({"batch": ["a"] * 149 + ["z"]}, {}, ValueError, "batch number 1 .* has one cell"),
    ]:
        with pytest.raises(error, match=message):
            combat(cases.annotated(to_xp(x), **{**obs, **change}), **options)
