// One warp owns one row.
#include "device.cuh"

// A row is written three times: counts of one cell, counts of both, and what they become.
extern "C" __global__ void standard_sums(i64 n_items, const i64* __restrict__ first, const i64* __restrict__ second,
                                         const i64* __restrict__ indptr, const int* __restrict__ indices, const float* __restrict__ values,
                                         double target, const double* __restrict__ center, const double* __restrict__ spread, i64 n_genes,
                                         float* out) {
    const i64 item = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (item >= n_items) return;
    const int lane = threadIdx.x % 32;
    float* row = out + item * n_genes;
    for (i64 gene = lane; gene < n_genes; gene += 32) row[gene] = 0.0f;
    __syncwarp();
    double total = 0.0;
    for (i64 k = indptr[first[item]] + lane; k < indptr[first[item] + 1]; k += 32) {
        row[indices[k]] = values[k];
        total += values[k];
    }
    __syncwarp();
    if (second[item] >= 0)
        for (i64 k = indptr[second[item]] + lane; k < indptr[second[item] + 1]; k += 32) {
            row[indices[k]] += values[k];
            total += values[k];
        }
    __syncwarp();
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
    const double factor = total > 0.0 ? total / target : 1.0;
    for (i64 gene = lane; gene < n_genes; gene += 32)
        row[gene] = (float)(((double)(float)(row[gene] / factor) - center[gene]) / spread[gene]);
}
