"""Views of results, with scanpy's names and signatures, and moves between host and device."""

from rsc_core._lazy import public

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "aggregate": "_aggregate",
        "anndata_to_CPU": "_device",
        "anndata_to_GPU": "_device",
        "pseudobulk": "_pseudobulk",
    },
)
