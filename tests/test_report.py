"""REPORT: self-contained, same bytes again, names from the data escaped, only sections for which there is something."""

import json
import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from rsc_core.io.delta import Delta
from rsc_core.report import figures, page

NASTY = "<script>alert(1)</script>"
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
}


@pytest.fixture
def result():
    """Twenty cells of two samples, one of them with coordinates, and their QC."""
    generator = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"sample": pd.Categorical(["a", NASTY] * 10), "leiden": pd.Categorical(["0", "1"] * 10)}, index=[f"c{i}" for i in range(20)]
    )
    var = pd.DataFrame({"highly_variable": True, "variances_norm": [1.0, 2.0], "means": 1.0}, index=["g", NASTY])
    adata = ad.AnnData(obs=obs, var=var, obsm={"X_umap": generator.random((20, 2)), "spatial": generator.random((20, 2))})
    adata.obsm["spatial"][::2] = np.nan
    adata.uns["pca"] = {"variance_ratio": np.array([0.5, 0.1])}
    adata.uns["rsc_core"] = {"preprocess": json.dumps({"stage": "preprocess", "parents": {"counts": "abc"}})}
    qcs = {}
    for sample in obs["sample"].cat.categories:
        mine = obs[obs["sample"] == sample].assign(total_counts=5.0, n_genes_by_counts=3, pct_counts_mt=0.0, passes_qc=True, qc_reason="")
        mine.loc[mine.index[0], ["passes_qc", "qc_reason"]] = [False, "min_genes"]
        qcs[sample] = Delta(f"qc:{sample}", mine, uns={"qc_thresholds": {"total_counts": {"lower": 1.25, "upper": np.nan}}})
    return adata, qcs


def text(result, tables):
    adata, qcs = result
    return page.render("T", page.all_sections(adata, qcs, [RUN], tables, {"seed": 0, "title": NASTY}))


def test_names_are_escaped_and_nothing_is_fetched(result):
    html = text(result, {})
    assert NASTY not in html and "&lt;script&gt;" in html
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", html)
    assert html.count("plotly.js v") == 1  # the library once


def test_same_input_same_bytes(result):
    assert text(result, {}) == text(result, {})


def test_sections_follow_what_there_is(result):
    keys = [section.key for section in page.all_sections(*result, [RUN], {}, {})]
    assert keys == ["summary", "quality", "variation", "embedding", "spatial", "resources", "provenance"]
    activity = pd.DataFrame({"cluster": ["0", "1"], "source": ["s", "s"], "mean_score": [1.0, -1.0]})
    markers = pd.DataFrame({"group": ["0", "1"], "gene": ["g", "g"], "rank": [1, 1], "pct_in": [0.5, 0.2]})
    keys = [s.key for s in page.all_sections(*result, [RUN], {"activity_ulm": activity, "markers_t-test": markers}, {})]
    assert {"markers", "activity"} <= set(keys)


def test_removed_cells_are_counted(result):
    quality = page.quality(result[1])
    assert "min_genes" in quality.parts[-1].table and quality.parts[-1].heading.startswith("Cells removed")


def test_thresholds_are_drawn(result):
    counts = page.quality(result[1]).parts[0].figure
    assert counts.count('"dash":"dash"') == 2 and '"x0":1.25' in counts  # one a sample; no limit, no line


def test_many_points_are_sampled_alike():
    few, many = figures.sampled(10), figures.sampled(figures.MOST_POINTS + 5)
    assert few.tolist() == list(range(10))
    assert len(many) == figures.MOST_POINTS and (np.diff(many) > 0).all()
    np.testing.assert_array_equal(many, figures.sampled(figures.MOST_POINTS + 5))
