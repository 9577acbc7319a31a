"""Cells and genes that are taken out, and families of genes."""

from __future__ import annotations

import numpy as np

from rsc_core.pp._moments import totals


def filter_cells(adata, *, min_counts=None, min_genes=None, max_counts=None, max_genes=None, inplace=True):
    """Keep the cells whose total, or number of expressed genes, reaches a minimum or does not exceed a maximum.

    Parameters
    ----------
    adata
        AnnData or CunnData; X is (cells, genes), CSR, CSC or dense.
    min_counts, min_genes, max_counts, max_genes
        Exactly one of them; a limit itself is kept.
    inplace
        Take the cells out, or return which are kept.

    Returns
    -------
    None; or a bool mask and the float64 totals or int64 numbers, (cells,), of the host.

    Notes
    -----
    Writes ``obs['n_counts']`` (float64) or ``obs['n_genes']`` (int64). A value above 0 is expressed, a stored zero is not.
    Sums are float64, exact for counts. Masks equal scanpy's where its float32 totals are exact.
    """
    limits = {"min_counts": min_counts, "min_genes": min_genes, "max_counts": max_counts, "max_genes": max_genes}
    return _filter(adata, limits, "obs", inplace)


def filter_genes(adata, *, min_counts=None, min_cells=None, max_counts=None, max_cells=None, inplace=True):
    """Keep the genes whose total, or number of expressing cells, reaches a minimum or does not exceed a maximum.

    Parameters
    ----------
    adata
        AnnData or CunnData; X is (cells, genes), CSR, CSC or dense.
    min_counts, min_cells, max_counts, max_cells
        Exactly one of them; a limit itself is kept.
    inplace
        Take the genes out, or return which are kept.

    Returns
    -------
    None; or a bool mask and the float64 totals or int64 numbers, (genes,), of the host.

    Notes
    -----
    Writes ``var['n_counts']`` (float64) or ``var['n_cells']`` (int64); otherwise as :func:`filter_cells`.
    """
    limits = {"min_counts": min_counts, "min_cells": min_cells, "max_counts": max_counts, "max_cells": max_cells}
    return _filter(adata, limits, "var", inplace)


def _filter(adata, limits, table: str, inplace: bool):
    """Keep the rows of obs or var that are within the one limit that is given; see :func:`filter_cells`."""
    given = [name for name, limit in limits.items() if limit is not None]
    if len(given) != 1:
        raise ValueError(f"exactly one of {', '.join(limits)} is needed; {given or 'none'} came")
    name, limit = given[0], limits[given[0]]
    number = totals(adata.X, 1 if table == "obs" else 0, expressed=not name.endswith("counts"))
    keep = number >= limit if name.startswith("min") else number <= limit
    if not inplace:
        return keep, number
    getattr(adata, table)["n_" + name.split("_")[1]] = number
    if keep.all():
        return None  # AnnData would copy everything and look through all names
    (adata._inplace_subset_obs if table == "obs" else adata._inplace_subset_var)(keep)
    return None


def flag_gene_family(adata, *, gene_family_name, gene_family_prefix=None, gene_family_suffix=None, gene_list=None):
    """Mark the genes of a family in ``var[gene_family_name]``, bool.

    Parameters
    ----------
    adata
        AnnData or CunnData.
    gene_family_name
        Column of var that is written, to be named in ``qc_vars`` of :func:`calculate_qc_metrics`.
    gene_family_prefix, gene_family_suffix, gene_list
        Exactly one: how the names begin, how they end (upper and lower case differ), or the names.
    """
    given = [value for value in (gene_family_prefix, gene_family_suffix, gene_list) if value is not None]
    if len(given) != 1:
        raise ValueError(f"exactly one of gene_family_prefix, gene_family_suffix, gene_list is needed; {len(given)} came")
    names = adata.var_names.astype(str)
    if gene_list is not None:
        flags = names.isin(list(gene_list))
    else:
        flags = names.str.startswith(gene_family_prefix) if gene_family_prefix is not None else names.str.endswith(gene_family_suffix)
    adata.var[gene_family_name] = np.asarray(flags, dtype=bool)


def filter_highly_variable(adata):
    """Keep the genes that :func:`highly_variable_genes` chose, ``var['highly_variable']``."""
    if "highly_variable" not in adata.var:
        raise KeyError("var has no column 'highly_variable'; run pp.highly_variable_genes first")
    adata._inplace_subset_var(adata.var["highly_variable"].to_numpy().astype(bool))
