"""Running sums, and rows sorted in place, at the edges of chunks and in rows of thousands."""

import numpy as np
import pytest
import scipy.sparse as sp

from rsc_core import backend
from rsc_core.kernels.graph import sort_rows
from rsc_core.scan import CHUNK, running_sums


@pytest.mark.parametrize("n", [0, 1, CHUNK, CHUNK + 1, CHUNK**2, CHUNK**2 + 1])
def test_running_sums(to_xp, n):
    values = np.random.default_rng(n).integers(-5, 2**40, size=n)
    ours = backend.to_host(running_sums(to_xp(values)))
    np.testing.assert_array_equal(ours, np.concatenate([[0], np.cumsum(values)]))


def test_rows_of_any_length_are_sorted_by_column(to_xp):
    random = np.random.default_rng(0)
    lengths = [0, 1, 2, 3, 14, 5000, 0, 40]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    indices = np.concatenate([random.permutation(6000)[:n] for n in lengths]).astype(np.int32)
    values = random.random(len(indices)).astype(np.float32)
    theirs = sp.csr_matrix((values.copy(), indices.copy(), indptr), shape=(len(lengths), 6000))
    theirs.sort_indices()
    indices, values = to_xp(indices), to_xp(values)
    sort_rows(len(lengths), to_xp(indptr), indices, values)
    np.testing.assert_array_equal(backend.to_host(indices), theirs.indices)
    np.testing.assert_array_equal(backend.to_host(values), theirs.data)
