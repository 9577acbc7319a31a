"""Input formats: a registry of readers that each give raw counts as an AnnData of the host.

A reader takes the path and the name of the layer that holds the counts (empty: X) and returns an AnnData whose X is
what the file holds, not yet validated. A format joins by an entry in ``FORMATS``.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad

from rsc_core.data import layer_names
from rsc_core.errors import InvalidInput


@dataclasses.dataclass(frozen=True)
class Format:
    """How files of a format are known and read."""

    suffixes: tuple[str, ...]
    read: Callable[[Path, str], ad.AnnData]


def _read_h5ad(path: Path, layer: str) -> ad.AnnData:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # duplicated names are an error further on, old files are not worth a warning
            adata = ad.read_h5ad(path)
    except Exception as error:  # anndata, h5py and its own readers raise many kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(
            f"{path.name}: cannot be read as .h5ad ({reason}).",
            "Check that the file is whole and opens with anndata.read_h5ad; copy or download it again if not.",
        ) from error
    if layer:
        if layer not in adata.layers:
            raise InvalidInput(
                f"{path.name}: there is no layer {layer!r}; layers: {', '.join(layer_names(adata)) or 'none'}.",
                "Name the layer that holds raw counts with --counts-layer (samplesheet column counts_layer).",
            )
        adata.X = adata.layers[layer]
    if adata.X is None:
        raise InvalidInput(
            f"{path.name}: X is missing; layers: {', '.join(layer_names(adata)) or 'none'}.",
            "Store raw counts in X, or name the layer that holds them with --counts-layer (samplesheet column counts_layer).",
        )
    return adata


FORMATS = {"h5ad": Format((".h5ad",), _read_h5ad)}


def read(path, format: str = "auto", layer: str = "") -> ad.AnnData:
    """Read a file of any registered format.

    Parameters
    ----------
    path
        File to read.
    format
        A key of ``FORMATS``, or ``"auto"``: by the end of the file's name.
    layer
        Layer that holds the raw counts; empty: X.

    Raises
    ------
    InvalidInput
        When the format is not known, the file is not of it, or the layer does not exist.
    """
    path = Path(path)
    if format == "auto":
        format = next((name for name, known in FORMATS.items() if path.name.lower().endswith(known.suffixes)), "")
        if not format:
            raise InvalidInput(
                f"{path.name}: the format is not known from the file's name.",
                f"Name it with --format (samplesheet column format): {', '.join(FORMATS)}.",
            )
    return FORMATS[format].read(path, layer)
