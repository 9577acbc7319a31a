"""Harmony: an embedding in which cells of different batches mix."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.pp._harmony_clusters import Clusters, unit_rows
from rsc_core.pp._harmony_ridge import Ridge

FLAVORS = {
    "harmony1": {"lamb": 1.0, "max_iter_kmeans": 20, "epsilon_cluster": 1e-5, "epsilon_harmony": 1e-4, "batch_prop_cutoff": 0.0},
    "harmony2": {"lamb": None, "max_iter_kmeans": 4, "epsilon_cluster": 1e-3, "epsilon_harmony": 1e-2, "batch_prop_cutoff": 1e-5},
}


def harmony_integrate(
    adata,
    key,
    *,
    basis="X_pca",
    adjusted_basis="X_pca_harmony",
    flavor="harmony2",
    theta=2.0,
    sigma=0.1,
    lamb=None,
    alpha=0.2,
    tau=0.0,
    n_clusters=None,
    max_iter_harmony=10,
    max_iter_kmeans=None,
    block_size=0.05,
    epsilon_cluster=None,
    epsilon_harmony=None,
    batch_prop_cutoff=None,
    random_state=0,
):
    """Move the batches onto each other: Harmony (Korsunsky et al. 2019, doi:10.1038/s41592-019-0619-0).

    Cells, scaled to length one, are clustered softly: R_ik is proportional to exp(-2 (1 - z_i . y_k) / sigma) times the sum
    over the keys of (expected / observed cells of the cell's batch in cluster k)^theta, so that clusters which hold all
    batches in their shares are cheap. Then in each cluster a ridge regression on the batches (penalty ``lamb``, none on the
    intercept) gives the shift of each batch, which is taken off in proportion to R. Both repeat until the objective
    changes by less than ``epsilon_harmony`` of itself.

    harmony1, as published: the ratio is (E + 1) / (O + 1), centroids follow R in each round, one ``lamb`` for all.
    harmony2, as harmonypy 2.1 by default: the ratio is (2 E + 1) / (O + E + 1), which stays above 0 and below 2; centroids are the
    intercepts of the regressions; R starts anew after each correction; ``lamb`` is ``alpha`` E; batches that have next to
    no cells in a cluster are left out of its regression.

    Parameters
    ----------
    adata
        With ``obsm[basis]`` (cells, dimensions) on the backend that is to do the work.
    key
        Column of obs with the batch, or several: each has its own shifts, which add up.
    basis, adjusted_basis
        Keys of obsm: what is read, what is written.
    flavor
        ``"harmony2"`` or ``"harmony1"``; what follows is by default the flavour's.
    theta
        Strength of mixing; 0: none. One number, one for each key, or one for each batch (the batches of the first key in
        sorted order, then those of the next).
    sigma
        Softness of the clustering, at least 0.01; one number, or one for each cluster.
    lamb
        Ridge penalty, above 0, given like ``theta``; large values correct less. None: 1 for harmony1, ``alpha`` E for harmony2.
    alpha
        See ``lamb``.
    tau
        Cells a cluster below which a batch is mixed less: theta_b = theta (1 - exp(-(N_b / (K tau))^2)); 0: off.
    n_clusters
        By default cells / 30, at least 1 and at most 100.
    max_iter_harmony, max_iter_kmeans
        At most that many corrections, and rounds of clustering before each (20; harmony2: 4).
    block_size
        Share of the cells whose clusters are chosen before O and E are brought up to date; at least one cell.
    epsilon_cluster, epsilon_harmony
        Relative change of the objective below which clustering (1e-5; harmony2: 1e-3) and corrections stop (1e-4; 1e-2).
    batch_prop_cutoff
        Share of a batch in a cluster up to which the batch is left out of the cluster's regression (0; harmony2: 1e-5).
    random_state
        Seed of the first centroids and of the order of the cells.

    Returns
    -------
    None. Sets ``obsm[adjusted_basis]``, of the dtype and backend of the basis, and ``uns['harmony']``: parameters,
    number of corrections, whether it converged, objective after each correction.
    A key with one batch is passed over; without other keys the basis is returned unchanged, and
    ``uns['harmony']['skipped']`` says so. Any number of cells from one on, and batches of one cell, have an answer.

    Raises
    ------
    KeyError
        No such column or basis.
    ValueError
        A value that is not finite or a cell without batch; the message names the row. A parameter out of range.

    Notes
    -----
    R in float32, counts of cells and the regressions in float64. Sums over cells have a fixed order, or are matrix products of
    fixed shapes, on the CPU by one thread each, so that the same input gives the same bits on any number of cores. CPU and
    GPU agree within the tolerance of the test: their matrix products and exponentials of float32 round differently.
    harmonypy 2.1 with its defaults (harmony2), or set to the original stop rules and penalty (harmony1): correlation
    above 0.99 for every component.
    """
    if basis not in adata.obsm:
        raise KeyError(f"there is no obsm[{basis!r}]; obsm has {sorted(adata.obsm)}")
    if flavor not in FLAVORS:
        raise ValueError(f"flavor is {flavor!r}; it must be one of {', '.join(FLAVORS)}")
    given = {"lamb": lamb, "max_iter_kmeans": max_iter_kmeans, "epsilon_cluster": epsilon_cluster}
    given |= {"epsilon_harmony": epsilon_harmony, "batch_prop_cutoff": batch_prop_cutoff}
    chosen = {name: FLAVORS[flavor][name] if value is None else value for name, value in given.items()}
    z = adata.obsm[basis]
    keys = [key] if isinstance(key, str) else list(key)
    codes = [batch_codes(adata.obs, name) for name in keys]
    data.check_finite(z, f"obsm[{basis!r}]")
    params = {"key": keys[0] if len(keys) == 1 else keys, "basis": basis, "flavor": flavor, "theta": theta, "sigma": sigma, "alpha": alpha}
    params |= {"tau": tau, "block_size": block_size, "random_state": random_state} | chosen
    params["lamb"] = "estimated" if params["lamb"] is None else params["lamb"]
    n_levels = [int(code.max()) + 1 for code in codes]
    if max(n_levels) == 1:
        adata.obsm[adjusted_basis] = z.copy()
        adata.uns["harmony"] = {"params": params, "skipped": f"obs[{params['key']!r}] has one batch"}
        return
    n_clusters = n_clusters or int(np.clip(round(len(z) / 30), 1, 100))
    settings = Settings(
        flavor,
        per_batch(theta, n_levels, "theta"),
        np.broadcast_to(np.asarray(sigma, dtype=np.float64), n_clusters) if np.size(sigma) in (1, n_clusters) else np.zeros(0),
        None if chosen["lamb"] is None else per_batch(chosen["lamb"], n_levels, "lamb"),
        alpha,
        tau,
        n_clusters,
        max_iter_harmony,
        chosen["max_iter_kmeans"],
        block_size,
        chosen["epsilon_cluster"],
        chosen["epsilon_harmony"],
        chosen["batch_prop_cutoff"],
        random_state,
    )
    settings.check()
    kept = [number for number, n in enumerate(n_levels) if n > 1]
    settings = settings.of_keys(kept, n_levels)
    # The products are small: a second thread gains a fifth, and waits for ever where another task has its core.
    with _blas().limit(limits=1):
        corrected, objective, converged = harmony(z, np.stack([codes[number] for number in kept]), settings)
    adata.obsm[adjusted_basis] = corrected.astype(z.dtype)
    adata.uns["harmony"] = {
        "params": params | {"n_clusters": n_clusters},
        "n_corrections": len(objective) - 1,
        "converged": converged,
        "objective": np.array(objective),
    }


@functools.cache
def _blas():
    """The BLAS libraries of the process; to look for them takes 20 ms."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def per_batch(value, n_levels, name: str) -> np.ndarray:
    """One number, one for each key or one for each batch as one for each batch, float64."""
    value = np.asarray(value, dtype=np.float64).ravel()
    total = sum(n_levels)
    if value.size == 1:
        return np.repeat(value, total)
    if value.size == len(n_levels):
        return np.repeat(value, n_levels)
    if value.size == total:
        return value
    raise ValueError(f"{name} has {value.size} values; it must be one number, {len(n_levels)} (keys) or {total} (batches)")


def batch_codes(obs: pd.DataFrame, key: str) -> np.ndarray:
    """The batch of each cell as 0, 1, ... in sorted order; int64 (cells,)."""
    if key not in obs:
        raise KeyError(f"there is no column {key!r} in obs; it has {list(obs.columns)}")
    column = obs[key].astype("category")
    names = pd.Series(column.cat.categories.astype(str)).where(column.cat.categories.isin(column.unique()))
    ranks, _ = pd.factorize(names, sort=True)
    codes = np.append(ranks, -1)[column.cat.codes]
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise ValueError(f"obs[{key!r}] has no value for the cell {obs.index[row]!r} in row {row}; fill it or remove the cell")
    return codes.astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The parameters of :func:`harmony_integrate` that its mathematics needs; ``theta`` and ``lamb`` (batches,)."""

    flavor: str
    theta: np.ndarray
    sigma: np.ndarray
    lamb: np.ndarray | None
    alpha: float
    tau: float
    n_clusters: int
    max_iter_harmony: int
    max_iter_kmeans: int
    block_size: float
    epsilon_cluster: float
    epsilon_harmony: float
    batch_prop_cutoff: float
    random_state: int

    def check(self) -> None:
        """Raise ValueError for a parameter out of range."""
        if not self.sigma.size or not (self.sigma >= 0.01).all():
            raise ValueError(
                f"sigma={self.sigma.tolist()} must be at least 0.01: one number, or one for each of {self.n_clusters} clusters"
            )
        if not 0 < self.block_size <= 1:
            raise ValueError(f"block_size={self.block_size} must be above 0 and at most 1")
        if self.lamb is None and not self.alpha > 0:
            raise ValueError(f"alpha={self.alpha} must be above 0")
        if self.lamb is not None and not (self.lamb > 0).all():
            raise ValueError(f"lamb={self.lamb.tolist()} must be above 0")
        if not (self.theta >= 0).all() or self.tau < 0 or self.batch_prop_cutoff < 0:
            raise ValueError(
                f"theta={self.theta.tolist()}, tau={self.tau}, batch_prop_cutoff={self.batch_prop_cutoff}: none may be below 0"
            )
        if min(self.max_iter_harmony, self.max_iter_kmeans, self.n_clusters) < 1:
            raise ValueError(
                f"max_iter_harmony={self.max_iter_harmony}, max_iter_kmeans={self.max_iter_kmeans}, "
                f"n_clusters={self.n_clusters}: each must be at least 1"
            )

    def of_keys(self, kept, n_levels):
        """The settings for some of the keys."""
        mask = np.concatenate([np.full(n, number in kept) for number, n in enumerate(n_levels)])
        return dataclasses.replace(self, theta=self.theta[mask], lamb=None if self.lamb is None else self.lamb[mask])


def harmony(z, codes: np.ndarray, settings: Settings):
    """Harmony on arrays.

    Parameters
    ----------
    z
        (cells, dimensions).
    codes
        int64 (keys, cells) of the host: the batch of each cell by each key, every batch from 0 on present.

    Returns
    -------
    corrected : (cells, dimensions), float64 where z is, else float32
    objective : list of float, before the first and after each correction's clustering
    converged : bool
    """
    xp = backend.xp_of(z)
    order = np.lexsort(codes[::-1])  # by combination of batches, so that a combination is a slice
    codes = codes[:, order]
    first = np.flatnonzero(np.append(True, (np.diff(codes, axis=1) != 0).any(axis=0)))
    levels, sizes = codes[:, first], np.diff(np.append(first, codes.shape[1]))
    offset = np.concatenate([[0], np.cumsum(codes.max(axis=1) + 1)])
    member = np.zeros((offset[-1], len(sizes)))
    member[(levels + offset[:-1, None]).ravel(), np.tile(np.arange(len(sizes)), len(codes))] = 1
    z = z[xp.asarray(order)].astype(np.float64 if z.dtype == np.float64 else np.float32, copy=False)
    clusters = Clusters(unit_rows(z), sizes, member, settings)
    ridge = Ridge(sizes, member, settings)
    corrected, converged = z, False
    for number in range(settings.max_iter_harmony):
        clusters.fit(anew=number > 0)
        corrected, intercepts = ridge.correct(z, clusters.r.astype(z.dtype, copy=False), backend.to_host(clusters.centroids))
        clusters.z = unit_rows(corrected)
        if settings.flavor == "harmony2":
            clusters.centroids = unit_rows(xp.asarray(intercepts, dtype=z.dtype))
        before, now = clusters.objective[-2:]
        if (before - now) < settings.epsilon_harmony * abs(before):
            converged = True
            break
    result = xp.empty_like(corrected)
    result[xp.asarray(order)] = corrected
    return result, clusters.objective, converged
