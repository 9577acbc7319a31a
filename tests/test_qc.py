"""calculate_qc_metrics against scanpy; the QC stage: thresholds, reasons, warnings."""

import json

import cases
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from rsc_core.errors import InvalidInput
from rsc_core.io.delta import read_delta
from rsc_core.pp import calculate_qc_metrics, scrublet
from rsc_core.stages import qc


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


# ---- the stage


def sample(tmp_path, matrix, genes=None, **thresholds):
    """Run QC on a matrix; returns the delta and the warnings."""
    path, output = tmp_path / "s.store.h5ad", tmp_path / "s.qc.h5ad"
    cases.store(path, matrix, "s", genes=genes)
    qc.run(store=path, sample="s", output=output, **thresholds)
    return read_delta(output), json.loads((tmp_path / "s.qc.h5ad.run.json").read_text())["warnings"]


OFF = {"min_counts": 0, "min_genes": 0, "max_mito_percent": 100, "nmads": 0}


@pytest.mark.parametrize(
    ("threshold", "value", "metric", "fails"),
    [
        ("min_counts", 40, "total_counts", lambda x: x < 40),
        ("max_counts", 40, "total_counts", lambda x: x > 40),
        ("min_genes", 12, "n_genes_by_counts", lambda x: x < 12),
        ("max_genes", 12, "n_genes_by_counts", lambda x: x > 12),
        ("max_mito_percent", 5, "pct_counts_mt", lambda x: x > 5),
    ],
)
def test_each_threshold_alone(tmp_path, threshold, value, metric, fails):
    genes = [f"mt-{i}" if i % 5 == 0 else f"g{i}" for i in range(40)]
    delta, _ = sample(tmp_path, cases.counts(100, 40, mean=0.5), genes, **(OFF | {threshold: value}))
    wanted = fails(delta.obs[metric]) & (delta.obs["total_counts"] > 0)
    assert 0 < wanted.sum() < 100
    np.testing.assert_array_equal(delta.obs["qc_reason"] == threshold, wanted)
    np.testing.assert_array_equal(delta.obs["passes_qc"], delta.obs["qc_reason"] == "")
    assert value in delta.uns["qc_thresholds"][metric].values()


def test_mads_are_those_of_scipy(tmp_path):
    from scipy.stats import median_abs_deviation

    delta, _ = sample(tmp_path, cases.counts(400, 60, mean=0.5), **(OFF | {"nmads": 1.5}))
    for metric in ("log1p_total_counts", "log1p_n_genes_by_counts"):
        values = delta.obs[metric][delta.obs["total_counts"] > 0]
        reach = 1.5 * median_abs_deviation(values, scale="normal")
        assert delta.uns["qc_thresholds"][metric]["lower"] == pytest.approx(values.median() - reach, rel=1e-14)
        assert delta.uns["qc_thresholds"][metric]["upper"] == pytest.approx(values.median() + reach, rel=1e-14)
    assert set(delta.obs["qc_reason"]) >= {"", "mad_log1p_total_counts"}


def test_a_metric_without_spread_has_no_limit(tmp_path):
    counts = np.ones((20, 30), dtype=np.float32)
    counts[0, 0] = 50
    delta, _ = sample(tmp_path, sp.csr_matrix(counts), min_genes=1)
    assert delta.obs["passes_qc"].all() and np.isnan(delta.uns["qc_thresholds"]["log1p_total_counts"]["upper"])


def test_a_cell_without_counts_is_always_removed(tmp_path):
    delta, warnings = sample(tmp_path, cases.counts(30, 40, mean=2, empty_cell=[4, 7]), **OFF)
    assert delta.obs["qc_reason"].iloc[[4, 7]].tolist() == ["no_counts"] * 2 and delta.obs["passes_qc"].sum() == 28
    assert any("sample s: 2 of 30 cells have no counts" in text and "'c4'" in text for text in warnings)


def test_all_cells_removed_is_a_warning(tmp_path):
    delta, warnings = sample(tmp_path, cases.counts(30, 40), min_genes=1000)
    assert not delta.obs["passes_qc"].any()
    assert any("all 30 cells fail QC (most often: min_genes)" in text for text in warnings)


def test_families_ignore_case_and_spare_bpg():
    table = qc.families_of(["mt-Co1", "MT-ND1", "Rpl3", "RPS6", "HBA1", "Hbb-bs", "HBP1", "MTOR"], ["MT-"], ["RPS", "RPL"], "^HB[^P]")
    assert table["mt"].tolist() == [True, True] + [False] * 6
    assert table["ribo"].tolist() == [False, False, True, True] + [False] * 4
    assert table["hb"].tolist() == [False] * 4 + [True, True, False, False]


def test_a_broken_pattern_is_named():
    with pytest.raises(InvalidInput, match="hb_pattern"):
        qc.families_of(["a"], [], [], "HB[")


def test_two_runs_give_the_same_bytes(tmp_path):
    cases.store(tmp_path / "s.store.h5ad", cases.counts(50, 40), "s")
    for output in ("a.h5ad", "b.h5ad"):
        qc.run(store=tmp_path / "s.store.h5ad", sample="s", output=tmp_path / output)
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()


def test_doublets_are_scored_among_the_cells_that_pass(tmp_path):
    counts = cases.counts(300, 120, mean=2, seed=3)
    counts = sp.vstack([counts, counts[:30] + counts[1:31], counts[:5] * 40]).tocsr()
    options = OFF | {"max_counts": 5000, "scrublet": True, "expected_doublet_rate": 0.1, "seed": 3}
    delta, warnings = sample(tmp_path, counts, **options)
    failed = (delta.obs["qc_reason"] == "max_counts").to_numpy()
    assert failed[-5:].all()
    adata = cases.annotated(counts[~failed])
    scrublet(adata, expected_doublet_rate=0.1, random_state=3)
    np.testing.assert_array_equal(delta.obs["doublet_score"][~failed], adata.obs["doublet_score"])
    assert delta.obs["doublet_score"][failed].isna().all() and not delta.obs["predicted_doublet"][failed].any()
    assert delta.uns["scrublet"]["parameters"]["expected_doublet_rate"] == 0.1
    assert any("two modes" in text for text in warnings) == np.isnan(adata.uns["scrublet"]["threshold"])


def test_doublets_are_filtered(tmp_path, monkeypatch):
    monkeypatch.setattr("rsc_core.pp._scrublet.minimum_between_modes", lambda values: float(np.quantile(values, 0.5)))
    delta, _ = sample(tmp_path, cases.counts(200, 100, mean=2), **OFF, filter_doublets=True)
    called = delta.obs["predicted_doublet"]
    assert called.any() and (delta.obs["qc_reason"][called] == "doublet").all() and not delta.obs["passes_qc"][called].any()


def test_few_cells_have_no_doublet_scores(tmp_path):
    delta, warnings = sample(tmp_path, cases.counts(8, 40, mean=2), **OFF, scrublet=True)
    assert delta.obs["doublet_score"].isna().all() and any("too few or too much alike" in text for text in warnings)


def test_further_families(tmp_path):
    genes = [f"HSP{i}" if i < 5 else f"mcm{i}" if i < 9 else f"g{i}" for i in range(40)]
    delta, _ = sample(tmp_path, cases.counts(50, 40, mean=2), genes, **OFF, gene_families="heat=hsp,cycle=MCM|CDK")
    assert delta.var["heat"].sum() == 5 and delta.var["cycle"].sum() == 4
    assert {"pct_counts_heat", "pct_counts_cycle"} <= set(delta.obs) and "total_counts_heat" not in delta.obs
    for wrong in ("heat", "mt=HSP", "a b=HSP", "heat=HSP|"):
        with pytest.raises(InvalidInput, match="NAME=PREFIX"):
            qc.families_of(genes, [], [], "", wrong)
