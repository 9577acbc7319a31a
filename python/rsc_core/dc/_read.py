"""What all methods begin and end with: the values of the cells, the network that fits them, the tables of scores."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.dc._net import align
from rsc_core.kernels import network as kernels

BLOCK_ROWS = 16384  # cells whose values are float64 at a time


@dataclass
class Given:
    """What a method reads.

    Attributes
    ----------
    name
        Of the method.
    table
        The AnnData or DataFrame.
    parts
        indptr, indices, values of the CSR values (cells, genes).
    shape
        Number of cells and genes.
    seen
        Genes that are not 0 in at least one cell: bool (genes,) of the host.
    sources
        Names, in alphabetical order.
    weights
        CSR float64 (genes seen, sources) of the host.
    total, squares, product
        As :func:`source_sums` returns them, of these weights.
    """

    name: str
    table: object
    parts: tuple
    shape: tuple
    obs_names: pd.Index
    var_names: pd.Index
    seen: np.ndarray
    sources: list
    weights: object
    bsize: int

    @functools.cached_property
    def _sums(self):
        sums = source_sums(self.parts, self.shape, spread_rows(self.weights, self.seen), self.rows(0))
        check_values(backend.to_host(sums[1]), self.parts, self.obs_names, self.var_names)
        return sums

    @property
    def total(self):
        return self._sums[0]

    @property
    def squares(self):
        return self._sums[1]

    @property
    def product(self):
        return self._sums[2]

    def check(self) -> None:
        """Refuse values that are not finite."""
        self._sums  # noqa: B018 - computing them looks at all values

    def rows(self, bytes_of_a_cell) -> int:
        """Cells at a time, by :func:`cells_at_a_time`."""
        return cells_at_a_time(self.parts, self.bsize, bytes_of_a_cell)

    def store(self, **tables):
        """Keep tables ``score``, ``padj``, ... in obsm under ``<table>_<method>``; of a DataFrame, return them in this order."""
        columns = pd.Index(self.sources)
        tables = {key: pd.DataFrame(backend.to_host(values), self.obs_names, columns, copy=False) for key, values in tables.items()}
        if isinstance(self.table, pd.DataFrame):
            return next(iter(tables.values())) if len(tables) == 1 else tuple(tables.values())
        for key, values in tables.items():
            self.table.obsm[f"{key}_{self.name}"] = values
        return None


def read(name, table, net, tmin, layer, raw, bsize, verbose, signed=True) -> Given:
    """Read the values and fit the network to the genes that are seen; ``signed=False`` sets all weights to 1."""
    x, obs_names, var_names = values_of(table, layer, raw)
    parts = backend.csr_parts(x)
    if bsize < 1:
        raise ValueError(f"bsize is {bsize}; it must be 1 or more")
    seen = genes_seen(parts, x.shape, cells_at_a_time(parts, bsize))
    sources, weights = align(net, var_names[seen], tmin)
    if not signed:
        weights.data[:] = 1.0
    if verbose:
        print(f"{name}: {len(sources)} sources, {int(seen.sum())} genes, {len(obs_names)} cells", file=sys.stderr)
    return Given(name, table, parts, x.shape, obs_names, var_names, seen, sources, weights, bsize)


def values_of(table, layer, raw):
    """CSR values (cells, genes), names of the cells, names of the genes."""
    if isinstance(table, pd.DataFrame):
        x = backend.sparse_of(np).csr_matrix(table.to_numpy(dtype=np.float64))
        obs_names, var_names = table.index, table.columns
    elif raw:
        if table.raw is None:
            raise ValueError("raw is True, but data.raw is empty")
        x, obs_names, var_names = data.csr(table.raw), table.obs_names, table.raw.var_names
    else:
        x, obs_names, var_names = data.csr(table, layer), table.obs_names, table.var_names
    if not var_names.is_unique:
        name = var_names[var_names.duplicated()][0]
        raise ValueError(f"the gene name {name!r} comes more than once; make names unique with var_names_make_unique()")
    return x, obs_names, var_names


def genes_seen(parts, shape, bsize=BLOCK_ROWS) -> np.ndarray:
    """Which genes are not 0 in at least one cell: bool (genes,) on the host. ``parts``: of the CSR values."""
    seen = backend.xp_of(parts[2]).zeros(shape[1], dtype=np.uint8)
    for first, last, *block in blocks(parts, bsize):
        kernels.mark_genes(last - first, *block, seen)
    return backend.to_host(seen).astype(bool)


def source_sums(parts, shape, weights, bsize=BLOCK_ROWS):
    """Sum and sum of squares of each cell's values, and their products with the weights.

    Parameters
    ----------
    parts
        indptr, indices, values of the CSR values (cells, genes).
    shape
        Number of cells and genes.
    weights
        CSR float64 (genes, sources) of the host.

    Returns
    -------
    total, squares : float64 (cells,)
    product : float64 (cells, sources)
        Where the values are.
    """
    xp = backend.xp_of(parts[2])
    gene_indptr, source, weight = (xp.asarray(part) for part in backend.csr_parts(weights, np.float64))
    total, squares, product = xp.empty(shape[0]), xp.empty(shape[0]), xp.zeros((shape[0], weights.shape[1]))
    for first, last, *block in blocks(parts, bsize):
        outputs = (out[first:last] for out in (total, squares, product))
        kernels.weighted_sums(last - first, *block, gene_indptr, source, weight, weights.shape[1], *outputs)
    return total, squares, product


def cells_at_a_time(parts, bsize, bytes_of_a_cell=0) -> int:
    """``bsize``, and no more cells than a quarter of the free memory holds: their values as float64, and so many bytes of each."""
    n_cells, n_stored = len(parts[0]) - 1, parts[2].size
    room = backend.available_bytes("cpu" if backend.xp_of(parts[2]) is np else "gpu") // 4
    return max(1, min(bsize, int(room / max(1, bytes_of_a_cell + 8 * n_stored / max(1, n_cells)))))


def blocks(parts, bsize):
    """Row blocks of CSR parts ``(first, last, indptr, indices, values)``, values as float64."""
    indptr, indices, values = parts
    ends = backend.to_host(indptr)
    for first in range(0, ends.size - 1, bsize):
        last = min(ends.size - 1, first + bsize)
        here = slice(int(ends[first]), int(ends[last]))
        yield first, last, indptr[first : last + 1] - indptr[first], indices[here], values[here].astype(np.float64)


def spread_rows(weights, seen):
    """Weights (genes seen, sources) as (genes, sources): rows without weights for the other genes."""
    indptr = np.zeros(seen.size + 1, dtype=np.int64)
    indptr[1:][seen] = np.diff(weights.indptr)
    parts = (weights.data, weights.indices, np.cumsum(indptr))
    return type(weights)(parts, shape=(seen.size, weights.shape[1]))


def check_values(squares, parts, obs_names, var_names) -> None:
    """Raise ValueError that names the first value that is not finite."""
    wrong = np.flatnonzero(~np.isfinite(squares))
    if wrong.size:
        indptr, indices, values = (backend.to_host(part) for part in parts)
        here = slice(indptr[wrong[0]], indptr[wrong[0] + 1])
        at = np.flatnonzero(~np.isfinite(values[here]))
        what = f"gene {var_names[indices[here][at[0]]]!r} is {values[here][at[0]]}" if at.size else "values are too large to be squared"
        raise ValueError(f"cell {obs_names[wrong[0]]!r}: {what}; remove the cell, or replace the value")
