"""Spatial statistics: squidpy's names and signatures, on the backend of the arrays."""

from rsc_core.gr._autocorr import spatial_autocorr
from rsc_core.gr._build import spatial_neighbors
from rsc_core.gr._ligrec import ligrec, restore_ligrec

__all__ = ["ligrec", "restore_ligrec", "spatial_autocorr", "spatial_neighbors"]
