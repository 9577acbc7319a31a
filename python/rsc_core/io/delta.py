"""Deltas: what a stage computed, and nothing else, as a small valid ``.h5ad`` without X.

A delta names its cells and genes, holds the slots that its stage filled, and carries a record of itself (stage,
parents with their digests, parameters, seed, backend, versions) as JSON in ``uns['rsc_core'][stage]``. Seconds, memory
and device stand in a side file (see :mod:`rsc_core.stages._task`), so that two runs give the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from fnmatch import fnmatchcase
from pathlib import Path

import anndata as ad
import h5py
import pandas as pd

from rsc_core.errors import InvalidInput
from rsc_core.io.files import digest_of_file, digest_of_names, replaced
from rsc_core.io.store import CountsStore, read_element


@dataclasses.dataclass
class Delta:
    """What one stage adds to the data.

    Parameters
    ----------
    stage
        Name of the stage, for a stage of one sample ``"stage:sample"``.
    obs, var
        The computed columns; their indices are the names of cells and genes. ``var`` without rows: nothing of genes.
    obsm, varm, obsp, uns
        AnnData's slots, arrays of the host.
    record
        What made it; :func:`write_delta` adds number and digest of the cells.
    """

    stage: str
    obs: pd.DataFrame
    var: pd.DataFrame = dataclasses.field(default_factory=lambda: pd.DataFrame(index=pd.Index([], dtype=str)))
    obsm: dict = dataclasses.field(default_factory=dict)
    varm: dict = dataclasses.field(default_factory=dict)
    obsp: dict = dataclasses.field(default_factory=dict)
    uns: dict = dataclasses.field(default_factory=dict)
    record: dict = dataclasses.field(default_factory=dict)


def write_delta(path, delta: Delta) -> None:
    """Write a delta; the file appears whole or not at all."""
    record = {**delta.record, "stage": delta.stage, "n_obs": len(delta.obs), "obs_digest": digest_of_names(delta.obs.index)}
    adata = ad.AnnData(
        obs=delta.obs,
        var=delta.var,
        obsm=delta.obsm,
        varm=delta.varm,
        obsp=delta.obsp,
        uns={**delta.uns, "rsc_core": {delta.stage: json.dumps(record, sort_keys=True)}},
    )
    with replaced(path) as temporary:
        adata.write_h5ad(temporary)


def read_delta(path, without=()) -> Delta:
    """Read a delta.

    Parameters
    ----------
    path
        A file that :func:`write_delta` wrote.
    without
        Patterns of ``"slot/key"`` for what is not needed and not read, for example ``"obsp/*"``.

    Raises
    ------
    InvalidInput
        When the file is no delta, or its cells are not those that its record names.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings(), h5py.File(path) as file:
            warnings.simplefilter("ignore")
            ((stage, record),) = read_element(file["uns/rsc_core"]).items()
            obs, var = _read_annotation(file["obs"]), _read_annotation(file["var"])
            slots = {slot: _read_slot(file, slot, ("uns/rsc_core", *without)) for slot in ("obsm", "varm", "obsp", "uns")}
    except (OSError, KeyError, ValueError) as error:
        raise InvalidInput(
            f"{path.name}: not a delta of a stage ({error}).", "Run the stage that makes it again (remove its work folder)."
        ) from error
    record = json.loads(record)
    if record["obs_digest"] != digest_of_names(obs.index):
        raise InvalidInput(
            f"{path.name}: its cells are not those that {stage} wrote.", "The file was changed after it was written: run its stage again."
        )
    return Delta(stage, obs, var, **slots, record=record)


def _read_annotation(group) -> pd.DataFrame:
    frame = read_element(group)
    if not len(frame.columns):
        frame.columns = frame.columns.astype(str)  # as AnnData does
    return frame


def _read_slot(file, slot: str, without) -> dict:
    found = {key: f"{slot}/{key}" for key in file[slot]}
    return {key: read_element(file[name]) for key, name in found.items() if not any(fnmatchcase(name, pattern) for pattern in without)}


def digest_of(path) -> str:
    """What identifies a parent: for a counts store the digest that it carries, else SHA-256 of the file."""
    with h5py.File(path) as file:
        is_store = "uns/rsc_core/store" in file
    return CountsStore(path).digest if is_store else digest_of_file(path)
