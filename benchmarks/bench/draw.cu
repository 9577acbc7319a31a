// One warp owns one cell; its lanes take neighbouring genes, so that loads and stores are coalesced.
#include "../../python/rsc_core/kernels/device.cuh"

__device__ __forceinline__ i64 warp_item() { return (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32; }

extern "C" __global__ void draw_counts(i64 n_items, i64 n_genes, i64 first_cell, u64 seed, const float* table, const int* table_row,
                                       const double* weight, const int* batch, const float* batch_factor, const double* library,
                                       const int* log_size, i64 n_rows, unsigned short* out) {
    const i64 cell = warp_item();
    if (cell >= n_items) return;
    for (i64 gene = threadIdx.x % 32; gene < n_genes; gene += 32) {
        double mix = 0.0;
        for (i64 row = 0; row < n_rows; ++row) mix += weight[cell * n_rows + row] * table[table_row[cell * n_rows + row] * n_genes + gene];
        const double mu = library[cell] * batch_factor[batch[cell] * n_genes + gene] * mix;
        const u64 index = ((u64)first_cell + (u64)cell) * (u64)n_genes + (u64)gene;
        const double u = (double)(random_bits(seed, 1000, index) >> 11) * (1.0 / 9007199254740992.0);
        int count = 0;
        if (u >= 1.0 - mu) {
            const double size = 0.5 * (1 << log_size[gene]);
            const double base = 1.0 / (1.0 + mu / size);
            double p = log_size[gene] == 0 ? sqrt(base) : base;
            for (int i = 0; i < log_size[gene] - 1; ++i) p = p * p;
            double total = p;
            const double step = mu / (mu + size);
            while (u >= total && count < 65535) {
                p = p * ((count + size) / (count + 1.0)) * step;
                ++count;
                if (p == 0.0) break;
                total += p;
            }
        }
        out[cell * n_genes + gene] = (unsigned short)count;
    }
}

extern "C" __global__ void row_nonzeros(i64 n_items, i64 n_genes, const unsigned short* dense, i64* n_nonzero) {
    const i64 cell = warp_item();
    if (cell >= n_items) return;
    i64 found = 0;
    for (i64 gene = threadIdx.x % 32; gene < n_genes; gene += 32) found += dense[cell * n_genes + gene] != 0;
    for (int step = 16; step > 0; step /= 2) found += __shfl_xor_sync(0xffffffffu, found, step);
    if (threadIdx.x % 32 == 0) n_nonzero[cell] = found;
}

extern "C" __global__ void compact(i64 n_items, i64 n_genes, const unsigned short* dense, const i64* indptr, int* indices,
                                   unsigned short* values) {
    const i64 cell = warp_item();
    if (cell >= n_items) return;
    const int lane = threadIdx.x % 32;
    i64 at = indptr[cell];
    for (i64 start = 0; start < n_genes; start += 32) {
        const i64 gene = start + lane;
        const unsigned short count = gene < n_genes ? dense[cell * n_genes + gene] : 0;
        const unsigned int here = __ballot_sync(0xffffffffu, count != 0);
        if (count != 0) {
            const i64 place = at + __popc(here & ((1u << lane) - 1));
            indices[place] = (int)gene;
            values[place] = count;
        }
        at += __popc(here);
    }
}
