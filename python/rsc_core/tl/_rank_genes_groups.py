"""Marker genes: each group of cells against the rest, or against a reference group."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.kernels import ranks as kernels
from rsc_core.stats import benjamini_hochberg

KEYS = 1 << 27  # sort keys of a block of genes: 1 GB, and as much again while they are sorted
MAX_CODES = (1 << 16) - 1  # genes of a block and groups: each has 16 bits of a key
TIDY = ["group", "gene", "rank", "score", "log2_fold_change", "p_value", "adjusted_p_value", "pct_in", "pct_out"]
CORRECTIONS = {"benjamini-hochberg": benjamini_hochberg, "bonferroni": lambda p: np.minimum(p * p.shape[-1], 1.0)}


def rank_genes_groups(
    adata,
    groupby,
    *,
    groups="all",
    reference="rest",
    n_genes=None,
    rankby_abs=False,
    pts=False,
    key_added=None,
    method="t-test",
    corr_method="benjamini-hochberg",
    tie_correct=False,
    use_raw=False,
    layer=None,
):
    """Which genes does a group of cells express more than the others?

    wilcoxon: z = (R - n (n + m + 1) / 2) / sqrt(T n m (n + m + 1) / 12), R the sum of the group's average ranks among its
    n cells and the m others; T = 1, with ``tie_correct`` 1 - sum(t^3 - t) / (N^3 - N) over ties of t among N = n + m cells.
    t-test: Welch's t of the means; ``t-test_overestim_var`` takes n for the number of the others.
    log2 fold change = log2((e^mean - 1 + 1e-9) / (e^mean of the others - 1 + 1e-9)).
    A high score: more in the group.

    Parameters
    ----------
    adata
        AnnData with log-normalised values, (cells, genes), CSR (CSC and dense are converted), NumPy or CuPy inside; used
        as float32.
    groupby
        Column of obs; not changed where it is not categorical.
    groups
        Which groups, in this order; by default all, in the order of the categories. ``rest`` is all other cells all the
        same, those without a label included.
    reference
        ``"rest"``, or the group that all others are compared with.
    n_genes
        Genes in the result; by default all.
    rankby_abs
        Order genes by the size of the score.
    pts
        Add the share of cells in which a gene is not 0.
    key_added
        Key of uns, ``rank_genes_groups`` by default.
    method
        ``"wilcoxon"``, ``"t-test"`` or ``"t-test_overestim_var"``.
    corr_method
        ``"benjamini-hochberg"`` or ``"bonferroni"``.
    tie_correct
        Correct Wilcoxon's variance for ties.
    use_raw
        Taken for scanpy's callers; ``adata.raw`` is never used.
    layer
        Layer to use instead of X.

    Returns
    -------
    None; ``uns[key_added]`` holds ``params``, record arrays with a field a group (``names`` object, ``scores`` and
    ``logfoldchanges`` float32, ``pvals`` and ``pvals_adj`` float64, best first) and with ``pts`` the tables ``pts`` and
    ``pts_rest`` (genes, groups).

    Raises
    ------
    ValueError
        For a group of fewer than two cells (as scanpy), one group that is all cells, an unknown group, values that are
        not finite.

    Notes
    -----
    Rank sums are integers, and CPU and GPU add the same numbers in the same order: results are equal to the bit.
    A gene that varies nowhere has score 0 and p 1. A variance below what its sums can resolve counts as 0. A fold change
    between means of which one is negative is NaN.
    scanpy 1.11 agrees in Wilcoxon's scores to the bit before they are rounded to float32, p-values within 1e-12;
    in t-tests within 1e-9 for float64 values: it adds cells in another order, and squares in the type of the values,
    so that for float32 its variances, and with them t, are off by 1e-7 relative. Genes of equal score stand in the order
    of var (scanpy: undefined). Wilcoxon 1945, Biometrics Bulletin 1:80; Welch 1947, Biometrika 34:28.
    """
    check_choice("method", method, METHODS)
    check_choice("corr_method", corr_method, CORRECTIONS)
    moments = summarize(adata, groupby, groups=groups, reference=reference, layer=layer, with_ranks=method == "wilcoxon")
    base = adata.uns.get("log1p", {}).get("base")
    options = {"n_genes": n_genes, "rankby_abs": rankby_abs, "pts": pts, "corr_method": corr_method, "tie_correct": tie_correct}
    result = ranked(moments, method, base=base, **options)
    params = {"groupby": groupby, "reference": reference, "method": method, "use_raw": False, "layer": layer, "corr_method": corr_method}
    adata.uns[key_added or "rank_genes_groups"] = {"params": params, **result}


@dataclasses.dataclass
class Moments:
    """What every test of groups needs: arrays of the host, (groups, genes) but for ``size`` (groups,).

    The last row is of the cells outside all groups. ``count``: values that are not 0, ``total`` and ``squares``: their
    sums; ``rank_sum``: twice the rank sum; ``ties``: sum of t^3 - t. ``reference``: its row, or -1 for the rest.
    """

    groups: list[str]
    genes: np.ndarray
    reference: int
    size: np.ndarray
    count: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    rank_sum: np.ndarray | None
    ties: np.ndarray | None

    def others(self, table):
        """Sum of a table over the cells that each group is compared with, without subtraction: no digits are lost."""
        if self.reference >= 0:
            return np.broadcast_to(table[self.reference], table[:-1].shape)
        before, after = np.zeros_like(table), np.zeros_like(table)
        np.cumsum(table[:-1], axis=0, out=before[1:])
        np.cumsum(table[:0:-1], axis=0, out=after[-2::-1])
        return (before + after)[:-1]


def summarize(adata, groupby, *, groups="all", reference="rest", layer=None, with_ranks=True) -> Moments:
    """One pass over the values for all tests. Parameters as :func:`rank_genes_groups`."""
    labels = labels_of(adata, groupby)
    names = chosen_groups(labels, groupby, groups, reference)
    code = np.full(len(labels.categories) + 1, len(names), dtype=np.uint16)  # the last, code -1, is of cells without a label
    code[labels.categories.get_indexer(names)] = np.arange(len(names))
    group = code[labels.codes]
    size = np.bincount(group, minlength=len(names) + 1)
    which = names.index(reference) if reference != "rest" else -1
    check_sizes(dict(zip(names, size, strict=False)), size, which, groupby)
    x = data.csr(adata, layer)
    xp = backend.xp_of(x.data)
    parts = group_sums(x, xp.asarray(group), xp.asarray(size), which, with_ranks)
    check_values(x, parts[2])
    return Moments([str(name) for name in names], adata.var_names.to_numpy(dtype=object), which, size, *parts)


def labels_of(adata, groupby) -> pd.Categorical:
    """A column of obs as categories."""
    if groupby not in adata.obs:
        raise KeyError(f"groupby is {groupby!r}; obs has {', '.join(map(str, adata.obs))}")
    return pd.Categorical(adata.obs[groupby])


def chosen_groups(labels, groupby, groups, reference) -> list:
    """The groups to summarise in order, the reference among them."""
    categories = list(labels.categories)
    if isinstance(groups, str) and groups != "all":
        raise ValueError(f"groups is {groups!r}; give 'all' or a list of groups")
    names = categories if isinstance(groups, str) else list(dict.fromkeys(g if g in categories else str(g) for g in groups))
    for name in names + ([reference] if reference != "rest" else []):
        if name not in categories:
            raise ValueError(f"{name!r} is no group of {groupby!r}; its groups are {', '.join(map(str, categories[:20]))}")
    if not names:
        raise ValueError(f"there is no group: {groupby!r} has no labels, or groups is empty")
    return names if reference == "rest" or reference in names else [*names, reference]


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
    if len(size) > MAX_CODES:
        raise ValueError(f"{groupby!r} has {len(size_of)} groups; at most {MAX_CODES - 1} can be compared")


def check_values(x, squares) -> None:
    """Raise ValueError that names the first value that is not finite; sums of squares of finite float32 are finite."""
    if np.isfinite(squares).all():
        return
    indptr, indices, values = (backend.to_host(part) for part in backend.csr_parts(x))
    at = np.flatnonzero(~np.isfinite(values))[0]
    row = np.searchsorted(indptr, at, side="right") - 1
    raise ValueError(f"the value in row {row}, column {indices[at]} is {values[at]}; remove the cell, or replace the value")


def group_sums(x, group, size, reference, with_ranks):
    """Counts, sums, sums of squares, twice the rank sums and tie terms of each group and gene.

    Parameters
    ----------
    x
        CSR (cells, genes).
    group
        uint16 (cells,): below ``len(size)``; the last is of cells outside all groups.
    size
        int64 (groups + 1,).
    reference
        Group that ranks are taken against, -1: all cells.
    with_ranks
        Without them the last two results are None.

    Returns
    -------
    Five arrays of the host, (groups + 1, genes), the tie terms (groups, genes).
    """
    indptr, indices, values = backend.csr_parts(x, np.float32)
    xp, (n_cells, n_genes), n_groups = backend.xp_of(values), x.shape, size.size
    dtypes = [np.int64, np.float64, np.float64] + ([np.int64, np.float64] if with_ranks else [])
    tables = [np.zeros((n_genes, n_groups + (i == 4)), dtype) for i, dtype in enumerate(dtypes)]
    width, first = block_width(n_genes, values.size), 0
    while first < n_genes:
        last = min(n_genes, first + width)
        count = xp.zeros(n_cells, dtype=np.int64)
        kernels.key_counts(n_cells, indptr, indices, values, first, last, count)
        offset = np.concatenate([[0], np.cumsum(backend.to_host(count))])
        if offset[-1] > KEYS and width > 1:
            width //= 2
            continue
        keys = xp.empty(int(offset[-1]), dtype=np.uint64)
        kernels.fill_keys(n_cells, indptr, indices, values, group, first, last, xp.asarray(offset[:-1]), keys)
        if keys.size:
            keys.sort()
        block = [xp.zeros((last - first, table.shape[1]), dtype=table.dtype) for table in tables]
        kernels.group_moments(last - first, keys, keys.size, n_groups, *block[:3])
        if with_ranks:
            kernels.group_ranks(last - first, keys, keys.size, size, n_groups, reference, block[0], *block[3:])
        for table, part in zip(tables, block, strict=True):
            table[first:last] = backend.to_host(part)
        first = last
    count, total, squares, *ranks = (table.T for table in tables)
    if not with_ranks:
        return count, total, squares, None, None
    twice, tie = ranks
    size = backend.to_host(size)[:, None]
    return count, total, squares, twice if reference < 0 else twice + size * (size + 1), tie[: n_groups - 1] + tie[n_groups]


def block_width(n_genes: int, nnz: int) -> int:
    """Genes of a block, if all had the same number of values; a block never splits a gene, so no result depends on it."""
    return max(1, min(n_genes, MAX_CODES, n_genes * KEYS // max(1, nnz)))


def wilcoxon(moments, tie_correct):
    """z and two-sided p, (groups, genes), from rank sums; the order of operations is scanpy's."""
    from scipy.special import ndtr

    n = moments.size[:-1, None]
    m = moments.size[moments.reference] if moments.reference >= 0 else moments.size.sum() - n
    n_cells = np.asarray(n + m, dtype=np.float64)
    spread = 1.0 - moments.ties / (n_cells**3 - n_cells) if tie_correct else 1
    with np.errstate(invalid="ignore", divide="ignore"):
        score = (moments.rank_sum[:-1] / 2 - n * ((n + m + 1) / 2.0)) / np.sqrt(spread * n * m * (n + m + 1) / 12.0)
    score[np.isnan(score)] = 0
    return score, 2 * ndtr(-np.abs(score))


def t_test(moments, overestimate):
    """Welch's t and two-sided p, (groups, genes)."""
    from scipy.special import stdtr

    n = moments.size[:-1, None]
    m = moments.others(moments.size[:, None])
    mean, variance = mean_and_variance(n, moments.total[:-1], moments.squares[:-1])
    mean_others, variance_others = mean_and_variance(m, moments.others(moments.total), moments.others(moments.squares))
    share, share_others = variance / n, variance_others / (n if overestimate else m)
    with np.errstate(invalid="ignore", divide="ignore"):
        df = (share + share_others) ** 2 / (share**2 / (n - 1) + share_others**2 / ((n if overestimate else m) - 1))
        score = (mean - mean_others) / np.sqrt(share + share_others)
    score[np.isnan(score)] = 0
    df[np.isnan(df)] = 1
    return score, np.where(score == 0, 1.0, 2 * stdtr(df, -np.abs(score)))


def mean_and_variance(n, total, squares):
    """Mean and unbiased variance; a variance within the rounding of its sums is 0."""
    mean = total / n
    spread = squares - total * mean
    spread[spread <= n * np.finfo(np.float64).eps * squares] = 0
    return mean, spread / np.maximum(n - 1, 1)


METHODS = {
    "t-test": lambda moments, tie_correct: t_test(moments, overestimate=False),
    "t-test_overestim_var": lambda moments, tie_correct: t_test(moments, overestimate=True),
    "wilcoxon": wilcoxon,
}


def ranked(
    moments, method, *, n_genes=None, rankby_abs=False, pts=False, corr_method="benjamini-hochberg", tie_correct=False, base=None
) -> dict:
    """scanpy's record arrays from the moments, best genes first. Parameters as :func:`rank_genes_groups`.

    ``base``: of the logarithm; None is e.
    """
    score, p = METHODS[method](moments, tie_correct)
    adjusted = CORRECTIONS[corr_method](p)
    unlog = (lambda mean: np.expm1(mean * np.log(base))) if base else np.expm1
    n, m = moments.size[:-1, None], moments.others(moments.size[:, None])
    with np.errstate(invalid="ignore"):
        fold = np.log2((unlog(moments.total[:-1] / n) + 1e-9) / (unlog(moments.others(moments.total) / m) + 1e-9))
    rows = [row for row in range(len(moments.groups)) if row != moments.reference]
    best = {row: np.argsort(-np.abs(score[row]) if rankby_abs else -score[row], kind="stable")[:n_genes] for row in rows}

    def records(table, dtype):
        fields = [(moments.groups[row], dtype) for row in rows]
        return np.rec.fromarrays([table[row][best[row]].astype(dtype) for row in rows], dtype=fields)

    names = np.broadcast_to(moments.genes, score.shape)
    shares = {}
    if pts:
        shares["pts"] = by_gene(moments, moments.count[:-1] / n)
        if moments.reference < 0:
            shares["pts_rest"] = by_gene(moments, moments.others(moments.count) / m)
    return {
        **shares,
        "names": records(names, "O"),
        "scores": records(score, "float32"),
        "pvals": records(p, "float64"),
        "pvals_adj": records(adjusted, "float64"),
        "logfoldchanges": records(fold, "float32"),
    }


def by_gene(moments, table) -> pd.DataFrame:
    """A table (groups, genes) as a frame (genes, groups)."""
    return pd.DataFrame(table.T, index=pd.Index(moments.genes), columns=moments.groups)


def tidy(result, reference="rest") -> pd.DataFrame:
    """A result with ``pts`` as one table, a row for each group and gene, best first.

    Returns
    -------
    DataFrame with columns group, gene, rank (1 is best), score, log2_fold_change, p_value, adjusted_p_value, pct_in,
    pct_out (share of the cells of the group, and of those it is compared with, in which the gene is not 0).
    """
    tables = [pd.DataFrame(columns=TIDY)]
    for group in result["names"].dtype.names:
        genes = pd.Index(result["names"][group])
        outside = result["pts_rest"][group] if reference == "rest" else result["pts"][reference]
        columns = [result[key][group] for key in ("scores", "logfoldchanges", "pvals", "pvals_adj")]
        shares = [share.loc[genes].to_numpy() for share in (result["pts"][group], outside)]
        columns = [group, genes, np.arange(1, len(genes) + 1), *columns, *shares]
        tables.append(pd.DataFrame(dict(zip(TIDY, columns, strict=True))))
    return pd.concat(tables[1:] or tables, ignore_index=True)


def check_choice(name, value, allowed) -> None:
    """Raise ValueError unless a value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(sorted(allowed))}")
