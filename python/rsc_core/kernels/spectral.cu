#include "device.cuh"
// One thread owns one item and adds in the order of the loops in spectral.py: no atomics, the same bits on every run.
#define LANES 32
#define CHUNK 4096

__device__ __forceinline__ i64 thread_item() { return blockIdx.x * (i64)blockDim.x + threadIdx.x; }

extern "C" __global__ void row_sums(i64 n_items, const i64* indptr, const double* weight, double* out) {
    const i64 row = thread_item();
    if (row >= n_items) return;
    double total = 0.0;
    for (i64 e = indptr[row]; e < indptr[row + 1]; ++e) total += weight[e];
    out[row] = total;
}

extern "C" __global__ void scaled_entries(i64 n_items, const i64* indptr, const int* indices, const double* weight, const double* factor,
                                          double* out) {
    const i64 row = thread_item();
    if (row >= n_items) return;
    for (i64 e = indptr[row]; e < indptr[row + 1]; ++e) out[e] = weight[e] * (factor[row] * factor[indices[e]]);
}

extern "C" __global__ void matrix_vector(i64 n_items, const i64* indptr, const int* indices, const double* weight, const double* x,
                                         double* out) {
    const i64 row = thread_item();
    if (row >= n_items) return;
    double total = 0.0;
    for (i64 e = indptr[row]; e < indptr[row + 1]; ++e) total += weight[e] * x[indices[e]];
    out[row] = total;
}

extern "C" __global__ void product_parts(i64 n_items, const double* basis, const double* x, i64 n_cells, i64 n_chunks, double* parts) {
    const i64 item = thread_item();
    if (item >= n_items) return;
    const i64 lane = item % LANES, block = item / LANES, row = block / n_chunks, chunk = block % n_chunks;
    const i64 last = min(n_cells, (chunk + 1) * CHUNK);
    double total = 0.0;
    for (i64 cell = chunk * CHUNK + lane; cell < last; cell += LANES) total += basis[row * n_cells + cell] * x[cell];
    parts[item] = total;
}

extern "C" __global__ void add_parts(i64 n_items, const double* parts, i64 n_chunks, double* before, double* total) {
    const i64 row = thread_item();
    if (row >= n_items) return;
    double value = 0.0;
    for (i64 part = 0; part < n_chunks * LANES; ++part) value += parts[row * n_chunks * LANES + part];
    total[row] = value;
    before[row] += value;
}

extern "C" __global__ void subtract_rows(i64 n_items, const double* basis, const double* factor, i64 n_rows, i64 n_cells, double* x) {
    const i64 cell = thread_item();
    if (cell >= n_items) return;
    double value = x[cell];
    for (i64 row = 0; row < n_rows; ++row) value -= factor[row] * basis[row * n_cells + cell];
    x[cell] = value;
}

extern "C" __global__ void divide_by_root(i64 n_items, const double* x, const double* square, double* out) {
    const i64 cell = thread_item();
    if (cell >= n_items) return;
    out[cell] = square[0] > 0.0 ? x[cell] / sqrt(square[0]) : 0.0;
}

extern "C" __global__ void combine_rows(i64 n_items, const double* basis, const double* factor, i64 n_rows, i64 n_out, double* out) {
    const i64 cell = thread_item();
    if (cell >= n_items) return;
    for (i64 j = 0; j < n_out; ++j) {
        double value = 0.0;
        for (i64 row = 0; row < n_rows; ++row) value += factor[j * n_rows + row] * basis[row * n_items + cell];
        out[j * n_items + cell] = value;
    }
}
