// One block owns one panel of rows and goes row after row; its threads take the row's columns, which are distinct.
#include "device.cuh"

#define TILE 6144   // sums in the shared memory of a block: 48 KiB
#define STRIPE 256  // columns of a dense matrix that one block takes

struct Panel {
    i64 number, start, stop, low, size;  // rows from start to stop, columns from low on
};

__device__ __forceinline__ Panel panel_of_block(i64 first, i64 n_rows, i64 n_columns, i64 panel_rows, i64 width) {
    const i64 n_tiles = (n_columns + width - 1) / width, number = blockIdx.x / n_tiles, low = blockIdx.x % n_tiles * width;
    const i64 start = first + number * panel_rows;
    return {number, start, min(n_rows, start + panel_rows), low, min(width, n_columns - low)};
}

// Fills parts (panels, n_sums, columns) by add(sums of the column, row, entry, column), `size` apart, for each entry of a panel in
// a tile, row after row. The loads of four entries of a thread are on their way together.
template <typename Add>
__device__ __forceinline__ void tile_sums(const Panel panel, i64 n_sums, const i64* __restrict__ indptr, const int* __restrict__ indices,
                                          i64 n_columns, double* parts, Add add) {
    __shared__ double sums[TILE];
    const int low = (int)panel.low, size = (int)panel.size;
    for (i64 c = threadIdx.x; c < n_sums * size; c += blockDim.x) sums[c] = 0.0;
    __syncthreads();
    for (i64 row = panel.start; row < panel.stop; ++row) {
        const i64 end = indptr[row + 1];
        for (i64 k = indptr[row] + threadIdx.x; k < end; k += 4 * blockDim.x) {
            int place[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) place[j] = k + j * (i64)blockDim.x < end ? indices[k + j * (i64)blockDim.x] - low : -1;
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (place[j] >= 0 && place[j] < size) add(sums + place[j], row, k + j * (i64)blockDim.x, (i64)low + place[j]);
        }
        __syncthreads();
    }
    for (i64 c = threadIdx.x; c < n_sums * size; c += blockDim.x)
        parts[(panel.number * n_sums + c / size) * n_columns + low + c % size] = sums[c];
}

// The distance of an entry from a center, or its square.
__device__ __forceinline__ double apart(float stored, double factor, int take_expm1, double center, int squared) {
    const double value = take_expm1 ? expm1(stored * factor) : stored * factor;
    const double distance = value - center;
    return squared ? distance * distance : distance;
}

extern "C" __global__ void __launch_bounds__(512)
    panel_sums(i64 n_items, i64 first, const i64* __restrict__ indptr, const int* __restrict__ indices, const float* __restrict__ values,
               i64 n_rows, i64 n_columns, i64 panel_rows, i64 width, double factor, int take_expm1, const double* __restrict__ center,
               int squared, double* parts) {
    const Panel panel = panel_of_block(first, n_rows, n_columns, panel_rows, width);
    tile_sums(panel, 1, indptr, indices, n_columns, parts, [&](double* sum, i64 row, i64 k, i64 column) {
        *sum += apart(values[k], factor, take_expm1, center[column], squared);
    });
}

extern "C" __global__ void panel_sums_dense(i64 n_items, i64 first, const float* __restrict__ values, i64 n_rows, i64 n_columns,
                                            i64 panel_rows, double factor, int take_expm1, const double* __restrict__ center, int squared,
                                            double* parts) {
    const Panel panel = panel_of_block(first, n_rows, n_columns, panel_rows, STRIPE);
    for (i64 c = threadIdx.x; c < panel.size; c += blockDim.x) {
        const i64 column = panel.low + c;
        const double middle = center[column];
        double sum = 0.0;
#pragma unroll 8
        for (i64 row = panel.start; row < panel.stop; ++row)
            sum += apart(values[row * n_columns + column], factor, take_expm1, middle, squared);
        parts[panel.number * n_columns + column] = sum;
    }
}

__device__ __forceinline__ double residual(double count, double expected, double theta, double clip) {
    if (expected <= 0.0) return 0.0;
    const double value = (count - expected) / sqrt(expected + expected * expected / theta);
    return min(max(value, -clip), clip);
}

// What the entries of a column change in the sums of residuals, and of their squares, of a column of zeros.
extern "C" __global__ void __launch_bounds__(512)
    panel_residuals(i64 n_items, i64 first, const i64* __restrict__ indptr, const int* __restrict__ indices,
                    const float* __restrict__ values, const double* __restrict__ cell_total, const double* __restrict__ share, double theta,
                    double clip, i64 n_rows, i64 n_columns, i64 panel_rows, i64 width, double* parts) {
    const Panel panel = panel_of_block(first, n_rows, n_columns, panel_rows, width);
    tile_sums(panel, 2, indptr, indices, n_columns, parts, [&](double* sum, i64 row, i64 k, i64 column) {
        const double expected = cell_total[row] * share[column];
        const double zero = residual(0.0, expected, theta, clip), here = residual(values[k], expected, theta, clip);
        sum[0] += here - zero;
        sum[panel.size] += here * here - zero * zero;
    });
}

// Sums over rows of each column of the design times the value.
extern "C" __global__ void __launch_bounds__(512)
    panel_products(i64 n_items, i64 first, const i64* __restrict__ indptr, const int* __restrict__ indices,
                   const float* __restrict__ values, const double* __restrict__ design, i64 n_design, i64 n_rows, i64 n_columns,
                   i64 panel_rows, i64 width, double* parts) {
    const Panel panel = panel_of_block(first, n_rows, n_columns, panel_rows, width);
    tile_sums(panel, n_design, indptr, indices, n_columns, parts, [&](double* sum, i64 row, i64 k, i64 column) {
        for (i64 j = 0; j < n_design; ++j) sum[j * panel.size] += design[row * n_design + j] * values[k];
    });
}

extern "C" __global__ void panel_products_dense(i64 n_items, i64 first, const float* __restrict__ values, const double* __restrict__ design,
                                                i64 n_design, i64 n_rows, i64 n_columns, i64 panel_rows, double* parts) {
    const Panel panel = panel_of_block(first, n_rows, n_columns, panel_rows, STRIPE);
    for (i64 c = threadIdx.x; c < panel.size; c += blockDim.x) {
        const i64 column = panel.low + c;
        for (i64 some = 0; some < n_design; some += 4) {  // as many sums as lie in registers
            double sums[4] = {0.0, 0.0, 0.0, 0.0};
#pragma unroll 4
            for (i64 row = panel.start; row < panel.stop; ++row) {
                const double value = values[row * n_columns + column];
#pragma unroll
                for (int j = 0; j < 4; ++j)
                    if (some + j < n_design) sums[j] += design[row * n_design + some + j] * value;
            }
            for (i64 j = 0; j < 4 && some + j < n_design; ++j) parts[(panel.number * n_design + some + j) * n_columns + column] = sums[j];
        }
    }
}

// How many entries, or positive ones, a column has.
extern "C" __global__ void __launch_bounds__(512)
    entry_counts(i64 n_items, const i64* __restrict__ indptr, const int* __restrict__ indices, const float* __restrict__ values, i64 n_rows,
                 i64 n_columns, i64 panel_rows, i64 width, int positive, i64 n_copies, i64* counts) {
    __shared__ int found[2 * TILE];
    const Panel panel = panel_of_block(0, n_rows, n_columns, panel_rows, width);
    const int low = (int)panel.low, size = (int)panel.size;
    for (int c = threadIdx.x; c < size; c += blockDim.x) found[c] = 0;
    __syncthreads();
    const i64 end = indptr[panel.stop];
#pragma unroll 4
    for (i64 k = indptr[panel.start] + threadIdx.x; k < end; k += blockDim.x) {
        const int place = indices[k] - low;
        if (place >= 0 && place < size && (!positive || values[k] > 0)) atomicAdd(found + place, 1);
    }
    __syncthreads();
    i64* out = counts + blockIdx.x % n_copies * n_columns + low;
    for (int c = threadIdx.x; c < size; c += blockDim.x)
        if (found[c]) atomicAdd((u64*)(out + c), (u64)found[c]);
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
