// Steps of Harmony; harmony.py holds the same for the CPU. No atomics: each sum has one owner and one order.
#include "device.cuh"
#define THREADS 256
#define WARPS (THREADS / 32)
#define SPREAD 256
#define LEAST_WEIGHT 1e-30

__device__ __forceinline__ i64 tile_start(i64 item, i64 tiles_per_block, i64 block_rows, i64 tile_rows) {
    return (item / tiles_per_block) * block_rows + (item % tiles_per_block) * tile_rows;
}

__device__ __forceinline__ i64 tile_stop(i64 item, i64 tiles_per_block, i64 block_rows, i64 tile_rows, i64 n_cells) {
    const i64 start = tile_start(item, tiles_per_block, block_rows, tile_rows), end = (item / tiles_per_block + 1) * block_rows;
    return min(min(start + tile_rows, end), n_cells);
}

// A block owns a tile: a thread the sums of every 256th cluster.
__device__ __forceinline__ void add_tile(i64 start, i64 stop, const i64* order, const int* code, const float* r, i64 n_combinations,
                                         i64 n_clusters, double* sums) {
    for (i64 k = threadIdx.x; k < n_clusters; k += THREADS) {
        for (i64 c = 0; c < n_combinations; ++c) sums[c * n_clusters + k] = 0.0;
        for (i64 position = start; position < stop; ++position) {
            const i64 cell = order[position];
            sums[code[cell] * n_clusters + k] += r[cell * n_clusters + k];
        }
    }
}

extern "C" __global__ void held_sums(i64 n_items, i64 tiles_per_block, i64 block_rows, i64 tile_rows, i64 n_cells, const i64* order,
                                     const int* code, const float* r, i64 n_combinations, i64 n_clusters, double* sums) {
    const i64 item = blockIdx.x;
    add_tile(tile_start(item, tiles_per_block, block_rows, tile_rows), tile_stop(item, tiles_per_block, block_rows, tile_rows, n_cells), order,
             code, r, n_combinations, n_clusters, sums + item * n_combinations * n_clusters);
}

// A block owns a tile, a warp each 8th of its rows, a lane each 32nd cluster.
extern "C" __global__ void choose_clusters(i64 n_items, i64 first, i64 tiles_per_block, i64 block_rows, i64 tile_rows, i64 n_cells,
                                           const i64* order, const int* code, const float* close, const float* offset, const float* weight,
                                           const double* sigma, i64 n_combinations, i64 n_clusters, float* r, double* sums, double* entropy) {
    const i64 item = first + blockIdx.x, start = tile_start(item, tiles_per_block, block_rows, tile_rows),
              stop = tile_stop(item, tiles_per_block, block_rows, tile_rows, n_cells);
    __shared__ double of_warp[WARPS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    double sum = 0.0;
    for (i64 position = start + warp; position < stop; position += WARPS) {
        const i64 cell = order[position], own = code[cell];
        float total = 0.0f;
        for (i64 k = lane; k < n_clusters; k += 32) {
            const float value = close[cell * n_clusters + k] * weight[own * n_clusters + k];
            r[cell * n_clusters + k] = value;
            total += value;
        }
        for (int half = 16; half > 0; half /= 2) total += __shfl_down_sync(0xffffffffu, total, half);
        total = __shfl_sync(0xffffffffu, total, 0);
        const float inverse = 1.0f / total;
        double soft = 0.0;
        for (i64 k = lane; k < n_clusters; k += 32) {
            const float value = r[cell * n_clusters + k] * inverse;
            r[cell * n_clusters + k] = value;
            soft += value * sigma[k];
        }
        for (int half = 16; half > 0; half /= 2) soft += __shfl_down_sync(0xffffffffu, soft, half);
        sum += (log_double(total) + offset[cell]) * soft;
    }
    if (lane == 0) of_warp[warp] = sum;
    __syncthreads();
    add_tile(start, stop, order, code, r, n_combinations, n_clusters, sums + item * n_combinations * n_clusters);
    if (threadIdx.x == 0) {
        double all = 0.0;
        for (int w = 0; w < WARPS; ++w) all += of_warp[w];
        entropy[item] = all;
    }
}

// A block owns a cluster, a thread every 64th combination or batch.
extern "C" __global__ void settle_clusters(i64 n_items, const double* gained, i64 n_gained, const double* held, i64 n_held,
                                           const double* member, i64 n_batches, i64 n_combinations, const double* share, const double* theta,
                                           const double* sigma, int original, double* observed, double* weight, float* narrow, double* ratio,
                                           double* change, double* gain) {
    const i64 k = blockIdx.x, tile_size = n_combinations * n_items;
    for (i64 c = threadIdx.x; c < n_combinations; c += blockDim.x) {
        const i64 place = c * n_items + k;
        double more = 0.0, less = 0.0;
        for (i64 tile = 0; tile < n_gained; ++tile) more += gained[tile * tile_size + place];
        for (i64 tile = 0; tile < n_held; ++tile) less += held[tile * tile_size + place];
        change[place] = more;
        observed[place] = (observed[place] + more) - less;
    }
    __syncthreads();
    double whole = 0.0;
    for (i64 c = 0; c < n_combinations; ++c) whole += observed[c * n_items + k];
    if (threadIdx.x == 0) {
        double sum = gain[k];
        for (i64 c = 0; c < n_combinations; ++c) sum += change[c * n_items + k] * sigma[k] * log_double(weight[c * n_items + k]);
        gain[k] = sum;
    }
    for (i64 b = threadIdx.x; b < n_batches; b += blockDim.x) {
        double there = 0.0;
        for (i64 c = 0; c < n_combinations; ++c) there += member[b * n_combinations + c] * observed[c * n_items + k];
        there = max(there, 0.0);
        const double expected = max(share[b] * whole, 0.0);
        const double quotient = original ? (expected + 1.0) / (there + 1.0) : (2.0 * expected + 1.0) / (there + expected + 1.0);
        ratio[b * n_items + k] = exp_double(theta[b] * log_double(quotient));
    }
    __syncthreads();
    for (i64 c = threadIdx.x; c < n_combinations; c += blockDim.x) {
        double total = 0.0;
        for (i64 b = 0; b < n_batches; ++b) total += member[b * n_combinations + c] * ratio[b * n_items + k];
        total = max(total, LEAST_WEIGHT);
        weight[c * n_items + k] = total;
        narrow[c * n_items + k] = (float)total;
    }
}

// A block owns a start, a thread every 256th cell.
extern "C" __global__ void spread_centroids(i64 n_items, const float* columns, i64 n_cells, i64 n_dims, const double* draws, i64 n_clusters,
                                            float* gap, float* centroids) {
    __shared__ double reach[SPREAD];
    __shared__ i64 chosen;
    const i64 start = blockIdx.x;
    float* own_gap = gap + start * n_cells;
    float* own = centroids + start * n_dims * n_clusters;
    for (i64 cell = threadIdx.x; cell < n_cells; cell += SPREAD) own_gap[cell] = 1.0f;
    for (i64 k = 0; k < n_clusters; ++k) {
        double total = 0.0;
        for (i64 cell = threadIdx.x; cell < n_cells; cell += SPREAD) total += own_gap[cell];
        reach[threadIdx.x] = total;
        __syncthreads();
        if (threadIdx.x == 0) {
            double whole = 0.0, before = 0.0;
            for (int t = 0; t < SPREAD; ++t) whole += reach[t];
            const double target = whole * draws[start * n_clusters + k];
            int t = 0;
            while (t < SPREAD - 1 && before + reach[t] <= target) before += reach[t++];
            i64 place = t;
            for (i64 cell = t; cell < n_cells; cell += SPREAD) {
                place = cell;
                before += own_gap[cell];
                if (before > target) break;
            }
            chosen = min(place, n_cells - 1);
        }
        __syncthreads();
        const i64 place = chosen;
        for (i64 d = threadIdx.x; d < n_dims; d += SPREAD) own[d * n_clusters + k] = columns[d * n_cells + place];
        for (i64 cell = threadIdx.x; cell < n_cells; cell += SPREAD) {
            float dot = 0.0f;
            for (i64 d = 0; d < n_dims; ++d) dot += columns[d * n_cells + cell] * columns[d * n_cells + place];
            const float apart = fmaxf(2.0f - 2.0f * dot, 0.0f);
            own_gap[cell] = k == 0 ? apart : fminf(own_gap[cell], apart);
        }
        __syncthreads();
    }
}

extern "C" __global__ void closest_centroids(i64 n_items, const float* columns, i64 n_cells, i64 n_dims, const float* centroids,
                                             i64 n_clusters, int* label, float* closeness) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 start = item / n_cells, cell = item % n_cells;
    const float* own = centroids + start * n_dims * n_clusters;
    int best = 0;
    float largest = 0.0f;
    for (i64 k = 0; k < n_clusters; k += 4) {  // four at a time, so that a value of the cell is read once for four
        float dot[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (i64 d = 0; d < n_dims; ++d) {
            const float here = columns[d * n_cells + cell];
            for (int j = 0; j < 4; ++j)
                if (k + j < n_clusters) dot[j] += here * own[d * n_clusters + k + j];
        }
        for (int j = 0; j < 4; ++j)
            if (k + j < n_clusters && (k + j == 0 || dot[j] > largest)) {
                best = (int)(k + j);
                largest = dot[j];
            }
    }
    label[item] = best;
    closeness[item] = largest;
}

// A block owns a start's cluster, a thread every 64th dimension.
extern "C" __global__ void mean_centroids(i64 n_items, const float* columns, i64 n_cells, i64 n_dims, const int* label, i64 n_clusters,
                                          double* total, float* centroids) {
    __shared__ double length;
    const i64 start = blockIdx.x / n_clusters, k = blockIdx.x % n_clusters, first = start * n_dims * n_clusters + k;
    const int* own = label + start * n_cells;
    i64 size = 0;
    for (i64 d = threadIdx.x; d < n_dims; d += blockDim.x) {
        double sum = 0.0;
        size = 0;
        for (i64 cell = 0; cell < n_cells; ++cell)
            if (own[cell] == k) {
                sum += columns[d * n_cells + cell];
                ++size;
            }
        total[first + d * n_clusters] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double square = 0.0;
        for (i64 d = 0; d < n_dims; ++d) square += total[first + d * n_clusters] * total[first + d * n_clusters];
        length = max(sqrt(square), 1e-30);
    }
    __syncthreads();
    for (i64 d = threadIdx.x; d < n_dims && size > 0; d += blockDim.x)
        centroids[first + d * n_clusters] = (float)(total[first + d * n_clusters] / length);
}
