"""Largest eigenvectors of XᵀX by products with few columns: no matrix (genes, genes) is made."""

from __future__ import annotations

import numpy as np

from rsc_core import backend, rng

OVERSAMPLES, POWERS = 20, 7  # of the randomized method
MAX_RESTARTS, TOLERANCE = 100, 1e-11  # of Lanczos: largest residual over largest eigenvalue


class Centred:
    """X - 1μᵀ as an operator, by row blocks, float64; with ``zero_center`` False X.

    Parameters
    ----------
    x
        CSR, dense or row blocks.
    strips
        Function that gives pairs (first row, dense float64 strip).
    """

    def __init__(self, x, strips, zero_center: bool):
        self.x, self.strips, self.shape, self.xp = x, strips, x.shape, backend.xp_of(x)
        self.total, self.squares = self.xp.zeros(x.shape[1]), self.xp.zeros(x.shape[1])
        for _, strip in strips(x):
            self.total += strip.sum(axis=0)
            self.squares += (strip * strip).sum(axis=0)
        self.mean = self.total / x.shape[0]
        self.shift = self.mean if zero_center else self.xp.zeros_like(self.mean)

    def gram(self, q):
        """(X - 1μᵀ)ᵀ (X - 1μᵀ) q, float64 (genes, k)."""
        out, ones, shift = self.xp.zeros(q.shape), 0, self.shift @ q
        for _, strip in self.strips(self.x):
            product = strip @ q - shift
            out += strip.T @ product
            ones = ones + product.sum(axis=0)
        return out - self.shift[:, None] * ones


def start(seed: int, n_genes: int, n_columns: int, xp):
    """Normal random numbers by counters: equal on both backends but for the last bits of logarithm and cosine."""
    index = np.arange(n_genes * n_columns, dtype=np.uint64)
    radius = np.sqrt(-2 * np.log1p(-rng.uniform(seed, "pca", 2 * index)))
    return xp.asarray((radius * np.cos(2 * np.pi * rng.uniform(seed, "pca", 2 * index + np.uint64(1)))).reshape(n_genes, n_columns))


def randomized(operator: Centred, n: int, seed: int):
    """The n largest eigenvalues and their vectors: subspace iteration from random vectors (Halko et al. 2011, algorithm 4.4).

    Returns
    -------
    float64 (n,) falling, (genes, n).
    """
    xp, n_genes = operator.xp, operator.shape[1]
    q = xp.linalg.qr(start(seed, n_genes, min(n_genes, n + OVERSAMPLES), xp))[0]
    for _ in range(POWERS):
        q = xp.linalg.qr(operator.gram(q))[0]
    return _ritz(operator.gram(q), q, n)


def lanczos(operator: Centred, n: int, seed: int):
    """The n largest eigenvalues and their vectors: block Lanczos, thick restarts, full orthogonalisation.

    A block holds as many vectors as are searched for, so that a pass over the matrix extends the basis by all of them; eigenvalues that
    are equal are found together. Ends at residuals of ``TOLERANCE`` of the largest eigenvalue, or when the basis fills the space.
    """
    xp, n_genes = operator.xp, operator.shape[1]
    width = min(n_genes, n + 8)
    block = xp.linalg.qr(start(seed, n_genes, width, xp))[0]
    basis, images = block[:, :0], block[:, :0]
    for _ in range(MAX_RESTARTS):
        image = operator.gram(block)
        basis, images = xp.concatenate([basis, block], axis=1), xp.concatenate([images, image], axis=1)
        values, vectors = _eigh(basis.T @ images)
        ritz = basis @ vectors[:, :width]
        apart = images @ vectors[:, :width] - ritz * values[:width]
        size = backend.to_host(xp.sqrt((apart[:, :n] * apart[:, :n]).sum(axis=0)))
        if basis.shape[1] >= n_genes or size.max() <= TOLERANCE * max(float(values[0]), 1e-300):
            break
        if basis.shape[1] > 5 * width:
            basis, images = ritz, images @ vectors[:, :width]
        block = _new_directions(apart, basis)
        if block.shape[1] == 0:
            break
    return values[:n], ritz[:, :n]


def _new_directions(block, basis):
    """Orthonormal columns that span what the block has outside the basis; twice, for rounding."""
    xp = backend.xp_of(block)
    block = block[:, : basis.shape[0] - basis.shape[1]]
    length = xp.sqrt((block * block).sum(axis=0))
    block = block / xp.where(length > 0, length, 1.0)
    for _ in range(2):
        block = block - basis @ (basis.T @ block)
        block = xp.linalg.qr(block)[0]
    return block


def _ritz(image, q, n: int):
    values, vectors = _eigh(q.T @ image)
    return values[:n], q @ vectors[:, :n]


def _eigh(small):
    """Eigenvalues, falling, and vectors of a small symmetric matrix."""
    xp = backend.xp_of(small)
    values, vectors = xp.linalg.eigh((small + small.T) / 2)
    return values[::-1].copy(), xp.ascontiguousarray(vectors[:, ::-1])
