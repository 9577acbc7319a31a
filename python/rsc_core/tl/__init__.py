"""Tools: scanpy's names and signatures, on the backend of the arrays."""

from rsc_core._lazy import public

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "dendrogram": "_dendrogram",
        "filter_rank_genes_groups": "_marker_tools",
        "kmeans": "_kmeans",
        "leiden": "_leiden",
        "louvain": "_louvain",
        "marker_gene_overlap": "_marker_tools",
        "rank_genes_groups": "_rank_genes_groups",
        "score_genes": "_score_genes",
        "score_genes_cell_cycle": "_score_genes",
        "umap": "_umap",
    },
)
