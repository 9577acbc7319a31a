"""ASSEMBLE: the counts store and all deltas to the one file that users open."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from rsc_core.errors import InvalidInput
from rsc_core.io.delta import Delta, read_delta
from rsc_core.io.files import ahead, replaced, replaced_folder
from rsc_core.io.store import WRITTEN_AT_ONCE, CountsStore, add_array, create_csr
from rsc_core.pp._normalize import lognorm
from rsc_core.stages import _samples
from rsc_core.stages._clusters import write_table
from rsc_core.stages._task import Task

SHOWN = 12  # hexadecimal digits of a digest in a message
BLOCK_NNZ = 1 << 24  # non-zeros of a row block: 0.4 GB of temporary arrays


@dataclasses.dataclass
class Part:
    """A delta, the file that it came from, its sample (empty: all cells), and the rows of the store that its cells are."""

    file: str
    delta: Delta
    sample: str
    rows: np.ndarray


def run(*, store, delta, output, tables=None, x_content="lognorm", formats=("h5ad",), run_record=(), provenance=None):
    """Put the deltas together with the counts.

    Parameters
    ----------
    store
        Merged counts store.
    delta
        Deltas of one run, in any order.
    output
        AnnData file to write.
    tables
        Folder for the tables of genes that samples share (``moran.csv``, ``geary.csv``, ``sepal.csv``); None: not written.
    x_content
        ``"lognorm"``: X holds log(1 + count / size factor), float32, and ``layers['counts']`` the counts; ``"counts"``: X
        holds the counts.
    formats
        ``"zarr"`` among them: the same as a folder beside ``output``, ``.zarr`` in place of its ending, for readers of object stores.
    run_record
        Run records of the tasks: backend, device and driver of each go to ``uns['rsc_core']['tasks']``.
    provenance
        JSON file of the run (parameters, revision, images), kept as ``uns['rsc_core']['run']``.

    Raises
    ------
    InvalidInput
        When a delta's cells are not cells of the store, when it was made from another file than the one given, or when
        two deltas fill the same slot differently; the message names the files.
    """
    task = Task("assemble", output, parameters={"x_content": x_content}, parents=[store, *delta])
    counts = CountsStore(store)
    with task.step("read"):
        adata, parts = annotated(counts, delta, task.record["parents"])
    with task.step("assemble"):
        for name, table in _samples.merged(adata, parts, number_of_samples(parts)).items():
            if tables is not None:
                write_table(tables, name, table)
        records = adata.uns["rsc_core"] | {"assemble": json.dumps(task.record, sort_keys=True)}
        records["tasks"] = json.dumps(devices_of(run_record), sort_keys=True)
        if provenance is not None:
            records["run"] = json.dumps(json.loads(Path(provenance).read_text()), sort_keys=True)
        adata.uns["rsc_core"] = records
        size_factor = None
        if x_content == "lognorm":
            size_factor = size_factors_of(adata)
            adata.uns["log1p"] = {}
    with task.step("write"), replaced(output) as temporary:
        write_h5ad(temporary, adata, counts, size_factor)
    if "zarr" in formats:
        with task.step("write zarr"), replaced_folder(Path(output).with_suffix(".zarr")) as temporary:
            write_zarr(temporary, adata, counts, size_factor)
    task.finish()


def annotated(counts: CountsStore, deltas, parents: dict[str, str], without=()) -> tuple[ad.AnnData, list[Part]]:
    """All that a run found out about its cells and genes, without the matrix; records of the store and the deltas in ``uns['rsc_core']``.

    Parameters
    ----------
    counts
        Merged counts store.
    deltas
        Paths.
    parents
        Digests of the files at hand by name.
    without
        What is left out of the deltas: see :func:`rsc_core.io.delta.read_delta`.

    Raises
    ------
    InvalidInput
        As :func:`run`.
    """
    obs = counts.obs
    parts = [read_part(path, obs.index, without) for path in deltas]
    check_parents(parts, parents)
    adata, owner, n_samples = ad.AnnData(obs=obs, var=counts.var, obsm=counts.obsm, uns=counts.uns), {}, number_of_samples(parts)
    for part in parts:
        place(adata, part, owner, suffix=f"_{part.sample}" if part.sample and n_samples > 1 else "")
    records = {part.delta.stage: json.dumps(part.delta.record, sort_keys=True) for part in parts}
    adata.uns["rsc_core"] = records | {"store": json.dumps(counts.record, sort_keys=True)}
    return adata, parts


def number_of_samples(parts: list[Part]) -> int:
    """Samples that have deltas of their own."""
    return len({part.sample for part in parts if part.sample})


def devices_of(run_records) -> dict[str, dict]:
    """Backend, device and driver of each task, by its stage; times differ from run to run and are left out."""
    runs = [json.loads(Path(path).read_text()) for path in run_records]
    return {run["stage"]: {key: run.get(key, "") for key in ("backend", "device", "driver")} for run in runs}


def read_part(path, cells: pd.Index, without=()) -> Part:
    """Read a delta and find its cells among those of the store."""
    delta, file = read_delta(path, without), Path(path).name
    _, _, sample = delta.stage.partition(":")
    rows = np.arange(len(cells)) if delta.obs.index.equals(cells) else cells.get_indexer(delta.obs.index)
    if (rows < 0).any() or (np.diff(rows) <= 0).any() or (not sample and len(rows) != len(cells)):
        missing = delta.obs.index[rows < 0]
        raise InvalidInput(
            f"{file}: its {len(rows)} cells are not the {len(cells)} cells of the counts store"
            + (f" (first that is not there: {missing[0]!r})." if len(missing) else "."),
            "Use the files of one run, or run the workflow again with -resume.",
        )
    return Part(file, delta, sample, rows)


def check_parents(parts: list[Part], given: dict[str, str]) -> None:
    """Refuse a delta that was made from another file than the one of that name here."""
    for part in parts:
        for name, digest in part.delta.record.get("parents", {}).items():
            if given.get(name, digest) != digest:
                raise InvalidInput(
                    f"{part.file}: it was made from another {name} ({digest[:SHOWN]}) than the one given ({given[name][:SHOWN]}).",
                    "Use the files of one run, or run the workflow again with -resume.",
                )


def place(adata, part: Part, owner: dict, suffix: str) -> None:
    """Write every slot of a delta into its place; cells of other samples get NaN, no edges, no values."""
    delta, whole = part.delta, not part.sample
    for column in delta.obs:
        values = delta.obs[column]
        _put(adata.obs, "obs", column, values if whole else values.reindex(adata.obs_names), part, owner)
    for column in delta.var:
        _put(adata.var, "var", column, delta.var[column].reindex(adata.var_names), part, owner)
    for key, value in delta.obsm.items():
        _put(adata.obsm, "obsm", key, value if whole else _expanded(value, part.rows, adata.obs_names), part, owner)
    for key, value in delta.varm.items():
        _put(adata.varm, "varm", key, value, part, owner)
    for key, value in delta.obsp.items():
        square = sp.csr_matrix(value)
        if whole:
            _put(adata.obsp, "obsp", key, square, part, owner)
            continue
        coo = square.tocoo()
        block = sp.csr_matrix((coo.data, (part.rows[coo.row], part.rows[coo.col])), shape=(adata.n_obs, adata.n_obs))
        adata.obsp[key] = block if key not in adata.obsp else (adata.obsp[key] + block).tocsr()
    for key, value in delta.uns.items():
        _put(adata.uns, "uns", key + suffix, value, part, owner)


def _put(slot, slot_name: str, key: str, value, part: Part, owner: dict) -> None:
    first = owner.setdefault((slot_name, key), part)
    if first is not part and not part.sample and not _equal(slot[key], value):
        raise InvalidInput(
            f"{part.file}: it fills {slot_name}[{key!r}] otherwise than {first.file} does.",
            "Give each delta of one run once.",
        )
    slot[key] = value if first is part or not part.sample else _filled(slot[key], value)


def _filled(held, value):
    """What a slot holds, with the values of another sample in the places that are missing; text of uns is taken as it comes."""
    if isinstance(held, np.ndarray) and held.dtype.kind == "f":
        return np.where(np.isnan(held), value, held)
    if isinstance(held, pd.Series) and isinstance(held.dtype, pd.CategoricalDtype):
        both = held.cat.categories.union(value.cat.categories, sort=False)
        return held.cat.set_categories(both).combine_first(value.cat.set_categories(both)).astype(pd.CategoricalDtype(both))
    return held.combine_first(value) if hasattr(held, "combine_first") else value


def _equal(a, b) -> bool:
    if hasattr(a, "equals"):
        return a.equals(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return np.array_equal(np.asarray(a), np.asarray(b))


def _expanded(value, rows, names):
    if isinstance(value, pd.DataFrame):
        return value.reindex(names)
    whole = np.full((len(names), *value.shape[1:]), np.nan, dtype=np.result_type(value.dtype, np.float32))
    whole[rows] = value
    return whole


def size_factors_of(adata) -> np.ndarray:
    """PREPROCESS's size factors, float64 (cells,)."""
    if "size_factor" not in adata.obs:
        raise InvalidInput(
            "no delta has obs['size_factor'], which log-normalised values need.", "Give PREPROCESS's delta, or --x-content counts."
        )
    return adata.obs["size_factor"].to_numpy()


def write_h5ad(path, adata, counts: CountsStore, size_factor: np.ndarray | None) -> None:
    """Write an annotation without X and the matrices of :func:`write_matrices` to a file."""
    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        write_matrices(file, counts, size_factor)


def write_zarr(path, adata, counts: CountsStore, size_factor: np.ndarray | None) -> None:
    """Write the same to a folder, in zarr's format 2, which older readers know too."""
    import zarr

    with ad.settings.override(zarr_write_format=2), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that format 3 will be the default
        adata.write_zarr(path)
    file = zarr.open_group(path, mode="r+", use_consolidated=False)
    write_matrices(file, counts, size_factor)
    zarr.consolidate_metadata(file.store)


def write_matrices(file, counts: CountsStore, size_factor: np.ndarray | None) -> None:
    """Add X, and for log-normalised values ``layers['counts']``, in row blocks of the mapped store.

    Parameters
    ----------
    file
        Open group of h5py or of zarr, without X.
    size_factor
        float64 (cells,); None: X holds the counts.
    """
    nnz, index_dtype = int(counts.indptr[-1]), np.int32
    groups = {"X": create_csr(file, "X", counts.shape, nnz, np.float32, index_dtype)}
    if size_factor is not None:
        groups["counts"] = create_csr(file["layers"], "counts", counts.shape, nnz, counts.data.dtype, index_dtype)
    at_once = WRITTEN_AT_ONCE if isinstance(file, h5py.Group) else BLOCK_NNZ  # a part of zarr's chunk makes it write the chunk again
    for start, stop, block, x in ahead(valued_blocks(counts, size_factor, at_once)):
        here = slice(int(counts.indptr[start]), int(counts.indptr[stop]))
        groups["X"]["data"][here] = x.data
        if size_factor is not None:
            groups["counts"]["data"][here] = block.data
        for group in groups.values():
            group["indices"][here] = block.indices
    for group in groups.values():
        add_array(group, "indptr", data=counts.indptr)


def valued_blocks(counts: CountsStore, size_factor: np.ndarray | None, max_nnz: int):
    """Row blocks ``(start, stop, counts, X)`` of at most ``max_nnz`` non-zeros; other parameters as :func:`write_matrices`."""
    for start, stop, block in counts.blocks(max_nnz):
        x = block.astype(np.float32)
        yield start, stop, block, x if size_factor is None else lognorm(x, size_factor[start:stop])
