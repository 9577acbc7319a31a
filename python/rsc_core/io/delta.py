"""Deltas: what a stage computed, and nothing else, as a small valid ``.h5ad`` without X.

A delta names its cells and genes, holds the slots that its stage filled, and carries a record of itself (stage,
parents with their digests, parameters, seed, backend, versions) as JSON in ``uns['rsc_core'][stage]``. Seconds, memory
and device stand in a side file (see :mod:`rsc_core.stages._task`), so that two runs give the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path

import anndata as ad
import h5py
import pandas as pd

from rsc_core.errors import InvalidInput
from rsc_core.io.files import digest_of_file, digest_of_names, replaced


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


def read_delta(path) -> Delta:
    """Read a delta.

    Raises
    ------
    InvalidInput
        When the file is no delta, or its cells are not those that its record names.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adata = ad.read_h5ad(path)
        ((stage, record),) = adata.uns.pop("rsc_core").items()
    except (OSError, KeyError, ValueError) as error:
        raise InvalidInput(
            f"{path.name}: not a delta of a stage ({error}).", "Run the stage that makes it again (remove its work folder)."
        ) from error
    record = json.loads(record)
    if record["obs_digest"] != digest_of_names(adata.obs_names):
        raise InvalidInput(
            f"{path.name}: its cells are not those that {stage} wrote.", "The file was changed after it was written: run its stage again."
        )
    slots = {slot: dict(getattr(adata, slot)) for slot in ("obsm", "varm", "obsp", "uns")}
    return Delta(stage, adata.obs, adata.var, **slots, record=record)


def digest_of(path) -> str:
    """What identifies a parent: for a counts store the digest that it carries, else SHA-256 of the file."""
    from rsc_core.io.store import CountsStore

    with h5py.File(path) as file:
        is_store = "uns/rsc_core/store" in file
    return CountsStore(path).digest if is_store else digest_of_file(path)
