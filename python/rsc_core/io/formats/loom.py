"""Loom files: a matrix of genes x cells with attributes of rows and columns."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from rsc_core.errors import InvalidInput
from rsc_core.io.formats.common import Options, as_text, reading, with_unique_symbols

CELLS_A_BLOCK = 1024
GENE_NAMES = ("Gene", "gene", "var_names", "gene_names", "Accession")
GENE_IDS = ("Accession", "gene_ids", "EnsemblID")
CELL_NAMES = ("CellID", "cell_id", "obs_names", "cell_names", "Barcode", "barcode")


def is_loom(path: Path) -> bool:
    """Whether the name ends as a loom's."""
    return path.name.lower().endswith(".loom")


def read_loom(path: Path, options: Options) -> ad.AnnData:
    """A loom file; the counts are its matrix, or the layer that the options name. Attributes of one dimension are kept.

    Genes are named by the first of ``GENE_NAMES`` that is there, cells by the first of ``CELL_NAMES``. Symbols that repeat
    are made unique by the gene ids, where the file has these.
    """
    name = path.name
    with reading(name, "loom"), h5py.File(path) as file:
        if "matrix" not in file:
            raise InvalidInput(f"{name}: there is no matrix; there are {', '.join(sorted(file)) or 'none'}.", "Give a loom file.")
        layers = sorted(file["layers"]) if "layers" in file else []
        if options.layer and options.layer not in layers:
            raise InvalidInput(
                f"{name}: there is no layer {options.layer!r}; layers: {', '.join(layers) or 'none'}.",
                "Name the layer that holds raw counts with --counts-layer (samplesheet column counts_layer).",
            )
        stored = file["layers"][options.layer] if options.layer else file["matrix"]
        if stored.ndim != 2:
            raise InvalidInput(f"{name}: the matrix has {stored.ndim} dimensions, not 2.", "Give a loom file.")
        var = _attributes(file, "row_attrs", stored.shape[0], GENE_NAMES, name)
        obs = _attributes(file, "col_attrs", stored.shape[1], CELL_NAMES, name)
        ids = next((column for column in GENE_IDS if column in var), None)
        if ids:
            var.index = with_unique_symbols(var.index, as_text(var[ids]))
        starts = range(0, stored.shape[1], CELLS_A_BLOCK)
        blocks = [sp.csr_matrix(np.ascontiguousarray(stored[:, start : start + CELLS_A_BLOCK].T)) for start in starts]
        counts = sp.vstack(blocks, format="csr") if blocks else sp.csr_matrix(stored.shape[::-1], dtype=stored.dtype)
        return ad.AnnData(counts, obs=obs, var=var)


def _attributes(file, group: str, length: int, names: tuple[str, ...], name: str) -> pd.DataFrame:
    """The attributes of a side of the matrix as a table, its index the names."""
    found = {key: values[:] for key, values in (file[group].items() if group in file else ()) if values.ndim == 1}
    key = next((candidate for candidate in names if candidate in found), None)
    if key is None:
        raise InvalidInput(
            f"{name}: {group} has no names: none of {', '.join(names)}; there are {', '.join(sorted(found)) or 'none'}.",
            f"Add the names as {group}/{names[0]}.",
        )
    for attribute, values in found.items():
        if len(values) != length:
            raise InvalidInput(
                f"{name}: {group}/{attribute} has {len(values)} values, but the matrix has {length}.", "Make the file again, or remove it."
            )
    columns = {
        attribute: as_text(values) if values.dtype.kind in "SOU" else values for attribute, values in found.items() if attribute != key
    }
    return pd.DataFrame(columns, index=pd.Index(as_text(found[key]), dtype=object))
