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
# Quick tests that launch many kernels.
TESTS = [
    "tests/test_activity.py::test_equals_decoupler[cpu-1-40-1-ulm]",
    "tests/test_autocorr.py::test_equals_scanpy[cpu-asarray-shape0-geary-gearys_c]",
    "tests/test_autocorr.py::test_equals_scanpy[cpu-csr_matrix-shape0-geary-gearys_c]",
    "tests/test_autocorr.py::test_permutations_equal_numpy[cpu-1031-moran]",
    "tests/test_graph_maps.py::test_diffusion_map_equals_scanpy[cpu-300]",
    "tests/test_hvg.py::test_a_batch_of_one_cell_is_left_out[cpu]",
    "tests/test_hvg_flavors.py::test_each_batch_has_the_clip_of_its_size[cpu]",
    "tests/test_hvg_flavors.py::test_poisson_probability_is_that_of_draws",
    "tests/test_layouts.py::test_pushes_are_near_the_sum_over_all_pairs[cpu-0]",
    "tests/test_nhood.py::test_by_hand_on_nine_points[cpu]",
    "tests/test_qc.py::test_doublets_are_filtered",
]
# Kernels, by module, that neither these tests nor a small launch runs; to be shortened by tests that launch them.
NOT_LAUNCHED = {
    "activity": "centred_products coefficient_scores mean_scores normal_tails",
    "counts": "gram_rows",
    "density": "density_sums",
    "graph": "count_strong gauss_weights jaccard_weights keep_strong median_squares row_thresholds",
    "harmony": "choose_clusters closest_centroids held_sums mean_centroids settle_clusters spread_centroids",
    "layout": "atlas_forces atlas_speed atlas_step perplexity_weights t_pulls t_step",
    "leiden": "community_totals form_sets inner_weight move_vertices",
    "levels": "count_arcs count_between flag_heads gather_arcs look_up lower_labels lowest_of_label number_sets pack_arcs "
    "round_arcs row_maximum shorten_labels weight_inside",
    "ligrec": "exceeding gene_entries gene_sizes group_sums",
    "logreg": "class_dots class_scores combination gene_panels panel_starts panel_sums residuals slopes",
    "mde": "mde_gradient",
    "moments": "residual_rows",
    "network": "fill_rows permute permuted_moments random_keys",
    "panels": "column_entries column_offsets panel_sums_dense",
    "places": "code_tail mean_ranks normal_tail null_walks order_columns place_sums places_of_stored places_of_zeros "
    "random_sets signed_moments walks",
    "points": "pair_bins",
    "ranks": "fill_keys group_ranks group_sums largest zero_ranks",
    "regress": "left_dense left_sparse",
    "sepal": "diffused",
    "spectral": "divide_by_root subtract_rows",
    "umap": "umap_epoch",
    "within": "nearest_from within_limits",
}

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
        "scale.scale_entries": (n, indptr, indices, values, mask, np.full(wide, 3.0), 2.0, np.zeros_like(values)),
        "scale.scaled_dense": (n, table.toarray(), mask, columns + 1, columns + 3, -1.0, 2.0, wide, np.zeros((n, wide), dtype=np.float32)),
        "search.centred_rows": (n, x, 20, np.zeros_like(x)),
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
    known = {f"{module}.{name}" for module, names in NOT_LAUNCHED.items() for name in names.split()} | small_launches().keys()
    assert missing <= known, f"no longer compared: {sorted(missing - known)}"
