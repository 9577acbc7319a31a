"""What stages that compare clusters share: their cells, normalised, and the tables that they write."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pandas as pd

from rsc_core import data
from rsc_core.backend import available_bytes
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import read_delta
from rsc_core.io.files import replaced
from rsc_core.io.store import CountsStore
from rsc_core.pp._normalize import lognorm
from rsc_core.stages._inputs import check_same_cells
from rsc_core.stats import in_threads

BYTES_OF_A_VALUE = 8  # of a CSR matrix: float32 and int32
CSV_ROWS = 1 << 14  # rows of a table that a thread makes text of at once


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
    counts, obs, factor = read_labels(store, preprocess, cluster, groupby)
    adata = data.load(counts, backend)
    adata.X = lognorm(adata.X, factor)
    adata.obs = obs[[groupby]]
    return adata


def read_labels(store, preprocess, cluster, groupby):
    """The counts store opened, its obs with the clusters as categories, and the size factors; parameters as :func:`read_clusters`."""
    counts, normalised, clusters = CountsStore(store), read_delta(preprocess), read_delta(cluster)
    obs = counts.obs
    for delta, path in ((normalised, preprocess), (clusters, cluster)):
        check_same_cells(obs.index, delta.obs.index, Path(path).name)
    labels = clusters.obs if groupby in clusters.obs else obs
    if groupby not in labels:
        raise InvalidInput(
            f"groupby {groupby!r}: no such column; there are {', '.join([*clusters.obs, *obs])}.",
            "Name one of these.",
        )
    return counts, obs.assign(**{groupby: pd.Categorical(labels[groupby])}), normalised.obs["size_factor"].to_numpy()


def row_blocks(counts, backend: str, factor=None, max_nnz: int = 0):
    """A function that returns the cells block by block on the backend, CSR float32: counts, or log-normalised.

    Parameters
    ----------
    counts
        Opened counts store.
    factor
        Size factors (cells,); None: counts.
    max_nnz
        Values of a block; 0: as many as a quarter of the free memory of the device holds, at most 2^31 - 1.

    Returns
    -------
    Function without arguments. Where all cells are one block, it returns a list of it, the same each time; else a generator, which
    copies and normalises each block anew.
    """
    max_nnz = min(max_nnz or available_bytes(backend) // 4 // BYTES_OF_A_VALUE, (1 << 31) - 1)

    def read(start, stop):
        x = counts.device_rows(start, stop, backend)
        return x if factor is None else lognorm(x, factor[start:stop])

    if counts.indptr[-1] <= max_nnz:
        whole = [read(0, counts.shape[0])]
        return lambda: whole
    return lambda: itertools.starmap(read, counts.spans(max_nnz))


def write_table(folder, name: str, table: pd.DataFrame, parquet: bool = False) -> None:
    """Write a table as csv (numbers are as short as reading them back unchanged allows), and as parquet, too."""
    import pyarrow as pa
    import pyarrow.parquet

    Path(folder).mkdir(parents=True, exist_ok=True)
    columns = pa.Table.from_pandas(table, preserve_index=False)

    def write(kind):
        with replaced(Path(folder) / f"{name}.{kind}") as temporary:
            if kind == "parquet":
                pa.parquet.write_table(columns, temporary)
            else:
                with open(temporary, "wb") as file:
                    file.writelines(_csv(columns))

    in_threads(write, ["parquet", "csv"] if parquet else ["csv"])


def _csv(columns) -> list:
    """A table as text in parts, of rows that threads share; quotes only where some text holds a comma or a quote."""
    import pyarrow as pa
    import pyarrow.csv

    def rows(start, quoting):
        text, part = pa.BufferOutputStream(), columns.slice(start, CSV_ROWS)
        pyarrow.csv.write_csv(part, text, pyarrow.csv.WriteOptions(include_header=False, quoting_style=quoting))
        return text.getvalue()

    starts = range(0, columns.num_rows, CSV_ROWS)
    try:
        parts = in_threads(functools.partial(rows, quoting="none"), starts)
    except pa.ArrowInvalid:
        parts = in_threads(functools.partial(rows, quoting="needed"), starts)
    head = pd.DataFrame(columns=columns.column_names).to_csv(index=False, lineterminator="\n").encode()
    return [head, *parts]
