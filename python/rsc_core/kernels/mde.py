"""Distortion and gradient of a minimum-distortion embedding; ``mde.cu`` holds the same for CUDA."""

import math

import numba

from rsc_core.kernels.device import exp_double
from rsc_core.kernels.twin import twin

SHORTEST = 1e-6  # a smaller distance counts as this one: two cells at one place do not push each other infinitely


@twin("int64 int32 float64 int32 int64 float64 int64 float64 float64")
def mde_gradient(n_items, indptr, indices, weight, partner, n_rounds, y, n_dims, gradient, distortion):
    """Half of the distortions of the pairs of each cell, and their gradient; y and gradient: (dimensions, cells).

    Neighbours: weight log(1 + d^1.5). Partners (rounds, cells), -1 for none: -log(1 - exp(-d)).
    """
    for cell in numba.prange(n_items):
        total = 0.0
        for d in range(n_dims):
            gradient[d, cell] = 0.0
        first, n_arcs = indptr[cell], indptr[cell + 1] - indptr[cell]
        for pair in range(n_arcs + n_rounds):
            other = indices[first + pair] if pair < n_arcs else partner[pair - n_arcs, cell]
            if other < 0:
                continue
            square = 0.0
            for d in range(n_dims):
                gap = y[d, cell] - y[d, other]
                square += gap * gap
            distance = max(math.sqrt(square), SHORTEST)
            if pair < n_arcs:
                power = distance * math.sqrt(distance)
                total += weight[first + pair] * math.log(1.0 + power)
                slope = weight[first + pair] * 1.5 * (power / distance) / (1.0 + power)
            else:
                away = exp_double(-distance)
                total -= math.log(1.0 - away)
                slope = -away / (1.0 - away)
            for d in range(n_dims):
                gradient[d, cell] += (slope / distance) * (y[d, cell] - y[d, other])
        distortion[cell] = 0.5 * total
