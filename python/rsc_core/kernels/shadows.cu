// See shadows.py. Where ranks or likelihoods of a source's targets are gone through, a warp owns a cell's source.
#include "device.cuh"

#define LOG_10 2.302585092994046
#define LOG_ROOT_2PI 0.9189385332046727
#define DENSITY_AT_0 0.3989422804014327

extern "C" __global__ void shaded_cells(i64 n_items, const double* score, double least, const i64* pair_indptr, const int* partner,
                                        i64 n_sources, unsigned char* shaded) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items || !(fabs(score[item]) > least)) return;
    const i64 cell = item / n_sources, s = item % n_sources;
    for (i64 pair = pair_indptr[s]; pair < pair_indptr[s + 1]; ++pair)
        if (fabs(score[cell * n_sources + partner[pair]]) > least) shaded[cell] = 1;
}

extern "C" __global__ void ranks_in_source(i64 n_items, const double* score, double least, const int* rank, const i64* indptr,
                                           const int* target, const i64* pair_indptr, const int* partner, i64 n_genes, i64 n_sources,
                                           i64 n_edges, int* rank_inside, int* farthest) {
    const i64 item = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (item >= n_items || !(fabs(score[item]) > least)) return;
    const i64 cell = item / n_sources, s = item % n_sources;
    bool compared = false;
    for (i64 pair = pair_indptr[s] + lane; pair < pair_indptr[s + 1]; pair += 32)
        compared |= fabs(score[cell * n_sources + partner[pair]]) > least;
    if (!__any_sync(0xFFFFFFFFu, compared)) return;
    const int* ranks = rank + cell * n_genes;
    const i64 start = indptr[s], end = indptr[s + 1], n = end - start;
    int most = 0;
    for (i64 e = start + lane; e < end; e += 32) {
        const int mine = ranks[target[e]];
        int twice = 1;
        for (i64 other = start; other < end; ++other) {
            const int theirs = ranks[target[other]];
            twice += (theirs < mine) + (theirs <= mine);
        }
        rank_inside[cell * n_edges + e] = twice;
        most = max(most, abs(twice - (int)n - 1));
    }
    for (int half = 16; half > 0; half /= 2) most = max(most, __shfl_xor_sync(0xFFFFFFFFu, most, half));
    if (lane == 0) farthest[item] = most;
}

__device__ __forceinline__ double log_tail(double z) {
    const double y = fabs(z);
    if (y < 3.0) {
        double term = y, total = 0, k = 1;
        while (total + term != total) {
            total += term;
            k += 2;
            term *= y * y / k;
        }
        const double half = total * exp_double(-0.5 * (y * y)) * DENSITY_AT_0;
        return log_double(z >= 0 ? 0.5 - half : 0.5 + half);
    }
    double ratio = y;
    for (int k = 60; k > 0; --k) ratio = y + k / ratio;
    const double tail = -0.5 * (y * y) - log_double(ratio) - LOG_ROOT_2PI;
    return z >= 0 ? tail : log_double(1.0 - exp_double(tail));
}

extern "C" __global__ void pair_p(i64 n_items, const double* score, double least, const i64* indptr, const double* weight,
                                  const int* source, const int* partner, const i64* shared_indptr, const i64* shared,
                                  const double* quantile, const int* rank_inside, const int* farthest, i64 n_sources, i64 n_edges,
                                  i64 n_pairs, double* log_p) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 cell = item / n_pairs, pair = item % n_pairs, s = source[pair];
    const double mine = score[cell * n_sources + s];
    if (!(fabs(mine) > least && fabs(score[cell * n_sources + partner[pair]]) > least)) {
        log_p[item] = 0.0 / 0.0;
        return;
    }
    const i64 n = indptr[s + 1] - indptr[s];
    const int* ranks = rank_inside + cell * n_edges;
    const double* table = quantile + 2 * (indptr[s] + s);
    const double* distances = table + (n + 1 - farthest[cell * n_sources + s]);
    double signed_sum = 0, both = 0;
    for (i64 k = shared_indptr[pair]; k < shared_indptr[pair + 1]; ++k) {
        const double w = weight[shared[k]];
        const int twice = ranks[shared[k]];
        signed_sum += w * table[twice];
        both += (1.0 - fabs(w)) * distances[2 * abs(twice - (int)n - 1)];
    }
    if (mine < 0) signed_sum = -signed_sum;
    const double z = (fabs(signed_sum) + fmax(both, 0.0)) / sqrt((double)(shared_indptr[pair + 1] - shared_indptr[pair]));
    log_p[item] = log_tail(signed_sum < 0 ? -z : z) / LOG_10;
}

extern "C" __global__ void rescore(i64 n_items, const double* log_p, const int* rank, const i64* indptr, const int* target,
                                   const double* weight, const i64* pair_indptr, const i64* back, const i64* shared_indptr,
                                   const i64* shared, double penalty, const double* signed_tail, const double* both_tail, i64 n_genes,
                                   i64 n_sources, i64 n_edges, i64 n_pairs, double* likelihood, double* score) {
    const i64 item = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (item >= n_items) return;
    const i64 cell = item / n_sources, s = item % n_sources;
    const double* p = log_p + cell * n_pairs;
    double* mine = likelihood + cell * n_edges;
    int n_compared = 0;
    bool lost = false;
    for (i64 pair = pair_indptr[s]; pair < pair_indptr[s + 1]; ++pair) n_compared += !isnan(p[pair]);
    for (i64 pair = pair_indptr[s]; pair < pair_indptr[s + 1]; ++pair) {
        const double difference = p[back[pair]] - p[pair];
        if (difference > 0) {
            lost = true;
            const double by = exp_double(penalty / n_compared * log_double(1.0 + difference));
            for (i64 k = shared_indptr[pair] + lane; k < shared_indptr[pair + 1]; k += 32) mine[shared[k]] /= by;
            __syncwarp();  // another lane may have this target of the next pair
        }
    }
    if (!lost) return;
    double largest = 0, sums[4] = {0, 0, 0, 0};
    for (i64 e = indptr[s] + lane; e < indptr[s + 1]; e += 32) largest = fmax(largest, mine[e]);
    for (int half = 16; half > 0; half /= 2) largest = fmax(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, half));
    for (i64 e = indptr[s] + lane; e < indptr[s + 1]; e += 32) {
        const double share = mine[e] / largest;
        const int twice = rank[cell * n_genes + target[e]];
        sums[0] += share;
        sums[1] += share * share;
        sums[2] += signed_tail[twice] * (share * weight[e]);
        sums[3] += both_tail[twice] * (share * (1.0 - fabs(weight[e])));
    }
    for (int half = 16; half > 0; half /= 2)
        for (double& sum : sums) sum += __shfl_down_sync(0xFFFFFFFFu, sum, half);
    if (lane > 0) return;
    const double size = (fabs(sums[2]) + fmax(sums[3], 0.0)) / sums[0] * sqrt(sums[1]);
    score[item] = sums[2] != 0 ? copysign(size, sums[2]) : 0.0;
}
