"""Forces of a drawing in two dimensions; ``layout.cu`` holds the same for CUDA.

All cells push each other. They are summed into a pyramid of square grids, from 2^n_levels x 2^n_levels fields upwards; near a
cell the finest fields push, farther away coarser ones, each as one body at its centre of mass (the fields that the
fast multipole method of Greengard & Rokhlin 1987 pairs). Fields are summed in integers, so any order gives the same.

What one launch tells the next stays on the device: ``state``, int64, holds the lowest and highest coordinate (their bits, flipped so
that they are ordered as integers are) and the sum of 1 / (1 + d^2) over all pairs in steps of 1 / ``unit``. ``frame``, float64, holds
the lowest coordinate and how many 2^-FRACTION_BITS of a finest field's width a unit has.
"""

import math

import numba
import numpy as np

from rsc_core.kernels.device import exp_double
from rsc_core.kernels.twin import twin

FRACTION_BITS = 16  # of a finest field's width, in which positions are summed
TILE_LEVELS = 5  # levels that one call of field_centres puts together
BISECTIONS = 64
LANES, T_LANES = 4, 8  # sums over a cell's neighbours: lane l takes every 4th (8th) from the l-th on
GROUP = 64  # cells whose swings are added first
T_KERNEL, INVERSE = 0, 1  # push: 1 / (1 + d^2)^2, or 1 / d^2, times the vector between both
LOW, HIGH, NORM = 0, 1, 2  # places of ``state``
LOWEST, HIGHEST = 0x7FFFFFFFFFFFFFFF, -0x7FFFFFFFFFFFFFFF  # what the extremes start from
ONE = np.float32(1.0)


@numba.njit(inline="always")
def first_field(level):
    """Where the fields of a level begin: after 1 + 4 + 16 + ..."""
    return ((np.int64(1) << (2 * level)) - 1) // 3


@numba.njit(inline="always")
def flipped(bits):
    return bits ^ ((bits >> np.int64(63)) & np.int64(0x7FFFFFFFFFFFFFFF))


@numba.njit
def low_corner(state):
    return np.int64(flipped(state[LOW])).view(np.float64)


@numba.njit
def fractions_a_unit(state, n_levels):
    width = np.int64(flipped(state[HIGH])).view(np.float64) - low_corner(state)
    return np.float64(np.int64(1) << (n_levels + FRACTION_BITS)) / (width * (1.0 + 1e-9) if width > 0.0 else 1.0)


@numba.njit(inline="always")
def place_of(y, low, scale, limit):
    return min(max(np.int64((y - low) * scale), np.int64(0)), limit - 1)


@twin("float64 int64")
def extremes(n_items, y, state):
    """Take all coordinates into the lowest and the highest."""
    for cell in range(n_items):
        for d in range(2):
            key = flipped(np.float64(y[cell, d]).view(np.int64))
            state[LOW] = min(state[LOW], key)
            state[HIGH] = max(state[HIGH], key)


@twin("float64 int64 int64 int64 int64")
def leaf_sums(n_items, y, mass, state, n_levels, sums):
    """Mass, and mass times offset from the field's corner, of each finest field: (3, fields), which start at 0."""
    limit = np.int64(1) << (n_levels + FRACTION_BITS)
    low, scale = low_corner(state), fractions_a_unit(state, n_levels)
    for cell in range(n_items):
        x0, x1 = place_of(y[cell, 0], low, scale, limit), place_of(y[cell, 1], low, scale, limit)
        f0, f1 = x0 >> FRACTION_BITS, x1 >> FRACTION_BITS
        field = (f0 << n_levels) + f1
        sums[0, field] += mass[cell]
        sums[1, field] += mass[cell] * (x0 - (f0 << FRACTION_BITS))
        sums[2, field] += mass[cell] * (x1 - (f1 << FRACTION_BITS))


@numba.njit
def put_centre(f0, f1, level, n_levels, low, scale, sum0, sum1, sum2, centre):
    field, bits = first_field(level) + (f0 << level) + f1, FRACTION_BITS + n_levels - level
    centre[field, 0] = np.float32(sum0)
    if sum0 > 0:
        centre[field, 1] = np.float32(low + (np.float64(f0 << bits) + np.float64(sum1) / np.float64(sum0)) / scale)
        centre[field, 2] = np.float32(low + (np.float64(f1 << bits) + np.float64(sum2) / np.float64(sum0)) / scale)


@numba.njit
def tile_centres(tile, top, bottom, n_levels, low, scale, sums, upper, centre):
    t0, t1 = tile >> top, tile & ((np.int64(1) << top) - 1)
    depth = bottom - top
    own = np.empty((np.int64(1) << (2 * depth), 3), dtype=np.int64)
    for place in range(np.int64(1) << (2 * depth)):
        f0, f1 = (t0 << depth) + (place >> depth), (t1 << depth) + (place & ((np.int64(1) << depth) - 1))
        field = (f0 << bottom) + f1
        own[place, 0], own[place, 1], own[place, 2] = sums[0, field], 0, 0
        if own[place, 0] > 0:
            own[place, 1], own[place, 2] = sums[1, field], sums[2, field]
            sums[0, field] = sums[1, field] = sums[2, field] = 0
        put_centre(f0, f1, bottom, n_levels, low, scale, own[place, 0], own[place, 1], own[place, 2], centre)
    for level in range(bottom - 1, top - 1, -1):
        depth = level - top
        bits = FRACTION_BITS + n_levels - level
        for place in range(np.int64(1) << (2 * depth)):
            p0, p1 = place >> depth, place & ((np.int64(1) << depth) - 1)
            sum0 = sum1 = sum2 = np.int64(0)
            for half0 in range(2):
                for half1 in range(2):
                    child = ((2 * p0 + half0) << (depth + 1)) + 2 * p1 + half1  # never before ``place``
                    if own[child, 0] > 0:
                        sum0 += own[child, 0]
                        sum1 += own[child, 1] + half0 * (own[child, 0] << (bits - 1))
                        sum2 += own[child, 2] + half1 * (own[child, 0] << (bits - 1))
            own[place, 0], own[place, 1], own[place, 2] = sum0, sum1, sum2
            if level > top:
                put_centre((t0 << depth) + p0, (t1 << depth) + p1, level, n_levels, low, scale, sum0, sum1, sum2, centre)
    upper[0, tile], upper[1, tile], upper[2, tile] = own[0, 0], own[0, 1], own[0, 2]


@twin("int64 int64 int64 int64 int64 int64 float64 float32", per_item=256)
def field_centres(n_items, top, bottom, n_levels, sums, upper, state, frame, centre):
    """Mass and centre of mass of the fields of the levels from ``bottom`` up to below ``top``, from the sums of ``bottom``.

    An item is a field of the level ``top``, at most TILE_LEVELS above; its sums are left in ``upper``, those of ``bottom`` at 0 for
    the next step. The call that reaches level 0 leaves ``frame``, and ``state`` as it starts.
    """
    low, scale = low_corner(state), fractions_a_unit(state, n_levels)
    if n_items == 1:  # waking threads takes longer
        tile_centres(np.int64(0), top, bottom, n_levels, low, scale, sums, upper, centre)
    else:
        for tile in numba.prange(n_items):
            tile_centres(np.int64(tile), top, bottom, n_levels, low, scale, sums, upper, centre)
    if top == 0:
        frame[0], frame[1] = low, scale
        state[LOW], state[HIGH], state[NORM] = LOWEST, HIGHEST, 0


@numba.njit(inline="always")
def place_in_finest(y, frame, n_levels):
    return place_of(y, frame[0], frame[1], np.int64(1) << (n_levels + FRACTION_BITS)) >> FRACTION_BITS


@numba.njit
def push_cell(cell, y, mass, frame, n_levels, law, centre, push):
    y0, y1, own = np.float32(y[cell, 0]), np.float32(y[cell, 1]), np.float32(mass[cell])
    x0, x1 = place_in_finest(y[cell, 0], frame, n_levels), place_in_finest(y[cell, 1], frame, n_levels)
    push0 = push1 = norm = np.float32(0.0)
    for level in range(1, n_levels + 1):
        own0, own1, last = x0 >> (n_levels - level), x1 >> (n_levels - level), (np.int64(1) << level) - 1
        for f0 in range(max(0, 2 * (own0 >> 1) - 2), min(last, 2 * (own0 >> 1) + 3) + 1):
            row = first_field(level) + (f0 << level)
            for f1 in range(max(0, 2 * (own1 >> 1) - 2), min(last, 2 * (own1 >> 1) + 3) + 1):
                near = abs(f0 - own0) <= 1 and abs(f1 - own1) <= 1
                if near and level < n_levels:
                    continue  # finer fields of it push
                field = row + f1
                body, c0, c1 = centre[field, 0], centre[field, 1], centre[field, 2]
                if near and f0 == own0 and f1 == own1:  # without the cell itself
                    body = body - own
                    if body > 0:
                        c0, c1 = c0 + (c0 - y0) * own / body, c1 + (c1 - y1) * own / body
                if body <= 0:
                    continue
                gap0, gap1 = y0 - c0, y1 - c1
                square = gap0 * gap0 + gap1 * gap1
                if law == T_KERNEL:
                    near_1 = ONE / (ONE + square)
                    norm += body * near_1
                    by = body * near_1 * near_1
                else:
                    by = body / square if square > 0 else np.float32(0.0)
                push0 += by * gap0
                push1 += by * gap1
    push[cell, 0], push[cell, 1] = push0, push1
    return norm


@twin("float64 int64 float64 int64 int64 float32 float64 float32 int64")
def pushes(n_items, y, mass, frame, n_levels, law, centre, unit, push, state):
    """Push of all others on each cell; their 1 / (1 + d^2) are added to ``state``."""
    whole = np.int64(0)
    for cell in numba.prange(n_items):
        whole += np.int64(np.float64(push_cell(cell, y, mass, frame, n_levels, law, centre, push)) * unit)
    state[NORM] += whole


@twin("float64 int64 float64 float64")
def perplexity_weights(n_items, square, n_nearest, perplexity, weight):
    """exp(-beta squared distance) of each neighbour, of sum 1, with beta such that exp(entropy) is the perplexity.

    exp(entropy) = sum of exp(-beta s), times exp(beta mean of s); no logarithm, so that both backends decide alike.
    """
    for cell in numba.prange(n_items):
        low, high, beta, total = 0.0, np.inf, 1.0, 1.0
        for _ in range(BISECTIONS):
            total = mean = 0.0
            for k in range(n_nearest):
                gap = square[cell, k] - square[cell, 0]
                weight[cell, k] = exp_double(-(beta * gap))
                total += weight[cell, k]
                mean += weight[cell, k] * gap
            if total * exp_double(beta * (mean / total)) > perplexity:
                low = beta
                beta = beta * 2.0 if high == np.inf else (low + high) / 2.0
            else:
                high = beta
                beta = (low + high) / 2.0
        for k in range(n_nearest):
            weight[cell, k] /= total


@twin("int64 int32 float32 float32 float32", per_item=T_LANES)
def t_pulls(n_items, indptr, indices, weight, place, pull):
    """Sum of weight / (1 + d^2) times the vector to each neighbour; ``place``: the positions in float32."""
    for cell in numba.prange(n_items):
        pull0 = pull1 = np.float32(0.0)
        here0, here1 = place[cell, 0], place[cell, 1]
        for lane in range(T_LANES):
            part0 = part1 = np.float32(0.0)
            for arc in range(indptr[cell] + lane, indptr[cell + 1], T_LANES):
                gap0, gap1 = place[indices[arc], 0] - here0, place[indices[arc], 1] - here1
                by = weight[arc] / (ONE + (gap0 * gap0 + gap1 * gap1))
                part0 += by * gap0
                part1 += by * gap1
            pull0 += part0
            pull1 += part1
        pull[cell, 0], pull[cell, 1] = pull0, pull1


@twin("float32 float32 int64 float64 float64 float64 float64 float64 float64 float64 float64 float32")
def t_step(n_items, pull, push, state, unit, exaggeration, momentum, rate, longest, gain, speed, y, place):
    """A step down the gradient with momentum and a gain for each coordinate (Jacobs 1988), no longer than ``longest``."""
    norm = np.float64(state[NORM]) / unit
    for cell in numba.prange(n_items):
        for d in range(2):
            slope = -4.0 * (exaggeration * np.float64(pull[cell, d]) + np.float64(push[cell, d]) / norm)
            grows = (slope > 0.0) != (speed[cell, d] > 0.0)
            gain[cell, d] = gain[cell, d] + 0.2 if grows else max(gain[cell, d] * 0.8, 0.01)
            speed[cell, d] = momentum * speed[cell, d] - rate * gain[cell, d] * slope
        length = math.sqrt(speed[cell, 0] * speed[cell, 0] + speed[cell, 1] * speed[cell, 1])
        shorter = longest / length if length > longest else 1.0
        for d in range(2):
            speed[cell, d] *= shorter
            y[cell, d] += speed[cell, d]
            place[cell, d] = np.float32(y[cell, d])


@twin("int64 int32 float64 int64 float64 float32 float64 float64 float64 float64 float64 float64", threads=GROUP * LANES, per_item=LANES)
def atlas_forces(n_items, indptr, indices, weight, mass, y, push, scaling, gravity, before, force, swing, parts):
    """ForceAtlas2: neighbours pull by weight times distance, all push by mass, the origin pulls by mass.

    ``swing`` takes mass times the change of the force since the last step. ``parts`` (groups, 2) takes the sum of it over each
    GROUP cells, and of half of mass times the sum of both forces.
    """
    for group in numba.prange((n_items + GROUP - 1) // GROUP):
        swinging = traction = 0.0
        for cell in range(group * GROUP, min((group + 1) * GROUP, n_items)):
            own, y0, y1 = np.float64(mass[cell]), y[cell, 0], y[cell, 1]
            pull0 = pull1 = 0.0
            for lane in range(LANES):
                part0 = part1 = 0.0
                for arc in range(indptr[cell] + lane, indptr[cell + 1], LANES):
                    part0 += weight[arc] * (y[indices[arc], 0] - y0)
                    part1 += weight[arc] * (y[indices[arc], 1] - y1)
                pull0 += part0
                pull1 += part1
            length = math.sqrt(y0 * y0 + y1 * y1)
            centre = gravity * own / length if length > 0.0 else 0.0
            force0 = scaling * own * np.float64(push[cell, 0]) - centre * y0 + pull0
            force1 = scaling * own * np.float64(push[cell, 1]) - centre * y1 + pull1
            less0, less1 = before[cell, 0] - force0, before[cell, 1] - force1
            more0, more1 = before[cell, 0] + force0, before[cell, 1] + force1
            swing[cell] = own * math.sqrt(less0 * less0 + less1 * less1)
            swinging += swing[cell]
            traction += 0.5 * own * math.sqrt(more0 * more0 + more1 * more1)
            force[cell, 0], force[cell, 1] = force0, force1
        parts[group, 0], parts[group, 1] = swinging, traction


@numba.njit
def total_of_lanes(parts, column):
    """Sum of a column: 32 lanes, then halves onto halves, as a warp adds."""
    lanes = np.zeros(32)
    for part in range(len(parts)):
        lanes[part % 32] += parts[part, column]
    step = 16
    while step > 0:
        for lane in range(step):
            lanes[lane] += lanes[lane + step]
        step //= 2
    return lanes[0]


@twin("float64 int64 int64 float64 float64 float64 float64 float64 float64", threads=32, per_item=32)
def atlas_speed(n_items, parts, n_parts, n_cells, estimated, most_jitter, least_efficiency, most_speed, rise, pace):
    """The global speed of the next step and its efficiency (``pace``): as much swinging as is tolerable."""
    swinging, traction = total_of_lanes(parts, 0), total_of_lanes(parts, 1)
    speed, efficiency = pace[0], pace[1]
    jitter = max(math.sqrt(estimated), min(most_jitter, estimated * traction / (np.float64(n_cells) * np.float64(n_cells))))
    if traction > 0.0 and swinging / traction > 2.0:
        efficiency *= 0.5 if efficiency > least_efficiency else 1.0
        jitter = max(jitter, 1.0)
    most = rise * speed
    target = jitter * efficiency * traction / swinging if swinging > 0.0 else speed + most
    if swinging > jitter * traction:
        efficiency *= 0.7 if efficiency > least_efficiency else 1.0
    elif speed < most_speed:
        efficiency *= 1.3
    pace[0], pace[1] = speed + min(target - speed, most), efficiency


@twin("float64 float64 float64 float64")
def atlas_step(n_items, force, swing, pace, y):
    for cell in numba.prange(n_items):
        factor = pace[0] / (1.0 + math.sqrt(pace[0] * swing[cell]))
        y[cell, 0] += force[cell, 0] * factor
        y[cell, 1] += force[cell, 1] * factor
