"""Marker genes: each group of cells against the rest, or against a reference group."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pandas as pd

from rsc_core.kernels import markers as kernels
from rsc_core.kernels import orders
from rsc_core.stats import benjamini_hochberg, in_threads
from rsc_core.tl._group_moments import MAX_TIED, chosen_groups, group_codes, labels_of, summarize, values_of
from rsc_core.tl._logreg import logistic

PART = 1 << 15  # scores that a thread computes at once, with their p-values: some milliseconds
NUMBERS = {"scores": "float32", "pvals": "float64", "pvals_adj": "float64", "logfoldchanges": "float32"}  # of a result
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
    continuity=False,
    use_raw=False,
    layer=None,
    mask_var=None,
    **kwds,
):
    """Which genes does a group of cells express more than the others?

    wilcoxon: z = (R - n (n + m + 1) / 2) / sqrt(T n m (n + m + 1) / 12), R the sum of the group's average ranks among its
    n cells and the m others; T = 1, with ``tie_correct`` 1 - sum(t^3 - t) / (N^3 - N) over ties of t among N = n + m cells.
    t-test: Welch's t of the means; ``t-test_overestim_var`` takes n for the number of the others.
    logreg: coefficients of a multinomial regression of the groups on all genes at once, penalty |W|^2 / (2 C), an intercept for each.
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
        ``"wilcoxon"``, ``"t-test"``, ``"t-test_overestim_var"`` or ``"logreg"``, which compares the groups with each other and
        leaves all other cells out.
    corr_method
        ``"benjamini-hochberg"`` or ``"bonferroni"``.
    tie_correct
        Correct Wilcoxon's variance for ties; at most 3.8 million cells.
    continuity
        Bring Wilcoxon's rank sum half a rank nearer to its expectation (scanpy: never).
    use_raw
        Taken for scanpy's callers; ``adata.raw`` is never used.
    layer
        Layer to use instead of X.
    mask_var
        Genes to use: a boolean for each, or such a column of var.
    kwds
        For logreg: ``C`` (1), ``tol`` (1e-4) and ``max_iter`` (1000). As scikit-learn's lbfgs it stops when no entry of the gradient
        of the objective divided by the number of cells exceeds ``tol``.

    Returns
    -------
    None; ``uns[key_added]`` holds ``params``, record arrays with a field a group (``names`` object, ``scores`` and
    ``logfoldchanges`` float32, ``pvals`` and ``pvals_adj`` float64, best first) and with ``pts`` the tables ``pts`` and
    ``pts_rest`` (genes, groups). logreg has names and scores alone, and states in ``params`` C, tol, the number of steps
    (``n_iter``) and the largest entry of the gradient that was reached (``gradient_norm``); of two groups it has the first,
    as scanpy, but its coefficients tell the first from the second (scanpy 1.11: the second from the first).

    Raises
    ------
    ValueError
        For a group of fewer than two cells (as scanpy), one group that is all cells, an unknown group, values that are
        not finite.

    Warns
    -----
    UserWarning
        Where logreg stopped before it converged.

    Notes
    -----
    All sums, of values and squares, too, are exact sums of integers: CPU and GPU give the same bits, in any order of the cells.
    A gene that varies nowhere has score 0 and p 1. A variance below what its sums can resolve counts as 0. A fold change
    between means of which one is negative is NaN. Exponentials and logarithms of fold changes are the C library's, whose last
    bits, of float64, may differ from NumPy's.
    scanpy 1.11 agrees in Wilcoxon's scores to the bit before they are rounded to float32, p-values within 1e-12;
    in t-tests p-values within 1e-12 + 1e-15 t^2 and scanpy's own error for float64 values: it adds cells one by one, and
    squares in the type of the values, so that for float32 its variances, and with them t, are off by 1e-7 relative. Genes of
    equal score stand in the order of var (scanpy: undefined). Wilcoxon 1945, Biometrics Bulletin 1:80; Welch 1947, Biometrika 34:28.
    """
    check_choice("method", method, [*METHODS, "logreg"])
    check_choice("corr_method", corr_method, CORRECTIONS)
    if method == "logreg":
        _rank_by_regression(adata, groupby, groups, reference, layer, mask_var, n_genes, rankby_abs, pts, key_added, corr_method, kwds)
        return
    if kwds:
        raise TypeError(f"{method} takes no {', '.join(kwds)}; only logreg takes C, tol and max_iter")
    moments = summarize(adata, groupby, groups=groups, reference=reference, layer=layer, mask_var=mask_var, with_ranks=method == "wilcoxon")
    options = {"tie_correct": tie_correct, "continuity": continuity} if method == "wilcoxon" else {}
    score, p = METHODS[method](moments, **options)
    base = adata.uns.get("log1p", {}).get("base")
    result = ranked(moments, score, p, n_genes=n_genes, rankby_abs=rankby_abs, pts=pts, corr_method=corr_method, base=base)
    params = {"groupby": groupby, "reference": reference, "method": method, "use_raw": False, "layer": layer, "corr_method": corr_method}
    adata.uns[key_added or "rank_genes_groups"] = {"params": params, **result}


def _rank_by_regression(adata, groupby, groups, reference, layer, mask_var, n_genes, rankby_abs, pts, key_added, corr_method, kwds):
    moments = summarize(adata, groupby, groups=groups, reference=reference, layer=layer, mask_var=mask_var, with_ranks=False)
    x, genes = values_of(adata, layer, mask_var)
    group = group_codes(labels_of(adata.obs, groupby), chosen_groups(labels_of(adata.obs, groupby), groupby, groups, reference))
    score, rows, stated = regression_scores(lambda: [x], group, len(moments.groups), len(genes), **kwds)
    result = ranked(moments, score, n_genes=n_genes, rankby_abs=rankby_abs, pts=pts, rows=rows)
    del result["logfoldchanges"]
    params = {"groupby": groupby, "reference": reference, "method": "logreg", "use_raw": False, "layer": layer, "corr_method": corr_method}
    adata.uns[key_added or "rank_genes_groups"] = {"params": params | stated, **result}


def regression_scores(blocks, group, n_groups, n_genes, **options):
    """Scores (groups, genes) of logreg, the rows that the result has, and what is stated about the fit; warns unless it converged."""
    score, fit = logistic(blocks, group, n_groups, n_genes, **options)
    if not fit.converged:
        message = f"logreg stopped after {fit.n_iter} steps with a gradient of {fit.gradient_norm:.3g} a cell; raise max_iter or tol"
        warnings.warn(message, UserWarning, stacklevel=2)
    stated = {"gradient_norm": fit.gradient_norm, "n_iter": fit.n_iter, "C": fit.C, "tol": fit.tol}
    return score, [0] if n_groups == 2 else list(range(n_groups)), stated


def wilcoxon(moments, tie_correct=False, continuity=False):
    """z and two-sided p, (groups, genes), from rank sums."""
    from scipy.special import ndtr

    n, m = moments.size[:-1], moments.n_others()
    n_cells = np.asarray(n + m, dtype=np.float64)
    if tie_correct and n_cells.max() > MAX_TIED:
        raise ValueError(f"tie_correct takes at most {MAX_TIED} cells; {int(n_cells.max())} came")
    n_ties = n_cells**3 - n_cells if tie_correct else np.full(n_cells.shape, np.inf)
    score, p = np.empty((2, len(n), len(moments.genes)))

    def fill(first, last):
        kernels.rank_sum_scores(first, last, moments.rank_sum, moments.ties, n, m, n_ties, continuity, score)
        two_sided(ndtr, score[:, first:last], out=p[:, first:last])

    over_genes(fill, moments)
    return score, p


def t_test(moments, overestimate=False):
    """Welch's t and two-sided p, (groups, genes)."""
    from scipy.special import stdtr

    n, m = moments.size[:-1], moments.n_others()
    score, df, p = np.empty((3, len(n), len(moments.genes)))
    options = n if overestimate else m, moments.reference, moments.scale, moments.scale_squares

    def fill(first, last):
        kernels.welch(first, last, moments.table, n, m, *options, score, df)
        two_sided(stdtr, df[:, first:last], score[:, first:last], out=p[:, first:last])

    over_genes(fill, moments)
    return score, p


def two_sided(lower_tail, *arguments, out):
    """Two-sided p by the lower tail of a distribution; the last argument is the score."""
    np.copysign(arguments[-1], -1.0, out=out)
    lower_tail(*arguments[:-1], out, out=out)
    out *= 2


def over_genes(fill, moments) -> None:
    """fill(first, last) for parts of the genes, in threads."""
    n_genes, width = len(moments.genes), max(1, PART // len(moments.groups))
    in_threads(lambda first: fill(first, min(first + width, n_genes)), range(0, n_genes, width))


METHODS = {"t-test": t_test, "t-test_overestim_var": functools.partial(t_test, overestimate=True), "wilcoxon": wilcoxon}


def ranked(moments, score, p=None, *, n_genes=None, rankby_abs=False, pts=False, corr_method="benjamini-hochberg", base=None, rows=None):
    """scanpy's record arrays from scores and p-values (groups, genes), best genes first.

    Parameters as :func:`rank_genes_groups`; ``base``: of the logarithm, None is e; ``rows``: the groups that the result has.
    """
    rows = np.array([row for row in range(len(moments.groups)) if row != moments.reference] if rows is None else rows)
    order = np.empty(score.shape, dtype=np.int32)
    orders.highest_first(np.abs(score) if rankby_abs else score, order)
    values = {"scores": score, "logfoldchanges": fold_changes(moments, base)}
    if p is not None:
        values |= {"pvals": p, "pvals_adj": CORRECTIONS[corr_method](p)}
    columns = {"names": np.take(moments.genes, order[rows, :n_genes].T)}
    for name in [name for name in NUMBERS if name in values]:
        columns[name] = np.empty(columns["names"].shape, dtype=NUMBERS[name])
        orders.in_order(values[name], rows, order, columns[name])
    result = {}
    if pts:
        inside, outside = (by_gene(moments, share) for share in moments.shares())
        result |= {"pts": inside, "pts_rest": outside} if moments.reference < 0 else {"pts": inside}
    return result | {name: records([moments.groups[row] for row in rows], column) for name, column in columns.items()}


def records(groups, table) -> np.recarray:
    """A contiguous table (ranks, groups) as a record array with a field a group, in the same memory."""
    return np.recarray(len(table), [(group, table.dtype) for group in groups], buf=table)


def fold_changes(moments, base=None):
    """log2 fold changes of the means (groups, genes); ``base``: of the logarithm, None is e."""
    change = np.empty((len(moments.groups), len(moments.genes)))
    log_base = np.log(base) if base else 1.0
    kernels.fold_changes(moments.table, moments.size[:-1], moments.n_others(), moments.reference, moments.scale, log_base, change)
    return change


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
    groups, n_ranks = list(result["names"].dtype.names), len(result["names"])

    def of_all_groups(key):
        return np.concatenate([result[key][group] for group in groups])

    genes, untested = of_all_groups("names"), np.full(len(groups) * n_ranks, np.nan)  # logreg has no p-values
    scores = [of_all_groups(key) if key in result else untested for key in ("scores", "logfoldchanges", "pvals", "pvals_adj")]
    place, column = result["pts"].index.get_indexer(genes), np.repeat(np.arange(len(groups)), n_ranks)
    outside = result["pts_rest"][groups] if reference == "rest" else result["pts"][[reference] * len(groups)]
    shares = [share.to_numpy()[place, column] for share in (result["pts"][groups], outside)]
    ranks = np.tile(np.arange(1, n_ranks + 1), len(groups))
    columns = [np.repeat(np.array(groups, dtype=object), n_ranks), genes, ranks, *scores, *shares]
    return pd.DataFrame(dict(zip(TIDY, columns, strict=True)))


def check_choice(name, value, allowed) -> None:
    """Raise ValueError unless a value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(sorted(allowed))}")
