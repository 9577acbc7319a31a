"""Density of cells in an embedding."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import density as kernels
from rsc_core.tl._sums import products


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
    fewer than 3 cells, or on a line (a constant embedding, too), has no density: NaN. The kernels are summed by way of a grid
    of points, within 2e-13 of the largest: time grows with the cells, not with their pairs. CPU = GPU bit for bit; scanpy
    within 1e-9. Greengard & Lee 2004, doi:10.1137/S003614450343200X.
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
    xp = backend.xp_of(coordinates)
    x, out = xp.stack([coordinates[:, column] for column in columns]).astype(np.float64), np.full(adata.shape[0], np.nan)
    for cells in _groups(adata, groupby):
        chosen = x if groupby is None else xp.ascontiguousarray(x[:, xp.asarray(cells)])
        out[cells] = backend.to_host(scaled_density(chosen))
    adata.obs[key] = out
    adata.uns[f"{key}_params"] = {"covariate": groupby, "components": wanted}


def _groups(adata, groupby):
    """The cells of each group."""
    if groupby is None:
        return [slice(None)]
    codes = adata.obs[groupby].cat.codes.to_numpy()
    return [np.flatnonzero(codes == code) for code in np.unique(codes[codes >= 0])]


def scaled_density(x):
    """Density of each of (2, cells) float64 among them, scaled to 0 to 1: float64 (cells,)."""
    xp, n_cells = backend.xp_of(x), x.shape[1]
    x = x - xp.asarray(products(x, xp.ones((1, n_cells)))) / n_cells
    covariance = products(x, x) / max(1, n_cells - 1)
    # A correlation of 1 within rounding leaves no area.
    if n_cells < 3 or not np.linalg.det(covariance) > 1e-12 * covariance[0, 0] * covariance[1, 1]:
        return xp.full(n_cells, np.nan)
    (a, _), (b, c) = np.linalg.cholesky(2 * covariance * n_cells ** (-1 / 3)).tolist()
    first = x[0] / a
    sums = _sums(xp.stack([first, (x[1] - b * first) / c]))
    low, high = sums.min(), sums.max()
    return xp.where(high > low, (sums - low) / xp.where(high > low, high - low, 1), 1)


def _sums(x):
    """Of exp(-squared distance) over the cells around each of (2, cells), times a constant: float64 (cells,)."""
    xp, n_cells = backend.xp_of(x), x.shape[1]
    place = (x - x.min(axis=1, keepdims=True)) / kernels.SPACING
    column, row = (place / kernels.SIDE).astype(np.int64)
    square = row * kernels.LINE + column
    order = xp.argsort(square, kind="stable")
    square, is_first = square[order], xp.ones(n_cells + 1, dtype=bool)
    is_first[1:-1] = square[1:] != square[:-1]
    start = xp.flatnonzero(is_first)
    by_square = xp.ascontiguousarray(place[:, order].T), square[start[:-1]], start
    windows, found, sums = xp.empty((start.size - 1, kernels.WINDOW, kernels.WINDOW)), xp.empty(n_cells), xp.empty(n_cells)
    kernels.window_sums(start.size - 1, *by_square, windows)
    kernels.window_values(start.size - 1, *by_square, windows, found)
    sums[order] = found
    return sums
