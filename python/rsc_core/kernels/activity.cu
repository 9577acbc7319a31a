// See activity.py.
#include "device.cuh"

__device__ __forceinline__ double spread_of(double total, double squares, double n_genes) {
    const double spread = squares - total * (total / n_genes);
    return spread <= n_genes * 2.220446049250313e-16 * squares ? nan("") : spread;
}

extern "C" __global__ void correlation_scores(i64 n_items, const double* product, const double* total, const double* squares,
                                              const double* mean, const double* length, double n_genes, double df, i64 n_sources,
                                              double* score) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 cell = item / n_sources, s = item % n_sources;
    const double spread = spread_of(total[cell], squares[cell], n_genes);
    const double r = (product[item] - total[cell] * mean[s]) / (sqrt(spread) * length[s]);
    score[item] = r * sqrt(df / ((1.0 - r + 2.2e-16) * (1.0 + r + 2.2e-16)));
}

extern "C" __global__ void centred_products(i64 n_items, const double* product, const double* total, const double* mean,
                                            const double* length, i64 n_sources, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 cell = item / n_sources, s = item % n_sources;
    out[item] = (product[item] - total[cell] * mean[s]) / length[s];
}

extern "C" __global__ void coefficient_scores(i64 n_items, const double* coefficient, const double* covariance, const double* total,
                                              const double* squares, const double* scale, double n_genes, double df, i64 n_sources,
                                              double* score) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    const double spread = spread_of(total[cell], squares[cell], n_genes);
    double explained = 0;
    for (i64 s = 0; s < n_sources; ++s) explained += coefficient[cell * n_sources + s] * covariance[cell * n_sources + s];
    const double residual = spread - explained;
    const double error = sqrt((residual < 0 ? 0.0 : residual) / df);
    for (i64 s = 0; s < n_sources; ++s) {
        const double b = coefficient[cell * n_sources + s];
        if (error == 0) score[cell * n_sources + s] = b != 0 ? copysign(1.0 / 0.0, b) : nan("");
        else score[cell * n_sources + s] = b / (error * scale[s]);
    }
}

extern "C" __global__ void mean_scores(i64 n_items, const double* product, const double* total, const double* squares,
                                       const double* weight_sum, const double* root, double share, double n_genes, i64 n_sources,
                                       double* score) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 cell = item / n_sources, s = item % n_sources;
    const double deviation = sqrt(spread_of(total[cell], squares[cell], n_genes) / (n_genes - 1));
    if (weight_sum[s] > 0) score[item] = (product[item] / weight_sum[s] - share * (total[cell] / n_genes)) * root[s] / deviation;
    else score[item] = nan("");
}

extern "C" __global__ void student_tails(i64 n_items, const double* t, double df, double log_beta, double* p) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const double tiny = 1e-300, ratio = t[item] * t[item] / df;
    if (!(ratio >= 0)) { p[item] = nan(""); return; }
    if (isinf(ratio)) { p[item] = 0; return; }
    const double x = 1.0 / (1.0 + ratio), rest = ratio / (1.0 + ratio);
    const double power = -(0.5 * df) * log1p(ratio);
    const bool upper = rest * (0.5 * df + 2.5) >= 1.5;
    const double a = upper ? 0.5 * df : 0.5, b = upper ? 0.5 : 0.5 * df, z = upper ? x : rest;
    double c = 1.0, d = 1.0 - (a + b) * z / (a + 1.0);
    if (fabs(d) < tiny) d = tiny;
    d = 1.0 / d;
    double fraction = d;
    for (int m = 1; m < 10000; ++m) {
        double step = m * (b - m) * z / ((a - 1.0 + 2 * m) * (a + 2 * m));
        d = 1.0 + step * d;
        c = 1.0 + step / c;
        if (fabs(d) < tiny) d = tiny;
        if (fabs(c) < tiny) c = tiny;
        d = 1.0 / d;
        fraction *= d * c;
        step = -(a + m) * (a + b + m) * z / ((a + 2 * m) * (a + 1.0 + 2 * m));
        d = 1.0 + step * d;
        c = 1.0 + step / c;
        if (fabs(d) < tiny) d = tiny;
        if (fabs(c) < tiny) c = tiny;
        d = 1.0 / d;
        fraction *= d * c;
        if (fabs(d * c - 1.0) < 1e-15) break;
    }
    const double part = exp(power - log_beta) * sqrt(rest) * fraction / a;
    p[item] = upper ? part : 1.0 - part;
}

extern "C" __global__ void normal_tails(i64 n_items, const double* z, double* p) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item < n_items) p[item] = erfc(fabs(z[item]) * 0.7071067811865476);
}

// Ranks by comparison with all tests of the row, which neighbouring threads read together.
extern "C" __global__ void ranked_p(i64 n_items, const double* p, i64 n_tests, double* scaled) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const double* row = p + item / n_tests * n_tests;
    const double mine = p[item];
    int n = 0, rank = 0;
    for (i64 i = 0; i < n_tests; ++i) {
        n += row[i] == row[i];
        rank += row[i] <= mine;
    }
    scaled[item] = mine == mine ? mine * ((double)n / rank) : nan("");
}

extern "C" __global__ void stepped_up(i64 n_items, const double* p, const double* scaled, i64 n_tests, double* adjusted) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 start = item / n_tests * n_tests;
    const double mine = p[item];
    double least = 1.0;
    for (i64 i = start; i < start + n_tests; ++i)
        if (p[i] >= mine) least = fmin(least, scaled[i]);
    adjusted[item] = mine == mine ? least : nan("");
}
