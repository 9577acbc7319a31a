"""One activity of several methods'."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core.stats import benjamini_hochberg


def consensus(result, *, methods=None):
    """Mean of the scores of several methods, each scaled in each cell.

    Of a method's scores in a cell, those above 0 are divided by sqrt(2 sum x^2 / (2 k - 1)), the spread of these k scores and
    their mirror images, those of 0 and below likewise; the score is the mean over the methods; p two-sided from the
    standard normal distribution.

    Parameters
    ----------
    result
        AnnData with ``obsm['score_<method>']``, or a dict of such DataFrames (cells, sources) by that name.
    methods
        Names of the methods; by default all that there are.

    Returns
    -------
    None; ``obsm['score_consensus']``, ``obsm['padj_consensus']`` as for :func:`rsc_core.dc.ulm`. For a dict: the two tables.

    Raises
    ------
    ValueError
        Where there is no score, or methods have different cells or sources.

    Notes
    -----
    A cell has NaN where a method has. decoupler 2.2 agrees within 1e-9. Badia-i-Mompel et al. 2022,
    doi:10.1093/bioadv/vbac016.
    """
    from scipy.special import ndtr

    tables = result if isinstance(result, dict) else result.obsm
    if methods is None:
        methods = [key.removeprefix("score_") for key in tables if key.startswith("score_") and key != "score_consensus"]
    missing = [method for method in methods if f"score_{method}" not in tables]
    if missing or not methods:
        raise ValueError(f"no scores of {', '.join(missing) or 'any method'}: run the methods first")
    scores = [tables[f"score_{method}"] for method in methods]
    for method, table in zip(methods, scores, strict=True):
        if not (table.index.equals(scores[0].index) and table.columns.equals(scores[0].columns)):
            raise ValueError(f"score_{method} and score_{methods[0]} have different cells or sources: run them on one network")
    mean = sum(_scaled(table.to_numpy(dtype=np.float64)) for table in scores) / len(scores)
    adjusted = benjamini_hochberg(2 * ndtr(-np.abs(mean)), axis=1)
    mean, adjusted = (pd.DataFrame(values, scores[0].index, scores[0].columns) for values in (mean, adjusted))
    if isinstance(result, dict):
        return mean, adjusted
    result.obsm["score_consensus"], result.obsm["padj_consensus"] = mean, adjusted
    return None


def _scaled(values):
    """Scores of a method (cells, sources) in units of the spread of their sign."""
    scaled = np.where(np.isnan(values), np.nan, 0.0)
    for side in (values > 0, values <= 0):
        n = side.sum(axis=1, keepdims=True)
        squares = np.where(side, values * values, 0.0).sum(axis=1, keepdims=True)
        spread = np.sqrt(2 * squares / np.maximum(2 * n - 1, 1))
        scaled = np.where(side, values / np.where(spread > 0, spread, 1.0), scaled)
    return scaled


# The names of decoupler 1.
run_consensus = consensus
