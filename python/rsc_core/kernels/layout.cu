#include "device.cuh"
// Integers may come from many sides in any order; floats are added by one thread, or by a few whose sums are added in their order.
#define FRACTION_BITS 16
#define TILE_LEVELS 5
#define BISECTIONS 64
#define LANES 4
#define T_LANES 8
#define GROUP 64
#define T_KERNEL 0
#define LOW 0
#define HIGH 1
#define NORM 2

__device__ __forceinline__ i64 thread_item() { return blockIdx.x * (i64)blockDim.x + threadIdx.x; }

__device__ __forceinline__ void add(i64* sum, i64 amount) { atomicAdd((u64*)sum, (u64)amount); }

__device__ __forceinline__ i64 first_field(i64 level) { return ((1LL << (2 * level)) - 1) / 3; }

__device__ __forceinline__ i64 absolute(i64 x) { return x < 0 ? -x : x; }

__device__ __forceinline__ i64 flipped(i64 bits) { return bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFFLL); }

__device__ __forceinline__ double low_corner(const i64* state) { return __longlong_as_double(flipped(state[LOW])); }

__device__ __forceinline__ double fractions_a_unit(const i64* state, i64 n_levels) {
    const double width = __longlong_as_double(flipped(state[HIGH])) - low_corner(state);
    return (double)(1LL << (n_levels + FRACTION_BITS)) / (width > 0.0 ? width * (1.0 + 1e-9) : 1.0);
}

__device__ __forceinline__ i64 place_of(double y, double low, double scale, i64 limit) {
    return min(max((i64)((y - low) * scale), 0LL), limit - 1);
}

// Sum of the values of so many threads in a row, in their order; all threads of the warp must call it.
template <typename T>
__device__ __forceinline__ T lanes_total(T part, int n_lanes) {
    T total = 0;
    for (int lane = 0; lane < n_lanes; ++lane) total += __shfl_sync(0xffffffffu, part, lane, n_lanes);
    return total;
}

extern "C" __global__ void extremes(i64 n_items, const double* y, i64* state) {
    i64 low = 0x7FFFFFFFFFFFFFFFLL, high = -low;
    const i64 cell = thread_item();
    if (cell < n_items) {
        const i64 y0 = flipped(__double_as_longlong(y[2 * cell])), y1 = flipped(__double_as_longlong(y[2 * cell + 1]));
        low = min(y0, y1);
        high = max(y0, y1);
    }
    for (int step = 16; step > 0; step /= 2) {
        low = min(low, (i64)__shfl_xor_sync(0xffffffffu, low, step));
        high = max(high, (i64)__shfl_xor_sync(0xffffffffu, high, step));
    }
    if (threadIdx.x % 32 == 0 && cell < n_items) {
        atomicMin(state + LOW, low);
        atomicMax(state + HIGH, high);
    }
}

extern "C" __global__ void leaf_sums(i64 n_items, const double* y, const i64* mass, const i64* state, i64 n_levels, i64* sums) {
    const i64 cell = thread_item(), limit = 1LL << (n_levels + FRACTION_BITS), n_fields = 1LL << (2 * n_levels);
    if (cell >= n_items) return;
    const double low = low_corner(state), scale = fractions_a_unit(state, n_levels);
    const i64 x0 = place_of(y[2 * cell], low, scale, limit), x1 = place_of(y[2 * cell + 1], low, scale, limit);
    const i64 f0 = x0 >> FRACTION_BITS, f1 = x1 >> FRACTION_BITS;
    i64* field = sums + (f0 << n_levels) + f1;
    add(field, mass[cell]);
    add(field + n_fields, mass[cell] * (x0 - (f0 << FRACTION_BITS)));
    add(field + 2 * n_fields, mass[cell] * (x1 - (f1 << FRACTION_BITS)));
}

__device__ __forceinline__ void put_centre(i64 f0, i64 f1, i64 level, i64 n_levels, double low, double scale, const i64* sum,
                                           float* centre) {
    const i64 bits = FRACTION_BITS + n_levels - level;
    float* out = centre + 4 * (first_field(level) + (f0 << level) + f1);
    out[0] = (float)sum[0];
    if (sum[0] > 0) {
        out[1] = (float)(low + ((double)(f0 << bits) + (double)sum[1] / (double)sum[0]) / scale);
        out[2] = (float)(low + ((double)(f1 << bits) + (double)sum[2] / (double)sum[0]) / scale);
    }
}

extern "C" __global__ void field_centres(i64 n_items, i64 top, i64 bottom, i64 n_levels, i64* sums, i64* upper, i64* state, double* frame,
                                         float* centre) {
    __shared__ i64 own[3 << (2 * TILE_LEVELS)];
    const i64 t0 = blockIdx.x >> top, t1 = blockIdx.x & ((1LL << top) - 1), n_fields = 1LL << (2 * bottom);
    const double low = low_corner(state), scale = fractions_a_unit(state, n_levels);
    i64 depth = bottom - top;
    for (i64 place = threadIdx.x; place < 1LL << (2 * depth); place += blockDim.x) {
        const i64 f0 = (t0 << depth) + (place >> depth), f1 = (t1 << depth) + (place & ((1LL << depth) - 1));
        i64* field = sums + (f0 << bottom) + f1;
        i64 sum[3] = {field[0], 0, 0};
        if (sum[0] > 0) {
            sum[1] = field[n_fields];
            sum[2] = field[2 * n_fields];
            field[0] = field[n_fields] = field[2 * n_fields] = 0;
        }
        for (int k = 0; k < 3; ++k) own[3 * place + k] = sum[k];
        put_centre(f0, f1, bottom, n_levels, low, scale, sum, centre);
    }
    for (i64 level = bottom - 1; level >= top; --level) {
        depth = level - top;
        const i64 place = threadIdx.x, bits = FRACTION_BITS + n_levels - level;
        const bool busy = place < 1LL << (2 * depth);
        const i64 p0 = place >> depth, p1 = place & ((1LL << depth) - 1);
        i64 sum[3] = {0, 0, 0};
        __syncthreads();
        if (busy)
            for (i64 half0 = 0; half0 < 2; ++half0)
                for (i64 half1 = 0; half1 < 2; ++half1) {
                    const i64* child = own + 3 * (((2 * p0 + half0) << (depth + 1)) + 2 * p1 + half1);
                    sum[0] += child[0];
                    sum[1] += child[1] + half0 * (child[0] << (bits - 1));
                    sum[2] += child[2] + half1 * (child[0] << (bits - 1));
                }
        __syncthreads();
        if (busy) {
            for (int k = 0; k < 3; ++k) own[3 * place + k] = sum[k];
            if (level > top)
                put_centre((t0 << depth) + p0, (t1 << depth) + p1, level, n_levels, low, scale, sum, centre);
            else
                for (int k = 0; k < 3; ++k) upper[(i64)k * n_items + blockIdx.x] = sum[k];
        }
    }
    if (top == 0 && threadIdx.x == 0) {
        frame[0] = low;
        frame[1] = scale;
        state[LOW] = 0x7FFFFFFFFFFFFFFFLL;
        state[HIGH] = -0x7FFFFFFFFFFFFFFFLL;
        state[NORM] = 0;
    }
}

extern "C" __global__ void pushes(i64 n_items, const double* y, const i64* mass, const double* frame, i64 n_levels, i64 law,
                                  const float* centre, double unit, float* push, i64* state) {
    const i64 cell = thread_item(), limit = 1LL << (n_levels + FRACTION_BITS);
    float push0 = 0.0f, push1 = 0.0f, norm = 0.0f;
    if (cell < n_items) {
        const float y0 = (float)y[2 * cell], y1 = (float)y[2 * cell + 1], own = (float)mass[cell];
        const int x0 = (int)(place_of(y[2 * cell], frame[0], frame[1], limit) >> FRACTION_BITS);
        const int x1 = (int)(place_of(y[2 * cell + 1], frame[0], frame[1], limit) >> FRACTION_BITS);
        for (int level = 1; level <= n_levels; ++level) {
            const float4* fields = (const float4*)centre + first_field(level);
            const int own0 = x0 >> (n_levels - level), own1 = x1 >> (n_levels - level), last = (1 << level) - 1;
            const int start1 = 2 * (own1 >> 1) - 2;
            for (int f0 = max(0, 2 * (own0 >> 1) - 2); f0 <= min(last, 2 * (own0 >> 1) + 3); ++f0) {
                float4 bodies[6];  // of a row, loaded at the same time
#pragma unroll
                for (int k = 0; k < 6; ++k) {
                    const int f1 = start1 + k;
                    const bool there = f1 >= 0 && f1 <= last && (level == n_levels || abs(f0 - own0) > 1 || abs(f1 - own1) > 1);
                    bodies[k] = there ? fields[(f0 << level) + f1] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                }
#pragma unroll
                for (int k = 0; k < 6; ++k) {
                    float body = bodies[k].x, c0 = bodies[k].y, c1 = bodies[k].z;
                    if (body <= 0.0f) continue;
                    if (level == n_levels && f0 == own0 && start1 + k == own1) {
                        body = body - own;
                        if (body <= 0.0f) continue;
                        c0 = c0 + (c0 - y0) * own / body;
                        c1 = c1 + (c1 - y1) * own / body;
                    }
                    const float gap0 = y0 - c0, gap1 = y1 - c1;
                    const float square = gap0 * gap0 + gap1 * gap1;
                    float by;
                    if (law == T_KERNEL) {
                        const float near_1 = 1.0f / (1.0f + square);
                        norm += body * near_1;
                        by = body * near_1 * near_1;
                    } else {
                        by = square > 0.0f ? body / square : 0.0f;
                    }
                    push0 += by * gap0;
                    push1 += by * gap1;
                }
            }
        }
        ((float2*)push)[cell] = make_float2(push0, push1);
    }
    i64 whole = (i64)((double)norm * unit);
    for (int step = 16; step > 0; step /= 2) whole += __shfl_xor_sync(0xffffffffu, whole, step);
    if (threadIdx.x % 32 == 0 && whole > 0) add(state + NORM, whole);
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

extern "C" __global__ void t_pulls(i64 n_items, const i64* indptr, const int* indices, const float* weight, const float* place, float* pull) {
    const i64 cell = thread_item() / T_LANES;
    const float2* places = (const float2*)place;
    float pull0 = 0.0f, pull1 = 0.0f;
    if (cell < n_items) {
        const float2 own = places[cell];
        const i64 last = indptr[cell + 1];
#pragma unroll 4
        for (i64 arc = indptr[cell] + threadIdx.x % T_LANES; arc < last; arc += T_LANES) {
            const float2 other = places[indices[arc]];
            const float gap0 = other.x - own.x, gap1 = other.y - own.y;
            const float by = weight[arc] / (1.0f + (gap0 * gap0 + gap1 * gap1));
            pull0 += by * gap0;
            pull1 += by * gap1;
        }
    }
    pull0 = lanes_total(pull0, T_LANES);
    pull1 = lanes_total(pull1, T_LANES);
    if (cell < n_items && threadIdx.x % T_LANES == 0) ((float2*)pull)[cell] = make_float2(pull0, pull1);
}

extern "C" __global__ void t_step(i64 n_items, const float* pull, const float* push, const i64* state, double unit, double exaggeration,
                                  double momentum, double rate, double longest, double* gain, double* speed, double* y, float* place) {
    const i64 cell = thread_item();
    if (cell >= n_items) return;
    const double norm = (double)state[NORM] / unit;
    double mine[2];
    for (int d = 0; d < 2; ++d) {
        const i64 at = 2 * cell + d;
        const double slope = -4.0 * (exaggeration * (double)pull[at] + (double)push[at] / norm);
        const bool grows = (slope > 0.0) != (speed[at] > 0.0);
        gain[at] = grows ? gain[at] + 0.2 : fmax(gain[at] * 0.8, 0.01);
        mine[d] = momentum * speed[at] - rate * gain[at] * slope;
    }
    const double length = sqrt(mine[0] * mine[0] + mine[1] * mine[1]);
    const double shorter = length > longest ? longest / length : 1.0;
    for (int d = 0; d < 2; ++d) {
        const i64 at = 2 * cell + d;
        speed[at] = mine[d] * shorter;
        y[at] += speed[at];
        place[at] = (float)y[at];
    }
}

extern "C" __global__ void atlas_forces(i64 n_items, const i64* indptr, const int* indices, const double* weight, const i64* mass,
                                        const double* y, const float* push, double scaling, double gravity, const double* before,
                                        double* force, double* swing, double* parts) {
    __shared__ double swings[GROUP], tractions[GROUP];
    const i64 cell = thread_item() / LANES;
    const int member = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const bool there = cell < n_items;
    const double2* places = (const double2*)y;
    const double2 here = there ? places[cell] : make_double2(0.0, 0.0);
    const i64 last = there ? indptr[cell + 1] : 0;
    double pull0 = 0.0, pull1 = 0.0;
#pragma unroll 4
    for (i64 arc = there ? indptr[cell] + lane : 0; arc < last; arc += LANES) {
        const double2 other = places[indices[arc]];
        pull0 += weight[arc] * (other.x - here.x);
        pull1 += weight[arc] * (other.y - here.y);
    }
    pull0 = lanes_total(pull0, LANES);
    pull1 = lanes_total(pull1, LANES);
    if (lane == 0) swings[member] = tractions[member] = 0.0;
    if (lane == 0 && there) {
        const double own = (double)mass[cell], length = sqrt(here.x * here.x + here.y * here.y);
        const double centre = length > 0.0 ? gravity * own / length : 0.0;
        const double force0 = scaling * own * (double)push[2 * cell] - centre * here.x + pull0;
        const double force1 = scaling * own * (double)push[2 * cell + 1] - centre * here.y + pull1;
        const double less0 = before[2 * cell] - force0, less1 = before[2 * cell + 1] - force1;
        const double more0 = before[2 * cell] + force0, more1 = before[2 * cell + 1] + force1;
        swing[cell] = swings[member] = own * sqrt(less0 * less0 + less1 * less1);
        tractions[member] = 0.5 * own * sqrt(more0 * more0 + more1 * more1);
        force[2 * cell] = force0;
        force[2 * cell + 1] = force1;
    }
    __syncthreads();
    if (threadIdx.x < 2) {
        const double* values = threadIdx.x == 0 ? swings : tractions;
        double total = 0.0;
        for (int member = 0; member < GROUP; ++member) total += values[member];
        parts[2 * blockIdx.x + threadIdx.x] = total;
    }
}

extern "C" __global__ void atlas_speed(i64 n_items, const double* parts, i64 n_parts, i64 n_cells, double estimated, double most_jitter,
                                       double least_efficiency, double most_speed, double rise, double* pace) {
    double swinging = 0.0, traction = 0.0;
    for (i64 part = threadIdx.x; part < n_parts; part += 32) {
        swinging += parts[2 * part];
        traction += parts[2 * part + 1];
    }
    for (int step = 16; step > 0; step /= 2) {
        swinging += __shfl_xor_sync(0xffffffffu, swinging, step);
        traction += __shfl_xor_sync(0xffffffffu, traction, step);
    }
    if (threadIdx.x > 0) return;
    double speed = pace[0], efficiency = pace[1];
    double jitter = fmax(sqrt(estimated), fmin(most_jitter, estimated * traction / ((double)n_cells * (double)n_cells)));
    if (traction > 0.0 && swinging / traction > 2.0) {
        if (efficiency > least_efficiency) efficiency *= 0.5;
        jitter = fmax(jitter, 1.0);
    }
    const double most = rise * speed;
    const double target = swinging > 0.0 ? jitter * efficiency * traction / swinging : speed + most;
    if (swinging > jitter * traction) {
        if (efficiency > least_efficiency) efficiency *= 0.7;
    } else if (speed < most_speed) {
        efficiency *= 1.3;
    }
    pace[0] = speed + fmin(target - speed, most);
    pace[1] = efficiency;
}

extern "C" __global__ void atlas_step(i64 n_items, const double* force, const double* swing, const double* pace, double* y) {
    const i64 cell = thread_item();
    if (cell >= n_items) return;
    const double factor = pace[0] / (1.0 + sqrt(pace[0] * swing[cell]));
    y[2 * cell] += force[2 * cell] * factor;
    y[2 * cell + 1] += force[2 * cell + 1] * factor;
}
