// Steps of the deterministic Leiden algorithm; leiden.py holds the same for the CPU. Atomics add integers only: any order
// gives the same. Where communities around a vertex are compared, a warp owns the vertex; each lane takes every 32nd arc
// and sums the arcs to that arc's community itself if no earlier arc leads there.
#include "device.cuh"

__device__ __forceinline__ u64 vertex_hash(u64 key, i64 representative) {
    return mix64((key ^ ((u64)representative * 0xD1342543DE82EF95ULL)) + 0x9E3779B97F4A7C15ULL);
}

__device__ __forceinline__ void add(i64* sum, i64 amount) { atomicAdd((u64*)sum, (u64)amount); }

__device__ __forceinline__ void append(int* list, i64* count, i64 v) { list[atomicAdd((u64*)count, 1ULL)] = (int)v; }

__device__ __forceinline__ i64 thread_item() { return blockIdx.x * (i64)blockDim.x + threadIdx.x; }

extern "C" __global__ void community_totals(i64 n_items, const int* community, const i64* degree, i64* total, i64* size) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    add(total + community[v], degree[v]);
    add(size + community[v], 1);
}

extern "C" __global__ void in_turn(i64 n_items, const unsigned char* active, const i64* representative, u64 key, i64 turn, i64 n_turns,
                                   int* vertices, i64* count) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    if (active[v] != 0 && (i64)((vertex_hash(key, representative[v]) >> 32) % (u64)n_turns) == turn) append(vertices, count, v);
}

// Weight of all arcs of [start, stop) whose neighbour has this label, or -1 where an arc before e leads there.
__device__ __forceinline__ i64 arc_sum(i64 e, i64 start, i64 stop, const int* neighbor, const i64* weight, const int* label, int name,
                                       int within, const int* label_of) {
    for (i64 f = start; f < e; ++f)
        if (label[neighbor[f]] == name && (within < 0 || label_of[neighbor[f]] == within)) return -1;
    i64 sum = 0;
    for (i64 f = e; f < stop; ++f)
        if (label[neighbor[f]] == name && (within < 0 || label_of[neighbor[f]] == within)) sum += weight[f];
    return sum;
}

extern "C" __global__ void best_community(i64 n_items, const i64* count, const int* vertices, const i64* indptr, const int* neighbor,
                                          const i64* weight, const int* community, const i64* total, const i64* size, const i64* degree,
                                          double total_weight, double resolution, int* target) {
    const i64 item = thread_item() / 32;
    if (item >= count[0]) return;
    const int v = vertices[item], own = community[v], lane = threadIdx.x % 32;
    const i64 start = indptr[v], stop = indptr[v + 1];
    const double share = (resolution * (double)degree[v]) / total_weight;
    i64 inner = 0;
    for (i64 e = start + lane; e < stop; e += 32)
        if (community[neighbor[e]] == own) inner += weight[e];
    for (int step = 16; step > 0; step /= 2) inner += __shfl_xor_sync(0xffffffffu, inner, step);
    int best = own;
    double gain = (double)inner - share * (double)(total[own] - degree[v]);
    for (i64 e = start + lane; e < stop; e += 32) {
        const int name = community[neighbor[e]];
        if (name == own) continue;
        const i64 sum = arc_sum(e, start, stop, neighbor, weight, community, name, -1, community);
        if (sum < 0) continue;
        const double there = (double)sum - share * (double)total[name];
        if (there > gain || (there == gain && best != own && name < best)) { best = name; gain = there; }
    }
    for (int step = 16; step > 0; step /= 2) {
        const int other = __shfl_xor_sync(0xffffffffu, best, step);
        const double there = __shfl_xor_sync(0xffffffffu, gain, step);
        if (other != own && (there > gain || (there == gain && (best == own || other < best)))) { best = other; gain = there; }
    }
    if (lane == 0) target[item] = gain < 0.0 && size[own] > 1 && size[v] == 0 ? v : best;
}

extern "C" __global__ void move_vertices(i64 n_items, const i64* count, const int* vertices, const int* target, int* community,
                                         const i64* degree, i64* total, i64* size, unsigned char* active, unsigned char* moved,
                                         i64* n_moved) {
    const i64 i = thread_item();
    if (i >= count[0]) return;
    const int v = vertices[i], here = community[v], there = target[i];
    active[v] = 0;
    moved[i] = here != there;
    if (here != there) {
        add(total + here, -degree[v]);
        add(total + there, degree[v]);
        add(size + here, -1);
        add(size + there, 1);
        community[v] = there;
        add(n_moved, 1);
    }
}

extern "C" __global__ void wake_neighbors(i64 n_items, const i64* count, const int* vertices, const unsigned char* moved,
                                          const i64* indptr, const int* neighbor, const int* community, unsigned char* active) {
    const i64 i = thread_item();
    if (i >= count[0] || moved[i] == 0) return;
    const int v = vertices[i];
    for (i64 e = indptr[v]; e < indptr[v + 1]; ++e)
        if (community[neighbor[e]] != community[v]) active[neighbor[e]] = 1;
}

extern "C" __global__ void inner_weight(i64 n_items, const i64* indptr, const int* neighbor, const i64* weight, const int* community,
                                        i64* out) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    i64 total = 0;
    for (i64 e = indptr[v]; e < indptr[v + 1]; ++e)
        if (community[neighbor[e]] == community[v]) total += weight[e];
    out[v] = total;
}

extern "C" __global__ void may_join(i64 n_items, const i64* set_size, const unsigned char* done, const i64* representative, u64 key,
                                    int* vertices, i64* count) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    if (set_size[v] == 1 && done[v] == 0 && vertex_hash(key, representative[v]) >> 63 == 0) append(vertices, count, v);
}

extern "C" __global__ void best_set(i64 n_items, const i64* count, const int* vertices, const i64* indptr, const int* neighbor,
                                    const i64* weight, const int* community, const int* refined, const i64* community_total, const i64* set_total,
                                    const i64* outside, const i64* set_size, const i64* degree, double total_weight, double resolution,
                                    u64 key, const i64* representative, i64 waiting, int* target) {
    const i64 item = thread_item() / 32;
    if (item >= count[0]) return;
    const int v = vertices[item], own = community[v], lane = threadIdx.x % 32;
    const i64 start = indptr[v], stop = indptr[v + 1];
    const double share = (resolution * (double)degree[v]) / total_weight;
    if (lane == 0) target[item] = v;
    if ((double)outside[v] < share * (double)(community_total[own] - degree[v])) return;
    int best = v, free = 1;
    double gain = 0.0;
    for (i64 e = start + lane; e < stop; e += 32) {
        if (community[neighbor[e]] != own) continue;
        const int r = refined[neighbor[e]];
        const i64 sum = arc_sum(e, start, stop, neighbor, weight, refined, r, own, community);
        if (sum < 0) continue;
        const double there = (double)sum - share * (double)set_total[r];
        if (there <= 0.0 || there < gain || (there == gain && r > best)) continue;
        const double part = (resolution * (double)set_total[r]) / total_weight;
        if ((double)outside[r] < part * (double)(community_total[own] - set_total[r])) continue;
        const int available = set_size[r] > 1 || vertex_hash(key, representative[r]) >> 63 != 0;
        if (available || waiting != 0) { best = r; gain = there; free = available; }
    }
    for (int step = 16; step > 0; step /= 2) {
        const int other = __shfl_xor_sync(0xffffffffu, best, step), its = __shfl_xor_sync(0xffffffffu, free, step);
        const double there = __shfl_xor_sync(0xffffffffu, gain, step);
        if (there > gain || (there == gain && there > 0.0 && other < best)) { best = other; gain = there; free = its; }
    }
    if (lane == 0 && free) target[item] = best;
}

extern "C" __global__ void choose_sets(i64 n_items, const i64* count, const int* vertices, const int* target, i64 waiting, int* refined,
                                       unsigned char* joins, unsigned char* done) {
    const i64 i = thread_item();
    if (i >= count[0]) return;
    const int v = vertices[i];
    joins[v] = target[i] != v;
    refined[v] = target[i];
    if (waiting == 0) done[v] = 1;
}

extern "C" __global__ void join_sets(i64 n_items, const i64* count, const int* vertices, const int* target, const i64* indptr,
                                     const int* neighbor, const i64* weight, const int* community, const int* refined,
                                     const unsigned char* joins, const i64* degree, i64* outside, i64* set_total, i64* set_size) {
    const i64 i = thread_item();
    if (i >= count[0]) return;
    const int v = vertices[i], r = target[i];
    if (r == v) return;
    i64 inside = 0;
    for (i64 e = indptr[v]; e < indptr[v + 1]; ++e) {
        const int u = neighbor[e];
        if (refined[u] == r && community[u] == community[v]) inside += joins[u] != 0 ? weight[e] : 2 * weight[e];
    }
    add(outside + r, outside[v] - inside);
    add(set_total + r, degree[v]);
    add(set_size + r, 1);
    set_size[v] = 0;
}

extern "C" __global__ void count_positive(i64 n_items, const i64* values, i64* count) {
    const i64 v = thread_item();
    if (v < n_items && values[v] > 0) add(count, 1);
}
