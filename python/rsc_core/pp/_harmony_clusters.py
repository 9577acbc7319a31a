"""Harmony's soft clusters, which prefer batches in their shares."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, rng

KMEANS_CELLS = 5_000  # cells that the first centroids are sought among; the result depends on it
KMEANS_STARTS = 10  # of one start, one seed in two ends in another optimum
KMEANS_ROUNDS = 10  # more change no answer: the soft clustering goes on from here
WINDOW = 3  # rounds of clustering that are compared with the three before


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
        n_cells, n_clusters = len(z), settings.n_clusters
        n_batch = member @ sizes
        theta = settings.theta
        if settings.tau > 0:
            theta = theta * (1 - np.exp(-((n_batch / (n_clusters * settings.tau)) ** 2)))
        self.theta, self.share = xp.asarray(theta)[:, None], xp.asarray(n_batch / n_cells)[:, None]
        self.member, self.sigma = xp.asarray(member), xp.asarray(settings.sigma)
        self.ones, self.narrow_sigma = xp.ones(n_clusters, dtype=z.dtype), self.sigma.astype(z.dtype)
        self.code = xp.asarray(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes))
        self.combinations = xp.arange(len(sizes), dtype=np.int32)
        self.r, self.close = (xp.empty((n_cells, n_clusters), dtype=z.dtype) for _ in range(2))
        self.observed = xp.zeros((len(sizes), n_clusters))
        self.block = max(1, int(n_cells * settings.block_size))
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
                self.centroids = unit_rows(self.r.T @ self.z)
                self._approach()
            history.append(self._round())
            if len(history) > WINDOW + 1:
                before, now = sum(history[-WINDOW - 1 : -1]), sum(history[-WINDOW:])
                if (before - now if follows else abs(before - now)) < s.epsilon_cluster * abs(before):
                    break
        self.objective.append(history[-1])

    def _approach(self):
        """exp(-2 (1 - z . y) / sigma) of all cells and clusters."""
        xp = backend.xp_of(self.z)
        xp.matmul(self.z, self.centroids.T, out=self.close)
        self.close -= 1
        self.close *= 2 / self.narrow_sigma
        xp.exp(self.close, out=self.close)

    def _start(self):
        """R without heed to the batches; returns the objective."""
        xp = backend.xp_of(self.z)
        total = self.close @ self.ones
        xp.divide(self.close, total[:, None], out=self.r)
        self.observed[:] = 0
        for start in range(0, len(self.r), self.block):
            here = slice(start, start + self.block)
            self.observed += self._member(self.code[here]).T @ self.r[here]
        return self._objective(-self._entropy(total, self.r))

    def _round(self):
        """Choose R block by block, in random order; returns the objective.

        sum R dist + sigma R log R is sum sigma R (log factor - log total), because dist is -sigma log of what is close.
        """
        xp, s = backend.xp_of(self.z), self.settings
        n_cells = len(self.r)
        order = rng.permutation(s.random_state, "harmony", n_cells, self.n_rounds, xp)
        entropy = 0.0
        for start in range(0, n_cells, self.block):
            rows = order[start : start + self.block]
            code = self.code[rows]
            member = self._member(code)
            self.observed -= member.T @ self.r[rows]
            weight = self._weight()
            r = self.close[rows]
            r *= weight.astype(r.dtype)[code]
            total = r @ self.ones
            r /= total[:, None]
            self.r[rows] = r
            gained = member.T @ r
            self.observed += gained
            entropy = entropy + (gained * self.sigma).ravel() @ xp.log(weight).ravel() - self._entropy(total, r)
        self.n_rounds += 1
        return self._objective(entropy)

    def _member(self, code):
        """1 where a cell (row) has a combination."""
        return (code[:, None] == self.combinations).astype(self.z.dtype)

    def _entropy(self, total, r):
        """Sum over the cells of the logarithm of their total times sigma, summed in float64."""
        return backend.xp_of(r).log(total).astype(np.float64) @ (r @ self.narrow_sigma).astype(np.float64)

    def _objective(self, rest):
        xp = backend.xp_of(self.z)
        observed = self.member @ self.observed
        return float(rest - (observed * self.sigma).ravel() @ (self.theta * xp.log(self._ratio())).ravel())

    def _weight(self):
        """Sum over the keys of ratio^theta, (combinations, clusters): above 1 a key where a batch is rarer than expected."""
        return self.member.T @ self._ratio() ** self.theta

    def _ratio(self):
        """Expected over observed cells, (batches, clusters)."""
        xp = backend.xp_of(self.observed)
        observed = xp.maximum(self.member @ self.observed, 0)
        expected = self.share * (xp.ones(len(self.observed)) @ self.observed)
        expected = xp.maximum(expected, 0)
        if self.settings.flavor == "harmony1":
            return (expected + 1) / (observed + 1)
        return (2 * expected + 1) / (observed + expected + 1)


def first_centroids(z, n_clusters: int, seed: int):
    """Centroids of length one: the best of ``KMEANS_STARTS`` runs of k-means, on at most ``KMEANS_CELLS`` cells.

    On the host for both backends: it is small, and where it starts decides in which optimum Harmony ends.
    """
    xp = backend.xp_of(z)
    if len(z) > KMEANS_CELLS:
        z = z[xp.asarray(np.sort(rng.permutation(seed, "sample", len(z), 0)[:KMEANS_CELLS]))]
    z = backend.to_host(z)
    draws = rng.uniform(seed, "kmeans", np.arange(KMEANS_STARTS * n_clusters)).reshape(KMEANS_STARTS, n_clusters)
    runs = [_kmeans(z, draw) for draw in draws]
    return xp.asarray(max(runs, key=lambda run: run[1])[0])


def _kmeans(z: np.ndarray, draws: np.ndarray):
    """k-means on the sphere, started by k-means++ (Arthur & Vassilvitskii 2007): centroids, and the sum of z . y."""
    centroids, gap = np.empty((len(draws), z.shape[1]), dtype=z.dtype), np.ones(len(z), dtype=z.dtype)
    for k, draw in enumerate(draws):
        reach = np.cumsum(gap, dtype=np.float64)
        centroids[k] = z[min(np.searchsorted(reach, reach[-1] * draw, side="right"), len(z) - 1)]
        to_new = np.maximum(2 - 2 * (z @ centroids[k]), 0)
        gap = np.minimum(gap, to_new) if k else to_new
    labels = None
    for _ in range(KMEANS_ROUNDS):
        close, previous = z @ centroids.T, labels
        labels = close.argmax(axis=1)
        closeness = float(close[np.arange(len(z)), labels].sum())
        if previous is not None and (previous == labels).all():
            break
        member = (labels[:, None] == np.arange(len(draws))).astype(z.dtype)
        filled = member.any(axis=0)[:, None]
        centroids = np.where(filled, unit_rows(member.T @ z), centroids)
    return centroids, closeness
