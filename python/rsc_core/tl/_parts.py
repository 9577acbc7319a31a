"""Connected parts of a graph."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.kernels import levels as kernels


def connected_parts(indptr, neighbor, group):
    """The smallest vertex of the connected part of each vertex: int32, on the backend of the graph.

    Parameters
    ----------
    indptr, neighbor
        int64, int32 arrays of a symmetric CSR graph.
    group
        int32. Arcs between vertices of different groups do not connect.
    """
    n = len(group)
    xp = backend.xp_of(group)
    label, changed = xp.arange(n, dtype=np.int32), xp.empty(1, dtype=np.int64)
    while True:
        changed[:] = 0
        kernels.lower_labels(n, indptr, neighbor, group, label, changed)
        if not int(changed[0]):
            return label
        kernels.shorten_labels(n, label)
