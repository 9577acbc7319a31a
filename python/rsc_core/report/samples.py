"""What became of each sample's cells, as tables for the page and for MultiQC."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from rsc_core.io.files import replaced

KEPT = "kept"
MEDIANS = {"total_counts": "median counts", "n_genes_by_counts": "median genes", "pct_counts_mt": "median mitochondrial (%)"}
# Of MultiQC's table: title, decimals, colours of the cells, and the highest value of a percentage.
COLUMNS = {
    "cells read": ("Cells read", 0, "Blues", None),
    "cells kept": ("Cells kept", 0, "Greens", None),
    "kept (%)": ("% kept", 1, "RdYlGn", 100),
    "median counts": ("Median counts", 0, "Purples", None),
    "median genes": ("Median genes", 0, "Oranges", None),
    "median mitochondrial (%)": ("Median % mito", 1, "Reds", 100),
    "called doublets": ("Doublets", 0, "Greys", None),
}


def summary(obs: pd.DataFrame, qcs) -> pd.DataFrame:
    """Cells read and kept, and medians of the kept cells, a row for each sample.

    Parameters
    ----------
    obs
        Annotation of the cells of the result, with ``sample``.
    qcs
        QC delta of each sample.

    Returns
    -------
    Index ``sample``; a sample without kept cells has NaN for medians, a metric that QC did not compute has no column.
    """
    kept, rows = obs["sample"].astype(str).value_counts(), {}
    for name, qc in qcs.items():
        n_kept = int(kept.get(name, 0))
        rows[name] = {"cells read": len(qc.obs), "cells kept": n_kept, "kept (%)": 100 * n_kept / max(1, len(qc.obs))}
        good = qc.obs[qc.obs["passes_qc"].astype(bool)]
        rows[name] |= {title: float(good[key].median()) for key, title in MEDIANS.items() if key in good}
        if "predicted_doublet" in qc.obs:
            rows[name]["called doublets"] = int(qc.obs["predicted_doublet"].astype(bool).sum())
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("sample")


def fates(qcs) -> pd.DataFrame:
    """Number of cells of each sample (rows) that were kept, and that failed each limit first (columns, the most frequent first)."""
    fate = {name: qc.obs["qc_reason"].astype(str).where(~qc.obs["passes_qc"].astype(bool), KEPT).value_counts() for name, qc in qcs.items()}
    table = pd.DataFrame(fate).T.fillna(0).astype(int).rename_axis("sample")
    lost = table.drop(columns=KEPT, errors="ignore")
    order = lost.sum().sort_values(ascending=False, kind="stable").index
    return table.reindex(columns=[KEPT, *order], fill_value=0)


def write_multiqc(folder, table: pd.DataFrame, lost: pd.DataFrame, looks: list[dict]) -> None:
    """Write MultiQC's custom content: ``rsc_flow_general_mqc.json`` (general statistics) and ``rsc_flow_cells_mqc.json`` (bars).

    Parameters
    ----------
    folder
        Folder to write to; MultiQC finds files there by the end of their names.
    table
        Of :func:`summary`. Missing values are left out.
    lost
        Of :func:`fates`.
    looks
        Look of each of its columns, of :func:`rsc_core.report.figures.styles`.

    References
    ----------
    Ewels et al. 2016, Bioinformatics 32:3047; https://docs.seqera.io/multiqc/custom_content
    """
    headers = []
    for column in table:
        title, decimals, scale, top = COLUMNS[column]
        look = {"title": title, "description": column, "format": f"{{:,.{decimals}f}}", "scale": scale, "min": 0}
        headers.append({column: look | ({"max": top, "suffix": "%"} if top else {})})
    general = {
        "id": "rsc_flow_general",
        "plot_type": "generalstats",
        "namespace": "rsc-flow",
        "pconfig": headers,
        "data": {name: {key: value for key, value in row.items() if pd.notna(value)} for name, row in table.to_dict("index").items()},
    }
    bars = {
        "id": "rsc_flow_cells",
        "section_name": "rsc-flow: cells kept and lost",
        "description": "Cells that were read: those that were kept, and the first limit that each of the others failed.",
        "plot_type": "bargraph",
        "pconfig": {"id": "rsc_flow_cells_plot", "title": "rsc-flow: cells kept and lost", "ylab": "Cells"},
        "categories": {column: {"name": column, "color": look["colour"]} for column, look in zip(lost, looks, strict=True)},
        "data": lost.to_dict("index"),
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    for content in (general, bars):
        with replaced(Path(folder) / f"{content['id']}_mqc.json") as temporary:
            temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
