"""Harmony's soft clusters, which prefer batches in their shares."""

from __future__ import annotations

import math

import numpy as np

from rsc_core import backend, rng
from rsc_core.kernels import harmony as kernels

KMEANS_CELLS = 5_000  # cells that the first centroids are sought among; the result depends on it
KMEANS_STARTS = 10  # of one start, one seed in two ends in another optimum
KMEANS_FIRST, KMEANS_LAST, FINALISTS = 3, 7, 3  # rounds of all starts, then of the best of them; more change no answer
WINDOW = 3  # rounds of clustering that are compared with the three before
LEAST_TILE, TILES = 64, 128  # rows of a tile at least, tiles of a block at most; the last bits of a result depend on them


def unit_rows(z):
    """Rows at length one; a row of zeros stays."""
    xp = backend.xp_of(z)
    length = xp.sqrt((z * z) @ xp.ones(z.shape[1], dtype=z.dtype))
    return z / xp.maximum(length, np.finfo(z.dtype).tiny)[:, None]


class Clusters:
    """The soft clusters: R, the centroids, and how many cells of each batch are in each cluster.

    Parameters
    ----------
    z
        (cells, dimensions), rows of length one, sorted by combination of batches. Replaced by the caller after a correction.
    sizes
        Cells of each combination.
    member
        (batches, combinations): 1 where a combination has the batch.
    """

    def __init__(self, z, sizes, member, settings):
        xp = backend.xp_of(z)
        self.z, self.settings, self.n_rounds = z, settings, 0
        n_cells, n_clusters, (n_batches, n_combinations) = len(z), settings.n_clusters, member.shape
        n_batch = member @ sizes
        theta = settings.theta
        if settings.tau > 0:
            theta = theta * (1 - np.exp(-((n_batch / (n_clusters * settings.tau)) ** 2)))
        self.member = member
        self.sigma = xp.array(settings.sigma, dtype=np.float64)
        self.steepness = (2 / self.sigma).astype(z.dtype)
        self.code = xp.asarray(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes))
        self.block = max(1, int(n_cells * settings.block_size))
        self.tile = max(LEAST_TILE, -(-self.block // TILES))
        self.n_tiles = -(-self.block // self.tile)  # of a block
        self.n_blocks = -(-n_cells // self.block)
        self.r = xp.empty((n_cells, n_clusters), dtype=np.float32)
        self.sums = xp.empty((self.n_blocks * self.n_tiles, n_combinations, n_clusters))
        self.entropy = xp.empty(len(self.sums))
        self.observed, self.change = (xp.zeros((n_combinations, n_clusters)) for _ in range(2))
        self.weight, self.narrow = xp.ones_like(self.observed), xp.ones((n_combinations, n_clusters), dtype=np.float32)
        self.ratio, self.gain = xp.empty((n_batches, n_clusters)), xp.zeros(n_clusters)
        self.batches = [xp.array(value, dtype=np.float64, order="C") for value in (member, n_batch / n_cells, theta)]
        self.centroids = first_centroids(z, n_clusters, settings.random_state)
        self._approach()
        self.objective = [self._start()]

    def fit(self, anew: bool):
        """Rounds of clustering until the objective settles; the last objective is kept.

        ``anew``: the cells moved since the last round.
        """
        s, history = self.settings, []
        follows = s.flavor == "harmony1"
        if anew and not follows:
            self._approach()
            self._start()
        for _ in range(s.max_iter_kmeans):
            if follows:
                self.centroids = unit_rows(self.r.T.astype(self.z.dtype, copy=False) @ self.z)
                self._approach()
            history.append(self._round())
            if len(history) > WINDOW + 1:
                before, now = sum(history[-WINDOW - 1 : -1]), sum(history[-WINDOW:])
                if (before - now if follows else abs(before - now)) < s.epsilon_cluster * abs(before):
                    break
        self.objective.append(history[-1])

    def _approach(self):
        """exp(-2 (1 - z . y) / sigma) of all cells and clusters as shares of each cell's largest, and the logarithm of that."""
        xp = backend.xp_of(self.z)
        close = xp.matmul(self.z, self.centroids.T)
        close -= 1
        close *= self.steepness
        largest = close.max(axis=1)
        close -= largest[:, None]
        xp.exp(close, out=close)
        self.close, self.offset = close.astype(np.float32, copy=False), largest.astype(np.float32, copy=False)

    def _start(self):
        """R without heed to the batches; returns the objective."""
        xp = backend.xp_of(self.z)
        self.observed[:], self.gain[:], self.weight[:], self.narrow[:] = 0, 0, 1, 1
        self._choose(xp.arange(len(self.r), dtype=np.int64), 0, len(self.sums))
        self._settle(self.sums, None)
        return self._objective()

    def _round(self):
        """Choose R block by block, in random order; returns the objective."""
        xp, n_cells = backend.xp_of(self.z), len(self.r)
        order = rng.permutation(self.settings.random_state, "harmony", n_cells, self.n_rounds, xp)
        kernels.held_sums(len(self.sums), self.n_tiles, self.block, self.tile, n_cells, order, self.code, self.r, *self._sizes(), self.sums)
        self.gain[:] = 0
        before = None
        for first in range(0, len(self.sums), self.n_tiles):
            here = self.sums[first : first + self.n_tiles]
            self._settle(before, here)
            self._choose(order, first, self.n_tiles)
            before = here
        self._settle(before, None)
        self.n_rounds += 1
        return self._objective()

    def _sizes(self):
        return self.observed.shape  # combinations, clusters

    def _choose(self, order, first: int, n_tiles: int):
        """R of the cells of some tiles, and their sums, in the place of those of the R before."""
        kernels.choose_clusters(
            n_tiles,
            first,
            self.n_tiles,
            self.block,
            self.tile,
            len(self.r),
            order,
            self.code,
            self.close,
            self.offset,
            self.narrow,
            self.sigma,
            *self._sizes(),
            self.r,
            self.sums,
            self.entropy,
        )

    def _settle(self, gained, held):
        """Count what was chosen, take out what is to be chosen next, and weigh the clusters."""
        member, share, theta = self.batches
        kernels.settle_clusters(
            self._sizes()[1],
            self.sums if gained is None else gained,
            0 if gained is None else len(gained),
            self.sums if held is None else held,
            0 if held is None else len(held),
            member,
            *member.shape,
            share,
            theta,
            self.sigma,
            self.settings.flavor == "harmony1",
            self.observed,
            self.weight,
            self.narrow,
            self.ratio,
            self.change,
            self.gain,
        )

    def _objective(self):
        """The objective, from the sums of the round.

        sum R dist + sigma R log R is sum sigma R (log factor - log total), because dist is -sigma log of what is close.
        """
        observed, ratio, gain, entropy = (backend.to_host(a) for a in (self.observed, self.ratio, self.gain, self.entropy))
        penalty = (self.member @ observed) * self.settings.sigma * np.log(ratio)  # ratio to the power of theta
        return math.fsum(gain) - math.fsum(entropy) - math.fsum(penalty.ravel())


def first_centroids(z, n_clusters: int, seed: int):
    """Centroids of length one: the best of ``KMEANS_STARTS`` runs of k-means on the sphere, on at most ``KMEANS_CELLS`` cells.

    Each is started by k-means++ (Arthur & Vassilvitskii 2007); after ``KMEANS_FIRST`` rounds the best go on. In float32 and one
    order of additions, so that both backends start from the same centroids: where Harmony starts decides where it ends.
    """
    xp = backend.xp_of(z)
    if len(z) > KMEANS_CELLS:
        z = z[xp.sort(rng.permutation(seed, "sample", len(z), 0, xp)[:KMEANS_CELLS])]
    columns = xp.ascontiguousarray(z.T, dtype=np.float32)
    draws = rng.uniform(seed, "kmeans", np.arange(KMEANS_STARTS * n_clusters)).reshape(KMEANS_STARTS, n_clusters)
    (n_dims, n_cells), gap = columns.shape, xp.empty((KMEANS_STARTS, len(z)), dtype=np.float32)
    centroids = xp.empty((KMEANS_STARTS, n_dims, n_clusters), dtype=np.float32)
    kernels.spread_centroids(KMEANS_STARTS, columns, n_cells, n_dims, xp.asarray(draws), n_clusters, gap, centroids)
    closeness = _rounds(columns, centroids, KMEANS_FIRST)
    best = xp.ascontiguousarray(centroids[xp.asarray(np.argsort(-closeness, kind="stable")[:FINALISTS])])
    closeness = _rounds(columns, best, KMEANS_LAST)
    return xp.ascontiguousarray(best[int(closeness.argmax())].T, dtype=z.dtype)


def _rounds(columns, centroids, n_rounds: int) -> np.ndarray:
    """Rounds of k-means from centroids (starts, dims, clusters), which are moved; the sum of z . y of each before the last move."""
    xp, (n_starts, n_dims, n_clusters), n_cells = backend.xp_of(columns), centroids.shape, columns.shape[1]
    label, closeness = xp.empty((n_starts, n_cells), dtype=np.int32), xp.empty((n_starts, n_cells), dtype=np.float32)
    total = xp.empty(centroids.shape)
    for _ in range(n_rounds):
        kernels.closest_centroids(n_starts * n_cells, columns, n_cells, n_dims, centroids, n_clusters, label, closeness)
        kernels.mean_centroids(n_starts * n_clusters, columns, n_cells, n_dims, label, n_clusters, total, centroids)
    return np.array([math.fsum(row) for row in backend.to_host(closeness)])
