// A warp owns a cell or a gene and its lanes the classes: each sum has one owner that adds in order.
#include "device.cuh"

extern "C" __global__ void class_scores(i64 n_items, const i64* indptr, const int* indices, const float* values, const double* weight,
                                        i64 n_genes, i64 n_classes, double* score) {
    const i64 cell = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (cell >= n_items) return;
    for (i64 c = threadIdx.x % 32; c < n_classes; c += 32) {
        double own = weight[n_genes * n_classes + c];
        for (i64 k = indptr[cell]; k < indptr[cell + 1]; ++k) own += (double)values[k] * weight[indices[k] * n_classes + c];
        score[cell * n_classes + c] = own;
    }
}

extern "C" __global__ void residuals(i64 n_items, const i64* label, i64 n_classes, double* score, double* loss) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    double* own = score + cell * n_classes;
    double most = own[0], total = 0.0;
    for (i64 c = 1; c < n_classes; ++c) most = own[c] > most ? own[c] : most;
    const double here = own[label[cell]] - most;
    for (i64 c = 0; c < n_classes; ++c) {
        own[c] = exp_double(own[c] - most);
        total += own[c];
    }
    for (i64 c = 0; c < n_classes; ++c) own[c] = own[c] / total;
    own[label[cell]] -= 1.0;
    loss[cell] = log(total) - here;
}

extern "C" __global__ void residual_sums(i64 n_items, const double* residual, i64 n_classes, i64* total) {
    const i64 cell = blockIdx.x * (i64)blockDim.x + threadIdx.x;
    if (cell >= n_items) return;
    for (i64 c = 0; c < n_classes; ++c)
        atomicAdd((u64*)(total + c), (u64)(i64)floor(residual[cell * n_classes + c] * 1099511627776.0));
}

extern "C" __global__ void gene_gradient(i64 n_items, const i64* indptr, const int* cells, const float* values, const double* residual,
                                         i64 n_classes, double* gradient) {
    const i64 gene = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
    if (gene >= n_items) return;
    for (i64 c = threadIdx.x % 32; c < n_classes; c += 32) {
        double own = gradient[gene * n_classes + c];
        for (i64 k = indptr[gene]; k < indptr[gene + 1]; ++k) own += (double)values[k] * residual[cells[k] * n_classes + c];
        gradient[gene * n_classes + c] = own;
    }
}
