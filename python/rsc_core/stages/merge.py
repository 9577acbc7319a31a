"""MERGE: the cells that passed QC, of all samples, in one counts store."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from pathlib import Path

import numba
import numpy as np
import pandas as pd
import scipy.sparse as sp
from pandas.api.types import union_categoricals

from rsc_core.errors import InvalidInput
from rsc_core.io.delta import read_delta
from rsc_core.io.files import ahead
from rsc_core.io.store import CountsStore, smallest_count_dtype, write_store
from rsc_core.kernels import merge as kernels
from rsc_core.stages._task import Task

MERGE_NNZ = 1 << 22  # non-zeros of a row block: more leave the cache, and the write takes longer
MIN_CELLS = 10  # below, no later stage has anything to say
MIN_GENES = 2
QC_ONLY = ("passes_qc", "qc_reason")
# Columns that later stages write: what came with these names is kept under another.
RESERVED_OBS = ("size_factor", "leiden", *QC_ONLY)
RESERVED_VAR = (
    "means",
    "variances",
    "variances_norm",
    "highly_variable",
    "highly_variable_rank",
    "highly_variable_nbatches",
    "highly_variable_intersection",
    "dispersions",
    "dispersions_norm",
    "residual_variances",
    "observed_fraction_zeros",
    "expected_fraction_zeros",
    "prob_zero_enriched_nbatches",
    "prob_zero_enrichment",
    "prob_zero_enrichment_rank",
)


@dataclasses.dataclass
class Sample:
    """One sample: its store, and which of its cells are kept (boolean, cells of the store)."""

    name: str
    store: CountsStore
    kept: np.ndarray
    obs: pd.DataFrame
    reasons: Counter

    def blocks(self, column, n_genes: int, max_nnz: int = MERGE_NNZ):
        """Row blocks of the kept cells, genes at the places that ``column`` (its genes,) gives; -1: left out."""
        store = self.store
        for start, stop in store.spans(max_nnz):
            rows = start + np.flatnonzero(self.kept[start:stop])
            indptr = np.zeros(len(rows) + 1, dtype=np.int64)
            kernels.moved_sizes(rows, store.indptr, store.indices, column, indptr[1:])
            indptr = np.cumsum(indptr)
            indices, counts = np.empty(indptr[-1], dtype=np.int32), np.empty(indptr[-1], dtype=store.data.dtype)
            kernels.moved_counts(rows, store.indptr, store.indices, store.data, column, indptr, indices, counts)
            yield sp.csr_matrix((counts, indices, indptr), shape=(len(rows), n_genes))


def run(*, store, qc, output, join="outer", min_cells=3):
    """Write the kept cells of all samples, and the genes seen in enough of them, to one store.

    Parameters
    ----------
    store, qc
        Counts stores and their QC deltas, in the same order: that of the samples in the result.
    output
        Counts store to write.
    join
        ``"outer"``: genes of any sample, absent ones counted 0; ``"inner"``: genes of all samples. In order of appearance.
    min_cells
        Genes with counts in fewer kept cells are dropped.

    Raises
    ------
    InvalidInput
        When a QC delta does not belong to its store, samples repeat, no gene is shared, or too few cells or genes are left.
    """
    task = Task("merge", output, parameters={"join": join, "min_cells": min_cells}, parents=[*store, *qc])
    with task.step("read"):
        samples = [read_sample(*paths) for paths in zip(store, qc, strict=True)]
        _check_samples(samples)
        used = [sample for sample in samples if sample.kept.any()]
        for sample in samples:
            if not sample.kept.any():
                cause = f"sample {sample.name}: no cell passed QC ({_told(sample.reasons)}); it is left out."
                task.warn(cause, "Loosen the thresholds named.")
    task.record["inputs"] = {sample.name: sample.store.record["input"] for sample in samples if "input" in sample.store.record}
    with task.step("genes"):
        names, columns = joined_genes([sample.store.var.index for sample in used], join)
        _check_genes(task, used, names, join)
        n_cells, largest = gene_cells(used, columns, len(names))
        chosen = n_cells >= min_cells
        if chosen.sum() < MIN_GENES:
            raise InvalidInput(
                f"{chosen.sum()} of {len(names)} genes have counts in {min_cells} cells or more; {MIN_GENES} genes are needed.",
                "Lower min_cells, or check that the samples hold counts of the same organism.",
            )
        place = np.where(chosen, np.cumsum(chosen) - 1, -1)
        columns = [np.where(column >= 0, place[column], -1).astype(np.int32) for column in columns]
    with task.step("annotation"):
        obs, var = joined_obs(task, used), joined_var(task, used, names[chosen])
        obsm = joined_obsm(used)
    with task.step("write"):
        write_store(
            output,
            ahead(block for sample, column in zip(used, columns, strict=True) for block in sample.blocks(column, int(chosen.sum()))),
            nnz=int(n_cells[chosen].sum()),
            count_dtype=smallest_count_dtype(largest),
            obs=obs,
            var=var,
            obsm=obsm,
            uns=tissue_images(used),
            record=task.record,
        )
    task.finish()


def read_sample(store_path, qc_path) -> Sample:
    """Open a store and its QC delta.

    Raises
    ------
    InvalidInput
        When the delta was not made from this store.
    """
    store, delta = CountsStore(store_path), read_delta(qc_path)
    same = store.digest in delta.record["parents"].values() and delta.record["obs_digest"] == store.record["obs_digest"]
    if not same or not set(QC_ONLY) <= set(delta.obs):
        raise InvalidInput(
            f"{Path(qc_path).name}: made by {delta.stage} from another file than {Path(store_path).name}.",
            "Give stores and QC deltas in the same order, and run QC again on a store that changed.",
        )
    obs, kept = store.obs, delta.obs["passes_qc"].to_numpy(dtype=bool)
    reasons = Counter(delta.obs["qc_reason"].astype(str)[~kept])
    name = str(obs["sample"].iloc[0]) if "sample" in obs else Path(store_path).name.split(".")[0]
    measured = delta.obs.drop(columns=list(QC_ONLY))
    obs = obs.rename(columns=_renaming(obs, (*measured, *RESERVED_OBS)))
    return Sample(name, store, kept, obs.join(measured)[kept], reasons)


def joined_genes(indices, join: str):
    """Names of the genes of all samples in order of appearance, and the place of each sample's genes among them.

    Returns
    -------
    Index (genes,), and for each sample int64 (its genes,); -1: not in the result.
    """
    names = pd.Index(list(dict.fromkeys(name for index in indices for name in index)))
    if join == "inner":
        shared = set.intersection(*(set(index) for index in indices))
        names = names[[name in shared for name in names]]
    return names, [names.get_indexer(index) for index in indices]


def gene_cells(samples, columns, n_genes: int):
    """In how many kept cells each gene has counts, int64 (genes,), and the largest count."""
    n_cells, largest = np.zeros(n_genes, dtype=np.int64), 0
    for sample, column in zip(samples, columns, strict=True):
        store, threads = sample.store, numba.get_num_threads()
        in_sample, most = np.zeros((threads, len(column)), dtype=np.int64), np.zeros(threads, dtype=np.int64)
        kernels.gene_cells(np.flatnonzero(sample.kept), store.indptr, store.indices, store.data, in_sample, most)
        n_cells[column[column >= 0]] += in_sample.sum(axis=0)[column >= 0]
        largest = max(largest, int(most.max()))
    return n_cells, largest


def joined_obs(task, samples) -> pd.DataFrame:
    """Annotation of the kept cells; names get ``-<sample>`` when there is more than one sample."""
    obs = _stacked(task, "obs", [sample.obs for sample in samples])
    if len(samples) > 1:
        obs.index = pd.Index([f"{name}-{sample.name}" for sample in samples for name in sample.obs.index])
    repeated = obs.index[obs.index.duplicated()]
    if len(repeated):
        raise InvalidInput(f"two cells are called {repeated[0]!r} once the sample's name is added.", "Rename one of the samples.")
    return obs


def joined_var(task, samples, names) -> pd.DataFrame:
    """Annotation of the genes, each from the first sample that has the gene."""
    tables = []
    for sample in samples:
        var = sample.store.var
        new = ~var.index.isin(np.concatenate([table.index for table in tables])) if tables else np.ones(len(var), dtype=bool)
        tables.append(var[new].rename(columns=_renaming(var, RESERVED_VAR)))
    return _stacked(task, "var", tables).loc[names]


def joined_obsm(samples) -> dict[str, np.ndarray]:
    """Arrays of the kept cells, NaN where a sample has none.

    Raises
    ------
    InvalidInput
        When the samples' arrays of one name differ in the number of columns.
    """
    arrays, joined = [sample.store.obsm for sample in samples], {}
    for key in dict.fromkeys(key for array in arrays for key in array):
        widths = {sample.name: array[key].shape[1] for sample, array in zip(samples, arrays, strict=True) if key in array}
        if len(set(widths.values())) > 1:
            raise InvalidInput(
                f"obsm[{key!r}] has different numbers of columns: {', '.join(f'{name} {n}' for name, n in widths.items())}.",
                "Give all samples the same coordinates, or run them apart.",
            )
        width = next(iter(widths.values()))
        joined[key] = np.concatenate(
            [
                np.asarray(array[key])[sample.kept] if key in array else np.full((sample.kept.sum(), width), np.nan)
                for sample, array in zip(samples, arrays, strict=True)
            ]
        )
    return joined


def tissue_images(samples) -> dict:
    """``uns['spatial']`` as scanpy and squidpy keep it: of each Space Ranger sample the scale factors and the low-resolution image.

    Returns
    -------
    ``{"spatial": {sample: {"scalefactors": {...}, "images": {"lowres": uint8 (height, width, 3)}}}}``; empty without such samples.
    """
    libraries = {}
    for sample in samples:
        visium = sample.store.uns.get("visium")
        if visium is None:
            continue
        images = {}
        if "lowres_png" in visium:
            from PIL import Image

            images["lowres"] = np.asarray(Image.open(io.BytesIO(visium["lowres_png"].tobytes())).convert("RGB"))
        libraries[sample.name] = {"scalefactors": dict(visium["scalefactors"]), "images": images}
    return {"spatial": libraries} if libraries else {}


def _check_samples(samples) -> None:
    repeated = [name for name, n in Counter(sample.name for sample in samples).items() if n > 1]
    if repeated:
        raise InvalidInput(f"sample {repeated[0]!r} comes more than once.", "Give every row of the samplesheet its own sample name.")
    n_kept = sum(int(sample.kept.sum()) for sample in samples)
    if n_kept < MIN_CELLS:
        removed = "; ".join(f"{s.name}: {s.kept.size - s.kept.sum()} of {s.kept.size} removed ({_told(s.reasons)})" for s in samples)
        raise InvalidInput(
            f"{n_kept} cells are left after QC, {MIN_CELLS} are needed. {removed}.",
            f"Loosen the thresholds that removed them ({_parameters(samples)}), or check the samples.",
        )


def _check_genes(task, samples, names, join: str) -> None:
    if len(samples) == 1:
        return
    shared = set.intersection(*(set(sample.store.var.index) for sample in samples))
    if shared:
        return
    alike = set.intersection(*({name.upper() for name in sample.store.var.index} for sample in samples))
    examples = ", ".join(f"{sample.name} {sample.store.var.index[0]!r}" for sample in samples)
    why = f"but {len(alike)} are when case is ignored: symbols of different organisms?" if alike else "other identifiers or organisms?"
    cause = f"no gene is in all samples (first genes: {examples}): {why}"
    remedy = "Use one organism and one kind of gene names in a run (symbols or ids)."
    if join == "inner":
        raise InvalidInput(cause, remedy)
    task.warn(cause, remedy)


def _told(reasons: Counter) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in reasons.most_common()) or "none"


def _parameters(samples) -> str:
    """The parameters behind the reasons of removal."""
    found = Counter()
    for sample in samples:
        found.update(sample.reasons)
    names = dict.fromkeys("nmads" if reason.startswith("mad_") else reason for reason, _ in found.most_common() if reason != "no_counts")
    return ", ".join(names) or "none: the cells have no counts"


def _renaming(table: pd.DataFrame, reserved) -> dict[str, str]:
    """New names ``<column>_input`` for the columns of an input that the workflow writes itself."""
    return {column: f"{column}_input" for column in table if column in reserved}


def _stacked(task, what: str, tables) -> pd.DataFrame:
    """Tables one below the other; a column that a table lacks is missing (NaN) there."""
    index = pd.Index(np.concatenate([table.index.to_numpy(dtype=object) for table in tables]))
    columns = {}
    for name in dict.fromkeys(column for table in tables for column in table):
        pieces = [table[name].reset_index(drop=True) if name in table else len(table) for table in tables]
        columns[name] = _stacked_column(task, f"{what}[{name!r}]", pieces)
    return pd.DataFrame(columns).set_axis(index) if columns else pd.DataFrame(index=index)


def _stacked_column(task, what: str, pieces) -> pd.Series:
    """Pieces of a column, a number of cells where it is absent, as one column that ``.h5ad`` can hold.

    One dtype for all stays; numbers become float64 and truth values nullable where some are absent; anything else becomes
    categories, in order of appearance. Columns of different kinds become text, with a warning.
    """
    present = [piece for piece in pieces if isinstance(piece, pd.Series)]
    kinds = {"bool" if p.dtype == bool else "number" if pd.api.types.is_numeric_dtype(p.dtype) else "text" for p in present}
    filled = [piece if isinstance(piece, pd.Series) else pd.Series([np.nan] * piece, dtype=np.float64) for piece in pieces]
    if len(present) == len(pieces) and len({piece.dtype for piece in pieces}) == 1:
        joined = pd.concat(pieces, ignore_index=True)
        return joined.cat.remove_unused_categories() if isinstance(joined.dtype, pd.CategoricalDtype) else joined
    if kinds == {"number"}:
        return pd.concat([piece for piece in filled if len(piece)], ignore_index=True)
    if kinds == {"bool"}:
        return pd.concat([piece.astype("boolean") for piece in filled], ignore_index=True)
    if len(kinds) > 1:
        cause = f"{what} is of different kinds in the samples ({', '.join(sorted(kinds))}); it is kept as text."
        task.warn(cause, "Give it one kind in all files.")
    texts = [pd.Categorical([value if pd.isna(value) else str(value) for value in piece]) for piece in filled]
    texts = [text.reorder_categories(text.dropna().unique()) if len(text.categories) else text.astype(_TEXT) for text in texts]
    return pd.Series(union_categoricals(texts))


_TEXT = pd.CategoricalDtype(pd.Index([], dtype=str))
