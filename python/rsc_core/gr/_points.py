"""Distances between points, for graphs and point statistics: the same on both backends."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import points as kernels
from rsc_core.scan import running_sums

FIELD_POINTS = 2.0  # in a field of the plane, were the points spread evenly
CROWDED = 8.0  # points that a point shares its field with on average: the fields are made smaller
MOST_FIELDS = 16  # for each point


class Fields:
    """Points sorted into square fields of the plane of their first two coordinates.

    Parameters
    ----------
    points
        float64 (points, 2 or 3) of the host, at least one, finite.
    xp
        ``numpy`` or ``cupy``: where the searches run.
    """

    def __init__(self, points, xp=np):
        n, n_dims = points.shape
        low, high = (np.array([end(axis) for axis in points[:, :2].T]) for end in (np.min, np.max))  # axis=0 takes five times as long
        extent = high - low
        longest = max(float(extent.max()), 1e-300)
        width = max(float(np.sqrt(extent.prod() * FIELD_POINTS / n)), longest / n, longest * 1e-6)
        self.points, self.xp = xp.asarray(points), xp
        field = xp.empty(n, dtype=np.int64)
        while True:
            size = (extent // width).astype(np.int64) + 1
            self.plane = *map(float, low), width, *map(int, size)
            count = xp.zeros(int(size.prod()), dtype=np.int64)
            kernels.count_fields(n, self.points, n_dims, *self.plane, field, count)
            spread = int((count * count).sum()) <= CROWDED * n
            if spread or not extent.any() or 4 * size.prod() > max(MOST_FIELDS * n, 64):  # points in one place cannot be spread
                break
            width /= 2
        self.start = running_sums(count)
        self.member, self.sorted_points = xp.empty(n, dtype=np.int32), xp.empty((n, n_dims))
        kernels.fill_fields(n, self.points, n_dims, field, self.start[:-1].copy(), self.member, self.sorted_points)

    def nearest(self, k, query=None):
        """Indices int64 and squared distances float64 (queries, k) of the nearest points; near ones first, ties by index.

        ``query``: float64 (queries, dimensions) of ``xp``; None: the points themselves, of which none is its own neighbour.
        At most as many as there are points are found.
        """
        itself = query is None
        query, k = self.points if itself else query, min(k, len(self.points) - itself)
        shape = (len(query), k)
        index, square = self.xp.empty(shape, dtype=np.int64), self.xp.empty(shape)
        if k:
            args = (query, *self._sorted(), int(itself), k, index, square)
            kernels.nearest_in_fields(len(query), *args)
        return index, square

    def nearest_rows(self, k):
        """Rows of the other points nearest to each, of equally near ones those with the lower index; k or all where there are fewer.

        Returns
        -------
        (indptr int64, indices int32, distances float64) of a CSR matrix with sorted rows.
        """
        index, square = self.nearest(k)
        indptr = self.xp.arange(len(index) + 1, dtype=np.int64) * index.shape[1]
        return self._by_index(indptr, index.astype(np.int32).ravel(), square.ravel())

    def rows_within(self, radius):
        """Rows of the other points at most ``radius`` from each, as :meth:`nearest_rows`."""
        count = self.xp.empty(len(self.points), dtype=np.int64)
        kernels.count_within(len(count), *self._sorted(), radius, count)
        indptr = running_sums(count)
        n_edges = int(indptr[-1])
        indices, square = self.xp.empty(n_edges, dtype=np.int32), self.xp.empty(n_edges)
        kernels.fill_within(len(count), *self._sorted(), radius, indptr, indices, square)
        return self._by_index(indptr, indices, square)

    def _sorted(self):
        """The arguments of the kernels that say where the points are."""
        return self.sorted_points, self.points.shape[1], *self.plane, self.start, self.member

    @staticmethod
    def _by_index(indptr, indices, square):
        kernels.rows_by_index(len(indptr) - 1, indptr, indices, square)
        return indptr, indices, square


def pairs_within(points, limits, starts, between=True) -> np.ndarray:
    """Ordered pairs of different points of two groups, by distance.

    Parameters
    ----------
    points
        float64 (points, dimensions), group after group; their backend is where the work is done.
    limits
        Largest squared distances, float64, rising, of the host.
    starts
        Where each group starts and the last ends, (groups + 1,) of the host.
    between
        Pairs of all groups with all; False: pairs within each group alone.

    Returns
    -------
    int64 (groups, groups, limits), or (groups, limits), of the host: pairs at most that far apart.
    """
    xp, n_groups, n_limits = backend.xp_of(points), len(starts) - 1, len(limits)
    starts = np.asarray(starts, dtype=np.int64)
    n_tiles = -(-np.diff(starts) // kernels.TILE)
    a, b = np.triu_indices(n_groups) if between else np.diag_indices(n_groups)
    a, b = a[n_tiles[a] > 0], b[n_tiles[a] > 0]
    first_tile = n_tiles[a].cumsum() - n_tiles[a]
    of, to = np.repeat(a, n_tiles[a]), np.repeat(b, n_tiles[a])
    start = starts[of] + kernels.TILE * (np.arange(len(of)) - np.repeat(first_tile, n_tiles[a]))
    ends = start, np.minimum(start + kernels.TILE, starts[of + 1]), starts[to], starts[to + 1]
    scale = (kernels.TABLE - 1) / limits[-1] if limits[-1] > 0 else 0.0
    # One entry below the exact one: d * scale is rounded.
    lowest = np.searchsorted(limits, (np.arange(kernels.TABLE) - 1) / scale if scale else np.zeros(kernels.TABLE), side="left")
    lowest = xp.asarray(np.minimum(lowest, n_limits - 1), dtype=np.int32)
    total = np.zeros((n_groups, n_groups, n_limits), dtype=np.int64)
    ends, device_limits = [xp.asarray(end) for end in ends], xp.asarray(np.ascontiguousarray(limits))
    for first_bin in range(0, n_limits if len(of) else 0, kernels.BINS):
        n_bins = min(kernels.BINS, n_limits - first_bin)
        count = xp.zeros((len(of), n_bins), dtype=np.int64)
        kernels.pair_bins(len(of), points, points.shape[1], *ends, device_limits, lowest, scale, first_bin, n_bins, count)
        total[a, b, first_bin : first_bin + n_bins] = np.add.reduceat(backend.to_host(count), first_tile)
    upper = np.triu_indices(n_groups, 1)
    total[upper[::-1]] = total[upper]
    total = total.cumsum(axis=2)
    return total if between else total[np.arange(n_groups), np.arange(n_groups)]
