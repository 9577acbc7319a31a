"""How good and how alike: figures that stand beside every time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import backend, rng


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


def lisi(x, *labels, perplexity: float = 30.0):
    """Local inverse Simpson index: how many labels a cell's neighbourhood holds (Korsunsky et al. 2019, doi:10.1038/s41592-019-0619-0).

    LISI_i = 1 / sum over labels of (sum_j p_ij [label of j])^2 over the 3 perplexity nearest cells j, with p_ij in
    proportion to exp(-beta_i d_ij), beta_i such that the entropy of p_i is log perplexity (to 1e-5, as harmonypy).
    1: neighbours of one label; the number of labels: all in equal shares. Of batches (iLISI) high is mixed, of cell types
    (cLISI) low is kept apart.

    Parameters
    ----------
    x
        (cells, dimensions), on the backend that is to do the work.
    labels
        One label for each cell, of any kind; a missing one is a label of its own. Several share one search of neighbours.
    perplexity
        Of cells too few, the neighbours are all others, and perplexity at most a third of them.

    Returns
    -------
    float64 (cells,) of the host, for several labels (labels, cells). One cell: 1. harmonypy 2.1 agrees within 1e-4, but gives a
    cell 0 whose neighbours all lie where it lies; here their weights are equal.
    """
    from rsc_core.pp._neighbors import nearest_neighbors

    xp, n_cells = backend.xp_of(x), len(x)
    codes = [pd.factorize(pd.Series(list(label)), use_na_sentinel=False)[0] for label in labels]
    n_nearest = min(int(3 * perplexity), n_cells - 1)
    if n_nearest < 1:
        result = np.ones((len(labels), n_cells))
    else:
        nearest, distance = nearest_neighbors(x, n_nearest)
        weight = _perplexity_weights(distance, min(perplexity, max(1.0, n_nearest / 3)))
        result = np.empty((len(labels), n_cells))
        for out, code in zip(result, codes, strict=True):
            here, simpson = xp.asarray(code)[nearest], xp.zeros(n_cells)
            for value in range(int(code.max()) + 1):
                share = (weight * (here == value)) @ xp.ones(n_nearest)
                simpson += share * share
            out[:] = backend.to_host(1 / simpson)
    return result[0] if len(labels) == 1 else result


def _perplexity_weights(distance, perplexity: float):
    """Weights (cells, neighbours) of entropy log perplexity, by bisection as t-SNE does it; rows sum to 1."""
    xp = backend.xp_of(distance)
    distance = distance - distance[:, :1]  # the weights do not change, and none is lost to underflow
    ones, n_cells = xp.ones(distance.shape[1]), len(distance)
    beta, low, high = xp.ones(n_cells), xp.zeros(n_cells), xp.full(n_cells, np.inf)
    for _ in range(50):
        weight = xp.exp(-distance * beta[:, None])
        total = weight @ ones
        gap = xp.log(total) + beta * ((distance * weight) @ ones) / total - np.log(perplexity)
        settled = xp.abs(gap) < 1e-5
        if int((settled * 1.0) @ xp.ones(n_cells)) == n_cells:
            break
        low, high = xp.where(gap > 0, beta, low), xp.where(gap > 0, high, beta)
        middle = xp.where(xp.isinf(high), beta * 2, xp.where(low > 0, (low + xp.where(xp.isinf(high), 0, high)) / 2, beta / 2))
        beta = xp.where(settled, beta, middle)
    return weight / total[:, None]


def silhouette(x, labels) -> float:
    """Mean silhouette width of labels (Rousseeuw 1987): 1 compact and apart, 0 overlapping, below 0 nearer to another label.

    s_i = (b_i - a_i) / max(a_i, b_i), a_i the mean distance to the other cells of its label, b_i the least mean distance to the
    cells of another label; 0 for a cell alone with its label.

    Parameters
    ----------
    x
        (cells, dimensions), on the backend that is to do the work: all pairs of cells are looked at, 1,024 rows at a time.
    labels
        One label for each cell; a missing one is a label of its own.

    Returns
    -------
    -1 to 1; NaN where there is one label only. scikit-learn agrees within 1e-9.
    """
    xp = backend.xp_of(x)
    code = pd.factorize(pd.Series(list(labels)), use_na_sentinel=False)[0]
    size = np.bincount(code)
    if len(size) < 2:
        return float("nan")
    x = x.astype(np.float64)
    x = x - (xp.ones(len(x)) @ x / len(x))
    square, member = (x * x) @ xp.ones(x.shape[1]), (xp.asarray(code)[:, None] == xp.arange(len(size))).astype(np.float64)
    total = np.empty((len(x), len(size)))
    for start in range(0, len(x), 1024):
        rows = x[start : start + 1024]
        apart = xp.sqrt(xp.maximum(square[start : start + 1024, None] + square - 2 * rows @ x.T, 0))
        own = xp.arange(len(rows))
        apart[own, own + start] = 0
        total[start : start + 1024] = backend.to_host(apart @ member)
    cells = np.arange(len(code))
    inside = total[cells, code] / np.maximum(size[code] - 1, 1)
    mean = total / size
    mean[cells, code] = np.inf
    outside = mean.min(axis=1)
    longest = np.maximum(inside, outside)
    width = np.divide(outside - inside, longest, out=np.zeros(len(code)), where=longest > 0)
    return float(np.where(size[code] > 1, width, 0).mean())
