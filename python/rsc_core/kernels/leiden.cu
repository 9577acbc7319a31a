// The two phases of the deterministic Leiden algorithm on one level; leiden.py holds the same for the CPU. Atomics add
// integers only: any order gives the same, and so does any order of a list.
//
// A phase is one kernel, whose blocks wait for each other between its steps. Where communities around a vertex are compared,
// a warp owns the vertex, or a block where it has many arcs; a table of slots in shared memory sums the arcs to each.
#include "device.cuh"

#define THREADS 256
#define WARPS (THREADS / 32)
#define WIDE 128  // arcs of a vertex from which on a block owns it
#define WARP_SLOTS 128
#define BLOCK_SLOTS (WARPS * WARP_SLOTS)
#define FREE (-1)
#define NOBODY (-1)
#define WHOLE_WARP 0xffffffffu

template <int N> struct Width {};  // how many threads own a vertex: a warp or a block

template <int N> __device__ __forceinline__ int threads_of(Width<N>) { return N; }

struct Space {
    int name[BLOCK_SLOTS];
    unsigned low[BLOCK_SLOTS], high[BLOCK_SLOTS];  // of a sum: shared memory adds 32 bits at once
    int n_names[WARPS];
    double gain[WARPS];
    i64 own_sum[WARPS];
    int best[WARPS], available[WARPS];
};

struct Choice {
    double gain;
    i64 own_sum;
    int best, available;
};

struct Grid {
    u64 *arrived, goal;
};

__device__ __forceinline__ u64 next_key(u64 key, u64 number) { return mix64((key ^ number) + 0x9E3779B97F4A7C15ULL); }

__device__ __forceinline__ u64 vertex_hash(u64 key, i64 representative) {
    return mix64((key ^ ((u64)representative * 0xD1342543DE82EF95ULL)) + 0x9E3779B97F4A7C15ULL);
}

__device__ __forceinline__ bool may_act(u64 key, i64 representative) { return vertex_hash(key, representative) >> 63 == 0; }

__device__ __forceinline__ i64 add(i64* sum, i64 amount) { return (i64)atomicAdd((u64*)sum, (u64)amount); }

__device__ __forceinline__ i64 thread_item() { return blockIdx.x * (i64)blockDim.x + threadIdx.x; }

// All blocks come here before one goes on, and see what the others have written.
__device__ __forceinline__ void meet(Grid& grid) {
    __syncthreads();
    grid.goal += gridDim.x;
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(grid.arrived, 1ULL);
        while (*(volatile u64*)grid.arrived < grid.goal) {}
        __threadfence();
    }
    __syncthreads();
}

template <int N> __device__ __forceinline__ void meet(Width<N>) {
    if (N == 32) __syncwarp();
    else __syncthreads();
}

template <int N> __device__ __forceinline__ i64 sum_of_all(Width<N> width, i64 value, Space& space) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(WHOLE_WARP, value, step);
    if (N == 32) return value;
    if (threadIdx.x % 32 == 0) space.own_sum[threadIdx.x / 32] = value;
    meet(width);
    value = 0;
    for (int w = 0; w < WARPS; ++w) value += space.own_sum[w];
    meet(width);
    return value;
}

// The higher gain, or the smaller name at equal gains.
__device__ __forceinline__ void consider(Choice& choice, int name, double gain, int available) {
    if (name == NOBODY || (choice.best != NOBODY && (gain < choice.gain || (gain == choice.gain && name > choice.best)))) return;
    choice.best = name;
    choice.gain = gain;
    choice.available = available;
}

template <int N> __device__ __forceinline__ void choice_of_all(Width<N> width, Choice& choice, Space& space) {
    choice.own_sum = sum_of_all(width, choice.own_sum, space);
    for (int step = 16; step > 0; step /= 2) {
        const int name = __shfl_xor_sync(WHOLE_WARP, choice.best, step), available = __shfl_xor_sync(WHOLE_WARP, choice.available, step);
        const double gain = __shfl_xor_sync(WHOLE_WARP, choice.gain, step);
        consider(choice, name, gain, available);
    }
    if (N == 32) return;
    if (threadIdx.x % 32 == 0) {
        space.best[threadIdx.x / 32] = choice.best;
        space.gain[threadIdx.x / 32] = choice.gain;
        space.available[threadIdx.x / 32] = choice.available;
    }
    meet(width);
    for (int w = 0; w < WARPS; ++w) consider(choice, space.best[w], space.gain[w], space.available[w]);
    meet(width);
}

// Call score(name, sum) once for each name_of(neighbour) but NOBODY, with the weight of the arcs to it. Names that do not fit
// half of the slots are taken in parts, which are ranges of their hash: a part that is still too large is halved.
template <int N, class Name, class Score>
__device__ __forceinline__ void each_name(Width<N> width, i64 start, i64 stop, const int* neighbor, const i64* weight, Space& space,
                                          Name name_of, Score score) {
    const int rank = threadIdx.x % N, first = N == 32 ? threadIdx.x / 32 * WARP_SLOTS : 0;
    const int n_slots = N != 32 ? BLOCK_SLOTS : stop - start <= 16 ? 32 : stop - start <= 32 ? 64 : WARP_SLOTS;
    int* names = space.name + first;
    unsigned *low = space.low + first, *high = space.high + first;
    int* n_names = space.n_names + (N == 32 ? threadIdx.x / 32 : 0);
    for (unsigned part = 0, parts = 1; part < parts;) {
        for (int slot = rank; slot < n_slots; slot += N) {
            names[slot] = FREE;
            low[slot] = high[slot] = 0;
        }
        if (rank == 0) *n_names = 0;
        meet(width);
        for (i64 e = start + rank; e < stop && *(volatile int*)n_names <= n_slots / 2; e += N) {
            const int name = name_of(neighbor[e]);
            const u64 hash = mix64((u64)name + 0x9E3779B97F4A7C15ULL);
            if (name == NOBODY || (unsigned)((hash >> 32) * parts >> 32) != part) continue;
            int slot = (int)((unsigned)hash & (n_slots - 1));
            while (true) {
                const int there = atomicCAS(names + slot, FREE, name);
                if (there == FREE) atomicAdd(n_names, 1);
                if (there == FREE || there == name) break;
                slot = (slot + 1) & (n_slots - 1);
            }
            const unsigned lower = (unsigned)weight[e], carry = atomicAdd(low + slot, lower) > ~lower;
            const unsigned higher = (unsigned)(weight[e] >> 32) + carry;
            if (higher > 0) atomicAdd(high + slot, higher);
        }
        meet(width);
        const bool full = *(volatile int*)n_names > n_slots / 2;
        for (int slot = rank; slot < n_slots && !full; slot += N)
            if (names[slot] != FREE) score(names[slot], (i64)((u64)high[slot] << 32 | low[slot]));
        meet(width);
        part = full ? 2 * part : part + 1;
        if (full) parts *= 2;
    }
}

// Lists the wanted vertices of a warp: those of few arcs from the front, wide ones from the back. All 32 lanes come here.
__device__ __forceinline__ void append(bool wanted, int v, bool wide, int* list, i64 n_items, i64* count) {
    const int lane = threadIdx.x % 32;
    for (int back = 0; back < 2; ++back) {
        const unsigned mask = __ballot_sync(WHOLE_WARP, wanted && wide == (back == 1));
        if (mask == 0) continue;
        i64 first = 0;
        if (lane == 0) first = add(count + back, __popc(mask));
        first = __shfl_sync(WHOLE_WARP, first, 0) + __popc(mask & ((1u << lane) - 1));
        if (mask >> lane & 1) list[back == 1 ? n_items - 1 - first : first] = v;
    }
}

__device__ __forceinline__ int listed_at(i64 i, const int* list, i64 n_items, const i64* count) {
    return i < count[0] ? list[i] : list[n_items - 1 - (i - count[0])];
}

// Call work(width, v) with a block for each wide vertex of a list, and with a warp for each other.
template <class Work> __device__ __forceinline__ void for_listed(const int* list, i64 n_items, const i64* count, Work work) {
    for (i64 i = blockIdx.x; i < count[1]; i += gridDim.x) work(Width<THREADS>(), list[n_items - 1 - i]);
    for (i64 i = thread_item() / 32; i < count[0]; i += gridDim.x * WARPS) work(Width<32>(), list[i]);
}

__device__ __forceinline__ bool is_wide(i64 v, const i64* indptr) { return indptr[v + 1] - indptr[v] > WIDE; }

__device__ __forceinline__ void count_used(i64 n_items, const i64* size, i64* found) {
    i64 used = 0;
    for (i64 v = thread_item(); v < n_items; v += gridDim.x * THREADS) used += size[v] > 0;
    for (int step = 16; step > 0; step /= 2) used += __shfl_xor_sync(WHOLE_WARP, used, step);
    if (threadIdx.x % 32 == 0 && used > 0) add(found, used);
}

extern "C" __global__ void community_totals(i64 n_items, const int* community, const i64* degree, i64* total, i64* size) {
    const i64 v = thread_item();
    if (v >= n_items) return;
    add(total + community[v], degree[v]);
    add(size + community[v], 1);
}

extern "C" __global__ void inner_weight(i64 n_items, const i64* indptr, const int* neighbor, const i64* weight, const int* community,
                                        i64* out) {
    const i64 v = thread_item() / 32;
    if (v >= n_items) return;
    i64 total = 0;
    for (i64 e = indptr[v] + threadIdx.x % 32; e < indptr[v + 1]; e += 32)
        if (community[neighbor[e]] == community[v]) total += weight[e];
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(WHOLE_WARP, total, step);
    if (threadIdx.x % 32 == 0) out[v] = total;
}

template <int N>
__device__ __forceinline__ int best_community(Width<N> width, int v, const i64* indptr, const int* neighbor, const i64* weight,
                                              const int* community, const i64* total, const i64* size, const i64* degree,
                                              double total_weight, double resolution, Space& space) {
    const int own = community[v];
    const double share = (resolution * (double)degree[v]) / total_weight;
    Choice choice = {0.0, 0, NOBODY, 1};
    each_name(width, indptr[v], indptr[v + 1], neighbor, weight, space, [&](int u) { return community[u]; },
              [&](int name, i64 sum) {
                  if (name == own) choice.own_sum = sum;
                  else consider(choice, name, (double)sum - share * (double)total[name], 1);
              });
    choice_of_all(width, choice, space);
    const double stay = (double)choice.own_sum - share * (double)(total[own] - degree[v]);
    const bool moves = choice.best != NOBODY && choice.gain > stay;
    return (moves ? choice.gain : stay) < 0.0 && size[own] > 1 && size[v] == 0 ? v : moves ? choice.best : own;
}

template <int N>
__device__ __forceinline__ void wake(Width<N>, int v, const i64* indptr, const int* neighbor, const int* community, unsigned char* active) {
    for (i64 e = indptr[v] + threadIdx.x % N; e < indptr[v + 1]; e += N)
        if (community[neighbor[e]] != community[v]) active[neighbor[e]] = 1;
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    move_vertices(i64 n_items, const i64* indptr, const int* neighbor, const i64* weight, const i64* degree, const i64* representative,
                  double total_weight, double resolution, u64 key, i64 n_sweeps, i64 n_turns, int* community, i64* total, i64* size,
                  unsigned char* active, int* listed, int* target, i64* found, i64* counters) {
    __shared__ Space space;
    Grid grid = {(u64*)counters, 0};
    const i64 item = thread_item(), step = gridDim.x * THREADS, lane = threadIdx.x % 32;
    int* movers = listed + n_turns * n_items;
    for (i64 v = item; v < n_items; v += step) {
        add(total + community[v], degree[v]);
        add(size + community[v], 1);
    }
    for (i64 sweep = 0, n_moved = 1; sweep < n_sweeps && n_moved > 0; ++sweep) {
        const u64 sweep_key = next_key(key, sweep);
        i64* counts = counters + 1 + 4 * n_turns * sweep;  // of each turn: listed, wide ones listed, moved, wide ones moved
        for (i64 v = item; v - lane < n_items; v += step) {
            const i64 drawn = v < n_items ? (i64)((vertex_hash(sweep_key, representative[v]) >> 32) % (u64)n_turns) : -1;
            const bool wide = v < n_items && is_wide(v, indptr);
            for (i64 turn = 0; turn < n_turns; ++turn) append(drawn == turn, (int)v, wide, listed + turn * n_items, n_items, counts + 4 * turn);
        }
        n_moved = 0;
        for (i64 turn = 0; turn < n_turns; ++turn) {
            const int* list = listed + turn * n_items;
            i64* count = counts + 4 * turn;
            meet(grid);
            for_listed(list, n_items, count, [&](auto width, int v) {
                if (active[v] == 0) return;
                const int best = best_community(width, v, indptr, neighbor, weight, community, total, size, degree, total_weight,
                                                resolution, space);
                if (lane == 0) target[v] = best;
            });
            meet(grid);
            for (i64 i = item; i - lane < count[0] + count[1]; i += step) {
                const bool acts = i < count[0] + count[1] && active[listed_at(i, list, n_items, count)] != 0;
                const int v = acts ? listed_at(i, list, n_items, count) : 0;
                const int here = community[v], there = acts ? target[v] : here;
                if (acts) active[v] = 0;
                if (here != there) {
                    add(total + here, -degree[v]);
                    add(total + there, degree[v]);
                    add(size + here, -1);
                    add(size + there, 1);
                    community[v] = there;
                }
                append(here != there, v, i >= count[0], movers, n_items, count + 2);
            }
            meet(grid);
            n_moved += count[2] + count[3];
            for_listed(movers, n_items, count + 2, [&](auto width, int v) { wake(width, v, indptr, neighbor, community, active); });
        }
    }
    count_used(n_items, size, found);
}

template <int N>
__device__ __forceinline__ int best_set(Width<N> width, int v, const i64* indptr, const int* neighbor, const i64* weight,
                                        const int* community, const int* refined, const i64* community_total, const i64* set_total,
                                        const i64* outside, const i64* set_size, const i64* degree, double total_weight,
                                        double resolution, u64 key, const i64* representative, bool waiting, Space& space) {
    const int own = community[v];
    const double share = (resolution * (double)degree[v]) / total_weight;
    if ((double)outside[v] < share * (double)(community_total[own] - degree[v])) return v;
    Choice choice = {0.0, 0, NOBODY, 1};
    each_name(width, indptr[v], indptr[v + 1], neighbor, weight, space, [&](int u) { return community[u] == own ? refined[u] : NOBODY; },
              [&](int r, i64 sum) {
                  const double there = (double)sum - share * (double)set_total[r];
                  if (there <= 0.0) return;
                  const double part = (resolution * (double)set_total[r]) / total_weight;
                  if ((double)outside[r] < part * (double)(community_total[own] - set_total[r])) return;
                  const bool available = set_size[r] > 1 || !may_act(key, representative[r]);
                  if (available || waiting) consider(choice, r, there, available);
              });
    choice_of_all(width, choice, space);
    return choice.best != NOBODY && choice.available ? choice.best : v;
}

// The set gets the arcs of v to others of the community, and loses its own to v.
template <int N>
__device__ __forceinline__ void join_set(Width<N> width, int v, const int* target, i64 stamp, const i64* indptr, const int* neighbor,
                                         const i64* weight, const int* community, const int* refined, const unsigned char* joined,
                                         const i64* degree, i64* outside, i64* set_total, i64* set_size, Space& space) {
    const int r = target[v];
    i64 inside = 0;
    for (i64 e = indptr[v] + threadIdx.x % N; e < indptr[v + 1]; e += N) {
        const int u = neighbor[e];
        if (refined[u] == r && community[u] == community[v]) inside += joined[u] == stamp ? weight[e] : 2 * weight[e];
    }
    inside = sum_of_all(width, inside, space);
    if (threadIdx.x % N != 0) return;
    add(outside + r, outside[v] - inside);
    add(set_total + r, degree[v]);
    add(set_size + r, 1);
    set_size[v] = 0;
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    form_sets(i64 n_items, const i64* indptr, const int* neighbor, const i64* weight, const i64* degree, const i64* representative,
              double total_weight, double resolution, u64 key, i64 n_rounds, i64 n_waiting, const int* community,
              const i64* community_total, int* refined, i64* set_total, i64* set_size, i64* outside, unsigned char* done,
              unsigned char* joined, int* listed, int* target, i64* found, i64* counters) {
    __shared__ Space space;
    Grid grid = {(u64*)counters, 0};
    const i64 item = thread_item(), step = gridDim.x * THREADS, lane = threadIdx.x % 32;
    int* joiners = listed + n_items;
    for (i64 v = item; v - lane < n_items; v += step) {
        const bool is_one = v < n_items;
        if (is_one) {
            refined[v] = (int)v;
            set_total[v] = degree[v];
            set_size[v] = 1;
            done[v] = joined[v] = 0;
        }
        append(is_one, (int)v, is_one && is_wide(v, indptr), listed, n_items, counters + 1);
    }
    meet(grid);
    for_listed(listed, n_items, counters + 1, [&](auto width, int v) {
        const int n_threads = threads_of(width);
        i64 inside = 0;
        for (i64 e = indptr[v] + threadIdx.x % n_threads; e < indptr[v + 1]; e += n_threads)
            if (community[neighbor[e]] == community[v]) inside += weight[e];
        inside = sum_of_all(width, inside, space);
        if (lane == 0) outside[v] = inside;
    });
    for (i64 number = 0; number < n_rounds; ++number) {
        const u64 round_key = next_key(key, number);
        const bool waiting = number < n_waiting;
        i64* count = counters + 3 + 4 * number;  // listed, wide ones listed, joined, wide ones joined
        meet(grid);
        for (i64 v = item; v - lane < n_items; v += step) {
            const bool acts = v < n_items && joined[v] == 0 && done[v] == 0 && set_size[v] == 1 && may_act(round_key, representative[v]);
            append(acts, (int)v, acts && is_wide(v, indptr), listed, n_items, count);
        }
        meet(grid);
        for_listed(listed, n_items, count, [&](auto width, int v) {
            const int best = best_set(width, v, indptr, neighbor, weight, community, refined, community_total, set_total, outside, set_size,
                                      degree, total_weight, resolution, round_key, representative, waiting, space);
            if (lane == 0) target[v] = best;
        });
        meet(grid);
        for (i64 i = item; i - lane < count[0] + count[1]; i += step) {
            const bool acts = i < count[0] + count[1];
            const int v = acts ? listed_at(i, listed, n_items, count) : 0, r = acts ? target[v] : 0;
            if (acts) {
                refined[v] = r;
                done[v] = !waiting;
                if (r != v) joined[v] = (unsigned char)(number + 1);
            }
            append(r != v, v, i >= count[0], joiners, n_items, count + 2);
        }
        meet(grid);
        for_listed(joiners, n_items, count + 2, [&](auto width, int v) {
            join_set(width, v, target, number + 1, indptr, neighbor, weight, community, refined, joined, degree, outside, set_total, set_size,
                     space);
        });
    }
    meet(grid);
    count_used(n_items, set_size, found);
}
