// A warp owns a cell, or a gene of a panel, and its lanes the classes: each sum has one owner that adds in order.
// The values of a run are loaded ahead of their use: the additions alone wait for each other.
#include "device.cuh"

#define AHEAD 8

__device__ __forceinline__ i64 warp_item() { return (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32; }

// own + the values (or their squares) from first to stop times the rows of a table that their indices name, in a class's column.
__device__ __forceinline__ double row_sum(double own, i64 first, i64 stop, const int* indices, const float* values, bool squared,
                                          const float* table, i64 n_classes, i64 c) {
    i64 k = first;
    float product[AHEAD];
    for (; k + AHEAD <= stop; k += AHEAD) {
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            const float value = values[k + i];
            product[i] = (squared ? value * value : value) * table[indices[k + i] * n_classes + c];
        }
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) own += (double)product[i];
    }
    for (; k < stop; ++k) own += (double)((squared ? values[k] * values[k] : values[k]) * table[indices[k] * n_classes + c]);
    return own;
}

extern "C" __global__ void class_scores(i64 n_items, const i64* indptr, const int* indices, const float* values, const float* direction,
                                        i64 n_genes, i64 n_classes, double* score) {
    const i64 cell = warp_item();
    if (cell >= n_items) return;
    for (i64 c = threadIdx.x % 32; c < n_classes; c += 32)
        score[cell * n_classes + c] = row_sum((double)direction[n_genes * n_classes + c], indptr[cell], indptr[cell + 1], indices, values,
                                              false, direction, n_classes, c);
}

extern "C" __global__ void slopes(i64 n_items, const i64* label, const double* score, const double* step, double length, i64 n_classes,
                                  double* out) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    const double *own = score + cell * n_classes, *move = step + cell * n_classes;
    double most = own[0] + length * move[0], total = 0.0, mean = 0.0, square = 0.0;
    for (i64 c = 1; c < n_classes; ++c) most = max(most, own[c] + length * move[c]);
    for (i64 c = 0; c < n_classes; ++c) {
        const double along = move[c], share = exp_double(own[c] + length * along - most);
        total += share;
        mean += share * along;
        square += share * (along * along);
    }
    mean = mean / total;
    out[2 * cell] = mean - move[label[cell]];
    out[2 * cell + 1] = square / total - mean * mean;
}

extern "C" __global__ void residuals(i64 n_items, const i64* label, double* score, const double* step, double length, i64 n_classes,
                                     float* residual) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    double* own = score + cell * n_classes;
    for (i64 c = 0; c < n_classes; ++c) own[c] += length * step[cell * n_classes + c];
    double most = own[0], total = 0.0, others = 0.0;
    for (i64 c = 1; c < n_classes; ++c) most = max(most, own[c]);
    const i64 here = label[cell];
    for (i64 c = 0; c < n_classes; ++c) {
        const double share = exp_double(own[c] - most);
        total += share;
        if (c != here) others += share;
    }
    for (i64 c = 0; c < n_classes; ++c)
        residual[cell * n_classes + c] = (float)((c == here ? -others : exp_double(own[c] - most)) / total);
}

extern "C" __global__ void panel_starts(i64 n_items, const i64* indptr, const int* cells, i64 first_cell, i64 panel, i64 n_panels,
                                        i64* start) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 gene = item / (n_panels + 1), part = item % (n_panels + 1), n_genes = n_items / (n_panels + 1);
    const i64 border = (first_cell / panel + part) * panel - first_cell;
    i64 low = indptr[gene], high = indptr[gene + 1];
    while (low < high) {
        const i64 middle = (low + high) / 2;
        if (cells[middle] < border) low = middle + 1;
        else high = middle;
    }
    start[part * n_genes + gene] = low;
}

extern "C" __global__ void gene_panels(i64 n_items, const i64* start, const int* cells, const float* values, i64 squared,
                                       const float* residual, i64 first_cell, i64 n_cells, i64 panel, i64 n_genes, i64 n_classes,
                                       double* partial) {
    const i64 item = warp_item();
    if (item >= n_items) return;
    const i64 part = item / (n_genes + 1), gene = item % (n_genes + 1), border = (first_cell / panel + part) * panel - first_cell;
    for (i64 c = threadIdx.x % 32; c < n_classes; c += 32) {
        double own = partial[item * n_classes + c];
        if (gene == n_genes) {
            const i64 stop = min(border + panel, n_cells);
            for (i64 cell = max(border, 0LL); cell < stop; ++cell) own += (double)residual[cell * n_classes + c];
        } else {
            const i64* from = start + part * n_genes + gene;
            own = row_sum(own, from[0], from[n_genes], cells, values, squared != 0, residual, n_classes, c);
        }
        partial[item * n_classes + c] = own;
    }
}

extern "C" __global__ void panel_sums(i64 n_items, const double* partial, i64 n_panels, double* total) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    double own = total[item];
    for (i64 part = 0; part < n_panels; ++part) own += partial[part * n_items + item];
    total[item] = own;
}

extern "C" __global__ void class_dots(i64 n_items, const double* vectors, const double* other, i64 n_rows, i64 n_classes, i64 chunk,
                                      double* out) {
    const i64 item = warp_item();
    if (item >= n_items) return;
    const i64 n_chunks = (n_rows + chunk - 1) / chunk, first = item % n_chunks * chunk, stop = min(first + chunk, n_rows);
    const double* vector = vectors + item / n_chunks * n_rows * n_classes;
    for (i64 c = threadIdx.x % 32; c < n_classes; c += 32) {
        double own = 0.0;
#pragma unroll 4
        for (i64 row = first; row < stop; ++row) own += vector[row * n_classes + c] * other[row * n_classes + c];
        out[item * n_classes + c] = own;
    }
}

extern "C" __global__ void combination(i64 n_items, const double* vectors, const double* factor, i64 n_vectors, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    double own = out[item];
    for (i64 vector = 0; vector < n_vectors; ++vector) own += factor[vector] * vectors[vector * n_items + item];
    out[item] = own;
}
