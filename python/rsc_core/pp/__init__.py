"""Preprocessing: scanpy's names and signatures, on the backend of the arrays."""

from rsc_core._lazy import public

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "bbknn": "_bbknn",
        "calculate_qc_metrics": "_qc",
        "combat": "_combat",
        "filter_cells": "_filter",
        "filter_genes": "_filter",
        "filter_highly_variable": "_filter",
        "flag_gene_family": "_filter",
        "harmony_integrate": "_harmony",
        "highly_variable_genes": "_hvg",
        "log1p": "_normalize",
        "neighbors": "_neighbors",
        "normalize_pearson_residuals": "_scale",
        "normalize_total": "_normalize",
        "pca": "_pca",
        "regress_out": "_regress",
        "scale": "_scale",
        "scrublet": "_scrublet",
        "sqrt": "_normalize",
    },
)
