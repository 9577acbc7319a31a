// From one level's graph to the next; levels.py holds the same for the CPU. Atomics add, count and lower integers only; in
// which order arcs come to lie in a row is chance, and no result depends on it.
#include "device.cuh"
#define EMPTY (-1)

__device__ __forceinline__ i64 thread_item() { return blockIdx.x * (i64)blockDim.x + threadIdx.x; }

__device__ __forceinline__ i64 add(i64* sum, i64 amount) { return (i64)atomicAdd((u64*)sum, (u64)amount); }

__device__ __forceinline__ i64 whole_weight(float weight, double largest, double unit) { return (i64)rint((double)weight / largest * unit); }

extern "C" __global__ void row_maximum(i64 n_items, const i64* indptr, const float* weight, float* out) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    float largest = 0;
    for (i64 e = indptr[v]; e < indptr[v + 1]; ++e) largest = fmaxf(largest, weight[e]);
    out[v] = largest;
}

extern "C" __global__ void count_arcs(i64 n_items, const i64* indptr, const int* indices, const float* weight, double largest,
                                      double unit, i64* count) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    i64 kept = 0;
    for (i64 e = indptr[v]; e < indptr[v + 1]; ++e) kept += indices[e] != v && whole_weight(weight[e], largest, unit) > 0;
    count[v] = kept;
}

extern "C" __global__ void round_arcs(i64 n_items, const i64* indptr, const int* indices, const float* weight, double largest,
                                      double unit, const i64* new_indptr, int* neighbor, i64* rounded, i64* degree) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    i64 to = new_indptr[v], total = 0;
    for (i64 e = indptr[v]; e < indptr[v + 1]; ++e) {
        const i64 whole = whole_weight(weight[e], largest, unit);
        if (indices[e] != v && whole > 0) {
            neighbor[to] = indices[e];
            rounded[to++] = whole;
            total += whole;
        }
    }
    degree[v] = total;
}

extern "C" __global__ void lowest_of_label(i64 n_items, const int* label, int* lowest) {
    const i64 v = thread_item();
    if (v < n_items) atomicMin(lowest + label[v], (int)v);
}

extern "C" __global__ void look_up(i64 n_items, const int* place, const int* values, int* out) {
    const i64 i = thread_item();
    if (i < n_items) out[i] = values[place[i]];
}

extern "C" __global__ void flag_heads(i64 n_items, const int* smallest, i64* flag) {
    const i64 v = thread_item();
    if (v < n_items) flag[v] = smallest[v] == v;
}

extern "C" __global__ void number_sets(i64 n_items, const int* smallest, const i64* number, const i64* representative, int* vertex,
                                       int* heads, i64* new_representative) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    vertex[v] = (int)number[smallest[v]];
    if (smallest[v] == v) {
        heads[number[v]] = (int)v;
        new_representative[number[v]] = representative[v];
    }
}

extern "C" __global__ void count_between(i64 n_items, const i64* indptr, const int* neighbor, const int* vertex, i64* places) {
    const i64 v = thread_item() / 32;
    if (v >= n_items) return;
    i64 found = 0;
    for (i64 e = indptr[v] + threadIdx.x % 32; e < indptr[v + 1]; e += 32) found += vertex[neighbor[e]] != vertex[v];
    if (found > 0) add(places + vertex[v], 2 * found);
}

extern "C" __global__ void gather_arcs(i64 n_items, const i64* indptr, const int* neighbor, const i64* weight, const int* vertex,
                                       const i64* bounds, int* name, i64* total, int* owner, int* rank, i64* count) {
    const i64 v = thread_item() / 32;
    if (v >= n_items) return;
    const int mine = vertex[v];
    const i64 start = bounds[mine], width = bounds[mine + 1] - start;
    for (i64 e = indptr[v] + threadIdx.x % 32; e < indptr[v + 1]; e += 32) {
        const int other = vertex[neighbor[e]];
        if (other == mine) continue;
        i64 place = (i64)(mix64((u64)other + 0x9E3779B97F4A7C15ULL) % (u64)width);
        while (true) {
            const int there = atomicCAS(name + start + place, EMPTY, other);
            if (there == EMPTY) {
                owner[start + place] = mine;
                rank[start + place] = (int)add(count + mine, 1);
            }
            if (there == EMPTY || there == other) break;
            place = place + 1 < width ? place + 1 : 0;
        }
        add(total + start + place, weight[e]);
    }
}

extern "C" __global__ void pack_arcs(i64 n_items, const int* name, const i64* total, const int* owner, const int* rank,
                                     const i64* indptr, int* neighbor, i64* weight) {
    const i64 place = thread_item();
    if (place >= n_items || name[place] == EMPTY) return;
    const i64 to = indptr[owner[place]] + rank[place];
    neighbor[to] = name[place];
    weight[to] = total[place];
}

extern "C" __global__ void lower_labels(i64 n_items, const i64* indptr, const int* neighbor, const int* community, int* label,
                                        i64* changed) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    const int named = label[v];
    int lowest = named;
    for (i64 e = indptr[v]; e < indptr[v + 1]; ++e)
        if (community[neighbor[e]] == community[v]) lowest = min(lowest, label[neighbor[e]]);
    if (lowest < named) {
        atomicMin(label + named, lowest);
        atomicMin(label + v, lowest);
        changed[0] = 1;
    }
}

extern "C" __global__ void shorten_labels(i64 n_items, int* label) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    int end = label[v];
    while (label[end] != end) end = label[end];
    label[v] = end;
}

extern "C" __global__ void weight_inside(i64 n_items, const i64* indptr, const int* indices, const float* weight, const int* label,
                                         double* inside, double* degree) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    double within = 0.0, total = 0.0;
    for (i64 e = indptr[v]; e < indptr[v + 1]; ++e) {
        total += weight[e];
        if (label[indices[e]] == label[v]) within += weight[e];
    }
    inside[v] = within;
    degree[v] = total;
}
