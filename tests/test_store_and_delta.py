"""The counts store and the delta: read back what was written, valid for anndata, same bytes, whole or not at all."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rsc_core import backend, data
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import Delta, digest_of, read_delta, write_delta
from rsc_core.io.files import replaced
from rsc_core.io.store import CountsStore, smallest_count_dtype, write_store


def counts(n_cells=300, n_genes=70, largest=9):
    generator = np.random.default_rng(1)
    dense = generator.integers(0, largest + 1, (n_cells, n_genes)) * (generator.random((n_cells, n_genes)) < 0.2)
    dense[5], dense[0, 0] = 0, largest
    return sp.csr_matrix(dense.astype(np.float32))


def annotation(n, prefix):
    return pd.DataFrame({"label": pd.Categorical(np.arange(n).astype(str))}, index=[f"{prefix}{i}" for i in range(n)])


def write(path, matrix, n_blocks=1):
    cuts = np.linspace(0, matrix.shape[0], n_blocks + 1).astype(int)
    blocks = [matrix[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    largest = int(matrix.data.max(initial=0))
    write_store(
        path,
        blocks,
        nnz=matrix.nnz,
        count_dtype=smallest_count_dtype(largest),
        obs=annotation(matrix.shape[0], "c"),
        var=annotation(matrix.shape[1], "g"),
    )


@pytest.mark.parametrize("largest", [9, 65535, 65536])
def test_anndata_and_the_store_read_the_same(tmp_path, largest):
    matrix = counts(largest=largest)
    write(tmp_path / "a.h5ad", matrix)
    store, theirs = CountsStore(tmp_path / "a.h5ad"), ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(theirs.X.toarray(), matrix.toarray())
    np.testing.assert_array_equal(store.counts().toarray(), matrix.toarray())
    pd.testing.assert_frame_equal(store.obs, theirs.obs)
    assert store.data.dtype == (np.uint16 if largest < 65536 else np.uint32)
    assert store.indices.dtype == np.uint16 and store.indptr.dtype == np.int64


@pytest.mark.parametrize("rows", [None, slice(20, 90), [7], [3, 250, 17], np.arange(300) % 3 == 0, [], slice(0, 300)], ids=range(7))
def test_loaded_cells_are_those_of_the_store(tmp_path, backend_name, rows):
    matrix = counts(largest=70_000)
    write(tmp_path / "a.h5ad", matrix)
    store, wanted = CountsStore(tmp_path / "a.h5ad"), matrix if rows is None else matrix[rows]
    loaded = data.load(store, backend_name, rows)
    assert (loaded.X.dtype, loaded.X.indices.dtype) == (np.float32, np.int32)
    assert backend.xp_of(loaded.X) is backend.namespace(backend_name)
    np.testing.assert_array_equal(backend.to_host(loaded.X).toarray(), wanted.toarray())
    assert list(loaded.obs_names) == list(store.obs.index if rows is None else store.obs.iloc[rows].index)


@pytest.mark.parametrize("size", [0, 1, 3, 1000, 100_003])
def test_uploads_are_casts(backend_name, monkeypatch, size):
    monkeypatch.setattr(backend, "PINNED", 1 << 14)
    stored = (np.arange(size) % 65_536).astype(np.uint16)
    moved = backend.upload(stored, backend_name, np.float32)
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(backend.to_host(moved), stored.astype(np.float32))


@pytest.mark.parametrize("storage", ["python", "pyarrow"])
def test_nullable_strings_are_read_as_by_anndata(tmp_path, storage):
    with pd.option_context("mode.string_storage", storage), ad.settings.override(allow_write_nullable_strings=True):
        table = pd.DataFrame({"name": pd.array(["α", None, "", "b"], dtype="string"), "n": [1, 2, 3, 4]})
        table.index = pd.Index(["w", "x", "y", "z"], dtype="string")
        write_store(tmp_path / "a.h5ad", [counts()[:4]], nnz=counts()[:4].nnz, count_dtype="u2", obs=table, var=annotation(70, "g"))
        theirs = ad.read_h5ad(tmp_path / "a.h5ad").obs
        pd.testing.assert_frame_equal(CountsStore(tmp_path / "a.h5ad").obs, theirs)
        assert theirs["name"].dtype.storage == storage


def test_number_of_blocks_changes_no_byte(tmp_path):
    for n_blocks in (1, 7, 300):
        write(tmp_path / f"{n_blocks}.h5ad", counts(), n_blocks)
    assert (tmp_path / "1.h5ad").read_bytes() == (tmp_path / "7.h5ad").read_bytes() == (tmp_path / "300.h5ad").read_bytes()


@pytest.mark.parametrize("max_nnz", [1, 50, 1000, 10**9])
def test_blocks_cover_every_cell_once(tmp_path, max_nnz):
    matrix = counts()
    write(tmp_path / "a.h5ad", matrix)
    blocks = list(CountsStore(tmp_path / "a.h5ad").blocks(max_nnz))
    assert [b[0] for b in blocks] == [0, *(b[1] for b in blocks[:-1])] and blocks[-1][1] == 300
    assert all(block.nnz <= max_nnz or stop - start == 1 for start, stop, block in blocks)
    np.testing.assert_array_equal(sp.vstack([b[2] for b in blocks]).toarray(), matrix.toarray())


def test_a_store_without_counts(tmp_path):
    write(tmp_path / "a.h5ad", sp.csr_matrix((3, 2), dtype=np.float32))
    assert CountsStore(tmp_path / "a.h5ad").counts().nnz == 0


def test_announced_size_must_come(tmp_path):
    matrix = counts()
    with pytest.raises(ValueError, match="299 rows"):
        write_store(
            tmp_path / "a.h5ad",
            [matrix[:299]],
            nnz=matrix[:299].nnz,
            count_dtype=np.uint16,
            obs=annotation(300, "c"),
            var=annotation(70, "g"),
        )
    assert not list(tmp_path.iterdir())


def test_another_h5ad_is_no_store(tmp_path):
    ad.AnnData(counts()).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InvalidInput, match=r"a\.h5ad: not a counts store"):
        CountsStore(tmp_path / "a.h5ad")


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError), replaced(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


def delta():
    obs = annotation(4, "c")
    return Delta(
        "embed",
        obs,
        annotation(2, "g"),
        obsm={"X_umap": np.arange(8, dtype=np.float32).reshape(4, 2)},
        obsp={"connectivities": sp.csr_matrix(np.eye(4, dtype=np.float32))},
        uns={"umap": {"params": {"a": 0.5}}},
        record={"seed": 0, "parents": {"x": "d"}},
    )


def test_delta_comes_back(tmp_path):
    write_delta(tmp_path / "d.h5ad", delta())
    back = read_delta(tmp_path / "d.h5ad")
    assert back.stage == "embed" and back.record["seed"] == 0 and back.record["n_obs"] == 4
    pd.testing.assert_frame_equal(back.obs, delta().obs)
    np.testing.assert_array_equal(back.obsm["X_umap"], delta().obsm["X_umap"])
    assert (back.obsp["connectivities"] != delta().obsp["connectivities"]).nnz == 0
    assert back.uns == delta().uns
    assert ad.read_h5ad(tmp_path / "d.h5ad").X is None


def test_delta_has_the_same_bytes_again(tmp_path):
    for name in "ab":
        write_delta(tmp_path / name, delta())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_changed_cells_are_noticed(tmp_path):
    write_delta(tmp_path / "d.h5ad", delta())
    adata = ad.read_h5ad(tmp_path / "d.h5ad")
    adata.obs_names = ["c1", "c0", "c2", "c3"]
    adata.write_h5ad(tmp_path / "d.h5ad")
    with pytest.raises(InvalidInput, match="its cells are not those that embed wrote"):
        read_delta(tmp_path / "d.h5ad")


def test_no_delta(tmp_path):
    (tmp_path / "d.h5ad").write_text("text")
    with pytest.raises(InvalidInput, match=r"d\.h5ad: not a delta"):
        read_delta(tmp_path / "d.h5ad")


def test_digest_follows_the_content(tmp_path):
    matrix = counts()
    write(tmp_path / "a.h5ad", matrix)
    before = digest_of(tmp_path / "a.h5ad")
    matrix.data[-1] += 1
    write(tmp_path / "a.h5ad", matrix)
    assert digest_of(tmp_path / "a.h5ad") != before
