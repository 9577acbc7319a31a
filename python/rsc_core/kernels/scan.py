"""Running sums of integers; ``scan.cu`` holds the same for CUDA."""

import numpy as np

from rsc_core.kernels.twin import twin


@twin("int64 int64 int64 int64")
def chunk_sums(n_items, values, n_values, chunk, sums):
    """The sum of each chunk of values."""
    for item in range(n_items):
        total = np.int64(0)
        for i in range(item * chunk, min(n_values, (item + 1) * chunk)):
            total += values[i]
        sums[item] = total


@twin("int64 int64 int64 int64 int64")
def chunk_running_sums(n_items, values, n_values, chunk, starts, out):
    """out[i + 1]: the sum of values[: i + 1], each chunk from its start on; out[0] is the start of the first."""
    for item in range(n_items):
        total = starts[item]
        if item == 0:
            out[0] = total
        for i in range(item * chunk, min(n_values, (item + 1) * chunk)):
            total += values[i]
            out[i + 1] = total
