"""Deterministic parallel Leiden and Louvain: the same partition on the CPU and the GPU, for any number of threads.

The three phases of Leiden (Traag, Waltman & van Eck 2019): vertices move to the community of highest gain, communities
are refined into well-connected sets, sets become the vertices of the next level. They are made parallel without losing
determinism: vertices act in turns drawn by a counter-based hash of (seed, iteration, level, sweep, smallest member), all
of a turn look at the state before it, and every sum is an integer. Louvain (Blondel et al. 2008) is the same without the
refinement.
"""

from __future__ import annotations

import functools

import numpy as np

from rsc_core import backend, rng
from rsc_core.kernels import leiden as kernels
from rsc_core.tl._levels import Graph, aggregate, connected, integer_graph, looked_up, quality, smallest_member

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
        community_total, found = move(graph, community, float(total), resolution, (seed, iteration, level, 0))
        sets, n_sets = community, int(found[0])
        if n_sets == graph.n:
            return looked_up(vertex_of_cell, community)
        if refined:
            split, found = refine(graph, community, community_total, float(total), resolution, (seed, iteration, level, 2))
            if int(found[0]) < graph.n:
                sets, n_sets = split, int(found[0])
        n_before = graph.n
        graph, vertex, heads = aggregate(graph, smallest_member(sets, n_before), n_sets)
        community = smallest_member(looked_up(heads, community), n_before)
        vertex_of_cell = looked_up(vertex_of_cell, vertex)
        level += 1


def move(graph: Graph, community, total: float, resolution: float, place: tuple):
    """Let vertices move to the community of highest gain, in turns, until none does; changes ``community``.

    Returns
    -------
    Degrees of the communities, int64 (vertices,), and how many there are, int64 (1,) on the backend.
    """
    xp, n = backend.xp_of(community), graph.n
    community_total, size, found, counters = (xp.zeros(k, dtype=np.int64) for k in (n, n, 1, 1 + 4 * SWEEPS * TURNS))
    active, listed, target = xp.ones(n, dtype=np.uint8), xp.empty((TURNS + 1) * n, dtype=np.int32), xp.empty(n, dtype=np.int32)
    fixed = (*graph.arcs, graph.degree, graph.representative, total, resolution, _key(*place), SWEEPS, TURNS)
    kernels.move_vertices(n, *fixed, community, community_total, size, active, listed, target, found, counters)
    return community_total, found


def refine(graph: Graph, community, community_total, total: float, resolution: float, place: tuple):
    """Split each community into connected sets: single vertices join sets of their own community by gain.

    Only single vertices move, along an edge, into a set that loses nobody in the same round: sets stay connected.

    Returns
    -------
    The set of each vertex, named after a member, int32 (vertices,), and how many there are, int64 (1,) on the backend.
    """
    xp, n = backend.xp_of(community), graph.n
    refined, target, listed = (xp.empty(k, dtype=np.int32) for k in (n, n, 2 * n))
    set_total, set_size, outside = (xp.empty(n, dtype=np.int64) for _ in range(3))
    done, joined = (xp.empty(n, dtype=np.uint8) for _ in range(2))
    found, counters = (xp.zeros(k, dtype=np.int64) for k in (1, 3 + 4 * REFINE_ROUNDS))
    fixed = (*graph.arcs, graph.degree, graph.representative, total, resolution, _key(*place), REFINE_ROUNDS, WAITING_ROUNDS)
    state = (refined, set_total, set_size, outside, done, joined)
    kernels.form_sets(n, *fixed, community, community_total, *state, listed, target, found, counters)
    return refined, found


@functools.lru_cache(maxsize=4096)
def _key(*numbers: int) -> np.uint64:
    """One key of (seed, iteration, level, phase)."""
    if not numbers:
        return np.uint64(0)
    last = np.array([numbers[-1] & _MASK], dtype=np.uint64)
    return rng.mix64((_key(*numbers[:-1]) ^ last) + np.uint64(rng.GOLDEN))[0]
