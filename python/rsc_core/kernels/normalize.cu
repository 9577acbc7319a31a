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

// (float)(value / factor). The product with the reciprocal is within 4 units of the last place of the quotient, so that it rounds to
// the same float unless it lies beside the middle between two floats; only there, and outside of the normal floats, is it divided.
__device__ __forceinline__ float share(double value, double factor, double reciprocal) {
    const double near = value * reciprocal;
    const unsigned int below_float = (unsigned int)__double_as_longlong(near) & 0x1fffffffu;
    if (near > 1.2e-38 && near < 3.4e38 && below_float - 0x0ffffff8u > 16u) return (float)near;
    return (float)(value / factor);
}

// The next KEPT values of a thread, all asked for at once; 0 beyond the row.
#define KEPT 12
__device__ __forceinline__ void keep(const float* __restrict__ values, i64 k, i64 stop, float* kept) {
#pragma unroll
    for (int j = 0; j < KEPT; ++j) kept[j] = k + 256 * j < stop ? values[k + 256 * j] : 0.0f;
}

// One block owns one row. Each thread adds its values in order, then a tree; it reads them once where the row is short.
extern "C" __global__ void __launch_bounds__(256)
    shares_of_rows(i64 n_items, const i64* __restrict__ indptr, const float* __restrict__ values, double target,
                   double* __restrict__ size_factor, float* __restrict__ out) {
    __shared__ double of_warp[8];
    const i64 row = blockIdx.x, start = indptr[row] + threadIdx.x, stop = indptr[row + 1];
    float kept[KEPT];
    double total = 0.0;
    for (i64 k = start; k < stop; k += 256 * KEPT) {
        keep(values, k, stop, kept);
#pragma unroll
        for (int j = 0; j < KEPT; ++j) total += kept[j];
    }
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = total;
    __syncthreads();
    total = 0.0;
    for (int warp = 0; warp < 8; ++warp) total += of_warp[warp];
    const double factor = total > 0.0 ? total / target : 1.0, reciprocal = 1.0 / factor;
    for (i64 k = start; k < stop; k += 256 * KEPT) {
        if (start + 256 * KEPT < stop) keep(values, k, stop, kept);
#pragma unroll
        for (int j = 0; j < KEPT; ++j)
            if (k + 256 * j < stop) out[k + 256 * j] = share(kept[j], factor, reciprocal);
    }
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
