// Which cells lie within a limit of a cell, and which of them are nearest.
#include "device.cuh"

#define HELD 32  // values of a row that a thread holds

// Floats as unsigned integers of the same order.
__device__ __forceinline__ unsigned ordered(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// One block owns one row, held in registers; the value's bits are found one after the other, from the highest.
extern "C" __global__ void __launch_bounds__(1024) row_quantiles(i64 n_items, const float* values, i64 n_columns, i64 place, float* out) {
    __shared__ int smaller[2];
    const i64 row = blockIdx.x;
    unsigned held[HELD];
#pragma unroll
    for (int j = 0; j < HELD; ++j) {
        const i64 column = threadIdx.x + j * (i64)blockDim.x;
        held[j] = column < n_columns ? ordered(values[row * n_columns + column]) : 0xffffffffu;
    }
    if (threadIdx.x == 0) smaller[0] = smaller[1] = 0;
    __syncthreads();
    unsigned found = 0;  // the largest number that at most `place` values are smaller than
    for (int bit = 31; bit >= 0; --bit) {
        const unsigned middle = found | 1u << bit;
        int here = 0;
#pragma unroll
        for (int j = 0; j < HELD; ++j) here += held[j] < middle;
        for (int step = 16; step > 0; step /= 2) here += __shfl_down_sync(0xffffffffu, here, step);
        if (threadIdx.x % 32 == 0 && here != 0) atomicAdd(smaller + bit % 2, here);
        __syncthreads();
        if (smaller[bit % 2] <= place) found = middle;
        if (threadIdx.x == 0) smaller[(bit + 1) % 2] = 0;
        __syncthreads();
    }
    if (threadIdx.x == 0) out[row] = __uint_as_float(found & 0x80000000u ? found ^ 0x80000000u : ~found);
}

// A warp owns a piece of a row; those of its lanes that find a candidate ask for their places together.
extern "C" __global__ void within_limits(i64 n_items, const float* __restrict__ values, i64 n_rows, i64 n_columns, i64 piece,
                                         i64 first_column, const float* __restrict__ limit, i64 room, int* candidates, int* filled) {
    const i64 item = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (item >= n_items) return;
    const int lane = threadIdx.x % 32;
    const i64 n_pieces = (n_columns + piece - 1) / piece, row = item / n_pieces, start = item % n_pieces * piece;
    const i64 stop = min(n_columns, start + piece);
    const float highest = limit[row];
    const float* mine = values + row * n_columns;
    for (i64 k = start; k < stop; k += 128) {
        float value[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) value[j] = k + 32 * j + lane < stop ? mine[k + 32 * j + lane] : 1.0f / 0.0f;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const i64 column = k + 32 * j + lane;
            const bool near = column < stop && value[j] <= highest;
            const unsigned others = __ballot_sync(0xffffffffu, near);
            if (others == 0) continue;
            int place = 0;
            if (lane == 0) place = atomicAdd(filled + row, __popc(others));
            place = __shfl_sync(0xffffffffu, place, 0) + __popc(others & ((1u << lane) - 1));
            if (near && place < room) candidates[row * room + place] = (int)(first_column + column);
        }
    }
}

// A number of each thread, added up over the block; `places` are two by turns, so that one wait is enough.
__device__ __forceinline__ int block_sum(int here, int* places, int turn) {
    for (int step = 16; step > 0; step /= 2) here += __shfl_down_sync(0xffffffffu, here, step);
    if (threadIdx.x % 32 == 0 && here != 0) atomicAdd(places + turn % 2, here);
    __syncthreads();
    const int sum = places[turn % 2];
    if (threadIdx.x == 0) places[(turn + 1) % 2] = 0;
    __syncthreads();
    return sum;
}

// One block owns one cell. Squared distances are not negative: their bits as integers have their order, and those of the k-th
// smallest are found one after the other, from the highest.
extern "C" __global__ void nearest_from(i64 n_items, const double* __restrict__ x, i64 n_dims, i64 first_cell,
                                        const int* __restrict__ candidates, const int* __restrict__ filled, i64 room, i64 n_nearest,
                                        i64 from_cell, double* kth, i64* among) {
    extern __shared__ double distance[];  // of each candidate, then their indices, then two sums
    int* other = (int*)(distance + room);
    int* places = other + room;
    const i64 item = blockIdx.x, cell = first_cell + item;
    const int n = filled[item] <= room && shared_bytes() > 0 ? filled[item] : 0;
    if (threadIdx.x == 0 && n > 0) places[0] = places[1] = 0;
    for (int c = threadIdx.x; c < n; c += blockDim.x) {
        const i64 neighbor = candidates[item * room + c];
        double total = 0.0;
        for (i64 d = 0; d < n_dims; ++d) {
            const double gap = x[cell * n_dims + d] - x[neighbor * n_dims + d];
            total += gap * gap;
        }
        distance[c] = neighbor == cell ? 1.0 / 0.0 : total;
        other[c] = (int)neighbor;
    }
    __syncthreads();
    const i64 infinite = __double_as_longlong(1.0 / 0.0);
    i64 found = n >= n_nearest ? 0 : infinite;  // the largest number that fewer than n_nearest distances are smaller than
    int turn = 0, below = 0;
    for (int bit = 62; bit >= 0 && n >= n_nearest; --bit) {
        const i64 middle = found | 1LL << bit;
        int here = 0;
        for (int c = threadIdx.x; c < n; c += blockDim.x) here += __double_as_longlong(distance[c]) < middle;
        here = block_sum(here, places, turn++);
        if (here < n_nearest) {
            found = middle;
            below = here;
        }
    }
    if (found >= infinite) {
        if (threadIdx.x == 0) {
            kth[item] = 1.0 / 0.0;
            among[item] = 0;
        }
        return;
    }
    int later = 0, later_ties = 0, ties = 0;
    for (int c = threadIdx.x; c < n; c += blockDim.x) {
        const i64 mine = __double_as_longlong(distance[c]);
        later += mine < found && other[c] >= from_cell;
        ties += mine == found;
        later_ties += mine == found && other[c] >= from_cell;
    }
    later = block_sum(later, places, turn++);
    ties = block_sum(ties, places, turn++);
    if (ties > n_nearest - below) {  // those of the smallest indices
        later_ties = 0;
        for (int c = threadIdx.x; c < n; c += blockDim.x) {
            if (__double_as_longlong(distance[c]) != found || other[c] < from_cell) continue;
            int nearer = 0;
            for (int o = 0; o < n; ++o) nearer += __double_as_longlong(distance[o]) == found && other[o] < other[c];
            later_ties += nearer < n_nearest - below;
        }
    }
    later_ties = block_sum(later_ties, places, turn++);
    if (threadIdx.x == 0) {
        kth[item] = __longlong_as_double(found);
        among[item] = later + later_ties;
    }
}
