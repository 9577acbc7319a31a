"""Harmony: an embedding in which cells of different batches mix."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from rsc_core import backend, data, rng

KMEANS_CELLS = 5_000  # cells that the first centroids are sought among; the result depends on it
KMEANS_STARTS = 10  # of one start, one seed in two ends in another optimum
KMEANS_ROUNDS = 10  # more change no answer: the soft clustering goes on from here
WINDOW = 3  # rounds of clustering that are compared with the three before


def harmony_integrate(
    adata,
    key,
    *,
    basis="X_pca",
    adjusted_basis="X_pca_harmony",
    theta=2.0,
    sigma=0.1,
    lamb=1.0,
    tau=0.0,
    n_clusters=None,
    max_iter_harmony=10,
    max_iter_kmeans=20,
    block_size=0.05,
    epsilon_cluster=1e-5,
    epsilon_harmony=1e-4,
    random_state=0,
):
    """Move the batches onto each other: Harmony (Korsunsky et al. 2019, doi:10.1038/s41592-019-0619-0).

    Cells, scaled to length one, are clustered softly. R_ik minimises, over centroids Y and R,
    sum R_ik 2 (1 - z_i . y_k) + sigma sum R_ik log R_ik + sigma sum theta_b O_bk log((O_bk + 1) / (E_bk + 1)),
    with O the observed and E the expected number of cells of batch b in cluster k: clusters that hold all batches in
    their shares are cheap. Then in each cluster a ridge regression on the batch (penalty ``lamb``, none on the
    intercept) gives the shift of each batch, which is taken off in proportion to R. Both repeat until the objective
    changes by less than ``epsilon_harmony`` of itself.

    Parameters
    ----------
    adata
        With ``obsm[basis]`` (cells, dimensions) on the backend that is to do the work.
    key
        Column of obs with the batch.
    basis, adjusted_basis
        Keys of obsm: what is read, what is written.
    theta
        Strength of mixing; 0: none.
    sigma
        Softness of the clustering, at least 0.01.
    lamb
        Ridge penalty, above 0; large values correct less.
    tau
        Cells a cluster below which a batch is mixed less: theta_b = theta (1 - exp(-(N_b / (K tau))^2)); 0: off.
    n_clusters
        By default cells / 30, at least 1 and at most 100.
    max_iter_harmony, max_iter_kmeans
        At most that many corrections, and rounds of clustering before each.
    block_size
        Share of the cells whose clusters are chosen before O and E are brought up to date; at least one cell.
    epsilon_cluster, epsilon_harmony
        Relative change of the objective below which clustering and corrections stop.
    random_state
        Seed of the first centroids and of the order of the cells.

    Returns
    -------
    None. Sets ``obsm[adjusted_basis]``, of the dtype and backend of the basis, and ``uns['harmony']``: parameters,
    number of corrections, whether it converged, objective after each correction.
    With one batch the basis is returned unchanged, and ``uns['harmony']['skipped']`` says so.

    Raises
    ------
    KeyError
        No such column or basis.
    ValueError
        A value that is not finite or a cell without batch; the message names the row. A parameter out of range.

    Notes
    -----
    float64 throughout; sums over cells are matrix products of fixed shapes, on the CPU by one thread, so that the same
    input gives the same bits on any number of cores. CPU and GPU agree within the tolerance of the test.
    harmonypy 2.1 set to the original stop rules and penalty: correlation above 0.99 for every component.
    """
    if basis not in adata.obsm:
        raise KeyError(f"there is no obsm[{basis!r}]; obsm has {sorted(adata.obsm)}")
    if sigma < 0.01 or lamb <= 0 or not 0 < block_size <= 1:
        raise ValueError(f"sigma={sigma} must be at least 0.01, lamb={lamb} above 0, block_size={block_size} in (0, 1]")
    z = adata.obsm[basis]
    batch = batch_codes(adata.obs, key)
    data.check_finite(z, f"obsm[{basis!r}]")
    params = {"key": key, "basis": basis, "theta": theta, "sigma": sigma, "lamb": lamb, "tau": tau, "random_state": random_state}
    if batch.max() == 0:
        adata.obsm[adjusted_basis] = z.copy()
        adata.uns["harmony"] = {"params": params, "skipped": f"obs[{key!r}] has one batch"}
        return
    settings = Settings(
        theta, sigma, lamb, tau, n_clusters or int(np.clip(round(len(batch) / 30), 1, 100)),
        max_iter_harmony, max_iter_kmeans, block_size, epsilon_cluster, epsilon_harmony, random_state,
    )
    from threadpoolctl import threadpool_limits

    # The products of a block are small: a second thread gains a fifth, and waits for ever where another task has its core.
    with threadpool_limits(1):
        corrected, objective, converged = harmony(z, batch, settings)
    adata.obsm[adjusted_basis] = corrected.astype(z.dtype)
    adata.uns["harmony"] = {
        "params": params | {"n_clusters": settings.n_clusters},
        "n_corrections": len(objective) - 1,
        "converged": converged,
        "objective": np.array(objective),
    }


def batch_codes(obs: pd.DataFrame, key: str) -> np.ndarray:
    """The batch of each cell as 0, 1, ... in sorted order; int64 (cells,)."""
    if key not in obs:
        raise KeyError(f"there is no column {key!r} in obs; it has {list(obs.columns)}")
    codes, _ = pd.factorize(obs[key].astype(str).where(obs[key].notna()), sort=True)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise ValueError(f"obs[{key!r}] has no value for the cell {obs.index[row]!r} in row {row}; fill it or remove the cell")
    return codes.astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The parameters of :func:`harmony_integrate` that its mathematics needs."""

    theta: float
    sigma: float
    lamb: float
    tau: float
    n_clusters: int
    max_iter_harmony: int
    max_iter_kmeans: int
    block_size: float
    epsilon_cluster: float
    epsilon_harmony: float
    random_state: int


def harmony(z, batch: np.ndarray, settings: Settings):
    """Harmony on arrays.

    Parameters
    ----------
    z
        (cells, dimensions).
    batch
        int64 (cells,) of the host, every batch from 0 on present.

    Returns
    -------
    corrected : float64 (cells, dimensions)
    objective : list of float, before the first and after each correction's clustering
    converged : bool
    """
    xp = backend.xp_of(z)
    order = np.argsort(batch, kind="stable")  # by batch, so that a batch is a slice
    sizes = np.bincount(batch)
    z = z[xp.asarray(order)].astype(xp.float64)
    clusters = _Clusters(unit_rows(z), sizes, settings)
    corrected, converged = z, False
    for _ in range(settings.max_iter_harmony):
        clusters.fit()
        corrected = _correct(z, clusters.r, sizes, settings.lamb)
        clusters.z = unit_rows(corrected)
        before, now = clusters.objective[-2:]
        if (before - now) < settings.epsilon_harmony * abs(before):
            converged = True
            break
    result = xp.empty_like(corrected)
    result[xp.asarray(order)] = corrected
    return result, clusters.objective, converged


def unit_rows(z):
    """Rows at length one; a row of zeros stays."""
    xp = backend.xp_of(z)
    length = xp.sqrt((z * z) @ xp.ones(z.shape[1]))
    return z / xp.maximum(length, np.finfo(np.float64).tiny)[:, None]


def _inner(a, b):
    """Sum of the products of two matrices of one shape, as BLAS does it: no other reduction is compiled."""
    return a.ravel() @ b.ravel()


class _Clusters:
    """The soft clusters: R, the centroids, and how many cells of each batch are in each cluster.

    Parameters
    ----------
    z
        (cells, dimensions), rows of length one, sorted by batch. Replaced by the caller after each correction.
    sizes
        Cells of each batch.
    """

    def __init__(self, z, sizes, settings):
        xp = backend.xp_of(z)
        self.z, self.settings, self.n_rounds = z, settings, 0
        self.share = xp.asarray(sizes / sizes.sum())[:, None]
        theta = np.full(len(sizes), float(settings.theta))
        if settings.tau > 0:
            theta *= 1 - np.exp(-((sizes / (settings.n_clusters * settings.tau)) ** 2))
        self.theta = xp.asarray(theta)[:, None]
        self.member = xp.asarray(np.repeat(np.eye(len(sizes)), sizes, axis=0))
        self.r = xp.zeros((len(z), settings.n_clusters))
        self.observed = xp.zeros((len(sizes), settings.n_clusters))
        block = max(1, int(len(z) * settings.block_size))
        self.work = [xp.empty((block, settings.n_clusters)) for _ in range(4)]  # new memory for each block costs more than the sums
        centroids = first_centroids(z, settings.n_clusters, settings.random_state)
        self.objective = [self._round(centroids, first=True)]

    def fit(self):
        """Rounds of clustering until the objective settles; the last objective is kept."""
        history = []
        for _ in range(self.settings.max_iter_kmeans):
            history.append(self._round(unit_rows(self.r.T @ self.z)))
            if len(history) > WINDOW + 1:
                before, now = sum(history[-WINDOW - 1 : -1]), sum(history[-WINDOW:])
                if (before - now) < self.settings.epsilon_cluster * abs(before):
                    break
        self.objective.append(history[-1])

    def _round(self, centroids, first=False):
        """Choose R block by block, in random order, for these centroids; returns the objective.

        In the first round there is no R to take out and no count of batches to heed.
        """
        xp, s = backend.xp_of(self.z), self.settings
        n_cells, n_clusters = self.r.shape
        order = rng.permutation(s.random_state, "harmony", n_cells, self.n_rounds, xp)
        ones, similarity, entropy = xp.ones(n_clusters), 0.0, 0.0
        for start in range(0, n_cells, len(self.work[0])):
            rows = order[start : start + len(self.work[0])]
            close, energy, r, penalty = (work[: len(rows)] for work in self.work)
            member = self.member[rows]
            xp.matmul(self.z[rows], centroids.T, out=close)
            xp.subtract(close, 1, out=energy)
            energy *= 2 / s.sigma
            if not first:
                self.observed -= member.T @ self.r[rows]
                energy += xp.matmul(member, self._penalty(), out=penalty)
            xp.exp(energy, out=r)
            total = r @ ones
            r /= total[:, None]
            self.r[rows] = r
            self.observed += member.T @ r
            similarity = similarity + _inner(r, close)
            entropy = entropy + _inner(r, energy) - xp.log(total) @ xp.ones(len(rows))
        self.n_rounds += 1
        mixing = _inner(self.observed, -self._penalty())
        return float(2 * (n_cells - similarity) + s.sigma * (entropy + mixing))

    def _penalty(self):
        """theta_b log((E_bk + 1) / (O_bk + 1)): above 0 where a batch is rarer in a cluster than expected."""
        xp = backend.xp_of(self.observed)
        expected = self.share * (xp.ones(len(self.observed)) @ self.observed)
        return self.theta * xp.log((expected + 1) / (self.observed + 1))


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
    centroids, gap = np.empty((len(draws), z.shape[1])), np.ones(len(z))
    for k, draw in enumerate(draws):
        reach = np.cumsum(gap)
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
        member = (labels[:, None] == np.arange(len(draws))).astype(np.float64)
        filled = member.any(axis=0)[:, None]
        centroids = np.where(filled, unit_rows(member.T @ z), centroids)
    return centroids, closeness


def _correct(z, r, sizes, lamb):
    """Take off each cell the shift of its batch, cluster by cluster in proportion to R.

    In cluster k, the ridge regression of z on [1, batch] with weights R and penalty lamb on the batches solves
    O_bk (a_k + w_bk) + lamb w_bk = S_bk with S_bk the weighted sum of the batch's cells, and sum_b w_bk lamb = 0; hence
    a_k = (sum_b S_bk / (O_bk + lamb)) / (sum_b O_bk / (O_bk + lamb)), w_bk = (S_bk - O_bk a_k) / (O_bk + lamb).
    """
    xp = backend.xp_of(z)
    stops = np.cumsum(sizes)
    batches = [slice(int(stop - size), int(stop)) for stop, size in zip(stops, sizes, strict=True)]
    weight = [(xp.ones(b.stop - b.start) @ r[b])[:, None] for b in batches]
    total = [r[b].T @ z[b] for b in batches]
    intercept = sum(t / (w + lamb) for t, w in zip(total, weight, strict=True))
    scale = sum(w / (w + lamb) for w in weight)
    intercept = intercept / xp.maximum(scale, np.finfo(np.float64).tiny)
    corrected = xp.empty_like(z)
    for b, t, w in zip(batches, total, weight, strict=True):
        corrected[b] = z[b] - r[b] @ ((t - w * intercept) / (w + lamb))
    return corrected
