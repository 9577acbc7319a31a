"""Tables of counts: .csv and .tsv, plain or gzipped, with names in the first row and the first column."""

from __future__ import annotations

import csv
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from rsc_core.errors import InvalidInput
from rsc_core.io.formats.common import Options, opened, reading

NUMBERS_A_BLOCK = 1 << 24


def is_csv(path: Path) -> bool:
    """Whether the name ends as a csv's."""
    return path.name.lower().endswith((".csv", ".csv.gz"))


def is_tsv(path: Path) -> bool:
    """Whether the name ends as a tsv's."""
    return path.name.lower().endswith((".tsv", ".tsv.gz"))


def read_csv(path: Path, options: Options) -> ad.AnnData:
    """A table with commas, or with semicolons where the first line has no comma."""
    with reading(path.name, "csv"), opened(path) as file:
        header = file.readline()
    return _read(path, ";" if ";" in header and "," not in header else ",", options)


def read_tsv(path: Path, options: Options) -> ad.AnnData:
    """A table with tabs."""
    return _read(path, "\t", options)


def _read(path: Path, separator: str, options: Options) -> ad.AnnData:
    """Read in blocks of rows, so that a sparse table never stands dense in memory as a whole.

    The first line may lack the cell above the names of the rows, as R writes it.
    """
    names, blocks = [], []
    with reading(path.name, "table"), opened(path) as file:
        header = next(csv.reader(file, delimiter=separator), [])
        rows = max(1, NUMBERS_A_BLOCK // max(1, len(header)))
        how = {"header": None, "dtype": {0: str}, "keep_default_na": False, "low_memory": False, "chunksize": rows}
        try:
            for block in pd.read_csv(file, sep=separator, **how):
                columns = _columns(header, block.shape[1], path.name, separator)
                names.extend(block[0])
                blocks.append(_numbers(block, columns, path.name))
        except pd.errors.EmptyDataError:  # a header and nothing below
            columns = header[1:]
    counts = sp.vstack(blocks, format="csr") if blocks else sp.csr_matrix((0, len(columns)))
    if options.orientation == "genes-by-cells":
        counts, names, columns = counts.T.tocsr(), columns, names
    indices = (pd.DataFrame(index=pd.Index(index, dtype=object)) for index in (names, columns))
    return ad.AnnData(counts, **dict(zip(("obs", "var"), indices, strict=True)))


def _columns(header: list[str], width: int, name: str, separator: str) -> list[str]:
    """Names of the columns of numbers."""
    if width < 2:
        raise InvalidInput(
            f"{name}: there is one cell in the second row; no {separator!r} separates it from numbers.",
            "Write a table with names in the first row and column; csv has commas or semicolons, tsv has tabs (--format).",
        )
    if len(header) not in (width - 1, width):
        raise InvalidInput(
            f"{name}: the first row has {len(header)} cells, the second has {width}.", "Write a name above every column of numbers."
        )
    return header[len(header) - width + 1 :]


def _numbers(block: pd.DataFrame, columns: list[str], name: str) -> sp.csr_matrix:
    """The block without its names as CSR; InvalidInput names row, column and value of what is no number."""
    names, block = block[0], block.drop(columns=0)
    for place, column in enumerate(columns, start=1):
        values = block[place]
        if values.dtype.kind in "iuf" and not (values.dtype.kind == "f" and values.isna().any()):
            continue
        wrong = np.flatnonzero(pd.to_numeric(values.astype(str), errors="coerce").isna())
        if wrong.size:
            value = values.iloc[wrong[0]]
            raise InvalidInput(
                f"{name}: row {names.iloc[wrong[0]]!r}, column {column!r}: {'' if pd.isna(value) else value!r} is not a number.",
                "Write a count in every cell: 0 where there is none.",
            )
    return sp.csr_matrix(block.to_numpy(dtype=np.float64))
