// pair_bins: a block takes a tile of points of one group, a thread each, and every thread counts in its own column of
// shared memory, so that no two threads write to one place; other points come into shared memory a tile at a time. The
// others: a thread a point.
#include "device.cuh"
#define TILE 128
#define BINS 64
#define TABLE 4096
#define FULL (511 * TILE)  // points whose number a counter of 16 bits holds
#define SLACK 1e-6

__device__ __forceinline__ i64 one_more(i64* count) { return (i64)atomicAdd((u64*)count, 1ULL); }

extern "C" __global__ void pair_bins(i64 n_items, const double* x, i64 n_dims, const i64* start, const i64* stop, const i64* first,
                                     const i64* last, const double* limit, const int* lowest, double scale, i64 first_bin, i64 n_bins,
                                     i64* count) {
    __shared__ unsigned short own[BINS * TILE];
    __shared__ unsigned char least[TABLE];
    __shared__ double most[BINS], there[3 * TILE];
    const i64 item = blockIdx.x;
    const int lane = threadIdx.x, bins = n_bins;
    if (item >= n_items) return;
    for (int e = lane; e < TABLE; e += TILE) least[e] = min(max(lowest[e] - (int)first_bin, 0), bins - 1);
    if (lane < bins) most[lane] = limit[first_bin + lane];
    const double above = first_bin > 0 ? limit[first_bin - 1] : -1.0, largest = limit[first_bin + n_bins - 1];
    const i64 i = start[item] + lane, end = last[item];
    const bool mine = i < stop[item];
    double here[3] = {0.0, 0.0, 0.0};
    for (int k = 0; k < 3 && k < n_dims && mine; ++k) here[k] = x[i * n_dims + k];
    for (i64 from = first[item]; from < end; from += FULL) {
        const i64 to = min(from + FULL, end);
        for (int b = 0; b < bins; ++b) own[b * TILE + lane] = 0;
        for (i64 tile = from; tile < to; tile += TILE) {
            const int width = min(to - tile, (i64)TILE), itself = min(max(i - tile, (i64)-1), (i64)TILE);
            __syncthreads();
            for (int k = 0; k < 3; ++k) there[k * TILE + lane] = lane < width && k < n_dims ? x[(tile + lane) * n_dims + k] : 0.0;
            __syncthreads();
            for (int j = 0; j < width && mine; ++j) {
                const double across = here[0] - there[j], along = here[1] - there[TILE + j], up = here[2] - there[2 * TILE + j];
                const double d = across * across + along * along + up * up;
                if (d > above && d <= largest && j != itself) {
                    int b = least[min((int)(d * scale), TABLE - 1)];
                    while (d > most[b]) ++b;
                    own[b * TILE + lane] += 1;
                }
            }
        }
        __syncthreads();
        if (lane < bins) {
            i64 total = 0;
            for (int t = 0; t < TILE; ++t) total += own[lane * TILE + t];
            count[item * n_bins + lane] += total;
        }
        __syncthreads();
    }
}

// The field of a coordinate along an axis; of one outside the nearest.
__device__ __forceinline__ i64 field_of(double place, double origin, double width, i64 n_fields) {
    return (i64)min(max(floor((place - origin) / width), 0.0), n_fields - 1.0);
}

__device__ __forceinline__ double square_distance(const double* query, const double* x, i64 n_dims) {
    const double across = query[0] - x[0], along = query[1] - x[1];
    double d = across * across + along * along;
    if (n_dims == 3) {
        const double gap = query[2] - x[2];
        d += gap * gap;
    }
    return d;
}

extern "C" __global__ void count_fields(i64 n_items, const double* x, i64 n_dims, double left, double low, double width, i64 n_columns,
                                        i64 n_rows, i64* field, i64* count) {
    const i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (i >= n_items) return;
    field[i] = field_of(x[i * n_dims + 1], low, width, n_rows) * n_columns + field_of(x[i * n_dims], left, width, n_columns);
    one_more(count + field[i]);
}

extern "C" __global__ void fill_fields(i64 n_items, const double* x, i64 n_dims, const i64* field, i64* next_place, int* member,
                                       double* sorted_x) {
    const i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (i >= n_items) return;
    const i64 place = one_more(next_place + field[i]);
    member[place] = i;
    for (i64 k = 0; k < n_dims; ++k) sorted_x[place * n_dims + k] = x[i * n_dims + k];
}

extern "C" __global__ void nearest_in_fields(i64 n_items, const double* query, const double* x, i64 n_dims, double left, double low,
                                             double width, i64 n_columns, i64 n_rows, const i64* start, const int* member,
                                             i64 not_itself, i64 n_nearest, i64* nearest, double* distance) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 i = not_itself != 0 ? member[item] : item;
    const double* q = query + i * n_dims;
    i64* index = nearest + i * n_nearest;
    double* square = distance + i * n_nearest;
    const double qx = q[0], qy = q[1];
    i64 filled = 0, ring = 0;
    bool farther = true;
    const i64 column = field_of(qx, left, width, n_columns), row = field_of(qy, low, width, n_rows);
    while (farther) {
        for (i64 r = max(row - ring, (i64)0); r <= min(row + ring, n_rows - 1); ++r) {
            const bool whole = r == row - ring || r == row + ring;
            for (i64 c = column - ring, end; c <= column + ring; c = end + (whole ? 1 : 2 * ring)) {
                end = whole ? column + ring : c;
                const i64 first = max(c, (i64)0), last = min(end, n_columns - 1);
                if (first > last) continue;
                for (i64 m = start[r * n_columns + first]; m < start[r * n_columns + last + 1]; ++m) {
                    const double d = square_distance(q, x + m * n_dims, n_dims);
                    if ((filled < n_nearest || d <= square[n_nearest - 1]) && (not_itself == 0 || member[m] != i))
                        filled = keep_nearest(member[m], d, filled, n_nearest, index, square);
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

extern "C" __global__ void count_within(i64 n_items, const double* x, i64 n_dims, double left, double low, double width, i64 n_columns,
                                        i64 n_rows, const i64* start, const int* member, double radius, i64* count) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const double *q = x + item * n_dims, reach = radius + SLACK * width, most = radius * radius;
    const i64 first = field_of(q[0] - reach, left, width, n_columns), last = field_of(q[0] + reach, left, width, n_columns);
    const i64 bottom = field_of(q[1] - reach, low, width, n_rows), top = field_of(q[1] + reach, low, width, n_rows);
    i64 found = -1;  // itself
    for (i64 r = bottom; r <= top; ++r)
        for (i64 m = start[r * n_columns + first]; m < start[r * n_columns + last + 1]; ++m)
            if (square_distance(q, x + m * n_dims, n_dims) <= most) ++found;
    count[member[item]] = found;
}

extern "C" __global__ void fill_within(i64 n_items, const double* x, i64 n_dims, double left, double low, double width, i64 n_columns,
                                       i64 n_rows, const i64* start, const int* member, double radius, const i64* indptr, int* neighbor,
                                       double* distance) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const double *q = x + item * n_dims, reach = radius + SLACK * width, most = radius * radius;
    const i64 first = field_of(q[0] - reach, left, width, n_columns), last = field_of(q[0] + reach, left, width, n_columns);
    const i64 bottom = field_of(q[1] - reach, low, width, n_rows), top = field_of(q[1] + reach, low, width, n_rows);
    i64 place = indptr[member[item]];
    for (i64 r = bottom; r <= top; ++r)
        for (i64 m = start[r * n_columns + first]; m < start[r * n_columns + last + 1]; ++m) {
            const double d = square_distance(q, x + m * n_dims, n_dims);
            if (d <= most && m != item) {
                neighbor[place] = member[m];
                distance[place] = d;
                ++place;
            }
        }
}

extern "C" __global__ void rows_by_index(i64 n_items, const i64* indptr, int* neighbor, double* distance) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    sort_row(indptr[item], indptr[item + 1], neighbor, distance);
    for (i64 k = indptr[item]; k < indptr[item + 1]; ++k) distance[k] = sqrt(distance[k]);
}
