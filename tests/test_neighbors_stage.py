"""The NEIGHBORS stage: searches, weights, and batch-balanced neighbours, as bin/neighbors.py offers them."""

import json
import runpy
from pathlib import Path

import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from rsc_core.errors import InvalidInput
from rsc_core.io.delta import Delta, read_delta, write_delta

BIN = Path(__file__).parents[1] / "bin"
N_CELLS = 120


@pytest.fixture
def stage(tmp_path, backend_name):
    """Runs the script on 120 cells of two batches; returns the delta and its run record."""
    random = np.random.default_rng(0)
    batch = np.repeat(["one", "two"], N_CELLS // 2)
    cells = [f"c{i}" for i in range(N_CELLS)]
    cases.store(tmp_path / "merged.h5ad", sp.csr_matrix(np.ones((N_CELLS, 3), dtype=np.float32)), "s", cells=cells, donor=batch)
    x = (random.normal(size=(N_CELLS, 5)) + 3 * (batch == "two")[:, None]).astype(np.float32)
    obs = pd.DataFrame(index=pd.Index(cells, dtype=object))
    write_delta(tmp_path / "preprocess.h5ad", Delta("preprocess", obs, obsm={"X_pca": x}))
    script = runpy.run_path(str(BIN / "neighbors.py"))["neighbors"]
    paths = ["--representation", tmp_path / "preprocess.h5ad", "--store", tmp_path / "merged.h5ad", "--output", tmp_path / "neighbors.h5ad"]

    def run(*options):
        CliRunner().invoke(script, [*map(str, paths), "--backend", backend_name, *options], catch_exceptions=False, standalone_mode=False)
        return read_delta(tmp_path / "neighbors.h5ad"), json.loads((tmp_path / "neighbors.h5ad.run.json").read_text())

    return run


def test_search_and_weights_are_recorded(stage):
    delta, _ = stage("--metric", "correlation", "--neighbors-method", "jaccard", "--neighbors-algorithm", "ivf", "--seed", "4")
    params = delta.uns["neighbors"]["params"]
    assert (params["metric"], params["method"], params["algorithm"], params["random_state"]) == ("correlation", "jaccard", "ivf", 4)
    assert params["recall"] >= 0.99
    assert list(delta.obs.columns) == []


def test_bbknn_takes_the_batches_of_the_store(stage):
    delta, _ = stage("--integration", "bbknn", "--batch-key", "donor", "--neighbors-within-batch", "4", "--trim", "9")
    params = delta.uns["neighbors"]["params"]
    assert (params["n_neighbors"], params["batch_key"], params["trim"]) == (8, "donor", 9)
    second = np.arange(N_CELLS) >= N_CELLS // 2
    distances = delta.obsp["distances"]
    assert all(second[distances[cell].indices].sum() == 4 - second[cell] for cell in range(N_CELLS))
    assert list(delta.obs.columns) == []


def test_bbknn_of_one_batch_says_so(stage):
    delta, run = stage("--integration", "bbknn", "--batch-key", "sample")
    assert "one batch" in run["warnings"][0]
    assert delta.uns["neighbors"]["params"]["n_neighbors"] == 15


def test_what_cannot_be_used_is_refused(stage):
    with pytest.raises(InvalidInput, match="no column 'tissue'"):
        stage("--integration", "bbknn", "--batch-key", "tissue")
    with pytest.raises(InvalidInput, match="has 60 cells"):
        stage("--integration", "bbknn", "--batch-key", "donor", "--neighbors-within-batch", "61")
