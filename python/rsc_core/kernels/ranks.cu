// A warp owns a cell where sums and keys are made, a thread owns a key where ranks are; all atomics are of integers.
#include "device.cuh"
typedef unsigned int u32;

__device__ __forceinline__ u64 ordered_bits(float value) {
    const u32 bits = __float_as_uint(value);
    return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}

__device__ __forceinline__ bool is_positive(u64 key) { return key >> 47 & 1; }

__device__ __forceinline__ i64 group_of(u64 key) { return (i64)(key & 0xFFFF); }

__device__ __forceinline__ i64 tie_term(i64 t) {
    const i64 pairs = t * (t - 1) / 2;
    return pairs % 3 == 0 ? pairs / 3 * (t + 1) : pairs * ((t + 1) / 3);
}

__device__ __forceinline__ void add(i64* sum, i64 amount) { atomicAdd((u64*)sum, (u64)amount); }

// The first of the keys from low on whose value (and group, where shift is 0) is not below the wanted one.
__device__ __forceinline__ i64 lower_bound(const u64* keys, i64 low, i64 high, u64 wanted, int shift) {
    while (low < high) {
        const i64 middle = (low + high) / 2;
        if (keys[middle] >> shift < wanted) low = middle + 1;
        else high = middle;
    }
    return low;
}

// Without their sign the bits of numbers have the order of the numbers, and NaN is above all.
extern "C" __global__ void largest(i64 n_items, const float* values, i64 n_values, float* out) {
    const i64 item = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (item >= n_items) return;
    const i64 piece = 4096, stop = min((item + 1) * piece, n_values);
    u32 found = 0;
    for (i64 k = item * piece + threadIdx.x % 32; k < stop; k += 32) found = max(found, __float_as_uint(values[k]) & 0x7FFFFFFFu);
    atomicMax((u32*)(out + item), found);
}

extern "C" __global__ void group_sums(i64 n_items, const i64* indptr, const int* indices, const float* values, const i64* order,
                                      const unsigned short* group, i64 n_parts, i64 n_genes, double scale, double scale_squares,
                                      i64* table) {
    const i64 item = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (item >= n_items) return;
    const i64 cell = order[item];
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32) {
        if (values[k] == 0) continue;
        const double value = values[k], scaled = value * scale, square = value * value * scale_squares;
        const double high = floor(scaled), high_square = floor(square);
        const i64 low = (i64)((scaled - high) * 4294967296.0), low_square = (i64)((square - high_square) * 4294967296.0);
        i64* sums = table + ((i64)group[cell] * n_genes + indices[k]) * 5;
        add(sums, 1);
        add(sums + 1, (i64)high);
        if (low) add(sums + 2, low);  // values of similar size have no digit there
        add(sums + 3, (i64)high_square);
        if (low_square) add(sums + 4, low_square);
    }
}

extern "C" __global__ void fill_keys(i64 n_items, const i64* indptr, const int* indices, const float* values,
                                     const unsigned short* group, i64 n_parts, i64 first_gene, i64 last_gene, i64 only, i64* cursor,
                                     u64* keys) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (cell >= n_items || (only >= 0 && group[cell] != only)) return;
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32) {
        if (first_gene > indices[k] || indices[k] >= last_gene || values[k] == 0) continue;
        const i64 gene = indices[k] - first_gene, to = (i64)atomicAdd((u64*)(cursor + gene), 1ULL);
        keys[to] = (u64)gene << 48 | ordered_bits(values[k]) << 16 | (u64)group[cell];
    }
}

extern "C" __global__ void group_ranks(i64 n_items, const u64* keys, const i64* start, const u64* base, const i64* base_start,
                                       i64 n_base, i64 n_genes, i64 n_groups, i64 reference, i64* twice, i64* tie) {
    const i64 k = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (k >= n_items) return;
    const u64 key = keys[k], value = key >> 16;
    const i64 gene = (i64)(key >> 48), group = group_of(key), base_first = base_start[gene], base_stop = base_start[gene + 1];
    const i64 zeros = n_base - (base_stop - base_first);
    i64 low, high;
    if (reference < 0) {  // base is keys: most values are alone
        low = k == start[gene] || keys[k - 1] >> 16 != value ? k : lower_bound(base, base_first, k, value, 16);
        high = k + 1 == start[gene + 1] || keys[k + 1] >> 16 != value ? k + 1 : lower_bound(base, k + 1, base_stop, value + 1, 16);
        if (k == low) add(tie + gene * (n_groups + 1) + n_groups, tie_term(high - low));
    } else {
        low = lower_bound(base, base_first, base_stop, value, 16);
        high = lower_bound(base, low, base_stop, value + 1, 16);
    }
    const i64 below = low - base_first + (is_positive(key) ? zeros : 0), tied = high - low;
    add(twice + gene * n_groups + group, 2 * below + tied + (reference < 0 ? 1 : 0));
    if (reference >= 0 && (k == start[gene] || keys[k - 1] != key)) {
        const i64 stop = lower_bound(keys, k + 1, start[gene + 1], key + 1, 0);
        add(tie + gene * (n_groups + 1) + group, tie_term(stop - k + tied) - tie_term(tied));
        if (group == reference) add(tie + gene * (n_groups + 1) + n_groups, tie_term(tied));
    }
}

extern "C" __global__ void zero_ranks(i64 n_items, const u64* base, const i64* base_start, i64 n_base, const i64* size,
                                      const i64* count, i64 n_groups, i64 reference, i64* twice, i64* tie) {
    const i64 gene = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (gene >= n_items) return;
    const i64 first = base_start[gene], stop = base_start[gene + 1], zeros = n_base - (stop - first);
    i64 low = first, high = stop;
    while (low < high) {
        const i64 middle = (low + high) / 2;
        if (is_positive(base[middle])) high = middle;
        else low = middle + 1;
    }
    i64* ties = tie + gene * (n_groups + 1);
    ties[n_groups] += tie_term(zeros);
    for (i64 group = 0; group < n_groups; ++group) {
        const i64 own = size[group] - count[group * n_items + gene];
        twice[gene * n_groups + group] += own * (2 * (low - first) + zeros + (reference < 0 ? 1 : 0));
        if (reference >= 0) ties[group] += tie_term(own + zeros) - tie_term(zeros);
    }
}
