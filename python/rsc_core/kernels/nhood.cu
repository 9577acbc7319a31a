// A block counts the edges of one order in its shared memory, as long as the groups have room there; whole numbers may
// be added in any order.
#include "device.cuh"
#define SHARED 8192

extern "C" __global__ void labels_in_order(i64 n_items, const short* label, const int* order, i64 n_cells, short* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item < n_items) out[item] = label[order[item]];
}

extern "C" __global__ void pair_counts(i64 n_items, const i64* indptr, const int* indices, const short* label, i64 n_cells, i64 n_groups,
                                       i64* out) {
    __shared__ unsigned int count[SHARED];
    const i64 order = blockIdx.x, n_pairs = n_groups * n_groups;
    if (order >= n_items) return;
    const bool fits = n_pairs <= SHARED;
    const short* mine = label + order * n_cells;
    i64* total = out + order * n_pairs;
    for (i64 p = threadIdx.x; fits && p < n_pairs; p += blockDim.x) count[p] = 0;
    __syncthreads();
    for (i64 i = threadIdx.x; i < n_cells; i += blockDim.x) {
        const i64 row = mine[i] * n_groups;
        for (i64 k = indptr[i]; k < indptr[i + 1]; ++k) {
            const i64 pair = row + mine[indices[k]];
            if (fits) atomicAdd(count + pair, 1U);
            else atomicAdd((u64*)(total + pair), 1ULL);
        }
    }
    __syncthreads();
    for (i64 p = threadIdx.x; fits && p < n_pairs; p += blockDim.x) total[p] += count[p];
}

extern "C" __global__ void next_level(i64 n_items, const i64* indptr, const int* indices, int* level, i64 n_cells, int number,
                                      unsigned char* found) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items || level[item] >= 0) return;
    const i64 group = item / n_cells, cell = item % n_cells;
    for (i64 k = indptr[cell]; k < indptr[cell + 1]; ++k)
        if (level[group * n_cells + indices[k]] == number - 1) {
            level[item] = number;
            found[group] = 1;
            break;
        }
}

extern "C" __global__ void triangles(i64 n_items, const i64* indptr, const int* indices, i64* out) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    i64 count = 0;
    for (i64 k = indptr[cell]; k < indptr[cell + 1]; ++k) {
        const int other = indices[k];
        i64 a = indptr[cell], b = indptr[other];
        while (a < indptr[cell + 1] && b < indptr[other + 1]) {
            if (indices[a] == indices[b]) {
                ++count;
                ++a;
                ++b;
            } else if (indices[a] < indices[b]) ++a;
            else ++b;
        }
    }
    out[cell] = count / 2;
}
