#include "device.cuh"
// One thread owns one chunk.
extern "C" __global__ void chunk_sums(i64 n_items, const i64* values, i64 n_values, i64 chunk, i64* sums) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 stop = min(n_values, (item + 1) * chunk);
    i64 total = 0;
    for (i64 i = item * chunk; i < stop; ++i) total += values[i];
    sums[item] = total;
}

extern "C" __global__ void chunk_running_sums(i64 n_items, const i64* values, i64 n_values, i64 chunk, const i64* starts, i64* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 stop = min(n_values, (item + 1) * chunk);
    i64 total = starts[item];
    if (item == 0) out[0] = total;
    for (i64 i = item * chunk; i < stop; ++i) {
        total += values[i];
        out[i + 1] = total;
    }
}
