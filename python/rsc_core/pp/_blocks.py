"""Row blocks: one way for a matrix in memory (one block) and for a store that is streamed (many)."""

from __future__ import annotations

import itertools

import numpy as np

from rsc_core import backend

STRIP = 4096  # rows; every block begins at a multiple of it, so that sums by strips do not depend on how the blocks are cut


class RowBlocks:
    """A (cells, genes) matrix that exists a row block at a time.

    The functions of :mod:`rsc_core.pp` take it in the place of X of a :class:`~rsc_core.CunnData`, read it as often as they
    need, and give the same bytes as for the whole matrix. What replaces X (normalisation, scaling, residuals) is computed anew
    whenever a block is read.

    Parameters
    ----------
    take
        Function of (start, stop): CSR or dense float32 of these rows.
    edges
        Where blocks begin, and the number of rows; multiples of ``STRIP`` but for the last.
    shape
        (cells, genes).
    xp
        Array library of the blocks.
    """

    def __init__(self, take, edges, shape, xp):
        self.take, self.edges, self.shape, self.xp = take, [int(edge) for edge in edges], tuple(shape), xp
        self.on_device = xp is not np

    def __iter__(self):
        for start, stop in itertools.pairwise(self.edges):
            yield start, self.take(start, stop)

    def mapped(self, change, n_columns: int | None = None) -> RowBlocks:
        """The blocks after a change: a function of (start, block)."""
        shape = (self.shape[0], self.shape[1] if n_columns is None else n_columns)
        return RowBlocks(lambda start, stop: change(start, self.take(start, stop)), self.edges, shape, self.xp)

    def __getitem__(self, index) -> RowBlocks:
        """Some rows, or ``[:, genes]``: int64 positions, the genes rising."""
        if isinstance(index, tuple):
            from rsc_core.pp._pca import select_genes

            return select_genes(self, backend.to_host(index[1]))
        rows = np.asarray(backend.to_host(index))
        widest = max(np.diff(self.edges), default=STRIP)
        edges = [*range(0, max(len(rows), 1), max(STRIP, widest // STRIP * STRIP)), len(rows)]
        return RowBlocks(lambda start, stop: self._gathered(rows[start:stop]), edges, (len(rows), self.shape[1]), self.xp)

    def _gathered(self, rows):
        """Rows at any positions, in their order, by reading each strip that has some once."""
        if not len(rows) or (np.diff(rows) == 1).all():
            return self.take(int(rows[0]), int(rows[-1]) + 1) if len(rows) else self.take(0, 0)
        order = np.argsort(rows, kind="stable")
        rising = rows[order]
        parts, strips = [], np.unique(rising // STRIP)
        for first, last in zip(strips * STRIP, np.searchsorted(rising, (strips + 1) * STRIP), strict=True):
            begin = sum(part.shape[0] for part in parts)
            here = rising[begin:last] - first
            parts.append(self.take(int(first), min(int(first) + STRIP, self.shape[0]))[self.xp.asarray(here)])
        joined = stacked(parts)
        if (order[1:] > order[:-1]).all():
            return joined
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return joined[self.xp.asarray(place)]

    def whole(self):
        """All blocks as one matrix."""
        return stacked([block for _, block in self])

    def get(self):
        """All blocks as one matrix of the host."""
        return stacked([backend.to_host(block) for _, block in self])

    def tocsr(self) -> RowBlocks:
        """Itself: its blocks are read by rows."""
        return self

    def copy(self) -> RowBlocks:
        """Itself: nothing changes it."""
        return self


def stacked(blocks):
    """Blocks one below the other, as one CSR or dense matrix."""
    if len(blocks) == 1:
        return blocks[0]
    xp = backend.xp_of(*blocks)
    if not hasattr(blocks[0], "indptr"):
        return xp.concatenate(blocks)
    ends = np.cumsum([0, *(block.indices.size for block in blocks)])
    indptr = [blocks[0].indptr[:1].astype(np.int64)]
    indptr += [block.indptr[1:].astype(np.int64) + int(end) for block, end in zip(blocks, ends, strict=False)]
    parts = [xp.concatenate([getattr(block, name) for block in blocks]) for name in ("data", "indices")]
    shape = (sum(block.shape[0] for block in blocks), blocks[0].shape[1])
    return backend.sparse_of(xp).csr_matrix((*parts, xp.concatenate(indptr)), shape=shape)


def in_memory(x):
    """A matrix of any kind as one matrix on its backend."""
    return x.whole() if isinstance(x, RowBlocks) else x


def row_blocks(x):
    """Pairs (first row, block) of a matrix of any kind; one that is no :class:`RowBlocks` is its only block."""
    return x if isinstance(x, RowBlocks) else [(0, x.tocsr() if hasattr(x, "tocsr") else x)]


def rows_in_blocks(x, rows, per_nnz: int):
    """Some rows of a matrix: at once where what is made of them fits the free memory, else in row blocks.

    Parameters
    ----------
    x
        CSR or :class:`RowBlocks`.
    rows
        int64 positions of the host, rising.
    per_nnz
        Bytes of a non-zero of the rows and of what is made of it.
    """
    from rsc_core.pp._moments import some_rows

    if isinstance(x, RowBlocks):
        return some_rows(x, rows)
    xp = backend.xp_of(x)
    sizes = np.diff(backend.to_host(x.indptr).astype(np.int64, copy=False))[rows]
    memory = {"whole": per_nnz * int(sizes.sum()), "fixed": 0, "per_nnz": per_nnz, "least_nnz": 1}
    plan = backend.plan("cpu" if xp is np else "gpu", **memory)
    if plan.rung == "whole":
        return some_rows(x, rows)
    edges, together = cut(np.r_[0, np.cumsum(sizes)], plan.block_nnz), len(rows) == x.shape[0]

    def take(start, stop):
        return x[start:stop] if together else some_rows(x, rows[start:stop])

    return RowBlocks(take, edges, (len(rows), x.shape[1]), xp)


def cut(indptr, max_nnz: int) -> list[int]:
    """Edges of blocks of whole strips with at most ``max_nnz`` non-zeros, a strip at least.

    Parameters
    ----------
    indptr
        int64 (rows + 1,) of the host.
    """
    n_rows, edges = len(indptr) - 1, [0]
    while edges[-1] < n_rows:
        start = edges[-1]
        stop = int(np.searchsorted(indptr, indptr[start] + max_nnz, side="right")) - 1
        edges.append(n_rows if stop >= n_rows else min(max(stop // STRIP * STRIP, start + STRIP), n_rows))
    return edges if n_rows else [0, 0]


def of_store(store, backend_name: str, max_nnz: int) -> RowBlocks:
    """The counts of a :class:`~rsc_core.io.CountsStore`, float32, in blocks of at most ``max_nnz`` non-zeros (4096 cells at least)."""
    edges = cut(store.indptr, max_nnz)
    return RowBlocks(lambda start, stop: store.device_rows(start, stop, backend_name), edges, store.shape, backend.namespace(backend_name))
