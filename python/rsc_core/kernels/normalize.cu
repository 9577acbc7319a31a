// One warp owns one row, so that loads of its values are coalesced.
#include "device.cuh"

__device__ __forceinline__ i64 warp_item() { return (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32; }

// Lanes add every 32nd value in order, then by a tree: the same bits every run, and those of the CPU where the sums are
// integers below 2^53, as with counts.
extern "C" __global__ void row_sums(i64 n_items, const i64* indptr, const float* values, double* out) {
    const i64 row = warp_item();
    const int lane = threadIdx.x % 32;
    if (row >= n_items) return;
    double total = 0;
    for (i64 k = indptr[row] + lane; k < indptr[row + 1]; k += 32) total += values[k];
    for (int step = 16; step > 0; step /= 2) total += __shfl_down_sync(0xffffffffu, total, step);
    if (lane == 0) out[row] = total;
}

extern "C" __global__ void positive_sizes(i64 n_items, const i64* __restrict__ indptr, const float* __restrict__ values, i64* out) {
    const i64 row = warp_item();
    if (row >= n_items) return;
    const i64 stop = indptr[row + 1];
    i64 found = 0;
#pragma unroll 4
    for (i64 k = indptr[row] + threadIdx.x % 32; k < stop; k += 32) found += values[k] > 0;
    for (int step = 16; step > 0; step /= 2) found += __shfl_down_sync(0xffffffffu, found, step);
    if (threadIdx.x % 32 == 0) out[row] = found;
}

// Unrolled, and with no stores that loads would have to wait for: it is the memory's latency that it waits for.
extern "C" __global__ void scale_rows(i64 n_items, const i64* __restrict__ indptr, const float* __restrict__ values,
                                      const double* __restrict__ size_factor, int take_log, float* __restrict__ out) {
    const i64 row = warp_item();
    if (row >= n_items) return;
    const i64 stop = indptr[row + 1];
    const double factor = size_factor[row];
#pragma unroll 4
    for (i64 k = indptr[row] + threadIdx.x % 32; k < stop; k += 32) {
        const double scaled = values[k] / factor;
        out[k] = (float)(take_log ? log1p_double(scaled) : scaled);
    }
}

// One block owns one row and reads it twice, the second time from its cache. Each thread adds its values in order, then a tree.
extern "C" __global__ void __launch_bounds__(256)
    shares_of_rows(i64 n_items, const i64* __restrict__ indptr, const float* __restrict__ values, double target,
                   double* __restrict__ size_factor, float* __restrict__ out) {
    __shared__ double of_warp[8];
    const i64 row = blockIdx.x, start = indptr[row] + threadIdx.x, stop = indptr[row + 1];
    double total = 0.0;
#pragma unroll 4
    for (i64 k = start; k < stop; k += 256) total += values[k];
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = total;
    __syncthreads();
    total = 0.0;
    for (int warp = 0; warp < 8; ++warp) total += of_warp[warp];
    const double factor = total > 0.0 ? total / target : 1.0;
#pragma unroll 4
    for (i64 k = start; k < stop; k += 256) out[k] = (float)(values[k] / factor);
    if (threadIdx.x == 0) size_factor[row] = factor;
}

// Every cell that finds a dominant gene writes the same 1.
extern "C" __global__ void dominant_columns(i64 n_items, const i64* indptr, const int* indices, const float* values, const double* limit,
                                            int* dominant) {
    const i64 row = warp_item();
    if (row >= n_items) return;
    for (i64 k = indptr[row] + threadIdx.x % 32; k < indptr[row + 1]; k += 32)
        if (values[k] > limit[row]) dominant[indices[k]] = 1;
}
