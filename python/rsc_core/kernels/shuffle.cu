// One thread works out where one member goes.
#include "device.cuh"
typedef unsigned int u32;
#define ROUNDS 8

__device__ __forceinline__ u32 mix32(u32 x) {
    x = (x ^ (x >> 16)) * 0x7FEB352DU;
    x = (x ^ (x >> 15)) * 0x846CA68BU;
    return x ^ (x >> 16);
}

__device__ __forceinline__ u32 moved(u32 place, const u32* key, u32 height, u32 width) {
    u32 row = place / width, column = place - row * width;
    for (int pair = 0; pair < ROUNDS / 2; ++pair) {
        row += (u32)(((u64)mix32(column ^ key[2 * pair]) * height) >> 32);
        row = min(row, row - height);
        column += (u32)(((u64)mix32(row ^ key[2 * pair + 1]) * width) >> 32);
        column = min(column, column - width);
    }
    return row * width + column;
}

extern "C" __global__ void permuted(i64 n_items, const int* members, u64 seed, u64 purpose, i64 first_number, i64 step, i64 n_members,
                                    i64 n_cells, i64 height, i64 width, int* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 order = item / n_members, i = item % n_members;
    u32 key[ROUNDS];
    for (int r = 0; r < ROUNDS; ++r) key[r] = (u32)(random_bits(seed, purpose, (u64)((first_number + order * step) * ROUNDS + r)) >> 32);
    u32 place = moved((u32)i, key, (u32)height, (u32)width);
    while (place >= (u32)n_members) place = moved(place, key, (u32)height, (u32)width);
    out[order * n_cells + members[i]] = members[place];
}

extern "C" __global__ void ranked(i64 n_items, const int* members, u64 seed, u64 purpose, i64 first_number, i64 step, i64 n_members,
                                  i64 n_cells, int* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 order = item / n_members, i = item % n_members, first = (first_number + order * step) * n_members;
    const u64 own = random_bits(seed, purpose, (u64)(first + i));
    i64 rank = 0;
    for (i64 j = 0; j < n_members; ++j) {
        const u64 other = random_bits(seed, purpose, (u64)(first + j));
        rank += other < own || (other == own && j < i);
    }
    out[order * n_cells + members[i]] = members[rank];
}
