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
