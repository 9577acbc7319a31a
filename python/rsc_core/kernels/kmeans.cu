#include "device.cuh"
// One thread owns one item; atomics add integers only: any order gives the same.
__device__ __forceinline__ i64 thread_item() { return blockIdx.x * (i64)blockDim.x + threadIdx.x; }

extern "C" __global__ void row_largest(i64 n_items, const double* x, i64 n_dims, double* out) {
    const i64 row = thread_item();
    if (row >= n_items) return;
    double largest = 0.0;
    for (i64 d = 0; d < n_dims; ++d) largest = fmax(largest, fabs(x[row * n_dims + d]));
    out[row] = largest;
}

extern "C" __global__ void nearest_centroid(i64 n_items, const double* x, i64 n_dims, const double* columns, i64 n_clusters, int* label,
                                            double* square) {
    const i64 row = thread_item();
    if (row >= n_items) return;
    int best = 0;
    double smallest = 0.0;
    for (i64 c = 0; c < n_clusters; ++c) {
        double total = 0.0;
        for (i64 d = 0; d < n_dims; ++d) {
            const double gap = x[row * n_dims + d] - columns[d * n_clusters + c];
            total += gap * gap;
        }
        if (c == 0 || total < smallest) {
            best = (int)c;
            smallest = total;
        }
    }
    label[row] = best;
    square[row] = smallest;
}

extern "C" __global__ void cluster_sums(i64 n_items, const double* x, i64 n_dims, const int* label, double scale, i64* sums, i64* sizes) {
    const i64 item = thread_item();
    if (item >= n_items) return;
    const i64 row = item / n_dims, d = item % n_dims;
    atomicAdd((u64*)(sums + label[row] * n_dims + d), (u64)(i64)rint(x[item] * scale));
    if (d == 0) atomicAdd((u64*)(sizes + label[row]), 1ULL);
}

extern "C" __global__ void gap_to_row(i64 n_items, const double* x, i64 n_dims, i64 row, double* square) {
    const i64 item = thread_item();
    if (item >= n_items) return;
    double total = 0.0;
    for (i64 d = 0; d < n_dims; ++d) {
        const double gap = x[item * n_dims + d] - x[row * n_dims + d];
        total += gap * gap;
    }
    square[item] = fmin(square[item], total);
}
