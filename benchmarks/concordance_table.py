#!/usr/bin/env python3
"""Write the table of docs/concordance.md from the figures that benchmarks/concordance.py measured.

usage: python benchmarks/concordance_table.py [--check]
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "concordance.md"
BEGIN, END = "<!-- begin: benchmarks/concordance_table.py -->", "<!-- end -->"


def largest(figures):
    """A difference as text; a dash where the step did not run."""
    return "-" if figures is None else f"{figures['max_relative_to_largest']:.1e}" if figures["max_absolute"] else "0"


# A row of the table: what stands in the first column, and the cell of a data set.
STEPS = {
    "cells x genes": lambda f: f"{f['cells']:,} x {f['genes']:,}",
    "device": lambda f: f["device"] or "-",
    "normalised values, largest relative difference": lambda f: largest(f["normalised_values"]),
    "variable genes equal": lambda f: "yes" if f["variable_genes_equal"] else "no",
    "PCA, largest relative difference": lambda f: largest(f["pca"]),
    "Harmony, largest relative difference": lambda f: largest(f["harmony"]),
    "kNN, share of neighbours in common": lambda f: f"{f['knn_overlap_mean']:.6f}",
    "kNN, cells with another neighbour": lambda f: f"{f['knn_cells_that_differ']:,}",
    "weights, largest difference": lambda f: f"{f['connectivities_max_absolute']:.1e}" if f["connectivities_max_absolute"] else "0",
    "Leiden on the same graph, ARI": lambda f: "-" if f["leiden_ari_same_graph"] is None else f"{f['leiden_ari_same_graph']:.4f}",
    "Leiden end to end, ARI": lambda f: f"{f['leiden_ari_end_to_end']:.4f}",
    "clusters CPU / GPU": lambda f: " / ".join(str(n) for n in f["leiden_clusters"]),
    "modularity CPU / GPU": lambda f: " / ".join(f"{q:.6f}" for q in f["leiden_modularity"]),
}


def table():
    """Markdown: a row a step, a column a file of figures, and the notes that stand in the files."""
    files = sorted((ROOT / "benchmarks" / "results").glob("concordance_*.json"))
    figures = {path.stem.removeprefix("concordance_"): json.loads(path.read_text()) for path in files}
    lines = ["| step | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
    lines += [f"| {step} | " + " | ".join(cell(f) for f in figures.values()) + " |" for step, cell in STEPS.items()]
    notes = [f"{name} ({f['date']}): {f['note']}." for name, f in figures.items() if f.get("note")]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def page():
    """The page with the table of today's figures."""
    before, rest = PAGE.read_text().split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(page() != PAGE.read_text() and f"{PAGE} is not what the figures give: run {sys.argv[0]}")
    PAGE.write_text(page())
