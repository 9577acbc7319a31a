"""REPORT: self-contained, same bytes again, names from the data escaped, only sections for which there is something."""

import base64
import gzip
import json
import re

import anndata as ad
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import scipy.sparse as sp
from report_cases import MARKERS, MORAN, NASTY, RUN, cells_of, html_of, make_result, sections

from rsc_core.io.delta import Delta, write_delta
from rsc_core.io.store import write_store
from rsc_core.report import cells, figures, samples, static
from rsc_core.report.sections import cells as cell_sections
from rsc_core.report.sections import concordance, integration, looks, methods, tissue
from rsc_core.report.sections import run as run_sections
from rsc_core.stages._tissue import LIGREC_COLUMNS, between_clusters
from rsc_core.stages.report import run as write_report

RIPLEY = ["statistic", "cluster", "distance", "value", "p_value"]


@pytest.fixture
def result():
    return make_result()


def unpacked(text, dtype):
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), dtype=dtype)


def drawn(page_sections):
    """The figures by heading, those of points left out: the page's script makes them."""
    parts = [part for section in page_sections for part in section.parts if part.figure]
    return {part.heading: part.figure for part in parts if "points" not in part.figure}


def test_names_are_escaped_and_nothing_is_fetched(result):
    html = html_of(result, NASTY)
    assert NASTY not in html and "&lt;/script&gt;" in html and "\\u003c/script\\u003e" in html
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", html)
    assert html.count("plotly.js v") == 1  # the library once
    assert "showSendToCloud: false" in html


def test_same_input_same_bytes(result):
    assert html_of(result) == html_of(result)


def test_plotly_knows_every_property(result):
    found = drawn(sections(result))
    assert len(found) >= 8
    for figure in found.values():
        go.Figure(figure)  # refuses unknown properties and values
        json.dumps(figure, allow_nan=False)


def test_ids_are_unique_and_figures_have_their_data(result):
    html = html_of(result)
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    plots = re.findall(r'class="plot" id="([^"]+)"', html)
    assert {f"{plot}-data" for plot in plots} <= set(ids) and len(plots) >= 10
    for plot in plots:
        json.loads(re.search(rf'id="{plot}-data">(.*?)</script>', html)[1])


def test_sections_follow_what_there_is(result):
    assert [section.key for section in sections(result)] == [
        "summary", "quality", "variation", "embedding", "clusters", "markers", "activity", "spatial", "resources", "methods", "provenance",
    ]  # fmt: skip
    del result[0].obsm["spatial"]
    few = sections(result, {})
    assert [section.key for section in few] == [
        "summary", "quality", "variation", "embedding", "clusters", "resources", "methods", "provenance",
    ]  # fmt: skip
    assert [row[0] for row in few[0].parts[-1].table.rows] == [
        "Integration", "Marker genes", "Activity", "Concordance", "Tissue",
    ]  # fmt: skip


def test_removed_cells_are_counted(result):
    part = cell_sections.quality(result[1], looks(result[1])).parts[-1]
    assert [column["name"] for column in part.table.columns] == ["sample", "kept", "min_genes", "removed"]
    assert part.table.rows == [[NASTY, "9", "1", "1"], ["a", "9", "1", "1"]]
    assert [(trace["name"], trace["x"]) for trace in part.figure["data"]] == [("kept", [9, 9]), ("min_genes", [1, 1])]


def test_multiqc_takes_the_samples(result, tmp_path):
    """The structure that MultiQC documents for custom content: a list of columns, and data by sample without missing values."""
    adata, qcs = result
    qcs["empty"] = Delta("qc:empty", qcs["a"].obs.assign(passes_qc=False, qc_reason="max_genes"), uns={})
    table, lost = samples.summary(adata.obs, qcs), samples.fates(qcs)
    samples.write_multiqc(tmp_path, table, lost, figures.styles(lost.columns))
    general, bars = (json.loads((tmp_path / f"rsc_flow_{name}_mqc.json").read_text()) for name in ("general", "cells"))
    assert general["plot_type"] == "generalstats" and bars["plot_type"] == "bargraph"
    columns = [key for header in general["pconfig"] for key in header]
    assert columns == list(table) and all(len(header) == 1 for header in general["pconfig"])
    assert general["data"]["a"] == pytest.approx(
        {"cells read": 10, "cells kept": 10, "kept (%)": 100, "median counts": 10, "median genes": 5, "median mitochondrial (%)": 0}
    )
    assert general["data"]["empty"] == {"cells read": 10, "cells kept": 0, "kept (%)": 0}
    assert bars["data"]["empty"] == {"kept": 0, "max_genes": 10, "min_genes": 0} and list(bars["categories"]) == list(lost)
    assert lost.sum(axis=1).tolist() == [10, 10, 10]


def test_the_strictest_limits_are_drawn(result):
    quality = cell_sections.quality(result[1], looks(result[1]))
    counts = quality.parts[0].figure["layout"]["shapes"]
    assert [line["y0"] for line in counts] == pytest.approx(np.log1p([3, 9, 3, 9]))  # lower and upper of either sample
    assert "mitochondrial" in quality.how  # a constant is named, not drawn


@pytest.mark.parametrize(("lower", "upper", "expected"), [(np.nan, np.nan, []), (0, 5.0, [5.0]), (1.0, np.nan, [1.0])])
def test_limits_that_are_none(lower, upper, expected):
    assert cell_sections.limits_of({"total_counts": {"lower": lower, "upper": upper}}, ("total_counts", "absent")) == expected


def test_dots_show_share_and_fold_change(result):
    dots = drawn(sections(result))["t-test"]["data"][0]
    assert dots["x"] == ["g", "g", NASTY] and dots["y"] == ["0", "1", "1"]  # no dot without a fold change
    assert dots["marker"]["color"] == [1.0, -1.0, 9.0] and dots["marker"]["cmax"] == figures.MOST_FOLDS


def test_a_star_where_a_cluster_differs(result):
    heat = drawn(sections(result))["ulm"]["data"][0]
    assert heat["z"] == [[1.0], [-1.0]] and heat["text"] == [["*"], [""]]


def test_points_hold_every_cell_and_column(result):
    adata, data = result[0], cells_of(result[0]).data()
    figure = next(part.figure for section in sections(result) if section.key == "embedding" for part in section.parts)
    np.testing.assert_array_equal(unpacked(figure["points"]["x"], np.float32), adata.obsm["X_umap"][:, 0].astype(np.float32))
    assert figure["points"]["rows"] is None  # all cells, in their order
    assert [c["name"] for c in data["colourings"]] == ["leiden", "sample", "log(1 + counts of a cell)"]
    np.testing.assert_array_equal(unpacked(data["colourings"][1]["codes"], np.int16), adata.obs["sample"].cat.codes)
    assert [label["name"] for label in data["colourings"][1]["labels"]] == list(adata.obs["sample"].cat.categories)
    placed = next(part.figure for section in sections(result) if section.key == "spatial" for part in section.parts)
    np.testing.assert_array_equal(unpacked(placed["points"]["rows"], np.int32), np.arange(1, 20, 2))


def test_genes_can_be_looked_up(result):
    found = cells_of(result[0])
    gene = found.data()["genes"][NASTY]
    values = gene["low"] + unpacked(gene["levels"], np.uint8) * (gene["top"] - gene["low"]) / cells.LEVELS
    np.testing.assert_allclose(values, np.arange(1, 40, 2), atol=39 / cells.LEVELS / 2 + 1e-4)  # half a level
    np.testing.assert_allclose(found.means.loc["1", "g"], np.arange(2, 40, 4).mean())
    found.add_sources({"ulm": pd.DataFrame({"TF": np.linspace(-1, 1, 20)})})
    assert found.data()["genes"]["TF (ulm)"]["low"] == -1


def test_genes_end_with_their_room(result, monkeypatch):
    monkeypatch.setattr(cells, "GENE_BYTES", len(cells_of(result[0]).data()["genes"]["g"]["levels"]))
    assert list(cells_of(result[0]).data()["genes"]) == ["g"]


def test_the_tree_joins_what_shares_cells():
    labels = pd.DataFrame({"leiden_0.5": pd.Categorical(["0"] * 6 + ["1"] * 4), "leiden_1": pd.Categorical(list("0001112222"))})
    tree = figures.tree(labels)
    go.Figure(tree)
    lines = [trace for trace in tree["data"] if trace["mode"] == "lines"]
    assert len(lines) == 3 and {line["line"]["width"] for line in lines} == {6}  # 0 to 0, 0 to 1, 1 to 2, each whole
    assert [trace["customdata"] for trace in tree["data"] if trace["mode"] != "lines"] == [[6, 4], [3, 3, 4]]


def test_methods_name_what_ran_and_what_to_cite(result):
    parameters = {"backend": "gpu", "integration": "harmony", "embeddings": "umap,tsne", "nmads": 5, "min_genes": 200}
    text, cite = methods.methods(result[0], parameters, {"qc", "integrate", "embed"}).parts
    assert "UMAP, t-SNE" in text.paragraphs[0] and "Moran" not in text.paragraphs[0] and "backend gpu" in text.paragraphs[0]
    assert any("Harmony" in line for line in cite.paragraphs) and not any("Leiden" in line for line in cite.paragraphs)


def test_figures_are_written_as_files(result, tmp_path):
    found = sections(result)
    names = [path.name for path in static.save_all(tmp_path / "a", found, cells_of(result[0]), ("png", "svg"))]
    drawn_parts = [part for section in found for part in section.parts if part.figure]
    assert len(set(names)) == 2 * len(drawn_parts)
    static.save_all(tmp_path / "b", found, cells_of(result[0]), ("png", "svg"))
    assert all((tmp_path / "a" / path.name).read_bytes() == path.read_bytes() for path in (tmp_path / "b").iterdir())
    assert (tmp_path / "a" / "embedding-umap.png").read_bytes().startswith(b"\x89PNG")


def test_a_heat_map_of_a_file_has_the_rows_of_the_page():
    from matplotlib.figure import Figure

    canvas = Figure()
    axes = canvas.subplots()
    static.draw(axes, figures.heat_map(pd.DataFrame({"a": [1.0, -1.0]}, index=["up", "down"]), None, ("c", "r", "v")))
    image = axes.images[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["up", "down"]
    assert axes.transData.transform([(0, 0)])[0, 1] > axes.transData.transform([(0, 1)])[0, 1]  # the first row is above the second
    assert image.get_extent()[2] < image.get_extent()[3] and image.get_array()[:, 0].tolist() == [1, -1]  # and so are its colours


def test_an_image_lies_below_the_tissue(result):
    adata = result[0]
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    adata.uns["spatial"] = {NASTY: {"images": {"lowres": pixels}, "scalefactors": {"tissue_lowres_scalef": 0.5}}}
    image = tissue.spatial(adata, cells_of(adata), {}).parts[0].figure["layout"]["images"][0]
    assert (image["sizex"], image["sizey"]) == (16, 8)
    np.testing.assert_array_equal(static.image_pixels(image["source"])[..., :3], pixels)


def test_looks_differ():
    looks = [(s["colour"], s["symbol"], s["pattern"]) for s in figures.styles(range(24))]
    assert len(set(looks)) == 24 and looks[0][0] == figures.COLOURS[0]


def test_many_points_are_sampled_alike():
    few, many = figures.sampled(10), figures.sampled(figures.MOST_POINTS + 5)
    assert few.tolist() == list(range(10))
    assert len(many) == figures.MOST_POINTS and (np.diff(many) > 0).all()
    np.testing.assert_array_equal(many, figures.sampled(figures.MOST_POINTS + 5))


def test_sections_of_tissue_share_the_points():
    n = cells.LEAST_POINTS + 1
    obs = pd.DataFrame({"sample": pd.Categorical(np.repeat([f"s{i:02}" for i in range(11)], n)), "leiden": pd.Categorical(["0"] * 11 * n)})
    adata = ad.AnnData(obs=obs.set_axis(obs.index.astype(str)), obsm={"spatial": np.zeros((11 * n, 2))})
    found = cells.Cells(adata.obs, adata.obsm["spatial"])
    parts = tissue.spatial(adata, found, {}).parts
    assert [part.figure["points"]["n"] for part in parts] == [cells.LEAST_POINTS] * 11
    assert "5,000 of the 5,001 cells are drawn" in parts[0].note
    assert found.data()["n"] == len(found.drawn) <= adata.n_obs


def test_figures_of_the_tables_of_a_section():
    """Tables as SPATIAL writes them: which figure they get, and what it holds."""
    both = between_clusters(["x", "y"], edges=np.ones((2, 2)), z_score=np.array([[3.0, -1], [-1, 2]]), p_value=np.ones((2, 2)))
    figure = tissue.statistic("s", "nhood_enrichment", "s.nhood_enrichment", both)[0].figure
    assert figure["data"][0]["z"] == [[3.0, -1.0], [-1.0, 2.0]]
    rows = [(a, b, d, 1 + 0.1 * d * (a == b)) for a in "xy" for b in "xy" for d in (1.0, 2.0)]
    curves = pd.DataFrame(rows, columns=["cluster_1", "cluster_2", "distance", "ratio"])
    lines = tissue.statistic("s", "co_occurrence", "s.co_occurrence", curves)[0].figure
    assert [trace["name"] for trace in lines["data"]][:2] == ["x given x", "y given y"] and lines["data"][0]["y"] == [1.1, 1.2]
    pairs = pd.DataFrame([("L", "R", "0", "1", 0.5, 0.001, 0.01), ("L", "R", "1", "0", 0.1, np.nan, np.nan)], columns=LIGREC_COLUMNS)
    dots = tissue.statistic("s", "ligrec", "s.ligrec", pairs)[0].figure
    assert dots["data"][0]["x"] == ["0 to 1"] and dots["data"][0]["y"] == ["L - R"]
    assert (figure["data"][0]["zmin"], figure["data"][0]["zmax"]) == (-3, 3)
    assert (dots["data"][0]["marker"]["cmin"], dots["data"][0]["marker"]["cmax"]) == (0, 0.5)  # nothing is below 0
    edges = tissue.statistic("s", "interaction_matrix", "s.interaction_matrix", both[["cluster_1", "cluster_2", "edges"]])[0].figure
    assert edges["data"][0]["z"] == [[1.0, 1.0], [1.0, 1.0]]
    ripley = pd.DataFrame([(m, c, d, d * 2.0, 1.0) for m in "FL" for c in "xy" for d in (0.0, 1.0)], columns=RIPLEY)
    curves = tissue.statistic("s", "ripley", "s.ripley", ripley)[0].figure
    assert [(trace["name"], trace["y"]) for trace in curves["data"]] == [("x", [0, 2]), ("y", [0, 2])]
    assert tissue.statistic("s", "ripley", "s.ripley", ripley[ripley["statistic"] == "F"])[0].figure is None
    scores = pd.DataFrame({"cluster": ["x", "y"], "degree_centrality": [0.5, 0.1]})
    middle = tissue.statistic("s", "centrality_scores", "s.centrality_scores", scores)[0].figure
    assert middle["data"][0]["x"] == ["degree centrality"] and middle["data"][0]["z"] == [[0.5], [0.1]]
    bars = tissue.statistic("s", "moran", "s.moran", MORAN)[0].figure["data"][0]
    assert bars["y"] == list(MORAN["gene"]) and bars["x"] == [0.9, 0.1]
    for found in (figure, lines, dots, edges, curves, middle):
        go.Figure(found)
    assert tissue.statistic("s", "ligrec", "s.ligrec", pairs.assign(p_value=np.nan))[0].figure is None


def test_wall_time_with_waits():
    """Tasks of 2 s that begin at 1, 2 and 9: 10 s in all, 5 of them with a task at work; the fourth says not when it began."""
    runs = [{"started": start, "process_seconds": 2.0} for start in (9.0, 1.0, 2.0)]
    assert run_sections.wall_time([*runs, RUN]) == (10.0, 5.0)
    assert run_sections.wall_time([RUN]) == (0.0, 0.0)


def test_statistics_follow_the_order_of_the_samples(result):
    adata = result[0]
    adata.obsm["spatial"] = np.arange(40.0).reshape(20, 2)
    adata.obs["sample"] = adata.obs["sample"].cat.rename_categories(["z", "a"])
    tables = {f"{sample}.{kind}": MORAN for sample in ("a", "z") for kind in ("geary", "moran")}
    headings = [part.heading for part in tissue.spatial(adata, cells_of(adata), tables).parts]
    assert headings[2:] == ["z: Moran's I", "z: Geary's C", "a: Moran's I", "a: Geary's C"]


def test_every_figure_says_how_to_read_it(result):
    for section in sections(result):
        assert section.how.endswith((".", "!"))
        for part in section.parts:
            assert part.note or not part.figure, (section.key, part.heading)


def test_integration_shows_both_sides(result):
    adata = result[0]
    assert integration.integration(adata, cells_of(adata)) is None
    figures_of = {"ilisi_before": 1.0, "ilisi_after": 1.9, "batch_silhouette_before": 0.4, "batch_silhouette_after": 0.01}
    result[0].uns["integration"] = {"method": "harmony", "batch_key": "sample", "n_cells": 20, **figures_of}
    section = next(section for section in sections(result) if section.key == "integration")
    assert [row[1:3] for row in section.parts[0].table.rows] == [["1", "1.9"], ["0.4", "0.01"]] and len(section.parts) == 1
    adata.obsm = dict(adata.obsm) | {"X_pca": adata.obsm["X_umap"], "X_pca_harmony": adata.obsm["X_umap"][::-1]}
    before, after = next(section for section in sections(result) if section.key == "integration").parts[1:]
    assert before.colour == after.colour == "sample"
    np.testing.assert_array_equal(unpacked(after.figure["points"]["x"], np.float32), adata.obsm["X_umap"][::-1, 0].astype(np.float32))


def test_concordance_names_the_verdicts():
    table = pd.DataFrame({"step": ["a", "b"], "figure": "f", "value": 1.0, "green": 1.0, "amber": 0.9, "verdict": ["green", "red"]})
    section = concordance.concordance({"concordance": table}, [{"stage": "concordance", "backend": "gpu"}])
    assert "1 green, 1 red" in section.how and "the CPU" in section.how
    assert [row[-1].split()[-1] for row in section.parts[0].table.rows] == ["green", "red"]


def test_a_violin_is_drawn_by_its_quantiles():
    values = np.random.default_rng(0).permutation(10 * figures.MOST_QUANTILES).astype(float)
    trace = figures.violins({"a": values}, {}, {"a": "#000000"}, "x")["data"][0]
    assert len(trace["y"]) == figures.MOST_QUANTILES and trace["y"][0] == values.min() and trace["y"][-1] == values.max()
    np.testing.assert_allclose(np.median(trace["y"]), np.median(values), rtol=1e-3)  # a step of the quantiles


def test_the_stage_writes_page_and_record(result, tmp_path):
    adata, qcs = result
    cells_alone, counts = adata.obs[[]], sp.csr_matrix(np.ones((20, 2), dtype=np.uint16))
    about = {"obs": adata.obs[["sample", "total_counts"]], "var": adata.var[[]], "obsm": {"spatial": adata.obsm["spatial"]}}
    write_store(tmp_path / "counts.store.h5ad", [counts], nnz=counts.nnz, count_dtype=np.uint16, **about)
    deltas = [
        Delta("preprocess", cells_alone.assign(size_factor=1.0), var=adata.var, uns={"pca": adata.uns["pca"]}),
        Delta("embed", cells_alone, obsm={"X_umap": adata.obsm["X_umap"]}),
        Delta("cluster", adata.obs[["leiden"]]),
    ]
    for delta in deltas:
        write_delta(tmp_path / f"{delta.stage}.h5ad", delta)
    for number, delta in enumerate(qcs.values()):
        delta.stage = f"qc:{number}"
        write_delta(tmp_path / f"{number}.qc.h5ad", delta)
    (tmp_path / "tables").mkdir()
    MARKERS.to_csv(tmp_path / "tables" / "markers_t-test.csv", index=False)
    (tmp_path / "a.run.json").write_text(json.dumps(RUN))
    (tmp_path / "parameters.json").write_text('{"seed": 0}')
    given = {"qc": [tmp_path / "1.qc.h5ad", tmp_path / "0.qc.h5ad"], "tables": tmp_path / "tables", "run_record": [tmp_path / "a.run.json"]}
    given["multiqc"] = tmp_path / "multiqc"
    for name in ("one", "two"):
        output = tmp_path / f"{name}.html"
        folder = tmp_path / f"{name}_figures"
        write_report(
            store=tmp_path / "counts.store.h5ad",
            delta=[tmp_path / f"{delta.stage}.h5ad" for delta in deltas],
            parameters=tmp_path / "parameters.json",
            output=output,
            figures=folder,
            title="Ä",
            **given,
        )
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert (tmp_path / "two_figures" / "markers-t-test.svg").exists()
    assert [path.name for path in sorted((tmp_path / "multiqc").iterdir())] == ["rsc_flow_cells_mqc.json", "rsc_flow_general_mqc.json"]
    assert "<title>Ä</title>" in (tmp_path / "one.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "one.html.run.json").read_text())["stage"] == "report"
