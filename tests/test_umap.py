"""UMAP against scanpy's call of umap-learn, its quality on real cells, and the stages from PCA to the drawing."""

import runpy
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from rsc_core import backend, metrics
from rsc_core.io.delta import Delta, read_delta, write_delta
from rsc_core.io.store import write_store
from rsc_core.pp._neighbors import neighbors
from rsc_core.tl._umap import fit_ab, umap

BIN = Path(__file__).parents[1] / "bin"


def blobs(n_cells, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n_cells, 10)) + 6 * np.eye(10)[random.integers(4, size=n_cells)]
    return x.astype(np.float32)


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
    umap(adata, maxiter=50)
    theirs = adata.copy()
    sc.tl.umap(theirs, maxiter=50, random_state=0)
    np.testing.assert_array_equal(adata.obsm["X_umap"], theirs.obsm["X_umap"])
    assert adata.uns["umap"]["params"]["a"] == pytest.approx(theirs.uns["umap"]["params"]["a"], rel=1e-8)


def test_neighbours_stay_neighbours(to_xp):
    """Trustworthiness above 0.9: groups are kept apart, and within them two of ten noise dimensions can be drawn."""
    x = blobs(600)
    adata = with_graph(to_xp(x))
    umap(adata)
    drawn = backend.to_host(adata.obsm["X_umap"])
    assert drawn.shape == (600, 2)
    assert drawn.dtype == np.float32
    assert metrics.trustworthiness(x, drawn) > 0.9


def test_the_same_seed_gives_the_same_bytes(to_xp):
    drawn = []
    for _ in range(2):
        adata = with_graph(to_xp(blobs(400)))
        umap(adata, maxiter=30, random_state=5)
        drawn.append(backend.to_host(adata.obsm["X_umap"]))
    np.testing.assert_array_equal(*drawn)


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
    assert np.isfinite(backend.to_host(adata.obsm["X_umap"])).all()


def test_what_cannot_be_used_is_refused(to_xp):
    adata = with_graph(to_xp(blobs(30)), n_neighbors=5)
    with pytest.raises(ValueError, match="init_pos is 'paga'"):
        umap(adata, init_pos="paga")
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
