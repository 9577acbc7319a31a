"""A deterministic parallel Leiden algorithm: the same partition on the CPU and the GPU, for any number of threads.

The three phases of Leiden (Traag, Waltman & van Eck 2019): vertices move to the community of highest gain, communities
are refined into well-connected sets, sets become the vertices of the next level. They are made parallel without losing
determinism: vertices act in turns drawn by a counter-based hash of (seed, iteration, level, sweep, smallest member), all
of a turn look at the state before it, and every sum is an integer.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from rsc_core import backend, rng
from rsc_core.kernels import leiden as kernels

WEIGHT_BITS = 10  # weights are multiples of 2^-10: noise of 1e-6 in a weight seldom changes one
TURNS = 4  # a quarter of the vertices acts at once, so that few act on what has just changed
SWEEPS = 16  # more on one level are slower and worse: too few communities are left to aggregate
REFINE_ROUNDS = 16
WAITING_ROUNDS = 8  # rounds in which a vertex waits for the best set, before it takes the best that is available
SMALLEST_GAIN = 1e-9
_MASK = (1 << 64) - 1


@dataclasses.dataclass
class Graph:
    """A level's graph: CSR arrays without self loops, the row of each arc, int64 weights, degrees, smallest cell of a vertex."""

    indptr: object
    row: object
    neighbor: object
    weight: object
    degree: object
    representative: object

    @property
    def n(self) -> int:
        """Number of vertices."""
        return len(self.degree)


def partition(indptr, indices, weight, resolution: float, seed: int, n_iterations: int) -> np.ndarray:
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
        Passes over the whole algorithm, each from the partition of the last; fewer when one gains nothing.

    Returns
    -------
    int64 (cells,) on the host: the smallest member of the cell's community. Every community is connected. Equal bits on
    both backends. Modularity as igraph's within 0.1 %.
    """
    whole = integer_graph(indptr, indices, weight)
    xp = backend.xp_of(whole.degree)
    best = part = xp.arange(whole.n, dtype=np.int32)
    total = int(whole.degree.sum())
    if total == 0:
        return backend.to_host(best).astype(np.int64)
    highest = -np.inf
    for iteration in range(n_iterations):
        part = connected(whole, one_pass(whole, part, total, resolution, seed, iteration))
        reached = quality(whole, part, total, resolution)
        gain = reached - highest
        if gain > 0:
            best, highest = part, reached
        if gain <= SMALLEST_GAIN:
            break
    return backend.to_host(best).astype(np.int64)


def integer_graph(indptr, indices, weight) -> Graph:
    """Weights scaled to at most 1 and rounded to multiples of 2^-WEIGHT_BITS; arcs that vanish and self loops left out."""
    xp, n = backend.xp_of(indptr), len(indptr) - 1
    largest = float(weight.max()) if len(weight) else 1.0
    whole = xp.rint(weight.astype(np.float64) / max(largest, 1.0) * (1 << WEIGHT_BITS)).astype(np.int64)
    row = rows_of(indptr, len(indices))
    kept = xp.flatnonzero((whole > 0) & (row != indices))
    return _graph(n, row[kept], xp.ascontiguousarray(indices[kept]), whole[kept], xp.arange(n, dtype=np.int64))


def rows_of(indptr, n_arcs: int):
    """The row of each arc, int64."""
    xp = backend.xp_of(indptr)
    return xp.searchsorted(indptr, xp.arange(n_arcs, dtype=np.int64), side="right") - 1


def _graph(n, row, neighbor, weight, representative) -> Graph:
    """A graph from arcs sorted by row."""
    xp = backend.xp_of(representative)
    indptr = xp.searchsorted(row, xp.arange(n + 1, dtype=np.int64)).astype(np.int64)
    return Graph(indptr, row, neighbor, weight, segment_sums(weight, indptr), representative)


def segment_sums(values, bounds):
    """Sums of int64 values between neighbouring bounds."""
    xp = backend.xp_of(values, bounds)
    running = xp.zeros(len(values) + 1, dtype=np.int64)
    xp.cumsum(values, out=running[1:])
    return running[bounds[1:]] - running[bounds[:-1]]


def run_starts(in_order):
    """Where a value differs from the one before it: bool, True for the first."""
    first = backend.xp_of(in_order).ones(len(in_order), dtype=bool)
    first[1:] = in_order[1:] != in_order[:-1]
    return first


def smallest_member(labels):
    """For each vertex the smallest vertex with the same label, int32."""
    xp, n = backend.xp_of(labels), len(labels)
    order = xp.argsort(labels, kind="stable")
    first = run_starts(labels[order])
    heads = order[xp.flatnonzero(first)]
    smallest = xp.empty(n, dtype=np.int32)
    smallest[order] = heads[xp.cumsum(first) - 1]
    return smallest


def one_pass(whole: Graph, part, total: int, resolution: float, seed: int, iteration: int):
    """Move, refine and aggregate until every community is one vertex; the community of each cell, int32."""
    xp = backend.xp_of(part)
    graph, community, vertex_of_cell, level = whole, part.copy(), xp.arange(whole.n, dtype=np.int32), 0
    while True:
        size = move(graph, community, float(total), resolution, (seed, iteration, level, 0))
        if int((size > 0).sum()) == graph.n:
            return community[vertex_of_cell]
        refined = refine(graph, community, float(total), resolution, (seed, iteration, level, 2))
        smallest = smallest_member(refined)
        if int((smallest == xp.arange(graph.n)).sum()) == graph.n:  # nothing was merged
            smallest = smallest_member(community)
        graph, vertex, heads = aggregate(graph, smallest)
        community = smallest_member(community[heads])
        vertex_of_cell = vertex[vertex_of_cell]
        level += 1


def move(graph: Graph, community, total: float, resolution: float, place: tuple):
    """Let vertices move to the community of highest gain, in turns, until none does; changes ``community``.

    Returns
    -------
    int64 (vertices,): sizes of the communities.
    """
    xp = backend.xp_of(community)
    community_total, size = xp.zeros(graph.n, dtype=np.int64), xp.zeros(graph.n, dtype=np.int64)
    kernels.community_totals(graph.n, community, graph.degree, community_total, size)
    active, flag = xp.ones(graph.n, dtype=np.uint8), xp.empty(graph.n, dtype=np.uint8)
    arcs = (graph.indptr, graph.neighbor, graph.weight)
    for sweep in range(SWEEPS):
        n_moved = 0
        for turn in range(TURNS):
            kernels.in_turn(graph.n, active, graph.representative, _key(*place, sweep), turn, TURNS, flag)
            vertices = xp.flatnonzero(flag).astype(np.int32)
            if not len(vertices):
                continue
            target, moved = xp.empty(len(vertices), dtype=np.int32), xp.empty(len(vertices), dtype=np.uint8)
            state = (community, community_total, size, graph.degree)
            kernels.best_community(len(vertices), vertices, *arcs, *state, total, resolution, target)
            kernels.move_totals(len(vertices), vertices, target, community, graph.degree, community_total, size, active, moved)
            community[vertices] = target
            kernels.wake_neighbors(len(vertices), vertices, moved, graph.indptr, graph.neighbor, community, active)
            n_moved += int(moved.sum())
        if n_moved == 0:
            break
    return size


def refine(graph: Graph, community, total: float, resolution: float, place: tuple):
    """Split each community into connected sets: single vertices join sets of their own community by gain.

    Only single vertices move, along an edge, into a set that loses nobody in the same round: sets stay connected.
    """
    xp, n = backend.xp_of(community), graph.n
    community_total, size = xp.zeros(n, dtype=np.int64), xp.zeros(n, dtype=np.int64)
    kernels.community_totals(n, community, graph.degree, community_total, size)
    refined, set_total, set_size = xp.arange(n, dtype=np.int32), graph.degree.copy(), xp.ones(n, dtype=np.int64)
    outside, done, flag = xp.empty(n, dtype=np.int64), xp.zeros(n, dtype=np.uint8), xp.empty(n, dtype=np.uint8)
    arcs = (graph.indptr, graph.neighbor, graph.weight)
    kernels.inner_weight(n, *arcs, community, outside)
    for number in range(REFINE_ROUNDS):
        key, waiting = _key(*place, number), number < WAITING_ROUNDS
        kernels.may_join(n, set_size, done, graph.representative, key, flag)
        vertices = xp.flatnonzero(flag).astype(np.int32)
        if not len(vertices):
            continue
        target = xp.empty(len(vertices), dtype=np.int32)
        sets = (community, refined, community_total, set_total, outside, set_size, graph.degree)
        kernels.best_set(len(vertices), vertices, *arcs, *sets, total, resolution, key, graph.representative, waiting, target)
        joining = xp.flatnonzero(target != vertices)
        movers, target = vertices[joining], target[joining]
        joins = xp.zeros(n, dtype=np.uint8)
        joins[movers], refined[movers] = 1, target
        kernels.join_sets(len(movers), movers, target, *arcs, community, refined, joins, graph.degree, outside, set_total, set_size)
        if not waiting:
            done[vertices] = 1
    return refined


def aggregate(graph: Graph, smallest):
    """The graph of the sets, numbered by their smallest member.

    Parameters
    ----------
    smallest
        The smallest vertex of each vertex's set, int32.

    Returns
    -------
    graph, the set of each vertex int32 (vertices,), the smallest vertex of each set int64 (sets,).
    """
    xp = backend.xp_of(smallest)
    is_head = smallest == xp.arange(graph.n)
    heads = xp.flatnonzero(is_head)
    vertex = (xp.cumsum(is_head) - 1)[smallest].astype(np.int32)
    n = len(heads)
    row, column = vertex[graph.row], vertex[graph.neighbor]
    between = xp.flatnonzero(row != column)
    key = row[between].astype(np.int64) * n + column[between]
    order = xp.argsort(key)  # equal keys are added up as integers: their order does not matter
    key, weight = key[order], graph.weight[between[order]]
    starts = xp.flatnonzero(run_starts(key))
    bounds = xp.append(starts, xp.asarray([len(key)], dtype=starts.dtype))
    key = key[starts]
    new = _graph(n, key // n, (key % n).astype(np.int32), segment_sums(weight, bounds), graph.representative[heads])
    members = xp.argsort(vertex, kind="stable")
    ends = xp.searchsorted(vertex[members], xp.arange(n + 1, dtype=np.int64))
    new.degree = segment_sums(graph.degree[members], ends)  # arcs inside a set count, too
    return new, vertex, heads


def connected(graph: Graph, part):
    """The communities, each split into its connected parts and named after the smallest member."""
    import scipy.sparse as sp
    from scipy.sparse.csgraph import connected_components

    xp = backend.xp_of(part)
    row, neighbor, labels = (backend.to_host(a) for a in (graph.row, graph.neighbor, part))
    inside = labels[row] == labels[neighbor]
    edges = sp.coo_matrix((np.ones(inside.sum(), dtype=np.int8), (row[inside], neighbor[inside])), shape=(graph.n, graph.n))
    return xp.asarray(smallest_member(connected_components(edges, directed=False)[1]))


def quality(graph: Graph, part, total: int, resolution: float) -> float:
    """Modularity: exact integers up to the last division."""
    xp = backend.xp_of(part)
    inside = xp.empty(graph.n, dtype=np.int64)
    kernels.inner_weight(graph.n, graph.indptr, graph.neighbor, graph.weight, part, inside)
    sums, size = xp.zeros(graph.n, dtype=np.int64), xp.zeros(graph.n, dtype=np.int64)
    kernels.community_totals(graph.n, part, graph.degree, sums, size)
    sums = backend.to_host(sums)
    return int(inside.sum()) / total - resolution * (sum(int(s) ** 2 for s in sums[sums > 0]) / total**2)


def _key(*numbers: int) -> np.uint64:
    """One key of (seed, iteration, level, phase, sweep)."""
    key = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        key = rng.mix64((key ^ np.uint64(number & _MASK)) + np.uint64(rng.GOLDEN))
    return key[0]
