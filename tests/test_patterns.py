"""Co-occurrence and Ripley's statistics: equal to squidpy's and to all pairs counted one by one, by hand, degenerate points."""

import cases
import numpy as np
import pandas as pd
import pytest
import squidpy as sq

from rsc_core import gr
from rsc_core.errors import InvalidInput
from rsc_core.gr._patterns import _less_than, random_points
from rsc_core.gr._points import Fields, pairs_within


def tissue(points, labels, to_xp=lambda value: value):
    adata = cases.annotated(to_xp(np.zeros((len(points), 1), dtype=np.float32)), cluster=pd.Categorical(labels))
    adata.obsm["spatial"] = np.asarray(points, dtype=np.float64)
    return adata


def on_lattice(to_xp=lambda value: value, n=400, dimensions=2):
    """Coordinates are quarters below 64: squares of distances are exact in float32 too."""
    generator = np.random.default_rng(0)
    points = generator.integers(0, 256, (n, dimensions)) / 4
    return tissue(points, np.array(list("dbca"))[(points[:, 0] // 16).astype(int)], to_xp)


def host(adata):
    return tissue(adata.obsm["spatial"], adata.obs["cluster"].to_numpy())


@pytest.mark.parametrize("interval", [50, 100, [0.0, 3.0, 1.0, 20.0]], ids=str)
def test_co_occurrence_equals_squidpy(to_xp, interval):
    adata = on_lattice(to_xp)
    gr.co_occurrence(adata, "cluster", interval=interval)
    occ, distances = sq.gr.co_occurrence(host(adata), "cluster", interval=interval, copy=True)
    ours = adata.uns["cluster_co_occurrence"]
    np.testing.assert_array_equal(ours["interval"], distances)
    np.testing.assert_allclose(ours["occ"], occ, rtol=1e-14)  # two divisions


def test_co_occurrence_by_hand(to_xp):
    # On a line: a at 0, a at 1, b at 2. Up to 1: pairs aa 2, ab 1, ba 1, bb 0; up to 2: aa 2, ab 2, ba 2.
    adata = tissue([[0, 0], [1, 0], [2, 0]], list("aab"), to_xp)
    occ, _ = gr.co_occurrence(adata, "cluster", interval=[0, 1, 2], copy=True)
    np.testing.assert_allclose(occ[:, :, 0], [[(2 / 3) / (3 / 4), 1 / (3 / 4)], [(1 / 3) / (1 / 4), 0]], rtol=1e-15)
    np.testing.assert_allclose(occ[:, :, 1], [[(2 / 4) / (4 / 6), 1 / (4 / 6)], [(2 / 4) / (2 / 6), 0]], rtol=1e-15)


def test_many_points_in_one_place_and_one_cluster(to_xp):
    adata = tissue(np.zeros((300, 2)), ["a"] * 300, to_xp)
    occ, distances = gr.co_occurrence(adata, "cluster", interval=3, copy=True)
    assert (distances == 0).all() and (occ == 1).all()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_pairs_equal_all_distances(to_xp, dimensions):
    points = on_lattice(n=300, dimensions=dimensions).obsm["spatial"]
    square = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(square, np.inf)
    limits, groups = np.unique(square)[10:3000:30], [slice(0, 129), slice(129, 129), slice(129, 300)]
    counts = pairs_within(to_xp(points), limits, [0, 129, 129, 300])
    for a, rows in enumerate(groups):
        for b, columns in enumerate(groups):
            np.testing.assert_array_equal(counts[a, b], [(square[rows, columns] <= limit).sum() for limit in limits])
    np.testing.assert_array_equal(pairs_within(to_xp(points), limits, [0, 129, 129, 300], between=False), counts[[0, 1, 2], [0, 1, 2]])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_nearest_points_equal_all_distances(to_xp, dimensions):
    """Ties by index; queries outside of the points' square; crowds and a point far away."""
    generator = np.random.default_rng(0)
    points = generator.integers(0, 30, (400, dimensions)).astype(float)
    points[:60], points[60] = 7.0, 5e4
    queries = generator.integers(-40, 60, (150, dimensions)).astype(float)
    square = ((queries[:, None] - points[None]) ** 2).sum(axis=2)
    expected = np.lexsort((np.broadcast_to(np.arange(400), square.shape), square))[:, :5]
    xp = np if type(to_xp(points)) is np.ndarray else __import__("cupy")
    index, distance = (np.asarray(part.get() if hasattr(part, "get") else part) for part in Fields(points, xp).nearest(5, to_xp(queries)))
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_array_equal(distance, np.take_along_axis(square, expected, axis=1))


@pytest.mark.parametrize("mode", ["G", "L"])
def test_observed_ripley_equals_squidpy(to_xp, mode):
    adata = on_lattice(to_xp)
    gr.ripley(adata, "cluster", mode=mode, n_simulations=3, n_observations=50)
    theirs = sq.gr.ripley(host(adata), "cluster", mode=mode, n_simulations=1, n_observations=50, seed=0, copy=True)
    ours = adata.uns[f"cluster_ripley_{mode}"]
    pd.testing.assert_frame_equal(ours[f"{mode}_stat"], theirs[f"{mode}_stat"], rtol=1e-12, check_dtype=False, check_categorical=False)
    np.testing.assert_allclose(ours["bins"], theirs["bins"], rtol=1e-15)


def test_ripley_on_nine_points(to_xp):
    # A 3 x 3 grid of one cluster: area 4; 12 pairs are 1 apart, 8 sqrt(2), 6 are 2, 8 sqrt(5), 2 sqrt(8).
    adata = tissue(np.stack(np.meshgrid(range(3), range(3)), axis=-1).reshape(-1, 2), ["a"] * 9, to_xp)
    stat = gr.ripley(adata, "cluster", mode="L", max_dist=3, n_steps=4, n_simulations=5, copy=True)["L_stat"]["stats"]
    np.testing.assert_allclose(stat, np.sqrt(np.array([0, 0, 40, 72]) * 4 / 81 / np.pi), rtol=1e-15)
    empty = gr.ripley(adata, "cluster", mode="G", n_simulations=5, copy=True)  # there are no other clusters
    assert np.isnan(empty["G_stat"]["stats"][1:]).all() and np.isnan(empty["pvalues"][:, 1:]).all()


@pytest.mark.parametrize("mode", ["F", "G", "L"])
def test_points_at_random_are_not_significant_and_a_crowd_is(to_xp, mode):
    generator = np.random.default_rng(1)
    points = np.concatenate([generator.random((400, 2)), 0.5 + generator.random((400, 2)) / 20])
    result = gr.ripley(
        tissue(points, ["spread"] * 400 + ["crowd"] * 400, to_xp), "cluster", mode=mode, n_simulations=39, n_observations=400, copy=True
    )
    crowd = result["pvalues"][0]
    assert crowd.min() <= 1 / 40  # the lowest p there is: every simulation lies on one side
    assert len(result["sims_stat"]) == 39 * 50


def test_random_points_fill_the_polygon_evenly():
    corners = np.array([[0.0, 0], [4, 0], [4, 1], [0, 3]])  # area 8; left half 5
    points = random_points(corners, 20_000, seed=0, number=3)
    assert (points >= 0).all() and (points[:, 0] <= 4).all() and (points[:, 1] <= 3 - points[:, 0] / 2 + 1e-12).all()
    assert abs((points[:, 0] < 2).mean() - 5 / 8) < 5 * np.sqrt(15 / 64 / 20_000)
    np.testing.assert_array_equal(points, random_points(corners, 20_000, seed=0, number=3))
    assert (points != random_points(corners, 20_000, seed=0, number=4)).any()


def test_squares_of_less_than_a_distance():
    bins = np.r_[0.0, np.random.default_rng(0).random(1000) * 10, 1.0, 2.0]
    square = _less_than(bins)
    assert square[0] < 0 and (np.sqrt(square[1:]) < bins[1:]).all() and (np.sqrt(np.nextafter(square[1:], np.inf)) >= bins[1:]).all()


def test_two_runs_and_cells_without_a_cluster():
    adata = on_lattice()
    labels = adata.obs["cluster"].astype(object)
    labels[::7] = None
    with_gaps = tissue(adata.obsm["spatial"], labels)
    kept = tissue(adata.obsm["spatial"][labels.notna()], labels[labels.notna()])
    for call in (
        lambda a: gr.co_occurrence(a, "cluster", copy=True)[0],
        lambda a: gr.ripley(a, "cluster", n_simulations=3, copy=True)["pvalues"],
    ):
        np.testing.assert_array_equal(call(with_gaps), call(kept))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: gr.co_occurrence(a, "kind"), "cluster_key 'kind'"),
        (lambda a: gr.co_occurrence(a, "cluster", interval=1), "interval is 1"),
        (lambda a: gr.co_occurrence(a[:2].copy(), "cluster"), "2 cells: too few"),
        (lambda a: gr.ripley(a, "cluster", mode="K"), "mode is 'K'"),
        (lambda a: gr.ripley(a, "cluster", n_simulations=0), "n_simulations is 0"),
        (lambda a: gr.ripley(a[:2].copy(), "cluster"), "2 points span no area"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(on_lattice())


def test_a_missing_coordinate_names_the_cell():
    adata = on_lattice()
    adata.obsm["spatial"][3, 0] = np.nan
    for call in (gr.co_occurrence, gr.ripley):
        with pytest.raises(InvalidInput, match=r"row 3 \(c3\)"):
            call(adata, "cluster")


def test_ripley_equals_pointpats(to_xp):
    import pointpats
    from scipy.spatial import ConvexHull, cKDTree

    adata = on_lattice(to_xp)
    points, mine = adata.obsm["spatial"], (adata.obs["cluster"] == "a").to_numpy()
    options = {"n_neigh": 1, "n_simulations": 3, "n_observations": 400, "copy": True}
    ours = {mode: gr.ripley(adata, "cluster", mode=mode, **options) for mode in "FGL"}
    stat = {mode: found[f"{mode}_stat"].query("cluster == 'a'")["stats"].to_numpy() for mode, found in ours.items()}
    bins, hull = ours["L"]["bins"], ConvexHull(points)
    # K = area / n^2 x ordered pairs: here n counts all cells and the area is the hull's, there n is the cluster's, its area a box.
    _, k = pointpats.k(points[mine], support=bins)
    scale = mine.sum() ** 2 / np.ptp(points[mine], axis=0).prod() * hull.volume / len(points) ** 2
    np.testing.assert_allclose(np.pi * stat["L"] ** 2, k * scale, rtol=1e-10)
    tree, strewn = cKDTree(points[mine]), random_points(points[hull.vertices], 400, 0, 0)
    _, f = pointpats.f(strewn, support=bins, distances=tree.query(strewn)[0])
    _, g = pointpats.g(points[~mine], support=bins, distances=tree.query(points[~mine])[0])
    np.testing.assert_allclose(stat["F"], f, rtol=1e-12)
    np.testing.assert_allclose(stat["G"], g, rtol=1e-12)
