"""AnnData's own formats: .h5ad files and .zarr folders."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import scipy.sparse as sp

from rsc_core.errors import InvalidInput
from rsc_core.io.formats.common import Options, counts_of_layer, reading


def is_h5ad(path: Path) -> bool:
    """Whether the name ends as an .h5ad's."""
    return path.name.lower().endswith(".h5ad")


def is_zarr(path: Path) -> bool:
    """Whether the folder is a zarr store, of version 2 or 3."""
    return path.is_dir() and (path.name.lower().endswith(".zarr") or any((path / name).exists() for name in (".zgroup", "zarr.json")))


def read_h5ad(path: Path, options: Options) -> ad.AnnData:
    """An .h5ad."""
    with reading(path.name, ".h5ad", " and opens with anndata.read_h5ad"):
        adata = ad.read_h5ad(path)
    return counts_of_layer(adata, options.layer, path.name)


def read_zarr(path: Path, options: Options) -> ad.AnnData:
    """A .zarr folder of an AnnData."""
    with reading(path.name, ".zarr", " and opens with anndata.read_zarr"):
        adata = counts_of_layer(ad.read_zarr(path), options.layer, path.name)
        _check_chunks(path, f"layers/{options.layer}" if options.layer else "X", adata)
    return adata


def _check_chunks(path: Path, matrix: str, adata: ad.AnnData) -> None:
    """Refuse a store that lost files: zarr reads a missing chunk as zeros or empty names without a word.

    A chunk of zeros need not be written, therefore those of a dense matrix cannot be checked.
    """
    import zarr

    store = zarr.open_group(str(path), mode="r")
    keys = [f"{side}/{store[side].attrs['_index']}" for side in ("obs", "var")]
    if sp.issparse(adata.X):
        keys.append(f"{matrix}/data")
        if not adata.X.has_canonical_format:  # without gaps, a chunk may hold nothing but index 0
            keys.append(f"{matrix}/indices")
    for key in keys:
        missing = store[key].nchunks - store[key].nchunks_initialized
        if missing:
            raise InvalidInput(
                f"{path.name}: {missing} of {store[key].nchunks} chunks of {key} are missing.", "Copy the whole folder again."
            )
