"""Results of single samples as one: rows of all samples, the graph's library_key; one sample keeps its own."""

from types import SimpleNamespace

import pandas as pd

from rsc_core.stages._samples import merged


def part(sample, scores):
    uns = {"spatial_neighbors": {"connectivities_key": "c", "params": {"n_neighbors": 6}}} if sample else {}
    uns |= {"moranI": pd.DataFrame({"I": scores}, index=["g1", "g0"])} if sample else {}
    return SimpleNamespace(sample=sample, delta=SimpleNamespace(uns=uns))


def test_two_samples():
    adata = SimpleNamespace(uns={})
    tables = merged(adata, [part("", []), part("x", [0.5, 0.1]), part("y", [0.4, 0.2])], 2)
    assert list(tables) == ["moran"] and list(tables["moran"]) == ["gene", "sample", "I"]
    assert tables["moran"].to_numpy().tolist() == [["g1", "x", 0.5], ["g0", "x", 0.1], ["g1", "y", 0.4], ["g0", "y", 0.2]]
    assert adata.uns["moranI"].index.tolist() == ["0", "1", "2", "3"]
    assert adata.uns["spatial_neighbors"]["params"] == {"n_neighbors": 6, "library_key": "sample"}


def test_one_sample_and_none():
    adata = SimpleNamespace(uns={"moranI": "its own"})
    assert len(merged(adata, [part("x", [0.5, 0.1])], 1)["moran"]) == 2 and adata.uns == {"moranI": "its own"}
    assert merged(adata, [part("", [])], 0) == {}
