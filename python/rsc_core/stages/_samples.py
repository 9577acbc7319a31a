"""Results of single samples as one: tables with a column of samples, and the graphs' entry with its library_key."""

from __future__ import annotations

import pandas as pd

TABLES = {"moran": "moranI", "geary": "gearyC", "sepal": "sepal_score"}


def merged(adata, parts, n_samples: int) -> dict[str, pd.DataFrame]:
    """Put into ``uns`` what the deltas of samples have in common; returns the tables of genes by statistic.

    With more than one sample ``uns['moranI']``, ``['gearyC']`` and ``['sepal_score']`` hold the rows of all, with the columns
    gene and sample first, and ``uns['spatial_neighbors']`` says that the libraries of the graph are ``obs['sample']``.

    Parameters
    ----------
    adata
        What is assembled.
    parts
        The deltas, each with ``delta.uns`` and ``sample``.
    n_samples
        Samples that have a delta of their own.
    """
    tables, of_samples = {}, [part for part in parts if part.sample]
    for name, key in TABLES.items():
        found = [
            part.delta.uns[key].rename_axis("gene").reset_index().assign(sample=part.sample) for part in of_samples if key in part.delta.uns
        ]
        if not found:
            continue
        table = pd.concat(found, ignore_index=True)
        tables[name] = table[["gene", "sample", *(column for column in table if column not in ("gene", "sample"))]]
        if n_samples > 1:
            stored = tables[name].copy()
            stored.index = stored.index.astype(str).astype(object)
            adata.uns[key] = stored
    graphs = [part.delta.uns["spatial_neighbors"] for part in of_samples if "spatial_neighbors" in part.delta.uns]
    if n_samples > 1 and graphs:
        adata.uns["spatial_neighbors"] = {**graphs[0], "params": {**graphs[0]["params"], "library_key": "sample"}}
    return tables
