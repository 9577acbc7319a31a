// Sums are integers: atomics give the same in any order.
#include "device.cuh"
#define ORDERS 128
#define SLICES 4
#define GROUPS 32

extern "C" __global__ void gene_sizes(i64 n_items, const i64* indptr, const int* indices, const float* values, const int* column, i64* size,
                                      int* largest) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (cell >= n_items) return;
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32) {
        const int gene = column[indices[k]];
        if (gene >= 0 && values[k] != 0) {
            atomicAdd((u64*)(size + gene), 1ULL);
            const int bits = __float_as_int(fabsf(values[k]));
            if (bits > largest[gene]) atomicMax(largest + gene, bits);
        }
    }
}

// The order of a gene's entries differs from run to run; its sums do not.
extern "C" __global__ void gene_entries(i64 n_items, const i64* indptr, const int* indices, const float* values, const int* column,
                                        double scale, i64* cursor, int* cell_of, i64* amount) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (cell >= n_items) return;
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32) {
        const int gene = column[indices[k]];
        if (gene >= 0 && values[k] != 0) {
            const i64 to = (i64)atomicAdd((u64*)(cursor + gene), 1ULL);
            cell_of[to] = (int)cell;
            amount[to] = (i64)rint((double)values[k] * scale);
        }
    }
}

// A block takes a slice of a gene's entries, a thread one permutation, whose sums it keeps in its own column of shared memory:
// no two threads write to one place, and no two lanes to one bank. Groups that have no room there are taken after the others.
extern "C" __global__ void group_sums(i64 n_items, const i64* starts, const int* cell_of, const i64* amount, const short* label,
                                      i64 n_groups, i64 n_orders, i64* out) {
    __shared__ i64 sums[GROUPS * ORDERS];
    const i64 item = blockIdx.x, n_genes = n_items / SLICES, gene = item / SLICES, slice = item % SLICES;
    if (item >= n_items) return;
    const i64 size = starts[gene + 1] - starts[gene];
    const i64 start = starts[gene] + size * slice / SLICES, stop = starts[gene] + size * (slice + 1) / SLICES;
    const int order = threadIdx.x;
    for (i64 base = 0; base < n_groups; base += GROUPS) {
        const int width = (int)min((i64)GROUPS, n_groups - base);
        for (int group = 0; group < width; ++group) sums[group * ORDERS + order] = 0;
        if (order < n_orders) {
#pragma unroll 4
            for (i64 entry = start; entry < stop; ++entry) {
                const int group = label[cell_of[entry] * n_orders + order] - (int)base;
                if (group >= 0 && group < width) sums[group * ORDERS + order] += amount[entry];
            }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < width * n_orders; i += ORDERS) {
            const i64 which = i / width, group = i % width, value = sums[group * ORDERS + which];
            if (value) atomicAdd((u64*)(out + (which * n_genes + gene) * n_groups + base + group), (u64)value);
        }
        __syncthreads();
    }
}

extern "C" __global__ void exceeding(i64 n_items, const int* source, const int* target, const int* first, const int* second,
                                     const unsigned char* tested, const double* observed, const double* mean, i64 n_pairs, i64 n_genes,
                                     i64 n_groups, i64 n_orders, i64* count) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items || !tested[item]) return;
    const i64 interaction = item / n_pairs, pair = item % n_pairs, step = n_genes * n_groups;
    const i64 here = source[interaction] * n_groups + first[pair], there = target[interaction] * n_groups + second[pair];
    const double level = observed[here] + observed[there];
    i64 above = 0;
    for (i64 order = 0; order < n_orders; ++order) above += mean[order * step + here] + mean[order * step + there] > level;
    count[item] += above;
}
