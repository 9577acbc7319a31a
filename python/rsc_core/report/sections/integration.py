"""What integration did to the batches."""

from __future__ import annotations

import pandas as pd

from rsc_core.report.page import Part, Section, as_table

FIGURES = {  # key of uns['integration']: title, what is good
    "ilisi": ("iLISI: batches around a cell", "higher is better mixed; at most the number of batches"),
    "batch_silhouette": ("silhouette of the batches", "near 0 or below is mixed"),
    "clisi": ("cLISI: cell types around a cell", "near 1 keeps the types apart"),
    "silhouette": ("silhouette of the cell types", "higher keeps the types apart"),
}


def integration(adata) -> Section | None:
    """Mixing of batches and, with labels, purity of cell types before and after; None where INTEGRATE did not run."""
    found = adata.uns.get("integration")
    if not found:
        return None
    rows = [
        {"figure": title, "before": float(found[f"{key}_before"]), "after": float(found[f"{key}_after"]), "how to read it": note}
        for key, (title, note) in FIGURES.items()
        if f"{key}_before" in found
    ]
    how = (
        f"Batches ({found['batch_key']}) were integrated with {found['method']}; figures are means over {int(found['n_cells']):,} cells. "
        "Batches should mix more after it, and cell types stay apart."
    )
    return Section("integration", "Integration", how, [Part("Before and after", table=as_table(pd.DataFrame(rows)))])
