"""Activity of regulators and pathways: decoupler's names and signatures, on the backend of the arrays."""

from rsc_core.dc._linear import mlm, ulm
from rsc_core.dc._net import read_network

__all__ = ["mlm", "read_network", "ulm"]
