"""The exact search by tiles: the same neighbours, distances and ties as the search by candidates, bit for bit."""

import numba
import numpy as np
import pytest

from rsc_core.kernels import tiles as kernels
from rsc_core.pp import _tiles
from rsc_core.pp._search import METRICS, Space, nearest_among
from rsc_core.pp._tiles import nearest_by_tiles


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(_tiles, "TILE_CELLS", 40)


def blobs(n_cells, n_dims=12, seed=0):
    random = np.random.default_rng(seed)
    centres = random.normal(scale=8, size=(6, n_dims))
    return centres[random.integers(6, size=n_cells)] + random.normal(size=(n_cells, n_dims))


CASES = {
    "one tile": (blobs(40), 14),
    "two tiles": (blobs(41), 14),
    "blobs": (blobs(1500), 14),
    "noise": (np.random.default_rng(0).normal(size=(900, 50)), 14),
    "duplicates": (np.repeat(blobs(60), 20, axis=0), 14),
    "all equal": (np.ones((200, 5)), 7),
    "ties on a grid": (np.stack(np.meshgrid(*[np.arange(9.0)] * 3), axis=-1).reshape(-1, 3), 10),
    "one dimension": (np.random.default_rng(1).integers(50, size=(300, 1)).astype(float), 6),
    "as many neighbours as others": (blobs(100), 99),
    "more neighbours than a tile has": (blobs(300), 60),
    "one neighbour": (blobs(300), 1),
    "three cells": (blobs(3), 2),
    "two far groups": (blobs(400) + 1e5 * (np.arange(400) < 200)[:, None], 14),
    "one far cell": (blobs(400) + 1e30 * (np.arange(400) == 7)[:, None], 14),
    "large": (1e25 * blobs(400), 14),
    "small": (1e-25 * blobs(400), 14),
}


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of the lengths that the other search keeps
@pytest.mark.parametrize(("x", "n_nearest"), CASES.values(), ids=CASES)
def test_equals_the_search_by_candidates(x, n_nearest):
    space = Space.of(x)
    nearest, square = nearest_by_tiles(space, n_nearest)
    all_distances = np.zeros((len(x), len(x)))
    for d in range(x.shape[1]):
        all_distances += (x[:, None, d] - x[None, :, d]) ** 2  # dimension after dimension, as the kernels
    np.fill_diagonal(all_distances, np.nan)  # sorted last
    truth = np.argsort(all_distances, axis=1, kind="stable")[:, :n_nearest]
    np.testing.assert_array_equal(nearest, truth)
    np.testing.assert_array_equal(square, np.take_along_axis(all_distances, truth, axis=1))


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_share_the_search(metric):
    space = Space.of(blobs(1000), metric)
    for mine, theirs in zip(nearest_by_tiles(space, 14), nearest_among(space, space.cells, space.cells, 14), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_equals_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    x = blobs(2000, 30)
    nearest, square = nearest_by_tiles(Space.of(x), 15)
    distance, theirs = NearestNeighbors(n_neighbors=15, algorithm="brute").fit(x).kneighbors()
    np.testing.assert_array_equal(nearest, theirs)
    np.testing.assert_allclose(np.sqrt(square), distance, rtol=1e-10)  # theirs: |x|^2 + |y|^2 - 2xy, whose digits cancel


def test_threads_change_nothing():
    space, threads = Space.of(blobs(1500)), numba.get_num_threads()
    first = nearest_by_tiles(space, 14)
    numba.set_num_threads(1)
    try:
        for mine, theirs in zip(nearest_by_tiles(space, 14), first, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    finally:
        numba.set_num_threads(threads)


def test_tiles_hold_each_cell_once_and_are_a_power_of_two():
    tiles = _tiles._tiles(blobs(1000).astype(np.float32))
    np.testing.assert_array_equal(np.sort(np.concatenate(tiles)), np.arange(1000))
    assert len(tiles) == 32
    assert {len(tile) for tile in tiles} == {31, 32}


def test_a_product_rules_out_only_what_is_farther():
    """What float32 may lose is taken off the squares: no product is below minus half the squared distance."""
    x = blobs(500, 50) + 3
    space = Space.of(x)
    centred = space.centred
    half = ((centred.astype(np.float64) ** 2).sum(axis=1) / 2 * (1 - 2 * space.rounding)).astype(np.float32)
    product = centred @ centred.T - half[:, None] - half
    assert (product >= -((x[:, None] - x[None]) ** 2).sum(axis=2) / 2).all()


def test_far_tiles_are_not_looked_at(monkeypatch):
    """Of two far groups no cell may have a neighbour in the other: no product is needed."""
    x = blobs(80).astype(np.float32)
    x[40:] += 1000
    left = np.column_stack([x, np.zeros((80, 2), dtype=np.float32)])
    centre = np.stack([left[:40].mean(axis=0), left[40:].mean(axis=0)])
    bounds = (np.array([0, 40, 80]), centre, np.array([100.0, 5000.0]))
    points, near = (x.astype(np.float64), 1.0, left, left, np.arange(80)), np.empty(80, dtype=np.uint8)
    assert kernels.tiles_may_meet(0, 1, bounds, points, np.full((80, 3), 900.0), near) == 0
    assert kernels.tiles_may_meet(0, 1, bounds, points, np.full((80, 3), np.inf), near) == 1600
