"""Files: input formats, the counts store, and the deltas that the stages exchange."""

from rsc_core.io.delta import Delta, read_delta, write_delta
from rsc_core.io.store import CountsStore, write_store

__all__ = ["CountsStore", "Delta", "read_delta", "write_delta", "write_store"]
