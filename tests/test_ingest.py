"""INGEST: what it refuses, with which message and exit code, and that it keeps every count."""

import hashlib
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rsc_core.io.files import digest_of_path
from rsc_core.io.store import CountsStore

SCRIPT = Path(__file__).parents[1] / "bin" / "ingest.py"


def small(values=None):
    """Four cells, three genes; cell c1 has no counts."""
    values = np.array([[1, 0, 2], [0, 0, 0], [0, 70000, 0], [5, 0, 1]], dtype=np.float32) if values is None else values
    return ad.AnnData(
        X=sp.csr_matrix(values),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(values.shape[0])]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(values.shape[1])]),
    )


def ingest(path, output, *arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, "--input", path, "--sample", "s1", "--output", output, *arguments], capture_output=True, text=True
    )


def altered(row, column, value):
    values = small().X.toarray()
    values[row, column] = value
    return small(values)


def without_x():
    adata = small()
    adata.layers["raw counts"], adata.X = adata.X, None
    return adata


def named(obs=None, var=None):
    adata = small()
    if obs:
        adata.obs_names = obs
    if var:
        adata.var_names = var
    return adata


BAD = {
    "negative": (altered(3, 1, -1), ["cell 'c3'", "gene 'g1'", "-1.0 is negative", "--counts-layer"]),
    "nan": (altered(0, 2, np.nan), ["cell 'c0'", "gene 'g2'", "nan is not a number"]),
    "infinite": (altered(0, 2, np.inf), ["inf is not a number"]),
    "fractional": (altered(2, 0, 0.5), ["cell 'c2'", "gene 'g0'", "0.5 is not a whole number", "--counts-layer", "layers: none"]),
    "too large": (altered(2, 0, 1e10), ["is larger than 4294967295"]),
    "no X": (without_x(), ["X is missing", "layers: raw counts", "--counts-layer"]),
    "repeated cells": (named(obs=["a", "b", "a", "c"]), ["cell names repeat", "'a'", "obs_names_make_unique"]),
    "repeated genes": (named(var=["TP53", "x", "TP53"]), ["gene names repeat", "'TP53'", "var_names_make_unique"]),
    "no cells": (small()[:0].copy(), ["has no cells", "(0, 3)"]),
    "no genes": (small()[:, :0].copy(), ["has no genes", "(4, 0)"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_content_is_refused(tmp_path, case):
    adata, words = BAD[case]
    adata.write_h5ad(tmp_path / "bad.h5ad")
    done = ingest(tmp_path / "bad.h5ad", tmp_path / "out.h5ad")
    assert done.returncode == 65, done.stderr
    error, remedy = done.stderr.splitlines()[-2:]
    assert error.startswith("error: bad.h5ad: ") and remedy.startswith("remedy: ")
    for word in words:
        assert word in error + remedy
    assert list(tmp_path.iterdir()) == [tmp_path / "bad.h5ad"]  # nothing half-written is left


def test_not_an_h5ad(tmp_path):
    (tmp_path / "text.h5ad").write_text("cell,gene\n")
    done = ingest(tmp_path / "text.h5ad", tmp_path / "out.h5ad")
    assert done.returncode == 65 and "text.h5ad: cannot be read as .h5ad" in done.stderr


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.95])
def test_truncated_file(tmp_path, data_dir, kept):
    whole = (data_dir / "visium_prostate_normal.h5ad").read_bytes()
    (tmp_path / "cut.h5ad").write_bytes(whole[: int(kept * len(whole))])
    done = ingest(tmp_path / "cut.h5ad", tmp_path / "out.h5ad")
    assert done.returncode == 65 and "cut.h5ad: cannot be read as .h5ad" in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1].startswith("remedy: ")


def test_unknown_format_and_layer(tmp_path):
    small().write_h5ad(tmp_path / "a.h5ad")
    (tmp_path / "a.xyz").write_bytes((tmp_path / "a.h5ad").read_bytes())
    done = ingest(tmp_path / "a.xyz", tmp_path / "out.h5ad")
    assert done.returncode == 65 and "a.xyz" in done.stderr and "--format" in done.stderr
    assert ingest(tmp_path / "a.xyz", tmp_path / "out.h5ad", "--format", "h5ad").returncode == 0
    done = ingest(tmp_path / "a.h5ad", tmp_path / "out.h5ad", "--counts-layer", "counts")
    assert done.returncode == 65 and "no layer 'counts'" in done.stderr


def test_usage_error_is_2(tmp_path):
    assert ingest(tmp_path / "absent.h5ad", tmp_path / "out.h5ad").returncode == 2


@pytest.mark.parametrize("name", ["mit Leerzeichen.h5ad", "naïve Zellen β-µ.h5ad", "$(touch x); 'q'.h5ad"])
def test_names_of_files(tmp_path, name):
    small().write_h5ad(tmp_path / name)
    assert ingest(tmp_path / name, tmp_path / "out.h5ad").returncode == 0


@pytest.mark.parametrize(
    "container", [sp.csr_matrix, sp.csc_matrix, lambda m: m.toarray(), lambda m: m.astype(np.int64), lambda m: m.astype(np.float64)]
)
def test_every_count_arrives(tmp_path, container):
    adata = small()
    expected = adata.X.toarray()
    adata.X = container(adata.X)
    adata.layers["counts"] = adata.X.copy()
    adata.obsm["spatial"] = np.arange(8.0).reshape(4, 2)
    adata.write_h5ad(tmp_path / "a.h5ad")
    done = ingest(
        tmp_path / "a.h5ad", tmp_path / "out.h5ad", "--counts-layer", "counts", "--annotation", "donor=d=1", "--annotation", "age=5"
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 4 cells have no counts (first: 'c1')" in done.stderr
    store = CountsStore(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(store.counts().toarray(), expected)
    assert store.data.dtype == np.uint32  # 70000 does not fit uint16
    assert store.obs[["sample", "donor", "age"]].iloc[0].tolist() == ["s1", "d=1", "5"]
    np.testing.assert_array_equal(store.obsm["spatial"], adata.obsm["spatial"])


def test_coordinate_that_is_missing(tmp_path):
    adata = small()
    adata.obsm["spatial"] = np.array([[0, 1], [1, np.nan], [2, 2], [3, 3]])
    adata.write_h5ad(tmp_path / "a.h5ad")
    done = ingest(tmp_path / "a.h5ad", tmp_path / "out.h5ad")
    assert done.returncode == 65 and "obsm['spatial'] of cell 'c1'" in done.stderr


def test_explicit_zeros_and_duplicates_are_folded(tmp_path):
    adata = small()
    adata.X = sp.csr_matrix((np.array([1.0, 2, 0, 4]), np.array([2, 2, 1, 0]), np.array([0, 2, 3, 4, 4])), shape=(4, 3))
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert ingest(tmp_path / "a.h5ad", tmp_path / "out.h5ad").returncode == 0
    store = CountsStore(tmp_path / "out.h5ad")
    assert store.data.tolist() == [3, 4] and store.indices.tolist() == [2, 0]


def test_the_input_is_identified(tmp_path):
    """By SHA-256 of the file; of a folder by names and contents of its files, wherever it lies."""
    small().write_h5ad(tmp_path / "a.h5ad")
    assert ingest(tmp_path / "a.h5ad", tmp_path / "out.h5ad").returncode == 0
    digest = hashlib.sha256((tmp_path / "a.h5ad").read_bytes()).hexdigest()
    assert CountsStore(tmp_path / "out.h5ad").record["input"] == {"name": "a.h5ad", "sha256": digest}
    for folder, text in (("one", "x"), ("two", "x"), ("three", "y")):
        (tmp_path / folder / "in").mkdir(parents=True)
        (tmp_path / folder / "in" / "f").write_text(text)
    one, two, three = (digest_of_path(tmp_path / folder) for folder in ("one", "two", "three"))
    assert one == two != three
