"""Spatial statistics: squidpy's names and signatures, on the backend of the arrays."""

from rsc_core._lazy import public

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "centrality_scores": "_nhood",
        "interaction_matrix": "_nhood",
        "nhood_enrichment": "_nhood",
        "co_occurrence": "_patterns",
        "ripley": "_patterns",
        "calculate_niche": "_niche",
        "sepal": "_sepal",
        "ligrec": "_ligrec",
        "restore_ligrec": "_ligrec",
        "spatial_autocorr": "_autocorr",
        "spatial_neighbors": "_build",
        "spatial_neighbors_knn": "_graphs",
        "spatial_neighbors_radius": "_graphs",
        "spatial_neighbors_delaunay": "_graphs",
        "spatial_neighbors_grid": "_graphs",
    },
)
