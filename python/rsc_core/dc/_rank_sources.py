"""Activities of groups of cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core.stats import benjamini_hochberg

COLUMNS = ["cluster", "source", "mean_score", "mean_difference", "statistic", "p_value", "adjusted_p_value"]


def rank_sources(scores, labels) -> pd.DataFrame:
    """Which sources are more active in a group of cells than in the others?

    Welch's t-test of the scores of a group's cells against those of all other cells.

    Parameters
    ----------
    scores
        DataFrame (cells, sources), such as ``obsm['score_ulm']``. Cells without scores (NaN) are left out.
    labels
        The group of each cell: categorical, or made so. Cells without a label are among the others.

    Returns
    -------
    DataFrame, a row for each group and source, sources as in ``scores``: cluster, source, mean_score, mean_difference (to
    the others), statistic (t), p_value (two-sided), adjusted_p_value (Benjamini-Hochberg over the sources of a group).
    NaN where a group or the others have fewer than two cells; the mean needs one.
    """
    from scipy.stats import ttest_ind

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
            t, p = ttest_ind(inside, outside, equal_var=False)
        columns = [str(name), list(scores.columns), mean, difference, t, p, benjamini_hochberg(p)]
        tables.append(pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))))
    return pd.concat(tables[1:] or tables, ignore_index=True)
