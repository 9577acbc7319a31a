"""What synthetic cells are made of: a tree of cell types, programs, batches, library sizes, a tissue.

mu(cell, gene) = library · batch factor(gene) · (type, neighbouring type and programs, mixed). Nothing of a cell depends on how
many cells there are, so a small set is the beginning of a large one. Values that libm had a part in are cut to few bits:
machines whose libm differ in a last bit draw the same counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Percentiles of log(share of all UMIs) of the genes of a human pancreas (Baron et al. 2016, doi:10.1016/j.cels.2016.08.011).
PERCENTILES = (0, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100)
LOG_SHARE = (-16.5, -15.2, -14.2, -12.6, -11.2, -10.2, -9.3, -8.7, -7.2, -5.8, -4.0)
N_TYPES, N_PROGRAMS, N_MIXED = 24, 12, 4
CHUNK = 4096  # cells whose properties come from one generator
BITS = 14  # of a mantissa that are kept


@dataclass(frozen=True)
class Settings:
    """Strength of each part; the defaults lie in the acceptance band (accept.py)."""

    branch_genes: float = 0.05  # share of the genes that a branch of the tree changes
    branch_fold: float = 1.1  # standard deviation of their log fold change
    trunk_fold: float = 1.15  # the same of the first branches, which make the first component
    program_genes: float = 0.012
    program_fold: float = 1.6
    program_share: float = 0.30  # largest share of a cell's UMIs from programs
    continuum: float = 0.45  # share of the cells between two neighbouring types
    batch_fold: float = 0.12
    log_library: float = 8.56
    log_library_sd: float = 0.52


@dataclass(frozen=True)
class Model:
    """Tables of genes: float32 (types + programs, genes) shares, float32 (batches, genes) factors, int32 (genes,) log2 of 2 size."""

    table: np.ndarray
    batch_factor: np.ndarray
    log_size: np.ndarray
    neighbor: np.ndarray
    centers: np.ndarray
    settings: Settings
    seed: int

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.table.shape[1]


@dataclass(frozen=True)
class Cells:
    """Properties of some cells: what :func:`bench.draw.draw_counts` takes, their type and their place."""

    first: int
    kind: np.ndarray
    batch: np.ndarray
    library: np.ndarray
    table_row: np.ndarray
    weight: np.ndarray
    spatial: np.ndarray


def cut(x):
    """The value with :data:`BITS` bits of mantissa."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(mantissa * 2.0**BITS) / 2.0**BITS, exponent)


def make_model(n_genes=25_000, n_batches=8, seed=0, settings=None) -> Model:
    """The tables of a seed."""
    s = settings or Settings()
    draw = np.random.default_rng([seed, n_genes, n_batches])
    log_share = np.interp(draw.random(n_genes) * 100, PERCENTILES, LOG_SHARE)
    fold, neighbor = _tree(draw, n_genes, s)
    programs = _changes(draw, N_PROGRAMS, n_genes, s.program_genes, s.program_fold, positive=True)
    batches = draw.normal(0, s.batch_fold, (n_batches, n_genes)) if n_batches > 1 else np.zeros((1, n_genes))
    share = np.exp(log_share + np.vstack([fold, programs]))
    share /= share.sum(axis=1, keepdims=True)
    log_size = draw.choice(4, n_genes, p=(0.25, 0.35, 0.25, 0.15))
    centers = draw.random((N_TYPES, 5, 2))
    return Model(
        cut(share).astype(np.float32), cut(np.exp(batches)).astype(np.float32), log_size.astype(np.int32), neighbor, centers, s, seed
    )


def _changes(draw, n_rows, n_genes, share, fold, positive=False):
    changed = draw.random((n_rows, n_genes)) < share
    size = draw.normal(0, fold, (n_rows, n_genes))
    return np.where(changed, np.abs(size) if positive else size, 0.0)


def _tree(draw, n_genes, s):
    """Log fold changes of the leaves of a binary tree, and of each leaf the one that split off last."""
    fold, neighbor = np.zeros((2, n_genes)), np.array([1, 0])
    fold += _changes(draw, 2, n_genes, s.branch_genes, s.trunk_fold)
    while len(fold) < N_TYPES:
        parent = len(fold) % max(2, len(fold) // 2) if len(fold) > 3 else len(fold) - 2
        fold = np.vstack([fold, fold[parent]])
        pair = [parent, len(fold) - 1]
        fold[pair] += _changes(draw, 2, n_genes, s.branch_genes, s.branch_fold)
        neighbor = np.append(neighbor, parent)
        neighbor[parent] = len(fold) - 1
    return fold, neighbor


def make_cells(model: Model, start: int, stop: int) -> Cells:
    """Properties of cells ``start`` to ``stop``; equal whatever the range is."""
    chunks = [_chunk(model, number) for number in range(start // CHUNK, -(-stop // CHUNK))]
    offset = start // CHUNK * CHUNK
    here = slice(start - offset, stop - offset)
    parts = {key: np.concatenate([chunk[key] for chunk in chunks])[here] for key in chunks[0]}
    return Cells(start, **parts)


def _chunk(model: Model, number: int) -> dict:
    draw, s = np.random.default_rng([model.seed, 7, number]), model.settings
    frequency = 1.0 / np.arange(2, N_TYPES + 2) ** 0.7
    kind = draw.choice(N_TYPES, CHUNK, p=frequency / frequency.sum())
    batch = draw.integers(len(model.batch_factor), size=CHUNK)
    library = np.rint(np.exp(draw.normal(s.log_library, s.log_library_sd, CHUNK)))
    blob = draw.integers(model.centers.shape[1], size=CHUNK)
    spatial = np.clip(model.centers[kind, blob] + draw.normal(0, 0.05, (CHUNK, 2)), 0, 1)
    between = np.where(draw.random(CHUNK) < s.continuum, draw.random(CHUNK) * 0.5, 0.0)
    active = (draw.integers(0, N_PROGRAMS - 1, CHUNK) + 1, np.zeros(CHUNK, dtype=np.int64))
    field = 0.5 + 0.5 * np.sin(2 * np.pi * spatial[:, 0]) * np.cos(2 * np.pi * spatial[:, 1])  # program 0 varies over the tissue
    program = (draw.beta(0.6, 1.5, CHUNK) * s.program_share, field * 0.3 * s.program_share)
    rest = 1.0 - program[0] - program[1]
    weight = np.stack([rest * (1 - between), rest * between, *program], axis=1)
    rows = np.stack([kind, model.neighbor[kind], N_TYPES + active[0], N_TYPES + active[1]], axis=1)
    return {
        "kind": kind,
        "batch": batch.astype(np.int32),
        "library": library,
        "table_row": rows.astype(np.int32),
        "weight": np.rint(weight * 4096) / 4096,
        "spatial": np.rint(spatial * 1e6),
    }
