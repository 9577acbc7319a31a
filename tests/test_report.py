"""REPORT: self-contained, same bytes again, names from the data escaped, only sections for which there is something."""

import base64
import json
import re

import anndata as ad
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import scipy.sparse as sp

from rsc_core.io.delta import Delta, write_delta
from rsc_core.report import figures, page
from rsc_core.stages.report import run as write_report

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


@pytest.fixture
def result():
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


def sections(result, tables=TABLES):
    return page.all_sections(*result, [RUN], tables, {"seed": 0, "title": NASTY, "network": None})


def drawn(page_sections):
    """The figures by heading, those of points left out: the page's script makes them."""
    parts = [part for section in page_sections for part in section.parts if part.figure]
    return {part.heading: part.figure for part in parts if "points" not in part.figure}


def test_names_are_escaped_and_nothing_is_fetched(result):
    html = page.render(NASTY, sections(result))
    assert NASTY not in html and "&lt;/script&gt;" in html and "\\u003c/script\\u003e" in html
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", html)
    assert html.count("plotly.js v") == 1  # the library once
    assert "showSendToCloud: false" in html


def test_same_input_same_bytes(result):
    assert page.render("T", sections(result)) == page.render("T", sections(result))


def test_plotly_knows_every_property(result):
    found = drawn(sections(result))
    assert len(found) >= 8
    for figure in found.values():
        go.Figure(figure)  # refuses unknown properties and values
        json.dumps(figure, allow_nan=False)


def test_ids_are_unique_and_figures_have_their_data(result):
    html = page.render("T", sections(result))
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    plots = re.findall(r'class="plot" id="([^"]+)"', html)
    assert {f"{plot}-data" for plot in plots} <= set(ids) and len(plots) >= 10
    for plot in plots:
        json.loads(re.search(rf'id="{plot}-data">(.*?)</script>', html)[1])


def test_sections_follow_what_there_is(result):
    assert [section.key for section in sections(result)] == [
        "summary", "quality", "variation", "embedding", "clusters", "markers", "activity", "spatial", "resources", "provenance",
    ]  # fmt: skip
    del result[0].obsm["spatial"]
    few = sections(result, {})
    assert [section.key for section in few] == ["summary", "quality", "variation", "embedding", "clusters", "resources", "provenance"]
    assert [row[0] for row in few[0].parts[-1].table.rows] == ["Marker genes", "Activity", "Tissue"]


def test_removed_cells_are_counted(result):
    table = page.quality(result[1], page.looks(result[1])).parts[-1].table
    assert table.rows == [["min_genes", "1", "1"], ["all reasons", "1", "1"]]


def test_the_strictest_limits_are_drawn(result):
    quality = page.quality(result[1], page.looks(result[1]))
    counts = quality.parts[0].figure["layout"]["shapes"]
    assert [line["y0"] for line in counts] == pytest.approx(np.log1p([3, 9, 3, 9]))  # lower and upper of either sample
    assert "mitochondrial" in quality.how  # a constant is named, not drawn


@pytest.mark.parametrize(("lower", "upper", "expected"), [(np.nan, np.nan, []), (0, 5.0, [5.0]), (1.0, np.nan, [1.0])])
def test_limits_that_are_none(lower, upper, expected):
    assert page.limits_of({"total_counts": {"lower": lower, "upper": upper}}, ("total_counts", "absent")) == expected


def test_dots_show_share_and_fold_change(result):
    dots = drawn(sections(result))["t-test"]["data"][0]
    assert dots["x"] == ["g", "g", NASTY] and dots["y"] == ["0", "1", "1"]  # no dot without a fold change
    assert dots["marker"]["color"] == [1.0, -1.0, 9.0] and dots["marker"]["cmax"] == figures.MOST_FOLDS


def test_a_star_where_a_cluster_differs(result):
    heat = drawn(sections(result))["ulm"]["data"][0]
    assert heat["z"] == [[1.0], [-1.0]] and heat["text"] == [["*"], [""]]


def test_points_hold_every_cell_and_column(result):
    figure = next(part.figure for section in sections(result) if section.key == "embedding" for part in section.parts)
    x = np.frombuffer(base64.b64decode(figure["points"]["x"]), dtype=np.float32)
    np.testing.assert_array_equal(x, result[0].obsm["X_umap"][:, 0].astype(np.float32))
    assert [c["name"] for c in figure["colourings"]] == ["leiden", "sample", "log(1 + counts of a cell)"]
    codes = np.frombuffer(base64.b64decode(figure["colourings"][1]["codes"]), dtype=np.int16)
    np.testing.assert_array_equal(codes, result[0].obs["sample"].cat.codes)
    assert [label["name"] for label in figure["colourings"][1]["labels"]] == list(result[0].obs["sample"].cat.categories)


def test_looks_differ():
    looks = [(s["colour"], s["symbol"], s["pattern"]) for s in figures.styles(range(24))]
    assert len(set(looks)) == 24 and looks[0][0] == figures.COLOURS[0]


def test_many_points_are_sampled_alike():
    few, many = figures.sampled(10), figures.sampled(figures.MOST_POINTS + 5)
    assert few.tolist() == list(range(10))
    assert len(many) == figures.MOST_POINTS and (np.diff(many) > 0).all()
    np.testing.assert_array_equal(many, figures.sampled(figures.MOST_POINTS + 5))


def test_sections_of_tissue_share_the_points():
    n = page.LEAST_POINTS + 1
    obs = pd.DataFrame({"sample": pd.Categorical(np.repeat([f"s{i:02}" for i in range(11)], n)), "leiden": pd.Categorical(["0"] * 11 * n)})
    adata = ad.AnnData(obs=obs.set_axis(obs.index.astype(str)), obsm={"spatial": np.zeros((11 * n, 2))})
    parts = page.spatial(adata, {}).parts
    assert [part.figure["points"]["n"] for part in parts] == [page.LEAST_POINTS] * 11
    assert parts[0].note.startswith("5,000 of the 5,001 cells are drawn")


def test_a_violin_is_drawn_by_its_quantiles():
    values = np.random.default_rng(0).permutation(10 * figures.MOST_QUANTILES).astype(float)
    trace = figures.violins({"a": values}, {}, {"a": "#000000"}, "x")["data"][0]
    assert len(trace["y"]) == figures.MOST_QUANTILES and trace["y"][0] == values.min() and trace["y"][-1] == values.max()
    np.testing.assert_allclose(np.median(trace["y"]), np.median(values), rtol=1e-3)  # a step of the quantiles


def test_the_stage_writes_page_and_record(result, tmp_path):
    adata, qcs = result
    adata.X = sp.csr_matrix((20, 2), dtype=np.float32)
    adata.write_h5ad(tmp_path / "adata.h5ad")
    for number, delta in enumerate(qcs.values()):
        delta.stage = f"qc:{number}"
        write_delta(tmp_path / f"{number}.qc.h5ad", delta)
    (tmp_path / "tables").mkdir()
    MARKERS.to_csv(tmp_path / "tables" / "markers_t-test.csv", index=False)
    (tmp_path / "a.run.json").write_text(json.dumps(RUN))
    (tmp_path / "parameters.json").write_text('{"seed": 0}')
    given = {"qc": [tmp_path / "1.qc.h5ad", tmp_path / "0.qc.h5ad"], "tables": tmp_path / "tables", "run_record": [tmp_path / "a.run.json"]}
    for name in ("one", "two"):
        output = tmp_path / f"{name}.html"
        write_report(adata=tmp_path / "adata.h5ad", parameters=tmp_path / "parameters.json", output=output, title="Ä", **given)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert "<title>Ä</title>" in (tmp_path / "one.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "one.html.run.json").read_text())["stage"] == "report"
