"""UMAP: the neighbour graph drawn in two dimensions."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, data, rng

FEWEST_FOR_SPECTRAL = 10  # cells; below that the eigenvectors of the graph cannot be found, and the start is random


def umap(
    adata,
    *,
    min_dist=0.5,
    spread=1.0,
    n_components=2,
    maxiter=None,
    alpha=1.0,
    gamma=1.0,
    negative_sample_rate=5,
    init_pos="spectral",
    random_state=0,
    key_added=None,
    neighbors_key=None,
):
    """Draw the neighbour graph so that connected cells are close (McInnes, Healy & Melville 2018, arXiv:1802.03426).

    On the host by umap-learn on one thread, called as scanpy calls it; on the device by cuML. Both start from the
    graph's eigenvectors, or from the same random places.

    Parameters
    ----------
    adata
        With a neighbour graph and the representation that it was made from, both on the backend that is to do the work.
    min_dist, spread
        Least distance and scale of the drawn cells; a and b of 1 / (1 + a d^2b) are fitted to them.
    n_components
        Dimensions.
    maxiter
        Epochs; by default 500 for at most 10,000 cells, else 200.
    alpha, gamma, negative_sample_rate
        First step width; weight and number of the cells pushed away for each cell drawn near.
    init_pos
        ``"spectral"``, ``"random"``, or a key of obsm. Fewer than 10 cells start at random.
    random_state
        The same seed gives the same coordinates on the same backend.
    key_added
        Name of the slots; by default ``X_umap`` and ``umap``.
    neighbors_key
        Key of uns with the graph; by default ``neighbors``.

    Returns
    -------
    None. Sets ``obsm['X_umap']`` float32 (cells, n_components) and ``uns['umap']``.

    Notes
    -----
    Coordinates of the two backends differ (turned, mirrored, other steps); trustworthiness and neighbours kept are what
    can be compared. scanpy's coordinates on the same graph are the same to the bit.
    """
    graph, neighbors = data.connectivities(adata, neighbors_key)
    params = neighbors["params"]
    x = data.representation(adata, params.get("use_rep") or data.default_representation(adata), params.get("n_pcs"))
    xp, n_cells = backend.xp_of(graph.data, x), graph.shape[0]
    a, b = fit_ab(spread, min_dist)
    if init_pos in adata.obsm:
        start = adata.obsm[init_pos].astype(np.float32)
    elif init_pos not in ("spectral", "random"):
        raise ValueError(f"init_pos is {init_pos!r}; it must be 'spectral', 'random' or one of {sorted(adata.obsm)}")
    elif init_pos == "random" or n_cells < FEWEST_FOR_SPECTRAL:
        places = xp.arange(n_cells * n_components, dtype=xp.uint64)
        start = (20 * rng.uniform(random_state, "embedding", places) - 10).astype(np.float32).reshape(n_cells, n_components)
    else:
        start = "spectral"
    embed = _umap_learn if xp is np else _cuml
    coordinates = embed(
        data=x,
        graph=graph.tocoo(),
        n_components=n_components,
        initial_alpha=alpha,
        a=a,
        b=b,
        gamma=gamma,
        negative_sample_rate=negative_sample_rate,
        n_epochs=maxiter or (500 if n_cells <= 10_000 else 200),
        init=start,
        random_state=random_state,
        metric=params.get("metric", "euclidean"),
    )
    adata.obsm[key_added or "X_umap"] = coordinates
    adata.uns[key_added or "umap"] = {"params": {"a": a, "b": b, "min_dist": min_dist, "spread": spread, "random_state": random_state}}


def fit_ab(spread: float, min_dist: float) -> tuple[float, float]:
    """a and b for which 1 / (1 + a d^2b) is nearest to 1 below min_dist and exp(-(d - min_dist) / spread) above."""
    from scipy.optimize import curve_fit

    d = np.linspace(0, spread * 3, 300)
    wanted = np.where(d < min_dist, 1.0, np.exp(-(d - min_dist) / spread))
    (a, b), _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), d, wanted)
    return float(a), float(b)


def _umap_learn(*, random_state, **options):
    from umap.umap_ import simplicial_set_embedding

    return simplicial_set_embedding(
        **options, random_state=np.random.RandomState(random_state), metric_kwds={}, densmap=False, densmap_kwds={}, output_dens=False
    )[0].astype(np.float32)


def _cuml(*, data, **options):
    from cuml.manifold.umap import simplicial_set_embedding

    xp = backend.xp_of(data)
    return xp.asarray(simplicial_set_embedding(xp.ascontiguousarray(data, dtype=xp.float32), **options)).astype(xp.float32)
