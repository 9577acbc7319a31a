// Sums are integers: atomics give the same in any order. Neighbouring threads of group_sums own neighbouring permutations
// of one gene, so that they share its entries and read one line of labels.
#include "device.cuh"

extern "C" __global__ void gene_sizes(i64 n_items, const i64* indptr, const int* indices, const float* values, const int* column, i64* size,
                                      int* largest) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (cell >= n_items) return;
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32) {
        const int gene = column[indices[k]];
        if (gene >= 0 && values[k] != 0) {
            atomicAdd((u64*)(size + gene), 1ULL);
            atomicMax(largest + gene, __float_as_int(fabsf(values[k])));
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

extern "C" __global__ void group_sums(i64 n_items, const i64* starts, const int* cell_of, const i64* amount, const short* label,
                                      i64 n_groups, i64 n_orders, i64* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 gene = item / n_orders, order = item % n_orders;
    i64* sums = out + gene * n_groups * n_orders + order;
    for (i64 entry = starts[gene]; entry < starts[gene + 1]; ++entry)
        sums[label[cell_of[entry] * n_orders + order] * n_orders] += amount[entry];
}

extern "C" __global__ void exceeding(i64 n_items, const int* source, const int* target, const int* first, const int* second,
                                     const unsigned char* tested, const double* observed, const double* mean, i64 n_pairs, i64 n_groups,
                                     i64 n_orders, i64* count) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items || !tested[item]) return;
    const i64 interaction = item / n_pairs, pair = item % n_pairs;
    const i64 here = source[interaction] * n_groups + first[pair], there = target[interaction] * n_groups + second[pair];
    const double level = observed[here] + observed[there];
    i64 above = 0;
    for (i64 order = 0; order < n_orders; ++order) above += mean[here * n_orders + order] + mean[there * n_orders + order] > level;
    count[item] += above;
}
