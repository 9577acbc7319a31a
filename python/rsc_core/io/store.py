"""The counts store: a valid ``.h5ad`` whose X is laid out to be mapped.

X is CSR in contiguous, uncompressed datasets with the smallest dtypes that hold the values (uint16 or uint32 counts,
uint16 or int32 indices, int64 indptr). anndata reads it; :class:`CountsStore` maps it, which takes no time and no
memory, and hands out row blocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.experimental import read_dispatched
from anndata.io import read_elem, write_elem

from rsc_core import backend
from rsc_core.errors import InvalidInput
from rsc_core.io.files import digest_of_names, replaced

BLOCK_NNZ = 1 << 27  # non-zeros of a row block: 0.5 GB in the store, 1.6 GB as float64 with int32 indices
WRITTEN_AT_ONCE = 1 << 22  # non-zeros
_SLOTS = ("layers", "obsm", "varm", "obsp", "varp")


def smallest_count_dtype(largest: int) -> np.dtype:
    """uint16 or uint32, whichever holds the largest count."""
    return np.dtype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32)


def create_csr(parent, key: str, shape, nnz: int, value_dtype, index_dtype):
    """A group that anndata reads as a CSR matrix, with its arrays ``data`` and ``indices`` to be filled; ``indptr`` is to be added.

    ``parent`` is a group of h5py or of zarr.
    """
    group = parent.create_group(key)
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [int(n) for n in shape]})
    add_array(group, "data", shape=(nnz,), dtype=value_dtype)
    add_array(group, "indices", shape=(nnz,), dtype=index_dtype)
    return group


def add_array(group, key: str, **options) -> None:
    """Add an array to a group of h5py or of zarr, of ``shape`` and ``dtype`` or of ``data``."""
    (group.create_dataset if isinstance(group, h5py.Group) else group.create_array)(key, **options)


def write_store(
    path,
    blocks: Iterable[sp.csr_matrix],
    *,
    nnz: int,
    count_dtype,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    obsm: dict | None = None,
    uns: dict | None = None,
    record: dict | None = None,
) -> None:
    """Write a counts store from row blocks.

    Parameters
    ----------
    path
        File to write; it appears whole or not at all.
    blocks
        CSR matrices (rows of the block, genes), in the order of ``obs``.
    nnz
        Number of non-zeros of all blocks together.
    count_dtype
        Integer dtype of the counts (see :func:`smallest_count_dtype`).
    obs, var
        Annotation of cells and genes; their indices are the names.
    obsm
        Arrays (cells, n), for example ``spatial``.
    uns
        Small things that belong to the whole, for example a picture.
    record
        What made the file, kept as JSON in ``uns['rsc_core']``.

    Raises
    ------
    ValueError
        When the blocks do not have the stated number of rows or non-zeros.
    """
    index_dtype = np.dtype(np.uint16 if len(var) <= 1 << 16 else np.int32)
    with replaced(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        x = create_csr(file, "X", (len(obs), len(var)), nnz, count_dtype, index_dtype)
        data, indices = x["data"], x["indices"]
        indptr = np.zeros(len(obs) + 1, dtype=np.int64)
        digests, row, filled = (hashlib.sha256(), hashlib.sha256()), 0, 0  # one a dataset: the cut into blocks must not show
        with ThreadPoolExecutor(len(digests)) as pool:  # hashing takes as long as writing; neither holds the interpreter
            for block in blocks:
                for start in range(0, block.nnz, WRITTEN_AT_ONCE):
                    part = slice(start, start + WRITTEN_AT_ONCE)
                    values, columns = block.data[part].astype(count_dtype, copy=False), block.indices[part].astype(index_dtype)
                    hashing = [pool.submit(digest.update, some) for digest, some in zip(digests, (values, columns), strict=True)]
                    here = slice(filled + start, filled + start + len(values))
                    data[here], indices[here] = values, columns
                    for done in hashing:
                        done.result()
                indptr[row + 1 : row + 1 + block.shape[0]] = filled + block.indptr[1:].astype(np.int64)
                row, filled = row + block.shape[0], filled + block.nnz
        if (row, filled) != (len(obs), nnz):
            raise ValueError(f"{row} rows and {filled} non-zeros came; {len(obs)} and {nnz} were announced")
        counts_digest = hashlib.sha256(b"".join(digest.digest() for digest in digests) + indptr.tobytes()).hexdigest()
        x.create_dataset("indptr", data=indptr)
        write_elem(file, "obs", obs)
        write_elem(file, "var", var)
        for slot in _SLOTS:
            write_elem(file, slot, (obsm or {}) if slot == "obsm" else {})
        record = {**(record or {}), "n_obs": len(obs), "obs_digest": digest_of_names(obs.index), "counts_digest": counts_digest}
        write_elem(file, "uns", {**(uns or {}), "rsc_core": {"store": json.dumps(record, sort_keys=True)}})


def read_element(element):
    """An element of a file as anndata reads it."""
    return read_dispatched(element, _read)


def _read(read, key, element, *, iospec):
    """An element as anndata reads it; strings that Arrow will hold go there at once, not by way of Python's."""
    if iospec.encoding_type != "nullable-string-array" or pd.StringDtype().storage != "pyarrow":
        return read(element)
    import pyarrow as pa

    return pd.arrays.ArrowStringArray(pa.array(element["values"][()], pa.large_string(), mask=element["mask"][()]))


class CountsStore:
    """A counts store, mapped into memory for reading.

    Parameters
    ----------
    path
        A file that :func:`write_store` wrote.

    Attributes
    ----------
    shape : (cells, genes)
    indptr : int64 (cells + 1,)
    indices : uint16 or int32 (nnz,), a map of the file
    data : uint16 or uint32 (nnz,), a map of the file
    record : what made the file

    Raises
    ------
    InvalidInput
        When the file is no counts store.
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            with h5py.File(self.path) as file:
                self.record = json.loads(read_elem(file["uns/rsc_core/store"]))
                x = file["X"]
                self.shape = tuple(int(n) for n in x.attrs["shape"])
                self.indptr = x["indptr"][:]
                self.indices, self.data = self._mapped(x["indices"]), self._mapped(x["data"])
        except (OSError, KeyError) as error:
            raise InvalidInput(f"{self.path.name}: not a counts store ({error}).", "Make one from your file with bin/ingest.py.") from error

    def _mapped(self, dataset):
        if dataset.size == 0:
            return np.empty(0, dtype=dataset.dtype)
        return np.memmap(self.path, dtype=dataset.dtype, mode="r", offset=dataset.id.get_offset(), shape=dataset.shape)

    def _element(self, key):
        with h5py.File(self.path) as file:
            return read_element(file[key])

    @property
    def obs(self) -> pd.DataFrame:
        """Annotation of the cells, read at each access."""
        return self._element("obs")

    @property
    def var(self) -> pd.DataFrame:
        """Annotation of the genes, read at each access."""
        return self._element("var")

    @property
    def obsm(self) -> dict:
        """Arrays of the cells, read at each access."""
        return self._element("obsm")

    @property
    def uns(self) -> dict:
        """What belongs to the whole, without the record, read at each access."""
        return {key: value for key, value in self._element("uns").items() if key != "rsc_core"}

    @property
    def digest(self) -> str:
        """SHA-256 of the counts and the cells' names."""
        return hashlib.sha256((self.record["counts_digest"] + self.record["obs_digest"]).encode()).hexdigest()

    def rows(self, start: int, stop: int) -> sp.csr_matrix:
        """The counts of cells ``start`` to ``stop`` as a CSR matrix of the host, int32 indices, counts as stored."""
        here = slice(self.indptr[start], self.indptr[stop])
        return sp.csr_matrix(
            (np.asarray(self.data[here]), self.indices[here].astype(np.int32), self.indptr[start : stop + 1] - self.indptr[start]),
            shape=(stop - start, self.shape[1]),
        )

    def device_rows(self, start: int, stop: int, backend_name: str):
        """:meth:`rows` on a backend, counts as float32: copied as stored, in half the bytes, and widened there."""
        here = slice(self.indptr[start], self.indptr[stop])
        values, indices = (backend.upload(part[here], backend_name, dtype) for part, dtype in ((self.data, "f4"), (self.indices, "i4")))
        indptr = self.indptr[start : stop + 1] - self.indptr[start]
        narrow = indptr[-1] <= np.iinfo(np.int32).max  # CuPy looks through wide offsets for whether they could be narrow
        indptr = backend.to_device(indptr.astype(np.int32) if narrow else indptr, backend_name)
        return backend.sparse_of(backend.xp_of(values)).csr_matrix((values, indices, indptr), shape=(stop - start, self.shape[1]))

    def counts(self) -> sp.csr_matrix:
        """All counts as one CSR matrix of the host."""
        return self.rows(0, self.shape[0])

    def blocks(self, max_nnz: int = BLOCK_NNZ, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, sp.csr_matrix]]:
        """Row blocks ``(start, stop, counts)`` of at most ``max_nnz`` non-zeros (one cell at least), in order, of some cells or all."""
        for first, stop in self.spans(max_nnz, start, end):
            yield first, stop, self.rows(first, stop)

    def spans(self, max_nnz: int = BLOCK_NNZ, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """First row and end of each block of :meth:`blocks`."""
        end = self.shape[0] if end is None else end
        while start < end:
            stop = int(np.searchsorted(self.indptr, self.indptr[start] + max_nnz, side="right")) - 1
            stop = min(max(stop, start + 1), end)
            yield start, stop
            start = stop
