// What kernels call; device.py holds the same for the CPU.
typedef long long i64;
typedef unsigned long long u64;

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
