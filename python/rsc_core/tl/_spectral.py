"""Eigenvectors of the neighbour graph, found the same way, to the same bits, on both backends."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, rng
from rsc_core.kernels import spectral as kernels
from rsc_core.tl._parts import connected_parts
from rsc_core.tl._sums import chunks

SMALL = 400  # cells; so few are decomposed densely on the host, which also finds every copy of an equal eigenvalue
BREAKDOWN = 1e-13  # a Lanczos vector shorter than that is rounding noise


def normalised(graph, density_normalize: bool = False):
    """The symmetric matrix D^-1/2 W D^-1/2, D the row sums; with ``density_normalize`` W is first divided by both row sums.

    Returns
    -------
    indptr : int64 (cells + 1,)
    indices : int32
    weight : float64
    root : float64 (cells,)
        Root of the last row sums. An isolated cell has 0 and an empty row.
    """
    xp, n_cells = backend.xp_of(graph.data), graph.shape[0]
    indptr, indices, weight = backend.csr_parts(graph, np.float64)
    weight, sums = weight.copy(), xp.empty(n_cells)
    kernels.row_sums(n_cells, indptr, weight, sums)
    if density_normalize:
        kernels.scaled_entries(n_cells, indptr, indices, weight, _reciprocal(sums), weight)
        kernels.row_sums(n_cells, indptr, weight, sums)
    root = xp.sqrt(sums)
    kernels.scaled_entries(n_cells, indptr, indices, weight, _reciprocal(root), weight)
    return indptr, indices, weight, root


def _reciprocal(x):
    xp = backend.xp_of(x)
    return xp.where(x > 0, 1 / xp.where(x > 0, x, 1), 0)


def components(graph):
    """The smallest cell of the connected part of each cell: int32 (cells,), on the graph's backend."""
    indptr, indices, _ = backend.csr_parts(graph)
    return connected_parts(indptr, indices, backend.xp_of(indptr).zeros(graph.shape[0], dtype=np.int32))


def eigenvectors(graph, n_pairs: int, *, part=None, density_normalize=False, seed=0, tolerance=1e-8, max_steps=3000):
    """The largest eigenvalues of :func:`normalised` and their vectors.

    Of each connected part the vector of eigenvalue 1 is known (the root of the row sums); the others are found by
    Lanczos' method with full orthogonalisation, restarted with the best Ritz vectors (Wu & Simon 2000,
    doi:10.1137/S0895479898334605).

    Parameters
    ----------
    graph
        Symmetric CSR with weights of at least 0.
    n_pairs
        At most the number of cells.
    part
        What :func:`components` gives, where it is known already.
    tolerance
        Length of A v - value v at which a pair is taken; the error of a value is about its square over the gap.
    max_steps
        Products with the matrix at which the best so far is taken.

    Returns
    -------
    values : float64 (n_pairs,), on the host, descending
    vectors : float64 (n_pairs, cells), on the host, of length 1; the entry of largest magnitude is positive
    """
    matrix = normalised(graph, density_normalize)
    indptr, indices, weight, root = matrix
    n_cells = graph.shape[0]
    if n_cells <= max(SMALL, 4 * n_pairs):
        values, vectors = _dense(*(backend.to_host(part) for part in matrix[:3]), n_pairs)
    else:
        part = backend.to_host(components(graph) if part is None else part)
        known = _vectors_of_parts(part, backend.to_host(root), n_pairs)
        values, vectors = np.ones(len(known)), known
        if len(known) < n_pairs:
            found, rest = _lanczos(matrix[:3], known, n_pairs - len(known), seed, tolerance, max_steps)
            values, vectors = np.concatenate([values, found]), np.vstack([known, rest])
    largest = vectors[np.arange(len(vectors)), np.abs(vectors).argmax(axis=1)]
    return values, vectors * np.where(largest < 0, -1.0, 1.0)[:, None]


def _dense(indptr, indices, weight, n_pairs):
    import scipy.linalg
    import scipy.sparse as sp

    n_cells = len(indptr) - 1
    values, vectors = scipy.linalg.eigh(sp.csr_matrix((weight, indices, indptr), shape=(n_cells, n_cells)).toarray())
    return values[::-1][:n_pairs], np.ascontiguousarray(vectors.T[::-1][:n_pairs])


def _vectors_of_parts(part, root, n_pairs):
    """The eigenvectors of eigenvalue 1, those of the largest parts first; isolated cells have none."""
    sizes = np.bincount(part)
    order = np.flatnonzero(sizes > 1)
    order = order[np.argsort(-sizes[order], kind="stable")][:n_pairs]
    vectors = np.array([np.where(part == p, root, 0.0) for p in order]).reshape(len(order), len(part))
    return vectors / np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))


class _Basis:
    """Orthonormal rows (the known vectors, then Lanczos') and how the matrix acts on them."""

    def __init__(self, matrix, known, n_rows):
        indptr, indices, weight = matrix
        xp = self.xp = backend.xp_of(weight)
        self.matrix, self.n_known, self.n_cells = matrix, len(known), len(indptr) - 1
        self.n_chunks, self.width = chunks(self.n_cells)
        self.rows = xp.zeros((self.n_known + n_rows + 1, self.n_cells))
        self.rows[: self.n_known] = xp.asarray(known)
        self.acts = xp.zeros((n_rows, self.n_known + n_rows + 1))
        self.square = xp.zeros(n_rows + 1)  # of the length of each new vector before it was normalised
        self._parts = xp.empty((2, self.n_chunks * (self.n_known + n_rows + 1)))
        self._image = xp.empty(self.n_cells)

    def append(self, x, place, record):
        """Put the part of x that is orthogonal to the rows before ``place`` there; ``record`` grows by its products with them."""
        n, (one, two) = self.n_known + place, self._parts
        size = (self.n_cells, self.width)
        kernels.dot_parts(self.n_chunks, self.rows, x, n, *size, one)
        kernels.subtract_rows(self.n_chunks, self.rows, one, n, *size, False, record, x, two)
        kernels.subtract_rows(self.n_chunks, self.rows, two, n, *size, True, record, x, one)  # once leaves what rounding brought in
        kernels.divide_by_root(self.n_cells, x, one, self.n_chunks, self.square[place : place + 1], self.rows[n])

    def step(self, place):
        """The matrix times Lanczos vector ``place`` gives the next one."""
        kernels.matrix_vector(self.n_cells, *self.matrix, self.rows[self.n_known + place], self._image)
        self.append(self._image, place + 1, self.acts[place])

    def combined(self, factor):
        """Combinations of the Lanczos vectors: factor (n_out, n)."""
        out = self.xp.empty((len(factor), self.n_cells))
        rows = self.rows[self.n_known :]
        kernels.combine_rows(self.n_cells, rows, self.xp.asarray(np.ascontiguousarray(factor)), factor.shape[1], len(factor), out)
        return out


def _lanczos(matrix, known, n_pairs, seed, tolerance, max_steps):
    n_cells = len(matrix[0]) - 1
    n_rows = min(n_cells - len(known) - 1, max(2 * n_pairs + 20, 40))
    basis, kept, n_starts, n_steps = _Basis(matrix, known, n_rows), 0, 0, 0
    xp = basis.xp
    fresh = True
    while True:
        if fresh:
            places = xp.arange(n_cells, dtype=np.uint64) + np.uint64(n_starts * n_cells)
            start = (rng.uniform(seed, "spectral", places) - 0.5) * (matrix[0][1:] > matrix[0][:-1])  # isolated cells stay out
            basis.append(start, kept, xp.zeros(len(known) + n_rows + 1))
            n_starts += 1
        for place in range(kept, n_rows):
            basis.step(place)
        n_steps += n_rows - kept
        lengths = np.sqrt(backend.to_host(basis.square))
        ended = [p for p in range(kept, n_rows) if lengths[p + 1] < BREAKDOWN]
        size = ended[0] + 1 if ended else n_rows
        fresh = bool(ended)
        acts = backend.to_host(basis.acts)[:size, len(known) : len(known) + size]
        acts = np.tril(acts) + np.tril(acts, -1).T
        values, small = np.linalg.eigh(acts)
        values, small = values[::-1], small[:, ::-1]
        residual = lengths[size] * np.abs(small[-1])
        done = (residual[:n_pairs] <= tolerance).all() and size >= n_pairs and not (fresh and n_starts <= n_pairs)
        if done or n_steps >= max_steps:
            return values[:n_pairs], backend.to_host(basis.combined(small[:, :n_pairs].T))
        kept = min(size, n_pairs + (n_rows - n_pairs) // 3, n_rows - 1)
        last = basis.rows[len(known) + size].copy()
        basis.rows[len(known) : len(known) + kept] = basis.combined(small[:, :kept].T)
        basis.rows[len(known) + kept] = last
        basis.acts[:] = 0
        basis.acts[xp.arange(kept), len(known) + xp.arange(kept)] = xp.asarray(values[:kept].copy())
