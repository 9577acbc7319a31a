// A block follows one gene, a thread every 128th cell. Partial sums have one owner each and are added in a tree: the bits of the CPU.
#include "device.cuh"
#define LANES 128
#define NOTHING 2.220446049250313e-16

extern "C" __global__ void diffused(i64 n_items, double* amount, i64 n_cells, i64 n_full, const int* neighbors, const int* source,
                                    i64 n_neighbors, double of_sum, double of_own, double step, double threshold, i64 n_steps,
                                    double* change, i64* out) {
    __shared__ double mass[LANES], plogp[LANES];
    const i64 gene = blockIdx.x, lane = threadIdx.x;
    if (gene >= n_items) return;
    double *x = amount + gene * n_cells, *d = change + gene * n_cells, before = 1.0;
    if (lane == 0) out[gene] = -1;
    for (i64 number = 0; number < n_steps; ++number) {
        for (i64 s = lane; s < n_full; s += LANES) {
            double sum = 0;
            for (i64 k = 0; k < n_neighbors; ++k) sum += x[neighbors[s * n_neighbors + k]];
            d[s] = of_sum * sum - of_own * x[s];
        }
        __syncthreads();
        double total = 0, weighted = 0;
        for (i64 s = lane; s < n_full; s += LANES) {
            const double value = max(x[s] + d[s] * step, 0.0);
            x[s] = value;
            total += value;
            weighted += value * log_double(value);
        }
        for (i64 u = n_full + lane; u < n_cells; u += LANES) x[u] = max(x[u] + d[source[u - n_full]] * step, 0.0);
        mass[lane] = total;
        plogp[lane] = weighted;
        __syncthreads();
        for (int half = LANES / 2; half > 0; half /= 2) {
            if (lane < half) {
                mass[lane] += mass[lane + half];
                plogp[lane] += plogp[lane + half];
            }
            __syncthreads();
        }
        // Every thread works out the same entropy, so that all leave together.
        const double entropy = mass[0] >= NOTHING ? (log_double(mass[0]) - plogp[0] / mass[0]) / n_full : 0.0;
        if (fabs(entropy - before) <= threshold) {
            if (lane == 0) out[gene] = number;
            return;
        }
        before = entropy;
        __syncthreads();
    }
}
