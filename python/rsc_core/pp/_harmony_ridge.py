"""Harmony's correction: in each cluster, the shift of each batch by ridge regression."""

from __future__ import annotations

import numpy as np

from rsc_core import backend


class Ridge:
    """Regression of the cells on an intercept and their batches, in each cluster with the weights R.

    Parameters
    ----------
    sizes
        Cells of each combination of batches; the cells are sorted by it.
    member
        (batches, combinations): 1 where a combination has the batch.
    settings
        See :class:`rsc_core.pp._harmony.Settings`.
    """

    def __init__(self, sizes, member, settings):
        self.sizes, self.member, self.settings = np.asarray(sizes), member, settings
        self.n_batch = member @ self.sizes
        key = np.zeros(len(member), dtype=np.int64)  # of each batch: batches of one key never share a combination
        for batch in range(1, len(member)):
            key[batch] = key[batch - 1] + int(member[: batch + 1][key[: batch + 1] == key[batch - 1]].sum(axis=0).max() > 1)
        self.same_key = (key[:, None] == key).astype(np.float64)

    def correct(self, z, r, centroids):
        """Take off each cell the shifts of its batches, cluster by cluster in proportion to R.

        Parameters
        ----------
        z, r
            (cells, dimensions), (cells, clusters).
        centroids
            (clusters, dimensions) of the host: the answer for clusters that have nothing to correct.

        Returns
        -------
        corrected : (cells, dimensions)
        intercepts : (clusters, dimensions) of the host
        """
        xp = backend.xp_of(z)
        stops = np.cumsum(self.sizes)
        parts = [slice(int(stop - size), int(stop)) for stop, size in zip(stops, self.sizes, strict=True)]
        weight = backend.to_host(xp.stack([xp.ones(part.stop - part.start, dtype=r.dtype) @ r[part] for part in parts]))
        total = backend.to_host(xp.stack([r[part].T @ z[part] for part in parts]))
        shifts, intercepts = self._solve(weight.astype(np.float64), total.astype(np.float64), np.array(centroids, dtype=np.float64))
        shifts = xp.asarray(shifts, dtype=z.dtype)
        corrected = xp.empty_like(z)
        for number, part in enumerate(parts):
            corrected[part] = z[part] - r[part] @ shifts[number]
        return corrected, intercepts

    def _solve(self, weight, total, intercepts):
        """Shifts (combinations, clusters, dimensions) from sums of R and of R z of each combination.

        Clusters of which the same batches are kept are solved together.
        """
        shifts = np.zeros_like(total)
        kept = self._kept(self.member @ weight)
        patterns, which = np.unique(kept, axis=1, return_inverse=True)
        for number, pattern in enumerate(patterns.T):
            if pattern.any():
                here = np.flatnonzero(which.ravel() == number)
                intercepts[here], shifts[:, here] = self._solved(pattern, weight[:, here], total[:, here])
        return shifts, intercepts

    def _solved(self, kept, weight, total):
        """Intercepts and shifts of clusters from the same batches."""
        s, member = self.settings, self.member
        design = np.vstack([np.ones(member.shape[1]), member[kept]])
        inside = design[1:].any(axis=0)  # cells of no kept batch say nothing
        design, diagonal = design[:, inside], np.arange(1, 1 + kept.sum())
        gram = np.einsum("ac,ck,bc->kab", design, weight[inside], design)
        penalty = s.alpha * np.outer(weight.sum(axis=0), self.n_batch / self.sizes.sum()) if s.lamb is None else s.lamb[None, :]
        gram[:, diagonal, diagonal] += penalty[:, kept]
        answer = np.einsum("ac,ckd->kad", design, total[inside])
        # A cluster of next to no cells is solved as well as the others.
        scale = 1 / np.sqrt(np.maximum(gram[:, np.arange(len(design)), np.arange(len(design))], np.finfo(np.float64).tiny))
        solved = np.linalg.solve(gram * scale[:, :, None] * scale[:, None, :], scale[:, :, None] * answer) * scale[:, :, None]
        return solved[:, 0], np.einsum("bc,kbd->ckd", member[kept], solved[:, 1:])

    def _kept(self, observed):
        """Batches that are in each cluster, of keys of which at least two are; (batches, clusters)."""
        there = observed > self.settings.batch_prop_cutoff * self.n_batch[:, None]
        return there & (self.same_key @ there > 1)
