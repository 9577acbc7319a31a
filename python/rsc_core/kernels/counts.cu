// One warp owns one cell, so that loads of its values are coalesced. Sums are integers: atomics give the same in any order.
#include "device.cuh"

__device__ __forceinline__ void add(i64* sum, i64 count) { atomicAdd((u64*)sum, (u64)count); }

__device__ __forceinline__ i64 warp_item() { return (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32; }

extern "C" __global__ void cell_and_gene_sums(i64 n_items, const i64* indptr, const int* indices, const float* values, const int* gene_class,
                                              i64 n_genes, i64 n_classes, i64 n_copies, i64* cell_total, i64* cell_genes, i64* cell_class,
                                              i64* cell_wrong, i64* gene_total, i64* gene_cells) {
    const i64 cell = warp_item();
    if (cell >= n_items) return;
    const i64 copy = cell % n_copies * n_genes;
    i64 sum = 0, found = 0, wrong = 0;
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32) {
        const i64 gene = indices[k], count = (i64)values[k];
        if ((float)count != values[k] || count < 0) ++wrong;
        if (count != 0) {
            sum += count;
            ++found;
            add(gene_total + copy + gene, count);
            add(gene_cells + copy + gene, 1);
            for (i64 c = 0; c < n_classes && gene_class[gene] != 0; ++c)
                if (gene_class[gene] >> c & 1) add(cell_class + cell * n_classes + c, count);
        }
    }
    if (sum != 0) add(cell_total + cell, sum);
    if (found != 0) add(cell_genes + cell, found);
    if (wrong != 0) add(cell_wrong + cell, wrong);
}

// Whether some value is negative or not whole: every thread that finds one writes the same 1.
extern "C" __global__ void uncountable(i64 n_items, const float* values, i64 piece, i64 n_values, int* wrong) {
    const i64 item = warp_item();
    if (item >= n_items) return;
    const i64 stop = min(n_values, (item + 1) * piece);
    for (i64 k = item * piece + threadIdx.x % 32; k < stop; k += 32)
        if (!(values[k] >= 0 && values[k] == rintf(values[k]))) wrong[0] = 1;
}

__device__ __forceinline__ i64 warp_sum(i64 part) {
    for (int step = 16; step > 0; step /= 2) part += __shfl_xor_sync(0xffffffffu, part, step);
    return part;
}

// The value of the top-th largest count by bisection; counts above it are added, and as many equal to it as are missing.
extern "C" __global__ void top_sums(i64 n_items, const i64* indptr, const float* values, const i64* top, i64 n_tops, i64* out) {
    const i64 cell = warp_item();
    if (cell >= n_items) return;
    const int lane = threadIdx.x % 32;
    const i64 start = indptr[cell], stop = indptr[cell + 1];
    i64 largest = 0;
    for (i64 k = start + lane; k < stop; k += 32) largest = max(largest, (i64)values[k]);
    for (int step = 16; step > 0; step /= 2) largest = max(largest, (i64)__shfl_xor_sync(0xffffffffu, largest, step));
    for (i64 t = 0; t < n_tops; ++t) {
        i64 low = 0, high = largest;  // the smallest value that fewer than top[t] counts exceed
        while (low < high) {
            const i64 middle = (low + high) / 2;
            i64 found = 0;
            for (i64 k = start + lane; k < stop; k += 32) found += (i64)values[k] > middle;
            if (warp_sum(found) < top[t]) high = middle;
            else low = middle + 1;
        }
        i64 sum = 0, found = 0;
        for (i64 k = start + lane; k < stop; k += 32) {
            const i64 count = (i64)values[k];
            if (count > low) {
                sum += count;
                ++found;
            }
        }
        sum = warp_sum(sum);
        found = warp_sum(found);
        if (lane == 0) out[cell * n_tops + t] = sum + (top[t] - found) * low;
    }
}

extern "C" __global__ void gene_moments(i64 n_items, const i64* rows, const i64* indptr, const int* indices, const float* values,
                                        const double* clip, i64 n_genes, i64 n_copies, i64* total, i64* squares, i64* above) {
    const i64 item = warp_item();
    if (item >= n_items) return;
    const i64 copy = item % n_copies * n_genes;
    for (i64 k = indptr[rows[item]] + threadIdx.x % 32; k < indptr[rows[item] + 1]; k += 32) {
        const i64 gene = indices[k], count = (i64)values[k];
        if (values[k] > clip[gene]) {
            add(above + copy + gene, 1);
        } else {
            add(total + copy + gene, count);
            add(squares + copy + gene, count * count);
        }
    }
}

extern "C" __global__ void chosen_sizes(i64 n_items, const i64* indptr, const int* indices, const int* column, i64* size) {
    const i64 row = warp_item();
    if (row >= n_items) return;
    int found = 0;
    for (i64 k = indptr[row] + threadIdx.x % 32; k < indptr[row + 1]; k += 32) found += column[indices[k]] >= 0;
    for (int step = 16; step > 0; step /= 2) found += __shfl_down_sync(0xffffffffu, found, step);
    if (threadIdx.x % 32 == 0) size[row] = found;
}

// 32 neighbours at a time: a lane's place is the number of chosen ones before it, so that the order stays.
extern "C" __global__ void chosen_values(i64 n_items, const i64* indptr, const int* indices, const float* values, const int* column,
                                         const i64* new_indptr, int* new_indices, float* new_values) {
    const i64 row = warp_item();
    if (row >= n_items) return;
    const int lane = threadIdx.x % 32;
    i64 to = new_indptr[row];
    for (i64 start = indptr[row]; start < indptr[row + 1]; start += 32) {
        const i64 k = start + lane;
        const bool chosen = k < indptr[row + 1] && column[indices[k]] >= 0;
        const unsigned others = __ballot_sync(0xffffffffu, chosen);
        if (chosen) {
            const i64 place = to + __popc(others & ((1u << lane) - 1));
            new_indices[place] = column[indices[k]];
            new_values[place] = values[k];
        }
        to += __popc(others);
    }
}

extern "C" __global__ void dense_rows(i64 n_items, i64 first, const i64* indptr, const int* indices, const float* values, i64 n_columns,
                                      double* out) {
    const i64 item = warp_item();
    if (item >= n_items) return;
    for (i64 k = indptr[first + item] + threadIdx.x % 32; k < indptr[first + item + 1]; k += 32)
        out[item * n_columns + indices[k]] = values[k];
}

// One block owns one gene's row of the matrix and adds cell after cell, so that the order is that of the CPU; its threads take
// the cell's other genes, which are distinct, and wait for each other between cells.
extern "C" __global__ void gram_rows(i64 n_items, const i64* starts, const i64* entry, const int* row, const i64* indptr, const int* indices,
                                     const float* values, i64 n_genes, double* total, double* gram) {
    const i64 item = blockIdx.x;
    const i64 gene = item % 2 ? n_genes - 1 - item / 2 : item / 2;
    double* products = gram + gene * n_genes;
    for (i64 e = starts[gene]; e < starts[gene + 1]; ++e) {
        const i64 first = entry[e], stop = indptr[row[e] + 1];
        const double here = values[first];
        if (threadIdx.x == 0) total[gene] += here;
        for (i64 k = first + threadIdx.x; k < stop; k += blockDim.x) products[indices[k]] += here * values[k];
        __syncthreads();
    }
}

// values · loadings - shift: a lane owns every 32nd component and adds entry after entry.
extern "C" __global__ void scores_of_rows(i64 n_items, const i64* __restrict__ indptr, const int* __restrict__ indices,
                                          const float* __restrict__ values, const double* __restrict__ loadings,
                                          const double* __restrict__ shift, i64 n_comps, float* __restrict__ out) {
    const i64 row = warp_item();
    if (row >= n_items) return;
    const i64 start = indptr[row], stop = indptr[row + 1];
    for (i64 c = threadIdx.x % 32; c < n_comps; c += 32) {
        double score = 0.0;
#pragma unroll 8
        for (i64 k = start; k < stop; ++k) score += (double)values[k] * loadings[indices[k] * n_comps + c];
        out[row * n_comps + c] = (float)(score - shift[c]);
    }
}
