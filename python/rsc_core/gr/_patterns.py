"""Patterns of points: which clusters lie near which, and does a cluster gather or spread out?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import backend, rng
from rsc_core.errors import InvalidInput
from rsc_core.gr._points import Fields, pairs_within
from rsc_core.gr._slots import coordinates_of, groups_of, place_of

MODES = ("F", "G", "L")


def co_occurrence(adata, cluster_key, *, spatial_key="spatial", interval=50, copy=False):
    """How much likelier is cluster i near cells of cluster c than near any cell?

    occ[i, c, r] = p(i | c, at most r away) / p(i | at most r away), over ordered pairs of different cells. Above 1: i and c
    lie together; below 1: they avoid each other; 0 where no pair is within r.

    Parameters
    ----------
    adata
        AnnData; ``obsm[spatial_key]`` (cells, 2 or 3) is taken as float32. Where X lies decides where the work runs. Cells
        without a cluster are left out.
    cluster_key
        Column of obs with the clusters.
    spatial_key
        Where the coordinates are.
    interval
        Distances; a number: that many, evenly from the distance of two cells at one corner to half of that to the cell at
        the opposite corner.
    copy
        Return the result instead of keeping it in ``uns['<cluster_key>_co_occurrence']`` (occ, interval).

    Returns
    -------
    None, or (occ, interval): float64 (clusters, clusters, intervals - 1) for all distances but the first; float32.

    Raises
    ------
    InvalidInput
        When coordinates or the column are missing, or with fewer than three cells where ``interval`` is a number.

    Notes
    -----
    Counts are whole numbers: equal bytes on CPU and GPU. Equal to squidpy 1.8 but for pairs that lie within 1e-7 of a
    distance, where squidpy's float32 arithmetic decides by rounding; all three coordinates count here, in squidpy two.
    Tosti et al. 2021, Gastroenterology 160:1330.
    """
    clusters, coordinates = groups_of(adata, cluster_key), coordinates_of(adata, spatial_key).astype(np.float32)
    kept = np.flatnonzero(clusters.codes >= 0)
    clusters, coordinates = clusters[kept], coordinates[kept]
    interval = _distances(coordinates, interval)
    order, starts = _by_group(clusters)
    xp = place_of(adata)
    counts = pairs_within(xp.asarray(coordinates[order], dtype=np.float64), (interval[1:] ** 2).astype(np.float64), starts)
    occ = _occurrence(counts)
    if copy:
        return occ, interval
    adata.uns[f"{cluster_key}_co_occurrence"] = {"occ": occ, "interval": interval}
    return None


def _by_group(clusters: pd.Categorical) -> tuple[np.ndarray, np.ndarray]:
    """Order of the cells group by group, and where each group starts and the last ends."""
    size = np.bincount(clusters.codes, minlength=len(clusters.categories))
    return np.argsort(clusters.codes, kind="stable"), np.concatenate([[0], np.cumsum(size)])


def _distances(coordinates, interval) -> np.ndarray:
    """The distances as float32; see :func:`co_occurrence`."""
    if np.ndim(interval):
        interval = np.sort(np.asarray(interval, dtype=np.float32))
    elif interval >= 2:
        if len(coordinates) < 3:
            raise InvalidInput(f"{len(coordinates)} cells: too few to choose distances by.", "Give the distances as interval.")
        total = coordinates.sum(axis=1)
        first, second = np.argpartition(total, 2)[:2]
        corner, beside, opposite = coordinates[[first, second, np.argmax(total)]].astype(np.float64)
        ends = np.linalg.norm(corner - beside), np.linalg.norm(corner - opposite) / 2
        interval = np.linspace(*np.float32(ends), num=interval, dtype=np.float32)
    if np.ndim(interval) == 0 or len(interval) < 2:
        raise ValueError(f"interval is {interval}; at least two distances are needed")
    if not (np.isfinite(interval).all() and interval[0] >= 0):
        raise ValueError("interval holds a distance that is negative or not finite")
    return interval


def _occurrence(counts) -> np.ndarray:
    """Ratios of probabilities from pairs (c, i, distances) as (i, c, distances); the order of divisions is squidpy's."""
    near = counts.sum(axis=0)  # pairs of each cluster with any
    with np.errstate(divide="ignore", invalid="ignore"):
        share = near / near.sum(axis=0)
        ratio = counts / near[:, None] / share[None]
    return np.where((near[None] != 0) & (near[:, None] != 0), ratio, 0.0).transpose(1, 0, 2)


def ripley(
    adata,
    cluster_key,
    *,
    mode="F",
    spatial_key="spatial",
    n_neigh=2,
    n_simulations=100,
    n_observations=1000,
    max_dist=None,
    n_steps=50,
    seed=0,
    copy=False,
):
    """Do the cells of a cluster gather or spread out, against points strewn at random over the tissue (its convex hull)?

    - F(t): share of random points whose ``n_neigh`` nearest cells of the cluster lie within t. Low: the cluster gathers.
    - G(t): share of the other clusters' cells whose ``n_neigh`` nearest cells of the cluster lie within t.
    - L(t) = sqrt(K(t) / pi), K(t) = area / n^2 x ordered pairs of the cluster's cells less than t apart. High: it gathers.

    Parameters
    ----------
    adata
        AnnData; ``obsm[spatial_key]`` (cells, 2). Where X lies decides where the work runs. Cells without a cluster are left out.
    cluster_key
        Column of obs with the clusters.
    mode
        ``"F"``, ``"G"`` or ``"L"``.
    spatial_key
        Where the coordinates are.
    n_neigh
        Nearest cells that are looked at in F and G, those of a small cluster at most; simulations look at one.
    n_simulations, n_observations, seed
        Number of simulations, points in each, seed of the points.
    max_dist, n_steps
        Largest distance (by default the square root of half the area) and number of distances.
    copy
        Return the result instead of keeping it in ``uns['<cluster_key>_ripley_<mode>']``.

    Returns
    -------
    None, or dict: ``<mode>_stat`` (DataFrame: bins, cluster, stats), ``sims_stat`` (bins, simulations, stats), ``bins``,
    ``pvalues`` float64 (clusters, distances): min(p, 1 - p), p = (1 + simulations at or above) / (n_simulations + 1).

    Raises
    ------
    InvalidInput
        When points span no area.

    Notes
    -----
    F and G are shares of the distances up to ``max_dist``, n in K counts all cells, and clusters are in the order of their
    names: all as in squidpy 1.8, whose G and L this equals (1e-12). squidpy draws its random points one by one, with a seed
    the same ones in every simulation; here each simulation has its own, from counters, the same on CPU and GPU. A cluster
    for which nothing is counted: NaN. Baddeley, Rubak & Turner 2015, Spatial Point Patterns.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}")
    for name, value, least in (
        ("n_neigh", n_neigh, 1),
        ("n_simulations", n_simulations, 1),
        ("n_observations", n_observations, 1),
        ("n_steps", n_steps, 2),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    clusters, points = groups_of(adata, cluster_key), coordinates_of(adata, spatial_key)
    if points.shape[1] != 2:
        raise ValueError(f"obsm[{spatial_key!r}] has {points.shape[1]} coordinates; Ripley's statistics are of the plane, give two")
    kept = np.flatnonzero(clusters.codes >= 0)
    clusters, points = clusters[kept].reorder_categories(sorted(clusters.categories)), points[kept]
    corners, area = _hull(points)
    bins = np.linspace(0, np.sqrt(area / 2) if max_dist is None else max_dist, n_steps)
    strewn = [random_points(corners, n_observations, seed, number) for number in range(n_simulations + 1)]
    observed, simulated = {"F": _empty_space, "G": _to_cluster, "L": _pairs}[mode](
        points, clusters, strewn, bins, n_neigh, area, place_of(adata)
    )
    p = (1 + (simulated[None] >= observed[:, None]).sum(axis=1)) / (n_simulations + 1)
    p = np.where(np.isnan(observed), np.nan, np.minimum(p, 1 - p))
    result = {
        f"{mode}_stat": _melted(observed, list(clusters.categories), bins, cluster_key),
        "sims_stat": _melted(simulated, range(n_simulations), bins, "simulations"),
        "bins": bins,
        "pvalues": p,
    }
    if copy:
        return result
    adata.uns[f"{cluster_key}_ripley_{mode}"] = result
    return None


def _hull(points) -> tuple[np.ndarray, float]:
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError) as error:
        raise InvalidInput(
            f"{len(points)} points span no area: they are too few, or lie on one line.", "Leave Ripley's statistics out."
        ) from error
    return points[hull.vertices], hull.volume


def random_points(corners, n, seed, number) -> np.ndarray:
    """Points spread evenly over a convex polygon: a triangle of its fan by area, a place in the triangle by two more numbers.

    Parameters
    ----------
    corners
        float64 (corners, 2), in order round the polygon.
    n, seed, number
        How many; seed; which set of this seed.

    Returns
    -------
    float64 (n, 2) of the host.
    """
    a, b = corners[1:-1] - corners[0], corners[2:] - corners[0]
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).cumsum()
    which, along, across = rng.uniform(seed, "ripley", np.arange(3 * n, dtype=np.uint64) + np.uint64(3 * n * number)).reshape(3, n)
    triangle = np.minimum(np.searchsorted(area, which * area[-1], side="right"), len(area) - 1)
    along = np.sqrt(along)
    return corners[0] + (along * (1 - across))[:, None] * a[triangle] + (along * across)[:, None] * b[triangle]


def _shares(square, bins) -> np.ndarray:
    """Share of distances up to each bin's end among those within the last."""
    counts, _ = np.histogram(np.sqrt(backend.to_host(square)), bins=bins)
    with np.errstate(invalid="ignore"):
        return np.concatenate([[0.0], counts.cumsum() / counts.sum()])


def _empty_space(points, clusters, strewn, bins, n_neigh, area, xp):
    from_here = xp.asarray(strewn[0])
    observed = [
        _shares(Fields(points[clusters.codes == i], xp).nearest(n_neigh, from_here)[1], bins) for i in range(len(clusters.categories))
    ]
    return np.array(observed), np.array([_shares(Fields(some, xp).nearest(1, from_here)[1], bins) for some in strewn[1:]])


def _to_cluster(points, clusters, strewn, bins, n_neigh, area, xp):
    observed = []
    for i in range(len(clusters.categories)):
        mine = clusters.codes == i
        observed.append(_shares(Fields(points[mine], xp).nearest(n_neigh, xp.asarray(points[~mine]))[1], bins))
    from_here = xp.asarray(points)
    return np.array(observed), np.array([_shares(Fields(some, xp).nearest(1, from_here)[1], bins) for some in strewn[1:]])


def _pairs(points, clusters, strewn, bins, n_neigh, area, xp):
    order, starts = _by_group(clusters)
    of_sets = np.arange(len(strewn)) * len(strewn[0])
    counts = [
        pairs_within(xp.asarray(some), _less_than(bins), ends, between=False)
        for some, ends in ((points[order], starts), (np.concatenate(strewn[1:]), of_sets))
    ]
    # Ordered pairs are twice the unordered ones; the divisions are squidpy's.
    return tuple(np.sqrt(count / len(points) / (len(points) / area) / np.pi) for count in counts)


def _less_than(bins) -> np.ndarray:
    """The largest squares whose roots are below each distance."""
    square = bins**2
    for _ in range(4):  # the root of a rounded square is within one unit of the distance
        square = np.where(np.sqrt(np.maximum(square, 0)) >= bins, np.nextafter(square, -1), square)
    for _ in range(4):
        above = np.nextafter(square, np.inf)
        square = np.where((bins > 0) & (np.sqrt(np.maximum(above, 0)) < bins), above, square)
    return square


def _melted(table, names, bins, key) -> pd.DataFrame:
    frame = pd.DataFrame({"bins": np.tile(bins, len(table)), key: np.repeat(list(names), len(bins)), "stats": table.ravel()})
    frame[key] = pd.Categorical(frame[key], categories=list(names))
    return frame
