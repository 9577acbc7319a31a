"""Marker genes: each group of cells against the rest, or against a reference group."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pandas as pd

from rsc_core.stats import benjamini_hochberg, in_threads
from rsc_core.tl._group_moments import MAX_TIED, chosen_groups, group_codes, labels_of, summarize, values_of
from rsc_core.tl._logreg import logistic

PART = 1 << 15  # scores that a thread computes at once
ROUNDINGS = 4  # of a sum of squares less the product of a sum and a mean
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
    between means of which one is negative is NaN.
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
    score, p = METHODS[method](moments, tie_correct=tie_correct, continuity=continuity)
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
    """z and two-sided p, (groups, genes), from rank sums; the order of operations is scanpy's."""
    from scipy.special import ndtr

    n, m = moments.size[:-1, None], moments.n_others()
    n_cells = np.asarray(n + m, dtype=np.float64)
    if tie_correct and n_cells.max() > MAX_TIED:
        raise ValueError(f"tie_correct takes at most {MAX_TIED} cells; {int(n_cells.max())} came")
    spread = 1.0 - moments.ties / (n_cells**3 - n_cells) if tie_correct else 1
    gap = moments.rank_sum[:-1] / 2 - n * ((n + m + 1) / 2.0)
    if continuity:
        gap = np.sign(gap) * np.maximum(np.abs(gap) - 0.5, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        score = gap / np.sqrt(spread * n * m * (n + m + 1) / 12.0)
    score[np.isnan(score)] = 0
    return score, 2 * ndtr(-np.abs(score))


def t_test(moments, overestimate):
    """Welch's t and two-sided p, (groups, genes)."""
    from scipy.special import stdtr

    n, m = moments.size[:-1, None], moments.n_others()
    (total, total_others), (squares, squares_others) = moments.sums(), moments.squares()
    mean, variance = mean_and_variance(n, total, squares)
    mean_others, variance_others = mean_and_variance(m, total_others, squares_others)
    m = n if overestimate else m
    share, share_others = variance / n, variance_others / m
    with np.errstate(invalid="ignore", divide="ignore"):
        df = (share + share_others) ** 2 / (share**2 / (n - 1) + share_others**2 / (m - 1))
        score = (mean - mean_others) / np.sqrt(share + share_others)
    score[np.isnan(score)] = 0
    df[np.isnan(df)] = 1
    return score, np.where(score == 0, 1.0, 2 * stdtr(df, -np.abs(score)))


def mean_and_variance(n, total, squares):
    """Mean and unbiased variance; a variance within the rounding of its difference is 0."""
    mean = total / n
    spread = squares - total * mean
    spread[spread <= ROUNDINGS * np.finfo(np.float64).eps * squares] = 0
    return mean, spread / np.maximum(n - 1, 1)


def over_genes(function, moments, n_arrays: int) -> np.ndarray:
    """The arrays (groups, genes) that function(moments) returns, (arrays, groups, genes), from parts of the genes in threads."""
    n_groups, n_genes = len(moments.groups), len(moments.genes)
    out, width = np.empty((n_arrays, n_groups, n_genes)), max(1, PART // n_groups)

    def fill(first):
        out[..., first : first + width] = function(moments.part(first, first + width))

    in_threads(fill, range(0, n_genes, width))
    return out


def in_parts(test, **fixed):
    """A test, which returns score and p, as one of parts of the genes in threads; options that it lacks are passed over."""
    taken = inspect.signature(test).parameters

    def tests(moments, **options):
        options = fixed | {name: value for name, value in options.items() if name in taken}
        return over_genes(lambda part: test(part, **options), moments, 2)

    return tests


METHODS = {
    "t-test": in_parts(t_test, overestimate=False),
    "t-test_overestim_var": in_parts(t_test, overestimate=True),
    "wilcoxon": in_parts(wilcoxon),
}


def ranked(moments, score, p=None, *, n_genes=None, rankby_abs=False, pts=False, corr_method="benjamini-hochberg", base=None, rows=None):
    """scanpy's record arrays from scores and p-values (groups, genes), best genes first.

    Parameters as :func:`rank_genes_groups`; ``base``: of the logarithm, None is e; ``rows``: the groups that the result has.
    """
    rows = [row for row in range(len(moments.groups)) if row != moments.reference] if rows is None else rows
    (change,) = over_genes(lambda part: fold_changes(part, base), moments, 1)

    def columns(row):
        best = highest_first(np.abs(score[row]) if rankby_abs else score[row])[:n_genes]
        group = {"names": moments.genes, "scores": score[row].astype("float32")}
        if p is not None:
            group |= {"pvals": p[row], "pvals_adj": CORRECTIONS[corr_method](p[row])}
        group["logfoldchanges"] = change[row].astype("float32")
        return {name: column[best] for name, column in group.items()}

    def records(name):
        table = np.zeros(len(groups[0][name]), dtype=[(moments.groups[row], groups[0][name].dtype) for row in rows])
        for row, group in zip(rows, groups, strict=True):
            table[moments.groups[row]] = group[name]
        return table.view(np.recarray)

    result = {}
    if pts:
        inside, outside = (by_gene(moments, share) for share in moments.shares())
        result |= {"pts": inside, "pts_rest": outside} if moments.reference < 0 else {"pts": inside}
    groups = in_threads(columns, rows)
    return result | dict(zip(groups[0], in_threads(records, groups[0]), strict=True))


def highest_first(values) -> np.ndarray:
    """The order of falling values, equal ones by their place: a stable sort by two of NumPy's fast ones, which are not."""
    order = np.argsort(-values)
    ordered, run = values[order], np.zeros(len(values), dtype=np.int64)
    np.cumsum(ordered[1:] != ordered[:-1], out=run[1:])
    run *= len(values)
    return np.sort(run + order) - run


def fold_changes(moments, base=None):
    """log2 fold changes of the means (groups, genes); ``base``: of the logarithm, None is e."""
    unlog = (lambda mean: np.expm1(mean * np.log(base))) if base else np.expm1
    total, total_others = moments.sums()
    mean, mean_others = total / moments.size[:-1, None], total_others / moments.n_others()
    with np.errstate(invalid="ignore"):
        return np.log2((unlog(mean) + 1e-9) / (unlog(mean_others) + 1e-9))


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
        untested = np.full(len(genes), np.nan)  # logreg has no p-values
        columns = [result[key][group] if key in result else untested for key in ("scores", "logfoldchanges", "pvals", "pvals_adj")]
        shares = [share.loc[genes].to_numpy() for share in (result["pts"][group], outside)]
        columns = [group, genes, np.arange(1, len(genes) + 1), *columns, *shares]
        tables.append(pd.DataFrame(dict(zip(TIDY, columns, strict=True))))
    return pd.concat(tables[1:] or tables, ignore_index=True)


def check_choice(name, value, allowed) -> None:
    """Raise ValueError unless a value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(sorted(allowed))}")
