"""Steps of the deterministic Leiden and Louvain algorithms (see :mod:`rsc_core.tl._partition`); ``leiden.cu`` holds the same for CUDA.

Weights are integers, so that their sums do not depend on the order; a gain is one float64 expression of exact integers;
ties go to the smallest number. Any number of threads therefore gives the same bits.
"""

import numba
import numpy as np

from rsc_core.kernels.device import GOLDEN, mix64
from rsc_core.kernels.twin import twin

SCANNED = 64  # up to so many arcs, communities are told apart by comparing all pairs; beyond, by sorting


@numba.njit(inline="always")
def vertex_hash(key, representative):
    return mix64((key ^ (np.uint64(representative) * np.uint64(0xD1342543DE82EF95))) + GOLDEN)


@twin("int32 int64 int64 int64")
def community_totals(n_items, community, degree, total, size):
    for v in range(n_items):
        total[community[v]] += degree[v]
        size[community[v]] += 1


@twin("uint8 int64 uint64 int64 int64 int32 int64")
def in_turn(n_items, active, representative, key, turn, n_turns, vertices, count):
    """List the active vertices of a turn; in any order, for they act at once."""
    for v in range(n_items):
        if active[v] != 0 and np.int64((vertex_hash(key, representative[v]) >> np.uint64(32)) % np.uint64(n_turns)) == turn:
            vertices[count[0]] = v
            count[0] += 1


@numba.njit
def arc_sums(v, indptr, neighbor, weight, label, within, label_of):
    """Labels of v's neighbours of community ``within`` (-1: any), each once, and the weight of the arcs to each."""
    start, stop = indptr[v], indptr[v + 1]
    names, sums = np.empty(stop - start, np.int32), np.zeros(stop - start, np.int64)
    n_found = 0
    if stop - start <= SCANNED:
        for e in range(start, stop):
            if within >= 0 and label_of[neighbor[e]] != within:
                continue
            name = label[neighbor[e]]
            place = 0
            while place < n_found and names[place] != name:
                place += 1
            if place == n_found:
                names[place] = name
                n_found += 1
            sums[place] += weight[e]
        return names[:n_found], sums[:n_found]
    order = np.argsort(label[neighbor[start:stop]])
    for i in order:
        if within >= 0 and label_of[neighbor[start + i]] != within:
            continue
        name = label[neighbor[start + i]]
        if n_found == 0 or names[n_found - 1] != name:
            names[n_found] = name
            n_found += 1
        sums[n_found - 1] += weight[start + i]
    return names[:n_found], sums[:n_found]


@twin("int64 int32 int64 int32 int64 int32 int64 int64 int64 float64 float64 int32", per_item=32)
def best_community(n_items, count, vertices, indptr, neighbor, weight, community, total, size, degree, total_weight, resolution, target):
    for i in numba.prange(count[0]):
        v = vertices[i]
        own = community[v]
        names, sums = arc_sums(v, indptr, neighbor, weight, community, -1, community)
        share = (resolution * np.float64(degree[v])) / total_weight
        inner = np.int64(0)
        for j in range(names.size):
            if names[j] == own:
                inner = sums[j]
        best, gain = own, np.float64(inner) - share * np.float64(total[own] - degree[v])
        for j in range(names.size):
            there = np.float64(sums[j]) - share * np.float64(total[names[j]])
            if names[j] != own and (there > gain or (there == gain and best != own and names[j] < best)):
                best, gain = names[j], there
        target[i] = v if gain < 0.0 and size[own] > 1 and size[v] == 0 else best


@twin("int64 int32 int32 int32 int64 int64 int64 uint8 uint8 int64")
def move_vertices(n_items, count, vertices, target, community, degree, total, size, active, moved, n_moved):
    for i in range(count[0]):
        v = vertices[i]
        here, there = community[v], target[i]
        active[v] = 0
        moved[i] = here != there
        if here != there:
            total[here] -= degree[v]
            total[there] += degree[v]
            size[here] -= 1
            size[there] += 1
            community[v] = there
            n_moved[0] += 1


@twin("int64 int32 uint8 int64 int32 int32 uint8")
def wake_neighbors(n_items, count, vertices, moved, indptr, neighbor, community, active):
    for i in numba.prange(count[0]):
        v = vertices[i]
        if moved[i] != 0:
            for e in range(indptr[v], indptr[v + 1]):
                if community[neighbor[e]] != community[v]:
                    active[neighbor[e]] = 1


@twin("int64 int32 int64 int32 int64")
def inner_weight(n_items, indptr, neighbor, weight, community, out):
    for v in numba.prange(n_items):
        total = np.int64(0)
        for e in range(indptr[v], indptr[v + 1]):
            if community[neighbor[e]] == community[v]:
                total += weight[e]
        out[v] = total


@twin("int64 uint8 int64 uint64 int32 int64")
def may_join(n_items, set_size, done, representative, key, vertices, count):
    """List the vertices that may join a set in this round; in any order."""
    for v in range(n_items):
        if set_size[v] == 1 and done[v] == 0 and vertex_hash(key, representative[v]) >> np.uint64(63) == 0:
            vertices[count[0]] = v
            count[0] += 1


@twin(
    "int64 int32 int64 int32 int64 int32 int32 int64 int64 int64 int64 int64 float64 float64 uint64 int64 int64 int32",
    per_item=32,
)
def best_set(
    n_items,
    count,
    vertices,
    indptr,
    neighbor,
    weight,
    community,
    refined,
    community_total,
    set_total,
    outside,
    set_size,
    degree,
    total_weight,
    resolution,
    key,
    representative,
    waiting,
    target,
):
    for i in numba.prange(count[0]):
        v = vertices[i]
        own = community[v]
        share = (resolution * np.float64(degree[v])) / total_weight
        target[i] = v
        if np.float64(outside[v]) < share * np.float64(community_total[own] - degree[v]):
            continue
        names, sums = arc_sums(v, indptr, neighbor, weight, refined, own, community)
        best, gain, free = v, 0.0, True
        for j in range(names.size):
            r = names[j]
            there = np.float64(sums[j]) - share * np.float64(set_total[r])
            if there <= 0.0 or there < gain or (there == gain and r > best):
                continue
            part = (resolution * np.float64(set_total[r])) / total_weight
            if np.float64(outside[r]) < part * np.float64(community_total[own] - set_total[r]):
                continue
            available = set_size[r] > 1 or vertex_hash(key, representative[r]) >> np.uint64(63) != 0
            if available or waiting != 0:
                best, gain, free = r, there, available
        if free:
            target[i] = best


@twin("int64 int32 int32 int64 int32 uint8 uint8")
def choose_sets(n_items, count, vertices, target, waiting, refined, joins, done):
    """What best_set chose becomes visible; joins: who moves in this round."""
    for i in range(count[0]):
        v = vertices[i]
        joins[v], refined[v] = target[i] != v, target[i]
        if waiting == 0:
            done[v] = 1


@twin("int64 int32 int32 int64 int32 int64 int32 int32 uint8 int64 int64 int64 int64")
def join_sets(n_items, count, vertices, target, indptr, neighbor, weight, community, refined, joins, degree, outside, set_total, set_size):
    for i in range(count[0]):
        v, r = vertices[i], target[i]
        if r == v:
            continue
        inside = np.int64(0)
        for e in range(indptr[v], indptr[v + 1]):
            u = neighbor[e]
            if refined[u] == r and community[u] == community[v]:
                inside += weight[e] if joins[u] != 0 else 2 * weight[e]
        outside[r] += outside[v] - inside
        set_total[r] += degree[v]
        set_size[r] += 1
        set_size[v] = 0


@twin("int64 int64")
def count_positive(n_items, values, count):
    for v in range(n_items):
        if values[v] > 0:
            count[0] += 1
