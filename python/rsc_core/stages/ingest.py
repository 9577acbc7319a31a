"""INGEST: a file of any format to a validated counts store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from rsc_core.data import layer_names
from rsc_core.errors import InvalidInput
from rsc_core.io import formats
from rsc_core.io.files import digest_of_path
from rsc_core.io.store import smallest_count_dtype, write_store
from rsc_core.stages._task import Task

_KEPT_OBSM = ("spatial",)
LARGEST_COUNT = np.iinfo(np.uint32).max
PART = 1 << 18  # values that are looked at at once


def run(*, input, sample, output, format="auto", counts_layer="", genome="", orientation="cells-by-genes", annotation=()):
    """Read one sample, check that it holds raw counts, and write its counts store.

    Parameters
    ----------
    input, output
        File or folder to read, store to write.
    sample
        Name of the sample; becomes ``obs['sample']``.
    format, counts_layer, genome, orientation
        See :func:`rsc_core.io.formats.read`.
    annotation
        Pairs (column, value) that become columns of obs, the same for every cell.

    Raises
    ------
    InvalidInput
        Names that repeat, no cells or genes, or values that are no counts: the message names row, column and value.
    """
    how = {"format": format, "counts_layer": counts_layer, "genome": genome, "orientation": orientation}
    task = Task("ingest:" + sample, output, parameters={"sample": sample, **how})
    name = Path(input).name
    with ThreadPoolExecutor(1) as thread:
        with task.step("read"):
            digest = thread.submit(digest_of_path, input)  # hashing does not hold the interpreter
            adata = formats.read(input, format, counts_layer, genome, orientation)
        with task.step("validate"):
            check_names(adata, name)
            counts = as_counts(adata, name)
            task.record["input"] = {"name": name, "sha256": digest.result()}
    empty = np.flatnonzero(np.diff(counts.indptr) == 0)
    if empty.size:
        task.warn(
            f"{name}: {empty.size} of {counts.shape[0]} cells have no counts (first: {adata.obs_names[empty[0]]!r}).",
            "Nothing to do: QC removes them whatever the thresholds are.",
        )
    obs = adata.obs.copy()
    for column, value in (("sample", sample), *annotation):
        obs[column] = pd.Categorical([value] * len(obs))
    obsm = {key: _checked_coordinates(adata.obsm[key], adata.obs_names, name) for key in _KEPT_OBSM if key in adata.obsm}
    with task.step("write"):
        largest = int(counts.data.max(initial=0))
        write_store(
            output,
            [counts],
            nnz=counts.nnz,
            count_dtype=smallest_count_dtype(largest),
            obs=obs,
            var=adata.var,
            obsm=obsm,
            uns={"visium": adata.uns["visium"]} if "visium" in adata.uns else None,
            record=task.record,
        )
    task.finish()


def check_names(adata, name: str) -> None:
    """Refuse a matrix without cells or genes, and names that repeat."""
    for what, remedy, index in (
        ("cell", "adata.obs_names_make_unique()", adata.obs_names),
        ("gene", "adata.var_names_make_unique(), or use gene ids", adata.var_names),
    ):
        if len(index) == 0:
            raise InvalidInput(
                f"{name}: the matrix has no {what}s (shape {adata.shape}).", "Check the export, or take the sample out of the samplesheet."
            )
        repeated = index[index.duplicated()]
        if len(repeated):
            raise InvalidInput(
                f"{name}: {len(repeated)} {what} names repeat (first: {repeated[0]!r}).",
                f"Make them unique before the run: {remedy}.",
            )


def as_counts(adata, name: str) -> sp.csr_matrix:
    """X as CSR with sorted indices and without explicit zeros, refused unless every value is a count.

    Returns
    -------
    CSR (cells, genes) in the dtype of X; X itself where that is so already.

    Raises
    ------
    InvalidInput
        For NaN, infinite, negative, fractional or too large values; names cell, gene, value and the layers to try.
    """
    counts = sp.csr_matrix(adata.X)
    if counts.has_canonical_format and _all_counts(counts.data):
        return counts
    if counts is adata.X or counts.data is getattr(adata.X, "data", None):
        counts = counts.copy()
    counts.sum_duplicates()
    for what, wrong in (
        ("not a number", lambda x: ~np.isfinite(x)),
        ("negative", lambda x: x < 0),
        ("not a whole number", lambda x: x != np.floor(x)),
        (f"larger than {LARGEST_COUNT}", lambda x: x > LARGEST_COUNT),
    ):
        at = np.flatnonzero(wrong(counts.data))
        if at.size:
            row = int(np.searchsorted(counts.indptr, at[0], side="right")) - 1
            layers = ", ".join(layer_names(adata)) or "none"
            raise InvalidInput(
                f"{name}: cell {adata.obs_names[row]!r}, gene {adata.var_names[counts.indices[at[0]]]!r}: the value "
                f"{counts.data[at[0]]!s} is {what} ({at.size} such values); raw counts are needed.",
                f"Name the layer that holds raw counts with --counts-layer (samplesheet column counts_layer); layers: {layers}.",
            )
    counts.eliminate_zeros()
    return counts


def _all_counts(values: np.ndarray) -> bool:
    """Whether all values are counts above 0, in parts that stay in the cache; NaN is none."""
    whole = values.dtype.kind in "iu"
    for start in range(0, len(values), PART):
        part = values[start : start + PART]
        if not (((part > 0) & (part <= LARGEST_COUNT)).all() and (whole or (part == np.floor(part)).all())):
            return False
    return True


def _checked_coordinates(coordinates, obs_names, name: str) -> np.ndarray:
    coordinates = np.asarray(coordinates, dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(coordinates).all(axis=1))
    if 0 < wrong.size < len(coordinates):
        raise InvalidInput(
            f"{name}: obsm['spatial'] of cell {obs_names[wrong[0]]!r} is {coordinates[wrong[0]].tolist()} ({wrong.size} such cells).",
            "Give every cell finite coordinates, or remove those cells.",
        )
    return coordinates
