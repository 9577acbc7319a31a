"""PREPROCESS: what the delta holds, equal to the library's functions; what it refuses."""

import json

import cases
import numpy as np
import pytest
import scipy.sparse as sp

from rsc_core.errors import InvalidInput
from rsc_core.io.delta import read_delta
from rsc_core.pp import highly_variable_genes, log1p, normalize_total, pca
from rsc_core.stages import preprocess


@pytest.fixture
def made(tmp_path, backend_name):
    """Run PREPROCESS on a matrix; returns the delta and the warnings."""

    def run(matrix, options=None, **obs):
        store, output = tmp_path / "counts.store.h5ad", tmp_path / "preprocess.h5ad"
        cases.store(store, matrix, "s", **obs)
        preprocess.run(store=store, output=output, backend=backend_name, **(options or {}))
        return read_delta(output), json.loads((tmp_path / "preprocess.h5ad.run.json").read_text())["warnings"]

    return run


def test_equals_the_functions_one_by_one(made, to_xp):
    counts, batch = cases.counts(150, 300, mean=1), ["x", "y", "z"] * 50
    delta, warnings = made(counts, {"n_top_genes": 60, "n_comps": 8, "batch_key": "donor"}, donor=batch)
    adata = cases.annotated(to_xp(counts), donor=batch)
    highly_variable_genes(adata, n_top_genes=60, batch_key="donor")
    normalize_total(adata, key_added="size_factor")
    np.testing.assert_array_equal(delta.obs["size_factor"], adata.obs["size_factor"])
    log1p(adata)
    pca(adata, 8)
    for column in ("means", "variances", "variances_norm", "highly_variable", "highly_variable_rank", "highly_variable_nbatches"):
        np.testing.assert_array_equal(delta.var[column], adata.var[column])
    # One rounding to float32 between normalisation and logarithm that the stage does not make: 2^-24 of values up to 10.
    np.testing.assert_allclose(delta.obsm["X_pca"], adata.obsm["X_pca"], atol=1e-5)
    np.testing.assert_allclose(delta.varm["PCs"], adata.varm["PCs"], atol=1e-6)
    np.testing.assert_allclose(delta.uns["pca"]["variance_ratio"], adata.uns["pca"]["variance_ratio"], rtol=1e-6)
    assert delta.obsm["X_pca"].dtype == np.float32 and not warnings
    assert {"hvg", "log1p", "pca"} <= set(delta.uns)


def test_two_runs_give_the_same_bytes(tmp_path, made):
    made(cases.counts(60, 100, mean=1), {"n_comps": 5})
    first = (tmp_path / "preprocess.h5ad").read_bytes()
    made(cases.counts(60, 100, mean=1), {"n_comps": 5})
    assert (tmp_path / "preprocess.h5ad").read_bytes() == first


def test_a_small_batch_and_few_components_are_told(made):
    delta, warnings = made(cases.counts(20, 60, mean=1), {"batch_key": "donor"}, donor=["a"] * 19 + ["b"])
    assert delta.obsm["X_pca"].shape == (20, 19)
    assert any("batch 'b' (1 cells) is left out" in w for w in warnings) and any("n_comps is 50" in w for w in warnings)


def test_no_batch(made):
    delta, _ = made(cases.counts(30, 60, mean=1), {"batch_key": "", "n_comps": 3, "target_sum": 1e4})
    assert "highly_variable_nbatches" not in delta.var and delta.varm["PCs"].shape == (60, 3)


@pytest.mark.parametrize(
    ("matrix", "options", "obs", "message"),
    [
        (cases.counts(9, 60, mean=1), {}, {}, "9 cells came; 10 are needed"),
        (cases.counts(40, 9, mean=3), {}, {}, "9 of 9 genes have counts; 10 are needed"),
        (sp.csr_matrix(np.ones((20, 30), dtype=np.float32)), {}, {}, "no gene varies"),
        (cases.counts(20, 60, mean=1), {"batch_key": "donor"}, {}, "batch_key 'donor': no such column; the cells have sample"),
        (cases.counts(20, 60, mean=1), {"batch_key": "dose"}, {"dose": [np.nan] + [1.0] * 19}, r"1 cells have no value \(first: 'c0'\)"),
    ],
)
def test_refused(made, matrix, options, obs, message):
    with pytest.raises(InvalidInput, match=message):
        made(matrix, options, **obs)
