"""The two phases of the deterministic Leiden and Louvain algorithms on one level (see :mod:`rsc_core.tl._partition`), each a kernel.

``leiden.cu`` holds the same for CUDA. Weights are integers, so that their sums do not depend on the order; a gain is one
float64 expression of exact integers; ties go to the smallest number. Any number of threads therefore gives the same bits.
"""

import numba
import numpy as np

from rsc_core.kernels.device import GOLDEN, mix64
from rsc_core.kernels.twin import twin

CHUNK = 16  # listed vertices that one thread takes at a time
FEW_ARCS = 1 << 16  # of the listed vertices: less is done sooner than other threads have begun
FREE = -1  # a slot of the table of communities that none has taken


@numba.njit(inline="always")
def next_key(key, number):
    return mix64((key ^ np.uint64(number)) + GOLDEN)


@numba.njit(inline="always")
def vertex_hash(key, representative):
    return mix64((key ^ (np.uint64(representative) * np.uint64(0xD1342543DE82EF95))) + GOLDEN)


@numba.njit(inline="always")
def may_act(key, representative):
    """Half of the vertices may join a set in a round, the others may be joined."""
    return vertex_hash(key, representative) >> np.uint64(63) == 0


@twin("int32 int64 int64 int64")
def community_totals(n_items, community, degree, total, size):
    for v in range(n_items):
        total[community[v]] += degree[v]
        size[community[v]] += 1


@twin("int64 int32 int64 int32 int64", per_item=32)
def inner_weight(n_items, indptr, neighbor, weight, community, out):
    for v in numba.prange(n_items):
        total = np.int64(0)
        for e in range(indptr[v], indptr[v + 1]):
            if community[neighbor[e]] == community[v]:
                total += weight[e]
        out[v] = total


@numba.njit
def n_slots_of(n_arcs):
    n_slots = 32
    while n_slots < 2 * n_arcs:
        n_slots *= 2
    return n_slots


@numba.njit
def tables(listed, indptr):
    """For the listed vertices the slots of a table of communities, which slots are taken, by which communities, with which sums."""
    largest = np.int64(0)
    for v in listed:
        largest = max(largest, indptr[v + 1] - indptr[v])
    slots = np.full(n_slots_of(largest), FREE, np.int32)
    return slots, np.empty(largest, np.int32), np.empty(largest, np.int32), np.empty(largest, np.int64)


@numba.njit
def arc_sums(v, arcs, label, within, label_of, table):
    """Labels of v's neighbours of community ``within`` (-1: any), each once, and the weight of the arcs to each; how many."""
    indptr, neighbor, weight = arcs
    slots, taken, names, sums = table
    n_slots, n_found = n_slots_of(indptr[v + 1] - indptr[v]), 0
    for e in range(indptr[v], indptr[v + 1]):
        u = neighbor[e]
        if within >= 0 and label_of[u] != within:
            continue
        name = label[u]
        slot = np.int64((np.uint64(name) * GOLDEN) >> np.uint64(32)) & (n_slots - 1)
        while slots[slot] != FREE and names[slots[slot]] != name:
            slot = (slot + 1) & (n_slots - 1)
        if slots[slot] == FREE:
            slots[slot], taken[n_found], names[n_found], sums[n_found] = n_found, slot, name, 0
            n_found += 1
        sums[slots[slot]] += weight[e]
    for j in range(n_found):
        slots[taken[j]] = FREE
    return n_found


@numba.njit
def best_communities(listed, arcs, community, total, size, degree, total_weight, resolution, target):
    """The community of highest gain for each listed vertex; a vacant one where it loses by any."""
    table = tables(listed, arcs[0])
    names, sums = table[2], table[3]
    for v in listed:
        own = community[v]
        n_found = arc_sums(v, arcs, community, -1, community, table)
        share = (resolution * np.float64(degree[v])) / total_weight
        inner = np.int64(0)
        for j in range(n_found):
            if names[j] == own:
                inner = sums[j]
        best, gain = own, np.float64(inner) - share * np.float64(total[own] - degree[v])
        for j in range(n_found):
            there = np.float64(sums[j]) - share * np.float64(total[names[j]])
            if names[j] != own and (there > gain or (there == gain and best != own and names[j] < best)):
                best, gain = names[j], there
        target[v] = v if gain < 0.0 and size[own] > 1 and size[v] == 0 else best


@numba.njit(parallel=True)
def best_communities_at_once(listed, arcs, community, total, size, degree, total_weight, resolution, target):
    for chunk in numba.prange((listed.size + CHUNK - 1) // CHUNK):
        mine = listed[chunk * CHUNK : (chunk + 1) * CHUNK]
        best_communities(mine, arcs, community, total, size, degree, total_weight, resolution, target)


@numba.njit
def move_listed(n, listed, target, community, degree, total, size, active):
    """What best_communities chose becomes visible; those that moved are listed from the front; how many."""
    n_moved = 0
    for i in range(n):
        v = listed[i]
        here, there = community[v], target[v]
        active[v] = 0
        if here != there:
            total[here] -= degree[v]
            total[there] += degree[v]
            size[here] -= 1
            size[there] += 1
            community[v] = there
            listed[n_moved] = v
            n_moved += 1
    return n_moved


@numba.njit
def wake_neighbors(listed, arcs, community, active):
    indptr, neighbor, _ = arcs
    for v in listed:
        for e in range(indptr[v], indptr[v + 1]):
            if community[neighbor[e]] != community[v]:
                active[neighbor[e]] = 1


@twin(
    "int64 int32 int64 int64 int64 float64 float64 uint64 int64 int64 int32 int64 int64 uint8 int32 int32 int64 int64",
    per_item=256,
    together=True,
)
def move_vertices(
    n_items,
    indptr,
    neighbor,
    weight,
    degree,
    representative,
    total_weight,
    resolution,
    key,
    n_sweeps,
    n_turns,
    community,
    total,
    size,
    active,
    listed,
    target,
    found,
    counters,
):
    """Sweeps of turns, until none moves: the active vertices of a turn act at once, and wake their new community's neighbours.

    ``total``, ``size``, ``found`` and ``counters`` start at 0, ``active`` at 1; ``found``: how many communities are left. ``listed``
    is scratch for (turns + 1) x vertices, ``counters`` for 1 + 4 x sweeps x turns; the latter counts on the device alone.
    """
    arcs = (indptr, neighbor, weight)
    for v in range(n_items):
        total[community[v]] += degree[v]
        size[community[v]] += 1
    for sweep in range(n_sweeps):
        sweep_key, n_moved = next_key(key, sweep), 0
        for turn in range(n_turns):
            n, n_arcs = 0, 0
            for v in range(n_items):
                if active[v] != 0:
                    drawn = (vertex_hash(sweep_key, representative[v]) >> np.uint64(32)) % np.uint64(n_turns)
                    if np.int64(drawn) == turn:
                        listed[n] = v
                        n, n_arcs = n + 1, n_arcs + indptr[v + 1] - indptr[v]
            if n_arcs < FEW_ARCS:
                best_communities(listed[:n], arcs, community, total, size, degree, total_weight, resolution, target)
            else:
                best_communities_at_once(listed[:n], arcs, community, total, size, degree, total_weight, resolution, target)
            n = move_listed(n, listed, target, community, degree, total, size, active)
            wake_neighbors(listed[:n], arcs, community, active)
            n_moved += n
        if n_moved == 0:
            break
    for v in range(n_items):
        found[0] += size[v] > 0


@numba.njit
def best_sets(listed, arcs, community, sets, degree, total_weight, resolution, key, representative, waiting, target):
    """The set of highest gain for each listed vertex that is well connected, as the set is; itself where there is none to join."""
    refined, community_total, set_total, outside, set_size = sets
    table = tables(listed, arcs[0])
    names, sums = table[2], table[3]
    for v in listed:
        own = community[v]
        share = (resolution * np.float64(degree[v])) / total_weight
        target[v] = v
        if np.float64(outside[v]) < share * np.float64(community_total[own] - degree[v]):
            continue
        n_found = arc_sums(v, arcs, refined, own, community, table)
        best, gain, free = v, 0.0, True
        for j in range(n_found):
            r = names[j]
            there = np.float64(sums[j]) - share * np.float64(set_total[r])
            if there <= 0.0 or there < gain or (there == gain and r > best):
                continue
            part = (resolution * np.float64(set_total[r])) / total_weight
            if np.float64(outside[r]) < part * np.float64(community_total[own] - set_total[r]):
                continue
            available = set_size[r] > 1 or not may_act(key, representative[r])
            if available or waiting:
                best, gain, free = r, there, available
        if free:
            target[v] = best


@numba.njit(parallel=True)
def best_sets_at_once(listed, arcs, community, sets, degree, total_weight, resolution, key, representative, waiting, target):
    for chunk in numba.prange((listed.size + CHUNK - 1) // CHUNK):
        mine = listed[chunk * CHUNK : (chunk + 1) * CHUNK]
        best_sets(mine, arcs, community, sets, degree, total_weight, resolution, key, representative, waiting, target)


@numba.njit
def join_listed(n, listed, target, stamp, arcs, community, refined, joined, degree, outside, set_total, set_size):
    """Those with a new set join it: it gets their arcs to others, and loses its own to them."""
    indptr, neighbor, weight = arcs
    for i in range(n):
        v, r = listed[i], target[listed[i]]
        if r == v:
            continue
        inside = np.int64(0)
        for e in range(indptr[v], indptr[v + 1]):
            u = neighbor[e]
            if refined[u] == r and community[u] == community[v]:
                inside += weight[e] if joined[u] == stamp else 2 * weight[e]
        outside[r] += outside[v] - inside
        set_total[r] += degree[v]
        set_size[r] += 1
        set_size[v] = 0


@numba.njit(parallel=True)
def weight_inside(n, arcs, community, out):
    indptr, neighbor, weight = arcs
    for v in numba.prange(n):
        total = np.int64(0)
        for e in range(indptr[v], indptr[v + 1]):
            if community[neighbor[e]] == community[v]:
                total += weight[e]
        out[v] = total


@twin(
    "int64 int32 int64 int64 int64 float64 float64 uint64 int64 int64 "
    "int32 int64 int32 int64 int64 int64 uint8 uint8 int32 int32 int64 int64",
    per_item=256,
    together=True,
)
def form_sets(
    n_items,
    indptr,
    neighbor,
    weight,
    degree,
    representative,
    total_weight,
    resolution,
    key,
    n_rounds,
    n_waiting,
    community,
    community_total,
    refined,
    set_total,
    set_size,
    outside,
    done,
    joined,
    listed,
    target,
    found,
    counters,
):
    """Rounds in which single vertices join sets of their own community; in the first ones they wait for the best.

    ``found`` and ``counters`` start at 0; ``found``: how many sets there are. ``outside``: the weight of a set's arcs to others of its
    community; ``joined``: the round in which a vertex joined a set, from 1. ``listed`` is scratch for 2 x vertices, ``counters``
    for 3 + 4 x rounds; the latter counts on the device alone.
    """
    arcs, sets = (indptr, neighbor, weight), (refined, community_total, set_total, outside, set_size)
    for v in range(n_items):
        refined[v], set_total[v], set_size[v], done[v], joined[v] = v, degree[v], 1, 0, 0
    weight_inside(n_items, arcs, community, outside)
    for number in range(n_rounds):
        round_key, waiting, n, n_arcs = next_key(key, number), number < n_waiting, 0, 0
        for v in range(n_items):
            if set_size[v] == 1 and done[v] == 0 and may_act(round_key, representative[v]):
                listed[n] = v
                n, n_arcs = n + 1, n_arcs + indptr[v + 1] - indptr[v]
        how = (degree, total_weight, resolution, round_key, representative, waiting, target)
        if n_arcs < FEW_ARCS:
            best_sets(listed[:n], arcs, community, sets, *how)
        else:
            best_sets_at_once(listed[:n], arcs, community, sets, *how)
        for i in range(n):
            v = listed[i]
            refined[v], done[v] = target[v], not waiting
            if target[v] != v:
                joined[v] = number + 1
        join_listed(n, listed, target, number + 1, arcs, community, refined, joined, degree, outside, set_total, set_size)
    for v in range(n_items):
        found[0] += set_size[v] > 0
