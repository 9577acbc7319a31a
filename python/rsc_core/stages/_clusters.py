"""What stages that compare clusters share: their cells, normalised, and the tables that they write."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rsc_core import data
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import read_delta
from rsc_core.io.files import replaced
from rsc_core.io.store import CountsStore
from rsc_core.pp._normalize import lognorm
from rsc_core.stages._inputs import check_same_cells


def read_clusters(store, preprocess, cluster, groupby, backend):
    """Log-normalised cells on the backend, with their clusters.

    Parameters
    ----------
    store, preprocess, cluster
        Merged counts store, deltas of PREPROCESS and CLUSTER.
    groupby
        Column of CLUSTER's obs or, where it has none of this name, of the store's.
    backend
        ``"cpu"`` or ``"gpu"``.

    Returns
    -------
    AnnData with X: CSR float32, and ``obs[groupby]``.
    """
    adata = data.load(CountsStore(store), backend)
    normalised, clusters = read_delta(preprocess), read_delta(cluster)
    for delta, path in ((normalised, preprocess), (clusters, cluster)):
        check_same_cells(adata.obs_names, delta.obs.index, Path(path).name)
    labels = clusters.obs if groupby in clusters.obs else adata.obs
    if groupby not in labels:
        raise InvalidInput(
            f"groupby {groupby!r}: no such column; there are {', '.join([*clusters.obs, *adata.obs])}.",
            "Name one of these.",
        )
    adata.X = lognorm(adata.X, normalised.obs["size_factor"].to_numpy())
    adata.obs = pd.DataFrame({groupby: pd.Categorical(labels[groupby])}, index=adata.obs_names)
    return adata


def write_table(folder, name: str, table: pd.DataFrame) -> None:
    """Write a table as csv; numbers are as short as reading them back unchanged allows."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with replaced(Path(folder) / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
