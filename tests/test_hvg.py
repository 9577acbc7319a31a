"""highly_variable_genes against scanpy, on real libraries and at the edges."""

import functools
import warnings

import anndata as ad
import cases
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from rsc_core.pp import highly_variable_genes
from rsc_core.pp._hvg import gene_moments, mean_variance, trend

# scanpy takes the variance in another order of float64 operations, and the regression passes the difference on.
CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture(scope="module")
def pancreas(request):
    folder = request.config.rootpath / "tests" / "data"
    parts = {name: sc.read_h5ad(folder / f"pancreas_{name}.h5ad") for name in ("lib1", "lib2", "lib3")}
    joined = ad.concat(parts, label="library", join="inner", index_unique="-")
    joined.X = sp.csr_matrix(joined.X, dtype=np.float32)
    return joined[:, np.asarray((joined.X > 0).sum(axis=0)).ravel() >= 3].copy()


def scanpy_choice(adata, n_top_genes, batch_key):
    return sc.pp.highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=n_top_genes, batch_key=batch_key, inplace=False)


def exact_moments(adata, by, func):
    """scanpy.get.aggregate with each mean and variance rounded once.

    scanpy 1.12 takes the batches' moments from aggregate, whose last bits differ (5e-14 relative). Loess is not continuous
    in them: genes of equal mean fall apart, and variances_norm moves by up to 7e-4.
    """
    batches = adata.obs[by].unique()
    dense = {batch: adata.X[(adata.obs[by] == batch).to_numpy()].toarray().astype(np.float64) for batch in batches}
    layers = {"mean": [x.mean(axis=0) for x in dense.values()], "var": [x.var(axis=0, ddof=1) for x in dense.values()]}
    obs = pd.DataFrame({by: batches}, index=[str(batch) for batch in batches])
    return ad.AnnData(obs=obs, var=adata.var, layers={name: np.array(rows) for name, rows in layers.items()})


@pytest.mark.parametrize("batch_key", [None, "library"])
@pytest.mark.parametrize("n_top_genes", [500, 2000])
def test_equals_scanpy_on_three_libraries(to_xp, pancreas, batch_key, n_top_genes, monkeypatch):
    # Genes seen in one or two cells often have equal values; scanpy ranks them in the order of NumPy's unstable sort, which
    # depends on the processor's vector instructions. With a stable sort it gives one answer, and it must be ours.
    with monkeypatch.context() as patched:
        patched.setattr(np, "argsort", functools.partial(np.argsort, kind="stable"))
        patched.setattr("scanpy.preprocessing._highly_variable_genes.aggregate", exact_moments, raising=False)
        wanted = scanpy_choice(pancreas, n_top_genes, batch_key)
    wanted_by_chance = scanpy_choice(pancreas, n_top_genes, batch_key)
    ours = cases.annotated(to_xp(pancreas.X), library=pancreas.obs["library"].to_numpy())
    ours.var_names = pancreas.var_names
    got = highly_variable_genes(ours, n_top_genes=n_top_genes, batch_key=batch_key, inplace=False)
    assert got["highly_variable"].sum() == n_top_genes
    np.testing.assert_array_equal(got["highly_variable"], wanted["highly_variable"])
    for column in ("means", "variances", "variances_norm"):
        np.testing.assert_allclose(got[column], wanted[column], **CLOSE)
    assert (got["highly_variable"] & wanted_by_chance["highly_variable"]).sum() >= 0.995 * n_top_genes
    chosen = got["highly_variable"].to_numpy()
    np.testing.assert_array_equal(got["highly_variable_rank"][chosen], wanted["highly_variable_rank"][chosen])
    if batch_key:
        np.testing.assert_array_equal(got["highly_variable_nbatches"][chosen], wanted["highly_variable_nbatches"][chosen])


def test_writes_what_scanpy_writes(to_xp):
    counts = cases.counts(200, 300, mean=1)
    ours, theirs = (cases.annotated(m, batch=np.arange(200) % 2) for m in (to_xp(counts), counts.copy()))
    sc.pp.highly_variable_genes(theirs, flavor="seurat_v3", n_top_genes=50, batch_key="batch")
    highly_variable_genes(ours, n_top_genes=50, batch_key="batch")
    assert set(ours.var) == set(theirs.var) and ours.uns["hvg"] == theirs.uns["hvg"]
    highly_variable_genes(ours, n_top_genes=50, subset=True)
    assert ours.n_vars == 50


@pytest.mark.parametrize("n_rows", [0, 1, 7, 8, 9, 100])
def test_sums_are_exact_and_any_order_of_cells_gives_them(to_xp, n_rows):
    counts = cases.counts(100, 33, mean=4)
    counts.data[:3] = 2.0**24 - 1
    rows = np.random.default_rng(0).permutation(100)[:n_rows]
    clip = np.linspace(0, 5, 33)
    total, squares, above = gene_moments(to_xp(counts), rows, clip)
    dense = counts.toarray()[rows].astype(np.int64)
    np.testing.assert_array_equal(above, (dense > clip).sum(axis=0))
    np.testing.assert_array_equal(total, np.where(dense > clip, 0, dense).sum(axis=0))
    np.testing.assert_array_equal(squares, np.where(dense > clip, 0, dense**2).sum(axis=0))


def test_a_constant_gene_has_no_variance():
    n, value = 12_345, 7_654_321
    mean, variance = mean_variance(np.array([n * value]), np.array([n * value**2]), n)
    assert mean.tolist() == [value] and variance.tolist() == [0.0]


def test_constant_and_absent_genes(to_xp):
    counts = cases.counts(150, 120, mean=2, empty_gene=4).toarray()
    counts[:, 7] = 3
    got = highly_variable_genes(cases.annotated(to_xp(sp.csr_matrix(counts))), n_top_genes=30, inplace=False)
    assert got["variances_norm"].iloc[[4, 7]].tolist() == [0.0, 0.0] and not got["highly_variable"].iloc[[4, 7]].any()
    assert np.isfinite(got["variances_norm"]).all()


def test_more_genes_asked_for_than_there_are(to_xp):
    got = highly_variable_genes(cases.annotated(to_xp(cases.counts(80, 60))), n_top_genes=2000, inplace=False)
    assert got["highly_variable"].all()


def test_a_batch_of_one_cell_is_left_out(to_xp):
    counts = cases.counts(101, 200, mean=1)
    batch = np.r_[np.zeros(100, dtype=int), 1]
    with pytest.warns(UserWarning, match=r"batch '1' \(1 cells\) is left out"):
        got = highly_variable_genes(cases.annotated(to_xp(counts), batch=batch), n_top_genes=20, batch_key="batch", inplace=False)
    alone = highly_variable_genes(cases.annotated(to_xp(counts[:100])), n_top_genes=20, inplace=False)
    np.testing.assert_array_equal(got["highly_variable"], alone["highly_variable"])
    np.testing.assert_array_equal(got["variances_norm"], alone["variances_norm"])


@pytest.mark.parametrize("n_genes", [1, 2, 3, 5, 10])
def test_few_genes_have_an_answer(to_xp, n_genes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = highly_variable_genes(cases.annotated(to_xp(cases.counts(60, n_genes, mean=2))), n_top_genes=1, inplace=False)
    assert np.isfinite(got["variances_norm"]).all() and got["highly_variable"].sum() == 1


def test_genes_of_equal_mean_have_an_answer():
    mean = np.array([1.0, 1.0, 1.0, 1.0])
    variance = np.array([1.0, 2.0, 4.0, 8.0])
    with pytest.warns(UserWarning, match="one quadratic was fitted"):
        np.testing.assert_allclose(trend(mean, variance, 0.3), 10 ** np.log10(variance).mean())


def test_order_of_cells_changes_no_bit(to_xp):
    counts = cases.counts(120, 150, mean=1)
    once, again = (highly_variable_genes(cases.annotated(to_xp(m)), n_top_genes=30, inplace=False) for m in (counts, counts[::-1]))
    pd.testing.assert_frame_equal(once, again, check_exact=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flavor": "loess"}, "flavor is 'loess'"),
        ({"n_top_genes": None}, "n_top_genes is None"),
        ({"flavor": "pearson_residuals", "theta": 0}, "theta=0"),
        ({"batch_key": "donor"}, "no column 'donor'"),
    ],
)
def test_arguments_are_refused(arguments, message):
    with pytest.raises((ValueError, KeyError), match=message):
        highly_variable_genes(cases.annotated(cases.counts(20, 20)), **arguments)


def test_values_that_are_no_counts_are_refused(to_xp):
    with pytest.raises(ValueError, match="takes raw counts"):
        highly_variable_genes(cases.annotated(to_xp(cases.counts(20, 20) * np.float32(0.5))))


def test_nothing_varies(to_xp):
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no gene varies"):
        highly_variable_genes(cases.annotated(to_xp(sp.csr_matrix(np.ones((5, 4), dtype=np.float32)))))
