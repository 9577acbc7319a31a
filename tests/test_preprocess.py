"""PREPROCESS: what the delta holds, equal to the library's functions; what it refuses."""

import json

import cases
import numpy as np
import pytest
import scipy.sparse as sp

from rsc_core import pp
from rsc_core.data import CunnData
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import read_delta
from rsc_core.pp import highly_variable_genes, log1p, normalize_total, pca
from rsc_core.pp._normalize import lognorm, size_factors
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


def by_hand(counts, to_xp, normalization, regress, scale, method):
    """The functions one by one, on the genes that seurat_v3 chooses."""
    adata = cases.annotated(to_xp(counts), depth=np.arange(float(counts.shape[0])) % 7)
    pp.highly_variable_genes(adata, n_top_genes=60)
    values = CunnData(adata.X, adata.obs, adata.var)
    if normalization == "log":
        pp.normalize_total(values)
        pp.log1p(values)
    pp.filter_highly_variable(values)
    if normalization == "pearson":
        pp.normalize_pearson_residuals(values)
    if regress:
        pp.regress_out(values, ["depth"])
    if scale:
        pp.scale(values, max_value=2)
    solver = {"randomized": "randomized", "lanczos": "lanczos"}.get(method, "covariance_eigh")
    pp.pca(values, 6, mask_var=None, zero_center=method != "truncated", svd_solver=solver)
    return values.obsm["X_pca"]


@pytest.mark.parametrize("memory", ["8GB", "1MB"])
@pytest.mark.parametrize(
    ("normalization", "regress", "scale", "method"),
    [
        ("log", True, True, "covariance"),
        ("pearson", False, False, "lanczos"),
        ("none", False, False, "truncated"),
        ("pearson", True, False, "randomized"),
        ("log", False, True, "covariance"),
    ],
)
def test_options(made, to_xp, backend_name, monkeypatch, memory, normalization, regress, scale, method):
    """In memory and in row blocks. 1e-4 of the largest score: float32 between steps, where the stage has none."""
    for name in ("RSC_CORE_HOST_MEMORY", "RSC_CORE_DEVICE_MEMORY"):
        monkeypatch.setenv(name, memory)
    counts = cases.counts(150, 200, mean=1)
    options = {"n_top_genes": 60, "n_comps": 6, "batch_key": "", "normalization": normalization, "pca_method": method}
    options |= {"scale": scale, "max_value": 2.0, "regress_out": ["depth"] if regress else []}
    delta, _ = made(counts, options, depth=np.arange(150.0) % 7)
    wanted = by_hand(counts, to_xp, normalization, regress, scale, method)
    np.testing.assert_allclose(np.abs(delta.obsm["X_pca"]), np.abs(wanted), atol=1e-4 * np.abs(wanted).max())
    # 1 MB is less than the smallest block needs: the host has no lower rung, the device has managed memory.
    small = "blocks" if backend_name == "cpu" else "managed"
    assert delta.record["memory"]["rung"] == ("whole" if memory == "8GB" else small)
    assert (delta.obs["size_factor"] == 1).all() == (normalization == "none")


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "pearson_residuals", "poisson_gene_selection", "seurat_v3_paper"])
def test_flavors_and_their_batch(made, to_xp, flavor):
    counts, donor = cases.counts(150, 200, mean=1), ["x", "y"] * 75
    delta, _ = made(counts, {"n_top_genes": 40, "n_comps": 3, "hvg_flavor": flavor, "hvg_batch": "donor"}, donor=donor)
    adata = cases.annotated(to_xp(counts), donor=donor)
    if flavor in ("seurat", "cell_ranger"):
        adata.X = lognorm(adata.X, size_factors(adata.X))
    pp.highly_variable_genes(adata, flavor=flavor, n_top_genes=40, batch_key="donor")
    np.testing.assert_array_equal(delta.var["highly_variable"], adata.var["highly_variable"])
    assert delta.uns["hvg"]["flavor"] == flavor


def test_wrong_options(made):
    counts = cases.counts(30, 60, mean=1)
    for options, message in (
        ({"hvg_flavor": "best"}, "hvg_flavor is 'best'"),
        ({"regress_out": ["age"]}, "no column 'age'"),
        ({"hvg_batch": "lane"}, "batch_key 'lane': no such column"),
    ):
        with pytest.raises(InvalidInput, match=message):
            made(counts, options)
    delta, _ = made(counts, {"hvg_batch": "none", "n_comps": 3})
    assert "highly_variable_nbatches" not in delta.var
