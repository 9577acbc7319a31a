"""What integration did to the batches."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core.report.page import Part, Section, as_table

FIGURES = {  # key of uns['integration']: title, what is good
    "ilisi": ("iLISI: batches around a cell", "higher is better mixed; at most the number of batches"),
    "batch_silhouette": ("silhouette of the batches", "near 0 or below is mixed"),
    "clisi": ("cLISI: cell types around a cell", "near 1 keeps the types apart"),
    "silhouette": ("silhouette of the cell types", "higher keeps the types apart"),
}


def integration(adata, cells) -> Section | None:
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
    table, key = as_table(pd.DataFrame(rows)), str(found["batch_key"])
    parts = [Part("Figures before and after", table=table)]
    notes = {
        "before": "Where the batches lie apart, they differ more than the cells do.",
        "after": "Batches should lie in the same places where they have the same kinds of cells.",
    }
    for (name, note), place in zip(notes.items(), ("X_pca", f"X_pca_{found['method']}"), strict=True):
        if place in adata.obsm and adata.obsm[place].shape[1] > 1:
            places = np.asarray(adata.obsm[place], dtype=np.float64)[:, :2]
            axes = ("component 1", "component 2")
            part = cells.part(f"First two components {name}", table, places, np.arange(adata.n_obs), cells.plane, axes)
            part.note, part.colour = f"{note} {part.note}".strip(), key
            parts.append(part)
    return Section("integration", "Integration", how, parts)
