"""score_genes, score_genes_cell_cycle, aggregate, moves between host and device: against scanpy."""

import cases
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from rsc_core import backend, get, tl
from rsc_core.errors import BackendUnavailable
from rsc_core.tl._score_genes import control_genes

LAYOUTS = [sp.csr_matrix, sp.csc_matrix, lambda m: m.toarray()]


def pair(to_xp, n_cells, n_genes, layout=sp.csr_matrix, **obs):
    x = cases.counts(n_cells, n_genes, mean=1).log1p()
    return cases.annotated(x.toarray().astype(np.float64), **obs), cases.annotated(to_xp(layout(x)), **obs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ctrl_as_ref", [True, False])
@pytest.mark.parametrize("pool", [None, 40])
def test_scores_equal_scanpy_where_no_control_is_drawn(to_xp, layout, ctrl_as_ref, pool):
    theirs, ours = pair(to_xp, 90, 120, layout)
    genes = [f"g{i}" for i in (3, 50, 7, 39, 11)][: 5 if pool is None else 3]
    genes = [g for g in genes if pool is None or int(g[1:]) < pool]
    options = {"ctrl_size": 60, "n_bins": 6, "ctrl_as_ref": ctrl_as_ref, "gene_pool": pool and [f"g{i}" for i in range(pool)]}
    sc.tl.score_genes(theirs, genes, **options)
    tl.score_genes(ours, genes, **options)
    np.testing.assert_allclose(ours.obs["score"], theirs.obs["score"], rtol=1e-12, atol=1e-13)


def test_drawn_controls(to_xp):
    _, ours = pair(to_xp, 90, 600)
    x, genes = backend.to_host(ours.X).toarray().astype(np.float64), np.array([3, 50, 299])
    controls = control_genes(x.mean(axis=0), genes, np.arange(600), 10, 6, True, 0)
    cut = pd.Series(x.mean(axis=0)).rank(method="min").to_numpy() // 120
    bins = np.unique(cut[genes])
    assert (
        not np.isin(controls, genes).any() and np.isin(cut[controls], bins).all() and 10 * bins.size - 3 <= controls.size <= 10 * bins.size
    )
    tl.score_genes(ours, [f"g{i}" for i in genes], ctrl_size=10, n_bins=6)
    np.testing.assert_allclose(ours.obs["score"], x[:, genes].mean(axis=1) - x[:, controls].mean(axis=1), rtol=1e-12, atol=1e-13)
    again = control_genes(x.mean(axis=0), genes, np.arange(600), 10, 6, True, 1)
    assert set(again) != set(controls)


def test_phases_equal_scanpy(to_xp):
    theirs, ours = pair(to_xp, 200, 60)
    lists = {"s_genes": [f"g{i}" for i in range(12)], "g2m_genes": [f"g{i}" for i in range(20, 35)]}
    sc.tl.score_genes_cell_cycle(theirs, **lists)  # bins of at most 3 genes: nothing is drawn
    tl.score_genes_cell_cycle(ours, **lists)
    for column in ("S_score", "G2M_score"):
        np.testing.assert_allclose(ours.obs[column], theirs.obs[column], rtol=1e-12, atol=1e-13)
    assert ours.obs["phase"].astype(str).tolist() == theirs.obs["phase"].astype(str).tolist()
    assert ours.obs["phase"].nunique() == 3


def test_sets_that_are_absent(to_xp):
    _, ours = pair(to_xp, 20, 30)
    with pytest.warns(UserWarning, match="1 genes of 'score' are not in var_names"):
        tl.score_genes(ours, ["g1", "zz"], n_bins=3)
    with pytest.raises(ValueError, match="no gene of gene_list"), pytest.warns(UserWarning):
        tl.score_genes(ours, ["zz"])
    with pytest.raises(ValueError, match="'g1' of gene_list is not in gene_pool"):
        tl.score_genes(ours, ["g1"], gene_pool=["g2", "g3"])
    ours.var_names = ["g0"] * 30
    with pytest.raises(ValueError, match="not unique"):
        tl.score_genes(ours, ["g0"])


def labels(n):
    rng = np.random.default_rng(0)
    kind = pd.Categorical(rng.choice(["a", "b", "c"], n), categories=["c", "unused", "a", "b"])
    return {"kind": kind, "donor": rng.choice(["x", "y"], n), "taken": rng.random(n) < 0.7}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("by", ["kind", ["kind", "donor"]])
@pytest.mark.parametrize("mask", [None, "taken"])
@pytest.mark.parametrize("dof", [0, 1])
def test_aggregates_equal_scanpy(to_xp, layout, by, mask, dof):
    theirs, ours = pair(to_xp, 150, 40, layout, **labels(150))
    functions = ["count_nonzero", "mean", "sum", "var"]
    # scanpy divides masked sums by the size of the whole group: the masked cells alone are its input here.
    wanted = sc.get.aggregate(theirs[theirs.obs[mask]].copy() if mask else theirs, by, functions, dof=dof)
    got = get.aggregate(ours, by, functions, mask=mask, dof=dof)
    assert got.obs_names.tolist() == wanted.obs_names.tolist() and got.var_names.equals(wanted.var_names)
    for column in got.obs:  # scanpy 1.12 adds n_obs_aggregated
        assert got.obs[column].astype(str).tolist() == wanted.obs[column].astype(str).tolist()
    for name in functions:
        np.testing.assert_allclose(got.layers[name], wanted.layers[name], rtol=1e-12, atol=1e-12, err_msg=name)


def test_aggregates_of_genes_obsm_and_edges(to_xp):
    theirs, ours = pair(to_xp, 30, 40, **labels(30))
    for adata in (theirs, ours):
        adata.var["family"] = ["u", "v"] * 20
        adata.obsm["place"] = np.arange(60.0).reshape(30, 2)
    np.testing.assert_allclose(
        get.aggregate(ours, "family", "mean", axis="var").layers["mean"],
        sc.get.aggregate(theirs, "family", "mean", axis=1).layers["mean"],
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        get.aggregate(ours, "donor", "sum", obsm="place").layers["sum"],
        sc.get.aggregate(theirs, "donor", "sum", obsm="place").layers["sum"],
    )
    ours.obs["alone"] = [str(i) if i else None for i in range(30)]
    got = get.aggregate(ours, "alone", ["var", "sum"])
    assert got.n_obs == 29 and np.isnan(got.layers["var"]).all()
    for options, message in (({"func": "median"}, "median"), ({"func": "sum", "axis": 3}, "axis is 3")):
        with pytest.raises(ValueError, match=message):
            get.aggregate(ours, "donor", **options)
    with pytest.raises(KeyError, match="no column 'x'"):
        get.aggregate(ours, "x", "sum")


def test_there_and_back(to_xp, backend_name):
    ours = cases.annotated(cases.counts(10, 5).astype(np.int64))
    ours.layers["more"] = ours.X.copy()
    wanted = ours.X.toarray()
    if backend_name == "gpu":
        moved = get.anndata_to_GPU(ours, convert_all=True, copy=True)
        assert "cupy" in type(moved.X).__module__ and "cupy" in type(moved.layers["more"]).__module__
        get.anndata_to_CPU(moved, convert_all=True)
        np.testing.assert_array_equal(moved.X.toarray(), wanted)
        return
    get.anndata_to_CPU(ours, "more")
    np.testing.assert_array_equal(ours.layers["more"].toarray(), wanted)
    try:
        backend.require("gpu")
    except BackendUnavailable:
        with pytest.raises(BackendUnavailable):
            get.anndata_to_GPU(ours)
