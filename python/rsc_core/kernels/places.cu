// See places.py. Where genes are compared with one another, a block owns a cell. It sorts the stored genes in shared memory, as
// many at a time as that holds, from the highest value and the lowest column on; genes that are 0 come last. A gene's rank is
// its place there and how many come before it in the other sorted parts.
#include "device.cuh"

#define PART 2048
#define NONE (-1.0 / 0.0)  // instead of 0; values are finite

__device__ __forceinline__ bool comes_before(double value, int column, double other, int other_column) {
    return value > other || (value == other && column < other_column);
}

__device__ __forceinline__ void sort_part(double* value, int* column, int size) {
    for (int width = 2; width <= size; width *= 2)
        for (int step = width / 2; step > 0; step /= 2) {
            for (int pair = threadIdx.x; pair < size / 2; pair += blockDim.x) {
                const int i = 2 * pair - (pair & (step - 1)), j = i + step;
                const double a = value[i], b = value[j];
                const int c = column[i], d = column[j];
                if ((i & width) == 0 ? comes_before(b, d, a, c) : comes_before(a, c, b, d)) {
                    value[i] = b;
                    value[j] = a;
                    column[i] = d;
                    column[j] = c;
                }
            }
            __syncthreads();
        }
}

__device__ __forceinline__ void sort_parts(i64 start, i64 end, const int* indices, const double* values, const int* column,
                                           double* sorted_value, int* sorted_column, int* n_above, int* n_below) {
    __shared__ double value[PART];
    __shared__ int where[PART];
    __shared__ int counts[2];
    if (threadIdx.x < 2) counts[threadIdx.x] = 0;
    int above = 0, below = 0;
    for (i64 first = start; first < end; first += PART) {
        const int n = (int)min((i64)PART, end - first);
        int size = 2;
        while (size < n) size *= 2;
        __syncthreads();
        for (int i = threadIdx.x; i < size; i += blockDim.x) {
            const double mine = i < n ? values[first + i] : 0.0;
            above += mine > 0;
            below += mine < 0;
            value[i] = mine == 0 ? NONE : mine;
            where[i] = mine == 0 ? 0 : column[indices[first + i]];
        }
        __syncthreads();
        sort_part(value, where, size);
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            sorted_value[first + i] = value[i];
            sorted_column[first + i] = where[i];
        }
    }
    __syncthreads();
    atomicAdd(&counts[0], above);
    atomicAdd(&counts[1], below);
    __syncthreads();
    *n_above = counts[0];
    *n_below = counts[1];
}

// How many of n sorted genes come before a gene.
__device__ __forceinline__ int count_before(const double* value, const int* column, int n, double mine, int my_column) {
    int low = 0, high = n;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (comes_before(value[middle], column[middle], mine, my_column)) low = middle + 1;
        else high = middle;
    }
    return low;
}

extern "C" __global__ void places_of_stored(i64 n_items, const i64* indptr, const int* indices, const double* values, const int* column,
                                            i64 n_genes, double* sorted_value, int* sorted_column, int* place, int* n_above) {
    const i64 cell = blockIdx.x;
    if (cell >= n_items) return;
    const i64 start = indptr[cell], end = indptr[cell + 1];
    int above, below;
    sort_parts(start, end, indices, values, column, sorted_value, sorted_column, &above, &below);
    for (i64 k = start + threadIdx.x; k < end; k += blockDim.x) {
        const double value = sorted_value[k];
        const int mine = sorted_column[k];
        if (value == NONE) continue;
        i64 rank = (k - start) % PART;
        for (i64 first = start; first < end; first += PART)
            if (k < first || k >= first + PART)
                rank += count_before(sorted_value + first, sorted_column + first, (int)min((i64)PART, end - first), value, mine);
        place[cell * n_genes + mine] = (int)(rank < above ? rank : rank + n_genes - above - below);
    }
    if (threadIdx.x == 0) n_above[cell] = above;
}

// A warp owns a cell; a ballot tells each lane how many zeros the lanes before it have.
extern "C" __global__ void places_of_zeros(i64 n_items, i64 n_genes, const int* n_above, int* place) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (cell >= n_items) return;
    int next = n_above[cell];
    for (i64 start = 0; start < n_genes; start += 32) {
        const bool zero = start + lane < n_genes && place[cell * n_genes + start + lane] < 0;
        const unsigned int zeros = __ballot_sync(0xFFFFFFFFu, zero);
        if (zero) place[cell * n_genes + start + lane] = next + __popc(zeros & ((1u << lane) - 1u));
        next += __popc(zeros);
    }
}

extern "C" __global__ void mean_ranks(i64 n_items, const i64* indptr, const int* indices, const double* values, const int* column,
                                      i64 n_genes, double* sorted_value, int* sorted_column, int* rank) {
    const i64 cell = blockIdx.x;
    if (cell >= n_items) return;
    const i64 start = indptr[cell], end = indptr[cell + 1];
    int above, below;
    sort_parts(start, end, indices, values, column, sorted_value, sorted_column, &above, &below);
    const int n_stored = above + below;
    for (i64 c = threadIdx.x; c < n_genes; c += blockDim.x) rank[cell * n_genes + c] = 2 * below + (int)n_genes - n_stored + 1;
    __syncthreads();
    for (i64 k = start + threadIdx.x; k < end; k += blockDim.x) {
        const double value = sorted_value[k];
        if (value == NONE) continue;
        int higher = 0, not_lower = 0;  // columns of -1 and n_genes come before and after all
        for (i64 first = start; first < end; first += PART) {
            const int n = (int)min((i64)PART, end - first);
            higher += count_before(sorted_value + first, sorted_column + first, n, value, -1);
            not_lower += count_before(sorted_value + first, sorted_column + first, n, value, (int)n_genes);
        }
        const int less = n_stored - not_lower + (value > 0 ? (int)n_genes - n_stored : 0);
        rank[cell * n_genes + sorted_column[k]] = 2 * less + not_lower - higher + 1;
    }
}

extern "C" __global__ void place_sums(i64 n_items, const int* place, const i64* source_indptr, const int* target, const double* weight,
                                      const double* table, i64 n_genes, i64 n_sources, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 cell = item / n_sources, s = item % n_sources;
    double sum = 0;
    for (i64 e = source_indptr[s]; e < source_indptr[s + 1]; ++e) sum += weight[e] * table[place[cell * n_genes + target[e]]];
    out[item] = sum;
}

extern "C" __global__ void order_columns(i64 n_items, const i64* indptr, const int* indices, const double* values, const int* column,
                                         i64 n_genes, const int* place, int* order, double* amount, int* zeros) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (cell >= n_items) return;
    for (i64 c = lane; c < n_genes; c += 32) order[cell * n_genes + place[cell * n_genes + c]] = (int)c;
    int above = 0, below = 0;
    for (i64 k = indptr[cell] + lane; k < indptr[cell + 1]; k += 32)
        if (values[k] != 0) {
            amount[cell * n_genes + place[cell * n_genes + column[indices[k]]]] = fabs(values[k]);
            above += values[k] > 0;
            below += values[k] < 0;
        }
    for (int half = 16; half > 0; half /= 2) {
        above += __shfl_xor_sync(0xFFFFFFFFu, above, half);
        below += __shfl_xor_sync(0xFFFFFFFFu, below, half);
    }
    if (lane == 0) {
        zeros[2 * cell] = above;
        zeros[2 * cell + 1] = (int)n_genes - below;
    }
}

// A warp owns a set; a ballot tells each lane how many genes of the set the lanes before it have.
extern "C" __global__ void random_sets(i64 n_items, const int* rank, const i64* size_indptr, i64 n_genes, i64 n_sizes, int* places) {
    const i64 item = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (item >= n_items) return;
    const i64 o = item / n_sizes, u = item % n_sizes, size = size_indptr[u + 1] - size_indptr[u];
    int* mine = places + o * size_indptr[n_sizes] + size_indptr[u];
    int filled = 0;
    for (i64 start = 0; start < n_genes; start += 32) {
        const bool drawn = start + lane < n_genes && rank[o * n_genes + start + lane] < size;
        const unsigned int all = __ballot_sync(0xFFFFFFFFu, drawn);
        if (drawn) mine[filled + __popc(all & ((1u << lane) - 1u))] = (int)start + lane;
        filled += __popc(all);
    }
}

// A warp owns a cell and goes from gene to gene; its lanes share the sources of a gene, which differ.
extern "C" __global__ void walks(i64 n_items, const int* order, const double* amount, i64 step, const i64* gene_indptr, const int* source,
                                 const i64* n_targets, i64 n_genes, i64 n_sources, double* size, double* sum_, int* n_hits, double* high,
                                 double* low) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (cell >= n_items) return;
    const double* mine = amount + cell * step * n_genes;
    for (i64 place = 0; place < n_genes; ++place) {
        if (mine[place] == 0) continue;
        const i64 column = order[cell * n_genes + place];
        for (i64 e = gene_indptr[column] + lane; e < gene_indptr[column + 1]; e += 32) size[cell * n_sources + source[e]] += mine[place];
        __syncwarp();
    }
    for (i64 place = 0; place < n_genes; ++place) {
        const i64 column = order[cell * n_genes + place];
        for (i64 e = gene_indptr[column] + lane; e < gene_indptr[column + 1]; e += 32) {
            const i64 at = cell * n_sources + source[e];
            if (size[at] > 0) {
                const double missed = (double)(place - n_hits[at]) / (double)(n_genes - n_targets[source[e]]);
                low[at] = fmin(low[at], sum_[at] / size[at] - missed);
                sum_[at] += mine[place];
                n_hits[at] += 1;
                high[at] = fmax(high[at], sum_[at] / size[at] - missed);
            }
        }
        __syncwarp();
    }
}

extern "C" __global__ void null_walks(i64 n_items, const double* amount, const int* zeros, const int* places, const i64* size_indptr,
                                      i64 n_genes, i64 n_orders, i64 n_sizes, double* score) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 u = item % n_sizes, o = item / n_sizes % n_orders, cell = item / n_sizes / n_orders;
    const i64 n = size_indptr[u + 1] - size_indptr[u];
    const int* mine = places + o * size_indptr[n_sizes] + size_indptr[u];
    const double* here = amount + cell * n_genes;
    const int zeros_from = zeros[2 * cell], zeros_to = zeros[2 * cell + 1];
    double size = 0, sum = 0, share = 0, high = 0, low = 0;
    i64 up = 0, down = n;
    while (up < n && mine[up] < zeros_from) size += here[mine[up++]];
    while (down > up && mine[down - 1] >= zeros_to) --down;
    for (i64 i = down; i < n; ++i) size += here[mine[i]];
    if (size > 0)
        for (i64 i = 0; i < n; ++i) {
            if (i == up && up < down) i = down < n ? down : n - 1;
            const double missed = (double)(mine[i] - i) / (double)(n_genes - n);
            low = fmin(low, share - missed);
            sum += here[mine[i]];
            share = sum / size;
            high = fmax(high, share - missed);
        }
    score[item] = high > -low ? high : low;
}

extern "C" __global__ void signed_moments(i64 n_items, const double* score, const i64* size_of, const double* observed, i64 n_orders,
                                          i64 n_sizes, i64 n_sources, i64* n_same, i64* n_beyond, double* total) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 cell = item / n_sources, s = item % n_sources;
    const double seen = observed[item];
    const double* mine = score + cell * n_orders * n_sizes + size_of[s];
    i64 same = n_same[item], beyond = n_beyond[item];
    double sum = total[item];
    for (i64 o = 0; o < n_orders; ++o) {
        const double here = mine[o * n_sizes];
        if ((here >= 0) == (seen >= 0)) {
            same += 1;
            beyond += fabs(here) >= fabs(seen);
            sum += here;
        }
    }
    n_same[item] = same;
    n_beyond[item] = beyond;
    total[item] = sum;
}

extern "C" __global__ void dense_columns(i64 n_items, const i64* indptr, const int* indices, const double* values, const int* column,
                                         i64 n_genes, double* out) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (cell >= n_items) return;
    for (i64 k = indptr[cell] + threadIdx.x % 32; k < indptr[cell + 1]; k += 32)
        if (values[k] != 0) out[cell * n_genes + column[indices[k]]] = values[k];
}

extern "C" __global__ void bandwidths(i64 n_items, const double* x, i64 n_cells, i64 n_genes, double* out) {
    const i64 g = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (g >= n_items) return;
    double total = 0, squares = 0;
    bool varies = false;
    for (i64 cell = 0; cell < n_cells; ++cell) {
        total += x[cell * n_genes + g];
        varies |= x[cell * n_genes + g] != x[g];
    }
    const double mean = total / n_cells;
    for (i64 cell = 0; cell < n_cells; ++cell) squares += (x[cell * n_genes + g] - mean) * (x[cell * n_genes + g] - mean);
    out[g] = varies ? sqrt(squares / (n_cells - 1)) / 4 : 0.0;
}

// Neighbouring threads own neighbouring genes of one cell: rows are read side by side.
extern "C" __global__ void share_tail(i64 n_items, const double* x, i64 n_cells, i64 n_genes, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 g = item % n_genes;
    i64 n_not_higher = 0;
    for (i64 other = 0; other < n_cells; ++other) n_not_higher += x[other * n_genes + g] <= x[item];
    out[item] = (double)n_not_higher / n_cells;
}

extern "C" __global__ void code_tail(i64 n_items, const int* code, const double* table, i64 n_codes, i64 n_cells, i64 n_genes, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 g = item % n_genes;
    double sum = 0;
    for (i64 other = 0; other < n_cells; ++other) sum += table[code[item] * n_codes + code[other * n_genes + g]];
    out[item] = sum / n_cells;
}

extern "C" __global__ void normal_tail(i64 n_items, const double* x, const double* bandwidth, const double* table, i64 n_steps,
                                       i64 n_cells, i64 n_genes, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 g = item % n_genes;
    double sum = 0;
    for (i64 other = 0; other < n_cells; ++other) {
        const double distance = bandwidth[g] > 0 ? (x[item] - x[other * n_genes + g]) / bandwidth[g] : 0.0;
        if (distance > 10) sum += 1.0;
        else if (distance >= 0) sum += table[(i64)(distance / 10 * n_steps)];
        else if (distance >= -10) sum += 1.0 - table[(i64)(-distance / 10 * n_steps)];
    }
    out[item] = sum / n_cells;
}
