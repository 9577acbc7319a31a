// One warp owns one cell, so that loads of its values are coalesced.
#include "device.cuh"

__device__ __forceinline__ i64 warp_item() { return (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32; }

// Cells outside the mask keep their values.
extern "C" __global__ void scale_entries(i64 n_items, const i64* indptr, const int* indices, const float* values, const int* mask,
                                         const double* spread, double highest, float* out) {
    const i64 cell = warp_item();
    if (cell >= n_items) return;
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32)
        out[k] = mask[cell] ? (float)min(values[k] / spread[indices[k]], highest) : values[k];
}

extern "C" __global__ void scaled_rows(i64 n_items, const i64* indptr, const int* indices, const float* values, const int* mask,
                                       const double* center, const double* spread, double lowest, double highest, i64 n_genes, float* out) {
    const i64 cell = warp_item();
    if (cell >= n_items) return;
    const int lane = threadIdx.x % 32;
    for (i64 gene = lane; gene < n_genes; gene += 32)
        out[cell * n_genes + gene] = mask[cell] ? (float)min(max(-center[gene] / spread[gene], lowest), highest) : 0.0f;
    __syncwarp();
    for (i64 k = indptr[cell] + lane; k < indptr[cell + 1]; k += 32) {
        const i64 gene = indices[k];
        out[cell * n_genes + gene] = mask[cell] ? (float)min(max((values[k] - center[gene]) / spread[gene], lowest), highest) : values[k];
    }
}

extern "C" __global__ void scaled_dense(i64 n_items, const float* __restrict__ x, const int* __restrict__ mask,
                                        const double* __restrict__ center, const double* __restrict__ spread, double lowest, double highest,
                                        i64 n_genes, float* __restrict__ out) {
    const i64 cell = warp_item();
    if (cell >= n_items) return;
#pragma unroll 4
    for (i64 gene = threadIdx.x % 32; gene < n_genes; gene += 32) {
        const i64 k = cell * n_genes + gene;
        out[k] = mask[cell] ? (float)min(max((x[k] - center[gene]) / spread[gene], lowest), highest) : x[k];
    }
}
