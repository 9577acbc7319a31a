"""ASSEMBLE: every slot in its place, per-sample deltas at their rows, and mismatches refused by name."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata.tests.helpers import assert_equal

from rsc_core.errors import InvalidInput
from rsc_core.io import formats
from rsc_core.io.delta import Delta, digest_of, write_delta
from rsc_core.io.store import write_store
from rsc_core.stages.assemble import run

CELLS = [f"c{i}" for i in range(6)]
COUNTS = sp.csr_matrix(np.array([[1, 0], [2, 2], [0, 3], [4, 0], [0, 1], [5, 5]], dtype=np.float32))
FACTOR = np.array([0.5, 1, 1, 1, 2, 4])


@pytest.fixture
def folder(tmp_path):
    """A store of two samples, a delta of all cells and one of each sample."""
    obs = pd.DataFrame({"sample": pd.Categorical(["a", "a", "a", "b", "b", "b"])}, index=CELLS)
    write_store(tmp_path / "counts.h5ad", [COUNTS], nnz=COUNTS.nnz, count_dtype=np.uint16, obs=obs, var=pd.DataFrame(index=["g0", "g1"]))
    record = {"parents": {"counts.h5ad": digest_of(tmp_path / "counts.h5ad")}}
    factor = pd.DataFrame({"size_factor": FACTOR, "leiden": pd.Categorical(list("010101"))}, index=CELLS)
    pca = {"X_pca": np.arange(12, dtype=np.float32).reshape(6, 2)}
    write_delta(tmp_path / "preprocess.h5ad", Delta("preprocess", factor, obsm=pca, record=record))
    for sample, cells in (("a", CELLS[:3]), ("b", CELLS[3:])):
        graph = sp.csr_matrix(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=np.float32))
        table = {"moranI": pd.DataFrame({"I": [0.5, 0.1]}, index=["g0", "g1"])}
        obs = pd.DataFrame({"depth": [1.0, 2, 3], "niche": pd.Categorical(["x", sample, "x"])}, index=cells)
        frame = pd.DataFrame({"b": [1.0, 2, 3], "a": [4.0, 5, 6]}, index=cells)
        arrays = {"place": np.full((3, 2), ord(sample), dtype=np.float32), "frame": frame}
        delta = Delta(f"spatial:{sample}", obs, obsm=arrays, obsp={"spatial_connectivities": graph}, uns=table)
        write_delta(tmp_path / f"{sample}.h5ad", delta)
    return tmp_path


def assemble(folder, *names, **options):
    run(store=folder / "counts.h5ad", delta=[folder / name for name in names], output=folder / "out.h5ad", **options)
    return ad.read_h5ad(folder / "out.h5ad")


def test_every_slot_in_its_place(folder):
    adata = assemble(folder, "preprocess.h5ad", "b.h5ad", "a.h5ad")
    expected = np.log1p(COUNTS.toarray() / FACTOR[:, None])
    np.testing.assert_allclose(adata.X.toarray(), expected, rtol=1e-7)  # one rounding to float32
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), COUNTS.toarray())
    assert list(adata.obs["leiden"]) == list("010101") and adata.obs["leiden"].dtype == "category"
    assert adata.obs["depth"].tolist() == [1, 2, 3, 1, 2, 3]
    assert adata.obs["niche"].tolist() == ["x", "a", "x", "x", "b", "x"] and adata.obs["niche"].dtype == "category"
    assert adata.obsm["place"][:, 0].tolist() == [97] * 3 + [98] * 3
    assert list(adata.obsm["frame"]) == ["b", "a"] and adata.obsm["frame"]["b"].tolist() == [1, 2, 3, 1, 2, 3]
    edges = np.argwhere(adata.obsp["spatial_connectivities"].toarray())
    assert edges.tolist() == [[0, 1], [1, 0], [3, 4], [4, 3]]
    assert {"moranI_a", "moranI_b"} <= set(adata.uns)
    assert json.loads(adata.uns["rsc_core"]["preprocess"])["n_obs"] == 6


def test_one_spatial_sample_has_the_plain_name_and_nan_elsewhere(folder):
    adata = assemble(folder, "preprocess.h5ad", "b.h5ad")
    assert "moranI" in adata.uns
    assert np.isnan(adata.obs["depth"]).tolist() == [True] * 3 + [False] * 3
    assert np.isnan(adata.obsm["place"][:, 0]).tolist() == [True] * 3 + [False] * 3
    assert adata.obs["niche"].isna().tolist() == [True] * 3 + [False] * 3


def test_any_size_of_blocks_gives_the_same_bytes(folder, monkeypatch):
    assemble(folder, "preprocess.h5ad")
    whole = (folder / "out.h5ad").read_bytes()
    monkeypatch.setattr("rsc_core.stages.assemble.BLOCK_NNZ", 2)
    assemble(folder, "preprocess.h5ad")
    assert (folder / "out.h5ad").read_bytes() == whole


def test_scanpy_finds_its_names(folder):
    import scanpy as sc

    names = np.rec.fromarrays([["g1", "g0"], ["g0", "g1"]], names=["0", "1"])
    numbers = {key: np.rec.fromarrays([[2.0, 1], [2.0, 1]], names=["0", "1"]) for key in ("scores", "pvals", "pvals_adj", "logfoldchanges")}
    params = {"groupby": "leiden", "reference": "rest", "method": "wilcoxon", "use_raw": False}
    uns = {"rank_genes_groups": {"params": params, "names": names, **numbers}}
    write_delta(folder / "markers.h5ad", Delta("markers", pd.DataFrame(index=CELLS), uns=uns))
    adata = assemble(folder, "preprocess.h5ad", "markers.h5ad", "a.h5ad", "b.h5ad")
    assert sc.get.rank_genes_groups_df(adata, "1")["names"].tolist() == ["g0", "g1"]
    frame = sc.get.obs_df(adata, ["g1", "leiden", "depth"], obsm_keys=[("X_pca", 1)])
    np.testing.assert_array_equal(frame["g1"], adata.X[:, [1]].toarray().ravel())
    assert sc.pl.rank_genes_groups_dotplot(adata, n_genes=1, return_fig=True, dendrogram=False) is not None


def test_x_may_hold_the_counts(folder):
    adata = assemble(folder, "preprocess.h5ad", x_content="counts")
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS.toarray())
    assert not adata.layers


@pytest.mark.parametrize("x_content", ["lognorm", "counts"])
def test_zarr_holds_the_same(folder, monkeypatch, x_content):
    """Written in blocks; anndata reads from it what it reads from the file, and INGEST takes it."""
    monkeypatch.setattr("rsc_core.stages.assemble.BLOCK_NNZ", 3)
    (folder / "out.zarr").mkdir()
    (folder / "out.zarr" / "old").touch()
    adata = assemble(folder, "preprocess.h5ad", "a.h5ad", "b.h5ad", formats=["h5ad", "zarr"], x_content=x_content)
    same = ad.read_zarr(folder / "out.zarr")
    assert_equal(adata, same, exact=True)
    assert not (folder / "out.zarr" / "old").exists() and not list(folder.glob(".*.part"))
    layer = "counts" if x_content == "lognorm" else ""
    counts = formats.read(folder / "out.zarr", "auto", layer=layer)
    np.testing.assert_array_equal(counts.X.toarray(), COUNTS.toarray())


def test_same_input_same_bytes(folder):
    assemble(folder, "preprocess.h5ad", "a.h5ad")
    first = (folder / "out.h5ad").read_bytes()
    assemble(folder, "preprocess.h5ad", "a.h5ad")
    assert (folder / "out.h5ad").read_bytes() == first


def test_cells_of_another_run(folder):
    write_delta(folder / "other.h5ad", Delta("embed", pd.DataFrame(index=[*CELLS[:5], "c9"])))
    with pytest.raises(InvalidInput, match=r"other\.h5ad: its 6 cells .*'c9'"):
        assemble(folder, "preprocess.h5ad", "other.h5ad")


def test_cells_in_another_order(folder):
    write_delta(folder / "other.h5ad", Delta("embed", pd.DataFrame(index=CELLS[::-1])))
    with pytest.raises(InvalidInput, match=r"other\.h5ad: its 6 cells"):
        assemble(folder, "preprocess.h5ad", "other.h5ad")


def test_made_from_another_file(folder):
    record = {"parents": {"preprocess.h5ad": "0" * 64}}
    write_delta(folder / "embed.h5ad", Delta("embed", pd.DataFrame(index=CELLS), record=record))
    with pytest.raises(InvalidInput, match=r"embed\.h5ad: it was made from another preprocess\.h5ad \(000000000000\)"):
        assemble(folder, "preprocess.h5ad", "embed.h5ad")


def test_two_deltas_for_one_slot(folder):
    other = pd.DataFrame({"leiden": pd.Categorical(list("111111"))}, index=CELLS)
    write_delta(folder / "again.h5ad", Delta("cluster", other))
    with pytest.raises(InvalidInput, match=r"again\.h5ad: it fills obs\['leiden'\] otherwise than preprocess\.h5ad does"):
        assemble(folder, "preprocess.h5ad", "again.h5ad")


def test_normalised_values_need_size_factors(folder):
    with pytest.raises(InvalidInput, match="size_factor"):
        assemble(folder, "a.h5ad")


def test_what_it_was_made_from(folder):
    """Devices of the tasks and the run are kept; times are not, so that two runs give the same bytes."""
    (folder / "run.json").write_text('{"revision": "abc+", "images": {"container_cpu": "x"}, "parameters": {"seed": 0}}')
    record = {"stage": "qc:a", "backend": "gpu", "device": "H100", "driver": "580.1", "seconds": 1.0, "host": "here"}
    given = {"run_record": [folder / "qc.json"], "provenance": folder / "run.json"}
    (folder / "qc.json").write_text(json.dumps(record))
    made = assemble(folder, "preprocess.h5ad", **given).uns["rsc_core"]
    assert json.loads(made["run"])["revision"] == "abc+"
    assert json.loads(made["tasks"]) == {"qc:a": {"backend": "gpu", "device": "H100", "driver": "580.1"}}
    parents = json.loads(made["assemble"])["parents"]
    assert parents["preprocess.h5ad"] == digest_of(folder / "preprocess.h5ad")
    first = (folder / "out.h5ad").read_bytes()
    (folder / "qc.json").write_text(json.dumps(record | {"seconds": 2.0, "host": "there"}))
    assemble(folder, "preprocess.h5ad", **given)
    assert (folder / "out.h5ad").read_bytes() == first
