"""Candidates by products of numbers of 16 bits: what the bound promises, and that float64 decides among them."""

import numpy as np
import pytest

from rsc_core import backend
from rsc_core.kernels import search as kernels
from rsc_core.pp import _candidates, _search
from rsc_core.pp._search import Space, nearest_among
from rsc_core.pp._tiles import nearest_by_tiles

BY_PRODUCTS = property(lambda space: _candidates.error_bounds(space.x.shape[1], space.unit))  # as on the device, wherever it runs


def cells(n_cells=900, n_dims=20, seed=0):
    random = np.random.default_rng(seed)
    centres = random.normal(scale=5, size=(7, n_dims))
    return centres[random.integers(7, size=n_cells)] + random.normal(size=(n_cells, n_dims))


@pytest.mark.parametrize("n_kept", [1, 31, 32, 107])
def test_the_least_are_kept_over_blocks_of_columns(to_xp, n_kept):
    random = np.random.default_rng(n_kept)
    product = random.integers(0, 40, (50, 400)).astype(np.float32)  # many are equal
    half = random.integers(0, 40, 400).astype(np.float32)
    value, place = to_xp(np.full((50, n_kept), np.inf, dtype=np.float32)), to_xp(np.full((50, n_kept), -1, dtype=np.int32))
    for first, last in ((0, 150), (150, 151), (151, 400)):
        block = to_xp(np.ascontiguousarray(product[:, first:last]))
        kernels.keep_least(50, block, to_xp(half[first:last]), last - first, first, n_kept, value, place)
    order = np.argsort(half - product, axis=1, kind="stable")[:, :n_kept]
    np.testing.assert_array_equal(backend.to_host(place), order)
    np.testing.assert_array_equal(backend.to_host(value), np.take_along_axis(half - product, order, axis=1))


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e6])
def test_products_are_within_their_bound(to_xp, size):
    x = cells() * size
    x[:20] *= 1e-6  # numbers that float16 cannot hold to all its digits
    space = Space.of(to_xp(x))
    unit = float(space.unit)
    left, right = (_candidates._side_by_side(space.centred * space.unit, which) for which in ((0, 0, 1), (0, 1, 0)))
    product = backend.to_host(backend.products_of_halves(left, right)).astype(np.float64) / unit**2
    centred = backend.to_host(space.centred).astype(np.float64)
    length = np.linalg.norm(centred, axis=1)
    reach = length[:, None] + length
    relative, absolute = _candidates.error_bounds(x.shape[1], space.unit)
    error = 2 * np.abs(product - centred @ centred.T)
    assert (error <= reach * (relative * reach + absolute)).all()
    assert error.max() > 0


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_lengths_of_very_small_and_large_cells(to_xp, size):
    """Squares of float32 would be 0 or infinite."""
    space = Space.of(to_xp(cells() * size))
    wanted = np.linalg.norm(backend.to_host(space.centred).astype(np.float64), axis=1)
    np.testing.assert_allclose(backend.to_host(space.length), wanted, rtol=1e-6)


@pytest.mark.parametrize("change", ["none", "duplicates", "far", "small", "one dimension"])
def test_the_search_by_products_is_exact(monkeypatch, to_xp, change):
    x = cells()
    if change == "duplicates":
        x[:300] = x[0]  # more than there are candidates
    elif change == "far":
        x[:400] += 1e5
    elif change == "small":
        x *= 1e-30
    elif change == "one dimension":
        x = x[:, :1]
    monkeypatch.setattr(_candidates, "COLUMNS", 256)
    monkeypatch.setattr(_candidates, "ROWS", 128)
    monkeypatch.setattr(_search, "_searcher", _candidates.candidate_search)
    monkeypatch.setattr(Space, "candidates_bounds", BY_PRODUCTS)
    space = Space.of(to_xp(x))
    found = nearest_among(space, space.cells, space.cells, 14)
    for mine, theirs in zip(found, nearest_by_tiles(Space.of(x), 14), strict=True):
        np.testing.assert_array_equal(backend.to_host(mine), theirs)


def test_few_cells_are_unsure(monkeypatch, to_xp):
    """The bound is near enough for candidates of cells as they are: none is searched among all others."""
    space = Space.of(to_xp(cells(3000, 50)))
    _, square = nearest_among(space, space.cells, space.cells, 14 + _search.SURPLUS)
    monkeypatch.setattr(Space, "candidates_bounds", BY_PRODUCTS)
    unsure = square[:, 13] >= square[:, -1] - 2 * space.candidates_error(space.cells, square[:, -1])
    assert backend.to_host(unsure).mean() < 0.01
