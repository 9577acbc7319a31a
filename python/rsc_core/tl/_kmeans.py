"""k-means of a representation."""

from __future__ import annotations

import math

import numpy as np

from rsc_core import backend, data
from rsc_core.tl._communities import categories, ordered_labels
from rsc_core.tl._lloyd import lloyd, spread_rows


def kmeans(adata, n_clusters=8, *, n_pcs=None, use_rep=None, n_init=10, max_iter=300, random_state=0, key_added="kmeans"):
    """Which of ``n_clusters`` centroids is nearest to each cell? (Lloyd 1982, started by k-means++)

    Minimises the inertia, the sum of the squared distances to the nearest centroid; the best of ``n_init`` starts is kept.

    Parameters
    ----------
    adata
        With the representation on the backend that is to do the work.
    n_clusters
        From 1 to the number of cells.
    n_pcs, use_rep
        As in :func:`rsc_core.pp.neighbors`.
    n_init, max_iter
        Starts; rounds of each at most.
    random_state
        Seed of the starts.
    key_added
        Column of obs and key of uns.

    Returns
    -------
    None. Sets ``obs[key_added]``, categorical of '0', '1', ... by falling size, then by the smallest member, and
    ``uns[key_added]``: params, inertia, n_iter, converged, cluster_centers (clusters, dimensions) in the order of the labels.

    Raises
    ------
    ValueError
        More clusters than cells; a value that is not finite.

    Notes
    -----
    CPU = GPU bit for bit: distances in float64, one dimension after another, sums of integers. From the same start
    scikit-learn's inertia within 1e-9. Fewer different cells than clusters: clusters that stay empty are left out.
    """
    use_rep = use_rep or data.default_representation(adata)
    x = data.representation(adata, use_rep, n_pcs)
    data.check_finite(x, "the representation")
    if not 1 <= n_clusters <= x.shape[0]:
        raise ValueError(f"n_clusters is {n_clusters}; it must be from 1 to the {x.shape[0]} cells")
    xp = backend.xp_of(x)
    x, best = xp.ascontiguousarray(x, dtype=xp.float64), None
    for number in range(n_init):
        start = x[xp.asarray(spread_rows(x, n_clusters, random_state, number))]
        label, square, centroids, n_iter, converged = lloyd(x, start, max_iter)
        inertia = math.fsum(backend.to_host(square))  # rounds once: no order matters
        if best is None or inertia < best[0]:
            best = inertia, backend.to_host(label), backend.to_host(centroids), n_iter, converged
    inertia, label, centroids, n_iter, converged = best
    labels = ordered_labels(label)
    _, first = np.unique(labels, return_index=True)
    adata.obs[key_added] = categories(labels)
    params = {"n_clusters": n_clusters, "random_state": random_state, "n_init": n_init, "max_iter": max_iter, "use_rep": use_rep}
    adata.uns[key_added] = {
        "params": params | ({"n_pcs": n_pcs} if n_pcs else {}),
        "inertia": inertia,
        "n_iter": n_iter,
        "converged": converged,
        "cluster_centers": centroids[label[first]],
    }
