"""Graphs of points in space: neighbours are searched on the backend, matrices made on the host."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from rsc_core import backend
from rsc_core.errors import InvalidInput
from rsc_core.gr._points import Fields
from rsc_core.gr._slots import coordinates_of, libraries_of, place_of
from rsc_core.kernels import points as kernels

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
        AnnData; ``obsm[spatial_key]`` holds coordinates, (cells, 2 or 3). Where X lies (without one the coordinates) decides
        where neighbours are searched.
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
    Equal bytes on CPU and GPU; triangles (Qhull) and rings are found on the host. Equal to squidpy 1.8 where distances
    differ; of equally near points those that come first are taken (squidpy's choice is that of its tree). Fewer than
    ``n_neighs`` other cells: all of them (squidpy raises). Cells in the same place are connected, with no stored distance
    (0), as squidpy does; in a triangulation all but one of them have no neighbours. A cell without neighbours has an empty
    row. Spectral transform: 0 where squidpy's is infinite, at cells that are nobody's neighbour. One radius prunes a
    triangulation as ``squidpy.gr.spatial_neighbors_delaunay`` does.
    """
    coordinates, libraries = coordinates_of(adata, spatial_key), libraries_of(adata, library_key)
    if coord_type is None:
        coord_type = "grid" if radius is None and spatial_key in adata.uns else "generic"
    _check(coord_type, n_neighs, n_rings, radius, transform, percentile)
    options = {"n_neighs": n_neighs, "n_rings": n_rings, "radius": radius, "delaunay": delaunay, "percentile": percentile}
    of_library = functools.partial(_graph_of_library, place_of(adata), coord_type, transform, set_diag, **options)
    if libraries is None:
        adjacency, distances = of_library(coordinates)
    else:
        members = [np.flatnonzero(libraries == i) for i in np.unique(libraries)]
        graphs = zip(*(of_library(coordinates[some]) for some in members), strict=True)
        adjacency, distances = (_combined(members, parts, adata.n_obs) for parts in graphs)
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


def _graph_of_library(xp, coord_type, transform, set_diag, coordinates, *, n_neighs, n_rings, radius, delaunay, percentile):
    if coord_type == "grid":
        adjacency, distances = grid_graph(coordinates, n_neighs, n_rings, set_diag, delaunay, xp)
    elif delaunay:
        adjacency, distances = delaunay_graph(coordinates, radius, set_diag, percentile)
    elif radius is not None:
        adjacency, distances = radius_graph(coordinates, radius, set_diag, percentile, xp)
    else:
        adjacency, distances = knn_graph(coordinates, n_neighs, set_diag, percentile, xp)
    return {None: _unchanged, "spectral": _spectral, "cosine": _cosine}[transform](adjacency), distances


def _combined(members, parts, n):
    """The graphs of libraries as one; ``members``: which cells each is of, rising."""
    size = np.zeros(n, dtype=np.int64)
    for some, part in zip(members, parts, strict=True):
        size[some] = np.diff(part.indptr)
    indptr = np.concatenate([[0], size.cumsum()])
    indices, values = np.empty(indptr[-1], dtype=np.int32), np.empty(indptr[-1], dtype=parts[0].dtype)
    for some, part in zip(members, parts, strict=True):
        place = np.repeat(indptr[some] - part.indptr[:-1], size[some]) + np.arange(part.nnz)
        indices[place], values[place] = some[part.indices], part.data
    return _csr(indptr, indices, values)


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


def _rows(find, coordinates, xp):
    """What a search of :class:`Fields` finds, on the host: (indptr, indices, distances) of sorted rows."""
    if not len(coordinates):
        return np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int32), np.empty(0)
    return [backend.to_host(part) for part in find(Fields(coordinates, xp))]


def _csr(indptr, indices, values):
    """A square matrix of sorted rows."""
    graph = sp.csr_matrix((values, indices, indptr), shape=(len(indptr) - 1,) * 2)
    graph.has_sorted_indices = True
    return graph


def _only(kept, indptr, *of_edges):
    """Rows with some of their edges."""
    return np.concatenate([[0], kept.cumsum()])[indptr], *(part[kept] for part in of_edges)


def _finished(rows, set_diag: bool, percentile=None, kept=None):
    """Both graphs of some rows as squidpy leaves them: the diagonal as asked for, distances of 0 not stored.

    ``kept``: which edges (None: all); the others count to the percentile as 0.
    """
    indptr, indices, distances = rows
    if percentile is not None and distances.size:
        kept = np.ones(distances.size, dtype=bool) if kept is None else kept
        longest = np.percentile(np.r_[np.where(kept, distances, 0), np.zeros(len(indptr) - 1)], percentile)
        kept = kept & (distances <= longest)
    if kept is not None:
        indptr, indices, distances = _only(kept, indptr, indices, distances)
    return _with_diagonal(_ones(indptr, indices), _csr(indptr.copy(), indices.copy(), distances), set_diag)


def _ones(indptr, indices):
    return _csr(indptr, indices, np.ones(len(indices), dtype=np.float32))


def _with_diagonal(adjacency, distances, set_diag: bool):
    if set_diag:
        adjacency = (adjacency + sp.identity(adjacency.shape[0], dtype=np.float32, format="csr")).tocsr()
        adjacency.sort_indices()
    distances.eliminate_zeros()
    return adjacency, distances


def knn_graph(coordinates, n_neighs, set_diag=False, percentile=None, xp=np):
    """Connectivities (1) and distances of each point's nearest neighbours; see :func:`spatial_neighbors`."""
    return _finished(_rows(lambda fields: fields.nearest_rows(n_neighs), coordinates, xp), set_diag, percentile)


def _interval(radius) -> tuple[float, float]:
    return (0.0, float(radius)) if np.ndim(radius) == 0 else (float(min(radius)), float(max(radius)))


def radius_graph(coordinates, radius, set_diag=False, percentile=None, xp=np):
    """Connectivities (1) and distances of points within a radius or an interval; see :func:`spatial_neighbors`."""
    smallest, largest = _interval(radius)
    rows = _rows(lambda fields: fields.rows_within(largest), coordinates, xp)
    return _finished(rows, set_diag, percentile, rows[2] >= smallest if smallest > 0 else None)


def delaunay_graph(coordinates, radius=None, set_diag=False, percentile=None):
    """Connectivities (1) and distances of points that share a side of the triangulation; see :func:`spatial_neighbors`."""
    rows, kept = _sides(coordinates), None
    if radius is not None:
        smallest, largest = _interval(radius)
        kept = (rows[2] >= smallest) & (rows[2] <= largest)
    return _finished(rows, set_diag, percentile, kept)


def _sides(coordinates):
    """Both directions of each side of the Delaunay triangulation, as :func:`_rows`."""
    from scipy.spatial import Delaunay, QhullError

    try:
        indptr, indices = Delaunay(coordinates).vertex_neighbor_vertices
    except (QhullError, ValueError) as error:
        raise InvalidInput(
            f"{len(coordinates)} points cannot be triangulated: they are too few, or lie on one line.",
            "Leave delaunay out, and connect the nearest points.",
        ) from error
    indptr, indices = indptr.astype(np.int64), indices.astype(np.int32)
    square = sum((np.repeat(x, np.diff(indptr)) - x[indices]) ** 2 for x in coordinates.T)
    rows = indptr, indices, square
    kernels.rows_by_index(len(coordinates), *rows)
    return rows


def grid_graph(coordinates, n_neighs, n_rings=1, set_diag=False, delaunay=False, xp=np):
    """Connectivities (1) and numbers of steps between points of a grid; see :func:`spatial_neighbors`."""
    if delaunay:
        indptr, indices, _ = _sides(coordinates)
    else:
        indptr, indices, distances = _rows(lambda fields: fields.nearest_rows(n_neighs), coordinates, xp)
        if distances.size:
            indptr, indices = _only(distances < GRID_CUT * np.median(distances), indptr, indices)
    steps = _ones(indptr, indices)
    if n_rings > 1:
        steps = _rings(steps, n_rings)
    return _with_diagonal(_ones(steps.indptr.copy(), steps.indices.copy()), steps, set_diag)


def _rings(step, n_rings):
    """Numbers of steps to the cells that are at most ``n_rings`` steps away."""
    own = np.float32(n_rings + 1)  # larger than a number of steps; stands for the cell itself
    steps, walk = step + own * sp.identity(step.shape[0], dtype=np.float32, format="csr"), step
    for ring in range(2, n_rings + 1):
        walk = walk @ step
        walk.data[:] = 2 * own
        walk.sort_indices()
        steps = steps + walk
        new = steps.data == 2 * own
        walk = _csr(*_only(new, steps.indptr, steps.indices, new.astype(np.float32)))
        steps.data[new] = ring
        steps.data[steps.data > own] -= 2 * own
    return _csr(*_only(steps.data != own, steps.indptr, steps.indices, steps.data))


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
