"""The sections of the report: what each shows, and one sentence on how to read it."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from pathlib import Path

import jinja2
import markupsafe
import numpy as np
import pandas as pd
import plotly.offline

from rsc_core import __version__
from rsc_core.report import figures

TOP_MARKERS = 5  # genes of a cluster in the dot plot
MOST_DOTS = 75  # genes in the dot plot
TABLE_MARKERS = 20  # genes of a cluster in the table
TOP_ROWS = 50
MOST_SOURCES = 60
LEAST_POINTS = 5_000  # of a section of tissue, however many sections share the points
NOT_SHOWN = ("var_norm", "var_sim", "pval_z_sim", "pval_z_sim_fdr_bh")  # of the tables of SPATIAL
SIGNIFICANT = 0.05
STAGES = (
    "ingest", "qc", "merge", "preprocess", "integrate", "neighbors", "embed", "cluster", "markers", "activity", "spatial", "assemble",
)  # fmt: skip


@dataclasses.dataclass
class Metric:
    """A QC metric: its axis, whether it is drawn as log(1 + value), and the names under which QC keeps its limits."""

    title: str
    log: bool = False
    limits: tuple[str, ...] = ()


METRICS = {
    "total_counts": Metric("counts of a cell", True, ("total_counts", "log1p_total_counts")),
    "n_genes_by_counts": Metric("expressed genes of a cell", True, ("n_genes_by_counts", "log1p_n_genes_by_counts")),
    "pct_counts_mt": Metric("mitochondrial counts (%)", limits=("pct_counts_mt",)),
    "pct_counts_ribo": Metric("ribosomal counts (%)"),
    "pct_counts_hb": Metric("haemoglobin counts (%)"),
}


@dataclasses.dataclass
class Table:
    """Names of the columns, whether each is text, and cells as text."""

    columns: list[dict]
    rows: list[list[str]]


@dataclasses.dataclass
class Part:
    """A figure, a table, or both under a heading."""

    heading: str
    figure: dict | None = None
    table: Table | None = None
    note: str = ""


@dataclasses.dataclass
class Section:
    """A part of the page."""

    key: str
    title: str
    how: str
    parts: list[Part] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


def as_table(frame: pd.DataFrame) -> Table:
    """A DataFrame as text: floats with four significant digits, nothing for what is missing."""
    is_text = [not pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    columns = [{"name": str(name), "is_text": text} for name, text in zip(frame.columns, is_text, strict=True)]
    return Table(columns, [[_shown(value) for value in row] for row in frame.itertuples(index=False, name=None)])


def _shown(value) -> str:
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return ""
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    if isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_)):
        return f"{value:,}"
    return "" if value is None or value is pd.NA else str(value)


def as_json(figure: dict) -> markupsafe.Markup:
    """A figure for a script element: no text in it can close the element or start another."""
    text = json.dumps(figure, separators=(",", ":"), allow_nan=False)
    return markupsafe.Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def render(title: str, sections: list[Section]) -> str:
    """The whole page, self-contained."""
    folder = resources.files("rsc_core.report") / "templates"
    style, script, page = ((folder / f"report.{end}").read_text(encoding="utf-8") for end in ("css", "js", "html.j2"))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["as_json"] = as_json
    template = environment.from_string(page)
    return template.render(title=title, sections=sections, css=style, js=script, plotly=plotly.offline.get_plotlyjs(), version=__version__)


def looks(names) -> dict[str, dict]:
    """The look of each sample, the same in all figures."""
    return {look["name"]: look for look in figures.styles(names)}


def summary(adata, qcs, runs, left_out: list[str]) -> Section:
    """Cells in and out, and every warning of the run."""
    kept = adata.obs["sample"].astype(str).value_counts()
    rows = []
    for name, qc in qcs.items():
        good = qc.obs[qc.obs["passes_qc"]]
        n_kept = int(kept.get(name, 0))
        rows.append(
            {
                "sample": name,
                "cells read": len(qc.obs),
                "cells kept": n_kept,
                "kept (%)": 100 * n_kept / max(1, len(qc.obs)),
                "median counts": float(good["total_counts"].median()),
                "median genes": float(good["n_genes_by_counts"].median()),
            }
        )
    compute = next((run for run in runs if run["stage"] == "preprocess"), None)
    where = f" The work ran on backend {compute['backend']} ({compute['device']})." if compute else ""
    clusters = f" in {adata.obs['leiden'].nunique()} clusters" if "leiden" in adata.obs else ""
    how = f"The result has {adata.n_obs:,} cells{clusters} and {adata.n_vars:,} genes.{where} Read the warnings first."
    parts = [Part("Cells of each sample", table=as_table(pd.DataFrame(rows)), note="Medians are those of the kept cells.")]
    if left_out:
        parts.append(Part("Not in this report", table=as_table(pd.DataFrame(left_out, columns=["part", "why"]))))
    warnings = [f"{run['stage']}: {text}" for run in runs for text in run["warnings"]]
    return Section("summary", "Summary", how, parts, warnings)


def quality(qcs, look: dict[str, dict]) -> Section:
    """QC metrics of all cells before filtering with their limits, and why cells were removed."""
    parts, constant = [], []
    for key, metric in METRICS.items():
        values = {name: qc.obs[key].to_numpy(dtype=np.float64) for name, qc in qcs.items() if key in qc.obs and len(qc.obs)}
        if not any(np.subtract(*np.quantile(v, [0.75, 0.25])) > 0 for v in values.values()):
            constant.append(metric.title)
            continue
        limits = {name: limits_of(qcs[name].uns.get("qc_thresholds", {}), metric.limits) for name in values}
        table = pd.DataFrame({name: np.quantile(v, [0, 0.25, 0.5, 0.75, 1]) for name, v in values.items()}).T
        table.columns = ["smallest", "25 %", "median", "75 %", "largest"]
        table["limits"] = [", ".join(f"{limit:.4g}" for limit in limits[name]) or "none" for name in table.index]
        figure = figures.violins(values, limits, {name: look[name]["colour"] for name in values}, metric.title, metric.log)
        parts.append(Part(metric.title.capitalize(), figure, as_table(table.rename_axis("sample").reset_index())))
    lost = {name: qc.obs.loc[~qc.obs["passes_qc"], "qc_reason"].astype(str).value_counts() for name, qc in qcs.items()}
    table = pd.DataFrame(lost).fillna(0).astype(int)
    if len(table):
        table.loc["all reasons"] = table.sum()
        parts.append(Part("Cells removed", table=as_table(table.rename_axis("first limit that failed").reset_index())))
    how = (
        "Every cell that was read, before filtering: one bulge a sample is good, a second one near zero is debris. "
        "Dashed lines are limits; cells beyond them were removed."
    )
    if not len(table):
        how += " No cell was removed."
    if constant:
        how += f" The same in half of the cells and more, and not drawn: {', '.join(constant)}."
    return Section("quality", "Quality of cells", how, parts)


def limits_of(thresholds: dict, names: tuple[str, ...]) -> list[float]:
    """The strictest lower and upper limit among those kept under some names, as values of the metric itself."""
    found = []
    for side, strictest in (("lower", max), ("upper", min)):
        values = [(np.expm1 if name.startswith("log1p_") else float)(thresholds.get(name, {}).get(side, np.nan)) for name in names]
        finite = [float(value) for value in values if np.isfinite(value) and (side == "upper" or value > 0)]
        found += [strictest(finite)] if finite else []
    return found


def variation(adata) -> Section:
    """Variable genes and the variance of the principal components."""
    parts = []
    if {"highly_variable", "means", "variances_norm"} <= set(adata.var):
        seen = adata.var[adata.var["means"] > 0]
        points = pd.DataFrame({"x": np.log10(seen["means"]), "y": seen["variances_norm"]})
        chosen = seen["highly_variable"].to_numpy(dtype=bool)
        groups = [("other genes", "#7F7F7F", points[~chosen]), ("highly variable", figures.COLOURS[0], points[chosen])]
        axes = ({"title": {"text": "log10 of the mean count"}}, {"title": {"text": "variance beyond the expected"}})
        top = seen[chosen].sort_values("variances_norm", ascending=False).head(TOP_ROWS)
        table = as_table(top[["means", "variances_norm"]].rename_axis("gene").reset_index())
        heading = f"{int(chosen.sum()):,} of {adata.n_vars:,} genes are highly variable"
        figure = figures.scatter([group for group in groups if len(group[2])], *axes)
        parts.append(Part(heading, figure, table, f"The table has the first {len(top)}."))
    ratio = np.asarray(adata.uns.get("pca", {}).get("variance_ratio", []))
    if ratio.size:
        number = np.arange(1, len(ratio) + 1)
        table = pd.DataFrame({"component": number, "share of variance": ratio, "sum of shares": np.cumsum(ratio)})
        figure = figures.curve(number, ratio, ("principal component", "share of variance"))
        parts.append(Part("Variance of the principal components", figure, as_table(table)))
    how = (
        "Genes high in the first figure differ more among cells than their abundance explains. The second curve should fall "
        "steeply and then flatten: components beyond the bend are mostly noise."
    )
    return Section("variation", "Variation", how, parts)


def colourings(obs: pd.DataFrame, first: tuple[str, ...] = ("leiden", "sample")) -> dict[str, pd.Series]:
    """The columns of obs that cells can be coloured by: clusters, sample, other categories, QC metrics."""
    clusters = [c for c in obs if c.startswith("leiden_")]
    categories = [c for c in obs if isinstance(obs[c].dtype, pd.CategoricalDtype) and 1 < len(obs[c].cat.categories) <= 100]
    names = [c for c in dict.fromkeys([*first, *clusters, *categories]) if c in obs]
    found = {name: obs[name].astype("category") for name in names}
    for key, metric in METRICS.items():
        if key in obs and obs[key].nunique() > 1:
            found[f"log(1 + {metric.title})" if metric.log else metric.title] = np.log1p(obs[key]) if metric.log else obs[key]
    return found


def embedding(adata) -> Section:
    """Cells in the plane, to be coloured by what the reader wants to see."""
    parts = []
    for key, title in (("X_umap", "UMAP"), ("X_tsne", "t-SNE"), ("X_draw_graph_fa", "ForceAtlas2"), ("X_mde", "MDE")):
        if key in adata.obsm:
            figure = figures.points(np.asarray(adata.obsm[key]), colourings(adata.obs), (f"{title} 1", f"{title} 2"))
            parts.append(Part(title, figure, as_table(medians(adata.obs)), drawn(adata.n_obs)))
    how = "Near cells are alike; distances between far groups and sizes of groups mean little."
    return Section("embedding", "Embedding", how, parts)


def drawn(n_cells: int, most: int = figures.MOST_POINTS) -> str:
    """Says that a figure shows only a sample of the cells; empty where it shows all."""
    return "" if n_cells <= most else f"{most:,} of the {n_cells:,} cells are drawn, chosen at random, the same ones each time."


def medians(obs: pd.DataFrame, by: str = "leiden") -> pd.DataFrame:
    """Number of cells and medians of the QC metrics of each cluster."""
    groups = obs.groupby(by, observed=False)
    table = pd.DataFrame({"cells": groups.size()})
    for key, metric in METRICS.items():
        if key in obs:
            table[f"median {metric.title}"] = groups[key].median()
    return table.rename_axis("cluster").reset_index()


def clusters(adata, look: dict[str, dict]) -> Section:
    """Sizes of the clusters, and of what samples they consist."""
    order = list(adata.obs["sample"].astype("category").cat.categories)
    count = pd.crosstab(adata.obs["leiden"], adata.obs["sample"].astype("category"), dropna=False)[order]
    share = 100 * count / count.sum()
    table = count.rename_axis(None, axis=1).rename_axis("cluster").reset_index()
    shares = share.rename_axis(None, axis=1).rename_axis("cluster").reset_index()
    parts = [
        Part("Cells of each cluster", figures.bars(count, [look[str(name)] for name in order], ("cluster", "cells")), as_table(table)),
        Part(
            "Clusters of each sample (%)",
            figures.bars(share.T, figures.styles(count.index), ("sample", "share of the sample's cells (%)"), horizontal=True),
            as_table(shares),
        ),
    ]
    keys = [c for c in ("leiden", *(c for c in adata.obs if c.startswith("leiden_"))) if c in adata.uns]
    rows = [
        (key, adata.uns[key]["params"].get("resolution"), adata.obs[key].nunique(), adata.uns[key].get("modularity"))
        for key in keys
        if "params" in adata.uns[key]
    ]
    if rows:
        columns = ["column of obs", "resolution", "clusters", "modularity"]
        parts.append(Part("Resolutions", table=as_table(pd.DataFrame(rows, columns=columns))))
    how = "Clusters are numbered by size. One that consists of a single sample may be that sample's own cell type, or a batch effect."
    return Section("clusters", "Clusters", how, parts)


def markers(tables: dict[str, pd.DataFrame]) -> Section | None:
    """The best genes of each cluster; None where there is no table."""
    parts = []
    for name in sorted((n for n in tables if n.startswith("markers_") and len(tables[n])), key=lambda n: n != "markers_wilcoxon"):
        table, method = tables[name], name.removeprefix("markers_")
        kinds = list(dict.fromkeys(table["group"]))
        n_top = max(1, min(TOP_MARKERS, MOST_DOTS // len(kinds)))
        ranked = table.sort_values("rank", kind="stable").groupby("group", sort=False)
        first = ranked.head(n_top)
        genes = list(dict.fromkeys(gene for kind in kinds for gene in first.loc[first["group"] == kind, "gene"]))[:MOST_DOTS]
        some = table[table["gene"].isin(genes)]
        share, change = (
            some.pivot(index="group", columns="gene", values=value).loc[kinds, genes] for value in ("pct_in", "log2_fold_change")
        )
        titles = ("gene", "cluster", "share of the cluster's cells that express the gene", "log2 fold change")
        top = ranked.head(TABLE_MARKERS)
        top = top.assign(place=top["group"].map({kind: i for i, kind in enumerate(kinds)})).sort_values(["place", "rank"], kind="stable")
        note = (
            f"{n_top} genes of each cluster, {len(genes)} in all; colours end at a log2 fold change of {figures.MOST_FOLDS}. "
            f"The table has the first {TABLE_MARKERS} genes of each cluster, tables/{name}.csv has all."
        )
        parts.append(Part(method, figures.dots(share, change, titles), as_table(top.drop(columns="place")), note))
    how = (
        "A good marker is a large red dot in its own cluster and small or blue in the others. A large dot: many cells of the cluster "
        "express the gene; red: more than the other cells do. P-values are computed on the cells that made the clusters: they only rank."
    )
    return Section("markers", "Marker genes", how, parts) if parts else None


def activity(tables: dict[str, pd.DataFrame]) -> Section | None:
    """Mean activity of each source in each cluster; None where there is no table."""
    parts = []
    for name in sorted(n for n in tables if n.startswith("activity_") and len(tables[n])):
        table = tables[name]
        order = list(dict.fromkeys(table["cluster"]))
        scores = table.pivot(index="cluster", columns="source", values="mean_score").loc[order]
        kept = scores.var().fillna(0).sort_values(ascending=False, kind="stable").index[:MOST_SOURCES]
        note = "" if len(kept) == scores.shape[1] else f"The {len(kept)} sources of {scores.shape[1]} that differ most are drawn."
        marks = None
        if "adjusted_p_value" in table:
            marks = table.pivot(index="cluster", columns="source", values="adjusted_p_value").loc[order, kept] < SIGNIFICANT
        figure = figures.heat_map(scores[kept], marks, ("source", "cluster", "mean score"))
        parts.append(Part(name.removeprefix("activity_"), figure, as_table(table), note))
    how = (
        f"Red: the source's targets go up in the cluster's cells, blue: down. A star: the cluster differs from the other cells "
        f"(adjusted p below {SIGNIFICANT})."
    )
    return Section("activity", "Activity", how, parts) if parts else None


def spatial(adata, tables: dict[str, pd.DataFrame]) -> Section | None:
    """Sections of tissue by cluster, and what varies over them; None without coordinates."""
    if "spatial" not in adata.obsm:
        return None
    parts, places, names = [], np.asarray(adata.obsm["spatial"], dtype=np.float64), adata.obs["sample"].astype("category")
    placed = np.isfinite(places).all(axis=1)
    samples = [name for name in names.cat.categories if (placed & (names == name)).any()]
    most = max(LEAST_POINTS, figures.MOST_POINTS // max(1, len(samples)))
    for sample in samples:
        mine = (placed & (names == sample)).to_numpy()
        columns = colourings(adata.obs.loc[mine].drop(columns="sample"), ("leiden",))
        sizes = adata.obs.loc[mine, "leiden"].value_counts(sort=False).rename_axis("cluster").rename("cells").reset_index()
        figure = figures.points(places[mine, :2], columns, tissue=True, most=most)
        parts.append(Part(f"{sample}: clusters in the tissue", figure, as_table(sizes), drawn(len(columns["leiden"]), most)))
        for kind, title in (("moran", "Moran's I"), ("geary", "Geary's C"), ("ligrec", "ligand-receptor pairs")):
            table = tables.get(f"{sample}.{kind}")
            if table is not None and len(table):
                best = table.head(TOP_ROWS)[[column for column in table if column not in NOT_SHOWN]]
                note = f"The first {len(best):,} of {len(table):,} rows of tables/{sample}.{kind}.csv."
                parts.append(Part(f"{sample}: {title}", table=as_table(best), note=note))
    how = (
        "Clusters that follow the tissue are its anatomy. Moran's I near 1 is a smooth pattern, near 0 none. A ligand-receptor pair has a "
        "small p-value where its mean is higher between these two clusters than between clusters of shuffled cells."
    )
    return Section("spatial", "Tissue", how, parts) if parts else None


def resources_used(runs) -> Section:
    """Seconds and memory of each task."""
    rows = [
        {
            "task": run["stage"],
            "backend": run["backend"],
            "start-up (s)": max(0.0, run["process_seconds"] - run["seconds"]),
            "work (s)": run["seconds"],
            "peak memory (MB)": run["peak_host_bytes"] / 1e6,
            "device memory (MB)": run["peak_device_bytes"] / 1e6,
        }
        for run in in_order(runs)
    ]
    table = pd.DataFrame(rows)
    parts, how = [], "No task left a record."
    if len(table):
        seconds = table.set_index("task")[["start-up (s)", "work (s)"]]
        figure = figures.bars(seconds, figures.styles(seconds.columns)[::-1], ("task", "seconds"), horizontal=True)
        parts.append(Part("Seconds and memory of each task", figure, as_table(table)))
        steps = [{"task": run["stage"], "step": s["step"], "seconds": s["seconds"]} for run in in_order(runs) for s in run.get("steps", [])]
        if steps:
            parts.append(Part("Steps", table=as_table(pd.DataFrame(steps))))
        total = table[["start-up (s)", "work (s)"]].to_numpy().sum()
        how = f"All tasks took {total:.0f} s together; start-up is the time before a task's work began: Python and its imports."
    return Section("resources", "Time and memory", how, parts)


def in_order(runs) -> list[dict]:
    """Run records in the order of the stages."""
    place = {stage: i for i, stage in enumerate(STAGES)}
    return sorted(runs, key=lambda run: (place.get(run["stage"].partition(":")[0], len(place)), run["stage"]))


def provenance(adata, parameters: dict, runs) -> Section:
    """Parameters, versions, and the digests that chain the results to the counts."""
    settings = pd.DataFrame({"parameter": list(parameters), "value": ["" if v is None else str(v) for v in parameters.values()]}, dtype=str)
    versions = {}
    for run in runs:
        for package, version in run["versions"].items():
            versions.setdefault((package, version), []).append(run["stage"])
    used = [(*key, "all tasks" if len(stages) == len(runs) else ", ".join(sorted(set(stages)))) for key, stages in sorted(versions.items())]
    records = {stage: json.loads(record) for stage, record in adata.uns.get("rsc_core", {}).items()}
    chain = [(r.get("stage", stage), parent, digest) for stage, r in records.items() for parent, digest in r.get("parents", {}).items()]
    parts = [
        Part("Parameters", table=as_table(settings)),
        Part("Versions", table=as_table(pd.DataFrame(used, columns=["package", "version", "tasks"]))),
        Part("Made from", table=as_table(pd.DataFrame(chain, columns=["stage", "file", "SHA-256"]))),
    ]
    how = (
        "The same files, parameters, versions and seed give the same results. A digest names the content of a file that a stage read: "
        "two runs with the same digests read the same."
    )
    return Section("provenance", "Parameters and provenance", how, parts)


def read_tables(folder) -> dict[str, pd.DataFrame]:
    """The csv tables of a folder by name, names of clusters and genes as text."""
    text = dict.fromkeys(("group", "cluster", "cluster_1", "cluster_2", "gene", "source", "target"), str)
    return {path.stem: pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""]) for path in sorted(Path(folder).glob("*.csv"))}


def all_sections(adata, qcs, runs, tables, parameters) -> list[Section]:
    """Every section for which there is something to show, in reading order; the summary says why others are not there."""
    look = looks(dict.fromkeys([*adata.obs["sample"].astype("category").cat.categories, *qcs]))
    optional = {
        "markers": (markers(tables), "Marker genes", "MARKERS found no two clusters to compare, or its tables were not given."),
        "activity": (activity(tables), "Activity", "ACTIVITY did not run: it needs --network."),
        "spatial": (spatial(adata, tables), "Tissue", "No sample has coordinates."),
    }
    left_out = [(title, why) for section, title, why in optional.values() if section is None]
    return [
        summary(adata, qcs, in_order(runs), left_out),
        quality(qcs, look),
        variation(adata),
        embedding(adata),
        clusters(adata, look),
        *(section for section, _, _ in optional.values() if section),
        resources_used(runs),
        provenance(adata, parameters, runs),
    ]
