"""Graphs of points in space. Coordinates are small: the work is done on the host for both backends."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from rsc_core import backend
from rsc_core.errors import InvalidInput

COORD_TYPES = ("grid", "generic")
TRANSFORMS = ("spectral", "cosine")
GRID_CUT = 1.3  # times the median distance: what is farther away is no neighbour on the grid (squidpy's factor)
QUERY_SIZE = 1 << 22  # distances that are held at once


def spatial_neighbors(
    adata, *, spatial_key="spatial", coord_type=None, n_neighs=6, n_rings=1, radius=None, transform=None, set_diag=False,
    key_added="spatial", copy=False,
):
    """Connect each cell or spot with those near it.

    - generic: to its ``n_neighs`` nearest, in one direction; with ``radius``, to all within that distance.
    - grid: to those of its ``n_neighs`` nearest that are closer than 1.3 times the median distance (6 on Visium's
      hexagons, 4 on squares), and on to ``n_rings`` rings; distances are numbers of steps.

    Parameters
    ----------
    adata
        AnnData; ``obsm[spatial_key]`` holds coordinates, (cells, 2 or 3).
    spatial_key
        Where the coordinates are.
    coord_type
        ``"grid"`` or ``"generic"``; by default grid where ``uns`` has ``spatial_key`` (Visium) and no radius is given.
    n_neighs
        Number of neighbours.
    n_rings
        Number of rings, on a grid only.
    radius
        Largest distance, or the interval (smallest, largest); generic only, instead of ``n_neighs``.
    transform
        ``"spectral"`` (a_ij / sqrt(d_i d_j), d: sums of columns), ``"cosine"`` (similarity of rows), or None.
    set_diag
        Connect each cell with itself as well.
    key_added
        Results go to ``obsp['<key_added>_connectivities']``, ``obsp['<key_added>_distances']`` and
        ``uns['<key_added>_neighbors']``.
    copy
        Return the two matrices instead.

    Returns
    -------
    None, or (connectivities, distances): CSR (cells, cells) of the host, sorted indices, float32 and float64 (float32
    on a grid).

    Raises
    ------
    InvalidInput
        When there are no coordinates, or one is missing or infinite: the message names the cell.

    Notes
    -----
    Equal to squidpy 1.8 where distances differ; of equally near points those that come first are taken (squidpy's choice
    is that of its tree). Fewer than ``n_neighs`` other cells: all of them (squidpy raises). Cells in the same place are
    connected, with no stored distance (0), as squidpy does. A cell without neighbours has an empty row. Spectral
    transform: 0 where squidpy's is infinite, at cells that are nobody's neighbour.
    """
    coordinates = _coordinates(adata, spatial_key)
    if coord_type is None:
        coord_type = "grid" if radius is None and spatial_key in adata.uns else "generic"
    _check(coord_type, n_neighs, n_rings, radius, transform)
    if coord_type == "grid":
        adjacency, distances = grid_graph(coordinates, n_neighs, n_rings, set_diag)
        parameters = {"n_neighbors": n_neighs, "n_rings": n_rings}
    elif radius is not None:
        adjacency, distances = radius_graph(coordinates, radius, set_diag)
        parameters = {"radius": radius}
    else:
        adjacency, distances = knn_graph(coordinates, n_neighs, set_diag)
        parameters = {"n_neighbors": n_neighs}
    if transform is not None:
        adjacency = {"spectral": _spectral, "cosine": _cosine}[transform](adjacency)
        parameters["transform"] = transform
    if copy:
        return adjacency, distances
    keys = {"connectivities_key": f"{key_added}_connectivities", "distances_key": f"{key_added}_distances"}
    adata.obsp[keys["connectivities_key"]], adata.obsp[keys["distances_key"]] = adjacency, distances
    adata.uns[f"{key_added}_neighbors"] = {**keys, "params": {"coord_type": coord_type, **parameters}}
    return None


def _coordinates(adata, key) -> np.ndarray:
    if key not in adata.obsm:
        raise InvalidInput(
            f"there is no obsm[{key!r}]; obsm has {', '.join(map(repr, adata.obsm)) or 'nothing'}.",
            "Add the coordinates of the cells, or name where they are with spatial_key.",
        )
    coordinates = np.asarray(backend.to_host(adata.obsm[key]), dtype=np.float64)
    if coordinates.ndim != 2 or coordinates.shape[1] not in (2, 3):
        raise InvalidInput(f"obsm[{key!r}] has the shape {coordinates.shape}.", "Give two or three coordinates for each cell.")
    wrong = ~np.isfinite(coordinates).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InvalidInput(
            f"obsm[{key!r}]: {int(wrong.sum())} cells have no finite coordinates; the first is row {row} ({adata.obs_names[row]}).",
            "Leave such cells out, or give their coordinates.",
        )
    return coordinates


def _check(coord_type, n_neighs, n_rings, radius, transform) -> None:
    if coord_type not in COORD_TYPES:
        raise ValueError(f"coord_type is {coord_type!r}; it must be one of {', '.join(COORD_TYPES)}")
    if transform is not None and transform not in TRANSFORMS:
        raise ValueError(f"transform is {transform!r}; it must be None or one of {', '.join(TRANSFORMS)}")
    for name, value in (("n_neighs", n_neighs), ("n_rings", n_rings)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if radius is not None and coord_type == "grid":
        raise ValueError("radius is for coord_type 'generic'; on a grid the number of rings, n_rings, says how far to go")
    if radius is not None and not np.all(np.asarray(radius) >= 0):
        raise ValueError(f"radius is {radius}; it must not be negative")


def nearest(coordinates, k):
    """The k nearest other points, near ones first, of equally near ones those with the lower index.

    Parameters
    ----------
    coordinates
        float64 (points, dimensions).
    k
        Number of neighbours; all other points where there are fewer.

    Returns
    -------
    indices : int64 (points, k)
    distances : float64 (points, k)
    """
    from scipy.spatial import cKDTree

    n = len(coordinates)
    k = min(k, max(n - 1, 0))
    indices, distances = np.empty((n, k), dtype=np.int64), np.empty((n, k))
    if not k:
        return indices, distances
    tree, open_rows, asked = cKDTree(coordinates), np.arange(n), k + 2
    while open_rows.size:
        asked, step, left = min(asked, n), max(1, QUERY_SIZE // min(asked, n)), []
        for start in range(0, open_rows.size, step):
            rows = open_rows[start : start + step]
            distance, index = tree.query(coordinates[rows], k=asked)
            # A point that the query left out can be as near as the last that it found.
            distance = np.where(index == rows[:, None], np.inf, distance)
            order = np.lexsort((index, distance))
            distance, index = (np.take_along_axis(part, order, axis=1) for part in (distance, index))
            farthest = distance[:, -1] if asked == n else np.where(np.isinf(distance[:, -1]), distance[:, -2], distance[:, -1])
            done = (distance[:, k - 1] < farthest) | (asked == n)
            indices[rows[done]], distances[rows[done]] = index[done, :k], distance[done, :k]
            left.append(rows[~done])
        open_rows, asked = np.concatenate(left), asked * 2
    return indices, distances


def _graph(rows, columns, values, n, dtype):
    graph = sp.csr_matrix((np.asarray(values, dtype=dtype), (rows, columns)), shape=(n, n))
    graph.sort_indices()
    return graph


def _with_diagonal(adjacency, distances, set_diag: bool):
    """Both graphs as squidpy leaves them: the diagonal as asked for, distances of 0 not stored."""
    if set_diag:
        adjacency = (adjacency + sp.identity(adjacency.shape[0], dtype=np.float32, format="csr")).tocsr()
        adjacency.sort_indices()
    distances.eliminate_zeros()
    return adjacency, distances


def knn_graph(coordinates, n_neighs, set_diag=False):
    """Connectivities (1) and distances of each point's nearest neighbours; see :func:`spatial_neighbors`."""
    indices, distances = nearest(coordinates, n_neighs)
    n, rows = len(coordinates), np.repeat(np.arange(len(coordinates)), indices.shape[1])
    adjacency = _graph(rows, indices.ravel(), np.ones(indices.size), n, np.float32)
    return _with_diagonal(adjacency, _graph(rows, indices.ravel(), distances.ravel(), n, np.float64), set_diag)


def radius_graph(coordinates, radius, set_diag=False):
    """Connectivities (1) and distances of points within a radius or an interval; see :func:`spatial_neighbors`."""
    from scipy.spatial import cKDTree

    smallest, largest = (0.0, float(radius)) if np.ndim(radius) == 0 else (min(radius), max(radius))
    pairs = cKDTree(coordinates).query_pairs(largest, output_type="ndarray") if len(coordinates) else np.empty((0, 2), dtype=np.int64)
    distances = np.sqrt(((coordinates[pairs[:, 0]] - coordinates[pairs[:, 1]]) ** 2).sum(axis=1))
    pairs, distances = pairs[distances >= smallest], distances[distances >= smallest]
    rows, columns, n = np.r_[pairs[:, 0], pairs[:, 1]], np.r_[pairs[:, 1], pairs[:, 0]], len(coordinates)
    adjacency = _graph(rows, columns, np.ones(rows.size), n, np.float32)
    return _with_diagonal(adjacency, _graph(rows, columns, np.r_[distances, distances], n, np.float64), set_diag)


def grid_graph(coordinates, n_neighs, n_rings=1, set_diag=False):
    """Connectivities (1) and numbers of steps between points of a grid; see :func:`spatial_neighbors`."""
    indices, distances = nearest(coordinates, n_neighs)
    n, rows = len(coordinates), np.repeat(np.arange(len(coordinates)), indices.shape[1])
    near = distances.ravel() < GRID_CUT * np.median(distances) if distances.size else np.zeros(0, dtype=bool)
    step = _graph(rows[near], indices.ravel()[near], np.ones(int(near.sum())), n, np.float32)
    steps = walk = step
    for ring in range(2, n_rings + 1):
        walk = ((walk @ step) > 0).astype(np.float32)
        walk = (walk - walk.multiply(steps > 0) - sp.diags_array(walk.diagonal())).tocsr()
        walk.eliminate_zeros()
        steps = (steps + ring * walk).tocsr()
    steps.sort_indices()
    adjacency = steps.copy()
    adjacency.data[:] = 1
    return _with_diagonal(adjacency, steps.astype(np.float32), set_diag)


def _spectral(adjacency):
    """a_ij / sqrt(d_i d_j), d being sums of columns; 0 where d is 0."""
    degree = np.asarray(adjacency.sum(axis=0), dtype=np.float64).ravel()
    factor = np.divide(1, np.sqrt(degree), out=np.zeros(degree.size), where=degree > 0)
    rows = np.repeat(np.arange(degree.size), np.diff(adjacency.indptr))
    values = (factor[rows] * factor[adjacency.indices] * adjacency.data).astype(np.float32)
    return sp.csr_matrix((values, adjacency.indices, adjacency.indptr), shape=adjacency.shape)


def _cosine(adjacency):
    """Cosine similarity of the rows; 0 for empty ones."""
    length = np.sqrt(np.asarray(adjacency.multiply(adjacency).sum(axis=1), dtype=np.float64)).ravel()
    unit = sp.diags_array(np.divide(1, length, out=np.zeros(length.size), where=length > 0)) @ adjacency.astype(np.float64)
    similarity = sp.csr_matrix(unit @ unit.T, dtype=np.float32)
    similarity.sort_indices()
    return similarity
