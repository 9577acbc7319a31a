"""CunnData: slots, slices as copies, conversions, and every function on it."""

import anndata as ad
import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import rsc_core
from rsc_core import CunnData, backend, get, pp, tl


def dense(matrix):
    matrix = backend.to_host(matrix)
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


@pytest.fixture
def original():
    counts = cases.counts(60, 40, mean=2)
    adata = cases.annotated(counts, kind=pd.Categorical(np.array(["a", "b"])[np.arange(60) % 2]))
    adata.layers["counts"] = counts.astype(np.int64)
    adata.layers["dense"] = counts.toarray()
    adata.obsm["X_place"], adata.varm["load"] = np.arange(120.0).reshape(60, 2), np.arange(40.0)[:, None]
    adata.obsm["table"] = pd.DataFrame({"t": np.arange(60)}, index=adata.obs_names)
    adata.obsp["graph"] = sp.csr_matrix(np.eye(60)[::-1])
    adata.uns["note"], adata.uns["kind_colors"] = {"deep": [1, 2]}, np.array(["red", "blue"])
    return adata


def same(ours, theirs):
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)
    pd.testing.assert_frame_equal(ours.var, theirs.var)
    np.testing.assert_array_equal(dense(ours.X), dense(theirs.X))
    for slot in ("layers", "varm", "obsp", "obsm"):
        wanted = {key: value for key, value in getattr(theirs, slot).items() if key is not None}  # None: X, from anndata 0.13 on
        assert set(getattr(ours, slot)) == set(wanted)
        for key, value in wanted.items():
            np.testing.assert_array_equal(dense(getattr(ours, slot)[key]), dense(value))
    assert set(ours.uns) == set(theirs.uns) and ours.uns["note"] == theirs.uns["note"]
    np.testing.assert_array_equal(ours.uns["kind_colors"], theirs.uns["kind_colors"])


def test_there_and_back(original, backend_name):
    cunn = CunnData.from_anndata(original, backend_name)
    assert cunn.shape == original.shape == (cunn.n_obs, cunn.n_vars) and len(cunn) == 60
    assert backend.xp_of(cunn.X.data, cunn.layers["dense"]).__name__ == ("numpy" if backend_name == "cpu" else "cupy")
    assert cunn.layers["counts"].dtype == np.float32 and isinstance(cunn.obsm["X_place"], np.ndarray)
    back = cunn.to_anndata()
    assert isinstance(back, ad.AnnData)
    same(back, original)
    cunn.X.data[:] = 0
    cunn.uns["note"]["deep"].append(3)
    cunn.obs["kind"] = "c"
    same(back, original)


@pytest.mark.parametrize(
    "index",
    [
        slice(5, 20, 3),
        np.arange(60) % 7 == 0,
        [3, 59, 3],
        np.array([-1, 4]),
        ["c7", "c2"],
        "c9",
        4,
        (slice(None), np.arange(40) % 3 == 0),
        ([9, 2, 30], ["g5", "g39", "g0"]),
        (slice(None, None, -1), slice(10, None)),
        (pd.Index(["c1", "c5"]), pd.Series(np.arange(40) < 4)),
        (np.zeros(60, dtype=bool), []),
    ],
)
def test_slices_are_those_of_anndata(original, backend_name, index):
    def host(axis, names):
        if isinstance(axis, slice) or (isinstance(axis, list | np.ndarray) and len(axis)):
            return axis
        return np.arange(0) if isinstance(axis, list) else axis.to_numpy() if isinstance(axis, pd.Series) else axis  # anndata's needs

    cells, genes = index if isinstance(index, tuple) else (index, slice(None))
    ours = CunnData.from_anndata(original, backend_name)[index]
    theirs = original[host(cells, original.obs_names)].copy()[:, host(genes, original.var_names)].copy()
    same(ours, theirs)


def test_a_slice_is_a_copy(original, backend_name):
    cunn = CunnData.from_anndata(original, backend_name)
    for part in (cunn.copy(), cunn[:], cunn[:, :], cunn[:30]):
        part.X.data[:] = 7
        part.layers["dense"][:] = 7
        part.obsm["X_place"][:] = 7
        part.uns["note"]["deep"].append(9)
        part.obs["new"] = 1
    same(cunn, original)


def test_what_does_not_fit_is_refused(original, backend_name):
    cunn = CunnData.from_anndata(original, backend_name)
    for slot, value in (("layers", np.zeros((60, 3))), ("obsm", np.zeros((3, 2))), ("varm", np.zeros((60, 2))), ("obsp", np.eye(3))):
        with pytest.raises(ValueError, match=rf"{slot}\['x'\] has shape"):
            getattr(cunn, slot)["x"] = value
    with pytest.raises(ValueError, match="X has shape"):
        cunn.X = np.zeros((2, 2))
    with pytest.raises(KeyError, match="no gene 'zz'"):
        cunn[:, ["zz", "g1"]]
    with pytest.raises(IndexError, match="60 cells"):
        cunn[np.ones(3, dtype=bool)]
    with pytest.raises(ValueError, match="both obs and var"):
        CunnData()
    cunn.obs_names = ["c"] * 60
    with pytest.raises(KeyError, match="not unique"):
        cunn["c"]


def test_repr_is_like_that_of_anndata(original):
    ours, theirs = (repr(x).split("\n") for x in (CunnData.from_anndata(original, "cpu"), original))
    assert ours[0] == theirs[0].replace("AnnData", "CunnData") and set(ours[1:]) == set(theirs[1:])
    assert rsc_core.CunnData is CunnData and repr(CunnData(np.ones((2, 3)))) == "CunnData object with n_obs × n_vars = 2 × 3"


def test_every_function_takes_it(backend_name):
    """The same calls on an AnnData and on a CunnData give the same."""
    adata = cases.annotated(cases.counts(150, 120, mean=2), batch=np.arange(150) % 2, kind=pd.Categorical(np.arange(150) % 3))
    device = adata.copy()
    device.X = backend.to_device(device.X, backend_name)
    results = []
    for x in (device, CunnData.from_anndata(adata, backend_name)):
        pp.flag_gene_family(x, gene_family_name="mt", gene_family_prefix="g1")
        pp.calculate_qc_metrics(x, qc_vars="mt", percent_top=[5], inplace=True)
        pp.filter_cells(x, min_genes=5)
        pp.filter_genes(x, min_cells=5)
        for flavor in ("seurat_v3", "pearson_residuals", "poisson_gene_selection"):
            pp.highly_variable_genes(x, flavor=flavor, n_top_genes=60, batch_key="batch")
        x.layers["counts"] = x.X.copy()
        pp.normalize_pearson_residuals(x, layer="counts")
        pp.normalize_total(x, target_sum=1000)
        pp.log1p(x)
        pp.highly_variable_genes(x, flavor="seurat", n_top_genes=60, subset=True)
        pp.filter_highly_variable(x)
        tl.score_genes(x, list(x.var_names[:5]), n_bins=4)
        tl.rank_genes_groups(x, "kind")
        summary = get.aggregate(x, "kind", "mean")
        pp.regress_out(x, ["total_counts"])
        pp.scale(x, max_value=10)
        pp.pca(x, n_comps=10)
        pp.harmony_integrate(x, "batch")
        pp.neighbors(x, n_neighbors=10)
        tl.leiden(x)
        results.append((x.to_anndata() if isinstance(x, CunnData) else x, summary))
    (one, summary), (other, other_summary) = results
    np.testing.assert_array_equal(summary.layers["mean"], other_summary.layers["mean"])
    pd.testing.assert_frame_equal(one.obs, other.obs)
    pd.testing.assert_frame_equal(one.var, other.var)
    np.testing.assert_array_equal(dense(one.X), dense(other.X))
    np.testing.assert_array_equal(one.obsm["X_pca_harmony"], other.obsm["X_pca_harmony"])
    assert set(one.uns) == set(other.uns)
