"""Where AnnData keeps things: the only file that knows slots, layers and their containers."""

from __future__ import annotations

import anndata as ad
import numpy as np

from rsc_core import backend
from rsc_core.io.store import CountsStore


def matrix(adata, layer: str | None = None):
    """X or a layer as it is stored, on its own backend.

    Raises
    ------
    KeyError
        When the layer does not exist; the message names those that do.
    """
    if layer is None:
        return adata.X
    if layer not in adata.layers:
        raise KeyError(f"there is no layer {layer!r}; adata.layers has {sorted(adata.layers)}")
    return adata.layers[layer]


def csr(adata, layer: str | None = None):
    """X or a layer as CSR on its own backend: as it is where it is CSR, converted where it is CSC or dense."""
    stored = matrix(adata, layer)
    return stored.tocsr() if hasattr(stored, "tocsr") else backend.sparse_of(backend.xp_of(stored)).csr_matrix(stored)


def load(store: CountsStore, backend_name: str, rows=None) -> ad.AnnData:
    """A counts store as an AnnData: X on the backend, everything else on the host.

    Parameters
    ----------
    store
        Opened counts store.
    backend_name
        ``"cpu"`` or ``"gpu"``.
    rows
        Boolean mask or positions of the cells to take; all by default.

    Returns
    -------
    AnnData with X: CSR (cells, genes), float32 counts, int32 indices.
    """
    counts, obs, obsm = store.counts(), store.obs, store.obsm
    if rows is not None:
        counts, obs, obsm = counts[rows], obs.iloc[rows], {key: value[rows] for key, value in obsm.items()}
    counts = counts.astype(np.float32)
    return ad.AnnData(X=backend.to_device(counts, backend_name), obs=obs, var=store.var, obsm=obsm)
