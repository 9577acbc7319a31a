"""What tests of groups of cells need of the values: counts, sums, squares and ranks, from blocks of cells."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.kernels import ranks as kernels

KEYS = 1 << 28  # sort keys of a block of genes: 2 GB, and as much again while they are sorted; each block reads all cells
DEVICE_KEYS = 1 << 25  # of a block where the cells lie on the device: reading them is cheap, memory is not
MAX_CODES = (1 << 16) - 1  # genes of a block and groups: each has 16 bits of a key
MAX_TIED = 3_800_000  # cells of which the sum over ties fits 64 bits


@dataclasses.dataclass
class Moments:
    """Exact sums of each group and gene; arrays of the host.

    The last row of ``size`` (groups + 1,) and ``table`` (groups + 1, genes, 5; int64, see ``kernels.ranks``) is of the cells
    outside all groups. ``rank_sum``: twice the rank sum, (genes, groups + 1); ``ties`` (genes, groups + 2): see
    ``kernels.ranks.group_ranks``; both None without ranks. ``reference``: the row of the reference, or -1 for the rest.
    """

    groups: list[str]
    genes: np.ndarray
    reference: int
    size: np.ndarray
    table: np.ndarray
    scale: float
    scale_squares: float
    rank_sum: np.ndarray | None = None
    ties: np.ndarray | None = None

    def n_others(self):
        """Cells that each group is compared with, (groups,)."""
        return self._others(self.size)

    def shares(self):
        """Share of cells that are not 0: of each group, and of the cells that it is compared with, (groups, genes)."""
        count = self.table[..., 0]
        return count[:-1] / self.size[:-1, None], self._others(count) / self.n_others()[:, None]

    def _others(self, table):
        if self.reference >= 0:
            return np.repeat(table[self.reference][None], len(table) - 1, axis=0)
        return table.sum(axis=0) - table[:-1]


def summarize(adata, groupby, *, groups="all", reference="rest", layer=None, mask_var=None, with_ranks=True) -> Moments:
    """All sums of an AnnData. Parameters as :func:`rsc_core.tl.rank_genes_groups`."""
    x, genes = values_of(adata, layer, mask_var)
    return summarize_blocks(lambda: [x], adata.obs, groupby, genes, groups=groups, reference=reference, with_ranks=with_ranks)


def summarize_blocks(blocks, obs, groupby, genes, *, groups="all", reference="rest", with_ranks=True) -> Moments:
    """All sums from blocks of cells: the same bits for any cut into blocks.

    Parameters
    ----------
    blocks
        Function without arguments that returns the blocks in order, CSR (cells, genes) on one backend. It is called
        twice, and with ranks once more for each :func:`most_keys` values that are not 0 (twice where there is a reference).
    obs
        Table of all cells.
    groupby
        Column of obs.
    genes
        Names (genes,).
    """
    labels = labels_of(obs, groupby)
    names = chosen_groups(labels, groupby, groups, reference)
    group = group_codes(labels, names)
    size = np.bincount(group, minlength=len(names) + 1)
    which = names.index(category_of(labels, reference)) if reference != "rest" else -1
    check_sizes(dict(zip(names, size, strict=False)), size, which, groupby)
    scales = scales_of(blocks, len(group))
    table = sums_of(blocks, group, len(size), len(genes), scales)
    ranks = ranks_of(blocks, group, size, table, which) if with_ranks else ()
    table = backend.to_host(table)
    return Moments([str(name) for name in names], np.asarray(genes, dtype=object), which, size, table, *scales, *ranks)


def values_of(adata, layer, mask_var=None):
    """CSR values and names of the genes, of some genes where there is a mask."""
    x, genes = data.csr(adata, layer), adata.var_names.to_numpy(dtype=object)
    if mask_var is None:
        return x, genes
    mask = np.asarray(adata.var[mask_var] if isinstance(mask_var, str) else mask_var)
    if mask.dtype != bool or mask.shape != genes.shape:
        raise ValueError(f"mask_var has dtype {mask.dtype} and shape {mask.shape}; a boolean for each of {genes.size} genes is needed")
    return x[:, backend.xp_of(x.data).asarray(np.flatnonzero(mask))].tocsr(), genes[mask]


def labels_of(obs, groupby) -> pd.Categorical:
    """A column of obs as categories."""
    if groupby not in obs:
        raise KeyError(f"groupby is {groupby!r}; obs has {', '.join(map(str, obs))}")
    return pd.Categorical(obs[groupby])


def category_of(labels, name):
    """The category that has this value or, as in a result, this text; the name itself where none has."""
    if name in labels.categories:
        return name
    return {str(category): category for category in labels.categories}.get(str(name), name)


def chosen_groups(labels, groupby, groups, reference) -> list:
    """The groups to summarise in order, the reference among them."""
    categories = list(labels.categories)
    if isinstance(groups, str) and groups != "all":
        raise ValueError(f"groups is {groups!r}; give 'all' or a list of groups")
    names = categories if isinstance(groups, str) else [category_of(labels, name) for name in groups]
    names = list(dict.fromkeys(names + ([] if reference == "rest" else [category_of(labels, reference)])))
    for name in names:
        if name not in categories:
            raise ValueError(f"{name!r} is no group of {groupby!r}; its groups are {', '.join(map(str, categories[:20]))}")
    if not names:
        raise ValueError(f"there is no group: {groupby!r} has no labels, or groups is empty")
    return names


def group_codes(labels, names) -> np.ndarray:
    """The place of each cell's label among the names, their number for a cell of none of them; uint16 (cells,)."""
    if len(names) >= MAX_CODES:
        raise ValueError(f"there are {len(names)} groups; at most {MAX_CODES - 1} can be compared")
    code = np.full(len(labels.categories) + 1, len(names), dtype=np.uint16)  # the last, code -1, is of cells without a label
    code[labels.categories.get_indexer(names)] = np.arange(len(names))
    return code[labels.codes]


def check_sizes(size_of, size, reference, groupby) -> None:
    """Raise ValueError for groups that no test can be made of."""
    small = [f"{name} ({n})" for name, n in size_of.items() if n < 2]
    if small:
        raise ValueError(
            f"groups of {groupby!r} with fewer than two cells: {', '.join(small[:20])}; leave them out with groups, "
            "or remove categories without cells with .cat.remove_unused_categories()"
        )
    if max(size_of.values()) == size.sum():
        raise ValueError(f"all cells are in the one group {next(iter(size_of))} of {groupby!r}; a comparison needs two groups")
    if reference >= 0 and len(size_of) < 2:
        raise ValueError(f"groups holds the reference alone; name another group of {groupby!r}")


def largest_value(x) -> float:
    """The largest absolute value of a CSR matrix; NaN if there is one, 0 without values."""
    _, _, values = backend.csr_parts(x, np.float32)
    xp, n_pieces = backend.xp_of(values), -(-values.size // kernels.PIECE)
    out = xp.zeros(n_pieces, dtype=np.float32)
    kernels.largest(n_pieces, values, values.size, out)
    return float(backend.to_host(out).max(initial=0))


def refuse_value(x, first_row: int) -> None:
    """Raise ValueError that names the first value of a block of cells that is not finite."""
    indptr, indices, values = (backend.to_host(part) for part in backend.csr_parts(x))
    at = np.flatnonzero(~np.isfinite(values))[0]
    row = first_row + np.searchsorted(indptr, at, side="right") - 1
    raise ValueError(f"the value in row {row}, column {indices[at]} is {values[at]}; remove the cell, or replace the value")


def scales_of(blocks, n_cells: int) -> tuple[float, float]:
    """Powers of two that the values and their squares are multiplied with, so that no sum of n_cells exceeds 2^61."""
    most, row = 0.0, 0
    for x in blocks():
        largest = largest_value(x)
        if not np.isfinite(largest):
            refuse_value(x, row)
        most, row = max(most, largest), row + x.shape[0]
    bits = 61 - math.ceil(math.log2(max(n_cells, 1)))
    return tuple(2.0 ** (bits - math.frexp(value)[1]) for value in (most, most * most))


def sums_of(blocks, group, n_groups: int, n_genes: int, scales):
    """The table of :class:`Moments`, where the blocks are.

    Parameters
    ----------
    blocks
        As for :func:`summarize_blocks`.
    group
        uint16 (cells,) of the host, below ``n_groups``.
    """
    table, row = None, 0
    for x in blocks():
        indptr, indices, values = backend.csr_parts(x, np.float32)
        if table is None:
            xp = backend.xp_of(values)
            table, group = xp.zeros((n_groups, n_genes, kernels.FIELDS), dtype=np.int64), xp.asarray(group)
        codes = group[row : row + x.shape[0]]
        order = xp.argsort(codes, kind="stable")
        kernels.group_sums(x.shape[0], indptr, indices, values, order, codes, kernels.n_parts(), n_genes, *scales, table)
        row += x.shape[0]
    return table


def ranks_of(blocks, group, size, table, reference: int) -> tuple[np.ndarray, np.ndarray]:
    """``rank_sum`` and ``ties`` of :class:`Moments`, by blocks of genes that have at most :func:`most_keys` values.

    The device gets all its work before it is asked for a result.
    """
    xp, (n_groups, n_genes) = backend.xp_of(table), table.shape[:2]
    count, code, sizes = xp.ascontiguousarray(table[..., 0]), xp.asarray(group), xp.asarray(size)
    n_values = backend.to_host(count)
    n_all, n_base = n_values.sum(axis=0), int(size.sum() if reference < 0 else size[reference])
    twice, tie = xp.zeros((n_genes, n_groups), dtype=np.int64), xp.zeros((n_genes, n_groups + 1), dtype=np.int64)
    for first, last in gene_blocks(n_all, most_keys(blocks())):
        part, width = slice(first, last), last - first
        keys, start = sorted_keys(blocks, code, n_all[part], first, last, -1)
        base, base_start = (keys, start) if reference < 0 else sorted_keys(blocks, code, n_values[reference, part], first, last, reference)
        kernels.group_ranks(keys.size, keys, start, base, base_start, n_base, width, n_groups, reference, twice[part], tie[part])
        held = xp.ascontiguousarray(count[:, part])
        kernels.zero_ranks(width, base, base_start, n_base, sizes, held, n_groups, reference, twice[part], tie[part])
    twice, tie = backend.to_host(twice), backend.to_host(tie)
    if reference >= 0:
        twice += size * (size + 1)
    return twice, tie


def most_keys(blocks) -> int:
    """Keys of a block of genes."""
    on_device = isinstance(blocks, list) and backend.xp_of(blocks[0].data) is not np
    return min(KEYS, DEVICE_KEYS) if on_device else KEYS


def gene_blocks(n_values, n_keys):
    """Cuts of the genes so that each part has at most this many values, or one gene."""
    total, first = np.concatenate([[0], np.cumsum(n_values)]), 0
    while first < len(n_values):
        last = int(np.searchsorted(total, total[first] + n_keys, side="right")) - 1
        last = min(max(last, first + 1), first + MAX_CODES)
        yield first, last
        first = last


def sorted_keys(blocks, code, n_values, first: int, last: int, only: int):
    """The keys of some genes, of all cells or of one group's, sorted; and where each gene's begin (genes + 1,)."""
    xp, row = backend.xp_of(code), 0
    start = xp.asarray(np.concatenate([[0], np.cumsum(n_values)]).astype(np.int64))
    keys, cursor = xp.empty(int(n_values.sum()), dtype=np.uint64), start[:-1].copy()
    for x in blocks():
        part = backend.csr_parts(x, np.float32)
        codes = code[row : row + x.shape[0]]
        kernels.fill_keys(x.shape[0], *part, codes, kernels.n_parts(), first, last, only, cursor, keys)
        row += x.shape[0]
    if xp is np:
        kernels.sort_keys(last - first, keys, np.empty_like(keys), start)
    elif keys.size:
        keys.sort()
    return keys, start
