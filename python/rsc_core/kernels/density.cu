#include "device.cuh"
// One thread owns one cell and adds in the order of the cells: no atomics, the same bits on every run. The cells of a warp are
// of the same square or of neighbouring ones, so that they look at the same others.
#define STEPS 64.0
#define FARTHEST 40.0

extern "C" __global__ void density_sums(i64 n_items, const double* x, const i64* square, const i64* start, i64 n_columns, i64 n_rows,
                                        i64 reach, const double* table, double* out) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    double total = 0.0;
    const double x0 = x[2 * cell], x1 = x[2 * cell + 1];
    const i64 row = square[cell] / n_columns, column = square[cell] % n_columns;
    const i64 first = max(column - reach, 0LL), last = min(column + reach, n_columns - 1);
    for (i64 line = max(row - reach, 0LL); line <= min(row + reach, n_rows - 1); ++line) {
        const i64 stop = start[line * n_columns + last + 1];
        for (i64 other = start[line * n_columns + first]; other < stop; ++other) {
            const double gap0 = x0 - x[2 * other], gap1 = x1 - x[2 * other + 1];
            const double u = gap0 * gap0 + gap1 * gap1;
            if (u < FARTHEST) {
                const i64 place = (i64)(u * STEPS);
                const double r = place / STEPS - u;
                const double series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0)))));
                total += table[place] * series;
            }
        }
    }
    out[cell] = total;
}
