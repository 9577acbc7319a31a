"""ForceAtlas2: the neighbour graph drawn by springs."""

from __future__ import annotations

import math

import numpy as np

from rsc_core import backend, data
from rsc_core.kernels import layout as kernels
from rsc_core.tl._pushes import Pushes
from rsc_core.tl._start import start_positions

LAYOUTS = ("fa",)
JITTER, MOST_JITTER = 0.05, 10.0
LEAST_EFFICIENCY, MOST_SPEED, RISE = 0.05, 1000.0, 0.5


def draw_graph(
    adata,
    layout="fa",
    *,
    init_pos="spectral",
    random_state=0,
    n_iter=500,
    scaling_ratio=2.0,
    gravity=1.0,
    key_added_ext=None,
    neighbors_key=None,
):
    """Draw the neighbour graph with ForceAtlas2 (Jacomy 2014, doi:10.1371/journal.pone.0098679).

    Neighbours pull by weight times distance, all cells push by scaling_ratio m_i m_j / distance with m = neighbours + 1, the
    origin pulls by gravity m_i. Each cell's step is shorter the more its force changes from step to step.

    Parameters
    ----------
    adata
        With a neighbour graph and its representation, on the backend that is to do the work.
    layout
        ``"fa"``.
    init_pos
        As in :func:`rsc_core.tl.umap`.
    random_state
        Seed of a random start, and of the noise of any other.
    n_iter
        Steps.
    scaling_ratio, gravity
        Weights of the push of all cells, and of the pull to the origin.
    key_added_ext
        Ending of the slot; by default the layout.
    neighbors_key
        Key of uns with the graph.

    Returns
    -------
    None. Sets ``obsm['X_draw_graph_fa']`` float32 (cells, 2) and ``uns['draw_graph']``. Isolated cells are pushed outwards until
    the origin's pull balances.

    Notes
    -----
    CPU = GPU bit for bit from equal starts, whatever the number of threads. As the package fa2 with its defaults (and scanpy's
    call of it), but for the sum of the pushes, which is over a pyramid of grids, not a tree.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; it must be one of {LAYOUTS}")
    graph, neighbors = data.connectivities(adata, neighbors_key)
    params = neighbors["params"]
    x = data.representation(adata, params.get("use_rep") or data.default_representation(adata), params.get("n_pcs"))
    start, used = start_positions(adata, graph, x, init_pos, 2, random_state)
    adata.obsm[f"X_draw_graph_{key_added_ext or layout}"] = atlas(graph, start, n_iter, scaling_ratio, gravity).astype(np.float32)
    about = {"layout": layout, "random_state": random_state, "init_pos": used, "n_iter": n_iter, "algorithm": "rsc"}
    adata.uns["draw_graph"] = {"params": about | {"scaling_ratio": scaling_ratio, "gravity": gravity}}


def atlas(graph, start, n_iter=500, scaling_ratio=2.0, gravity=1.0):
    """ForceAtlas2 from a start (cells, 2): float64 (cells, 2) on the backend of the graph."""
    xp, n_cells = backend.xp_of(graph.data, start), len(start)
    indptr, indices, weight = backend.csr_parts(graph, np.float64)
    mass, y = indptr[1:] - indptr[:-1] + 1, start.astype(np.float64)
    pushes, parts = Pushes(mass, kernels.INVERSE), xp.empty((-(-n_cells // kernels.GROUP), 2))
    before, force, swing, pace = xp.zeros((n_cells, 2)), xp.empty((n_cells, 2)), xp.empty(n_cells), xp.ones(2)
    limits = (JITTER * math.sqrt(n_cells), MOST_JITTER, LEAST_EFFICIENCY, MOST_SPEED, RISE)
    for _ in range(n_iter):
        push = pushes(y)
        kernels.atlas_forces(n_cells, indptr, indices, weight, mass, y, push, scaling_ratio, gravity, before, force, swing, parts)
        kernels.atlas_speed(1, parts, len(parts), n_cells, *limits, pace)
        kernels.atlas_step(n_cells, force, swing, pace, y)
        before, force = force, before
    return y
