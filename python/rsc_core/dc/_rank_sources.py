"""Activities of groups of cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core.stats import benjamini_hochberg

COLUMNS = ["cluster", "source", "mean_score", "mean_difference", "statistic", "p_value", "adjusted_p_value"]


def rank_sources_groups(data, groupby, *, score="score_ulm", method="t-test") -> pd.DataFrame:
    """Which sources are more active in a group of cells than in the others?

    Parameters
    ----------
    data
        AnnData with scores in obsm.
    groupby
        Column of obs with the groups.
    score
        Key of obsm: a DataFrame (cells, sources), such as ``score_ulm``.
    method
        ``"t-test"`` (Welch's) or ``"wilcoxon"`` (rank sum, normal approximation with correction for ties and continuity).

    Returns
    -------
    As :func:`rsc_core.dc._rank_sources.rank_sources`: a row for each group and source with cluster, source, mean_score,
    mean_difference, statistic, p_value, adjusted_p_value.

    Raises
    ------
    ValueError
        For a column or key that is missing, or an unknown method.
    """
    if groupby not in data.obs:
        raise ValueError(f"obs has no column {groupby!r}; it has {', '.join(map(str, data.obs.columns))}")
    if score not in data.obsm:
        raise ValueError(f"obsm has no {score!r}; it has {', '.join(data.obsm) or 'nothing'}: run the method first")
    return rank_sources(data.obsm[score], data.obs[groupby], method)


def rank_sources(scores, labels, method="t-test") -> pd.DataFrame:
    """Which sources are more active in a group of cells than in the others?

    Welch's t-test, or the rank sum test, of the scores of a group's cells against those of all other cells.

    Parameters
    ----------
    scores
        DataFrame (cells, sources), such as ``obsm['score_ulm']``. Cells without scores (NaN) are left out.
    labels
        The group of each cell: categorical, or made so. Cells without a label are among the others.
    method
        ``"t-test"`` or ``"wilcoxon"``, whose statistic is U of the group.

    Returns
    -------
    DataFrame, a row for each group and source, sources as in ``scores``: cluster, source, mean_score, mean_difference (to
    the others), statistic (t), p_value (two-sided), adjusted_p_value (Benjamini-Hochberg over the sources of a group).
    NaN where a group or the others have fewer than two cells; the mean needs one.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
    labels = pd.Categorical(labels)
    scored = ~scores.isna().all(axis=1).to_numpy()
    values, codes = scores.to_numpy()[scored], labels.codes[scored]
    tables = [pd.DataFrame(columns=COLUMNS)]
    for code, name in enumerate(labels.categories):
        inside, outside = values[codes == code], values[codes != code]
        mean = inside.mean(axis=0) if len(inside) else np.full(scores.shape[1], np.nan)
        difference, t, p = np.full((3, scores.shape[1]), np.nan)
        if len(inside) and len(outside):
            difference = mean - outside.mean(axis=0)
        if len(inside) > 1 and len(outside) > 1:
            t, p = METHODS[method](inside, outside)
        columns = [str(name), list(scores.columns), mean, difference, t, p, benjamini_hochberg(p)]
        tables.append(pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))))
    return pd.concat(tables[1:] or tables, ignore_index=True)


def welch(inside, outside):
    """Welch's t and its two-sided p-value of each column, as scipy.stats (which takes half a second to import) within 1e-12.

    Columns that are constant in both have t infinite and p 0, or NaN where they are the same.
    """
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (part.var(axis=0, ddof=1) / len(part) for part in (inside, outside))
        t = (inside.mean(axis=0) - outside.mean(axis=0)) / np.sqrt(a + b)
        freedom = (a + b) ** 2 / (a**2 / (len(inside) - 1) + b**2 / (len(outside) - 1))
        return t, 2 * stdtr(np.where(np.isnan(freedom), 1, freedom), -np.abs(t))


def rank_sums(inside, outside):
    """U of the first and the two-sided p-value of each column."""
    from scipy.stats import mannwhitneyu

    return mannwhitneyu(inside, outside, axis=0, method="asymptotic")


METHODS = {"t-test": welch, "wilcoxon": rank_sums}
