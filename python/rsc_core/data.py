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
        raise KeyError(f"there is no layer {layer!r}; adata.layers has {layer_names(adata)}")
    return adata.layers[layer]


def csr(adata, layer: str | None = None):
    """X or a layer as CSR on its own backend: as it is where it is CSR, converted where it is CSC or dense."""
    stored = matrix(adata, layer)
    return stored.tocsr() if hasattr(stored, "tocsr") else backend.sparse_of(backend.xp_of(stored)).csr_matrix(stored)


def layer_names(adata) -> list[str]:
    """Names of the layers; anndata from 0.13 on lists X among them, under None."""
    return sorted(name for name in adata.layers if name is not None)


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


def default_representation(adata) -> str:
    """``X_pca`` if there, ``X`` for at most 50 genes, else an error that says what to run."""
    if "X_pca" in adata.obsm:
        return "X_pca"
    if adata.X is not None and adata.n_vars <= 50:
        return "X"
    raise ValueError("there is no obsm['X_pca']; run pp.pca first or name a representation with use_rep")


def representation(adata, use_rep: str, n_pcs: int | None = None):
    """A representation as stored: (cells, dimensions), the first ``n_pcs`` columns."""
    if use_rep != "X" and use_rep not in adata.obsm:
        raise KeyError(f"there is no obsm[{use_rep!r}]; obsm has {sorted(adata.obsm)}")
    x = adata.X if use_rep == "X" else adata.obsm[use_rep]
    x = x.toarray() if hasattr(x, "toarray") else x
    if n_pcs and n_pcs > x.shape[1]:
        raise ValueError(f"n_pcs is {n_pcs}, but {use_rep} has {x.shape[1]} columns")
    return x[:, :n_pcs] if n_pcs else x


def check_finite(x, name: str) -> None:
    """Raise ValueError that names the first row with a value that is not finite."""
    xp = backend.xp_of(x)
    rows = np.flatnonzero(~backend.to_host(xp.isfinite(x)).all(axis=1))
    if rows.size:
        raise ValueError(f"{name} has NaN or infinite values in row {rows[0]} ({rows.size} rows in all); remove these cells")


def connectivities(adata, neighbors_key: str | None = None, obsp: str | None = None):
    """The graph (CSR, cells x cells) and its entry of uns; ``obsp`` names a graph without an entry."""
    key = neighbors_key or "neighbors"
    entry = {} if obsp else adata.uns.get(key)
    if entry is None:
        raise KeyError(f"there is no uns[{key!r}]; run pp.neighbors first")
    slot = obsp or entry["connectivities_key"]
    if slot not in adata.obsp:
        raise KeyError(f"there is no obsp[{slot!r}]; obsp has {sorted(adata.obsp)}")
    return adata.obsp[slot], entry
