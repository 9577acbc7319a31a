// A warp owns a cell and takes its values one by one in the stored order; its lanes share the sources of a gene, which differ.
#include "device.cuh"

extern "C" __global__ void mark_genes(i64 n_items, const i64* indptr, const int* indices, const double* values, unsigned char* seen) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (cell >= n_items) return;
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32)
        if (values[k] != 0) seen[indices[k]] = 1;
}

extern "C" __global__ void weighted_sums(i64 n_items, const i64* indptr, const int* indices, const double* values,
                                         const i64* gene_indptr, const int* source, const double* weight, i64 n_sources,
                                         double* total, double* squares, double* product) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (cell >= n_items) return;
    double sum = 0, sum_of_squares = 0;
    for (i64 start = indptr[cell]; start < indptr[cell + 1]; start += 32) {
        const int n_here = (int)min(32LL, indptr[cell + 1] - start);
        const int my_gene = lane < n_here ? indices[start + lane] : 0;
        const double my_value = lane < n_here ? values[start + lane] : 0;
        for (int i = 0; i < n_here; ++i) {
            const int gene = __shfl_sync(0xFFFFFFFFu, my_gene, i);
            const double value = __shfl_sync(0xFFFFFFFFu, my_value, i);
            sum += value;
            sum_of_squares += value * value;
            for (i64 s = gene_indptr[gene] + lane; s < gene_indptr[gene + 1]; s += 32)
                product[cell * n_sources + source[s]] += weight[s] * value;
            __syncwarp();  // what this gene's lanes wrote is seen by the next gene's
        }
    }
    if (lane == 0) {
        total[cell] = sum;
        squares[cell] = sum_of_squares;
    }
}

extern "C" __global__ void random_keys(i64 n_items, u64 seed, u64 purpose, u64* keys) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item < n_items) keys[item] = random_bits(seed, purpose, item);
}

// A rank is the number of lower keys: neighbouring threads compare with the same key, which is one load for a warp.
extern "C" __global__ void permute(i64 n_items, const u64* keys, i64 n_seen, int* place) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 i = item % n_seen;
    const u64* row = keys + (item - i);
    const u64 mine = row[i];
    int rank = 0;
    for (i64 j = 0; j < n_seen; ++j) rank += row[j] < mine || (row[j] == mine && j < i);
    place[item] = rank;
}

extern "C" __global__ void fill_rows(i64 n_items, const i64* indptr, const int* indices, const double* values, const int* home, i64 bits,
                                     i64 n_seen, i64 length, int* rows) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (cell >= n_items) return;
    double largest = 0;
    for (i64 k = indptr[cell] + lane; k < indptr[cell + 1]; k += 32) largest = fmax(largest, fabs(values[k]));
    for (int half = 16; half > 0; half /= 2) largest = fmax(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, half));
    int exponent;
    frexp(largest, &exponent);
    for (i64 k = indptr[cell] + lane; k < indptr[cell + 1]; k += 32)
        if (values[k] != 0) {
            const int place = home[indices[k]], whole = (int)rint(ldexp(values[k], (int)bits - exponent));
            rows[cell * length + place] = whole;
            if (place < length - n_seen) rows[cell * length + n_seen + place] = whole;
        }
}

// A warp's source: its lanes are 32 permutations, whose values of a target lie side by side where they belong to one row of
// places. Four targets are one load of places and one of weights, which the lanes share; the next four are loaded ahead.
__device__ __forceinline__ void moments_of_cell(i64 cell, const int* row, const int* at, const i64* source_indptr, const int* weight,
                                                i64 width, i64 n_orders, i64 n_edges, i64 n_sources, int* above, int* below,
                                                double* total, double* squares) {
    const int lane = threadIdx.x % 32, n_groups = (int)((n_orders + width - 1) / width);
    const int* mine = row + lane % width;  // a lane without a permutation follows another one
    for (i64 s = threadIdx.x / 32; s < n_sources; s += blockDim.x / 32) {
        const i64 start = source_indptr[s], end = source_indptr[s + 1];
        i64 observed = 0;
        for (i64 e = start + lane; e < end; e += 32) observed += (i64)weight[e] * row[at[e]];
        for (int half = 16; half > 0; half /= 2) observed += __shfl_xor_sync(0xFFFFFFFFu, observed, half);
        int n_above = 0, n_below = 0;
        double sum = 0, sum_of_squares = 0;
        int group = 1 + lane / (int)width;
        for (i64 first = 0; first < n_orders; first += 32, group += 32 / (int)width) {
            const i64 before = min(group, n_groups) * n_edges + start;
            const int4* places = (const int4*)(at + before);
            const int4* weights = (const int4*)(weight + start);
            i64 moved = -observed;
            if (start < end) {
                int4 place = places[0], by = weights[0];
                for (i64 four = 1; four < (end - start) / 4; ++four) {
                    const int4 next_place = places[four], next_by = weights[four];
                    moved += (i64)by.x * mine[place.x] + (i64)by.y * mine[place.y] + (i64)by.z * mine[place.z] + (i64)by.w * mine[place.w];
                    place = next_place;
                    by = next_by;
                }
                moved += (i64)by.x * mine[place.x] + (i64)by.y * mine[place.y] + (i64)by.z * mine[place.z] + (i64)by.w * mine[place.w];
            }
            const double difference = (double)moved;
            const bool counts = first + lane < n_orders;
            n_above += __popc(__ballot_sync(0xFFFFFFFFu, counts && difference >= 0));
            n_below += __popc(__ballot_sync(0xFFFFFFFFu, counts && difference <= 0));
            if (counts) {
                sum += difference;
                sum_of_squares += difference * difference;
            }
        }
        for (int half = 16; half > 0; half /= 2) {
            sum += __shfl_xor_sync(0xFFFFFFFFu, sum, half);
            sum_of_squares += __shfl_xor_sync(0xFFFFFFFFu, sum_of_squares, half);
        }
        if (lane == 0) {
            above[cell * n_sources + s] = n_above;
            below[cell * n_sources + s] = n_below;
            total[cell * n_sources + s] = sum;
            squares[cell * n_sources + s] = sum_of_squares;
        }
    }
}

// A block owns a cell, whose row lies in shared memory where there is room.
extern "C" __global__ void __launch_bounds__(512, 2) permuted_moments(i64 n_items, const int* rows, const int* at, const i64* source_indptr,
                                                                   const int* weight, i64 length, i64 width, i64 n_orders, i64 n_edges,
                                                                   i64 n_sources, int* above, int* below, double* total, double* squares) {
    extern __shared__ int row[];
    const i64 cell = blockIdx.x;
    if (cell >= n_items) return;
    const int* mine = rows + cell * length;
    if (shared_bytes() < 4 * length) {
        moments_of_cell(cell, mine, at, source_indptr, weight, width, n_orders, n_edges, n_sources, above, below, total, squares);
        return;
    }
    for (i64 place = threadIdx.x; place < length; place += blockDim.x) row[place] = mine[place];
    __syncthreads();
    moments_of_cell(cell, row, at, source_indptr, weight, width, n_orders, n_edges, n_sources, above, below, total, squares);
}
