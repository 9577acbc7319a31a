"""How far the run's results depend on the backend or the libraries."""

from __future__ import annotations

import pandas as pd

from rsc_core.report.page import Part, Section, as_table

SIGNS = {"green": "\u2714 green", "amber": "\u25b2 amber", "red": "\u2718 red"}  # told apart without colours


def concordance(tables: dict[str, pd.DataFrame], runs) -> Section | None:
    """The verdicts of CONCORDANCE; None where it did not run."""
    table = tables.get("concordance")
    if table is None or not len(table):
        return None
    backend = next((run["backend"] for run in runs if run["stage"] == "concordance"), "cpu")
    other = "the CPU" if backend == "gpu" else "scanpy and harmonypy"
    shown = table.assign(verdict=table["verdict"].map(SIGNS).fillna(table["verdict"]))
    counts = table["verdict"].value_counts()
    said = ", ".join(f"{counts[name]} {name}" for name in ("green", "amber", "red") if name in counts)
    how = (
        f"Some cells of the run were analysed again by {other}; each step had the same input on both sides, the last line began at the raw "
        f"counts. {said}: a red line says at which step the results depend on where they were computed."
    )
    return Section("concordance", "Concordance", how, [Part("Step by step", table=as_table(shown))])
