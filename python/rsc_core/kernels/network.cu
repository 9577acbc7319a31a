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

// Neighbouring threads own neighbouring permutations of one cell: they share its values and read one line of the orders.
extern "C" __global__ void permuted_sums(i64 n_items, const i64* indptr, const int* indices, const double* values, const int* order,
                                         const i64* gene_indptr, const int* source, const double* weight, i64 n_orders, i64 n_sources,
                                         double* sums) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 cell = item / n_orders, o = item % n_orders;
    double* mine = sums + item * n_sources;
    for (i64 s = 0; s < n_sources; ++s) mine[s] = 0;
    for (i64 k = indptr[cell]; k < indptr[cell + 1]; ++k) {
        const i64 row = order[indices[k] * n_orders + o];
        for (i64 e = gene_indptr[row]; e < gene_indptr[row + 1]; ++e) mine[source[e]] += weight[e] * values[k];
    }
}

extern "C" __global__ void table_sums(i64 n_items, const i64* indptr, const int* indices, const double* values, const float* table,
                                      i64 n_columns, double* sums) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 cell = item / n_columns, column = item % n_columns;
    double sum = 0;
    for (i64 k = indptr[cell]; k < indptr[cell + 1]; ++k) sum += values[k] * table[indices[k] * n_columns + column];
    sums[item] = sum;
}

extern "C" __global__ void add_moments(i64 n_items, const double* sums, const double* observed, i64 n_orders, i64 n_sources, i64* above,
                                       i64* below, double* total, double* squares) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 cell = item / n_sources, s = item % n_sources;
    for (i64 o = 0; o < n_orders; ++o) {
        const double difference = sums[(cell * n_orders + o) * n_sources + s] - observed[item];
        above[item] += difference >= 0;
        below[item] += difference <= 0;
        total[item] += difference;
        squares[item] += difference * difference;
    }
}
