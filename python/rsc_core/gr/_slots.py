"""What the functions of this package take from an AnnData, checked."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import backend
from rsc_core.errors import InvalidInput


def graph_of(adata, key):
    """The graph ``obsp[key]``, CSR of the host."""
    if key not in adata.obsp:
        there = ", ".join(map(repr, adata.obsp)) or "nothing"
        raise InvalidInput(f"there is no obsp[{key!r}]; obsp has {there}.", "Run spatial_neighbors first.")
    return backend.to_host(adata.obsp[key]).tocsr()


def coordinates_of(adata, key) -> np.ndarray:
    """Coordinates ``obsm[key]``, float64 (cells, 2 or 3) of the host; an error names the first cell that has none."""
    if key not in adata.obsm:
        raise InvalidInput(
            f"there is no obsm[{key!r}]; obsm has {', '.join(map(repr, adata.obsm)) or 'nothing'}.",
            "Add the coordinates of the cells, or name where they are with spatial_key.",
        )
    coordinates = np.ascontiguousarray(backend.to_host(adata.obsm[key]), dtype=np.float64)
    if coordinates.ndim != 2 or coordinates.shape[1] not in (2, 3):
        raise InvalidInput(f"obsm[{key!r}] has the shape {coordinates.shape}.", "Give two or three coordinates for each cell.")
    wrong = ~np.isfinite(coordinates).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InvalidInput(
            f"obsm[{key!r}]: {int(wrong.sum())} cells have no finite coordinates; the first is row {row} ({adata.obs_names[row]}).",
            "Leave such cells out, or give their coordinates.",
        )
    return coordinates


def groups_of(adata, key, argument="cluster_key") -> pd.Categorical:
    """The column ``obs[key]`` as text categories that cells have; missing values have the code -1."""
    if key not in adata.obs:
        raise InvalidInput(f"{argument} {key!r}: no such column; obs has {', '.join(adata.obs)}.", "Name one of these.")
    column = pd.Categorical(adata.obs[key])
    codes, names = column.codes, np.array([str(name) for name in column.categories], dtype=object)
    used = np.bincount(codes[codes >= 0], minlength=len(names)) > 0
    if not used.all():
        codes = np.where(codes >= 0, used.cumsum()[codes] - 1, -1)
    return pd.Categorical.from_codes(codes, names[used])


def libraries_of(adata, key) -> np.ndarray | None:
    """Number of each cell's library, int64 (cells,); None where no column is named."""
    if key is None:
        return None
    libraries = groups_of(adata, key, "library_key")
    if (libraries.codes < 0).any():
        row = int(np.argmax(libraries.codes < 0))
        raise InvalidInput(f"library_key {key!r}: row {row} ({adata.obs_names[row]}) has no value.", "Fill it in, or leave the cell out.")
    return libraries.codes.astype(np.int64)


def place_of(adata):
    """The array library where the data lies (X, without one the coordinates): there the work on graphs and points is done."""
    array = adata.obsm.get("spatial") if adata.X is None else adata.X
    return backend.xp_of(array)
