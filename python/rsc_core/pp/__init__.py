"""Preprocessing: scanpy's names and signatures, on the backend of the arrays."""

from rsc_core.pp._normalize import log1p, normalize_total

__all__ = ["log1p", "normalize_total"]
