"""Activity of regulators and pathways: decoupler's names and signatures, on the backend of the arrays."""

from rsc_core._lazy import public

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "aucell": "_sets",
        "consensus": "_consensus",
        "mlm": "_linear",
        "ora": "_sets",
        "read_network": "_net",
        "ulm": "_linear",
        "waggr": "_aggregate",
        "wmean": "_aggregate",
        "wsum": "_aggregate",
        "zscore": "_zscore",
    },
)
