#include "device.cuh"
// One thread owns one item and adds in the order of the loops in search.py: no atomics, the same bits on every run.
#define NOBODY (-1)

__device__ __forceinline__ void nobody_from(i64 filled, i64 n_nearest, i64* nearest, double* nearest_distance) {
    for (i64 k = filled; k < n_nearest; ++k) {
        nearest[k] = NOBODY;
        nearest_distance[k] = 1.0 / 0.0;
    }
}

extern "C" __global__ void unit_rows(i64 n_items, const double* x, i64 n_dims, double* out) {
    const i64 row = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (row >= n_items) return;
    double square = 0.0;
    for (i64 d = 0; d < n_dims; ++d) square += x[row * n_dims + d] * x[row * n_dims + d];
    const double length = sqrt(square);
    for (i64 d = 0; d < n_dims; ++d) out[row * n_dims + d] = length > 0.0 ? x[row * n_dims + d] / length : 0.0;
}

extern "C" __global__ void centred_rows(i64 n_items, const double* x, i64 n_dims, double* out) {
    const i64 row = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (row >= n_items) return;
    const double* mine = x + row * n_dims;
    double total = 0.0, low = mine[0], high = mine[0];
    for (i64 d = 0; d < n_dims; ++d) {
        total += mine[d];
        low = fmin(low, mine[d]);
        high = fmax(high, mine[d]);
    }
    const double mean = total / n_dims;
    for (i64 d = 0; d < n_dims; ++d) out[row * n_dims + d] = low < high ? mine[d] - mean : 0.0;
}

extern "C" __global__ void squared_distances(i64 n_items, const double* x, i64 n_dims, const i64* cells, const i64* candidates,
                                             i64 n_candidates, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    double total = 0.0;
    if (candidates[item] >= 0) {
        const double* cell = x + cells[item / n_candidates] * n_dims;
        const double* other = x + candidates[item] * n_dims;
        for (i64 d = 0; d < n_dims; ++d) {
            const double gap = cell[d] - other[d];
            total += gap * gap;
        }
    }
    out[item] = total;
}

extern "C" __global__ void nearest_candidates(i64 n_items, const i64* cells, const i64* candidates, const double* distance,
                                              i64 n_candidates, i64 n_nearest, i64* nearest, double* nearest_distance,
                                              double* farthest) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    i64* mine = nearest + item * n_nearest;
    double* far = nearest_distance + item * n_nearest;
    i64 filled = 0;
    farthest[item] = 0.0;
    for (i64 c = 0; c < n_candidates; ++c) {
        const i64 other = candidates[item * n_candidates + c];
        const double d = distance[item * n_candidates + c];
        farthest[item] = fmax(farthest[item], d);
        if (other >= 0 && other != cells[item]) filled = keep_nearest(other, d, filled, n_nearest, mine, far);
    }
    nobody_from(filled, n_nearest, mine, far);
}

#define WHOLE_WARP 0xffffffffu
#define AHEAD 4  // columns that a lane reads before it looks at them

// Puts a value behind all kept ones that are not larger: a warp's work.
__device__ __forceinline__ void insert(float other, int column, int lane, i64 n_kept, float* kept, int* at) {
    i64 place = 0;
    for (i64 base = 0; base < n_kept; base += 32)
        place += __popc(__ballot_sync(WHOLE_WARP, base + lane < n_kept && kept[base + lane] <= other));
    for (i64 base = (n_kept - 1) / 32 * 32; base >= 0 && base + 31 >= place; base -= 32) {
        const i64 k = base + lane;
        const bool moves = k > place && k < n_kept;
        const float before = moves ? kept[k - 1] : 0.0f;
        const int column_before = moves ? at[k - 1] : 0;
        __syncwarp();
        if (moves) {
            kept[k] = before;
            at[k] = column_before;
        }
        __syncwarp();
    }
    if (lane == 0) {
        kept[place] = other;
        at[place] = column;
    }
    __syncwarp();
}

// A warp a row; what is kept lies in shared memory where there is room.
extern "C" __global__ void keep_least(i64 n_items, const float* product, const float* half, i64 n_columns, i64 first, i64 n_kept,
                                      float* value, int* place) {
    extern __shared__ float room[];
    const i64 item = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (item >= n_items) return;
    const int lane = threadIdx.x % 32;
    float* kept = value + item * n_kept;
    int* at = place + item * n_kept;
    if (shared_bytes()) {
        kept = room + threadIdx.x / 32 * n_kept;
        at = (int*)(room + blockDim.x / 32 * n_kept) + threadIdx.x / 32 * n_kept;
        for (i64 k = lane; k < n_kept; k += 32) {
            kept[k] = value[item * n_kept + k];
            at[k] = place[item * n_kept + k];
        }
        __syncwarp();
    }
    float largest = kept[n_kept - 1];
    for (i64 start = 0; start < n_columns; start += 32 * AHEAD) {
        float others[AHEAD];
        for (int a = 0; a < AHEAD; ++a) {
            const i64 column = start + 32 * a + lane;
            others[a] = column < n_columns ? half[column] - product[item * n_columns + column] : 1.0f / 0.0f;
        }
        for (int a = 0; a < AHEAD; ++a) {
            unsigned less = __ballot_sync(WHOLE_WARP, others[a] < largest);
            for (; less; less &= less - 1) {
                const int from = __ffs(less) - 1;
                const float other = __shfl_sync(WHOLE_WARP, others[a], from);
                if (other < largest) {
                    insert(other, (int)(first + start + 32 * a + from), lane, n_kept, kept, at);
                    largest = kept[n_kept - 1];
                }
            }
        }
    }
    if (shared_bytes())
        for (i64 k = lane; k < n_kept; k += 32) {
            value[item * n_kept + k] = kept[k];
            place[item * n_kept + k] = at[k];
        }
}

extern "C" __global__ void nearest_of_all(i64 n_items, const double* x, i64 n_dims, const i64* cells, const i64* members, i64 n_members,
                                          i64 n_nearest, i64* nearest, double* nearest_distance) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    i64* mine = nearest + item * n_nearest;
    double* far = nearest_distance + item * n_nearest;
    const i64 cell = cells[item];
    i64 filled = 0;
    for (i64 m = 0; m < n_members; ++m) {
        const i64 other = members[m];
        if (other == cell) continue;
        double d = 0.0;
        for (i64 k = 0; k < n_dims; ++k) {
            const double gap = x[cell * n_dims + k] - x[other * n_dims + k];
            d += gap * gap;
        }
        filled = keep_nearest(other, d, filled, n_nearest, mine, far);
    }
    nobody_from(filled, n_nearest, mine, far);
}
