// One warp owns one column: lane l adds the values l, l + 32, ... in order, and a tree joins the lanes.
#include "device.cuh"

__device__ __forceinline__ i64 warp_item() { return (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32; }

// The sum of the lanes, in all of them.
__device__ __forceinline__ double joined(double part) {
    for (int step = 16; step > 0; step /= 2) part += __shfl_down_sync(0xffffffffu, part, step);
    return __shfl_sync(0xffffffffu, part, 0);
}

__device__ __forceinline__ double transformed(float value, double factor, int take_expm1) {
    return take_expm1 ? expm1(value * factor) : value * factor;
}

// Offsets from the first value where no zero is left out, so that a constant column has no variance at all.
extern "C" __global__ void column_moments(i64 n_items, const i64* indptr, const float* values, i64 n_rows, double factor, int take_expm1,
                                          double* mean, double* deviation) {
    const i64 column = warp_item();
    if (column >= n_items) return;
    const i64 start = indptr[column], stop = indptr[column + 1], zeros = n_rows - (stop - start);
    const int lane = threadIdx.x % 32;
    const double offset = zeros == 0 && n_rows > 0 ? transformed(values[start], factor, take_expm1) : 0.0;
    double part = 0;
    for (i64 k = start + lane; k < stop; k += 32) part += transformed(values[k], factor, take_expm1) - offset;
    const double center = offset + joined(part) / max(n_rows, (i64)1);
    part = 0;
    for (i64 k = start + lane; k < stop; k += 32) {
        const double value = transformed(values[k], factor, take_expm1);
        part += (value - center) * (value - center);
    }
    part = joined(part);
    if (lane == 0) {
        mean[column] = center;
        deviation[column] = part + zeros * center * center;
    }
}

__device__ __forceinline__ double residual(double count, double expected, double theta, double clip) {
    if (expected <= 0.0) return 0.0;
    const double value = (count - expected) / sqrt(expected + expected * expected / theta);
    return min(max(value, -clip), clip);
}

// The residual of a zero depends on the total of its cell alone: once for each distinct total, as often as it occurs.
extern "C" __global__ void residual_variance(i64 n_items, const i64* indptr, const int* indices, const float* values,
                                             const double* cell_total, const double* distinct, const i64* times, i64 n_distinct,
                                             const double* share, double theta, double clip, i64 n_cells, double* variance) {
    const i64 gene = warp_item();
    if (gene >= n_items) return;
    const int lane = threadIdx.x % 32;
    double sums = 0, squares = 0;
    for (i64 d = lane; d < n_distinct; d += 32) {
        const double zero = residual(0.0, distinct[d] * share[gene], theta, clip);
        sums += times[d] * zero;
        squares += times[d] * (zero * zero);
    }
    for (i64 k = indptr[gene] + lane; k < indptr[gene + 1]; k += 32) {
        const double expected = cell_total[indices[k]] * share[gene];
        const double zero = residual(0.0, expected, theta, clip), here = residual(values[k], expected, theta, clip);
        sums += here - zero;
        squares += here * here - zero * zero;
    }
    const double center = joined(sums) / n_cells;
    squares = joined(squares);
    if (lane == 0) variance[gene] = squares / n_cells - center * center;
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
