"""UMAP: the neighbour graph drawn in two dimensions."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, data, rng
from rsc_core.kernels import umap as kernels
from rsc_core.tl._start import FEWEST_FOR_SPECTRAL, start_positions

IMPLEMENTATIONS = ("rsc", "library")


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
    impl="rsc",
):
    """Draw the neighbour graph so that connected cells are close (McInnes, Healy & Melville 2018, arXiv:1802.03426).

    Edges pull with the gradient of log(1 / (1 + a d^2b)) as often as their weight says, random cells push with that of
    log(1 - 1 / (1 + a d^2b)). Umap-learn moves one edge after the other; here, in an epoch, every cell is moved by its
    own edges while the others stay where the epoch before left them, so that cells can be moved at the same time.

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
        ``"spectral"`` (a graph in several parts, whose eigenvectors say nothing about their order, starts from ``"pca"``),
        ``"pca"`` (of the representation), ``"random"``, or a key of obsm. Fewer than 10 cells start at random.
    random_state
        The same seed gives the same coordinates.
    key_added
        Name of the slots; by default ``X_umap`` and ``umap``.
    neighbors_key
        Key of uns with the graph; by default ``neighbors``.
    impl
        ``"rsc"``, or ``"library"``: umap-learn on the host on one thread, called as scanpy calls it, cuML on the device.

    Returns
    -------
    None. Sets ``obsm['X_umap']`` float32 (cells, n_components) and ``uns['umap']``. Isolated cells are pushed by nobody and
    stay at their start.

    Notes
    -----
    ``"rsc"``: CPU = GPU bit for bit, for any number of threads, from equal starts (those from principal components differ
    in a last bit before they are rounded). Against umap-learn only quality can be compared. ``"library"``: scanpy's
    coordinates to the bit on the host; other ones on the device.
    """
    graph, neighbors = data.connectivities(adata, neighbors_key)
    params = neighbors["params"]
    x = data.representation(adata, params.get("use_rep") or data.default_representation(adata), params.get("n_pcs"))
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl is {impl!r}; it must be one of {IMPLEMENTATIONS}")
    xp, n_cells = backend.xp_of(graph.data, x), graph.shape[0]
    a, b = fit_ab(spread, min_dist)
    n_epochs = maxiter or (500 if n_cells <= 10_000 else 200)
    options = {"a": a, "b": b, "gamma": gamma, "negative_sample_rate": negative_sample_rate, "n_epochs": n_epochs}
    options |= {"initial_alpha": alpha, "random_state": random_state}
    if impl == "rsc":
        start, used = start_positions(adata, graph, x, init_pos, n_components, random_state)
        coordinates = optimise(graph, start, **options)
    else:
        start, used = _library_start(adata, n_cells, init_pos, n_components, random_state, xp)
        options |= {"metric": params.get("metric", "euclidean"), "n_components": n_components}
        coordinates = (_umap_learn if xp is np else _cuml)(data=x, graph=graph.tocoo(), init=start, **options)
    adata.obsm[key_added or "X_umap"] = coordinates
    about = {"a": a, "b": b, "min_dist": min_dist, "spread": spread, "random_state": random_state}
    about |= {"init_pos": used, "n_epochs": n_epochs, "algorithm": "rsc" if impl == "rsc" else "umap-learn" if xp is np else "cuml"}
    adata.uns[key_added or "umap"] = {"params": about}


def optimise(graph, start, *, a, b, gamma=1.0, negative_sample_rate=5, n_epochs=200, initial_alpha=1.0, random_state=0):
    """Move the cells from a start: float32 (cells, dimensions) on the backend of the graph."""
    xp, (n_cells, n_dims) = backend.xp_of(graph.data, start), start.shape
    indptr, indices, weight = backend.csr_parts(graph, np.float64)
    heaviest = float(weight.max()) if weight.size else 1.0
    share = xp.rint(weight * (2.0**kernels.SHARE_BITS / heaviest)).astype(xp.int32)
    attraction, repulsion = (xp.asarray(table) for table in force_tables(a, b, gamma))
    old, moved = start.copy(), xp.empty_like(start)
    seed = np.uint64(random_state & (2**64 - 1))
    for epoch in range(1, n_epochs + 1):
        rate = initial_alpha * (1 - (epoch - 1) / n_epochs)
        drawing = (n_dims, epoch, negative_sample_rate, seed, rng.PURPOSES["umap"], rate)
        kernels.umap_epoch(n_cells, indptr, indices, share, old, attraction, repulsion, *drawing, moved)
        old, moved = moved, old
    return old


def force_tables(a: float, b: float, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Pull of an edge and push of a random cell, each to be multiplied by the vector between the two, float32, by squared distance.

    -2ab d^(2b-2) / (1 + a d^2b) and 2 gamma b / ((0.001 + d^2) (1 + a d^2b)); entries lie at 2^7 places of each octave of
    d^2 from 2^-24 to 2^40, so that linear interpolation errs by less than 1e-5 of the value.
    """
    octave = 1 << (23 - kernels.STEP_BITS)
    place = np.arange(kernels.TABLE_SIZE)
    square = (1 + place % octave / octave) * 2.0 ** (kernels.FIRST_EXPONENT + place // octave)
    pull = -2 * a * b * square ** (b - 1) / (1 + a * square**b)
    push = 2 * gamma * b / ((0.001 + square) * (1 + a * square**b))
    return pull.astype(np.float32), push.astype(np.float32)


def fit_ab(spread: float, min_dist: float) -> tuple[float, float]:
    """a and b for which 1 / (1 + a d^2b) is nearest to 1 below min_dist and exp(-(d - min_dist) / spread) above."""
    from scipy.optimize import curve_fit

    d = np.linspace(0, spread * 3, 300)
    wanted = np.where(d < min_dist, 1.0, np.exp(-(d - min_dist) / spread))
    (a, b), _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), d, wanted)
    return float(a), float(b)


def _library_start(adata, n_cells, init_pos, n_components, random_state, xp):
    """What the libraries take as ``init``, and its name."""
    if init_pos in adata.obsm:
        return adata.obsm[init_pos].astype(np.float32), init_pos
    if init_pos not in ("spectral", "random"):
        raise ValueError(f"init_pos is {init_pos!r}; it must be 'spectral', 'random' or one of {sorted(adata.obsm)}")
    if init_pos == "spectral" and n_cells >= FEWEST_FOR_SPECTRAL:
        return "spectral", init_pos
    places = xp.arange(n_cells * n_components, dtype=np.uint64)
    return (20 * rng.uniform(random_state, "start", places) - 10).astype(np.float32).reshape(n_cells, n_components), "random"


def _umap_learn(*, random_state, **options):
    from umap.umap_ import simplicial_set_embedding

    return simplicial_set_embedding(
        **options, random_state=np.random.RandomState(random_state), metric_kwds={}, densmap=False, densmap_kwds={}, output_dens=False
    )[0].astype(np.float32)


def _cuml(*, data, **options):
    from cuml.manifold.umap import simplicial_set_embedding

    xp = backend.xp_of(data)
    return xp.asarray(simplicial_set_embedding(xp.ascontiguousarray(data, dtype=xp.float32), **options)).astype(xp.float32)
