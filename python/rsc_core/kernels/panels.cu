// One block owns one panel of rows and goes row after row; its threads take the row's columns, which are distinct.
#include "device.cuh"

// Of each column: number of entries, their sum, the sums of their distances from a center, and of the squares of these.
__device__ __forceinline__ void add_moments(double* part, float stored, double factor, int take_expm1, double center) {
    const double value = take_expm1 ? expm1(stored * factor) : stored * factor;
    const double apart = value - center;
    part[0] += 1.0;
    part[1] += value;
    part[2] += apart;
    part[3] += apart * apart;
}

extern "C" __global__ void panel_moments(i64 n_items, i64 first, const i64* indptr, const int* indices, const float* values, i64 n_rows,
                                         i64 n_columns, i64 panel_rows, double factor, int take_expm1, const double* center,
                                         double* parts) {
    const i64 panel = blockIdx.x, start = first + panel * panel_rows, stop = min(n_rows, start + panel_rows);
    for (i64 row = start; row < stop; ++row) {
        for (i64 k = indptr[row] + threadIdx.x; k < indptr[row + 1]; k += blockDim.x) {
            const i64 column = indices[k];
            add_moments(parts + (panel * n_columns + column) * 4, values[k], factor, take_expm1, center[column]);
        }
        __syncthreads();
    }
}

extern "C" __global__ void panel_moments_dense(i64 n_items, i64 first, const float* values, i64 n_rows, i64 n_columns, i64 panel_rows,
                                               double factor, int take_expm1, const double* center, double* parts) {
    const i64 panel = blockIdx.x, start = first + panel * panel_rows, stop = min(n_rows, start + panel_rows);
    for (i64 column = threadIdx.x; column < n_columns; column += blockDim.x)
        for (i64 row = start; row < stop; ++row)
            add_moments(parts + (panel * n_columns + column) * 4, values[row * n_columns + column], factor, take_expm1, center[column]);
}

__device__ __forceinline__ double residual(double count, double expected, double theta, double clip) {
    if (expected <= 0.0) return 0.0;
    const double value = (count - expected) / sqrt(expected + expected * expected / theta);
    return min(max(value, -clip), clip);
}

// What the entries of a column change in the sums of residuals, and of their squares, of a column of zeros.
extern "C" __global__ void panel_residuals(i64 n_items, i64 first, const i64* indptr, const int* indices, const float* values,
                                           const double* cell_total, const double* share, double theta, double clip, i64 n_rows,
                                           i64 n_columns, i64 panel_rows, double* parts) {
    const i64 panel = blockIdx.x, start = first + panel * panel_rows, stop = min(n_rows, start + panel_rows);
    for (i64 row = start; row < stop; ++row) {
        for (i64 k = indptr[row] + threadIdx.x; k < indptr[row + 1]; k += blockDim.x) {
            const i64 column = indices[k];
            const double expected = cell_total[row] * share[column];
            const double zero = residual(0.0, expected, theta, clip), here = residual(values[k], expected, theta, clip);
            double* part = parts + (panel * n_columns + column) * 2;
            part[0] += here - zero;
            part[1] += here * here - zero * zero;
        }
        __syncthreads();
    }
}

extern "C" __global__ void add_panels(i64 n_items, const double* parts, i64 n_panels, double* total) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    double sum = total[item];
    for (i64 panel = 0; panel < n_panels; ++panel) sum += parts[panel * n_items + item];
    total[item] = sum;
}

// One block: tiles of 1024 sizes; a warp adds up by shuffles, then the first warp adds up the warps.
extern "C" __global__ void running_total(i64 n_items, const i64* sizes, i64 n_sizes, i64* out) {
    __shared__ i64 of_warp[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    i64 before = 0;
    if (threadIdx.x == 0) out[0] = 0;
    for (i64 tile = 0; tile < n_sizes; tile += blockDim.x) {
        const i64 i = tile + threadIdx.x;
        i64 sum = i < n_sizes ? sizes[i] : 0;
        for (int step = 1; step < 32; step *= 2) {
            const i64 other = __shfl_up_sync(0xffffffffu, sum, step);
            if (lane >= step) sum += other;
        }
        if (lane == 31) of_warp[warp] = sum;
        __syncthreads();
        i64 tile_total = 0, earlier = 0;
        for (int w = 0; w < 32; ++w) {
            if (w < warp) earlier += of_warp[w];
            tile_total += of_warp[w];
        }
        if (i < n_sizes) out[i + 1] = before + earlier + sum;
        before += tile_total;
        __syncthreads();
    }
}

extern "C" __global__ void column_counts(i64 n_items, const i64* indptr, const int* indices, i64 n_rows, i64 n_columns, i64 panel_rows,
                                         int* counts) {
    const i64 panel = blockIdx.x, start = panel * panel_rows, stop = min(n_rows, start + panel_rows);
    for (i64 k = indptr[start] + threadIdx.x; k < indptr[stop]; k += blockDim.x) atomicAdd(counts + panel * n_columns + indices[k], 1);
}

// counts become the number of entries of the column in earlier panels.
extern "C" __global__ void column_offsets(i64 n_items, i64 n_panels, i64 n_columns, int* counts, i64* sizes) {
    const i64 column = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (column >= n_items) return;
    i64 before = 0;
    for (i64 panel = 0; panel < n_panels; ++panel) {
        const int here = counts[panel * n_columns + column];
        counts[panel * n_columns + column] = (int)before;
        before += here;
    }
    sizes[column] = before;
}

extern "C" __global__ void column_entries(i64 n_items, const i64* indptr, const int* indices, i64 n_rows, i64 n_columns, i64 panel_rows,
                                          const i64* starts, int* counts, i64* entry, int* row_of) {
    const i64 panel = blockIdx.x, start = panel * panel_rows, stop = min(n_rows, start + panel_rows);
    for (i64 row = start; row < stop; ++row) {
        for (i64 k = indptr[row] + threadIdx.x; k < indptr[row + 1]; k += blockDim.x) {
            const i64 column = indices[k], place = starts[column] + counts[panel * n_columns + column];
            counts[panel * n_columns + column] += 1;
            entry[place] = k;
            row_of[place] = (int)row;
        }
        __syncthreads();
    }
}
