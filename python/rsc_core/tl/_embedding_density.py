"""Density of cells in an embedding."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import density as kernels


def embedding_density(adata, basis="umap", *, groupby=None, key_added=None, components=None):
    """How densely does each cell lie among the others (of its group) in two dimensions of an embedding?

    A Gaussian kernel with covariance C n^(-1/3), C the sample covariance of the group (Scott's rule, as in scipy), summed over
    the cells of the group, then scaled to 0 (sparsest) to 1 (densest) within the group.

    Parameters
    ----------
    adata
        With ``obsm['X_' + basis]``; its backend does the work.
    basis
        Name of the embedding; ``"fa"`` stands for ``"draw_graph_fa"``.
    groupby
        Column of obs with categories; by default all cells are one group.
    key_added
        Column of obs; by default ``basis_density`` or ``basis_density_groupby``.
    components
        Which two dimensions, counted from 1, as ``"1,2"`` or a list; of a diffusion map the trivial one is not counted.

    Returns
    -------
    None. Sets ``obs[key_added]`` float64 and ``uns[key_added + '_params']``. All cells of a group equally dense: 1. A group of
    fewer than 3 cells, or on a line (a constant embedding, too), has no density: NaN. CPU = GPU bit for bit; scanpy within
    1e-9.
    """
    basis = "draw_graph_fa" if basis.lower() == "fa" else basis.lower()
    if f"X_{basis}" not in adata.obsm:
        raise ValueError(f"there is no obsm['X_{basis}']; obsm has {sorted(adata.obsm)}")
    wanted = "1,2" if components is None else components
    wanted = [int(c) for c in (wanted.split(",") if isinstance(wanted, str) else wanted)]
    coordinates = adata.obsm[f"X_{basis}"]
    columns = [c if basis == "diffmap" else c - 1 for c in wanted]
    if len(columns) != 2 or min(columns) < 0 or max(columns) >= coordinates.shape[1]:
        raise ValueError(f"components are {components!r}; two of the {coordinates.shape[1]} dimensions of X_{basis} are needed, e.g. '1,2'")
    if groupby is not None and (groupby not in adata.obs or adata.obs[groupby].dtype.name != "category"):
        raise ValueError(f"obs[{groupby!r}] must be a column with categories; obs has {sorted(adata.obs.columns)}")
    key = key_added or f"{basis}_density" + (f"_{groupby}" if groupby else "")
    codes = np.zeros(adata.shape[0], dtype=int) if groupby is None else adata.obs[groupby].cat.codes.to_numpy()
    xp, out = backend.xp_of(coordinates), np.full(adata.shape[0], np.nan)
    host = np.asarray(backend.to_host(coordinates), dtype=np.float64)[:, columns]
    for code in np.unique(codes[codes >= 0]):
        out[codes == code] = scaled_density(host[codes == code], xp)
    adata.obs[key] = out
    adata.uns[f"{key}_params"] = {"covariate": groupby, "components": wanted}


def scaled_density(x, xp=np):
    """Density of each of (cells, 2) among them, scaled to 0 to 1: float64 on the host, computed where ``xp`` is."""
    n_cells = len(x)
    covariance = np.cov(x.T) if n_cells > 2 else np.zeros((2, 2))
    # A correlation of 1 within rounding leaves no area.
    if not np.linalg.det(covariance) > 1e-12 * covariance[0, 0] * covariance[1, 1]:
        return np.full(n_cells, np.nan)
    white = np.linalg.solve(np.linalg.cholesky(2 * covariance * n_cells ** (-1 / 3)), (x - x.mean(axis=0)).T).T
    table = np.exp(-np.arange(int(kernels.FARTHEST * kernels.STEPS) + 1) / kernels.STEPS)
    sums = xp.empty(n_cells)
    kernels.density_sums(n_cells, xp.asarray(np.ascontiguousarray(white)), xp.asarray(table), sums)
    sums = backend.to_host(sums)
    low, high = sums.min(), sums.max()
    return (sums - low) / (high - low) if high > low else np.ones(n_cells)
