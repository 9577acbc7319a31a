"""A small report for tests: two samples, one of them with coordinates, and names that try to break the page."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from rsc_core.io.delta import Delta
from rsc_core.report import cells, page
from rsc_core.report.sections import all_sections

NASTY = "</script><script>alert(1)</script>"
RUN = {
    "stage": "preprocess",
    "backend": "cpu",
    "device": "a CPU",
    "process_seconds": 2.0,
    "seconds": 1.5,
    "peak_host_bytes": 10**8,
    "peak_device_bytes": 0,
    "versions": {"numpy": "2.0"},
    "warnings": [NASTY],
    "steps": [{"step": "read", "seconds": 1.0}],
}
ACTIVITY = pd.DataFrame({"cluster": ["0", "1"], "source": [NASTY, NASTY], "mean_score": [1.0, -1.0], "adjusted_p_value": [0.01, np.nan]})
MARKERS = pd.DataFrame({"group": ["0", "1"] * 2, "gene": ["g", "g", NASTY, NASTY], "rank": [1, 2, 2, 1], "pct_in": 0.5})
MARKERS["log2_fold_change"] = [1, -1, np.nan, 9]
MORAN = pd.DataFrame({"gene": [NASTY, "g"], "I": [0.9, 0.1], "pval_norm": [0.0, 1.0], "var_norm": 0.1})
TABLES = {"activity_ulm": ACTIVITY, "markers_t-test": MARKERS, f"{NASTY}.moran": MORAN}


def make_result():
    """Twenty cells of two samples, one of them with coordinates, and their QC."""
    generator = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"sample": pd.Categorical(["a", NASTY] * 10), "leiden": pd.Categorical(["0", "1"] * 10), "total_counts": np.arange(20.0)},
        index=[f"c{i}" for i in range(20)],
    )
    var = pd.DataFrame({"highly_variable": True, "variances_norm": [1.0, 2.0], "means": 1.0}, index=["g", NASTY])
    adata = ad.AnnData(obs=obs, var=var, obsm={"X_umap": generator.random((20, 2)), "spatial": generator.random((20, 2))})
    adata.obsm["spatial"][::2] = np.nan
    adata.uns["pca"] = {"variance_ratio": np.array([0.5, 0.1])}
    adata.uns["rsc_core"] = {"preprocess": json.dumps({"stage": "preprocess", "parents": {"counts": "abc"}})}
    qcs = {}
    for sample in obs["sample"].cat.categories:
        mine = obs[obs["sample"] == sample].assign(n_genes_by_counts=np.arange(10), pct_counts_mt=0.0, passes_qc=True, qc_reason="")
        mine.loc[mine.index[0], ["passes_qc", "qc_reason"]] = [False, "min_genes"]
        limits = {"total_counts": {"lower": 2.0, "upper": np.nan}, "log1p_total_counts": {"lower": np.log1p(3), "upper": np.log1p(9)}}
        qcs[sample] = Delta(f"qc:{sample}", mine, uns={"qc_thresholds": limits})
    return adata, qcs


PARAMETERS = {"seed": 0, "title": NASTY, "network": None}


def cells_of(adata):
    """The cells of the page, with expression of two genes in two blocks."""
    found = cells.Cells(adata.obs, adata.obsm.get("spatial"))
    x = sp.csr_matrix(np.arange(40, dtype=np.float32).reshape(20, 2))
    found.read_genes(lambda columns: [(0, 7, x[:7, columns]), (7, 20, x[7:, columns])], ["g", NASTY, "absent"], adata.var_names)
    return found


def sections(result, tables=TABLES):
    adata, qcs = result
    return all_sections(adata, cells_of(adata), qcs, [RUN], tables, PARAMETERS)


def html_of(result, title="T"):
    return page.render(title, sections(result), cells_of(result[0]).data())
