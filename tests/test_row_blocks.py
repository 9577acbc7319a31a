"""Row blocks of a store give the bytes of the whole matrix, memory plans, stores of more than 2^31 entries."""

import cases
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rsc_core import backend, pp
from rsc_core.data import CunnData
from rsc_core.io.store import CountsStore
from rsc_core.pp._blocks import STRIP, cut, of_store, stacked
from rsc_core.pp._moments import PANEL, gene_mean_variance, totals
from rsc_core.pp._regress import without_columns

N_CELLS, N_GENES = 2 * STRIP + 700, 60


@pytest.fixture(scope="module")
def store_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s.store.h5ad"
    rng = np.random.default_rng(0)
    counts = cases.counts(N_CELLS, N_GENES, mean=0.4, empty_cell=STRIP, empty_gene=7)
    cases.store(path, counts, "s", depth=rng.normal(size=N_CELLS), batch=rng.choice(["x", "y", "z"], N_CELLS))
    return path


@pytest.fixture
def both(store_path, backend_name):
    """The same store as one matrix and in three blocks."""

    def make():
        store = CountsStore(store_path)
        whole = store.device_rows(0, store.shape[0], backend_name)
        return [CunnData(x, store.obs, store.var) for x in (whole, of_store(store, backend_name, 1))]

    return make


def same(whole, blocks):
    """Tables, slots and matrices of two objects have the same bytes."""
    pd.testing.assert_frame_equal(whole.obs, blocks.obs, check_exact=True)
    pd.testing.assert_frame_equal(whole.var, blocks.var, check_exact=True)
    for slot in ("obsm", "varm"):
        for key, value in getattr(whole, slot).items():
            assert value.tobytes() == getattr(blocks, slot)[key].tobytes(), key
    for one, other in ((backend.to_host(whole.X), blocks.X.get()),):
        dense = [m.toarray() if hasattr(m, "toarray") else m for m in (one, other)]
        assert dense[0].tobytes() == dense[1].tobytes()


STEPS = {
    "qc": lambda a: pp.calculate_qc_metrics(a, percent_top=[5, 20], inplace=True),
    "seurat_v3": lambda a: pp.highly_variable_genes(a, n_top_genes=20, batch_key="batch"),
    "pearson_residuals": lambda a: pp.highly_variable_genes(a, flavor="pearson_residuals", n_top_genes=20, batch_key="batch"),
    "poisson": lambda a: pp.highly_variable_genes(a, flavor="poisson_gene_selection", n_top_genes=20),
    "normalize": lambda a: pp.normalize_total(a, key_added="factor"),
    "dominant": lambda a: pp.normalize_total(a, exclude_highly_expressed=True, max_fraction=0.3),
    "log1p": lambda a: (pp.normalize_total(a), pp.log1p(a, base=2)),
    "sqrt": lambda a: pp.sqrt(a),
    "seurat": lambda a: (pp.log1p(a), pp.highly_variable_genes(a, flavor="seurat", n_top_genes=20, batch_key="batch")),
    "cell_ranger": lambda a: (pp.log1p(a), pp.highly_variable_genes(a, flavor="cell_ranger", n_top_genes=20)),
    "scale": lambda a: (pp.log1p(a), pp.scale(a, max_value=3), pp.pca(a, 5)),
    "regress": lambda a: (pp.log1p(a), pp.regress_out(a, ["depth"]), pp.scale(a), pp.pca(a, 5)),
    "regress_groups": lambda a: pp.regress_out(a, "batch"),
    "residuals": lambda a: (pp.normalize_pearson_residuals(a), pp.pca(a, 4)),
    "pca": lambda a: (pp.log1p(a), pp.pca(a, 8)),
    "truncated": lambda a: (pp.log1p(a), pp.pca(a, 8, zero_center=False)),
    "randomized": lambda a: (pp.log1p(a), pp.pca(a, 8, svd_solver="randomized")),
    "lanczos": lambda a: (pp.log1p(a), pp.pca(a, 8, svd_solver="lanczos")),
    "filter": lambda a: (pp.filter_cells(a, min_counts=12), pp.filter_genes(a, min_cells=300), pp.pca(a, 4)),
}


@pytest.mark.parametrize("step", STEPS)
def test_blocks_give_the_bytes_of_the_whole(both, step):
    whole, blocks = both()
    for adata in (whole, blocks):
        STEPS[step](adata)
    same(whole, blocks)


def test_scrublet_of_blocks(store_path, backend_name):
    store = CountsStore(store_path)
    rows = np.sort(np.random.default_rng(1).permutation(N_CELLS)[:400])
    whole, blocks = store.device_rows(0, N_CELLS, backend_name)[rows], of_store(store, backend_name, 1)[rows]
    ours = [CunnData(x, store.obs.iloc[rows], store.var) for x in (whole, blocks)]
    for adata in ours:
        pp.scrublet(adata)
    pd.testing.assert_frame_equal(ours[0].obs, ours[1].obs, check_exact=True)


def test_chunks_of_a_matrix_change_nothing(to_xp):
    x = cases.counts(STRIP + 50, 30)
    one, other = cases.annotated(to_xp(x)), cases.annotated(to_xp(x))
    pp.pca(one, 4)
    pp.pca(other, 4, chunked=True, chunk_size=1000)
    assert one.obsm["X_pca"].tobytes() == other.obsm["X_pca"].tobytes()


def test_rows_of_blocks(store_path, backend_name):
    store, rows = CountsStore(store_path), np.random.default_rng(2).integers(0, N_CELLS, 5000)
    blocks = of_store(store, backend_name, 1)
    np.testing.assert_array_equal(blocks[rows].get().toarray(), store.counts()[rows].toarray())
    np.testing.assert_array_equal(blocks[:, np.array([3, 9])].get().toarray(), store.counts()[:, [3, 9]].toarray())
    assert blocks[np.empty(0, dtype=np.int64)].get().shape == (0, N_GENES)
    assert stacked([np.ones((2, 3)), np.zeros((1, 3))]).shape == (3, 3)


@pytest.mark.parametrize("max_nnz", [1, 50_000, 10**9])
def test_cuts_are_whole_strips(store_path, max_nnz):
    indptr = CountsStore(store_path).indptr
    edges = cut(indptr, max_nnz)
    assert edges[0] == 0 and edges[-1] == N_CELLS and all(edge % STRIP == 0 for edge in edges[:-1]) and STRIP % PANEL == 0
    sizes = np.diff(indptr[edges])
    assert ((sizes <= max_nnz) | (np.diff(edges) <= STRIP)).all() and (max_nnz < 10**9 or len(edges) == 2)
    assert cut(np.zeros(1, dtype=np.int64), 5) == [0, 0]


def test_more_than_2_to_the_31_entries(tmp_path, backend_name):
    """A sparse file of 3.2 billion entries, most of them zeros that were never written: the last cells are real."""
    n_genes, n_full = 50_000, 64_000
    tail = sp.random(600, n_genes, 0.001, format="csr", random_state=0, data_rvs=lambda n: np.arange(n) % 900 + 1.0).astype(np.float32)
    indptr = np.r_[np.arange(n_full + 1, dtype=np.int64) * n_genes, n_full * n_genes + tail.indptr[1:].astype(np.int64)]
    path, nnz = tmp_path / "big.h5ad", int(indptr[-1])
    cases.store(path, tail[:1], "s", genes=[f"g{i}" for i in range(n_genes)])
    with h5py.File(path, "r+") as file:
        x = file["X"]
        x.attrs["shape"] = np.array([n_full + 600, n_genes])
        for name in ("data", "indices", "indptr"):
            del x[name]
        for name, part in (("data", tail.data), ("indices", tail.indices)):
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space, kind = h5py.h5s.create_simple((nnz,)), h5py.h5t.py_create(np.dtype(np.uint16))
            dataset = h5py.Dataset(h5py.h5d.create(x.id, name.encode(), kind, space, plist))
            dataset[nnz - part.size :] = part.astype(np.uint16)
        x.create_dataset("indptr", data=indptr)
    assert path.stat().st_blocks * 512 < 2**28 < path.stat().st_size
    store = CountsStore(path)
    assert store.indptr[-1] > 2**31 and store.data.size == nnz
    np.testing.assert_array_equal(store.rows(n_full, n_full + 600).toarray(), tail.toarray())
    rows = np.arange(n_full - 2, n_full + 600)
    blocks = of_store(store, backend_name, 1 << 27)
    assert max(np.diff(store.indptr[blocks.edges])) <= STRIP * n_genes and len(blocks.edges) > 15
    part = CunnData(blocks[rows], pd.DataFrame(index=rows.astype(str)), store.var)
    cells, _ = pp.calculate_qc_metrics(part)
    np.testing.assert_array_equal(cells["total_counts"], np.r_[0, 0, tail.sum(axis=1).A1])


@pytest.mark.parametrize(("text", "n"), [("2GB", 2 * 10**9), ("1.5 GiB", 3 << 29), ("500m", 5 * 10**8), ("77", 77), ("3KB", 3000)])
def test_amounts_of_memory(text, n):
    assert backend.parse_bytes(text) == n


@pytest.mark.parametrize("text", ["", "GB", "2XB", "-1GB", "1IB"])
def test_wrong_amounts_of_memory(text):
    with pytest.raises(ValueError, match="2GB or 500MiB"):
        backend.parse_bytes(text)


@pytest.mark.parametrize(
    ("limit", "first", "rung", "block_nnz"),
    [
        ("1GB", "", "whole", None),
        ("1MB", "", "blocks", 45_000),  # 85 % of a MB, less the 400,000 bytes of all, in values of 10 bytes
        ("1KB", "", "blocks", 500),
        ("8MB", "blocks", "blocks", 45_000),  # after exit code 42 an eighth of it
        ("8MB", "managed", "blocks", 45_000),  # the CPU has no lower rung
    ],
)
def test_the_rung_is_chosen_from_the_estimate(monkeypatch, limit, first, rung, block_nnz):
    monkeypatch.setenv("RSC_CORE_HOST_MEMORY", limit)
    monkeypatch.setenv("RSC_CORE_FIRST_RUNG", first)
    plan = backend.plan("cpu", whole=2_000_000, fixed=400_000, per_nnz=10, least_nnz=500)
    assert plan.rung == rung and plan.needed == 2_000_000
    assert block_nnz is None or plan.block_nnz == block_nnz
    monkeypatch.setenv("RSC_CORE_FIRST_RUNG", "cloud")
    with pytest.raises(ValueError, match="RSC_CORE_FIRST_RUNG is 'cloud'"):
        backend.plan("cpu", whole=1, fixed=0, per_nnz=1, least_nnz=1)


def test_the_last_rung_of_the_device(monkeypatch):
    monkeypatch.setattr(backend, "available_bytes", lambda name: 1000)
    monkeypatch.delenv("RSC_CORE_FIRST_RUNG", raising=False)
    assert backend.plan("gpu", whole=5000, fixed=10, per_nnz=10, least_nnz=10).rung == "blocks"
    assert backend.plan("gpu", whole=5000, fixed=10, per_nnz=10, least_nnz=1000).rung == "managed"
    monkeypatch.setenv("RSC_CORE_FIRST_RUNG", "managed")
    assert backend.plan("gpu", whole=50, fixed=10, per_nnz=10, least_nnz=10).rung == "managed"


MEMINFO = "MemTotal: 64000000 kB\nMemAvailable: 32000000 kB\n"
JOB = "slurm/uid_0/job_7"
V1, V2 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), ("memory.max", "memory.current", "inactive_file")


@pytest.mark.parametrize(
    ("listed", "groups", "free"),
    [
        (None, {}, 32_768_000_000),
        ("0::/", {".": (V2, "max", 5)}, 32_768_000_000),
        ("0::/", {".": (V2, 9_000_000, 5_000_000)}, 4_000_100),
        (f"0::/{JOB}/step_0", {f"{JOB}/step_0": (V2, "max", 5), JOB: (V2, 9_000_000, 1)}, 9_000_099),
        ("0::/docker/5e1f", {".": (V2, 9_000_000, 1)}, 9_000_099),  # named as outside of the container
        (f"5:cpu:/\n4:memory:/{JOB}\n0::/", {f"memory/{JOB}": (V1, 9_000_000, 1), "memory": (V1, 2**63 - 4096, 5)}, 9_000_099),
        ("4:memory:/docker/5e1f", {"memory": (V1, 9_000_000, 9_000_000)}, 100),
        ("0::/", {".": (V2, 9_000_000, 9_100_000)}, 0),
    ],
)
def test_free_memory_is_that_of_the_container_or_job(tmp_path, listed, groups, free):
    """By hand: the limit less what is used, and 100 bytes of files that the kernel lets go."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO)
    if listed:
        (tmp_path / "proc" / "self" / "cgroup").write_text(listed + "\n")
    for name, ((limit, used, reclaimable), most, now) in groups.items():
        group = tmp_path / "sys" / "fs" / "cgroup" / name
        group.mkdir(parents=True, exist_ok=True)
        for file, content in ((limit, most), (used, now), ("memory.stat", f"anon 5\n{reclaimable} 100")):
            (group / file).write_text(f"{content}\n")
    assert backend.free_host_bytes(tmp_path) == free


def test_dense_blocks_of_a_sparse_matrix(to_xp):
    """Strips that are dense and strips that are sparse in one matrix: float64 sums in another order, 1e-12 of their sizes."""
    from rsc_core.pp._pca import sums_and_products

    x = sp.vstack([sp.csr_matrix(np.ones((STRIP, 20), np.float32)), cases.counts(300, 20, mean=0.02)]).tocsr()
    total, gram = (backend.to_host(part) for part in sums_and_products(to_xp(x)))
    full = x.toarray().astype(np.float64)
    np.testing.assert_allclose(total, full.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(gram, full.T @ full, rtol=1e-12)


@pytest.mark.parametrize("layout", [sp.csr_matrix, sp.csc_matrix, lambda m: m.toarray()], ids=["csr", "csc", "dense"])
def test_sums_of_genes_have_the_same_bits_on_both_backends(to_xp, layout):
    """More genes than a tile of the device's shared memory holds, more cells than a panel."""
    x = sp.random(2 * PANEL + 33, 13_000, 0.02, format="csr", random_state=3, data_rvs=lambda n: np.arange(n) % 50 / 8 - 1)
    x = sp.hstack([np.full((x.shape[0], 1), 0.1), x]).tocsr().astype(np.float32)  # a gene without zeros, constant
    exact, moved = x.toarray().astype(np.float64), to_xp(layout(x))
    mean, variance = gene_mean_variance(moved)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(variance, exact.var(axis=0, ddof=1), rtol=1e-10, atol=1e-12)
    assert (mean[0], variance[0]) == (np.float64(np.float32(0.1)), 0)
    assert [part.tobytes() for part in (mean, variance)] == [part.tobytes() for part in gene_mean_variance(layout(x))]
    assert totals(moved, 0).tobytes() == totals(layout(x), 0).tobytes()
    np.testing.assert_array_equal(totals(moved, 0, expressed=True), (exact > 0).sum(axis=0))
    np.testing.assert_array_equal(totals(moved, 1, expressed=True), (exact > 0).sum(axis=1))
    if layout is sp.csc_matrix:
        return
    regressors = np.random.default_rng(0).normal(size=(2, x.shape[0]))
    left = backend.to_host(without_columns(moved, regressors))
    design = np.c_[np.ones(x.shape[0]), regressors.T]
    some = exact[:, ::100]
    wanted = some - design @ np.linalg.lstsq(design, some, rcond=None)[0]
    np.testing.assert_allclose(left[:, ::100], wanted, rtol=1e-5, atol=1e-6)
    assert left.tobytes() == without_columns(layout(x), regressors).tobytes()
