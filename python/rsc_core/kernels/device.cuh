// What kernels call; device.py holds the same for the CPU.
typedef long long i64;
typedef unsigned long long u64;

// Bytes of shared memory that the launch asked for.
__device__ __forceinline__ unsigned int shared_bytes() {
    unsigned int n;
    asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(n));
    return n;
}

__device__ __forceinline__ u64 mix64(u64 x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
}

__device__ __forceinline__ u64 random_bits(u64 seed, u64 purpose, u64 index) {
    const u64 golden = 0x9E3779B97F4A7C15ULL;
    const u64 key = mix64(seed + golden * (purpose + 1));
    return mix64(key + golden * (index + 1));
}

__device__ __forceinline__ double exp_double(double x) {
    if (x > 709.8) return 1.0 / 0.0;
    if (x < -745.2) return 0.0;
    const double n = floor(x * 1.4426950408889634 + 0.5);
    const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    return ldexp(1.0 + (r + (r * r) * p), (int)n);
}

__device__ __forceinline__ double log_double(double x) {
    const i64 bits = __double_as_longlong(x);
    double m = __longlong_as_double((bits & 0xFFFFFFFFFFFFFLL) | 0x3FF0000000000000LL), e = (double)((bits >> 52) - 1023);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e += 1.0;
    }
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 21.0;
    p = p * z + 1.0 / 19.0;
    p = p * z + 1.0 / 17.0;
    p = p * z + 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    return e * 0.6931471805599453 + 2.0 * (s + s * z * p);
}

__device__ __forceinline__ double log1p_double(double x) {
    const double u = 1.0 + x;
    const i64 bits = __double_as_longlong(u), e = (bits - 0x3FE6A09E667F3BCDLL) >> 52;
    const double m = __longlong_as_double((i64)((u64)bits - ((u64)e << 52)));
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 21.0;
    p = p * z + 1.0 / 19.0;
    p = p * z + 1.0 / 17.0;
    p = p * z + 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    const double lost = x < 1.0 ? x - (u - 1.0) : 0.0;
    const double value = (double)e * 0.6931471805599453 + (2.0 * (s + s * z * p) + lost);
    if (x > -1.0 && x < 1.0 / 0.0) return value;
    return x > 0.0 ? x : x == -1.0 ? -1.0 / 0.0 : 0.0 / 0.0;
}

__device__ __forceinline__ i64 keep_nearest(i64 other, double d, i64 filled, i64 n_nearest, i64* nearest, double* nearest_distance) {
    i64 place = filled;
    while (place > 0 && (d < nearest_distance[place - 1] || (d == nearest_distance[place - 1] && other < nearest[place - 1]))) --place;
    if (place >= n_nearest || (place > 0 && nearest[place - 1] == other)) return filled;
    filled = min(filled + 1, n_nearest);
    for (i64 k = filled - 1; k > place; --k) {
        nearest[k] = nearest[k - 1];
        nearest_distance[k] = nearest_distance[k - 1];
    }
    nearest[place] = other;
    nearest_distance[place] = d;
    return filled;
}

template <class T>
__device__ __forceinline__ void sort_row(i64 start, i64 stop, int* indices, T* values) {
    i64 gap = 1;
    while (gap < (stop - start) / 3) gap = 3 * gap + 1;
    for (; gap > 0; gap /= 3)
        for (i64 i = start + gap; i < stop; ++i) {
            const int index = indices[i];
            const T value = values[i];
            i64 place = i;
            for (; place - gap >= start && indices[place - gap] > index; place -= gap) {
                indices[place] = indices[place - gap];
                values[place] = values[place - gap];
            }
            indices[place] = index;
            values[place] = value;
        }
}
