// One thread owns one sum and adds in one order: the bits of the CPU, every run. Neighbouring threads own
// neighbouring genes, so that loads of x are coalesced.
#include "device.cuh"
#define GENES 32
#define LANES 8
#define ROWS 192

extern "C" __global__ void dense_columns(i64 n_items, const i64* indptr, const int* indices, const float* values, const int* column,
                                         i64 width, float* out) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (cell >= n_items) return;
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32) {
        const i64 to = column[indices[k]];
        if (to >= 0) out[(to / width * n_items + cell) * width + to % width] = values[k];
    }
}

extern "C" __global__ void gene_sums(i64 n_items, const float* x, i64 n_cells, i64 n_genes, i64 chunk_rows, double* total, i64* differing) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 chunk = item / n_genes, gene = item % n_genes, stop = min(n_cells, (chunk + 1) * chunk_rows);
    const float* own = x + gene / GENES * n_cells * GENES + gene % GENES;
    double sum = 0;
    i64 others = 0;
    for (i64 cell = chunk * chunk_rows; cell < stop; ++cell) {
        sum += own[cell * GENES];
        others += own[cell * GENES] != own[0];
    }
    total[item] = sum;
    differing[item] = others;
}

// A block takes one tile, one order of the cells and GENES genes. It fetches the values of the tile's rows, a line each, and
// then adds up from shared memory; blocks that run at the same time share the genes, whose values stay in the L2 cache.
extern "C" __global__ void __launch_bounds__(GENES * LANES) pair_sums(
    i64 n_items, const i64* cell_start, const i64* row_start, const int* rows, const i64* indptr, const int* local, const double* weight,
    const double* degree, const float* x, const double* mean, const int* order, i64 n_cells, i64 n_genes, i64 n_tiles, i64 n_orders,
    i64 n_sums, double* out) {
    __shared__ double z[ROWS * GENES];
    const i64 item = blockIdx.x;
    if (item >= n_items) return;
    const int lane = threadIdx.x / GENES, g = threadIdx.x % GENES;
    const i64 number = item / n_tiles % n_orders, tile = item % n_tiles, gene = item / (n_orders * n_tiles) * GENES + g;
    const int* cell = order + number * n_cells;
    const float* own = x + gene / GENES * n_cells * GENES + g;
    const double shift = mean[gene];
    const i64 base = row_start[tile], start = cell_start[tile];
    const int n_rows = (int)(row_start[tile + 1] - base), n_own = (int)(cell_start[tile + 1] - start);
#pragma unroll 4
    for (int row = lane; row < n_rows; row += LANES) z[row * GENES + g] = own[(i64)cell[rows[base + row]] * GENES] - shift;
    __syncthreads();
    double product = 0, weighted = 0, spread = 0;
    for (int i = lane; i < n_own; i += LANES) {
        const double here = z[i * GENES + g];
        double lag = 0;
        for (i64 k = indptr[start + i]; k < indptr[start + i + 1]; ++k) {
            const int row = local[k];
            if (row >= 0) lag += weight[k] * z[row * GENES + g];
            else lag += weight[k] * (own[(i64)cell[-1 - row] * GENES] - shift);
        }
        product += here * lag;
        if (n_sums > 1) weighted += degree[start + i] * (here * here);
        if (n_sums > 2) spread += here * here;
    }
    __syncthreads();
    z[lane * GENES + g] = product;
    z[(LANES + lane) * GENES + g] = weighted;
    z[(2 * LANES + lane) * GENES + g] = spread;
    __syncthreads();
    if (lane < n_sums) {
        double total = 0;
        for (int part = 0; part < LANES; ++part) total += z[(lane * LANES + part) * GENES + g];
        out[((lane * n_orders + number) * n_tiles + tile) * n_genes + gene] = total;
    }
}

extern "C" __global__ void add_chunks(i64 n_items, const double* parts, i64 n_chunks, i64 n_genes, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 row = item / n_genes, gene = item % n_genes;
    double total = 0;
    for (i64 chunk = 0; chunk < n_chunks; ++chunk) total += parts[(row * n_chunks + chunk) * n_genes + gene];
    out[item] = total;
}
