#include "device.cuh"
// One thread owns one item and adds in the order of the loops in graph.py. Atomics count integers only: which place of its
// row an entry gets is chance, until sort_rows puts the entries in their one order.
#define STEPS 64
#define TOLERANCE 1e-5
#define SMALLEST_WIDTH 1e-3

__device__ __forceinline__ i64 thread_item() { return blockIdx.x * (i64)blockDim.x + threadIdx.x; }

__device__ __forceinline__ i64 one_more(i64* count) { return (i64)atomicAdd((u64*)count, 1ULL); }

__device__ __forceinline__ i64 place_of(i64 cell, const i64* neighbors, i64 n_nearest) {
    for (i64 k = 0; k < n_nearest; ++k)
        if (neighbors[k] == cell) return k;
    return -1;
}

extern "C" __global__ void smooth_widths(i64 n_items, const double* distance, i64 n_nearest, double target, double* rho,
                                         double* sigma) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    const double* mine = distance + cell * n_nearest;
    double nearest = 0.0;
    for (i64 k = 0; k < n_nearest; ++k)
        if (mine[k] > 0.0) { nearest = mine[k]; break; }
    double low = 0.0, high = 1.0 / 0.0, width = 1.0;
    for (int step = 0; step < STEPS; ++step) {
        double total = 0.0;
        for (i64 k = 0; k < n_nearest; ++k) {
            const double gap = mine[k] - nearest;
            total += gap > 0.0 ? exp_double(-(gap / width)) : 1.0;
        }
        if (fabs(total - target) < TOLERANCE) break;
        if (total > target) {
            high = width;
            width = (low + high) / 2.0;
        } else {
            low = width;
            width = isinf(high) ? width * 2.0 : (low + high) / 2.0;
        }
    }
    rho[cell] = nearest;
    sigma[cell] = width;
}

extern "C" __global__ void membership(i64 n_items, const double* distance, const double* rho, const double* sigma, i64 n_nearest,
                                      double mean_distance, double* weight) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    const double* mine = distance + cell * n_nearest;
    double own_mean = 0.0;
    for (i64 k = 0; k < n_nearest; ++k) own_mean += mine[k];
    own_mean /= n_nearest + 1.0;
    const double width = fmax(sigma[cell], SMALLEST_WIDTH * (rho[cell] > 0.0 ? own_mean : mean_distance));
    for (i64 k = 0; k < n_nearest; ++k) {
        const double gap = mine[k] - rho[cell];
        weight[cell * n_nearest + k] = gap > 0.0 && width > 0.0 ? exp_double(-(gap / width)) : 1.0;
    }
}

extern "C" __global__ void fuzzy_union(i64 n_items, const i64* nearest, const double* weight, i64 n_nearest, float* value,
                                       unsigned char* mutual) {
    const i64 item = thread_item();
    if (item >= n_items) return;
    const i64 other = nearest[item];
    const double forth = weight[item];
    const i64 there = place_of(item / n_nearest, nearest + other * n_nearest, n_nearest);
    const double back = there >= 0 ? weight[other * n_nearest + there] : 0.0;
    value[item] = (float)((forth + back) - forth * back);
    mutual[item] = there >= 0;
}

extern "C" __global__ void median_squares(i64 n_items, const double* distance, i64 n_nearest, double* square) {
    const i64 cell = thread_item();
    if (cell >= n_items) return;
    const double low = distance[cell * n_nearest + (n_nearest - 1) / 2], high = distance[cell * n_nearest + n_nearest / 2];
    square[cell] = (low * low + high * high) / 2.0;
}

extern "C" __global__ void gauss_weights(i64 n_items, const i64* nearest, const double* distance, const double* square, i64 n_nearest,
                                         float* value, unsigned char* mutual) {
    const i64 item = thread_item();
    if (item >= n_items) return;
    const i64 cell = item / n_nearest, other = nearest[item];
    const double d = distance[item], both = square[cell] + square[other];
    double found = 1.0;
    if (both > 0.0) found = sqrt(2.0 * (sqrt(square[cell]) * sqrt(square[other])) / both) * exp_double(-(d * d / both));
    value[item] = (float)found;
    mutual[item] = place_of(cell, nearest + other * n_nearest, n_nearest) >= 0;
}

extern "C" __global__ void jaccard_weights(i64 n_items, const i64* nearest, i64 n_nearest, float* value, unsigned char* mutual) {
    const i64 item = thread_item();
    if (item >= n_items) return;
    const i64 cell = item / n_nearest;
    const i64* others = nearest + nearest[item] * n_nearest;
    i64 shared = 0;
    for (i64 k = 0; k < n_nearest; ++k) shared += place_of(nearest[cell * n_nearest + k], others, n_nearest) >= 0;
    mutual[item] = place_of(cell, others, n_nearest) >= 0;
    const double ratio = (double)shared / (double)(2 * n_nearest - shared);
    value[item] = (float)(mutual[item] ? ratio : ratio / 2.0);
}

extern "C" __global__ void count_edges(i64 n_items, const i64* nearest, const float* value, const unsigned char* mutual, i64 n_nearest,
                                       i64* count) {
    const i64 item = thread_item();
    if (item >= n_items || !(value[item] > 0)) return;
    one_more(count + item / n_nearest);
    if (mutual[item] == 0) one_more(count + nearest[item]);
}

extern "C" __global__ void place_edges(i64 n_items, const i64* nearest, const float* value, const unsigned char* mutual, i64 n_nearest,
                                       const i64* indptr, i64* filled, int* indices, float* values) {
    const i64 item = thread_item();
    if (item >= n_items || !(value[item] > 0)) return;
    const i64 cell = item / n_nearest, other = nearest[item];
    const i64 to = indptr[cell] + one_more(filled + cell);
    indices[to] = (int)other;
    values[to] = value[item];
    if (mutual[item] == 0) {
        const i64 back = indptr[other] + one_more(filled + other);
        indices[back] = (int)cell;
        values[back] = value[item];
    }
}

extern "C" __global__ void sort_rows(i64 n_items, const i64* indptr, int* indices, float* values) {
    const i64 row = thread_item();
    if (row < n_items) sort_row(indptr[row], indptr[row + 1], indices, values);
}

extern "C" __global__ void row_thresholds(i64 n_items, const i64* indptr, const int* bits, i64 n_kept, int* threshold) {
    const i64 row = thread_item();
    if (row >= n_items) return;
    int found = 0;
    if (indptr[row + 1] - indptr[row] > n_kept)
        for (int bit = 30; bit >= 0; --bit) {
            const int reach = found | (1 << bit);
            i64 larger = 0;
            for (i64 e = indptr[row]; e < indptr[row + 1]; ++e) larger += bits[e] >= reach;
            if (larger >= n_kept) found = reach;
        }
    threshold[row] = found;
}

extern "C" __global__ void count_strong(i64 n_items, const i64* indptr, const int* indices, const int* bits, const int* threshold,
                                        i64* count) {
    const i64 row = thread_item();
    if (row >= n_items) return;
    i64 kept = 0;
    for (i64 e = indptr[row]; e < indptr[row + 1]; ++e) kept += bits[e] >= max(threshold[row], threshold[indices[e]]);
    count[row] = kept;
}

extern "C" __global__ void keep_strong(i64 n_items, const i64* indptr, const int* indices, const int* bits, const int* threshold,
                                       const i64* new_indptr, int* new_indices, int* new_bits) {
    const i64 row = thread_item();
    if (row >= n_items) return;
    i64 to = new_indptr[row];
    for (i64 e = indptr[row]; e < indptr[row + 1]; ++e)
        if (bits[e] >= max(threshold[row], threshold[indices[e]])) {
            new_indices[to] = indices[e];
            new_bits[to++] = bits[e];
        }
}
