// pair_bins: a block takes a tile of points of one group, a thread each, and every thread counts in its own column of
// shared memory, so that no two threads write to one place. nearest_in_fields: a thread a query.
#include "device.cuh"
#define TILE 128
#define BINS 64
#define SLACK 1e-6

extern "C" __global__ void pair_bins(i64 n_items, const double* x, i64 n_dims, const i64* start, const i64* stop, const i64* first,
                                     const i64* last, const double* limit, i64 n_limits, const int* lowest, i64 n_table, double scale,
                                     i64 first_bin, i64 n_bins, i64* count) {
    __shared__ unsigned int own[BINS * TILE];
    const i64 item = blockIdx.x, lane = threadIdx.x;
    if (item >= n_items) return;
    for (i64 b = 0; b < n_bins; ++b) own[b * TILE + lane] = 0;
    const double most = limit[n_limits - 1];
    for (i64 i = start[item] + lane; i < stop[item]; i += blockDim.x)
        for (i64 j = first[item]; j < last[item]; ++j) {
            double d = 0;
            for (i64 k = 0; k < n_dims; ++k) {
                const double gap = x[i * n_dims + k] - x[j * n_dims + k];
                d += gap * gap;
            }
            if (d <= most && i != j) {
                i64 b = lowest[min((i64)(d * scale), n_table - 1)];
                while (d > limit[b]) ++b;
                if (b >= first_bin && b - first_bin < n_bins) own[(b - first_bin) * TILE + lane] += 1;
            }
        }
    __syncthreads();
    for (i64 b = lane; b < n_bins; b += blockDim.x) {
        i64 total = 0;
        for (i64 t = 0; t < (i64)blockDim.x; ++t) total += own[b * TILE + t];
        count[item * n_bins + b] = total;
    }
}

extern "C" __global__ void nearest_in_fields(i64 n_items, const double* query, const double* x, i64 n_dims, double left, double low,
                                             double width, i64 n_columns, i64 n_rows, const i64* start, const i64* member,
                                             i64 not_itself, i64 n_nearest, i64* nearest, double* distance) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const double* q = query + item * n_dims;
    i64* index = nearest + item * n_nearest;
    double* square = distance + item * n_nearest;
    const double qx = q[0], qy = q[1];
    i64 filled = 0, ring = 0;
    bool farther = true;
    const i64 column = min(max((i64)floor((qx - left) / width), (i64)0), n_columns - 1);
    const i64 row = min(max((i64)floor((qy - low) / width), (i64)0), n_rows - 1);
    while (farther) {
        for (i64 r = max(row - ring, (i64)0); r <= min(row + ring, n_rows - 1); ++r) {
            const bool whole = r == row - ring || r == row + ring;
            for (i64 c = column - ring; c <= column + ring; c += whole || ring == 0 ? 1 : 2 * ring) {
                if (c < 0 || c >= n_columns) continue;
                const i64 field = r * n_columns + c;
                for (i64 m = start[field]; m < start[field + 1]; ++m) {
                    const i64 other = member[m];
                    if (not_itself != 0 && other == item) continue;
                    double d = 0;
                    for (i64 k = 0; k < n_dims; ++k) {
                        const double gap = q[k] - x[other * n_dims + k];
                        d += gap * gap;
                    }
                    filled = keep_nearest(other, d, filled, n_nearest, index, square);
                }
            }
        }
        double reach = 1.0 / 0.0;
        farther = false;
        if (column - ring > 0) {
            reach = min(reach, qx - (left + (column - ring) * width));
            farther = true;
        }
        if (column + ring < n_columns - 1) {
            reach = min(reach, left + (column + ring + 1) * width - qx);
            farther = true;
        }
        if (row - ring > 0) {
            reach = min(reach, qy - (low + (row - ring) * width));
            farther = true;
        }
        if (row + ring < n_rows - 1) {
            reach = min(reach, low + (row + ring + 1) * width - qy);
            farther = true;
        }
        reach -= SLACK * width;
        if (filled == n_nearest && reach > 0.0 && square[n_nearest - 1] < reach * reach) farther = false;
        ++ring;
    }
}
