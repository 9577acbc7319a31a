"""The sections of the report: what each shows, and one sentence on how to read it."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import plotly.offline

from rsc_core.report import figures

QC_METRICS = {"total_counts": "counts a cell", "n_genes_by_counts": "expressed genes a cell", "pct_counts_mt": "mitochondrial counts (%)"}
TOP_MARKERS = 5
TOP_ROWS = 50


@dataclasses.dataclass
class Part:
    """A figure, a table, or both under a heading."""

    heading: str = ""
    figure: str = ""
    table: str = ""


@dataclasses.dataclass
class Section:
    """A part of the page."""

    key: str
    title: str
    how: str
    parts: list[Part] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


def as_table(frame: pd.DataFrame) -> str:
    """A DataFrame as an HTML table; text is escaped."""
    return frame.to_html(index=False, border=0, escape=True, float_format=lambda x: f"{x:.4g}", na_rep="")


def render(title: str, sections: list[Section]) -> str:
    """The whole page, self-contained."""
    text = (resources.files("rsc_core.report") / "templates" / "report.html.j2").read_text()
    template = jinja2.Environment(autoescape=True).from_string(text)
    return template.render(title=title, sections=sections, plotly_js=plotly.offline.get_plotlyjs())


def summary(adata, qcs, runs) -> Section:
    """Cells in and out, and every warning of the run."""
    kept = adata.obs["sample"].value_counts()
    rows = [
        {
            "sample": name,
            "cells read": len(qc.obs),
            "cells kept": int(kept.get(name, 0)),
            "median counts": float(qc.obs.loc[qc.obs["passes_qc"], "total_counts"].median()),
        }
        for name, qc in qcs.items()
    ]
    compute = [run for run in runs if run["stage"] == "preprocess"]
    where = f" Computed on {compute[0]['backend']}: {compute[0]['device']}." if compute else ""
    how = f"{adata.n_obs} cells and {adata.n_vars} genes are in the result.{where} Read the warnings first."
    warnings = [f"{run['stage']}: {text}" for run in runs for text in run["warnings"]]
    return Section("summary", "Summary", how, [Part(table=as_table(pd.DataFrame(rows)))], warnings)


def quality(qcs) -> Section:
    """QC metrics of all cells before filtering, and why cells were removed."""
    parts = []
    for metric, title in QC_METRICS.items():
        values = {name: qc.obs[metric].to_numpy() for name, qc in qcs.items() if metric in qc.obs}
        if values:
            limits = {name: _limits(qc.uns.get("qc_thresholds", {}).get(metric, {})) for name, qc in qcs.items()}
            quartiles = pd.DataFrame({name: np.quantile(v, [0, 0.25, 0.5, 0.75, 1]) for name, v in values.items()}).T
            quartiles.columns = ["smallest", "25 %", "median", "75 %", "largest"]
            parts.append(
                Part(title, figures.histogram(values, metric, title, limits), as_table(quartiles.rename_axis("sample").reset_index()))
            )
    reasons = pd.DataFrame({name: qc.obs.loc[~qc.obs["passes_qc"], "qc_reason"].astype(str).value_counts() for name, qc in qcs.items()})
    if len(reasons):
        table = reasons.fillna(0).astype(int).rename_axis("reason").reset_index()
        parts.append(Part("Cells removed, by the first limit that they fail", table=as_table(table)))
    return Section(
        "quality",
        "Quality of cells",
        "All cells before filtering, thresholds dashed: one clear peak a sample is good, a peak near zero is debris.",
        parts,
    )


def _limits(threshold: dict) -> list[float]:
    """The finite ones of a metric's lower and upper threshold."""
    return [float(limit) for limit in threshold.values() if np.isfinite(limit)]


def variation(adata) -> Section:
    """Variable genes and the variance of the principal components."""
    var = adata.var.loc[adata.var["highly_variable"]].sort_values("variances_norm", ascending=False)
    genes = var[["means", "variances_norm"]].head(TOP_ROWS).rename_axis("gene").reset_index()
    ratio = adata.uns["pca"]["variance_ratio"]
    numbers = np.arange(1, len(ratio) + 1)
    parts = [
        Part(
            "Variance of the principal components",
            figures.lines(numbers, ratio, "pca", ("component", "share of variance")),
            as_table(pd.DataFrame({"component": numbers, "share of variance": ratio})),
        ),
        Part(f"The {len(genes)} most variable of {len(var)} chosen genes", table=as_table(genes)),
    ]
    return Section(
        "variation", "Variation", "The curve should fall steeply and then flatten: components beyond the bend are mostly noise.", parts
    )


def embedding(adata) -> Section:
    """Cells in the plane by sample, by cluster and by what they were called in the input."""
    columns = [c for c in ("leiden", "sample", "cell_type") if c in adata.obs]
    shown = len(figures.sampled(adata.n_obs))
    note = "" if shown == adata.n_obs else f" {shown} of {adata.n_obs} cells are drawn."
    parts = [Part(f"By {c}", figures.categories(adata.obsm["X_umap"], adata.obs[c], f"umap-{c}")) for c in columns]
    composition = pd.crosstab(adata.obs["leiden"], adata.obs["sample"])
    table = as_table(composition.rename_axis(None, axis=1).reset_index())
    parts.append(Part("Cells of each cluster by sample", figures.bars(composition, "composition", ("cluster", "cells")), table))
    how = "Near cells are alike; distances between far groups mean little. A cluster of one sample alone may be a batch effect." + note
    return Section("embedding", "Embedding and clusters", how, parts)


def markers(adata, tables: dict[str, pd.DataFrame]) -> list[Section]:
    """The best genes of each cluster; no section where there is no table."""
    table = next((t for name, t in tables.items() if name.startswith("markers_") and len(t)), None)
    if table is None:
        return []
    best = table[table["rank"] <= table["rank"].min() + TOP_MARKERS - 1]
    genes = list(dict.fromkeys(best["gene"]))
    share = table[table["gene"].isin(genes)].pivot(index="group", columns="gene", values="pct_in")[genes]
    parts = [
        Part("Share of a cluster's cells that express its best genes", figures.heat_map(share, "markers", "share"), as_table(best)),
    ]
    return [Section("markers", "Marker genes", "A good marker is bright in its own cluster and dark in the others.", parts)]


def activity(tables: dict[str, pd.DataFrame]) -> list[Section]:
    """Mean activity of each source in each cluster; no section where there is no table."""
    parts = []
    for name, table in tables.items():
        if name.startswith("activity_") and len(table):
            scores = table.pivot(index="cluster", columns="source", values="mean_score")
            parts.append(
                Part(name.removeprefix("activity_"), figures.heat_map(scores, name, "mean score", diverging=True), as_table(table))
            )
    return [Section("activity", "Activity", "Red: the source's targets are higher than other genes; blue: lower.", parts)] if parts else []


def spatial(adata, tables: dict[str, pd.DataFrame]) -> list[Section]:
    """Sections of tissue by cluster, and what varies over them; no section without coordinates."""
    if "spatial" not in adata.obsm:
        return []
    parts = []
    for number, sample in enumerate(adata.obs["sample"].cat.categories):
        mine = ((adata.obs["sample"] == sample) & np.isfinite(adata.obsm["spatial"]).all(axis=1)).to_numpy()
        if not mine.any():
            continue
        figure = figures.categories(adata.obsm["spatial"][mine], adata.obs["leiden"][mine], f"tissue-{number}", ("x", "y"), equal=True)
        parts.append(Part(f"{sample}: clusters in the tissue", figure))
        for kind, title in (("moran", "genes with the strongest spatial pattern (Moran's I)"), ("ligrec", "ligand-receptor pairs")):
            table = tables.get(f"{sample}.{kind}")
            if table is not None and len(table):
                order = table.sort_values("p_value") if "p_value" in table else table
                parts.append(Part(f"{sample}: {title}", table=as_table(order.head(TOP_ROWS))))
    how = "Clusters that follow the tissue are anatomy; Moran's I near 1 is a smooth pattern, near 0 none."
    return [Section("spatial", "Tissue", how, parts)] if parts else []


def resources_used(runs) -> Section:
    """Seconds and memory of each task."""
    rows = [
        {
            "task": run["stage"],
            "backend": run["backend"],
            "seconds": run["process_seconds"],
            "of these before the work began": run["process_seconds"] - run["seconds"],
            "peak memory (MB)": run["peak_host_bytes"] / 1e6,
            "device memory (MB)": run["peak_device_bytes"] / 1e6,
        }
        for run in runs
    ]
    table = pd.DataFrame(rows)
    parts = [Part(figure=figures.bars(table.set_index("task")[["seconds"]], "seconds", ("task", "seconds")), table=as_table(table))]
    return Section("resources", "Time and memory", "Seconds from the start of each task's process to its end, imports included.", parts)


def provenance(adata, parameters: dict, runs) -> Section:
    """Parameters, versions, and the digests that chain the results to the counts."""
    settings = pd.DataFrame({"parameter": list(parameters), "value": [str(v) for v in parameters.values()]})
    versions = pd.DataFrame(sorted({(k, v) for run in runs for k, v in run["versions"].items()}), columns=["package", "version"])
    records = [json.loads(record) for record in adata.uns["rsc_core"].values()]
    chain = [(r.get("stage", "store"), parent, digest) for r in records for parent, digest in r.get("parents", {}).items()]
    parts = [
        Part("Parameters", table=as_table(settings)),
        Part("Versions", table=as_table(versions)),
        Part("Made from", table=as_table(pd.DataFrame(chain, columns=["stage", "file", "SHA-256"]))),
    ]
    return Section("provenance", "Parameters and provenance", "The same files, parameters, versions and seed give the same results.", parts)


def read_tables(folder) -> dict[str, pd.DataFrame]:
    """The csv tables of a folder by name, names of clusters as text."""
    return {path.stem: pd.read_csv(path, dtype={"group": str, "cluster": str}) for path in sorted(Path(folder).glob("*.csv"))}


def all_sections(adata, qcs, runs, tables, parameters) -> list[Section]:
    """Every section for which there is something to show, in reading order."""
    return [
        summary(adata, qcs, runs),
        quality(qcs),
        variation(adata),
        embedding(adata),
        *markers(adata, tables),
        *activity(tables),
        *spatial(adata, tables),
        resources_used(runs),
        provenance(adata, parameters, runs),
    ]
