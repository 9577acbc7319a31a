"""Requirements of X, raw.X and the layers."""

from __future__ import annotations

import hashlib

import h5py
import numpy as np
from anndata.io import sparse_dataset

from rsc_core.cellxgene._finding import Finding

BLOCK_ROWS = 4096


def matrices(file, has_raw: bool) -> list[Finding]:
    """CSR where half of the values and more are zero, and one shape."""
    places = ["X", *(["raw/X"] if has_raw else []), *(f"layers/{key}" for key in file.get("layers", ()))]
    found, shape = [], shape_of(file["X"])
    for place in places:
        kind = file[place].attrs.get("encoding-type", "array")
        dense = not isinstance(file[place], h5py.Group)
        filled = file[place] if dense else file[place]["data"]
        sparse_enough = not dense or (zeros_of(filled) < 0.5)
        met = shape_of(file[place]) == shape and (kind == "csr_matrix" or (dense and sparse_enough))
        remedy = f"adata.{place.replace('/', '.')} = scipy.sparse.csr_matrix(...) of the same cells and genes."
        found.append(
            Finding(place, "CSR if half of the values or more are zero, same shape as X", met, f"{kind} {shape_of(file[place])}", remedy)
        )
    return found


def shape_of(element) -> tuple[int, int]:
    """Shape of a matrix of the file, sparse or not."""
    return tuple(int(n) for n in (element.attrs["shape"] if isinstance(element, h5py.Group) else element.shape))


def zeros_of(element) -> float:
    """Share of zeros of a dense matrix of the file."""
    zeros = sum(int((element[start : start + BLOCK_ROWS] == 0).sum()) for start in range(0, element.shape[0], BLOCK_ROWS))
    return zeros / max(1, element.size)


def counts(file, obs, has_raw: bool) -> list[Finding]:
    """Raw counts: where they are, their type and values, cells without counts, cells that are equal."""
    place = "raw/X" if has_raw else "X"
    element = file[place]
    dtype = (element["data"] if isinstance(element, h5py.Group) else element).dtype
    whole = positive = True
    empty, seen, equal = 0, set(), 0
    matrix = sparse_dataset(element) if isinstance(element, h5py.Group) else element
    for start in range(0, len(obs), BLOCK_ROWS):
        block = matrix[start : min(len(obs), start + BLOCK_ROWS)]
        for columns, values in rows_of(block):
            whole &= bool((values == np.rint(values)).all())
            positive &= bool((values > 0).all())
            empty += not len(values)
            digest = hashlib.blake2b(columns.tobytes() + values.tobytes(), digest_size=16).digest()
            equal += bool(len(values)) and digest in seen
            seen.add(digest)
    layer = "counts" in file.get("layers", ())
    move = "adata.raw = anndata.AnnData(adata.layers['counts'].astype('float32'), obs=adata.obs[[]], var=adata.var[[]])"
    remedy = f"{move}." if layer and not has_raw else f"Put the counts into adata.{place.replace('/', '.')}."
    return [
        Finding(f"{place}", "raw counts: whole numbers above 0, in raw.X where X is normalised", whole and positive, "not counts", remedy),
        Finding(f"{place}", "stored as float32", dtype == np.float32, str(dtype), f"adata.{place.replace('/', '.')}.astype('float32')."),
        Finding(f"{place}", "each cell has a count", not empty, f"{empty:,} cells without", "Remove these cells."),
        Finding(
            f"{place}", "no two cells are equal", not equal, f"{equal:,} repeat another", "Remove the repetitions: one cell was read twice."
        ),
    ]


def rows_of(block):
    """Columns and values of the non-zeros of each row."""
    if hasattr(block, "indptr"):
        block.sort_indices()
        block.eliminate_zeros()
        for start, stop in zip(block.indptr[:-1], block.indptr[1:], strict=True):
            yield block.indices[start:stop], block.data[start:stop]
    else:
        for row in np.asarray(block):
            columns = np.flatnonzero(row)
            yield columns, row[columns]
