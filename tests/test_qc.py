"""calculate_qc_metrics against scanpy; the QC stage: thresholds, reasons, warnings."""

import cases
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from rsc_core.pp import calculate_qc_metrics


def classes(n_genes):
    number = np.arange(n_genes)
    return pd.DataFrame({"mt": number % 5 == 0, "ribo": number % 3 == 0, "none": False}, index=[f"g{i}" for i in number])


@pytest.mark.parametrize("shape", [(1, 1), (7, 31), (8, 32), (9, 33), (300, 500)])
@pytest.mark.parametrize("log1p", [True, False])
def test_equals_scanpy(to_xp, shape, log1p):
    counts = cases.counts(*shape, empty_cell=0 if shape[0] > 1 else None)
    theirs, ours = cases.annotated(counts.copy()), cases.annotated(to_xp(counts))
    theirs.var = ours.var = classes(shape[1])
    wanted = sc.pp.calculate_qc_metrics(theirs, qc_vars=["mt", "ribo", "none"], percent_top=None, log1p=log1p)
    for got, want in zip(calculate_qc_metrics(ours, qc_vars=["mt", "ribo", "none"], log1p=log1p), wanted, strict=True):
        assert sorted(got.columns) == sorted(want.columns)
        # scanpy sums, takes logarithms and divides in float32: three roundings.
        pd.testing.assert_frame_equal(got[want.columns], want, rtol=3 * 2.0**-23, atol=0, check_dtype=False)


def test_real_counts(to_xp, data_dir):
    adata = sc.read_h5ad(data_dir / "pancreas_lib1.h5ad")
    adata.var["mt"] = adata.var_names.str.upper().str.startswith("MT-")
    wanted = sc.pp.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=None)
    ours = cases.annotated(to_xp(sp.csr_matrix(adata.X, dtype=np.float32)))
    ours.obs_names, ours.var = adata.obs_names, adata.var[["mt"]]
    calculate_qc_metrics(ours, qc_vars="mt", inplace=True)
    pd.testing.assert_frame_equal(ours.obs[wanted[0].columns], wanted[0], rtol=3 * 2.0**-23, check_dtype=False)
    pd.testing.assert_frame_equal(ours.var[wanted[1].columns], wanted[1], rtol=3 * 2.0**-23, check_dtype=False)


def test_sums_beyond_float32_are_exact(to_xp):
    counts = np.full((3, 2), 2.0**24 - 1, dtype=np.float32)
    cells, genes = calculate_qc_metrics(cases.annotated(to_xp(sp.csr_matrix(counts))))
    assert cells["total_counts"].tolist() == [2 * (2**24 - 1)] * 3 and genes["total_counts"].tolist() == [3 * (2**24 - 1)] * 2


def test_stored_zeros_are_not_expressed(to_xp):
    counts = sp.csr_matrix((np.array([0, 2], np.float32), np.array([0, 1], np.int32), np.array([0, 2], np.int32)), shape=(1, 2))
    cells, genes = calculate_qc_metrics(cases.annotated(to_xp(counts)))
    assert cells["n_genes_by_counts"].tolist() == [1] and genes["n_cells_by_counts"].tolist() == [0, 1]


@pytest.mark.parametrize("value", [0.5, -1.0, np.nan, np.inf])
def test_values_that_are_no_counts_are_named(to_xp, value):
    counts = cases.counts(20, 10)
    counts.data[counts.indptr[3]] = value
    with pytest.raises(ValueError, match="cell 'c3'.*counts are needed"):
        calculate_qc_metrics(cases.annotated(to_xp(counts)))


def test_unknown_class_is_named(to_xp):
    with pytest.raises(KeyError, match="no column 'mito'"):
        calculate_qc_metrics(cases.annotated(to_xp(cases.counts(5, 5))), qc_vars=["mito"])
