// One thread owns one sum and adds in the order of the cells: the bits of the CPU, every run. Neighbouring threads own
// neighbouring genes, so that loads of x are coalesced.
#include "device.cuh"

extern "C" __global__ void dense_columns(i64 n_items, const i64* indptr, const int* indices, const float* values, const int* column,
                                         i64 n_columns, float* out) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (cell >= n_items) return;
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32)
        if (column[indices[k]] >= 0) out[cell * n_columns + column[indices[k]]] = values[k];
}

extern "C" __global__ void gene_sums(i64 n_items, const float* x, i64 n_cells, i64 n_genes, i64 chunk_rows, double* total, i64* differing) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 chunk = item / n_genes, gene = item % n_genes, stop = min(n_cells, (chunk + 1) * chunk_rows);
    double sum = 0;
    i64 others = 0;
    for (i64 cell = chunk * chunk_rows; cell < stop; ++cell) {
        sum += x[cell * n_genes + gene];
        others += x[cell * n_genes + gene] != x[gene];
    }
    total[item] = sum;
    differing[item] = others;
}

extern "C" __global__ void pair_sums(i64 n_items, const i64* indptr, const int* indices, const double* weight, const double* degree,
                                     const float* x, const double* mean, const int* order, i64 n_cells, i64 n_genes, i64 n_chunks,
                                     i64 chunk_rows, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 part = item / n_genes, gene = item % n_genes, number = part / n_chunks, chunk = part % n_chunks;
    const i64 stop = min(n_cells, (chunk + 1) * chunk_rows);
    const int* cell = order + number * n_cells;
    const double shift = mean[gene];
    double product = 0, spread = 0, weighted = 0;
    for (i64 i = chunk * chunk_rows; i < stop; ++i) {
        const double here = x[cell[i] * n_genes + gene] - shift;
        double lag = 0;
        for (i64 k = indptr[i]; k < indptr[i + 1]; ++k) lag += weight[k] * (x[cell[indices[k]] * n_genes + gene] - shift);
        product += here * lag;
        spread += here * here;
        weighted += degree[i] * (here * here);
    }
    out[item] = product;
    out[n_items + item] = spread;
    out[2 * n_items + item] = weighted;
}

extern "C" __global__ void add_chunks(i64 n_items, const double* parts, i64 n_chunks, i64 n_genes, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 row = item / n_genes, gene = item % n_genes;
    double total = 0;
    for (i64 chunk = 0; chunk < n_chunks; ++chunk) total += parts[(row * n_chunks + chunk) * n_genes + gene];
    out[item] = total;
}
