// One warp owns one share or cell: lane l adds the values l, l + 32, ... in order, and a tree joins the lanes.
#include "device.cuh"

__device__ __forceinline__ i64 warp_item() { return (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32; }

// The sum of the lanes, in all of them.
__device__ __forceinline__ double joined(double part) {
    for (int step = 16; step > 0; step /= 2) part += __shfl_down_sync(0xffffffffu, part, step);
    return __shfl_sync(0xffffffffu, part, 0);
}

__device__ __forceinline__ double residual(double count, double expected, double theta, double clip) {
    if (expected <= 0.0) return 0.0;
    const double value = (count - expected) / sqrt(expected + expected * expected / theta);
    return min(max(value, -clip), clip);
}

extern "C" __global__ void residual_rows(i64 n_items, const i64* indptr, const int* indices, const float* values, const double* cell_total,
                                         const double* share, i64 n_genes, double theta, double clip, float* out) {
    const i64 cell = warp_item();
    if (cell >= n_items) return;
    const int lane = threadIdx.x % 32;
    for (i64 gene = lane; gene < n_genes; gene += 32)
        out[cell * n_genes + gene] = (float)residual(0.0, cell_total[cell] * share[gene], theta, clip);
    __syncwarp();
    for (i64 k = indptr[cell] + lane; k < indptr[cell + 1]; k += 32)
        out[cell * n_genes + indices[k]] = (float)residual(values[k], cell_total[cell] * share[indices[k]], theta, clip);
}

extern "C" __global__ void expected_zeros(i64 n_items, const double* distinct, const i64* times, const double* share, i64 n_distinct,
                                          double* out) {
    const i64 gene = warp_item();
    if (gene >= n_items) return;
    double part = 0;
    for (i64 d = threadIdx.x % 32; d < n_distinct; d += 32) part += times[d] * exp_double(-share[gene] * distinct[d]);
    part = joined(part);
    if (threadIdx.x % 32 == 0) out[gene] = part;
}

extern "C" __global__ void zero_residuals(i64 n_items, const double* distinct, const i64* times, const double* share, i64 n_distinct,
                                          double theta, double clip, double* sums, double* squares) {
    const i64 item = warp_item();
    if (item >= n_items) return;
    double some = 0, some_squares = 0;
    for (i64 d = threadIdx.x % 32; d < n_distinct; d += 32) {
        const double zero = residual(0.0, distinct[d] * share[item], theta, clip);
        some += times[d] * zero;
        some_squares += times[d] * (zero * zero);
    }
    some = joined(some);
    some_squares = joined(some_squares);
    if (threadIdx.x % 32 == 0) {
        sums[item] = some;
        squares[item] = some_squares;
    }
}
