"""Formats with places of spots and cells: Space Ranger's ``outs`` folder and Xenium bundles."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from rsc_core.errors import InvalidInput
from rsc_core.io.formats import tenx
from rsc_core.io.formats.common import Options, as_text, first_of, opened, reading, required

POSITIONS = ("tissue_positions.csv", "tissue_positions_list.csv", "tissue_positions.parquet")
POSITION_COLUMNS = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
SPOT_MATRIX = ("filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix")
CELL_MATRIX = ("cell_feature_matrix.h5", "cell_feature_matrix")
CELLS = ("cells.csv.gz", "cells.csv", "cells.parquet")
CELL_COLUMNS = ["cell_id", "x_centroid", "y_centroid"]


def is_visium(path: Path) -> bool:
    """Whether the folder has Space Ranger's folder ``spatial``."""
    return path.is_dir() and (path / "spatial").is_dir()


def is_xenium(path: Path) -> bool:
    """Whether the folder holds a cell-feature matrix or a Xenium experiment."""
    return path.is_dir() and first_of(path, *CELL_MATRIX, "experiment.xenium") is not None


def read_visium(path: Path, options: Options) -> ad.AnnData:
    """The spots in tissue of Space Ranger's ``outs`` folder (of a Visium HD bin: ``binned_outputs/square_...``).

    ``obsm['spatial']`` is (x, y) of each spot's centre in pixels of the full-resolution image: its pixel column and pixel
    row, as in scanpy and squidpy. ``obs`` has in_tissue, array_row and array_col. ``uns['visium']`` has the numbers of
    scalefactors_json.json and, where there is one, the bytes of the low-resolution image (``lowres_png``, uint8).
    """
    if (path / "binned_outputs").is_dir() and first_of(path, *SPOT_MATRIX) is None:
        bins = sorted(entry.name for entry in (path / "binned_outputs").iterdir() if entry.is_dir())
        raise InvalidInput(
            f"{path.name}: Visium HD has a matrix for each size of bins: {', '.join(bins) or 'none is there'}.",
            "Give the folder of one size as path, for example binned_outputs/square_008um.",
        )
    adata = tenx.read_matrix(required(path, *SPOT_MATRIX, of="Space Ranger"), options)
    folder = path / "spatial"
    file = required(folder, *POSITIONS, of="Space Ranger")
    positions = _indexed(_read_positions(file), "barcode", POSITION_COLUMNS[1:], file.name)
    positions = _of_cells(positions, adata.obs_names, file.name)
    for column in POSITION_COLUMNS[1:4]:
        adata.obs[column] = positions[column].to_numpy(dtype=np.int32)
    adata.obsm["spatial"] = positions[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(dtype=np.float64)
    adata.uns["visium"] = {"scalefactors": _read_scale_factors(required(folder, "scalefactors_json.json", of="Space Ranger"))}
    image = first_of(folder, "tissue_lowres_image.png")
    if image is not None:
        adata.uns["visium"]["lowres_png"] = _png_bytes(image)
    in_tissue = (adata.obs["in_tissue"] == 1).to_numpy()
    return adata if in_tissue.all() else adata[in_tissue].copy()


def read_xenium(path: Path, options: Options) -> ad.AnnData:
    """A Xenium bundle: counts of the genes, without controls; ``obsm['spatial']`` is (x, y) of the centroids in micrometres."""
    adata = tenx.read_matrix(required(path, *CELL_MATRIX, of="Xenium"), options)
    file = required(path, *CELLS, of="Xenium")
    cells = _read_parquet(file) if file.suffix == ".parquet" else _read_csv(file)
    cells = _of_cells(_indexed(cells, "cell_id", CELL_COLUMNS[1:], file.name), adata.obs_names, file.name)
    for column in ("cell_area", "nucleus_area"):
        if column in cells:
            adata.obs[column] = pd.to_numeric(cells[column], errors="coerce").to_numpy(dtype=np.float64)
    adata.obsm["spatial"] = cells[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64)
    return adata


def _read_positions(path: Path) -> pd.DataFrame:
    """Positions of the spots; the first version of the csv has no header."""
    if path.suffix == ".parquet":
        return _read_parquet(path)
    with reading(path.name, "csv"), opened(path) as file:
        has_header = file.readline().split(",")[0].strip('"') == "barcode"
    if has_header:
        return _read_csv(path)
    positions = _read_csv(path, header=None)
    if positions.shape[1] != len(POSITION_COLUMNS):
        raise InvalidInput(
            f"{path.name}: {positions.shape[1]} columns without a header; they must be {', '.join(POSITION_COLUMNS)}.",
            "Give the file as Space Ranger writes it.",
        )
    return positions.set_axis(POSITION_COLUMNS, axis=1)


def _read_csv(path: Path, **how) -> pd.DataFrame:
    """All cells as text: names must not become numbers."""
    with reading(path.name, "csv"), opened(path) as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False, **how)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidInput(
            f"{path.name}: reading parquet needs the package pyarrow, which is not installed.",
            f"Install pyarrow, or put the same table beside it as {path.with_suffix('.csv').name}.",
        ) from error
    with reading(path.name, "parquet"):
        return pyarrow.parquet.read_table(path).to_pandas()


def _indexed(table: pd.DataFrame, key: str, columns: list[str], name: str) -> pd.DataFrame:
    """The table with its names as index and the columns as numbers; InvalidInput names the first that is none."""
    missing = [column for column in (key, *columns) if column not in table]
    if missing:
        raise InvalidInput(
            f"{name}: column {missing[0]!r} is missing; columns: {', '.join(map(str, table.columns))}.", "Give the file as it was written."
        )
    table = table.set_index(pd.Index(as_text(table[key]), dtype=object))
    repeated = table.index[table.index.duplicated()]
    if len(repeated):
        raise InvalidInput(
            f"{name}: {len(repeated)} values of {key} repeat (first: {repeated[0]!r}).", "Give the file as it was written, one line each."
        )
    for column in columns:
        numbers = pd.to_numeric(table[column], errors="coerce")
        wrong = np.flatnonzero(~np.isfinite(numbers.to_numpy(dtype=np.float64)))
        if wrong.size:
            raise InvalidInput(
                f"{name}: {key} {table.index[wrong[0]]!r}, column {column!r}: {table[column].iloc[wrong[0]]!r} is not a number "
                f"({wrong.size} such values).",
                "Correct the file, or make it again.",
            )
        table[column] = numbers
    return table


def _of_cells(table: pd.DataFrame, cells: pd.Index, name: str) -> pd.DataFrame:
    """The rows of the matrix's cells, in its order."""
    absent = cells[~cells.isin(table.index)]
    if len(absent):
        raise InvalidInput(
            f"{name}: {len(absent)} of {len(cells)} cells of the matrix are not in it (first: {absent[0]!r}).",
            "Take matrix and positions from the same run, whole.",
        )
    return table.loc[cells]


def _read_scale_factors(path: Path) -> dict[str, float]:
    with reading(path.name, "JSON"):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not isinstance(found.get("tissue_lowres_scalef"), (int, float)):
        raise InvalidInput(f"{path.name}: there is no number tissue_lowres_scalef in it.", "Give the file as Space Ranger writes it.")
    return {key: float(value) for key, value in sorted(found.items()) if isinstance(value, (int, float))}


def _png_bytes(path: Path) -> np.ndarray:
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG") or b"IEND" not in content[-16:]:
        raise InvalidInput(f"{path.name}: this is no whole PNG image.", "Copy it again, or take it away: it is only shown in the report.")
    return np.frombuffer(content, dtype=np.uint8)
