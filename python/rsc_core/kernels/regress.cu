// What a linear model leaves of each value.
#include "device.cuh"

__device__ __forceinline__ double fitted(const double* __restrict__ design, i64 n_design, const double* __restrict__ coefficients,
                                         i64 n_columns, i64 column) {
    double sum = 0.0;
    for (i64 j = 0; j < n_design; ++j) sum += design[j] * coefficients[j * n_columns + column];
    return sum;
}

// values - design · coefficients; one block owns a strip of rows, a thread some columns. It takes ROWS values at once, for the
// memory's latency, and a coefficient for all of them.
#define ROWS 8
extern "C" __global__ void __launch_bounds__(256)
    left_dense(i64 n_items, i64 n_rows, const float* __restrict__ values, const double* __restrict__ design, i64 n_design,
               const double* __restrict__ coefficients, i64 n_columns, i64 strip_rows, float* __restrict__ out) {
    const i64 start = blockIdx.x * strip_rows, stop = min(n_rows, start + strip_rows);
    for (i64 column = threadIdx.x; column < n_columns; column += blockDim.x) {
        for (i64 row = start; row < stop; row += ROWS) {
            const int n_here = (int)min(stop - row, (i64)ROWS);
            double value[ROWS], sum[ROWS] = {};
#pragma unroll
            for (int r = 0; r < ROWS; ++r) value[r] = r < n_here ? values[(row + r) * n_columns + column] : 0.0f;
            for (i64 j = 0; j < n_design; ++j) {
                const double coefficient = coefficients[j * n_columns + column];
#pragma unroll
                for (int r = 0; r < ROWS; ++r)
                    if (r < n_here) sum[r] += design[(row + r) * n_design + j] * coefficient;
            }
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
                if (r < n_here) out[(row + r) * n_columns + column] = (float)(value[r] - sum[r]);
        }
    }
}

// One warp owns one row.
extern "C" __global__ void left_sparse(i64 n_items, const i64* indptr, const int* indices, const float* values, const double* design,
                                       i64 n_design, const double* coefficients, i64 n_columns, float* out) {
    const i64 row = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (row >= n_items) return;
    const int lane = threadIdx.x % 32;
    for (i64 column = lane; column < n_columns; column += 32)
        out[row * n_columns + column] = (float)-fitted(design + row * n_design, n_design, coefficients, n_columns, column);
    __syncwarp();
    for (i64 k = indptr[row] + lane; k < indptr[row + 1]; k += 32) {
        const double left = values[k] - fitted(design + row * n_design, n_design, coefficients, n_columns, indices[k]);
        out[row * n_columns + indices[k]] = (float)left;
    }
}
