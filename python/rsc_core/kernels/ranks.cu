// A warp owns a cell where keys are made, a thread owns a gene where they are summed: no atomics, one order of addition.
#include "device.cuh"
typedef unsigned int u32;

__device__ __forceinline__ u64 ordered_bits(float value) {
    const u32 bits = __float_as_uint(value);
    return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}

__device__ __forceinline__ double value_of(u64 key) {
    const u32 bits = (u32)(key >> 16);
    return __uint_as_float(bits ^ (bits >> 31 ? 0x80000000u : 0xFFFFFFFFu));
}

__device__ __forceinline__ bool is_positive(u64 key) { return key >> 47 & 1; }

__device__ __forceinline__ i64 group_of(u64 key) { return (i64)(key & 0xFFFF); }

__device__ __forceinline__ i64 first_key(const u64* keys, i64 n_keys, i64 gene) {
    i64 low = 0, high = n_keys;
    while (low < high) {
        const i64 middle = (low + high) / 2;
        if ((i64)(keys[middle] >> 48) < gene) low = middle + 1;
        else high = middle;
    }
    return low;
}

__device__ __forceinline__ double cube(i64 count) {
    const double t = (double)count;
    return t * t * t - t;
}

__device__ __forceinline__ void add_tie(i64 at, i64 tie_at, i64 n_own, i64 below, i64 tied, i64 reference, i64* twice, double* tie) {
    if (reference < 0) {
        twice[at] += n_own * (2 * below + tied + 1);
    } else {
        twice[at] += n_own * (2 * below + tied);
        tie[tie_at] += cube(n_own + tied) - cube(tied);
    }
}

extern "C" __global__ void key_counts(i64 n_items, const i64* indptr, const int* indices, const float* values, i64 first_gene,
                                      i64 last_gene, i64* count) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (cell >= n_items) return;
    i64 found = 0;
    for (i64 k = indptr[cell] + lane; k < indptr[cell + 1]; k += 32)
        found += first_gene <= indices[k] && indices[k] < last_gene && values[k] != 0;
    for (int step = 16; step > 0; step /= 2) found += __shfl_down_sync(0xFFFFFFFFu, found, step);
    if (lane == 0) count[cell] = found;
}

extern "C" __global__ void fill_keys(i64 n_items, const i64* indptr, const int* indices, const float* values,
                                     const unsigned short* group, i64 first_gene, i64 last_gene, const i64* offset, u64* keys) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (cell >= n_items) return;
    i64 to = offset[cell];
    for (i64 start = indptr[cell]; start < indptr[cell + 1]; start += 32) {
        const i64 k = start + lane;
        const bool take = k < indptr[cell + 1] && first_gene <= indices[k] && indices[k] < last_gene && values[k] != 0;
        const u32 takers = __ballot_sync(0xFFFFFFFFu, take);
        if (take) {
            const u64 gene = (u64)(indices[k] - first_gene);
            keys[to + __popc(takers & ((1u << lane) - 1))] = gene << 48 | ordered_bits(values[k]) << 16 | (u64)group[cell];
        }
        to += __popc(takers);
    }
}

extern "C" __global__ void group_moments(i64 n_items, const u64* keys, i64 n_keys, i64 n_groups, i64* count, double* total,
                                         double* squares) {
    const i64 gene = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (gene >= n_items) return;
    const i64 stop = first_key(keys, n_keys, gene + 1);
    for (i64 k = first_key(keys, n_keys, gene); k < stop; ++k) {
        const i64 at = gene * n_groups + group_of(keys[k]);
        const double value = value_of(keys[k]);
        count[at] += 1;
        total[at] += value;
        squares[at] += value * value;
    }
}

extern "C" __global__ void group_ranks(i64 n_items, const u64* keys, i64 n_keys, const i64* size, i64 n_groups, i64 reference,
                                       const i64* count, i64* twice, double* tie) {
    const i64 gene = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (gene >= n_items) return;
    const i64 at = gene * n_groups, tie_at = gene * (n_groups + 1), stop = first_key(keys, n_keys, gene + 1);
    i64 k = first_key(keys, n_keys, gene), below = 0;
    bool zeros_left = true;
    while (k < stop || zeros_left) {
        i64 tied = 0;
        if (zeros_left && (k == stop || is_positive(keys[k]))) {
            zeros_left = false;
            for (i64 group = 0; group < n_groups; ++group)
                if (reference < 0 || group == reference) tied += size[group] - count[at + group];
            for (i64 group = 0; group < n_groups; ++group)
                add_tie(at + group, tie_at + group, size[group] - count[at + group], below, tied, reference, twice, tie);
        } else {
            i64 end = k;
            for (; end < stop && keys[end] >> 16 == keys[k] >> 16; ++end)
                if (reference < 0 || group_of(keys[end]) == reference) tied += 1;
            while (k < end) {
                const i64 start = k, group = group_of(keys[k]);
                while (k < end && group_of(keys[k]) == group) ++k;
                add_tie(at + group, tie_at + group, k - start, below, tied, reference, twice, tie);
            }
        }
        tie[tie_at + n_groups] += cube(tied);
        below += tied;
    }
}
