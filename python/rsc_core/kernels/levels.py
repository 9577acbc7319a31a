"""From one level's graph to the next in community detection (see :mod:`rsc_core.tl._levels`); ``levels.cu`` holds the same for CUDA.

Weights are integers, and arcs of a row may stand in any order: no result depends on it.
"""

import numba
import numpy as np

from rsc_core.kernels.device import GOLDEN, mix64
from rsc_core.kernels.twin import twin

EMPTY = -1


@twin("int64 float32 float32")
def row_maximum(n_items, indptr, weight, out):
    """The largest weight of each row, 0 for none."""
    for v in numba.prange(n_items):
        largest = np.float32(0)
        for e in range(indptr[v], indptr[v + 1]):
            largest = max(largest, weight[e])
        out[v] = largest


@numba.njit(inline="always")
def whole_weight(weight, largest, unit):
    return np.int64(np.rint(np.float64(weight) / largest * unit))


@twin("int64 int32 float32 float64 float64 int64")
def count_arcs(n_items, indptr, indices, weight, largest, unit, count):
    """Arcs of each vertex to others whose weight does not vanish when it is rounded."""
    for v in numba.prange(n_items):
        kept = 0
        for e in range(indptr[v], indptr[v + 1]):
            kept += indices[e] != v and whole_weight(weight[e], largest, unit) > 0
        count[v] = kept


@twin("int64 int32 float32 float64 float64 int64 int32 int64 int64")
def round_arcs(n_items, indptr, indices, weight, largest, unit, new_indptr, neighbor, rounded, degree):
    """The arcs that :func:`count_arcs` counts, with whole weights, and their sum for each vertex."""
    for v in numba.prange(n_items):
        to, total = new_indptr[v], np.int64(0)
        for e in range(indptr[v], indptr[v + 1]):
            whole = whole_weight(weight[e], largest, unit)
            if indices[e] != v and whole > 0:
                neighbor[to], rounded[to] = indices[e], whole
                total += whole
                to += 1
        degree[v] = total


@twin("int32 int32")
def lowest_of_label(n_items, label, lowest):
    """The lowest vertex of each label; ``lowest`` starts above all of them."""
    for v in range(n_items):
        lowest[label[v]] = min(lowest[label[v]], v)


@twin("int32 int32 int32")
def look_up(n_items, place, values, out):
    for i in numba.prange(n_items):
        out[i] = values[place[i]]


@twin("int32 int64")
def flag_heads(n_items, smallest, flag):
    """1 where a vertex is the smallest of its set."""
    for v in numba.prange(n_items):
        flag[v] = smallest[v] == v


@twin("int32 int64 int64 int32 int32 int64")
def number_sets(n_items, smallest, number, representative, vertex, heads, new_representative):
    """The set of each vertex by the number of its smallest; the smallest of each set, and what represents it."""
    for v in numba.prange(n_items):
        vertex[v] = number[smallest[v]]
        if smallest[v] == v:
            heads[number[v]], new_representative[number[v]] = v, representative[v]


@numba.njit
def members_of(vertex, n_sets):
    """The vertices set after set, and where each set begins."""
    first, members = np.zeros(n_sets + 1, np.int64), np.empty(vertex.size, np.int32)
    for v in range(vertex.size):
        first[vertex[v] + 1] += 1
    first = np.cumsum(first)
    filled = first[:-1].copy()
    for v in range(vertex.size):
        members[filled[vertex[v]]] = v
        filled[vertex[v]] += 1
    return members, first


@twin("int64 int32 int32 int64", per_item=32)
def count_between(n_items, indptr, neighbor, vertex, places):
    """Places for the arcs of each set to others: two for each, so that a search for a free one is short."""
    members, first = members_of(vertex[:n_items], places.size)
    for mine in numba.prange(places.size):
        for v in members[first[mine] : first[mine + 1]]:
            for e in range(indptr[v], indptr[v + 1]):
                places[mine] += 2 * (vertex[neighbor[e]] != mine)


@twin("int64 int32 int64 int32 int64 int32 int64 int32 int32 int64", per_item=32)
def gather_arcs(n_items, indptr, neighbor, weight, vertex, bounds, name, total, owner, rank, count):
    """Sum the arcs from each set to each other: ``name`` and ``total`` of a set's places; how many sets it reaches.

    ``owner``, ``rank``: of a place that is taken the set, and how many of its places were taken before.
    """
    members, first = members_of(vertex[:n_items], count.size)
    for mine in numba.prange(count.size):
        start, width = bounds[mine], np.uint64(bounds[mine + 1] - bounds[mine])
        for v in members[first[mine] : first[mine + 1]]:
            for e in range(indptr[v], indptr[v + 1]):
                other = vertex[neighbor[e]]
                if other == mine:
                    continue
                place = np.int64(mix64(np.uint64(other) + GOLDEN) % width)
                while name[start + place] != EMPTY and name[start + place] != other:
                    place = place + 1 if place + 1 < np.int64(width) else 0
                if name[start + place] == EMPTY:
                    name[start + place], owner[start + place], rank[start + place] = other, mine, count[mine]
                    count[mine] += 1
                total[start + place] += weight[e]


@twin("int32 int64 int32 int32 int64 int32 int64")
def pack_arcs(n_items, name, total, owner, rank, indptr, neighbor, weight):
    """The places of each set that are taken one after another."""
    for place in numba.prange(n_items):
        if name[place] != EMPTY:
            to = indptr[owner[place]] + rank[place]
            neighbor[to], weight[to] = name[place], total[place]


@twin("int64 int32 int32 int32 int64")
def lower_labels(n_items, indptr, neighbor, community, label, changed):
    """Lower the label of each vertex, and of the vertex that it names, to the lowest among neighbours in its community."""
    for v in range(n_items):
        lowest = label[v]
        for e in range(indptr[v], indptr[v + 1]):
            if community[neighbor[e]] == community[v]:
                lowest = min(lowest, label[neighbor[e]])
        if lowest < label[v]:
            named = label[v]
            label[named] = min(label[named], lowest)
            label[v] = min(label[v], lowest)
            changed[0] = 1


@twin("int32")
def shorten_labels(n_items, label):
    """Follow labels to a vertex that names itself."""
    for v in range(n_items):
        while label[label[v]] != label[v]:
            label[v] = label[label[v]]


@twin("int64 int32 float32 int32 float64 float64")
def weight_inside(n_items, indptr, indices, weight, label, inside, degree):
    """Of each vertex the weight of its arcs within its community, and of all its arcs, in their order."""
    for v in numba.prange(n_items):
        within, total = 0.0, 0.0
        for e in range(indptr[v], indptr[v + 1]):
            total += weight[e]
            if label[indices[e]] == label[v]:
                within += weight[e]
        inside[v], degree[v] = within, total
