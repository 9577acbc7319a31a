#include "device.cuh"
// Sums are made in the order of the loops in spectral.py: no atomics, the same bits on every run.
#define LANES 32
#define ROW_LANES 4
#define THREADS 256

__device__ __forceinline__ i64 thread_item() { return blockIdx.x * (i64)blockDim.x + threadIdx.x; }

// Scalar product of two chunks by a warp: every 32nd entry by one lane, then halves of the lanes onto halves.
__device__ __forceinline__ double chunk_product(const double* left, const double* right, i64 first, i64 last) {
    double total = 0.0;
#pragma unroll 4
    for (i64 cell = first + threadIdx.x % LANES; cell < last; cell += LANES) total += left[cell] * right[cell];
    for (int step = LANES / 2; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
    return total;
}

__device__ __forceinline__ double sum_of_chunks(const double* parts, i64 n_chunks, i64 stride) {
    double total = 0.0;
#pragma unroll 16
    for (i64 chunk = 0; chunk < n_chunks; ++chunk) total += parts[chunk * stride];
    return total;
}

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
    const i64 row = thread_item() / ROW_LANES;
    const bool there = row < n_items;
    const i64 last = there ? indptr[row + 1] : 0;
    double part = 0.0, total = 0.0;
#pragma unroll 4
    for (i64 e = there ? indptr[row] + threadIdx.x % ROW_LANES : 0; e < last; e += ROW_LANES) part += weight[e] * x[indices[e]];
    for (int lane = 0; lane < ROW_LANES; ++lane) total += __shfl_sync(0xffffffffu, part, lane, ROW_LANES);
    if (there && threadIdx.x % ROW_LANES == 0) out[row] = total;
}

extern "C" __global__ void dot_parts(i64 n_items, const double* basis, const double* x, i64 n_rows, i64 n_cells, i64 width, double* parts) {
    const i64 first = blockIdx.x * width, last = min(n_cells, first + width);
    for (i64 row = threadIdx.x / LANES; row < n_rows; row += THREADS / LANES) {
        const double part = chunk_product(basis + row * n_cells, x, first, last);
        if (threadIdx.x % LANES == 0) parts[blockIdx.x * n_rows + row] = part;
    }
}

extern "C" __global__ void subtract_rows(i64 n_items, const double* basis, const double* before, i64 n_rows, i64 n_cells, i64 width, i64 own,
                                         double* record, double* x, double* parts) {
    __shared__ double factor[THREADS];
    const i64 first = blockIdx.x * width, last = min(n_cells, first + width);
    for (i64 start = 0; start < n_rows; start += THREADS) {
        const i64 mine = start + threadIdx.x;
        if (mine < n_rows) {
            factor[threadIdx.x] = sum_of_chunks(before + mine, n_items, n_rows);
            if (blockIdx.x == 0) record[mine] += factor[threadIdx.x];
        }
        __syncthreads();
        const int n = (int)min((i64)THREADS, n_rows - start);
        for (i64 cell = first + threadIdx.x; cell < last; cell += THREADS) {
            double value = x[cell];
#pragma unroll 8
            for (int k = 0; k < n; ++k) value -= factor[k] * basis[(start + k) * n_cells + cell];
            x[cell] = value;
        }
        __syncthreads();
    }
    const i64 n_parts = own ? 1 : n_rows;
    for (i64 row = threadIdx.x / LANES; row < n_parts; row += THREADS / LANES) {
        const double part = chunk_product(own ? x : basis + row * n_cells, x, first, last);
        if (threadIdx.x % LANES == 0) parts[blockIdx.x * n_parts + row] = part;
    }
}

extern "C" __global__ void divide_by_root(i64 n_items, const double* x, const double* parts, i64 n_chunks, double* square, double* out) {
    __shared__ double total;
    if (threadIdx.x == 0) {
        total = sum_of_chunks(parts, n_chunks, 1);
        if (blockIdx.x == 0) square[0] = total;
    }
    __syncthreads();
    const i64 cell = thread_item();
    if (cell < n_items) out[cell] = total > 0.0 ? x[cell] / sqrt(total) : 0.0;
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
