"""Tools: scanpy's names and signatures, on the backend of the arrays."""

from rsc_core._lazy import public

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "dendrogram": "_dendrogram",
        "diffmap": "_diffmap",
        "dpt": "_diffmap",
        "draw_graph": "_draw_graph",
        "embedding_density": "_embedding_density",
        "filter_rank_genes_groups": "_marker_tools",
        "kmeans": "_kmeans",
        "leiden": "_leiden",
        "louvain": "_louvain",
        "marker_gene_overlap": "_marker_tools",
        "mde": "_mde",
        "paga": "_paga",
        "rank_genes_groups": "_rank_genes_groups",
        "score_genes": "_score_genes",
        "score_genes_cell_cycle": "_score_genes",
        "tsne": "_tsne",
        "umap": "_umap",
    },
)
