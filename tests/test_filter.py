"""Filters of cells and genes, families, percent_top, sqrt, bases of logarithms, dominant genes: against scanpy."""

import cases
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from rsc_core import backend, pp

FLOAT32 = 3 * 2.0**-24  # one rounding here, two in scanpy


def dense(matrix):
    matrix = backend.to_host(matrix)
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


@pytest.mark.parametrize("shape", [(1, 1), (9, 33), (200, 150)])
@pytest.mark.parametrize("limit", ["min_counts", "max_counts", "min_genes", "max_genes"])
def test_cells_are_those_of_scanpy(to_xp, shape, limit):
    counts = cases.counts(*shape, empty_cell=0)
    value = 30 if "counts" in limit else 20
    wanted, number = sc.pp.filter_cells(cases.annotated(counts.copy()), **{limit: value}, inplace=False)
    for layout in (counts, counts.tocsc(), counts.toarray()):
        got, ours = pp.filter_cells(cases.annotated(to_xp(layout)), **{limit: value}, inplace=False)
        np.testing.assert_array_equal(got, wanted)
        np.testing.assert_array_equal(ours, np.asarray(number))


@pytest.mark.parametrize("shape", [(1, 1), (9, 33), (200, 150)])
@pytest.mark.parametrize("limit", ["min_counts", "max_counts", "min_cells", "max_cells"])
def test_genes_are_those_of_scanpy(to_xp, shape, limit):
    counts = cases.counts(*shape, empty_gene=0)
    value = 60 if "counts" in limit else 40
    wanted, number = sc.pp.filter_genes(cases.annotated(counts.copy()), **{limit: value}, inplace=False)
    for layout in (counts, counts.tocsc(), counts.toarray()):
        got, ours = pp.filter_genes(cases.annotated(to_xp(layout)), **{limit: value}, inplace=False)
        np.testing.assert_array_equal(got, wanted)
        np.testing.assert_array_equal(ours, np.asarray(number))


def test_in_place(to_xp):
    counts = cases.counts(100, 60)
    theirs, ours = cases.annotated(counts.copy()), cases.annotated(to_xp(counts))
    for module, adata in ((sc.pp, theirs), (pp, ours)):
        module.filter_cells(adata, min_genes=15)
        module.filter_genes(adata, min_cells=10)
    assert 0 < ours.n_obs < 100 and 0 < ours.n_vars < 60
    np.testing.assert_array_equal(dense(ours.X), theirs.X.toarray())
    np.testing.assert_array_equal(ours.obs["n_genes"], theirs.obs["n_genes"])
    np.testing.assert_array_equal(ours.var["n_cells"], theirs.var["n_cells"])


def test_stored_zeros_and_large_totals(to_xp):
    counts = sp.csr_matrix(np.full((2, 3), 2.0**24 - 1, dtype=np.float32))
    counts.data[0] = 0
    _, totals = pp.filter_cells(cases.annotated(to_xp(counts)), min_counts=1, inplace=False)
    _, numbers = pp.filter_cells(cases.annotated(to_xp(counts)), min_genes=1, inplace=False)
    assert totals.tolist() == [2 * (2**24 - 1), 3 * (2**24 - 1)] and numbers.tolist() == [2, 3]


@pytest.mark.parametrize("limits", [{}, {"min_counts": 1, "max_counts": 2}])
def test_exactly_one_limit(limits):
    for function in (pp.filter_cells, pp.filter_genes):
        with pytest.raises(ValueError, match="exactly one of min_counts"):
            function(cases.annotated(cases.counts(5, 5)), **limits)


def test_families():
    adata = cases.annotated(cases.counts(5, 4))
    adata.var_names = ["MT-CO1", "mt-Nd1", "GeneMT-", "RPL3"]
    pp.flag_gene_family(adata, gene_family_name="mt", gene_family_prefix="MT-")
    pp.flag_gene_family(adata, gene_family_name="end", gene_family_suffix="MT-")
    pp.flag_gene_family(adata, gene_family_name="listed", gene_list=["RPL3", "absent"])
    assert adata.var["mt"].tolist() == [True, False, False, False]
    assert adata.var["end"].tolist() == [False, False, True, False]
    assert adata.var["listed"].tolist() == [False, False, False, True]
    with pytest.raises(ValueError, match="exactly one"):
        pp.flag_gene_family(adata, gene_family_name="x")


def test_chosen_genes_are_kept(to_xp):
    adata = cases.annotated(to_xp(cases.counts(20, 30)))
    with pytest.raises(KeyError, match="highly_variable_genes first"):
        pp.filter_highly_variable(adata)
    adata.var["highly_variable"] = np.arange(30) % 3 == 0
    pp.filter_highly_variable(adata)
    assert adata.var_names.tolist() == [f"g{i}" for i in range(0, 30, 3)]


@pytest.mark.parametrize("shape", [(1, 3), (60, 33), (100, 400)])
def test_percent_top_equals_scanpy(to_xp, shape):
    counts = cases.counts(*shape, mean=2, empty_cell=5 if shape[0] > 5 else None)
    tops = [n for n in (1, 3, 20, 200) if n <= shape[1]]
    names = [f"pct_counts_in_top_{n}_genes" for n in tops]
    wanted, _ = sc.pp.calculate_qc_metrics(cases.annotated(counts.copy()), percent_top=tops)
    got, _ = pp.calculate_qc_metrics(cases.annotated(to_xp(counts)), percent_top=tops)
    assert set(got) == set(wanted)
    np.testing.assert_allclose(got[names], wanted[names], rtol=3 * 2.0**-23)  # scanpy divides by float32 totals
    with pytest.raises(ValueError, match=f"there are {shape[1]} genes"):
        pp.calculate_qc_metrics(cases.annotated(to_xp(counts)), percent_top=[shape[1] + 1])


@pytest.mark.parametrize("base", [None, 2, 10])
def test_log1p_of_any_base(to_xp, base):
    counts = cases.counts(40, 50, mean=3)
    theirs, ours = cases.annotated(counts.copy()), cases.annotated(to_xp(counts))
    sc.pp.log1p(theirs, base=base)
    pp.log1p(ours, base=base)
    np.testing.assert_allclose(dense(ours.X), dense(theirs.X), rtol=2 * FLOAT32)
    assert ours.uns["log1p"].get("base") == base
    with pytest.raises(ValueError, match="base is 1"):
        pp.log1p(ours, base=1)


def test_sqrt(to_xp):
    counts = cases.counts(40, 50, mean=3)
    for layout in (counts, counts.tocsc(), counts.toarray()):
        ours = cases.annotated(to_xp(layout))
        pp.sqrt(ours)
        np.testing.assert_array_equal(dense(ours.X), np.sqrt(counts.toarray()))


@pytest.mark.parametrize("max_fraction", [0.05, 0.2, 0.9])
def test_dominant_genes_are_left_out_as_in_scanpy(to_xp, max_fraction):
    counts = cases.counts(120, 90, mean=3)
    for layout in (counts, counts.toarray()):
        theirs, ours = cases.annotated(layout.copy()), cases.annotated(to_xp(layout))
        for target in (None, 1000):
            sc.pp.normalize_total(theirs, target_sum=target, exclude_highly_expressed=True, max_fraction=max_fraction)
            pp.normalize_total(ours, target_sum=target, exclude_highly_expressed=True, max_fraction=max_fraction)
            np.testing.assert_allclose(dense(ours.X), dense(theirs.X), rtol=8 * FLOAT32)
    with pytest.raises(ValueError, match="max_fraction is 1"):
        pp.normalize_total(ours, exclude_highly_expressed=True, max_fraction=1)
