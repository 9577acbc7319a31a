"""What the readers share: the entry of a format, options, errors of damaged files, lines of texts, unique gene names."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from rsc_core.data import layer_names
from rsc_core.errors import InvalidInput
from rsc_core.io.formats import safety

ORIENTATIONS = ("cells-by-genes", "genes-by-cells")


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user said about the input; see :func:`rsc_core.io.formats.read`."""

    layer: str = ""
    genome: str = ""
    orientation: str = ORIENTATIONS[0]


@dataclasses.dataclass(frozen=True)
class Format:
    """How a format is known and read: ``"file"`` or ``"folder"``, the options that mean something for it, two functions."""

    kind: str
    options: tuple[str, ...]
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Options], ad.AnnData]


@contextlib.contextmanager
def reading(name: str, what: str, check: str = ""):
    """Turn what a reader raises for a damaged file into InvalidInput: ``name`` cannot be read as ``what``."""
    try:
        yield
    except (InvalidInput, MemoryError):  # a file may be whole, and too large for this task
        raise
    except Exception as error:  # h5py, zarr, gzip, pandas and scipy raise many kinds for a damaged file
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise InvalidInput(
            f"{name}: cannot be read as {what} ({reason}).",
            f"Check that the file is whole{check}; copy or download it again if not.",
        ) from error


def counts_of_layer(adata: ad.AnnData, layer: str, name: str) -> ad.AnnData:
    """The AnnData with the layer as X; InvalidInput where there is no such layer, or no X."""
    if layer:
        if layer not in adata.layers:
            raise InvalidInput(
                f"{name}: there is no layer {layer!r}; layers: {', '.join(layer_names(adata)) or 'none'}.",
                "Name the layer that holds raw counts with --counts-layer (samplesheet column counts_layer).",
            )
        adata.X = adata.layers[layer]
    if adata.X is None:
        raise InvalidInput(
            f"{name}: X is missing; layers: {', '.join(layer_names(adata)) or 'none'}.",
            "Store raw counts in X, or name the layer that holds them with --counts-layer (samplesheet column counts_layer).",
        )
    return adata


def listed(folder: Path, most: int = 8) -> str:
    """Names of a folder's entries, for a message."""
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") if names else "nothing"


def first_of(folder: Path, *names: str) -> Path | None:
    """The first of these names that is in the folder; None: none is."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def required(folder: Path, *names: str, of: str) -> Path:
    """The first of these names that is in the folder; InvalidInput where none is."""
    found = first_of(folder, *names)
    if found is None:
        holds = f"it holds {listed(folder)}" if folder.is_dir() else "there is no such folder"
        raise InvalidInput(
            f"{folder.name}: {' or '.join(names)} is missing ({holds}).", f"Give the whole folder of {of}, as it was written."
        )
    return found


def opened(path: Path):
    """A text for reading, unpacked where its first bytes say that it is gzipped."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return io.TextIOWrapper(safety.BoundedGzip(path), encoding="utf-8-sig", newline="")
    return path.open("r", encoding="utf-8-sig", newline="")


def rows_of_text(path: Path, separator: str = "\t") -> list[list[str]]:
    """The cells of each line of a text that is not quoted; empty lines are left out."""
    with reading(path.name, "text"), opened(path) as file:
        return [line.rstrip("\r\n").split(separator) for line in file if line.strip()]


def as_csr(name: str, data, indices, indptr, shape) -> sp.csr_matrix:
    """A CSR matrix from its parts, every index checked: a damaged file must not become memory that is not ours."""
    n_cells, n_genes = (int(n) for n in shape)
    if len(indptr) != n_cells + 1 or len(data) != len(indices) or (len(indptr) and indptr[-1] != len(data)):
        raise InvalidInput(
            f"{name}: the matrix is damaged: {n_cells} cells, but {len(indptr)} row pointers; {len(indices)} indices, {len(data)} values.",
            "Make the file again from the program that wrote it.",
        )
    with reading(name, "sparse matrix"):
        counts = sp.csr_matrix((data, indices, indptr), shape=(n_cells, n_genes))
        counts.check_format(full_check=True)
    return counts


def with_unique_symbols(symbols, gene_ids) -> pd.Index:
    """Symbols as gene names; every one of those that repeat is followed by ``-`` and its gene id, an empty one is the id.

    A gene has the same name in every sample of the same reference, whichever other genes stand in the file before it.
    """
    symbols, gene_ids = pd.Index(symbols, dtype=object), pd.Index(gene_ids, dtype=object)
    symbols = symbols.where(symbols != "", gene_ids)
    joined = np.array([f"{symbol}-{gene}" for symbol, gene in zip(symbols, gene_ids, strict=True)], dtype=object)
    return symbols.where(~symbols.duplicated(keep=False) | (symbols == gene_ids), pd.Index(joined, dtype=object))


def as_text(values) -> np.ndarray:
    """Strings of a file of any of HDF5's kinds (bytes, padded bytes, objects, numbers) as an object array of str."""
    return np.array([value.decode() if isinstance(value, bytes) else str(value) for value in np.asarray(values).tolist()], dtype=object)
