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

extern "C" __global__ void whole_numbers(i64 n_items, const i64* indptr, const double* values, i64 bits, double* out) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    double largest = 0;
    for (i64 k = indptr[cell]; k < indptr[cell + 1]; ++k) largest = fmax(largest, fabs(values[k]));
    int exponent;
    frexp(largest, &exponent);
    for (i64 k = indptr[cell]; k < indptr[cell + 1]; ++k) out[k] = rint(ldexp(values[k], (int)bits - exponent));
}

extern "C" __global__ void random_keys(i64 n_items, u64 seed, u64 purpose, u64* keys) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item < n_items) keys[item] = random_bits(seed, purpose, item);
}

// A rank is the number of lower keys: neighbouring threads compare with the same key, which is one load for a warp.
extern "C" __global__ void permute(i64 n_items, const u64* keys, i64 n_seen, i64 n_genes, const int* where, int* order) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 o = item / n_seen, i = item % n_seen;
    const u64* row = keys + o * n_seen;
    const u64 mine = row[i];
    int rank = 0;
    for (i64 j = 0; j < n_seen; ++j) rank += row[j] < mine || (row[j] == mine && j < i);
    order[o * n_genes + where[rank]] = where[i];
}

// A warp owns a cell and a permutation; its lanes share the cell's genes and meet in sums in shared memory. Those are whole
// numbers of 32 bits, the lower and the upper half of each product apart, which the hardware adds in any order with one
// result. Warps of one permutation follow one another, so that its table of first edges stays in the cache.
#define MOST_SOURCES 320
extern "C" __global__ void permuted_sums(i64 n_items, const i64* indptr, const int* indices, const double* values, const int* first,
                                         const i64* edges, i64 n_cells, i64 n_genes, i64 n_orders, i64 n_sources, i64 bits, double* sums) {
    __shared__ unsigned int low[8 * MOST_SOURCES];
    __shared__ int high[8 * MOST_SOURCES];
    const i64 item = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (item >= n_items) return;
    const i64 o = item / n_cells, cell = item % n_cells, end = indptr[cell + 1];
    unsigned int* my_low = low + threadIdx.x / 32 * MOST_SOURCES;
    int* my_high = high + threadIdx.x / 32 * MOST_SOURCES;
    for (i64 s = lane; s < n_sources; s += 32) {
        my_low[s] = 0;
        my_high[s] = 0;
    }
    __syncwarp();
    const int* from = first + o * n_genes;
    const i64 mask = (1LL << bits) - 1;
    for (i64 k = indptr[cell] + lane; k < end; k += 32) {
        int e = from[indices[k]];
        const i64 value = (i64)values[k];
        while (e >= 0) {
            const i64 edge = edges[e], product = (edge >> 16) * value;
            atomicAdd(&my_low[(edge >> 1) & 0x7FFF], (unsigned int)(product & mask));
            atomicAdd(&my_high[(edge >> 1) & 0x7FFF], (int)(product >> bits));
            e = edge & 1 ? -1 : e + 1;
        }
    }
    __syncwarp();
    for (i64 s = lane; s < n_sources; s += 32)
        sums[(cell * n_orders + o) * n_sources + s] = (double)((i64)my_high[s] * (1LL << bits) + (i64)my_low[s]);
}

#define TILE 64
extern "C" __global__ void fill_tiles(i64 n_items, const i64* indptr, const int* indices, const double* values, i64 n_genes, float* tiles) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (cell >= n_items) return;
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32)
        tiles[(cell / TILE * n_genes + indices[k]) * TILE + cell % TILE] = (float)values[k];
}

// Neighbouring threads own neighbouring cells of a tile: they share targets and weights, and their values lie side by side.
extern "C" __global__ void tile_sums(i64 n_items, const float* tiles, const int* place, const i64* source_indptr, const int* target,
                                     const double* weight, i64 n_cells, i64 n_genes, i64 n_orders, i64 n_sources, double* sums) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 c = item % TILE, s = item / TILE % n_sources, o = item / TILE / n_sources % n_orders;
    const i64 tile = item / TILE / n_sources / n_orders, cell = tile * TILE + c;
    if (cell >= n_cells) return;
    const float* values = tiles + tile * n_genes * TILE + c;
    const int* to = place + o * n_genes;
    double sum = 0;
    for (i64 e = source_indptr[s]; e < source_indptr[s + 1]; ++e) sum += weight[e] * values[(i64)to[target[e]] * TILE];
    sums[(cell * n_orders + o) * n_sources + s] = sum;
}

extern "C" __global__ void add_moments(i64 n_items, const double* sums, const double* observed, i64 n_orders, i64 n_sources, i64* above,
                                       i64* below, double* total, double* squares) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 cell = item / n_sources, s = item % n_sources;
    i64 n_above = above[item], n_below = below[item];
    double sum = total[item], sum_of_squares = squares[item];
    for (i64 o = 0; o < n_orders; ++o) {
        const double difference = sums[(cell * n_orders + o) * n_sources + s] - observed[item];
        n_above += difference >= 0;
        n_below += difference <= 0;
        sum += difference;
        sum_of_squares += difference * difference;
    }
    above[item] = n_above;
    below[item] = n_below;
    total[item] = sum;
    squares[item] = sum_of_squares;
}
