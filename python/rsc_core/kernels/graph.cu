#include "device.cuh"
// One thread owns one item and adds in the order of the loops in graph.py: no atomics, the same bits on every run.
#define STEPS 64
#define TOLERANCE 1e-5
#define SMALLEST_WIDTH 1e-3
#define NO_EDGE 0x7fffffffffffffffLL

extern "C" __global__ void unit_rows(i64 n_items, const double* x, i64 n_dims, double* out) {
    const i64 row = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (row >= n_items) return;
    double square = 0.0;
    for (i64 d = 0; d < n_dims; ++d) square += x[row * n_dims + d] * x[row * n_dims + d];
    const double length = sqrt(square);
    for (i64 d = 0; d < n_dims; ++d) out[row * n_dims + d] = length > 0.0 ? x[row * n_dims + d] / length : 0.0;
}

extern "C" __global__ void squared_distances(i64 n_items, const double* x, i64 n_dims, const i64* candidates, i64 first_cell,
                                             i64 n_candidates, double* out) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const double* cell = x + (first_cell + item / n_candidates) * n_dims;
    const double* other = x + candidates[item] * n_dims;
    double total = 0.0;
    for (i64 d = 0; d < n_dims; ++d) {
        const double gap = cell[d] - other[d];
        total += gap * gap;
    }
    out[item] = total;
}

extern "C" __global__ void nearest_candidates(i64 n_items, const i64* candidates, const double* distance, i64 first_cell,
                                              i64 n_candidates, i64 n_nearest, i64* nearest, double* nearest_distance,
                                              double* farthest) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    i64* mine = nearest + item * n_nearest;
    double* far = nearest_distance + item * n_nearest;
    i64 filled = 0;
    farthest[item] = 0.0;
    for (i64 c = 0; c < n_candidates; ++c) {
        const i64 other = candidates[item * n_candidates + c];
        const double d = distance[item * n_candidates + c];
        farthest[item] = fmax(farthest[item], d);
        if (other == first_cell + item) continue;
        i64 place = filled;
        while (place > 0 && (d < far[place - 1] || (d == far[place - 1] && other < mine[place - 1]))) --place;
        if (place >= n_nearest) continue;
        filled = min(filled + 1, n_nearest);
        for (i64 k = filled - 1; k > place; --k) { mine[k] = mine[k - 1]; far[k] = far[k - 1]; }
        mine[place] = other;
        far[place] = d;
    }
}

extern "C" __global__ void nearest_of_all(i64 n_items, const double* x, i64 n_cells, i64 n_dims, const i64* cells, i64 n_nearest,
                                          i64* nearest, double* nearest_distance) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    i64* mine = nearest + item * n_nearest;
    double* far = nearest_distance + item * n_nearest;
    const i64 cell = cells[item];
    i64 filled = 0;
    for (i64 other = 0; other < n_cells; ++other) {
        double d = 0.0;
        for (i64 k = 0; k < n_dims; ++k) {
            const double gap = x[cell * n_dims + k] - x[other * n_dims + k];
            d += gap * gap;
        }
        i64 place = filled;
        while (place > 0 && d < far[place - 1]) --place;
        if (other == cell || place >= n_nearest) continue;
        filled = min(filled + 1, n_nearest);
        for (i64 k = filled - 1; k > place; --k) { mine[k] = mine[k - 1]; far[k] = far[k - 1]; }
        mine[place] = other;
        far[place] = d;
    }
}

extern "C" __global__ void smooth_widths(i64 n_items, const double* distance, i64 n_nearest, double target, double* rho,
                                         double* sigma) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    const double* mine = distance + cell * n_nearest;
    double nearest = 0.0;
    for (i64 k = 0; k < n_nearest; ++k)
        if (mine[k] > 0.0) { nearest = mine[k]; break; }
    double low = 0.0, high = 1.0 / 0.0, width = 1.0;
    for (int step = 0; step < STEPS; ++step) {
        double total = 0.0;
        for (i64 k = 0; k < n_nearest; ++k) {
            const double gap = mine[k] - nearest;
            total += gap > 0.0 ? exp_double(-(gap / width)) : 1.0;
        }
        if (fabs(total - target) < TOLERANCE) break;
        if (total > target) {
            high = width;
            width = (low + high) / 2.0;
        } else {
            low = width;
            width = isinf(high) ? width * 2.0 : (low + high) / 2.0;
        }
    }
    rho[cell] = nearest;
    sigma[cell] = width;
}

extern "C" __global__ void membership(i64 n_items, const double* distance, const double* rho, const double* sigma, i64 n_nearest,
                                      double mean_distance, double* weight) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    const double* mine = distance + cell * n_nearest;
    double own_mean = 0.0;
    for (i64 k = 0; k < n_nearest; ++k) own_mean += mine[k];
    own_mean /= n_nearest + 1.0;
    const double width = fmax(sigma[cell], SMALLEST_WIDTH * (rho[cell] > 0.0 ? own_mean : mean_distance));
    for (i64 k = 0; k < n_nearest; ++k) {
        const double gap = mine[k] - rho[cell];
        weight[cell * n_nearest + k] = gap > 0.0 && width > 0.0 ? exp_double(-(gap / width)) : 1.0;
    }
}

extern "C" __global__ void union_edges(i64 n_items, const i64* neighbor, const double* weight, i64 n_nearest, i64 n_cells, i64* key,
                                       float* value) {
    const i64 item = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (item >= n_items) return;
    const i64 cell = item / n_nearest, other = neighbor[item];
    const double forth = weight[item];
    double back = 0.0;
    bool mutual = false;
    for (i64 k = 0; k < n_nearest; ++k)
        if (neighbor[other * n_nearest + k] == cell) { back = weight[other * n_nearest + k]; mutual = true; }
    const float both = (float)((forth + back) - forth * back);
    value[2 * item] = both;
    value[2 * item + 1] = both;
    key[2 * item] = both > 0 ? cell * n_cells + other : NO_EDGE;
    key[2 * item + 1] = both > 0 && !mutual ? other * n_cells + cell : NO_EDGE;
}
