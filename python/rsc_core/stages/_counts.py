"""Counts of a store on a backend, on the rung of the memory ladder that fits."""

from __future__ import annotations

import sys

import numpy as np

from rsc_core import backend, data
from rsc_core.io.store import CountsStore
from rsc_core.pp._blocks import STRIP, of_store

# Bytes of a non-zero: float32 and int32 on the backend, the same again for what is made of it, and temporary masks.
BYTES_WHOLE, BYTES_BLOCK = 20, 28
PANEL_TABLES = 128 * 32  # bytes of a gene for sums by panels


def open_counts(task, store: CountsStore, *, n_dense: int = 0, n_square: int = 0) -> data.CunnData:
    """A store with X on the task's backend: as a whole where it fits, else in row blocks. The choice is printed and recorded.

    Parameters
    ----------
    task
        :class:`~rsc_core.stages._task.Task`.
    n_dense
        Columns of dense float32 matrices of all cells that the stage makes of a whole X.
    n_square
        Rows of a square float64 matrix that it makes.
    """
    n_cells, n_genes = store.shape
    strips = store.indptr[np.minimum(np.arange(0, n_cells + STRIP, STRIP), n_cells)]
    least, nnz = int(np.diff(strips).max(initial=0)), int(store.indptr[-1])
    fixed = PANEL_TABLES * n_genes + 3 * 8 * n_square**2 + 2 * 8 * STRIP * max(n_dense, n_square) + 64 * n_cells
    whole = fixed + BYTES_WHOLE * nnz + 4 * n_cells * n_dense
    plan = backend.plan(task.backend, whole=whole, fixed=fixed, per_nnz=BYTES_BLOCK, least_nnz=least)
    print(f"{task.stage}: memory {plan}", file=sys.stderr, flush=True)
    task.record["memory"] = {"rung": plan.rung, "needed": plan.needed}
    task.plan = plan
    if plan.rung == "managed":
        backend.use_managed_memory()
    x = store.device_rows(0, n_cells, task.backend) if plan.rung == "whole" else of_store(store, task.backend, plan.block_nnz)
    return data.CunnData(x, store.obs, store.var, obsm=store.obsm)
