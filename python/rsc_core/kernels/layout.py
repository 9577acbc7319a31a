"""Forces of a drawing in two dimensions; ``layout.cu`` holds the same for CUDA.

All cells push each other. They are summed into a pyramid of square grids, from 2^n_levels x 2^n_levels fields upwards; near a
cell the finest fields push, farther away coarser ones, each as one body at its centre of mass (the fields that the
fast multipole method of Greengard & Rokhlin 1987 pairs). Fields are summed in integers, so any order gives the same.
"""

import math

import numba
import numpy as np

from rsc_core.kernels.device import exp_double
from rsc_core.kernels.twin import twin

FRACTION_BITS = 16  # of a finest field's width, in which positions are summed
BISECTIONS = 64
FEW_FIELDS = 1 << 14
T_KERNEL, INVERSE = 0, 1  # push: 1 / (1 + d^2)^2, or 1 / d^2, times the vector between both


@numba.njit(inline="always")
def first_field(level):
    """Where the fields of a level begin: after 1 + 4 + 16 + ..."""
    return ((np.int64(1) << (2 * level)) - 1) // 3


@twin("float64 int64 float64 float64 int64 int64")
def leaf_sums(n_items, y, mass, low, scale, n_levels, sums):
    """Mass, and mass times offset from the field's corner, of each finest field; ``scale``: 2^-FRACTION_BITS fields a unit."""
    limit = np.int64(1) << (n_levels + FRACTION_BITS)
    for cell in range(n_items):
        x0 = min(max(np.int64((y[cell, 0] - low) * scale), 0), limit - 1)
        x1 = min(max(np.int64((y[cell, 1] - low) * scale), 0), limit - 1)
        f0, f1 = x0 >> FRACTION_BITS, x1 >> FRACTION_BITS
        field = first_field(n_levels) + (f0 << n_levels) + f1
        sums[field, 0] += mass[cell]
        sums[field, 1] += mass[cell] * (x0 - (f0 << FRACTION_BITS))
        sums[field, 2] += mass[cell] * (x1 - (f1 << FRACTION_BITS))


@numba.njit
def field_centre(place, level, n_levels, low, scale, sums, centre):
    f0, f1 = place >> level, place & ((np.int64(1) << level) - 1)
    field, bits = first_field(level) + place, FRACTION_BITS + n_levels - level
    if level < n_levels:
        sums[field, 0] = sums[field, 1] = sums[field, 2] = 0
        for half0 in range(2):
            for half1 in range(2):
                child = first_field(level + 1) + ((2 * f0 + half0) << (level + 1)) + 2 * f1 + half1
                sums[field, 0] += sums[child, 0]
                sums[field, 1] += sums[child, 1] + half0 * (sums[child, 0] << (bits - 1))
                sums[field, 2] += sums[child, 2] + half1 * (sums[child, 0] << (bits - 1))
    centre[field, 0] = np.float64(sums[field, 0])
    if sums[field, 0] > 0:
        centre[field, 1] = low + (np.float64(f0 << bits) + np.float64(sums[field, 1]) / centre[field, 0]) / scale
        centre[field, 2] = low + (np.float64(f1 << bits) + np.float64(sums[field, 2]) / centre[field, 0]) / scale


@twin("int64 int64 float64 float64 int64 float64")
def field_centres(n_items, level, n_levels, low, scale, sums, centre):
    """The fields of a level from the four below each (the finest have their sums already), and their centres of mass."""
    if n_items <= FEW_FIELDS:  # waking threads takes longer
        for place in range(n_items):
            field_centre(np.int64(place), level, n_levels, low, scale, sums, centre)
    else:
        for place in numba.prange(n_items):
            field_centre(np.int64(place), level, n_levels, low, scale, sums, centre)


@twin("float64 int64 float64 float64 int64 int64 float64 float64 float64")
def pushes(n_items, y, mass, low, scale, n_levels, law, centre, push, total):
    """Push of all others on each cell, and the sum of their 1 / (1 + d^2)."""
    limit = np.int64(1) << (n_levels + FRACTION_BITS)
    for cell in numba.prange(n_items):
        y0, y1 = y[cell, 0], y[cell, 1]
        x0 = min(max(np.int64((y0 - low) * scale), 0), limit - 1) >> FRACTION_BITS
        x1 = min(max(np.int64((y1 - low) * scale), 0), limit - 1) >> FRACTION_BITS
        push0 = push1 = norm = 0.0
        for level in range(1, n_levels + 1):
            own0, own1, last = x0 >> (n_levels - level), x1 >> (n_levels - level), (np.int64(1) << level) - 1
            for f0 in range(max(0, 2 * (own0 >> 1) - 2), min(last, 2 * (own0 >> 1) + 3) + 1):
                for f1 in range(max(0, 2 * (own1 >> 1) - 2), min(last, 2 * (own1 >> 1) + 3) + 1):
                    near = abs(f0 - own0) <= 1 and abs(f1 - own1) <= 1
                    if near and level < n_levels:
                        continue  # finer fields of it push
                    field = first_field(level) + (f0 << level) + f1
                    body, c0, c1 = centre[field, 0], centre[field, 1], centre[field, 2]
                    if near and f0 == own0 and f1 == own1:  # without the cell itself
                        own, body = np.float64(mass[cell]), body - np.float64(mass[cell])
                        if body > 0.0:
                            c0, c1 = c0 + (c0 - y0) * own / body, c1 + (c1 - y1) * own / body
                    if body <= 0.0:
                        continue
                    gap0, gap1 = y0 - c0, y1 - c1
                    square = gap0 * gap0 + gap1 * gap1
                    if law == T_KERNEL:
                        near_1 = 1.0 / (1.0 + square)
                        norm += body * near_1
                        by = body * near_1 * near_1
                    else:
                        by = body / square if square > 0.0 else 0.0
                    push0 += by * gap0
                    push1 += by * gap1
        push[cell, 0], push[cell, 1], total[cell] = push0, push1, norm


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


@twin("int64 int32 float64 float64 float64")
def t_pulls(n_items, indptr, indices, weight, y, pull):
    """Sum of weight / (1 + d^2) times the vector to each neighbour."""
    for cell in numba.prange(n_items):
        pull0 = pull1 = 0.0
        for arc in range(indptr[cell], indptr[cell + 1]):
            gap0, gap1 = y[indices[arc], 0] - y[cell, 0], y[indices[arc], 1] - y[cell, 1]
            by = weight[arc] / (1.0 + (gap0 * gap0 + gap1 * gap1))
            pull0 += by * gap0
            pull1 += by * gap1
        pull[cell, 0], pull[cell, 1] = pull0, pull1


@twin("float64 float64 float64 float64 float64 float64 float64 float64 float64 float64")
def t_step(n_items, pull, push, norm, exaggeration, momentum, rate, longest, gain, speed, y):
    """A step down the gradient with momentum and a gain for each coordinate (Jacobs 1988), no longer than ``longest``."""
    for cell in numba.prange(n_items):
        for d in range(2):
            slope = -4.0 * (exaggeration * pull[cell, d] + push[cell, d] / norm[0])
            grows = (slope > 0.0) != (speed[cell, d] > 0.0)
            gain[cell, d] = gain[cell, d] + 0.2 if grows else max(gain[cell, d] * 0.8, 0.01)
            speed[cell, d] = momentum * speed[cell, d] - rate * gain[cell, d] * slope
        length = math.sqrt(speed[cell, 0] * speed[cell, 0] + speed[cell, 1] * speed[cell, 1])
        shorter = longest / length if length > longest else 1.0
        for d in range(2):
            speed[cell, d] *= shorter
            y[cell, d] += speed[cell, d]


@twin("int64 int32 float64 int64 float64 float64 float64 float64 float64 float64 float64")
def atlas_forces(n_items, indptr, indices, weight, mass, y, push, scaling, gravity, before, force, swing):
    """ForceAtlas2: neighbours pull by weight times distance, all push by mass, the origin pulls by mass.

    ``swing`` takes mass times the change of the force since the last step and half of mass times the sum of both: (2, cells).
    """
    for cell in numba.prange(n_items):
        own, y0, y1 = np.float64(mass[cell]), y[cell, 0], y[cell, 1]
        length = math.sqrt(y0 * y0 + y1 * y1)
        centre = gravity * own / length if length > 0.0 else 0.0
        force0 = scaling * own * push[cell, 0] - centre * y0
        force1 = scaling * own * push[cell, 1] - centre * y1
        for arc in range(indptr[cell], indptr[cell + 1]):
            force0 += weight[arc] * (y[indices[arc], 0] - y0)
            force1 += weight[arc] * (y[indices[arc], 1] - y1)
        less0, less1, more0, more1 = before[cell, 0] - force0, before[cell, 1] - force1, before[cell, 0] + force0, before[cell, 1] + force1
        swing[0, cell] = own * math.sqrt(less0 * less0 + less1 * less1)
        swing[1, cell] = 0.5 * own * math.sqrt(more0 * more0 + more1 * more1)
        force[cell, 0], force[cell, 1] = force0, force1


@twin("float64 float64 float64 float64")
def atlas_step(n_items, force, swing, speed, y):
    for cell in numba.prange(n_items):
        factor = speed / (1.0 + math.sqrt(speed * swing[0, cell]))
        y[cell, 0] += force[cell, 0] * factor
        y[cell, 1] += force[cell, 1] * factor
