"""Preprocessing: scanpy's names and signatures, on the backend of the arrays."""

from rsc_core.pp._harmony import harmony_integrate
from rsc_core.pp._hvg import highly_variable_genes
from rsc_core.pp._neighbors import neighbors
from rsc_core.pp._normalize import log1p, normalize_total
from rsc_core.pp._pca import pca
from rsc_core.pp._qc import calculate_qc_metrics

__all__ = [
    "calculate_qc_metrics",
    "harmony_integrate",
    "highly_variable_genes",
    "log1p",
    "neighbors",
    "normalize_total",
    "pca",
]
