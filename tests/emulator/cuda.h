// As much of CUDA as the kernels use, for one core: the threads of a block are contexts that take turns at barriers.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static  // blocks run one after the other

struct Place {
    unsigned x, y, z;
};
template <typename T> struct alignas(2 * sizeof(T)) Pair {
    T x, y;
};
template <typename T> struct alignas(4 * sizeof(T)) Four {
    T x, y, z, w;
};
using int2 = Pair<int>;
using int4 = Four<int>;
using float2 = Pair<float>;
using float4 = Four<float>;
using double2 = Pair<double>;
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }
static Place threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

namespace emulated {
enum State { READY, AT_BLOCK, AT_WARP, DONE };
const size_t STACK = 1 << 17;
const unsigned MOST = 1024;
struct Thread {
    jmp_buf place;
    State state;
    unsigned mask;
    bool begun;
};
static Thread threads[MOST];
static char* const stacks = (char*)malloc(MOST * STACK);
static std::vector<char> room;
static uint64_t slots[MOST / 32][32];
static jmp_buf scheduler;
static unsigned current, dynamic_bytes;
static std::function<void()> body;

// A jump keeps no signal mask, which takes a system call.
static void pause(State state, unsigned mask) {
    threads[current].state = state, threads[current].mask = mask;
    if (!_setjmp(threads[current].place)) _longjmp(scheduler, 1);
}

// A context takes its thread of block after block.
static void start() {
    while (true) {
        body();
        pause(DONE, 0);
    }
}

static void __attribute__((noinline)) resume() {
    if (_setjmp(scheduler)) return;
    if (threads[current].begun) _longjmp(threads[current].place, 1);
    threads[current].begun = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks + current * STACK;
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, start, 0);
    setcontext(&context);
}

// A warp's barrier opens when all of its mask that live are there.
static bool release(unsigned n) {
    bool moved = false, all = true, any = false;
    for (unsigned t = 0; t < n; ++t) all &= threads[t].state == AT_BLOCK || threads[t].state == DONE, any |= threads[t].state == AT_BLOCK;
    if (all && any) {
        for (unsigned t = 0; t < n; ++t)
            if (threads[t].state == AT_BLOCK) threads[t].state = READY;
        return true;
    }
    for (unsigned first = 0; first < n; first += 32)
        for (unsigned lane = 0; lane < 32 && first + lane < n; ++lane) {
            Thread& mine = threads[first + lane];
            if (mine.state != AT_WARP) continue;
            const unsigned mask = mine.mask;
            bool here = true;
            for (unsigned other = 0; other < 32 && first + other < n; ++other)
                if (mask >> other & 1) here &= threads[first + other].state == DONE || (threads[first + other].state == AT_WARP && threads[first + other].mask == mask);
            if (!here) continue;
            for (unsigned other = 0; other < 32 && first + other < n; ++other)
                if (mask >> other & 1 && threads[first + other].state == AT_WARP) threads[first + other].state = READY;
            moved = true;
        }
    return moved;
}

// 0, or 1 where threads wait for each other for ever.
static int run_block(unsigned n) {
    for (unsigned t = 0; t < n; ++t) threads[t].state = READY;
    while (true) {
        bool ran = false;
        for (unsigned t = 0; t < n; ++t)
            if (threads[t].state == READY) {
                ran = true, current = t, threadIdx = {t, 0, 0};
                resume();
            }
        if (release(n)) continue;
        if (ran) continue;
        for (unsigned t = 0; t < n; ++t)
            if (threads[t].state != DONE) return 1;
        return 0;
    }
}

static int launch(int64_t n_blocks, unsigned n_threads, unsigned n_bytes, std::function<void()> work) {
    room.assign(n_bytes + 16, 0);
    body = work, dynamic_bytes = n_bytes, gridDim = {(unsigned)n_blocks, 1, 1}, blockDim = {n_threads, 1, 1};
    for (int64_t block = 0; block < n_blocks; ++block) {
        blockIdx = {(unsigned)block, 0, 0};
        if (run_block(n_threads)) {
            for (Thread& thread : threads) thread.begun = false;
            return 1;
        }
    }
    return 0;
}

template <typename T> static uint64_t bits_of(T value) {
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    return bits;
}

// What another lane of the warp holds; lanes beyond the warp give back the own value.
template <typename T> static T exchange(unsigned mask, T value, int source) {
    const unsigned warp = current / 32, lane = current % 32;
    slots[warp][lane] = bits_of(value);
    pause(AT_WARP, mask);
    T other = value;
    if (source >= 0 && source < 32) memcpy(&other, &slots[warp][source], sizeof(T));
    pause(AT_WARP, mask);
    return other;
}
}  // namespace emulated

static inline void __syncthreads() { emulated::pause(emulated::AT_BLOCK, 0); }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { emulated::pause(emulated::AT_WARP, mask); }
static inline void __threadfence() {}
static inline int lane_of() { return emulated::current % 32; }
static inline int within(int lane, int width) { return lane_of() / width == lane / width && lane >= 0 ? lane : lane_of(); }
template <typename T> static T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
    return emulated::exchange(mask, value, lane_of() / width * width + lane % width);
}
template <typename T> static T __shfl_xor_sync(unsigned mask, T value, int step, int width = 32) {
    return emulated::exchange(mask, value, within(lane_of() ^ step, width));
}
template <typename T> static T __shfl_down_sync(unsigned mask, T value, int step, int width = 32) {
    return emulated::exchange(mask, value, within(lane_of() + step, width));
}
template <typename T> static T __shfl_up_sync(unsigned mask, T value, int step, int width = 32) {
    return emulated::exchange(mask, value, within(lane_of() - step, width));
}
static unsigned __ballot_sync(unsigned mask, int predicate) {
    const unsigned warp = emulated::current / 32;
    emulated::slots[warp][lane_of()] = predicate != 0;
    emulated::pause(emulated::AT_WARP, mask);
    unsigned found = 0;
    for (unsigned lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1 && warp * 32 + lane < blockDim.x && emulated::threads[warp * 32 + lane].state != emulated::DONE)
            found |= (unsigned)emulated::slots[warp][lane] << lane;
    emulated::pause(emulated::AT_WARP, mask);
    return found;
}
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

template <typename T, typename V> static T atomicAdd(T* place, V value) { T old = *place; *place = (T)(old + (T)value); return old; }
template <typename T, typename V> static T atomicMin(T* place, V value) { T old = *place; *place = std::min(old, (T)value); return old; }
template <typename T, typename V> static T atomicMax(T* place, V value) { T old = *place; *place = std::max(old, (T)value); return old; }
template <typename T, typename V> static T atomicOr(T* place, V value) { T old = *place; *place = old | (T)value; return old; }
template <typename T, typename V> static T atomicExch(T* place, V value) { T old = *place; *place = (T)value; return old; }
template <typename T, typename V, typename W> static T atomicCAS(T* place, V expected, W value) {
    T old = *place;
    if (old == (T)expected) *place = (T)value;
    return old;
}

template <typename A, typename B> static inline std::common_type_t<A, B> min(A a, B b) {
    if constexpr (std::is_floating_point_v<std::common_type_t<A, B>>) return std::fmin(a, b);
    return (std::common_type_t<A, B>)a < (std::common_type_t<A, B>)b ? a : b;
}
template <typename A, typename B> static inline std::common_type_t<A, B> max(A a, B b) {
    if constexpr (std::is_floating_point_v<std::common_type_t<A, B>>) return std::fmax(a, b);
    return (std::common_type_t<A, B>)a > (std::common_type_t<A, B>)b ? a : b;
}
using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(uint64_t x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline uint64_t __umul64hi(uint64_t a, uint64_t b) { return (uint64_t)((unsigned __int128)a * b >> 64); }
template <typename To, typename From> static inline To recast(From value) { To to; memcpy(&to, &value, sizeof(To)); return to; }
static inline double __longlong_as_double(long long x) { return recast<double>(x); }
static inline long long __double_as_longlong(double x) { return recast<long long>(x); }
static inline unsigned __float_as_uint(float x) { return recast<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return recast<float>(x); }
static inline int __float_as_int(float x) { return recast<int>(x); }
static inline float __int_as_float(int x) { return recast<float>(x); }
template <typename T> static inline T __ldg(const T* place) { return *place; }
