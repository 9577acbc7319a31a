"""Input formats: a registry of readers that each give raw counts as an AnnData of the host.

A reader takes the path and the :class:`Options` and returns an AnnData whose X is what the file holds, not yet validated.
A format joins by an entry in ``FORMATS``; the order is that in which ``auto`` asks them.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata as ad

from rsc_core.errors import InvalidInput
from rsc_core.io.formats import annotated, loom, safety, spatial, tables, tenx
from rsc_core.io.formats.common import ORIENTATIONS, Format, Options, listed, reading

FORMATS = {
    "h5ad": Format("file", ("layer",), annotated.is_h5ad, annotated.read_h5ad),
    "zarr": Format("folder", ("layer",), annotated.is_zarr, annotated.read_zarr),
    "10x_h5": Format("file", ("genome",), tenx.is_h5, tenx.read_h5),
    "visium": Format("folder", ("genome",), spatial.is_visium, spatial.read_visium),
    "xenium": Format("folder", ("genome",), spatial.is_xenium, spatial.read_xenium),
    "10x_mtx": Format("folder", ("genome",), tenx.is_matrix_folder, tenx.read_matrix_folder),
    "10x_outs": Format("folder", ("genome",), tenx.is_outs, tenx.read_outs),
    "loom": Format("file", ("layer",), loom.is_loom, loom.read_loom),
    "csv": Format("file", ("orientation",), tables.is_csv, tables.read_csv),
    "tsv": Format("file", ("orientation",), tables.is_tsv, tables.read_tsv),
}


def read(path, format: str = "auto", layer: str = "", genome: str = "", orientation: str = ORIENTATIONS[0]) -> ad.AnnData:
    """Read a file or folder of any registered format.

    Parameters
    ----------
    path
        File or folder to read.
    format
        A key of ``FORMATS``, or ``"auto"``: by the end of a file's name, or by what a folder holds.
    layer
        Layer that holds the raw counts; empty: X. Only h5ad, zarr and loom have layers; for others it is refused, as counts
        other than those asked for would be read.
    genome
        Reference genome to keep, for the 10x formats; needed only where there are several. Other formats have none, and
        are read whole.
    orientation
        ``"cells-by-genes"`` or ``"genes-by-cells"``: what the rows of a csv or tsv are. The other formats say it themselves.

    Returns
    -------
    AnnData (cells, genes); X sparse or dense as the file has it. Coordinates, where the format has them, in
    ``obsm['spatial']``; a Space Ranger picture in ``uns['visium']`` (see :func:`rsc_core.io.formats.spatial.read_visium`).

    Raises
    ------
    InvalidInput
        When the format is not known, the file is damaged or not of it, or the layer or genome does not exist.
    """
    path = Path(path)
    known = ", ".join(FORMATS)
    if format == "auto":
        format = next((name for name, candidate in FORMATS.items() if candidate.recognises(path)), "")
        if not format:
            what = f"from what the folder holds ({listed(path)})" if path.is_dir() else "from the file's name"
            raise InvalidInput(
                f"{path.name}: the format is not known {what}.", f"Name it with --format (samplesheet column format): {known}."
            )
    if format not in FORMATS:
        raise InvalidInput(
            f"{path.name}: there is no format {format!r}.", f"Use one of these for --format (samplesheet column format): auto, {known}."
        )
    if orientation not in ORIENTATIONS:
        raise InvalidInput(
            f"{path.name}: there is no orientation {orientation!r}.",
            f"Use one of these for --orientation (samplesheet column orientation): {', '.join(ORIENTATIONS)}.",
        )
    chosen = FORMATS[format]
    if path.is_dir() != (chosen.kind == "folder"):
        raise InvalidInput(
            f"{path.name}: this is a {'folder' if path.is_dir() else 'file'}, but {format} is a {chosen.kind}.",
            f"Give the {chosen.kind} as path, or name another --format (samplesheet column format): {known}.",
        )
    if layer and "layer" not in chosen.options:
        raise InvalidInput(
            f"{path.name}: there is no layer {layer!r}, {format} has no layers.",
            "Leave --counts-layer (samplesheet column counts_layer) empty for this sample.",
        )
    safety.check(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicated names are an error further on, old files are not worth a warning
        adata = chosen.read(path, Options(layer, genome, orientation))
    with reading(path.name, "matrix of counts"):
        safety.check_matrix(adata.X)
    return adata
