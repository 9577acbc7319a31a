"""Deterministic parallel Leiden and Louvain: the same partition on the CPU and the GPU, for any number of threads.

The three phases of Leiden (Traag, Waltman & van Eck 2019): vertices move to the community of highest gain, communities
are refined into well-connected sets, sets become the vertices of the next level. They are made parallel without losing
determinism: vertices act in turns drawn by a counter-based hash of (seed, iteration, level, sweep, smallest member), all
of a turn look at the state before it, and every sum is an integer. Louvain (Blondel et al. 2008) is the same without the
refinement.
"""

from __future__ import annotations

import numpy as np

from rsc_core import backend, rng
from rsc_core.kernels import leiden as kernels
from rsc_core.tl._levels import Graph, aggregate, connected, count_positive, integer_graph, looked_up, quality, smallest_member

TURNS = 4  # a quarter of the vertices acts at once, so that few act on what has just changed
SWEEPS = 16  # more on one level are slower and worse: too few communities are left to aggregate
REFINE_ROUNDS = 16
WAITING_ROUNDS = 8  # rounds in which a vertex waits for the best set, before it takes the best that is available
SMALLEST_GAIN = 1e-9
STARTS, FEW_CELLS = 4, 20_000  # graphs of few cells are started several times: there single runs scatter by some 0.5 %
_MASK = (1 << 64) - 1


def partition(indptr, indices, weight, resolution: float, seed: int, n_iterations: int, refined: bool = True) -> np.ndarray:
    """Communities of a symmetric graph.

    Parameters
    ----------
    indptr, indices, weight
        CSR arrays of one backend: int64 (cells + 1,), int32, float32; every edge stands twice.
    resolution
        Above 0.
    seed
        Any integer.
    n_iterations
        Passes over the whole algorithm, each from the partition of the last; fewer when one gains nothing. Up to
        ``FEW_CELLS`` cells, the best of ``STARTS`` such runs.
    refined
        Leiden; False: Louvain, whose communities become the vertices of the next level as they are.

    Returns
    -------
    int64 (cells,) on the host: the smallest member of the cell's community. Every community is connected. Equal bits on
    both backends.
    """
    whole = integer_graph(indptr, indices, weight)
    xp = backend.xp_of(whole.degree)
    best = part = xp.arange(whole.n, dtype=np.int32)
    total = int(backend.to_host(whole.degree).sum())
    if total == 0:
        return backend.to_host(best).astype(np.int64)
    found, singletons = -np.inf, part
    for start in range(STARTS if whole.n <= FEW_CELLS else 1):
        part, highest = singletons, -np.inf
        for iteration in range(start * n_iterations, (start + 1) * n_iterations):
            part = connected(whole, one_pass(whole, part, total, resolution, seed, iteration, refined))
            reached = quality(whole, part, total, resolution)
            gain, highest = reached - highest, max(reached, highest)
            if reached > found:
                best, found = part, reached
            if gain <= SMALLEST_GAIN:
                break
    return backend.to_host(best).astype(np.int64)


def one_pass(whole: Graph, part, total: int, resolution: float, seed: int, iteration: int, refined: bool):
    """Move, refine and aggregate until every community is one vertex; the community of each cell, int32."""
    xp = backend.xp_of(part)
    graph, community, vertex_of_cell, level = whole, part.copy(), xp.arange(whole.n, dtype=np.int32), 0
    while True:
        size = move(graph, community, float(total), resolution, (seed, iteration, level, 0))
        if count_positive(size) == graph.n:
            return looked_up(vertex_of_cell, community)
        sets = community
        if refined:
            found, set_size = refine(graph, community, float(total), resolution, (seed, iteration, level, 2))
            if count_positive(set_size) < graph.n:
                sets = found
        n_before = graph.n
        graph, vertex, heads = aggregate(graph, smallest_member(sets, n_before))
        community = smallest_member(looked_up(heads, community), n_before)
        vertex_of_cell = looked_up(vertex_of_cell, vertex)
        level += 1


def move(graph: Graph, community, total: float, resolution: float, place: tuple):
    """Let vertices move to the community of highest gain, in turns, until none does; changes ``community``.

    Returns
    -------
    int64 (vertices,): sizes of the communities.
    """
    xp, n = backend.xp_of(community), graph.n
    community_total, size = xp.zeros(n, dtype=np.int64), xp.zeros(n, dtype=np.int64)
    kernels.community_totals(n, community, graph.degree, community_total, size)
    active, moved, n_moved = xp.ones(n, dtype=np.uint8), xp.empty(n, dtype=np.uint8), xp.zeros(SWEEPS, dtype=np.int64)
    vertices, target, count = xp.empty(n, dtype=np.int32), xp.empty(n, dtype=np.int32), xp.zeros((SWEEPS, TURNS), dtype=np.int64)
    arcs, state = (graph.indptr, graph.neighbor, graph.weight), (community, community_total, size, graph.degree)
    for sweep in range(SWEEPS):
        key = _key(*place, sweep)
        for turn in range(TURNS):
            listed = count[sweep, turn : turn + 1]
            kernels.in_turn(n, active, graph.representative, key, turn, TURNS, vertices, listed)
            kernels.best_community(n, listed, vertices, *arcs, *state, total, resolution, target)
            movers = (community, graph.degree, community_total, size, active, moved, n_moved[sweep : sweep + 1])
            kernels.move_vertices(n, listed, vertices, target, *movers)
            kernels.wake_neighbors(n, listed, vertices, moved, graph.indptr, graph.neighbor, community, active)
        if not int(n_moved[sweep]):  # the one number that the host waits for
            break
    return size


def refine(graph: Graph, community, total: float, resolution: float, place: tuple):
    """Split each community into connected sets: single vertices join sets of their own community by gain.

    Only single vertices move, along an edge, into a set that loses nobody in the same round: sets stay connected.

    Returns
    -------
    The set of each vertex, named after a member, int32; sizes of the sets by that name, int64.
    """
    xp, n = backend.xp_of(community), graph.n
    community_total, size = xp.zeros(n, dtype=np.int64), xp.zeros(n, dtype=np.int64)
    kernels.community_totals(n, community, graph.degree, community_total, size)
    refined, set_total, set_size = xp.arange(n, dtype=np.int32), graph.degree.copy(), xp.ones(n, dtype=np.int64)
    outside, done, joins = xp.empty(n, dtype=np.int64), xp.zeros(n, dtype=np.uint8), xp.empty(n, dtype=np.uint8)
    vertices, target, count = xp.empty(n, dtype=np.int32), xp.empty(n, dtype=np.int32), xp.zeros(REFINE_ROUNDS, dtype=np.int64)
    arcs = (graph.indptr, graph.neighbor, graph.weight)
    kernels.inner_weight(n, *arcs, community, outside)
    for number in range(REFINE_ROUNDS):
        key, waiting, listed = _key(*place, number), number < WAITING_ROUNDS, count[number : number + 1]
        kernels.may_join(n, set_size, done, graph.representative, key, vertices, listed)
        sets = (community, refined, community_total, set_total, outside, set_size, graph.degree)
        kernels.best_set(n, listed, vertices, *arcs, *sets, total, resolution, key, graph.representative, waiting, target)
        joins[:] = 0
        kernels.choose_sets(n, listed, vertices, target, waiting, refined, joins, done)
        joined = (graph.degree, outside, set_total, set_size)
        kernels.join_sets(n, listed, vertices, target, *arcs, community, refined, joins, *joined)
    return refined, set_size


def _key(*numbers: int) -> np.uint64:
    """One key of (seed, iteration, level, phase, sweep)."""
    key = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        key = rng.mix64((key ^ np.uint64(number & _MASK)) + np.uint64(rng.GOLDEN))
    return key[0]
