#include "device.cuh"
// One block owns one square of cells: a thread owns WINDOW / 8 points of its window, the lanes of a warp a line of them. Weights of
// a tile of cells lie in shared memory. Sums have the order of the cells and of the squares: no atomics, the same bits on every run.
#define SPACING 0.285
#define SIDE 4
#define WINDOW 32
#define APART 7
#define LINE (1LL << 32)
#define STEEP (2.0 * SPACING * SPACING)
#define THREADS 256
#define WARPS (THREADS / WINDOW)
#define TILE 32
#define ROOM (WINDOW + 1)  // of the weights of a cell, so that threads that write those of several use different banks

__device__ __forceinline__ void weights(double apart, const double* bend, double* out) {
    const double base = exp_double(-STEEP * apart * apart), step = exp_double(STEEP * apart);
    const double rise = step * step, fall = 1.0 / (step * step);
    double up = base * step, down = base / step;
    for (int k = 0; k < WINDOW / 2; ++k) {
        out[WINDOW / 2 + k] = up * bend[k];
        out[WINDOW / 2 - 1 - k] = down * bend[k];
        up *= rise;
        down *= fall;
    }
}

__device__ __forceinline__ void bends(double* out) {
    const int k = threadIdx.x;
    if (k < WINDOW / 2) out[k] = exp_double(-STEEP * (k + 0.5) * (k + 0.5));
    __syncthreads();
}

// Weights of the cells from first on, across and along; a thread makes those of one cell in one dimension.
__device__ __forceinline__ void tile_weights(const double* place, i64 square, i64 first, i64 stop, const double* bend,
                                             double (*made)[TILE][ROOM]) {
    const int dimension = threadIdx.x / TILE, cell = threadIdx.x % TILE;
    __syncthreads();
    if (dimension < 2 && first + cell < stop) {
        const i64 of_square = dimension ? square / LINE : square % LINE;
        weights(place[2 * (first + cell) + dimension] - SIDE * of_square - SIDE / 2.0, bend, made[dimension][cell]);
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS)
    window_sums(i64 n_items, const double* __restrict__ place, const i64* __restrict__ square, const i64* __restrict__ start,
                double* __restrict__ windows) {
    __shared__ double bend[WINDOW / 2], made[2][TILE][ROOM];
    const i64 item = blockIdx.x, stop = start[item + 1];
    const int column = threadIdx.x % WINDOW, line = threadIdx.x / WINDOW;
    double sums[WINDOW / WARPS] = {};
    bends(bend);
    for (i64 first = start[item]; first < stop; first += TILE) {
        tile_weights(place, square[item], first, stop, bend, made);
        const int n_cells = (int)min(stop - first, (i64)TILE);
        for (int cell = 0; cell < n_cells; ++cell) {
            const double across = made[0][cell][column];
#pragma unroll
            for (int j = 0; j < WINDOW / WARPS; ++j) sums[j] += made[1][cell][line + WARPS * j] * across;
        }
    }
#pragma unroll
    for (int j = 0; j < WINDOW / WARPS; ++j) windows[(item * WINDOW + line + WARPS * j) * WINDOW + column] = sums[j];
}

// The first of the squares, which ascend, that is not below a number.
__device__ __forceinline__ i64 first_from(const i64* square, i64 n_squares, i64 number) {
    i64 low = 0, high = n_squares;
    while (low < high) {
        const i64 middle = (low + high) / 2;
        if (square[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    window_values(i64 n_items, const double* __restrict__ place, const i64* __restrict__ square, const i64* __restrict__ start,
                  const double* __restrict__ windows, double* __restrict__ out) {
    __shared__ double bend[WINDOW / 2], made[2][TILE][ROOM], whole[WINDOW][WINDOW];
    const i64 item = blockIdx.x, stop = start[item + 1], here = square[item], row = here / LINE;
    const int column = threadIdx.x % WINDOW, line = threadIdx.x / WINDOW;
    double sums[WINDOW / WARPS] = {};
    bends(bend);
    for (i64 other_row = row - APART; other_row <= row + APART; ++other_row) {
        const i64 middle = other_row * LINE + here % LINE;
        const int down = SIDE * (int)(other_row - row);
        for (i64 other = first_from(square, n_items, middle - APART); other < n_items && square[other] <= middle + APART; ++other) {
            const int j = column - SIDE * (int)(square[other] - middle);
            if (j < 0 || j >= WINDOW) continue;
#pragma unroll
            for (int some = 0; some < WINDOW / WARPS; ++some) {
                const int i = line + WARPS * some - down;
                if (i >= 0 && i < WINDOW) sums[some] += windows[(other * WINDOW + i) * WINDOW + j];
            }
        }
    }
#pragma unroll
    for (int some = 0; some < WINDOW / WARPS; ++some) whole[line + WARPS * some][column] = sums[some];
    for (i64 first = start[item]; first < stop; first += TILE) {
        tile_weights(place, here, first, stop, bend, made);
        const int n_cells = (int)min(stop - first, (i64)TILE);
        for (int cell = line; cell < n_cells; cell += WARPS) {
            double value = 0.0;
#pragma unroll 8
            for (int i = 0; i < WINDOW; ++i) value += made[1][cell][i] * whole[i][column];
            value *= made[0][cell][column];
            for (int step = WINDOW / 2; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
            if (column == 0) out[first + cell] = value;
        }
    }
}
