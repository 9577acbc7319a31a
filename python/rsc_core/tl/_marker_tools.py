"""What is done with marker genes: filter them, compare them with known ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core.tl._group_moments import summarize
from rsc_core.tl._rank_genes_groups import by_gene, check_choice, fold_changes

OVERLAPS = {
    "overlap_count": lambda shared, known, found: float(shared),
    "overlap_coef": lambda shared, known, found: shared / max(min(known, found), 1),
    "jaccard": lambda shared, known, found: shared / (known + found - shared) if known + found else 0.0,
}


def filter_rank_genes_groups(
    adata,
    *,
    key=None,
    groupby=None,
    use_raw=None,
    key_added="rank_genes_groups_filtered",
    min_in_group_fraction=0.25,
    min_fold_change=1,
    max_out_group_fraction=0.5,
    compare_abs=False,
):
    """Take out markers that few cells of the group express, or many others, or whose fold change is small.

    Parameters
    ----------
    adata
        With the result of :func:`rsc_core.tl.rank_genes_groups`; its values are read (X, or the layer of the result) where the result
        lacks fold changes or shares, or was made by another column or against a reference.
    key
        Key of the result in uns, ``rank_genes_groups`` by default.
    groupby
        Column whose groups are looked at; by default that of the result.
    use_raw
        Taken for scanpy's callers; ``adata.raw`` is never used.
    key_added
        Key of uns for the filtered result.
    min_in_group_fraction, max_out_group_fraction
        A gene stays if more than the one share of the group's cells and fewer than the other share of all others express it
        (have a value that is not 0; scanpy: above 0).
    min_fold_change
        And if its log2 fold change is above this.
    compare_abs
        Look at the size of the fold change.

    Returns
    -------
    None. ``uns[key_added]`` is a copy of the result in which ``names`` of genes that go are NaN.
    """
    key = key or "rank_genes_groups"
    if key not in adata.uns:
        raise KeyError(f"there is no uns[{key!r}]; run tl.rank_genes_groups first")
    result = adata.uns[key]
    params = result["params"]
    groupby = groupby or params["groupby"]
    names = pd.DataFrame(result["names"])
    same = params["groupby"] == groupby and params["reference"] == "rest"
    share_in, share_out, fold = result.get("pts"), result.get("pts_rest"), None
    if not (same and share_out is not None and "logfoldchanges" in result):
        moments = summarize(adata, groupby, groups=list(names), layer=params.get("layer"), with_ranks=False)
        base = adata.uns.get("log1p", {}).get("base")
        share_in, share_out = (by_gene(moments, share) for share in moments.shares())
        fold = by_gene(moments, fold_changes(moments, base))
    kept = {}
    for group in names:
        genes = names[group]
        change = pd.Series(result["logfoldchanges"][group]) if same and "logfoldchanges" in result else fold[group].loc[genes]
        change = np.abs(change.to_numpy()) if compare_abs else change.to_numpy()
        inside, outside = share_in[group].loc[genes].to_numpy(), share_out[group].loc[genes].to_numpy()
        kept[group] = genes.where((inside > min_in_group_fraction) & (outside < max_out_group_fraction) & (change > min_fold_change))
    adata.uns[key_added] = {**result, "names": pd.DataFrame(kept).to_records(index=False)}


def marker_gene_overlap(
    adata,
    reference_markers,
    *,
    key="rank_genes_groups",
    method="overlap_count",
    normalize=None,
    top_n_markers=None,
    adj_pval_threshold=None,
    key_added="marker_gene_overlap",
    inplace=False,
):
    """How many markers of each group are known markers of each cell type?

    Parameters
    ----------
    adata
        With the result of :func:`rsc_core.tl.rank_genes_groups`.
    reference_markers
        Cell type -> its genes (any collection).
    key
        Key of the result in uns.
    method
        ``"overlap_count"``: genes in both; ``"overlap_coef"``: over the smaller of the two numbers; ``"jaccard"``: over the number of
        genes in either.
    normalize
        Of a count: ``"reference"`` divides by the number of known genes of the type, ``"data"`` by that of the group's markers.
    top_n_markers
        The first so many genes of a group, at least 1; by default 100, or those below the threshold.
    adj_pval_threshold
        Genes whose adjusted p-value is below this (brought into 0 to 1); passed over where ``top_n_markers`` is given.
    key_added, inplace
        Store the table in ``uns[key_added]`` and return None.

    Returns
    -------
    DataFrame (types, groups), float64: scanpy's. Names that a filter set to NaN count as no gene.
    """
    if key not in adata.uns:
        raise ValueError(f"there is no uns[{key!r}]; run tl.rank_genes_groups first")
    check_choice("method", method, OVERLAPS)
    check_choice("normalize", normalize or "None", ["reference", "data", "None"])
    normalize = None if normalize == "None" else normalize
    if normalize is not None and method != "overlap_count":
        raise ValueError(f"normalize is {normalize!r} with method {method!r}; it goes with overlap_count")
    if any(isinstance(genes, str) for genes in reference_markers.values()):
        raise ValueError("reference_markers has a string where genes are needed; give a list or a set of names")
    known = {name: set(genes) for name, genes in reference_markers.items()}
    found = _markers(adata.uns[key], top_n_markers, adj_pval_threshold)
    table = np.array([[OVERLAPS[method](len(k & f), len(k), len(f)) for f in found.values()] for k in known.values()], dtype=np.float64)
    table = table.reshape(len(known), len(found))
    if normalize is not None:
        sizes = [[len(genes)] for genes in known.values()] if normalize == "reference" else [len(genes) for genes in found.values()]
        table = table / np.maximum(np.array(sizes), 1)
    frame = pd.DataFrame(table, index=list(known), columns=list(found))
    if not inplace:
        return frame
    adata.uns[key_added] = frame
    return None


def _markers(result, top_n_markers, threshold) -> dict[str, set]:
    """The markers of each group of a result."""
    found = {}
    for group in result["names"].dtype.names:
        genes = result["names"][group]
        if top_n_markers is not None:
            genes = genes[: max(1, top_n_markers)]
        elif threshold is not None:
            if "pvals_adj" not in result:
                raise ValueError("the result has no adjusted p-values (logreg); leave adj_pval_threshold out, or use another method")
            genes = genes[: (result["pvals_adj"][group] < np.clip(threshold, 0, 1)).sum()]
        else:
            genes = genes[:100]
        found[group] = {gene for gene in genes if isinstance(gene, str)}
    return found
