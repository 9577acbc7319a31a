"""How good and how alike: figures that stand beside every time."""

from __future__ import annotations

import numpy as np

from rsc_core import rng


def modularity(indptr, indices, weight, labels, resolution: float = 1.0) -> float:
    """Newman's modularity of a partition of an undirected graph.

    Q = sum over communities of (weight inside / W - resolution (degrees / W)^2), W the sum of all entries.

    Parameters
    ----------
    indptr, indices, weight
        CSR arrays of the host of a symmetric matrix: every edge stands in it twice.
    labels
        Integers from 0 (cells,).
    resolution
        Weight of the expectation.

    Returns
    -------
    -0.5 to 1; 0 for a graph without edges. igraph's within 1e-12.
    """
    weight = np.asarray(weight, dtype=np.float64)
    total = weight.sum()
    if total == 0:
        return 0.0
    own = np.repeat(labels, np.diff(indptr))
    degrees = np.bincount(own, weights=weight)
    inside = weight[own == labels[indices]].sum()
    return float(inside / total - resolution * ((degrees / total) ** 2).sum())


def adjusted_rand_index(a, b) -> float:
    """Agreement of two partitions, corrected for chance (Hubert & Arabie 1985): 1 equal, 0 as by chance.

    Parameters
    ----------
    a, b
        Labels of any kind (cells,).
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(np.asarray(a), np.asarray(b)))


def knn_overlap(a, b) -> float:
    """Mean share of the neighbours of each cell in ``a`` that it has in ``b``, too: 0 to 1.

    Parameters
    ----------
    a, b
        CSR matrices of the host (cells, cells); their stored entries are the neighbours. A cell without neighbours in
        ``a`` counts as 1.
    """
    n_cells = a.shape[0]
    keys = [np.repeat(np.arange(n_cells), np.diff(m.indptr)) * n_cells + m.indices for m in (a, b)]
    shared = np.isin(*keys, assume_unique=True)
    sizes = np.diff(a.indptr)
    found = np.bincount(keys[0] // n_cells, weights=shared, minlength=n_cells)
    return float(np.where(sizes > 0, found / np.maximum(sizes, 1), 1).mean())


def trustworthiness(x, embedding, n_neighbors: int = 15, *, max_cells: int = 5_000, random_state: int = 0) -> float:
    """Are neighbours in the embedding neighbours in x? (Venna & Kaski 2001): 1 always, 0.5 about as by chance.

    Parameters
    ----------
    x, embedding
        Arrays of the host (cells, dimensions).
    n_neighbors
        Below half the number of cells.
    max_cells
        Of more cells a sample of that size is looked at: the figure needs all distances.
    random_state
        Seed of the sample.
    """
    from sklearn.manifold import trustworthiness as sklearn_trustworthiness

    if len(x) > max_cells:
        rows = np.sort(rng.permutation(random_state, "sample", len(x), 0)[:max_cells])
        x, embedding = x[rows], embedding[rows]
    return float(sklearn_trustworthiness(x, embedding, n_neighbors=n_neighbors))
