#include "device.cuh"
// One thread owns one cell and adds in the order of its pairs: no atomics, the same bits on every run. The logarithm, whose last bit
// differs from the host's, goes into the distortion alone, not into the gradient.
#define SHORTEST 1e-6

extern "C" __global__ void mde_gradient(i64 n_items, const i64* indptr, const int* indices, const double* weight, const int* partner,
                                        i64 n_rounds, const double* y, i64 n_dims, double* gradient, double* distortion) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    double total = 0.0;
    for (i64 d = 0; d < n_dims; ++d) gradient[d * n_items + cell] = 0.0;
    const i64 first = indptr[cell], n_arcs = indptr[cell + 1] - indptr[cell];
    for (i64 pair = 0; pair < n_arcs + n_rounds; ++pair) {
        const i64 other = pair < n_arcs ? indices[first + pair] : partner[(pair - n_arcs) * n_items + cell];
        if (other < 0) continue;
        double square = 0.0;
        for (i64 d = 0; d < n_dims; ++d) {
            const double gap = y[d * n_items + cell] - y[d * n_items + other];
            square += gap * gap;
        }
        const double distance = fmax(sqrt(square), SHORTEST);
        double slope;
        if (pair < n_arcs) {
            const double power = distance * sqrt(distance);
            total += weight[first + pair] * log(1.0 + power);
            slope = weight[first + pair] * 1.5 * (power / distance) / (1.0 + power);
        } else {
            const double away = exp_double(-distance);
            total -= log(1.0 - away);
            slope = -away / (1.0 - away);
        }
        for (i64 d = 0; d < n_dims; ++d) gradient[d * n_items + cell] += (slope / distance) * (y[d * n_items + cell] - y[d * n_items + other]);
    }
    distortion[cell] = 0.5 * total;
}
