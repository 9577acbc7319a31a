"""Hierarchical clustering of groups of cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import data
from rsc_core.get._aggregate import group_table, statistics
from rsc_core.pp._pca import select_genes


def dendrogram(
    adata,
    groupby,
    *,
    n_pcs=None,
    use_rep=None,
    var_names=None,
    use_raw=None,
    cor_method="pearson",
    linkage_method="complete",
    optimal_ordering=False,
    key_added=None,
    inplace=True,
):
    """Which groups are alike? Clusters groups by 1 - correlation of their means.

    Parameters
    ----------
    adata
        With ``obsm['X_pca']``, the representation, or the genes, on the backend that is to take the means.
    groupby
        Categorical column of obs, or several: their combinations.
    n_pcs, use_rep
        Columns and name of the representation; by default ``X_pca`` (X for at most 50 genes).
    var_names
        Take the means of these genes of X instead.
    use_raw
        Taken for scanpy's callers; ``adata.raw`` is never used.
    cor_method
        ``"pearson"``, ``"spearman"`` or ``"kendall"``.
    linkage_method, optimal_ordering
        See ``scipy.cluster.hierarchy.linkage``.
    key_added
        Key of uns, ``dendrogram_<groupby>`` by default.
    inplace
        False: return the dict.

    Returns
    -------
    None, or what ``uns[key_added]`` has: a dict with scanpy's entries.

    Raises
    ------
    KeyError, ValueError
        For a column that is missing or not categorical, fewer than two groups with cells, or a group without a correlation: its means
        are all equal.

    Notes
    -----
    Means are of float64; scanpy agrees within 1e-6 (it adds in the type of the representation), but
    scanpy 1.11 takes all genes where ``var_names`` is given. Groups without cells are left out.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    columns = [groupby] if isinstance(groupby, str) else list(groupby)
    for column in columns:
        if column not in adata.obs:
            raise KeyError(f"groupby: there is no column {column!r}; obs has {list(adata.obs)}")
        if not isinstance(adata.obs[column].dtype, pd.CategoricalDtype):
            raise ValueError(f"obs[{column!r}] has dtype {adata.obs[column].dtype}; a categorical column is needed")
    x = _values(adata, var_names, use_rep, n_pcs)
    code, groups = group_table(adata.obs, columns)
    names = [str(name) for name in groups.index]
    if len(columns) > 1:  # scanpy has combinations in the order of their names
        order = np.argsort(names, kind="stable")
        code, names = np.where(code >= 0, np.argsort(order)[code], -1), [names[i] for i in order]
    if len(names) < 2:
        raise ValueError(f"{columns} has {len(names)} groups with cells; a tree needs two")
    means = pd.DataFrame(statistics(x, code, len(names), ["mean"])["mean"].T, columns=names)
    correlation = means.corr(method=cor_method).clip(-1, 1).to_numpy(copy=True)
    if np.isnan(correlation).any():
        group = names[int(np.flatnonzero(np.isnan(correlation).any(axis=1))[0])]
        raise ValueError(f"the means of group {group!r} are all equal: it has no correlation with others; take more genes or components")
    np.fill_diagonal(correlation, 1)
    linkage = hierarchy.linkage(squareform(1 - correlation, checks=False), method=linkage_method, optimal_ordering=optimal_ordering)
    tree = hierarchy.dendrogram(linkage, labels=names, no_plot=True)
    result = {
        "linkage": linkage,
        "groupby": columns,
        "use_rep": use_rep,
        "cor_method": cor_method,
        "linkage_method": linkage_method,
        "categories_ordered": tree["ivl"],
        "categories_idx_ordered": tree["leaves"],
        "dendrogram_info": tree,
        "correlation_matrix": correlation,
    }
    if not inplace:
        return result
    adata.uns[key_added or f"dendrogram_{'_'.join(columns)}"] = result
    return None


def _values(adata, var_names, use_rep, n_pcs):
    """What means are taken of, (cells, columns)."""
    if var_names is None:
        return data.representation(adata, use_rep or data.default_representation(adata), n_pcs)
    genes = [var_names] if isinstance(var_names, str) else list(var_names)
    at = adata.var_names.get_indexer(genes)
    if (at < 0).any():
        raise KeyError(f"var_names: there is no gene {genes[int(np.flatnonzero(at < 0)[0])]!r}")
    return select_genes(data.matrix(adata), np.unique(at))  # a correlation does not see the order of the genes
