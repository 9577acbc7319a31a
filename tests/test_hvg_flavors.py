"""The flavors of highly_variable_genes other than seurat_v3: against scanpy, and by hand."""

import functools
import warnings

import cases
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from rsc_core import backend, pp

N = 403  # cells: three batches of unlike size


def tissue(to_xp, *, log, batches=3, seed=0, genes=700):
    """The same cells for scanpy (float64, whose exponentials are not those of float32) and for the backend."""
    counts = cases.counts(N, genes, mean=1, seed=seed, empty_gene=5)
    if log:
        counts.data = np.log1p(counts.data.astype(np.float64)).astype(np.float32)
    label = np.array(["a", "b", "c"])[np.minimum(np.arange(N) // 100, batches - 1)]
    return cases.annotated(counts.astype(np.float64), batch=label), cases.annotated(to_xp(counts), batch=label)


def compare(got, wanted, rtol):
    wanted = wanted.drop(columns="mean_bin", errors="ignore").loc[got.index]  # its working column; it sorts batched tables by name
    assert set(got) == set(wanted)
    np.testing.assert_array_equal(got["highly_variable"], wanted["highly_variable"])
    for column in wanted:
        if column != "highly_variable_rank":
            np.testing.assert_allclose(got[column].astype(float), wanted[column].astype(float), rtol=rtol, atol=rtol, err_msg=column)


@pytest.mark.parametrize("batch_key", [None, "batch"])
@pytest.mark.parametrize("n_top_genes", [None, 100])
@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
def test_dispersions_equal_scanpy(to_xp, flavor, n_top_genes, batch_key):
    theirs, ours = tissue(to_xp, log=True)
    options = {"flavor": flavor, "n_top_genes": n_top_genes, "batch_key": batch_key, "inplace": False}
    wanted = sc.pp.highly_variable_genes(theirs, **options)
    got = pp.highly_variable_genes(ours, **options)
    assert 50 < got["highly_variable"].sum() < 700
    compare(got, wanted, 1e-9)  # the same float64 formula in another order


def test_dispersions_of_another_base(to_xp):
    theirs, ours = tissue(to_xp, log=True)
    for adata in (theirs, ours):
        adata.X = adata.X / np.float32(np.log(2))
        adata.uns["log1p"] = {"base": 2}
    options = {"flavor": "seurat", "n_top_genes": 80, "inplace": False}
    compare(pp.highly_variable_genes(ours, **options), sc.pp.highly_variable_genes(theirs, **options), 1e-6)  # rounded apart to float32


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
def test_float32_pancreas(to_xp, data_dir, flavor):
    adata = sc.read_h5ad(data_dir / "pancreas_lib1.h5ad")
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    sc.pp.filter_genes(adata, min_cells=3)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    wanted = sc.pp.highly_variable_genes(adata, flavor=flavor, n_top_genes=1000, inplace=False)
    got = pp.highly_variable_genes(cases.annotated(to_xp(adata.X)), flavor=flavor, n_top_genes=1000, inplace=False)
    np.testing.assert_allclose(got["means"], wanted["means"], rtol=1e-5)
    np.testing.assert_allclose(got["dispersions_norm"], wanted["dispersions_norm"], rtol=1e-4, atol=1e-4)  # float32 exponentials there
    assert (got["highly_variable"].to_numpy() == wanted["highly_variable"].to_numpy()).mean() > 0.9995


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_pearson_residuals_equal_scanpy(to_xp, batch_key, monkeypatch):
    theirs, ours = tissue(to_xp, log=False)
    options = {"flavor": "pearson_residuals", "n_top_genes": 120, "batch_key": batch_key, "theta": 50, "clip": 6.0, "inplace": False}
    with monkeypatch.context() as patched:  # its unstable sort leaves equal values to chance
        patched.setattr(np, "argsort", functools.partial(np.argsort, kind="stable"))
        wanted = sc.experimental.pp.highly_variable_genes(theirs, **options)
    got = pp.highly_variable_genes(ours, **options)
    compare(got, wanted, 1e-9)
    np.testing.assert_array_equal(got["highly_variable_rank"], wanted["highly_variable_rank"])


def test_pearson_residuals_default_clip(to_xp):
    theirs, ours = tissue(to_xp, log=False)
    sc.experimental.pp.highly_variable_genes(theirs, n_top_genes=120)
    pp.highly_variable_genes(ours, flavor="pearson_residuals", n_top_genes=120)
    assert set(ours.var) == set(theirs.var) and ours.uns["hvg"] == theirs.uns["hvg"]
    np.testing.assert_allclose(ours.var["residual_variances"], theirs.var["residual_variances"], rtol=1e-9)


def test_each_batch_has_the_clip_of_its_size(to_xp):
    _, ours = tissue(to_xp, log=False)
    joint = pp.highly_variable_genes(ours, flavor="pearson_residuals", n_top_genes=700, batch_key="batch", inplace=False)
    counts, label = backend.to_host(ours.X), ours.obs["batch"].to_numpy()
    alone = [
        pp.highly_variable_genes(cases.annotated(to_xp(counts[label == b])), flavor="pearson_residuals", inplace=False)[
            "residual_variances"
        ]
        for b in "abc"
    ]
    np.testing.assert_allclose(joint["residual_variances"], np.mean(alone, axis=0), rtol=1e-14)


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_poisson_zeros_by_hand(to_xp, batch_key):
    theirs, ours = tissue(to_xp, log=False)
    got = pp.highly_variable_genes(ours, flavor="poisson_gene_selection", n_top_genes=100, batch_key=batch_key, inplace=False)
    label = theirs.obs["batch"].to_numpy() if batch_key else np.zeros(N)
    parts = []
    for b in np.unique(label):
        x = theirs.X[label == b].toarray()
        observed = 1 - (x > 0).mean(axis=0)
        expected = np.exp(-np.outer(x.sum(axis=1), x.sum(axis=0) / x.sum())).mean(axis=0)
        parts.append((observed, expected, observed * (1 - expected)))
    observed, expected, enriched = np.median(np.array(parts), axis=0)
    np.testing.assert_allclose(got["observed_fraction_zeros"], observed, rtol=1e-14)
    np.testing.assert_allclose(got["expected_fraction_zeros"], expected, rtol=1e-13)
    np.testing.assert_allclose(got["prob_zero_enrichment"], enriched, rtol=1e-12, atol=1e-13)
    rank = np.array([p[2] for p in parts]).argsort(axis=1).argsort(axis=1)
    table = pd.DataFrame({"n": (rank >= 600).sum(axis=0), "rank": np.median(rank, axis=0)})
    wanted = table.sort_values(["n", "rank"], ascending=False, kind="stable").index[:100]
    assert len(set(wanted) & set(np.flatnonzero(got["highly_variable"]))) >= 99  # equal sums may be rounded apart
    assert ("prob_zero_enriched_nbatches" in got) == (batch_key is not None) and got["highly_variable"].sum() == 100


def test_poisson_probability_is_that_of_draws():
    """scvi-tools counts draws in which the observed zero came and the expected one did not."""
    ours = cases.annotated(cases.counts(N, 60, mean=1))
    got = pp.highly_variable_genes(ours, flavor="poisson_gene_selection", n_top_genes=10, inplace=False)
    draw = np.random.default_rng(0).random((2, 20_000, 60))
    drawn = ((draw[0] < got["observed_fraction_zeros"].to_numpy()) & (draw[1] >= got["expected_fraction_zeros"].to_numpy())).mean(axis=0)
    np.testing.assert_allclose(drawn, got["prob_zero_enrichment"], atol=5 * np.sqrt(0.25 / 20_000))  # five standard errors


def test_paper_order_of_seurat_v3(to_xp, monkeypatch):
    theirs, ours = tissue(to_xp, log=False)
    options = {"flavor": "seurat_v3_paper", "n_top_genes": 100, "batch_key": "batch", "inplace": False}
    with monkeypatch.context() as patched, warnings.catch_warnings():
        patched.setattr(np, "argsort", functools.partial(np.argsort, kind="stable"))
        wanted = sc.pp.highly_variable_genes(theirs, **options)
    got = pp.highly_variable_genes(ours, **options)
    assert (got["highly_variable"] == wanted["highly_variable"]).mean() > 0.997  # equal ranks at the border: one pair
    other = pp.highly_variable_genes(ours, **options | {"flavor": "seurat_v3"})
    assert (got["highly_variable"] != other["highly_variable"]).any()


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "pearson_residuals", "poisson_gene_selection"])
def test_small_batches_layouts_and_orders(to_xp, flavor):
    counts = cases.counts(101, 200, mean=1)
    if flavor in ("seurat", "cell_ranger"):
        with pytest.raises(ValueError, match="pp.log1p first"):
            pp.highly_variable_genes(cases.annotated(to_xp(counts * np.float32(1000))), flavor="seurat")
        counts = counts.log1p()
    options = {"flavor": flavor, "n_top_genes": 20, "inplace": False}
    alone = pp.highly_variable_genes(cases.annotated(to_xp(counts[:100])), **options)
    label = np.r_[np.zeros(100, dtype=int), 1]
    with pytest.warns(UserWarning, match=r"batch '1' \(1 cells\) is left out"):
        got = pp.highly_variable_genes(cases.annotated(to_xp(counts), batch=label), batch_key="batch", **options)
    np.testing.assert_array_equal(got["highly_variable"], alone["highly_variable"])
    for layout in (sp.csc_matrix(counts[:100]), counts[:100].toarray()):
        pd.testing.assert_frame_equal(pp.highly_variable_genes(cases.annotated(to_xp(layout)), **options), alone, check_exact=True)
    with pytest.raises(ValueError, match="no batch has 2 cells"), pytest.warns(UserWarning):
        pp.highly_variable_genes(cases.annotated(to_xp(counts[:1])), **options)
    if flavor[0] == "p":
        with pytest.raises(ValueError, match="takes raw counts"):
            pp.highly_variable_genes(cases.annotated(to_xp(counts * np.float32(0.5))), **options)


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
def test_a_batch_without_counts_chooses_nothing(to_xp, flavor):
    x = cases.counts(60, 50, mean=2)
    x = sp.vstack([x[:40], sp.csr_matrix((20, 50), dtype=np.float32)]).tocsr()
    adata = cases.annotated(to_xp(x.log1p()), batch=np.array(["full", "empty"])[(np.arange(60) >= 40).astype(int)])
    alone = cases.annotated(to_xp(x[:40].log1p()))
    for part, key in ((adata, "batch"), (alone, None)):
        pp.highly_variable_genes(part, flavor=flavor, n_top_genes=10, batch_key=key)
    np.testing.assert_array_equal(adata.var["highly_variable_nbatches"], alone.var["highly_variable"])
    chosen = adata.var["highly_variable"]
    assert chosen.sum() == 10 and alone.var["highly_variable"][chosen].all()  # genes of equal values at the border: all alone, 10 here
