"""What integration did to the batches."""

from __future__ import annotations

import pandas as pd

from rsc_core.report.page import Part, Section, as_table


def integration(adata) -> Section | None:
    """Mixing of batches and purity of groups before and after; None where INTEGRATE did not run."""
    scores = adata.uns.get("integration")
    if not scores:
        return None
    table = pd.DataFrame(scores) if not isinstance(scores, pd.DataFrame) else scores
    how = (
        "iLISI is the effective number of batches around a cell: higher after integration is better mixed. cLISI is that of cell groups: "
        "it should stay near 1, or groups were mixed that differ."
    )
    return Section("integration", "Integration", how, [Part("Before and after", table=as_table(table))])
