"""UMAP against scanpy's call of umap-learn, its quality on real cells, and the stages from PCA to the drawing."""

import runpy
from pathlib import Path

import anndata as ad
import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from rsc_core import backend, metrics
from rsc_core.io.delta import Delta, read_delta, write_delta
from rsc_core.io.store import write_store
from rsc_core.pp._neighbors import neighbors
from rsc_core.tl._umap import fit_ab, force_tables, optimise, umap

BIN = Path(__file__).parents[1] / "bin"


def blobs(n_cells, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n_cells, 10)) + 6 * np.eye(10)[random.integers(4, size=n_cells)]
    return x.astype(np.float32)


def manifold(n_cells, seed=0):
    """A tree of four arms in 20 dimensions, with noise."""
    random = np.random.default_rng(seed)
    ends, arm = 4 * random.normal(size=(4, 20)), random.integers(4, size=n_cells)
    return (ends[arm] * random.random((n_cells, 1)) + 0.7 * random.normal(size=(n_cells, 20))).astype(np.float32)


def kept(x, drawn):
    """Mean share of the 15 nearest cells that are so in the drawing."""
    return metrics.knn_overlap(*(with_graph(np.ascontiguousarray(a), n_neighbors=16).obsp["distances"] for a in (x, drawn)))


def with_graph(x, **options):
    adata = ad.AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(len(x))]), obsm={"X_pca": x})
    neighbors(adata, **options)
    return adata


@pytest.mark.parametrize(("spread", "min_dist"), [(1.0, 0.5), (1.0, 0.1), (2.0, 0.3)])
def test_a_and_b_equal_umap_learn(spread, min_dist):
    from umap.umap_ import find_ab_params

    np.testing.assert_allclose(fit_ab(spread, min_dist), find_ab_params(spread, min_dist), rtol=1e-8)


def test_equals_scanpy_on_the_same_graph():
    import scanpy as sc

    adata = with_graph(blobs(300))
    umap(adata, maxiter=50, impl="library")
    theirs = adata.copy()
    sc.tl.umap(theirs, maxiter=50, random_state=0)
    np.testing.assert_array_equal(adata.obsm["X_umap"], theirs.obsm["X_umap"])
    assert adata.uns["umap"]["params"]["a"] == pytest.approx(theirs.uns["umap"]["params"]["a"], rel=1e-8)


@pytest.mark.parametrize("init_pos", ["spectral", "pca"])
def test_quality_is_that_of_umap_learn(to_xp, init_pos):
    """Not below umap-learn - 0.01 in trustworthiness and in neighbours kept, on a continuous structure."""
    x = manifold(700)
    adata, theirs = with_graph(to_xp(x)), with_graph(x)
    umap(adata, init_pos=init_pos)
    umap(theirs, impl="library")
    drawn = backend.to_host(adata.obsm["X_umap"])
    assert drawn.shape == (700, 2)
    assert drawn.dtype == np.float32
    assert metrics.trustworthiness(x, drawn) > metrics.trustworthiness(x, theirs.obsm["X_umap"]) - 0.01
    assert kept(x, drawn) > kept(x, theirs.obsm["X_umap"]) - 0.01
    assert adata.uns["umap"]["params"]["init_pos"] == init_pos


def test_quality_on_the_pancreas(data_dir):
    """Not below umap-learn - 0.01. umap-learn 0.5.12 on these components: umap(adata, impl="library") and the two figures below."""
    x = cases.pancreas_components(data_dir)
    adata = with_graph(x)
    umap(adata)
    assert metrics.trustworthiness(x, adata.obsm["X_umap"]) > 0.9427 - 0.01
    assert kept(x, adata.obsm["X_umap"]) > 0.3512 - 0.01


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads(to_xp):
    import numba

    drawn = []
    for n_threads in (1, 2):
        numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
        adata = with_graph(to_xp(blobs(400)))
        umap(adata, maxiter=30, random_state=5)
        drawn.append(backend.to_host(adata.obsm["X_umap"]))
    np.testing.assert_array_equal(*drawn)


def test_both_backends_move_cells_to_the_same_bits(to_xp):
    x = blobs(500)
    adata = with_graph(x)
    start = np.ascontiguousarray(x[:, :3])
    options = {"a": 0.58, "b": 1.33, "n_epochs": 20, "random_state": 3}
    there = optimise(to_xp(adata.obsp["connectivities"]), to_xp(start), **options)
    np.testing.assert_array_equal(backend.to_host(there), optimise(adata.obsp["connectivities"], start, **options))


def test_an_edge_pulls_and_a_random_cell_pushes_by_the_gradient():
    """Two cells, an epoch by hand: each is pulled twice by its one edge; the tables err by less than 1e-5."""
    graph = sp.csr_matrix(np.array([[0, 1], [1, 0]], dtype=np.float32))
    start = np.array([[0, 0], [2, 1]], dtype=np.float32)
    moved = optimise(graph, start, a=1.5, b=0.9, n_epochs=1, negative_sample_rate=0)
    here = start[0].astype(float)
    for _ in range(2):
        gap = here - start[1]
        square = gap @ gap
        here += -2 * 1.5 * 0.9 * square ** (0.9 - 1) / (1 + 1.5 * square**0.9) * gap
    np.testing.assert_allclose(moved[0], here, rtol=2e-5)
    pull, push = force_tables(1.5, 0.9, 2.0)
    assert push[24 * 128] == pytest.approx(2 * 2.0 * 0.9 / (1.001 * 2.5), rel=1e-6)  # at a squared distance of 1
    assert pull[25 * 128] == pytest.approx(-2 * 1.5 * 0.9 * 2**-0.1 / (1 + 1.5 * 2**0.9), rel=1e-6)  # of 2


def test_trustworthiness_of_a_sample_is_near_that_of_all():
    """0.02: the sample of 400 cells has other, farther neighbours."""
    x = blobs(800)
    drawn = x[:, :3]
    whole = metrics.trustworthiness(x, drawn)
    assert metrics.trustworthiness(x, x) == 1
    assert metrics.trustworthiness(x, drawn, max_cells=400) == pytest.approx(whole, abs=0.02)


@pytest.mark.parametrize("n_cells", [3, 9, 10, 12])
def test_few_cells(to_xp, n_cells):
    adata = with_graph(to_xp(blobs(n_cells)), n_neighbors=3)
    umap(adata, maxiter=20)
    assert np.isfinite(backend.to_host(adata.obsm["X_umap"])).all()


def test_a_graph_of_two_parts_and_duplicated_cells(to_xp):
    x = blobs(120)
    x[60:] += 1000
    x[:20] = x[0]
    adata = with_graph(to_xp(x), n_neighbors=5)
    umap(adata, maxiter=20)
    drawn = backend.to_host(adata.obsm["X_umap"])
    assert np.isfinite(drawn).all()
    assert len(np.unique(drawn, axis=0)) == 120
    assert adata.uns["umap"]["params"]["init_pos"] == "pca"


def test_isolated_cells_stay_at_their_start(to_xp):
    adata = with_graph(blobs(60), n_neighbors=5)
    graph = adata.obsp["connectivities"].tolil()
    graph[7] = 0
    graph[:, 7] = 0
    adata = ad.AnnData(obs=adata.obs, obsm={"X_pca": to_xp(adata.obsm["X_pca"])}, uns=adata.uns)
    adata.obsp["connectivities"] = to_xp(graph.tocsr().astype(np.float32))
    adata.obsm["start"] = adata.obsm["X_pca"][:, :2]
    umap(adata, maxiter=5, init_pos="start")
    drawn, start = (backend.to_host(adata.obsm[key]) for key in ("X_umap", "start"))
    np.testing.assert_array_equal(drawn[7], start[7])
    assert (np.delete(drawn, 7, axis=0) != np.delete(start, 7, axis=0)).any(axis=1).all()


def test_cells_that_are_all_the_same(to_xp):
    adata = with_graph(to_xp(np.ones((40, 5), dtype=np.float32)), n_neighbors=5)
    umap(adata, maxiter=20)
    assert np.isfinite(backend.to_host(adata.obsm["X_umap"])).all()


def test_what_cannot_be_used_is_refused(to_xp):
    adata = with_graph(to_xp(blobs(30)), n_neighbors=5)
    with pytest.raises(ValueError, match="init_pos is 'paga'"):
        umap(adata, init_pos="paga")
    with pytest.raises(ValueError, match="impl is 'cuml'"):
        umap(adata, impl="cuml")
    with pytest.raises(ValueError, match="a start of shape"):
        umap(adata, init_pos="X_pca")
    with pytest.raises(KeyError, match="pp.neighbors"):
        umap(ad.AnnData(obs=adata.obs))


def test_the_stages_from_components_to_drawing(tmp_path, backend_name):
    x, files = blobs(90), {name: str(tmp_path / f"{name}.h5ad") for name in ("store", "preprocess", "integrate", "neighbors", "embed")}
    obs = pd.DataFrame({"sample": pd.Categorical(np.array(["a", "b"])[np.arange(90) % 2])}, index=[f"c{i}" for i in range(90)])
    counts = sp.csr_matrix(np.ones((90, 3), dtype=np.uint16))
    write_store(files["store"], [counts], nnz=270, count_dtype=np.uint16, obs=obs, var=pd.DataFrame(index=["g1", "g2", "g3"]))
    write_delta(files["preprocess"], Delta("preprocess", obs[[]], obsm={"X_pca": x}))

    def call(stage, **inputs):
        options = [part for name, value in inputs.items() for part in (f"--{name}", files.get(value, value))]
        command = runpy.run_path(str(BIN / f"{stage}.py"))[stage]
        result = CliRunner().invoke(command, [*options, "--output", files[stage], "--backend", backend_name], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return read_delta(files[stage])

    assert call("integrate", store="store", preprocess="preprocess").obsm["X_pca_harmony"].shape == x.shape
    graph = call("neighbors", representation="integrate")
    assert graph.uns["neighbors"]["params"]["use_rep"] == "X_pca_harmony"
    assert graph.obsp["distances"].nnz == 90 * 14
    drawn = call("embed", neighbors="neighbors", representation="integrate")
    assert drawn.obsm["X_umap"].shape == (90, 2)
    first = (tmp_path / "neighbors.h5ad").read_bytes()
    call("neighbors", representation="integrate")
    assert (tmp_path / "neighbors.h5ad").read_bytes() == first


def test_the_stages_refuse_what_does_not_belong_together(tmp_path):
    from rsc_core.errors import InvalidInput
    from rsc_core.stages import embed, neighbors

    x = blobs(30)
    write_delta(tmp_path / "pca.h5ad", Delta("preprocess", pd.DataFrame(index=[f"c{i}" for i in range(30)]), obsm={"X_pca": x}))
    write_delta(tmp_path / "other.h5ad", Delta("preprocess", pd.DataFrame(index=[f"d{i}" for i in range(30)]), obsm={"X_pca": x}))
    write_delta(tmp_path / "two.h5ad", Delta("preprocess", pd.DataFrame(index=["c1", "c2"]), obsm={"X_pca": x[:2]}))
    write_delta(tmp_path / "none.h5ad", Delta("preprocess", pd.DataFrame(index=["c1", "c2"])))
    neighbors.run(representation=tmp_path / "pca.h5ad", output=tmp_path / "neighbors.h5ad")
    with pytest.raises(InvalidInput, match="cells are not the 30"):
        embed.run(neighbors=tmp_path / "neighbors.h5ad", representation=tmp_path / "other.h5ad", output=tmp_path / "embed.h5ad")
    with pytest.raises(InvalidInput, match="2 cells"):
        neighbors.run(representation=tmp_path / "two.h5ad", output=tmp_path / "neighbors2.h5ad")
    with pytest.raises(InvalidInput, match="none of"):
        neighbors.run(representation=tmp_path / "none.h5ad", output=tmp_path / "neighbors2.h5ad")
