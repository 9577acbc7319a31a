#include "device.cuh"
// One thread owns one item and adds in the order of the loops in search.py: no atomics, the same bits on every run.
#define NOBODY (-1)

__device__ __forceinline__ void nobody_from(i64 filled, i64 n_nearest, i64* nearest, double* nearest_distance) {
    for (i64 k = filled; k < n_nearest; ++k) {
        nearest[k] = NOBODY;
        nearest_distance[k] = 1.0 / 0.0;
    }
}

extern "C" __global__ void unit_rows(i64 n_items, const double* x, i64 n_dims, double* out) {
    const i64 row = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (row >= n_items) return;
    double square = 0.0;
    for (i64 d = 0; d < n_dims; ++d) square += x[row * n_dims + d] * x[row * n_dims + d];
    const double length = sqrt(square);
    for (i64 d = 0; d < n_dims; ++d) out[row * n_dims + d] = length > 0.0 ? x[row * n_dims + d] / length : 0.0;
}

extern "C" __global__ void centred_rows(i64 n_items, const double* x, i64 n_dims, double* out) {
    const i64 row = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (row >= n_items) return;
    const double* mine = x + row * n_dims;
    double total = 0.0, low = mine[0], high = mine[0];
    for (i64 d = 0; d < n_dims; ++d) {
        total += mine[d];
        low = fmin(low, mine[d]);
        high = fmax(high, mine[d]);
    }
    const double mean = total / n_dims;
    for (i64 d = 0; d < n_dims; ++d) out[row * n_dims + d] = low < high ? mine[d] - mean : 0.0;
}

extern "C" __global__ void squared_distances(i64 n_items, const double* x, i64 n_dims, const i64* cells, const i64* candidates,
                                             i64 n_candidates, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    double total = 0.0;
    if (candidates[item] >= 0) {
        const double* cell = x + cells[item / n_candidates] * n_dims;
        const double* other = x + candidates[item] * n_dims;
        for (i64 d = 0; d < n_dims; ++d) {
            const double gap = cell[d] - other[d];
            total += gap * gap;
        }
    }
    out[item] = total;
}

extern "C" __global__ void nearest_candidates(i64 n_items, const i64* cells, const i64* candidates, const double* distance,
                                              i64 n_candidates, i64 n_nearest, i64* nearest, double* nearest_distance,
                                              double* farthest) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    i64* mine = nearest + item * n_nearest;
    double* far = nearest_distance + item * n_nearest;
    i64 filled = 0;
    farthest[item] = 0.0;
    for (i64 c = 0; c < n_candidates; ++c) {
        const i64 other = candidates[item * n_candidates + c];
        const double d = distance[item * n_candidates + c];
        farthest[item] = fmax(farthest[item], d);
        if (other >= 0 && other != cells[item]) filled = keep_nearest(other, d, filled, n_nearest, mine, far);
    }
    nobody_from(filled, n_nearest, mine, far);
}

extern "C" __global__ void nearest_of_all(i64 n_items, const double* x, i64 n_dims, const i64* cells, const i64* members, i64 n_members,
                                          i64 n_nearest, i64* nearest, double* nearest_distance) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    i64* mine = nearest + item * n_nearest;
    double* far = nearest_distance + item * n_nearest;
    const i64 cell = cells[item];
    i64 filled = 0;
    for (i64 m = 0; m < n_members; ++m) {
        const i64 other = members[m];
        if (other == cell) continue;
        double d = 0.0;
        for (i64 k = 0; k < n_dims; ++k) {
            const double gap = x[cell * n_dims + k] - x[other * n_dims + k];
            d += gap * gap;
        }
        filled = keep_nearest(other, d, filled, n_nearest, mine, far);
    }
    nobody_from(filled, n_nearest, mine, far);
}
