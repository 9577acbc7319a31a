"""MERGE: cells and genes in their order, outer and inner joins, annotation, what it refuses."""

import json

import anndata as ad
import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rsc_core.errors import InvalidInput
from rsc_core.io.store import CountsStore
from rsc_core.stages import merge, qc

OFF = {"min_counts": 0, "min_genes": 0, "max_mito_percent": 100, "nmads": 0}


@pytest.fixture
def make(tmp_path):
    """Write the store and the QC delta of a sample; returns their paths."""

    def sample(name, matrix, thresholds=None, **options):
        store, delta = tmp_path / f"{name}.store.h5ad", tmp_path / f"{name}.qc.h5ad"
        cases.store(store, matrix, name, **options)
        qc.run(store=store, sample=name, output=delta, **{**OFF, **(thresholds or {})})
        return store, delta

    return sample


@pytest.fixture
def merged(tmp_path):
    """Merge samples; returns the store and the warnings."""

    def run(*samples, **options):
        output = tmp_path / "counts.store.h5ad"
        merge.run(store=[s for s, _ in samples], qc=[q for _, q in samples], output=output, **options)
        return CountsStore(output), json.loads((tmp_path / "counts.store.h5ad.run.json").read_text())["warnings"]

    return run


@pytest.mark.parametrize("join", ["inner", "outer"])
@pytest.mark.parametrize("min_cells", [0, 1, 5])
def test_equals_anndata(make, merged, join, min_cells):
    first, second = cases.counts(30, 20), cases.counts(25, 18, seed=1)
    genes = [f"g{i}" for i in range(20)], [f"g{i}" for i in range(5, 23)][::-1]
    samples = [make(n, m, {"min_counts": 15}, genes=g) for n, m, g in (("a", first, genes[0]), ("b", second, genes[1]))]
    parts = {}
    for name, matrix, names in (("a", first, genes[0]), ("b", second, genes[1])):
        part = cases.annotated(matrix)
        part.var_names = names
        parts[name] = part[matrix.sum(axis=1).A1 >= 15]
    assert 0 < parts["a"].n_obs < 30 and 0 < parts["b"].n_obs < 25
    wanted = ad.concat(parts, join=join, index_unique="-", fill_value=0)
    order = [g for g in dict.fromkeys(genes[0] + genes[1]) if g in wanted.var_names]
    wanted = wanted[:, order].to_df()
    wanted = wanted.loc[:, (wanted > 0).sum() >= min_cells]
    store, _ = merged(*samples, join=join, min_cells=min_cells)
    got = pd.DataFrame(store.counts().toarray(), index=store.obs.index, columns=store.var.index)
    pd.testing.assert_frame_equal(got, wanted, check_dtype=False, check_names=False, check_index_type=False, check_column_type=False)
    assert store.counts().has_sorted_indices and store.data.dtype == np.uint16


def test_blocks_do_not_matter(make, merged, monkeypatch):
    samples = [make(name, cases.counts(40, 30, seed=i, mean=2), {"min_counts": 20}) for i, name in enumerate("ab")]
    whole, _ = merged(*samples)
    parts = whole.counts().toarray(), whole.record["counts_digest"]
    monkeypatch.setattr(merge.Sample.blocks, "__defaults__", (17,))  # max_nnz
    blocks, _ = merged(*samples)
    np.testing.assert_array_equal(blocks.counts().toarray(), parts[0])
    assert blocks.record["counts_digest"] == parts[1]


def test_one_sample_keeps_its_names(make, merged):
    store, _ = merged(make("only", cases.counts(20, 30, mean=2)))
    assert store.obs.index[0] == "c0" and {"total_counts", "pct_counts_mt", "sample"} <= set(store.obs)
    assert not {"passes_qc", "qc_reason"} & set(store.obs)


def test_annotation_of_different_kinds(make, merged):
    n = 12
    options = [
        {"age": np.arange(n), "ok": [True] * n, "type": pd.Categorical(["x", "y"] * 6), "only_a": [f"n{i}" for i in range(n)]},
        {"age": np.arange(n) / 2, "type": pd.Categorical(["y", "z"] * 6), "ok": [False] * n, "mix": ["high"] * n},
        {"type": pd.Categorical(["w"] * n), "total_counts": np.full(n, -1), "leiden": ["7"] * n},
    ]
    options[0]["mix"] = [1.5] * n
    samples = [make(name, cases.counts(n, 30, mean=2), **o) for name, o in zip("abc", options, strict=True)]
    store, warnings = merged(*samples)
    obs = store.obs
    assert obs["sample"].tolist() == ["a"] * n + ["b"] * n + ["c"] * n
    assert obs["age"].tolist()[: 2 * n] == [*range(n), *np.arange(n) / 2] and obs["age"].iloc[2 * n :].isna().all()
    assert obs["ok"].iloc[:n].all() and not obs["ok"].iloc[n : 2 * n].any() and obs["ok"].iloc[2 * n :].isna().all()
    assert obs["type"].cat.categories.tolist() == ["x", "y", "z", "w"] and obs["type"].iloc[-1] == "w"
    assert obs["only_a"].iloc[0] == "n0" and obs["only_a"].iloc[n:].isna().all()
    assert obs["mix"].iloc[0] == "1.5" and obs["mix"].iloc[n] == "high" and any("obs['mix'] is of different kinds" in w for w in warnings)
    assert (obs["total_counts"] > 0).all() and (obs["total_counts_input"].iloc[2 * n :] == -1).all()
    assert obs["leiden_input"].iloc[-1] == "7" and "leiden" not in obs


def test_gene_annotation_comes_from_the_first_that_has_it(make, merged):
    first = make("a", cases.counts(12, 3, mean=9), genes=["x", "y", "z"], var={"id": ["1", "2", "3"], "means": [0.0, 0.0, 0.0]})
    second = make("b", cases.counts(12, 3, mean=9), genes=["z", "y", "w"], var={"id": ["30", "20", "40"]})
    store, _ = merged(first, second, min_cells=1)
    assert store.var["id"].to_dict() == {"x": "1", "y": "2", "z": "3", "w": "40"}
    assert "means" not in store.var and "means_input" in store.var


def test_coordinates_are_nan_where_a_sample_has_none(make, merged):
    places = np.arange(24.0).reshape(12, 2)
    matrix = cases.counts(12, 30, mean=3, empty_cell=5)
    store, _ = merged(make("a", matrix, obsm={"spatial": places}), make("b", cases.counts(12, 30, mean=3)))
    np.testing.assert_array_equal(store.obsm["spatial"][:11], np.delete(places, 5, axis=0))
    assert np.isnan(store.obsm["spatial"][11:]).all() and store.obsm["spatial"].shape == (23, 2)


def test_coordinates_of_different_width_are_refused(make, merged):
    samples = [make(n, cases.counts(12, 30, mean=3), obsm={"spatial": np.zeros((12, w))}) for n, w in (("a", 2), ("b", 3))]
    with pytest.raises(InvalidInput, match=r"obsm\['spatial'\].*a 2, b 3"):
        merged(*samples)


def test_a_sample_without_kept_cells_is_left_out(make, merged):
    gone = make("gone", cases.counts(12, 30), {"min_genes": 1000}, genes=[f"other{i}" for i in range(30)])
    store, warnings = merged(make("a", cases.counts(12, 30, mean=3)), gone, join="inner")
    assert store.shape[0] == 12 and store.obs.index[0] == "c0"
    assert any("sample gone: no cell passed QC (min_genes 12" in w or "sample gone" in w for w in warnings)


def test_too_few_cells_says_how_many_and_why(make, merged):
    first = make("a", cases.counts(30, 20, mean=2), {"min_genes": 1000})
    second = make("b", cases.counts(9, 20, mean=2, empty_cell=0), {"max_counts": 10**6})
    with pytest.raises(InvalidInput) as error:
        merged(first, second)
    assert error.value.cause == (
        "8 cells are left after QC, 10 are needed. a: 30 of 30 removed (min_genes 30); b: 1 of 9 removed (no_counts 1)."
    )
    assert "min_genes" in error.value.remedy and "no_counts" not in error.value.remedy


def test_genes_that_differ_in_case(make, merged):
    human = ["ACTB", "CD4", "GCG", "INS", "SST"]
    matrix = cases.counts(12, 5, mean=3)
    samples = make("human", matrix, genes=human), make("mouse", matrix, genes=[name.capitalize() for name in human])
    with pytest.raises(InvalidInput, match="5 are when case is ignored: symbols of different organisms"):
        merged(*samples, join="inner")
    _, warnings = merged(*samples, join="outer")
    assert any("no gene is in all samples" in w for w in warnings)


def test_too_few_genes(make, merged):
    with pytest.raises(InvalidInput, match="1 of 1 genes|0 of 1 genes"):
        merged(make("a", sp.csr_matrix(np.ones((20, 1), dtype=np.float32))))


def test_a_delta_of_another_store(make, merged):
    first, second = make("a", cases.counts(12, 20)), make("b", cases.counts(12, 20, seed=1))
    with pytest.raises(InvalidInput, match=r"b.qc.h5ad: made by qc:b from another file than a.store.h5ad"):
        merged((first[0], second[1]), (second[0], first[1]))


def test_a_repeated_sample(make, merged):
    only = make("a", cases.counts(12, 20))
    with pytest.raises(InvalidInput, match="sample 'a' comes more than once"):
        merged(only, only)


def test_large_counts_get_a_wide_dtype(make, merged):
    matrix = cases.counts(12, 20, mean=3)
    matrix.data[0] = 100_000
    store, _ = merged(make("a", matrix), min_cells=0)
    assert store.data.dtype == np.uint32 and store.data.max() == 100_000


def test_the_image_of_the_tissue_goes_along(tmp_path, merged):
    from PIL import Image

    from rsc_core.stages import assemble, preprocess

    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    png = tmp_path / "a.png"
    Image.fromarray(picture).save(png)
    visium = {"scalefactors": {"tissue_lowres_scalef": 0.05}, "lowres_png": np.frombuffer(png.read_bytes(), dtype=np.uint8)}
    samples = []
    for name, uns in (("a", {"visium": visium}), ("b", None)):
        store, delta = tmp_path / f"{name}.store.h5ad", tmp_path / f"{name}.qc.h5ad"
        cases.store(store, cases.counts(20, 60, mean=2), name, uns=uns)
        qc.run(store=store, sample=name, output=delta, **OFF)
        samples.append((store, delta))
    store, _ = merged(*samples)
    preprocess.run(store=store.path, output=tmp_path / "preprocess.h5ad", n_comps=3)
    assemble.run(store=store.path, delta=[tmp_path / "preprocess.h5ad"], output=tmp_path / "adata.h5ad")
    library = ad.read_h5ad(tmp_path / "adata.h5ad").uns["spatial"]
    assert list(library) == ["a"] and library["a"]["scalefactors"] == {"tissue_lowres_scalef": 0.05}
    np.testing.assert_array_equal(library["a"]["images"]["lowres"], picture)
