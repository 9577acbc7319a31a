"""Graphs of points in space. Coordinates are small: the work is done on the host for both backends."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from rsc_core.errors import InvalidInput
from rsc_core.gr._points import Fields
from rsc_core.gr._slots import coordinates_of, libraries_of

COORD_TYPES = ("grid", "generic")
TRANSFORMS = ("spectral", "cosine")
GRID_CUT = 1.3  # times the median distance: what is farther away is no neighbour on the grid (squidpy's factor)


class SpatialNeighborsResult(NamedTuple):
    """The two graphs of :func:`spatial_neighbors`."""

    connectivities: sp.csr_matrix
    distances: sp.csr_matrix


def spatial_neighbors(
    adata, *, spatial_key="spatial", library_key=None, coord_type=None, n_neighs=6, n_rings=1, radius=None, delaunay=False,
    percentile=None, transform=None, set_diag=False, key_added="spatial", copy=False,
):
    """Connect each cell or spot with those near it.

    - generic: to its ``n_neighs`` nearest, in one direction; with ``radius``, to all within that distance; with
      ``delaunay``, to its corners of the triangulation, of those within ``radius`` where it is given.
    - grid: to those of its ``n_neighs`` nearest that are closer than 1.3 times the median distance (6 on Visium's
      hexagons, 4 on squares), or with ``delaunay`` to the corners of the triangulation, and on to ``n_rings`` rings;
      distances are numbers of steps.

    Parameters
    ----------
    adata
        AnnData; ``obsm[spatial_key]`` holds coordinates, (cells, 2 or 3).
    spatial_key
        Where the coordinates are.
    library_key
        Column of obs with the libraries: each gets its own graph, and none is connected with another.
    coord_type
        ``"grid"`` or ``"generic"``; by default grid where ``uns`` has ``spatial_key`` (Visium) and no radius is given.
    n_neighs
        Number of neighbours.
    n_rings
        Number of rings, on a grid only.
    radius
        Largest distance, or the interval (smallest, largest); generic only, instead of ``n_neighs``.
    delaunay
        Connect by triangulation instead of by distance.
    percentile
        Leave out edges longer than this percentile (0 to 100) of the stored distances, where each cell's distance to itself
        counts as 0, as squidpy has it; generic only.
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
    None, or a ``SpatialNeighborsResult`` (connectivities, distances): CSR (cells, cells) of the host, sorted indices, float32 and
    float64 (float32 on a grid).

    Raises
    ------
    InvalidInput
        When there are no coordinates, one is missing or infinite (the message names the cell), or points that lie on one
        line are to be triangulated.

    Notes
    -----
    Equal to squidpy 1.8 where distances differ; of equally near points those that come first are taken (squidpy's choice
    is that of its tree). Fewer than ``n_neighs`` other cells: all of them (squidpy raises). Cells in the same place are
    connected, with no stored distance (0), as squidpy does; in a triangulation all but one of them have no neighbours. A
    cell without neighbours has an empty row. Spectral transform: 0 where squidpy's is infinite, at cells that are nobody's
    neighbour. One radius prunes a triangulation as ``squidpy.gr.spatial_neighbors_delaunay`` does.
    """
    coordinates, libraries = coordinates_of(adata, spatial_key), libraries_of(adata, library_key)
    if coord_type is None:
        coord_type = "grid" if radius is None and spatial_key in adata.uns else "generic"
    _check(coord_type, n_neighs, n_rings, radius, transform, percentile)
    options = {"n_neighs": n_neighs, "n_rings": n_rings, "radius": radius, "delaunay": delaunay, "percentile": percentile}
    parts = []
    for members in [np.arange(adata.n_obs)] if libraries is None else [np.flatnonzero(libraries == i) for i in np.unique(libraries)]:
        adjacency, distances = _graph_of_library(coordinates[members], coord_type, transform, set_diag, **options)
        parts.append((members, adjacency, distances))
    adjacency, distances = (_combined([(part[0], part[i]) for part in parts], adata.n_obs) for i in (1, 2))
    if copy:
        return SpatialNeighborsResult(adjacency, distances)
    shown = {"grid": ("n_neighs", "n_rings")}.get(coord_type, ("n_neighs",) if radius is None and not delaunay else ("radius",))
    parameters = {"n_neighbors" if name == "n_neighs" else name: options[name] for name in shown if options[name] is not None}
    parameters |= {"delaunay": True} if delaunay else {}
    parameters |= {name: value for name, value in (("percentile", percentile), ("transform", transform)) if value is not None}
    keys = {"connectivities_key": f"{key_added}_connectivities", "distances_key": f"{key_added}_distances"}
    adata.obsp[keys["connectivities_key"]], adata.obsp[keys["distances_key"]] = adjacency, distances
    adata.uns[f"{key_added}_neighbors"] = {**keys, "params": {"coord_type": coord_type, **parameters}}
    if library_key is not None:
        adata.uns[f"{key_added}_neighbors"]["params"]["library_key"] = library_key
    return None


def _graph_of_library(coordinates, coord_type, transform, set_diag, *, n_neighs, n_rings, radius, delaunay, percentile):
    if coord_type == "grid":
        adjacency, distances = grid_graph(coordinates, n_neighs, n_rings, set_diag, delaunay)
    elif delaunay:
        adjacency, distances = delaunay_graph(coordinates, radius, set_diag, percentile)
    elif radius is not None:
        adjacency, distances = radius_graph(coordinates, radius, set_diag, percentile)
    else:
        adjacency, distances = knn_graph(coordinates, n_neighs, set_diag, percentile)
    return {None: _unchanged, "spectral": _spectral, "cosine": _cosine}[transform](adjacency), distances


def _combined(parts, n):
    """The graphs of libraries, (members, CSR) each, as one."""
    if len(parts) == 1:
        return parts[0][1]
    coos = [(members, graph.tocoo()) for members, graph in parts]
    rows, columns = (np.concatenate([members[getattr(coo, end)] for members, coo in coos]) for end in ("row", "col"))
    return _graph(rows, columns, np.concatenate([coo.data for _, coo in coos]), n, coos[0][1].dtype)


def _check(coord_type, n_neighs, n_rings, radius, transform, percentile) -> None:
    if coord_type not in COORD_TYPES:
        raise ValueError(f"coord_type is {coord_type!r}; it must be one of {', '.join(COORD_TYPES)}")
    if transform is not None and transform not in TRANSFORMS:
        raise ValueError(f"transform is {transform!r}; it must be None or one of {', '.join(TRANSFORMS)}")
    for name, value in (("n_neighs", n_neighs), ("n_rings", n_rings)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    for name, value in (("radius", radius), ("percentile", percentile)):
        if value is not None and coord_type == "grid":
            raise ValueError(f"{name} is for coord_type 'generic'; on a grid the number of rings, n_rings, says how far to go")
    if radius is not None and not np.all(np.asarray(radius) >= 0):
        raise ValueError(f"radius is {radius}; it must not be negative")
    if percentile is not None and not 0 <= percentile <= 100:
        raise ValueError(f"percentile is {percentile}; it must lie between 0 and 100")


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
    if not len(coordinates):
        return np.empty((0, 0), dtype=np.int64), np.empty((0, 0))
    indices, square = Fields(np.ascontiguousarray(coordinates, dtype=np.float64)).nearest(k)
    return indices, np.sqrt(square)


def _graph(rows, columns, values, n, dtype):
    graph = sp.csr_matrix((np.asarray(values, dtype=dtype), (rows, columns)), shape=(n, n))
    graph.sort_indices()
    return graph


def _finished(rows, columns, distances, n, set_diag: bool, percentile=None):
    """Both graphs of some edges as squidpy leaves them: the diagonal as asked for, distances of 0 not stored.

    An edge with a distance of NaN is left out; it counts to the percentile as 0.
    """
    kept = ~np.isnan(distances)
    if percentile is not None and distances.size:
        kept &= ~(distances > np.percentile(np.r_[np.where(kept, distances, 0), np.zeros(n)], percentile))
    rows, columns, distances = rows[kept], columns[kept], distances[kept]
    adjacency = _graph(rows, columns, np.ones(rows.size), n, np.float32)
    length = _graph(rows, columns, distances, n, np.float64)
    return _with_diagonal(adjacency, length, set_diag)


def _with_diagonal(adjacency, distances, set_diag: bool):
    if set_diag:
        adjacency = (adjacency + sp.identity(adjacency.shape[0], dtype=np.float32, format="csr")).tocsr()
        adjacency.sort_indices()
    distances.eliminate_zeros()
    return adjacency, distances


def knn_graph(coordinates, n_neighs, set_diag=False, percentile=None):
    """Connectivities (1) and distances of each point's nearest neighbours; see :func:`spatial_neighbors`."""
    indices, distances = nearest(coordinates, n_neighs)
    n, rows = len(coordinates), np.repeat(np.arange(len(coordinates)), indices.shape[1])
    return _finished(rows, indices.ravel(), distances.ravel(), n, set_diag, percentile)


def _interval(radius) -> tuple[float, float]:
    return (0.0, float(radius)) if np.ndim(radius) == 0 else (min(radius), max(radius))


def radius_graph(coordinates, radius, set_diag=False, percentile=None):
    """Connectivities (1) and distances of points within a radius or an interval; see :func:`spatial_neighbors`."""
    from scipy.spatial import cKDTree

    smallest, largest = _interval(radius)
    pairs = cKDTree(coordinates).query_pairs(largest, output_type="ndarray") if len(coordinates) else np.empty((0, 2), dtype=np.int64)
    distances = np.sqrt(((coordinates[pairs[:, 0]] - coordinates[pairs[:, 1]]) ** 2).sum(axis=1))
    distances[distances < smallest] = np.nan
    rows, columns = np.r_[pairs[:, 0], pairs[:, 1]], np.r_[pairs[:, 1], pairs[:, 0]]
    return _finished(rows, columns, np.r_[distances, distances], len(coordinates), set_diag, percentile)


def delaunay_graph(coordinates, radius=None, set_diag=False, percentile=None):
    """Connectivities (1) and distances of points that share a side of the triangulation; see :func:`spatial_neighbors`."""
    rows, columns = _sides(coordinates)
    distances = np.sqrt(((coordinates[rows] - coordinates[columns]) ** 2).sum(axis=1))
    if radius is not None:
        smallest, largest = _interval(radius)
        distances[(distances < smallest) | (distances > largest)] = np.nan
    return _finished(rows, columns, distances, len(coordinates), set_diag, percentile)


def _sides(coordinates) -> tuple[np.ndarray, np.ndarray]:
    """Both directions of each side of the Delaunay triangulation."""
    from scipy.spatial import Delaunay, QhullError

    try:
        indptr, indices = Delaunay(coordinates).vertex_neighbor_vertices
    except (QhullError, ValueError) as error:
        raise InvalidInput(
            f"{len(coordinates)} points cannot be triangulated: they are too few, or lie on one line.",
            "Leave delaunay out, and connect the nearest points.",
        ) from error
    return np.repeat(np.arange(len(coordinates)), np.diff(indptr)), indices.astype(np.int64)


def grid_graph(coordinates, n_neighs, n_rings=1, set_diag=False, delaunay=False):
    """Connectivities (1) and numbers of steps between points of a grid; see :func:`spatial_neighbors`."""
    n = len(coordinates)
    if delaunay:
        rows, columns = _sides(coordinates)
    else:
        indices, distances = nearest(coordinates, n_neighs)
        near = distances.ravel() < GRID_CUT * np.median(distances) if distances.size else np.zeros(0, dtype=bool)
        rows, columns = np.repeat(np.arange(n), indices.shape[1])[near], indices.ravel()[near]
    step = _graph(rows, columns, np.ones(rows.size), n, np.float32)
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


def _unchanged(adjacency):
    return adjacency


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
