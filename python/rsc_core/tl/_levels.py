"""Graphs of whole weights, and the way from one level of community detection to the next."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rsc_core import backend
from rsc_core.kernels import leiden as steps
from rsc_core.kernels import levels as kernels
from rsc_core.scan import running_sums
from rsc_core.tl._parts import connected_parts

WEIGHT_BITS = 10  # weights are multiples of 2^-10: noise of 1e-6 in a weight seldom changes one


@dataclasses.dataclass
class Graph:
    """A level's graph: CSR arrays without self loops, int64 weights, degrees, smallest cell of a vertex."""

    indptr: object
    neighbor: object
    weight: object
    degree: object
    representative: object

    @property
    def n(self) -> int:
        """Number of vertices."""
        return len(self.degree)

    @property
    def arcs(self) -> tuple:
        """The CSR arrays."""
        return self.indptr, self.neighbor, self.weight


def integer_graph(indptr, indices, weight) -> Graph:
    """Weights scaled to at most 1 and rounded to multiples of 2^-WEIGHT_BITS; arcs that vanish and self loops left out."""
    xp, n, unit = backend.xp_of(indptr), len(indptr) - 1, float(1 << WEIGHT_BITS)
    maximum, count, degree = xp.empty(n, dtype=np.float32), xp.empty(n, dtype=np.int64), xp.empty(n, dtype=np.int64)
    kernels.row_maximum(n, indptr, weight, maximum)
    largest = max(float(backend.to_host(maximum).max(initial=0)), 1.0)
    kernels.count_arcs(n, indptr, indices, weight, largest, unit, count)
    kept = running_sums(count)
    neighbor, rounded = (xp.empty(int(kept[-1]), dtype=t) for t in (np.int32, np.int64))
    kernels.round_arcs(n, indptr, indices, weight, largest, unit, kept, neighbor, rounded, degree)
    return Graph(kept, neighbor, rounded, degree, xp.arange(n, dtype=np.int64))


def looked_up(place, values):
    """``values[place]`` of int32 arrays."""
    out = backend.xp_of(place, values).empty(len(place), dtype=np.int32)
    kernels.look_up(len(place), place, values, out)
    return out


def smallest_member(labels, n_labels: int):
    """For each vertex the smallest vertex with the same label (int32, below ``n_labels``); int32."""
    lowest = backend.xp_of(labels).full(n_labels, np.iinfo(np.int32).max, dtype=np.int32)
    kernels.lowest_of_label(len(labels), labels, lowest)
    return looked_up(labels, lowest)


def aggregate(graph: Graph, smallest, n: int):
    """The graph of the sets, numbered by their smallest member.

    Parameters
    ----------
    smallest
        The smallest vertex of each vertex's set, int32.
    n
        How many sets there are.

    Returns
    -------
    graph, the set of each vertex int32 (vertices,), the smallest vertex of each set int32 (sets,).
    """
    xp, whole = backend.xp_of(smallest), np.int64
    flag, vertex = xp.empty(graph.n, dtype=whole), xp.empty(graph.n, dtype=np.int32)
    kernels.flag_heads(graph.n, smallest, flag)
    number = running_sums(flag)
    heads, representative = xp.empty(n, dtype=np.int32), xp.empty(n, dtype=whole)
    kernels.number_sets(graph.n, smallest, number, graph.representative, vertex, heads, representative)
    places, reached, degree, size = xp.zeros((4, n), dtype=whole)
    kernels.count_between(graph.n, graph.indptr, graph.neighbor, vertex, places)
    bounds = running_sums(places)
    n_places = int(bounds[-1])
    name, total = xp.full(n_places, kernels.EMPTY, dtype=np.int32), xp.zeros(n_places, dtype=whole)
    owner, rank = xp.empty((2, n_places), dtype=np.int32)
    kernels.gather_arcs(graph.n, *graph.arcs, vertex, bounds, name, total, owner, rank, reached)
    indptr = running_sums(reached)
    n_arcs = int(indptr[-1])
    neighbor, weight = xp.empty(n_arcs, dtype=np.int32), xp.empty(n_arcs, dtype=whole)
    kernels.pack_arcs(n_places, name, total, owner, rank, indptr, neighbor, weight)
    steps.community_totals(graph.n, vertex, graph.degree, degree, size)  # arcs inside a set count, too
    return Graph(indptr, neighbor, weight, degree, representative), vertex, heads


def connected(graph: Graph, part):
    """The communities, each split into its connected parts and named after the smallest member."""
    return connected_parts(graph.indptr, graph.neighbor, part)


def quality(graph: Graph, part, total: int, resolution: float) -> float:
    """Modularity: exact integers up to the last division."""
    xp = backend.xp_of(part)
    inside, sums, size = xp.empty(graph.n, dtype=np.int64), xp.zeros(graph.n, dtype=np.int64), xp.zeros(graph.n, dtype=np.int64)
    steps.inner_weight(graph.n, *graph.arcs, part, inside)
    steps.community_totals(graph.n, part, graph.degree, sums, size)
    sums = backend.to_host(sums)
    return int(backend.to_host(inside).sum()) / total - resolution * (sum(int(s) ** 2 for s in sums[sums > 0]) / total**2)


def modularity(indptr, indices, weight, labels: np.ndarray, resolution: float) -> float:
    """:func:`rsc_core.metrics.modularity` of a graph on either backend, with the same bits on both.

    Parameters
    ----------
    indptr, indices, weight
        CSR arrays of one backend: int64, int32, float32.
    labels
        Integers from 0 of the host (cells,).
    """
    xp, n = backend.xp_of(indptr), len(labels)
    inside, degree = xp.empty(n), xp.empty(n)
    kernels.weight_inside(n, indptr, indices, weight, xp.asarray(labels.astype(np.int32)), inside, degree)
    inside, degree = backend.to_host(inside), backend.to_host(degree)
    total = math.fsum(degree.tolist())
    if total == 0:
        return 0.0
    return math.fsum(inside.tolist()) / total - resolution * float(((np.bincount(labels, weights=degree) / total) ** 2).sum())
