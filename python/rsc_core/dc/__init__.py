"""Activity of regulators and pathways: decoupler's names and signatures, on the backend of the arrays."""

from rsc_core._lazy import public

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "mlm": "_linear",
        "waggr": "_aggregate",
        "wmean": "_aggregate",
        "wsum": "_aggregate",
        "read_network": "_net",
        "ulm": "_linear",
    },
)
