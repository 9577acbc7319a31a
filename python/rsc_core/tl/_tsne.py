"""t-SNE: neighbours drawn near, with a heavy tail for all others."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, data
from rsc_core.kernels import layout as kernels
from rsc_core.pp._neighbors import distance_matrix, nearest_neighbors
from rsc_core.tl._pushes import Pushes
from rsc_core.tl._start import start_positions

NEIGHBORS_A_PERPLEXITY = 3
EXAGGERATED = 250  # steps; with momentum 0.5, after them 0.8
LONGEST_STEP = 5.0


def tsne(
    adata,
    n_pcs=None,
    *,
    use_rep=None,
    perplexity=30.0,
    early_exaggeration=12.0,
    learning_rate=None,
    random_state=0,
    n_iter=1000,
    key_added=None,
):
    """Draw the cells so that the chances of being neighbours are those in the representation (van der Maaten & Hinton 2008).

    p_ij = (p_j|i + p_i|j) / 2n from Gaussians over the 3 x perplexity nearest cells, each with exp(entropy) = perplexity;
    q_ij = 1 / (1 + d^2) over its sum; the drawing goes down the gradient of sum p log(p / q), 4 sum_j (p_ij - q_ij) (y_i -
    y_j) / (1 + d^2), whose second part is summed over a pyramid of grids.

    Parameters
    ----------
    adata
        With the representation on the backend that is to do the work.
    n_pcs, use_rep
        As in :func:`rsc_core.pp.neighbors`.
    perplexity
        About the number of neighbours that count; at most a third of the others.
    early_exaggeration
        Factor of p in the first 250 steps.
    learning_rate
        By default cells / early_exaggeration / 4, at least 50.
    random_state
        Seed of the noise of the start, 1e-5 of its width, which is the first two principal components.
    n_iter
        Steps in all.
    key_added
        Name of the slots; by default ``X_tsne`` and ``tsne``.

    Returns
    -------
    None. Sets ``obsm['X_tsne']`` float32 (cells, 2) and ``uns['tsne']``.

    Raises
    ------
    ValueError
        Fewer than 3 cells, a perplexity below 1, or a value that is not finite.

    Notes
    -----
    CPU = GPU bit for bit from equal starts, whatever the number of threads. Duplicated cells are neighbours at distance 0.
    Different from scanpy: the start (theirs is scikit-learn's), the learning rate (theirs is 1000), always Euclidean.
    """
    if perplexity < 1:
        raise ValueError(f"perplexity is {perplexity}; it must be at least 1")
    use_rep = use_rep or data.default_representation(adata)
    x = data.representation(adata, use_rep, n_pcs)
    n_cells = x.shape[0]
    if n_cells < 3:
        raise ValueError(f"there are {n_cells} cells; t-SNE needs at least 3")
    n_nearest = min(int(NEIGHBORS_A_PERPLEXITY * perplexity), n_cells - 1)
    perplexity = min(perplexity, n_nearest / NEIGHBORS_A_PERPLEXITY)
    chances = joint_chances(*nearest_neighbors(x, n_nearest), perplexity)
    rate = learning_rate or max(n_cells / early_exaggeration / 4, 50.0)
    start, _ = start_positions(adata, chances, x, "pca", 2, random_state)
    options = {"early_exaggeration": early_exaggeration, "learning_rate": rate, "n_iter": n_iter}
    y = optimise(chances, start, **options)
    adata.obsm[key_added or "X_tsne"] = y.astype(np.float32)
    about = {"perplexity": perplexity, "metric": "euclidean", "use_rep": use_rep, "random_state": random_state, "algorithm": "rsc"}
    adata.uns[key_added or "tsne"] = {"params": about | options}


def joint_chances(nearest, distance, perplexity: float):
    """p_ij of exact neighbours: CSR float64 (cells, cells), symmetric, of sum 1."""
    weight = backend.xp_of(distance).empty(distance.shape)
    kernels.perplexity_weights(len(nearest), distance * distance, nearest.shape[1], perplexity, weight)
    chances = distance_matrix(nearest, weight).astype(np.float64)
    return (chances + chances.T.tocsr()) / (2 * len(nearest))


def optimise(chances, start, *, early_exaggeration=12.0, learning_rate=200.0, n_iter=1000):
    """Move the cells from a start, scaled to a standard deviation of 1e-4: float64 (cells, 2), centred."""
    xp, n_cells = backend.xp_of(chances.data, start), len(start)
    indptr, indices, weight = backend.csr_parts(chances, np.float32)
    y = backend.to_host(start).astype(np.float64)
    spread = y[:, 0].std()
    y = xp.asarray(y * (1e-4 / spread if spread > 0 else 1.0))
    place, pull = y.astype(np.float32), xp.empty((n_cells, 2), dtype=np.float32)
    pushes, gain, speed = Pushes(xp.ones(n_cells, dtype=np.int64), kernels.T_KERNEL), xp.ones((n_cells, 2)), xp.zeros((n_cells, 2))
    for step in range(n_iter):
        push = pushes(y)
        kernels.t_pulls(n_cells, indptr, indices, weight, place, pull)
        factor, momentum = (early_exaggeration, 0.5) if step < EXAGGERATED else (1.0, 0.8)
        options = (pushes.state, pushes.unit, factor, momentum, learning_rate, LONGEST_STEP)
        kernels.t_step(n_cells, pull, push, *options, gain, speed, y, place)
    return y - xp.asarray(backend.to_host(y).mean(axis=0))
