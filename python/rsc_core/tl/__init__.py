"""Tools: scanpy's names and signatures, on the backend of the arrays."""

from rsc_core.tl._leiden import leiden
from rsc_core.tl._rank_genes_groups import rank_genes_groups
from rsc_core.tl._umap import umap

__all__ = ["leiden", "rank_genes_groups", "umap"]
