#include "device.cuh"
// One thread owns one cell: nothing is added from two sides, so the same bits come out on every run.
#define SHARE_BITS 30
#define FIRST_EXPONENT -24
#define LAST_EXPONENT 40
#define STEP_BITS 16
#define TABLE_SIZE (((LAST_EXPONENT - FIRST_EXPONENT) << (23 - STEP_BITS)) + 1)
#define LONGEST_STEP 4.0f

__device__ __forceinline__ float interpolated(const float* table, float square) {
    const int bits = __float_as_int(square);
    const int place = (bits >> STEP_BITS) - ((127 + FIRST_EXPONENT) << (23 - STEP_BITS));
    if (place < 0) return table[0];
    if (place >= TABLE_SIZE - 1) return table[TABLE_SIZE - 1];
    const float part = (float)(bits & ((1 << STEP_BITS) - 1)) * (1.0f / (1 << STEP_BITS));
    return table[place] + part * (table[place + 1] - table[place]);
}

extern "C" __global__ void umap_epoch(i64 n_items, const i64* indptr, const int* indices, const int* share, const float* old,
                                      const float* attraction, const float* repulsion, i64 n_dims, i64 epoch, i64 n_negatives,
                                      u64 seed, u64 purpose, float rate, float* moved) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    float* mine = moved + cell * n_dims;
    for (i64 d = 0; d < n_dims; ++d) mine[d] = old[cell * n_dims + d];
    for (i64 arc = indptr[cell]; arc < indptr[cell + 1]; ++arc) {
        const i64 due = (i64)share[arc] * epoch;
        if ((due >> SHARE_BITS) == ((due - (i64)share[arc]) >> SHARE_BITS)) continue;
        for (i64 draw = 0; draw < n_negatives + 2; ++draw) {
            i64 other;
            if (draw < 2) {
                other = indices[arc];
            } else {
                const u64 index = (u64)((epoch * indptr[n_items] + arc) * n_negatives + draw);
                other = (i64)(((random_bits(seed, purpose, index) >> 32) * (u64)n_items) >> 32);
            }
            if (other == cell) continue;
            float square = 0.0f;
            for (i64 d = 0; d < n_dims; ++d) {
                const float gap = mine[d] - old[other * n_dims + d];
                square += gap * gap;
            }
            const float pull = draw < 2 ? interpolated(attraction, square) : interpolated(repulsion, square);
            for (i64 d = 0; d < n_dims; ++d) {
                const float move = pull * (mine[d] - old[other * n_dims + d]);
                mine[d] += rate * fminf(fmaxf(move, -LONGEST_STEP), LONGEST_STEP);
            }
        }
    }
}
