"""Where the cells of a drawing start."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, rng
from rsc_core.tl._spectral import components, eigenvectors

FEWEST_FOR_SPECTRAL = 10  # cells; of fewer the graph's eigenvectors say little, and the start is random
GRID = 2.0**-12  # starts are rounded to it, so that a last bit of a matrix product does not tell the backends apart
TOLERANCE = 1e-3  # a start needs no better eigenvectors


def start_positions(adata, graph, x, init_pos: str, n_components: int, seed: int):
    """Start of a drawing, and the name of what was used.

    Parameters
    ----------
    adata
        Its obsm may hold a given start.
    graph
        Symmetric CSR.
    x
        Representation (cells, dimensions) for the start from principal components.
    init_pos
        ``"spectral"``: the eigenvectors of D^-1/2 W D^-1/2 after the first; of a graph in several parts, which has a
        first one for each part, ``"pca"`` is used. ``"pca"``: the first principal components of x. ``"random"``:
        uniform. Else a key of obsm.

    Returns
    -------
    float32 (cells, n_components), the largest magnitude 10 (a given start as it is), and the name of what was used
    """
    n_cells = graph.shape[0]
    xp = backend.xp_of(graph.data)
    if init_pos in adata.obsm:
        start = xp.asarray(adata.obsm[init_pos])
        if start.shape != (n_cells, n_components):
            raise ValueError(f"obsm[{init_pos!r}] has shape {start.shape}; a start of shape {(n_cells, n_components)} is needed")
        return xp.ascontiguousarray(start, dtype=xp.float32), init_pos
    if init_pos not in ("spectral", "pca", "random"):
        raise ValueError(f"init_pos is {init_pos!r}; it must be 'spectral', 'pca', 'random' or one of {sorted(adata.obsm)}")
    if init_pos == "spectral" and n_cells < max(FEWEST_FOR_SPECTRAL, n_components + 2):
        init_pos = "random"
    part = backend.to_host(components(graph)) if init_pos == "spectral" else None
    if part is not None and part.any():
        init_pos = "pca"
    places = xp.arange(n_cells * n_components, dtype=np.uint64)
    noise = rng.uniform(seed, "start", places).reshape(n_cells, n_components) - 0.5
    if init_pos == "random":
        return (20 * noise).astype(np.float32), init_pos
    if init_pos == "spectral":
        start = xp.asarray(eigenvectors(graph, n_components + 1, part=part, seed=seed, tolerance=TOLERANCE)[1][1:].T.copy())
    else:
        start = principal_components(x, n_components)
    largest = float(abs(start).max())
    start = xp.rint(start * (10 / largest if largest > 0 else 0) / GRID) * GRID
    return (start + 2e-4 * noise).astype(np.float32), init_pos  # the noise parts duplicated cells


def principal_components(x, n_components: int):
    """The first principal components of (cells, dimensions): float64 (cells, n_components), padded with zeros."""
    xp = backend.xp_of(x)
    x = xp.asarray(x, dtype=xp.float64)
    x = x - x.mean(axis=0)
    vectors = np.linalg.eigh(backend.to_host(x.T @ x))[1][:, ::-1][:, :n_components]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    drawn = x @ xp.asarray(np.ascontiguousarray(vectors * np.where(largest < 0, -1.0, 1.0)))
    return xp.hstack([drawn, xp.zeros((len(x), n_components - drawn.shape[1]))])
