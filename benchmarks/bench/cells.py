"""Counts of synthetic cells as a counts store."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import scipy.sparse as sp

from bench import draw
from bench.model import Cells, Model, make_cells, make_model
from rsc_core import backend
from rsc_core.io.store import write_store

DENSE_BYTES = {"cpu": 1 << 28, "gpu": 1 << 31}  # of the counts of a block before it is made sparse


def counts(model: Model, start: int, stop: int, backend_name: str = "cpu") -> sp.csr_matrix:
    """Counts of cells ``start`` to ``stop`` on the host: uint16 values, int32 indices, int64 indptr."""
    values, indices, indptr = drawn(model, make_cells(model, start, stop), backend_name)
    return sp.csr_matrix((backend.to_host(values), backend.to_host(indices), indptr), shape=(stop - start, model.n_genes))


def drawn(model: Model, cells: Cells, backend_name: str):
    """The parts of the counts of some cells: values and indices on the backend, offsets on the host."""
    n = len(cells.kind)
    names = ("table_row", "weight", "batch", "library")
    on = {name: backend.to_device(np.ascontiguousarray(getattr(cells, name)), backend_name) for name in names}
    table, factor, size = (backend.to_device(a, backend_name) for a in (model.table, model.batch_factor, model.log_size))
    xp = backend.xp_of(table)
    dense = xp.empty((n, model.n_genes), dtype=np.uint16)
    draw.draw_counts(
        n, model.n_genes, cells.first, np.uint64(model.seed), table, on["table_row"], on["weight"], on["batch"], factor, on["library"],
        size, cells.weight.shape[1], dense,
    )  # fmt: skip
    n_nonzero = xp.empty(n, dtype=np.int64)
    draw.row_nonzeros(n, model.n_genes, dense, n_nonzero)
    indptr = np.concatenate([[0], np.cumsum(backend.to_host(n_nonzero))])
    indices, values = xp.empty(indptr[-1], dtype=np.int32), xp.empty(indptr[-1], dtype=np.uint16)
    draw.compact(n, model.n_genes, dense, backend.to_device(indptr, backend_name), indices, values)
    return values, indices, indptr


def digest(matrix) -> str:
    """SHA-256 of the counts, their genes and their rows."""
    total = hashlib.sha256()
    for part, dtype in ((matrix.data, np.uint16), (matrix.indices, np.int32), (matrix.indptr, np.int64)):
        total.update(np.ascontiguousarray(part, dtype=dtype))
    return total.hexdigest()


def generate(path, n_cells: int, *, n_genes=25_000, n_batches=8, seed=0, backend_name="cpu", settings=None) -> Model:
    """Write a counts store of synthetic cells, with cell_type and batch in obs and their places in obsm['spatial']."""
    model = make_model(n_genes, n_batches, seed, settings)
    step = max(1, DENSE_BYTES[backend_name] // (2 * n_genes))
    blocks = [counts(model, start, min(start + step, n_cells), backend_name) for start in range(0, n_cells, step)]
    cells = make_cells(model, 0, n_cells)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(cells.kind, [f"type_{i:02d}" for i in range(int(model.neighbor.size))]),
            "batch": pd.Categorical.from_codes(cells.batch, [f"batch_{i}" for i in range(len(model.batch_factor))]),
        },
        index=[f"cell_{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame({"mt": np.arange(n_genes) < 13}, index=gene_names(n_genes))
    write_store(
        path, blocks, nnz=sum(block.nnz for block in blocks), count_dtype=np.uint16, obs=obs, var=var,
        obsm={"spatial": cells.spatial}, record={"stage": "synthetic", "seed": seed, "n_batches": n_batches},
    )  # fmt: skip
    return model


def gene_names(n_genes: int) -> list[str]:
    """MT-1 to MT-13, then G00013 and on."""
    return [f"MT-{i + 1}" if i < 13 else f"G{i:05d}" for i in range(n_genes)]
