"""The CUDA kernels' text, run on the CPU, gives the bits of their twins (``tests/emulator``)."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import emulator
import numpy as np
import pytest
import scipy.sparse as sp

pytestmark = pytest.mark.skipif(emulator.COMPILER is None, reason="no g++ or clang++ on this machine: the CUDA kernels' text is not run")

PROJECT = Path(__file__).parents[1]
# Quick tests that together launch all kernels but those of small_launches.
TESTS = [
    "tests/test_activity.py::test_a_cell_without_expression_or_differences_has_no_score[cpu-mlm]",
    "tests/test_activity.py::test_arguments_that_all_methods_have[gsva]",
    "tests/test_activity.py::test_arguments_that_all_methods_have[waggr]",
    "tests/test_activity.py::test_arguments_that_all_methods_have[zscore]",
    "tests/test_activity.py::test_equals_decoupler[cpu-1-40-1-ulm]",
    "tests/test_autocorr.py::test_equals_scanpy[cpu-asarray-shape0-geary-gearys_c]",
    "tests/test_autocorr.py::test_equals_scanpy[cpu-csr_matrix-shape0-geary-gearys_c]",
    "tests/test_autocorr.py::test_permutations_equal_numpy[cpu-1031-moran]",
    "tests/test_bbknn.py::test_a_batch_of_as_many_cells_as_neighbours_and_of_one_fewer[cpu]",
    "tests/test_graph_maps.py::test_density_where_there_is_none[cpu]",
    "tests/test_graph_maps.py::test_diffusion_map_equals_scanpy[cpu-300]",
    "tests/test_harmony.py::test_few_cells[cpu-2]",
    "tests/test_hvg.py::test_a_batch_of_one_cell_is_left_out[cpu]",
    "tests/test_hvg_flavors.py::test_each_batch_has_the_clip_of_its_size[cpu]",
    "tests/test_hvg_flavors.py::test_poisson_probability_is_that_of_draws",
    "tests/test_layouts.py::test_pushes_are_near_the_sum_over_all_pairs[cpu-0]",
    "tests/test_layouts.py::test_what_is_hard_to_draw_is_drawn[cpu-three]",
    "tests/test_leiden.py::test_finds_the_groups_and_orders_them_by_size[cpu]",
    "tests/test_ligrec.py::test_results_lie_on_the_host[cpu]",
    "tests/test_logreg.py::test_what_cannot_be_fitted[cpu]",
    "tests/test_markers.py::test_a_constant_gene_has_score_0[cpu-wilcoxon]",
    "tests/test_mde.py::test_what_is_hard_to_embed[cpu-four]",
    "tests/test_neighbors.py::test_weights_of_duplicates[cpu-gauss]",
    "tests/test_neighbors.py::test_weights_of_duplicates[cpu-jaccard]",
    "tests/test_nhood.py::test_by_hand_on_nine_points[cpu]",
    "tests/test_normalize.py::test_normalize_total_equals_scanpy[cpu-10000.0-shape2]",
    "tests/test_patterns.py::test_co_occurrence_by_hand[cpu]",
    "tests/test_pca_solvers.py::test_dense_and_sparse_agree",
    "tests/test_pca_solvers.py::test_solvers_equal_scikit_learn[cpu-shape2-lanczos-1e-09]",
    "tests/test_qc.py::test_doublets_are_filtered",
    "tests/test_scale_regress.py::test_ill_conditioned_columns_against_least_squares[cpu-5]",
    "tests/test_scale_regress.py::test_regression_equals_scanpy[cpu-keys1-<lambda>]",
    "tests/test_scale_regress.py::test_residuals_of_empty_cells_and_genes_are_zero[cpu]",
    "tests/test_scale_regress.py::test_scale_of_one_cell_layers_and_refusals[cpu]",
    "tests/test_scrublet.py::test_counts_within_limits_are_those_of_the_sorted_neighbours[cpu-clumps-40-3-5]",
    "tests/test_sepal.py::test_constant_absent_and_unfinished_genes[cpu]",
    "tests/test_spatial_graph.py::test_generic_equals_squidpy[2-{'radius': (3.0, 9.0), 'set_diag': True}]",
    "tests/test_umap.py::test_quality_on_the_pancreas",
    "tests/test_walks.py::test_bandwidths_and_shares[cpu]",
    "tests/test_walks.py::test_gsea_of_cells_with_zeros[cpu]",
    "tests/test_walks.py::test_gsva_has_the_same_bits_on_both_backends[cpu-options2]",
    "tests/test_walks.py::test_viper_does_not_depend_on_blocks_or_backend[cpu]",
]

BODY = """
from rsc_core.kernels.twin import twin


@twin("float64 float64", threads=32)
def halves(n_items, values, out):
    for item in range(n_items):
        out[item] = values[item] / 2
"""
KERNEL = """
extern "C" __global__ void halves(long long n_items, const double* values, double* out) {
    const long long item = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    BARRIER
    if (item < n_items) out[item] = HALF;
}
"""


@pytest.fixture
def halves(tmp_path):
    """A function that makes a pair of a numba body and a CUDA kernel and runs both on 40 numbers."""

    def run(half="values[item] / 2", barrier=""):
        (tmp_path / "pair.py").write_text(BODY)
        (tmp_path / "pair.cu").write_text(KERNEL.replace("HALF", half).replace("BARRIER", barrier))
        spec = importlib.util.spec_from_file_location("pair", tmp_path / "pair.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        emulator.compared(module.halves)(40, np.arange(40.0), np.zeros(40))

    return run


def test_an_equal_kernel_passes(halves):
    halves(barrier="__syncthreads();")


def test_a_wrong_kernel_is_noticed(halves):
    with pytest.raises(AssertionError, match=r"pair.halves: the CUDA kernel is not its twin: 1 of 40 values of out differ, at \(39,\)"):
        halves(half="item == 39 ? -values[item] / 2 : values[item] / 2")


def test_threads_that_wait_for_ever_are_reported(halves):
    with pytest.raises(AssertionError, match="halves: threads wait for each other for ever"):
        halves(barrier="if (item % 2) __syncwarp(); else __syncthreads();")


def small_launches():
    """Kernels by name with the number of items and arguments of a small launch."""
    draws, n, wide = np.random.default_rng(0), 70, 300
    table = sp.random(n, wide, 0.3, format="csr", random_state=0, data_rvs=lambda size: draws.integers(1, 9, size)).astype(np.float32)
    indptr, indices, values = table.indptr.astype(np.int64), table.indices.astype(np.int32), table.data
    square = sp.random(n, n, 0.2, format="csr", random_state=1)
    graph = square.indptr.astype(np.int64), square.indices.astype(np.int32), square.data
    x, vector, by_cell = draws.normal(size=(n, 20)), draws.normal(size=n), np.zeros(n)
    label, mask = draws.integers(0, 5, n).astype(np.int32), np.ones(n, dtype=np.int32)
    panels, columns = -(-n // 32), np.zeros(wide)
    counts = np.zeros((panels, wide), dtype=np.int32)
    nearest = np.zeros((n, 7), dtype=np.int64), np.zeros((n, 7))
    return {
        "counts.top_sums": (n, indptr, values, np.array([1, 5, 50]), 3, np.zeros((n, 3), dtype=np.int64)),
        "counts.dense_rows": (n, 0, indptr, indices, values, wide, np.zeros((n, wide))),
        "kmeans.row_largest": (n, x, 20, by_cell),
        "kmeans.nearest_centroid": (n, x, 20, np.ascontiguousarray(x[:5].T), 5, label.copy(), np.zeros(n)),
        "kmeans.cluster_sums": (x.size, x, 20, label, 2.0**30, np.zeros((5, 20), dtype=np.int64), np.zeros(5, dtype=np.int64)),
        "kmeans.gap_to_row": (n, x, 20, 3, np.full(n, np.inf)),
        "normalize.dominant_columns": (n, indptr, indices, values, np.full(n, 7.0), np.zeros(wide, dtype=np.int32)),
        "panels.column_counts": (panels, indptr, indices, n, wide, 32, counts),
        "panels.panel_products": (panels, 0, indptr, indices, values, x[:, :3].copy(), 3, n, wide, 32, wide, np.zeros((panels, 3, wide))),
        "panels.panel_products_dense": (2 * panels, 0, table.toarray(), x[:, :3].copy(), 3, n, wide, 32, np.zeros((panels, 3, wide))),
        "scan.chunk_sums": (3, np.arange(300), 300, 100, np.zeros(3, dtype=np.int64)),
        "scale.scale_entries": (n, indptr, indices, values, mask, np.full(wide, 3.0), 2.0, np.zeros_like(values)),
        "scale.scaled_dense": (n, table.toarray(), mask, columns + 1, columns + 3, -1.0, 2.0, wide, np.zeros((n, wide), dtype=np.float32)),
        "search.centred_rows": (n, x, 20, np.zeros_like(x)),
        "search.keep_least": (
            n, table.toarray(), vector[:1].repeat(wide).astype(np.float32), wide, 3, 40,
            np.full((n, 40), np.inf, dtype=np.float32), np.full((n, 40), -1, dtype=np.int32),
        ),  # fmt: skip
        "search.nearest_of_all": (n, x, 20, np.arange(n), np.arange(0, n, 2), n // 2, 7, *nearest),
        "search.unit_rows": (n, x, 20, np.zeros_like(x)),
        "spectral.combine_rows": (n, x.T.copy(), draws.normal(size=(4, 20)), 20, 4, np.zeros((4, n))),
        "spectral.dot_parts": (3, x.T.copy(), vector, 20, n, 25, np.zeros(60)),
        "spectral.matrix_vector": (n, *graph, vector, by_cell),
        "within.row_quantiles": (n, table.toarray(), wide, 150, np.zeros(n, dtype=np.float32)),
    }


def test_small_launches_give_what_the_twins_give():
    for name, (n_items, *args) in small_launches().items():
        emulator.compared(emulator.all_kernels()[name])(n_items, *args)


def test_cuda_kernels_equal_their_twins():
    options = ["-q", "-p", "no:cacheprovider", "--emulate", "-m", "not gpu"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, *TESTS], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    missing = set(re.search(r"not launched: (.*)", done.stdout)[1].split())
    assert missing <= small_launches().keys(), f"not compared: {sorted(missing - small_launches().keys())}"
