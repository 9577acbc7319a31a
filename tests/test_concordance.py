"""CONCORDANCE: the verdicts, the choice of cells, and agreement with scanpy and harmonypy on real cells."""

import json

import numpy as np
import pandas as pd
import pytest

from rsc_core.stages import concordance
from rsc_core.stages.cluster import run as cluster
from rsc_core.stages.ingest import run as ingest
from rsc_core.stages.integrate import run as integrate
from rsc_core.stages.merge import run as merge
from rsc_core.stages.neighbors import run as neighbors
from rsc_core.stages.preprocess import run as preprocess
from rsc_core.stages.qc import run as qc


def test_every_stratum_gives_its_share():
    strata = pd.Series(["a"] * 700 + ["b"] * 295 + ["c"] * 5)
    rows = concordance.stratified(strata, 100, 0)
    assert strata.iloc[rows].value_counts().to_dict() == {"a": 70, "b": 30, "c": 1}
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, concordance.stratified(strata, 100, 0))
    assert not np.array_equal(rows, concordance.stratified(strata, 100, 1))
    assert len(concordance.stratified(strata, 5000, 0)) == 1000


def test_the_angle_of_spaces():
    a, b = np.eye(4)[:, :2], np.eye(4)[:, :2].copy()
    b[:, 1] = [0, np.cos(np.deg2rad(30)), np.sin(np.deg2rad(30)), 0]
    assert concordance.angle(a, a @ [[0.6, 0.8], [-0.8, 0.6]]) == pytest.approx(0, abs=1e-6)
    assert concordance.angle(a, b) == pytest.approx(30)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the stages up to CLUSTER on 600 real cells of two libraries."""
    from conftest import DATA

    folder = tmp_path_factory.mktemp("concordance")
    stores, qcs = [], []
    for name in ("lib1", "lib2"):
        stores.append(folder / f"{name}.store.h5ad")
        qcs.append(folder / f"{name}.qc.h5ad")
        ingest(input=DATA / f"pancreas_{name}.h5ad", sample=name, output=stores[-1])
        qc(store=stores[-1], output=qcs[-1], sample=name)
    merge(store=stores, qc=qcs, output=folder / "counts.store.h5ad")
    preprocess(store=folder / "counts.store.h5ad", output=folder / "pre.h5ad")
    integrate(store=folder / "counts.store.h5ad", preprocess=folder / "pre.h5ad", output=folder / "int.h5ad")
    neighbors(representation=folder / "int.h5ad", output=folder / "nn.h5ad")
    cluster(neighbors=folder / "nn.h5ad", output=folder / "cluster.h5ad")
    return folder


def test_agrees_with_the_reference_or_the_other_backend(finished, backend_name, tmp_path):
    options = {"store": finished / "counts.store.h5ad", "cluster": finished / "cluster.h5ad", "concordance_cells": 600}
    concordance.run(**options, output=tmp_path / "concordance.csv", backend=backend_name)
    table = pd.read_csv(tmp_path / "concordance.csv").set_index("figure")
    assert set(table.index) == set(concordance.LIMITS)
    # Leiden of scanpy is another algorithm: its two lines may be amber. Harmony differs in its first clusters.
    strict = table.drop(index=[i for i in table.index if i.startswith(("ARI", "smallest correlation"))]) if backend_name == "cpu" else table
    assert (strict["verdict"] == "green").all(), table.to_string()
    assert (table["verdict"] != "red").all(), table.to_string()
    assert json.loads((tmp_path / "concordance.csv.run.json").read_text())["stage"] == "concordance"


def test_a_difference_is_seen(finished, tmp_path, monkeypatch):
    """A side with a fault: its neighbours are those of other components, its clusters follow."""
    plain = concordance.Reference.components
    monkeypatch.setattr(concordance.Reference, "components", lambda self, x, genes: plain(self, x, genes)[:, ::-1] ** 3)
    options = {"store": finished / "counts.store.h5ad", "cluster": finished / "cluster.h5ad", "concordance_cells": 300}
    concordance.run(**options, output=tmp_path / "concordance.csv")
    table = pd.read_csv(tmp_path / "concordance.csv").set_index("figure")
    assert table.loc["largest angle of the components (degrees)", "verdict"] == "red"
    assert table.loc["overlap of variable genes", "verdict"] == "green"
