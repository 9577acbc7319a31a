#include "device.cuh"
// One thread owns one cell: nothing is added from two sides, so the same bits come out on every run.
#define SHARE_BITS 30
#define FIRST_EXPONENT -24
#define LAST_EXPONENT 40
#define STEP_BITS 16
#define TABLE_SIZE (((LAST_EXPONENT - FIRST_EXPONENT) << (23 - STEP_BITS)) + 1)
#define LONGEST_STEP 4.0f
#define AHEAD 6  // cells whose places are loaded at the same time: a neighbour and 5 others

__device__ __forceinline__ float interpolated(const float* table, float square) {
    const int bits = __float_as_int(square);
    const int place = (bits >> STEP_BITS) - ((127 + FIRST_EXPONENT) << (23 - STEP_BITS));
    const int from = min(max(place, 0), TABLE_SIZE - 2);
    const float low = table[from], high = table[from + 1];
    const float part = (float)(bits & ((1 << STEP_BITS) - 1)) * (1.0f / (1 << STEP_BITS));
    return place < 0 ? low : place >= TABLE_SIZE - 1 ? high : low + part * (high - low);
}

// Whether share * epoch passed a multiple of 2^SHARE_BITS since the epoch before: the low bits tell, as a share is at most that much.
__device__ __forceinline__ bool is_due(int share, i64 epoch) {
    return ((unsigned int)share * (unsigned int)epoch & ((1u << SHARE_BITS) - 1)) < (unsigned int)share;
}

// DIMS: as n_dims, to keep places in registers, or 0 for any number. All threads of a warp look for their next arc that is due, and
// then move by it together.
template <int DIMS>
__device__ __forceinline__ void move_cell(i64 cell, i64 n_cells, const i64* indptr, const int* indices, const int* share, const float* old,
                                          const float* attraction, const float* repulsion, i64 n_dims, i64 epoch, i64 n_negatives,
                                          u64 seed, u64 purpose, float rate, float* moved) {
    const i64 dims = DIMS > 0 ? DIMS : n_dims, first = epoch * indptr[n_cells], last = indptr[cell + 1];
    float here[DIMS > 0 ? DIMS : 1];
    float* mine = DIMS > 0 ? here : moved + cell * dims;
    for (i64 d = 0; d < dims; ++d) mine[d] = old[cell * dims + d];
    for (i64 arc = indptr[cell]; arc < last; ++arc) {
        while (arc < last && !is_due(share[arc], epoch)) ++arc;
        if (arc >= last) break;
        for (i64 start = 1; start < n_negatives + 2; start += AHEAD) {
            i64 others[AHEAD];
            float there[AHEAD][DIMS > 0 ? DIMS : 1];
#pragma unroll
            for (int k = 0; k < AHEAD; ++k) {
                const i64 draw = start + k;
                others[k] = cell;
                if (draw == 1) {
                    others[k] = indices[arc];
                } else if (draw < n_negatives + 2) {
                    const u64 bits = random_bits(seed, purpose, (u64)((first + arc) * n_negatives + draw));
                    others[k] = __umulhi((unsigned int)(bits >> 32), (unsigned int)n_cells);
                }
                if (DIMS == 2) {
                    const float2 place = ((const float2*)old)[others[k]];
                    there[k][0] = place.x;
                    there[k][DIMS - 1] = place.y;
                } else {
                    for (int d = 0; d < DIMS; ++d) there[k][d] = old[others[k] * DIMS + d];
                }
            }
#pragma unroll
            for (int k = 0; k < AHEAD; ++k) {
                const bool neighbor = k == 0 && start == 1;
                const float* to = DIMS > 0 ? there[k] : old + others[k] * dims;
                for (int turn = 0; turn < (k == 0 ? 2 : 1); ++turn) {
                    const bool moves = others[k] != cell && (turn == 0 || neighbor);
                    float square = 0.0f;
                    for (i64 d = 0; d < dims; ++d) {
                        const float gap = mine[d] - to[d];
                        square += gap * gap;
                    }
                    const float pull = interpolated(neighbor ? attraction : repulsion, square);
                    for (i64 d = 0; d < dims; ++d) {
                        const float move = pull * (mine[d] - to[d]), next = mine[d] + rate * fminf(fmaxf(move, -LONGEST_STEP), LONGEST_STEP);
                        mine[d] = moves ? next : mine[d];  // no branch: the loads above would move behind it, one after the other
                    }
                }
            }
        }
    }
    for (int d = 0; d < DIMS; ++d) moved[cell * DIMS + d] = mine[d];
}

extern "C" __global__ void umap_epoch(i64 n_items, const i64* indptr, const int* indices, const int* share, const float* old,
                                      const float* attraction, const float* repulsion, i64 n_dims, i64 epoch, i64 n_negatives,
                                      u64 seed, u64 purpose, float rate, float* moved) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
#define MOVE(dims)                                                                                                       \
    move_cell<dims>(cell, n_items, indptr, indices, share, old, attraction, repulsion, n_dims, epoch, n_negatives, seed, \
                    purpose, rate, moved)
    if (n_dims == 2)
        MOVE(2);
    else if (n_dims == 3)
        MOVE(3);
    else
        MOVE(0);
}
