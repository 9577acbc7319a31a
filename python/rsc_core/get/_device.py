"""Matrices of an AnnData from the host to the device and back."""

from __future__ import annotations

from rsc_core import backend, data


def anndata_to_GPU(adata, layer=None, *, convert_all=False, copy=False):
    """Move X, a layer, or (``convert_all``) X and all layers to the GPU; integers become float32, which CuPy's sparse matrices need.

    Returns
    -------
    None, or the AnnData where ``copy``.

    Raises
    ------
    BackendUnavailable
        When there is no NVIDIA device or no CuPy.
    """
    backend.require("gpu")
    return _converted(adata, layer, convert_all, copy, lambda value: data.moved(value, "gpu"))


def anndata_to_CPU(adata, layer=None, *, convert_all=False, copy=False):
    """Move X, a layer, or (``convert_all``) X and all layers to the host; see :func:`anndata_to_GPU`."""
    return _converted(adata, layer, convert_all, copy, backend.to_host)


def _converted(adata, layer, convert_all: bool, copy: bool, move):
    adata = adata.copy() if copy else adata
    for name in [None, *data.layer_names(adata)] if convert_all else [layer]:
        stored = data.matrix(adata, name)
        if stored is None:
            continue
        if name is None:
            adata.X = move(stored)
        else:
            adata.layers[name] = move(stored)
    return adata if copy else None
