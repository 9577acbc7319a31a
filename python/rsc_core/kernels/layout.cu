#include "device.cuh"
// One thread owns one cell or one field of the grid; only leaf_sums adds from many sides, and it adds integers.
#define FRACTION_BITS 16
#define BISECTIONS 64
#define T_KERNEL 0

__device__ __forceinline__ i64 thread_item() { return blockIdx.x * (i64)blockDim.x + threadIdx.x; }

__device__ __forceinline__ void add(i64* sum, i64 amount) { atomicAdd((u64*)sum, (u64)amount); }

__device__ __forceinline__ i64 first_field(i64 level) { return ((1LL << (2 * level)) - 1) / 3; }

__device__ __forceinline__ i64 absolute(i64 x) { return x < 0 ? -x : x; }

__device__ __forceinline__ i64 place_of(double y, double low, double scale, i64 limit) {
    return min(max((i64)((y - low) * scale), 0LL), limit - 1);
}

extern "C" __global__ void leaf_sums(i64 n_items, const double* y, const i64* mass, double low, double scale, i64 n_levels, i64* sums) {
    const i64 cell = thread_item(), limit = 1LL << (n_levels + FRACTION_BITS);
    if (cell >= n_items) return;
    const i64 x0 = place_of(y[2 * cell], low, scale, limit), x1 = place_of(y[2 * cell + 1], low, scale, limit);
    const i64 f0 = x0 >> FRACTION_BITS, f1 = x1 >> FRACTION_BITS;
    i64* field = sums + 3 * (first_field(n_levels) + (f0 << n_levels) + f1);
    add(field, mass[cell]);
    add(field + 1, mass[cell] * (x0 - (f0 << FRACTION_BITS)));
    add(field + 2, mass[cell] * (x1 - (f1 << FRACTION_BITS)));
}

extern "C" __global__ void field_centres(i64 n_items, i64 level, i64 n_levels, double low, double scale, i64* sums, double* centre) {
    const i64 place = thread_item();
    if (place >= n_items) return;
    const i64 f0 = place >> level, f1 = place & ((1LL << level) - 1);
    const i64 field = first_field(level) + place, bits = FRACTION_BITS + n_levels - level;
    i64* sum = sums + 3 * field;
    if (level < n_levels) {
        sum[0] = sum[1] = sum[2] = 0;
        for (i64 half0 = 0; half0 < 2; ++half0)
            for (i64 half1 = 0; half1 < 2; ++half1) {
                const i64* child = sums + 3 * (first_field(level + 1) + ((2 * f0 + half0) << (level + 1)) + 2 * f1 + half1);
                sum[0] += child[0];
                sum[1] += child[1] + half0 * (child[0] << (bits - 1));
                sum[2] += child[2] + half1 * (child[0] << (bits - 1));
            }
    }
    double* out = centre + 3 * field;
    out[0] = (double)sum[0];
    if (sum[0] > 0) {
        out[1] = low + ((double)(f0 << bits) + (double)sum[1] / out[0]) / scale;
        out[2] = low + ((double)(f1 << bits) + (double)sum[2] / out[0]) / scale;
    }
}

extern "C" __global__ void pushes(i64 n_items, const double* y, const i64* mass, double low, double scale, i64 n_levels, i64 law,
                                  const double* centre, double* push, double* total) {
    const i64 cell = thread_item(), limit = 1LL << (n_levels + FRACTION_BITS);
    if (cell >= n_items) return;
    const double y0 = y[2 * cell], y1 = y[2 * cell + 1];
    const i64 x0 = place_of(y0, low, scale, limit) >> FRACTION_BITS, x1 = place_of(y1, low, scale, limit) >> FRACTION_BITS;
    double push0 = 0.0, push1 = 0.0, norm = 0.0;
    for (i64 level = 1; level <= n_levels; ++level) {
        const i64 own0 = x0 >> (n_levels - level), own1 = x1 >> (n_levels - level), last = (1LL << level) - 1;
        const i64 stop0 = min(last, 2 * (own0 >> 1) + 3), stop1 = min(last, 2 * (own1 >> 1) + 3);
        for (i64 f0 = max(0LL, 2 * (own0 >> 1) - 2); f0 <= stop0; ++f0)
            for (i64 f1 = max(0LL, 2 * (own1 >> 1) - 2); f1 <= stop1; ++f1) {
                const bool near = absolute(f0 - own0) <= 1 && absolute(f1 - own1) <= 1;
                if (near && level < n_levels) continue;
                const double* field = centre + 3 * (first_field(level) + (f0 << level) + f1);
                double body = field[0], c0 = field[1], c1 = field[2];
                if (near && f0 == own0 && f1 == own1) {
                    const double own = (double)mass[cell];
                    body = body - own;
                    if (body > 0.0) {
                        c0 = c0 + (c0 - y0) * own / body;
                        c1 = c1 + (c1 - y1) * own / body;
                    }
                }
                if (body <= 0.0) continue;
                const double gap0 = y0 - c0, gap1 = y1 - c1;
                const double square = gap0 * gap0 + gap1 * gap1;
                double by;
                if (law == T_KERNEL) {
                    const double near_1 = 1.0 / (1.0 + square);
                    norm += body * near_1;
                    by = body * near_1 * near_1;
                } else {
                    by = square > 0.0 ? body / square : 0.0;
                }
                push0 += by * gap0;
                push1 += by * gap1;
            }
    }
    push[2 * cell] = push0;
    push[2 * cell + 1] = push1;
    total[cell] = norm;
}

extern "C" __global__ void perplexity_weights(i64 n_items, const double* square, i64 n_nearest, double perplexity, double* weight) {
    const i64 cell = thread_item();
    if (cell >= n_items) return;
    const double* far = square + cell * n_nearest;
    double* mine = weight + cell * n_nearest;
    double low = 0.0, high = 1.0 / 0.0, beta = 1.0, total = 1.0;
    for (int step = 0; step < BISECTIONS; ++step) {
        double mean = 0.0;
        total = 0.0;
        for (i64 k = 0; k < n_nearest; ++k) {
            const double gap = far[k] - far[0];
            mine[k] = exp_double(-(beta * gap));
            total += mine[k];
            mean += mine[k] * gap;
        }
        if (total * exp_double(beta * (mean / total)) > perplexity) {
            low = beta;
            beta = isinf(high) ? beta * 2.0 : (low + high) / 2.0;
        } else {
            high = beta;
            beta = (low + high) / 2.0;
        }
    }
    for (i64 k = 0; k < n_nearest; ++k) mine[k] /= total;
}

extern "C" __global__ void t_pulls(i64 n_items, const i64* indptr, const int* indices, const double* weight, const double* y, double* pull) {
    const i64 cell = thread_item();
    if (cell >= n_items) return;
    double pull0 = 0.0, pull1 = 0.0;
    for (i64 arc = indptr[cell]; arc < indptr[cell + 1]; ++arc) {
        const double gap0 = y[2 * (i64)indices[arc]] - y[2 * cell], gap1 = y[2 * (i64)indices[arc] + 1] - y[2 * cell + 1];
        const double by = weight[arc] / (1.0 + (gap0 * gap0 + gap1 * gap1));
        pull0 += by * gap0;
        pull1 += by * gap1;
    }
    pull[2 * cell] = pull0;
    pull[2 * cell + 1] = pull1;
}

extern "C" __global__ void t_step(i64 n_items, const double* pull, const double* push, const double* norm, double exaggeration,
                                  double momentum, double rate, double longest, double* gain, double* speed, double* y) {
    const i64 cell = thread_item();
    if (cell >= n_items) return;
    double* mine = speed + 2 * cell;
    for (int d = 0; d < 2; ++d) {
        const double slope = -4.0 * (exaggeration * pull[2 * cell + d] + push[2 * cell + d] / norm[0]);
        double* own = gain + 2 * cell + d;
        const bool grows = (slope > 0.0) != (mine[d] > 0.0);
        *own = grows ? *own + 0.2 : fmax(*own * 0.8, 0.01);
        mine[d] = momentum * mine[d] - rate * *own * slope;
    }
    const double length = sqrt(mine[0] * mine[0] + mine[1] * mine[1]);
    const double shorter = length > longest ? longest / length : 1.0;
    for (int d = 0; d < 2; ++d) {
        mine[d] *= shorter;
        y[2 * cell + d] += mine[d];
    }
}

extern "C" __global__ void atlas_forces(i64 n_items, const i64* indptr, const int* indices, const double* weight, const i64* mass,
                                        const double* y, const double* push, double scaling, double gravity, const double* before,
                                        double* force, double* swing) {
    const i64 cell = thread_item();
    if (cell >= n_items) return;
    const double own = (double)mass[cell], y0 = y[2 * cell], y1 = y[2 * cell + 1];
    const double length = sqrt(y0 * y0 + y1 * y1);
    const double centre = length > 0.0 ? gravity * own / length : 0.0;
    double force0 = scaling * own * push[2 * cell] - centre * y0;
    double force1 = scaling * own * push[2 * cell + 1] - centre * y1;
    for (i64 arc = indptr[cell]; arc < indptr[cell + 1]; ++arc) {
        force0 += weight[arc] * (y[2 * (i64)indices[arc]] - y0);
        force1 += weight[arc] * (y[2 * (i64)indices[arc] + 1] - y1);
    }
    const double less0 = before[2 * cell] - force0, less1 = before[2 * cell + 1] - force1;
    const double more0 = before[2 * cell] + force0, more1 = before[2 * cell + 1] + force1;
    swing[cell] = own * sqrt(less0 * less0 + less1 * less1);
    swing[n_items + cell] = 0.5 * own * sqrt(more0 * more0 + more1 * more1);
    force[2 * cell] = force0;
    force[2 * cell + 1] = force1;
}

extern "C" __global__ void atlas_step(i64 n_items, const double* force, const double* swing, double speed, double* y) {
    const i64 cell = thread_item();
    if (cell >= n_items) return;
    const double factor = speed / (1.0 + sqrt(speed * swing[cell]));
    y[2 * cell] += force[2 * cell] * factor;
    y[2 * cell + 1] += force[2 * cell + 1] * factor;
}
