"""Files: input formats, the counts store, and the deltas that the stages exchange."""

from rsc_core._lazy import public

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "CountsStore": "store",
        "Delta": "delta",
        "read_delta": "delta",
        "write_delta": "delta",
        "write_store": "store",
    },
)
