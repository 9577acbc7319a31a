"""Spatial graphs: equal to squidpy's, ties by index, degenerate points."""

import inspect

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import squidpy as sq

from rsc_core import gr
from rsc_core.errors import InvalidInput
from rsc_core.gr import spatial_neighbors
from rsc_core.gr._points import Fields


def tissue(coordinates, **uns):
    obs = pd.DataFrame(index=[f"c{i}" for i in range(len(coordinates))])
    return ad.AnnData(obs=obs, obsm={"spatial": np.asarray(coordinates, dtype=np.float64)}, uns=uns)


def scattered(n=300, dimensions=2):
    adata = tissue(np.random.default_rng(0).uniform(0, 100, (n, dimensions)))
    adata.obs["library"] = pd.Categorical(["z", "x", "y"] * (n // 3), categories=["z", "x", "y"]) if n % 3 == 0 else "x"
    return adata


@pytest.fixture(params=["normal", "cancer"])
def visium(request, data_dir):
    return ad.read_h5ad(data_dir / f"visium_prostate_{request.param}.h5ad")


def assert_same_graphs(adata, **options):
    ours = spatial_neighbors(adata, copy=True, **options)
    theirs = sq.gr.spatial_neighbors(adata, copy=True, **options)
    for mine, reference in zip(ours, (theirs.connectivities, theirs.distances), strict=True):
        assert mine.dtype == reference.dtype and mine.has_sorted_indices
        # Distances and factors are rounded once or twice, in their own type.
        np.testing.assert_allclose(mine.toarray(), reference.toarray(), rtol=4 * np.finfo(mine.dtype).eps, atol=1e-12)
        assert mine.nnz == (reference.toarray() != 0).sum()


@pytest.mark.parametrize(
    "options",
    [{}, {"n_rings": 2}, {"n_rings": 3, "set_diag": True}, {"transform": "spectral"}, {"transform": "cosine"}],
    ids=str,
)
def test_grid_equals_squidpy_on_visium(visium, options):
    assert_same_graphs(visium, coord_type="grid", **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_neighs": 1},
        {"n_neighs": 15, "set_diag": True},
        {"n_neighs": 15, "transform": "spectral"},
        {"transform": "cosine"},
        {"radius": 8.0},
        {"radius": (3.0, 9.0), "set_diag": True},
        {"delaunay": True},
        {"delaunay": True, "radius": (3.0, 9.0), "percentile": 90, "set_diag": True},
        {"n_neighs": 15, "percentile": 75},
        {"radius": (3.0, 9.0), "percentile": 50, "transform": "cosine"},
        {"library_key": "library", "transform": "cosine"},
        {"library_key": "library", "delaunay": True, "percentile": 95},
    ],
    ids=str,
)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_generic_equals_squidpy(options, dimensions):
    assert_same_graphs(scattered(dimensions=dimensions), coord_type="generic", **options)


def test_grid_by_triangulation_equals_squidpy(visium):
    assert_same_graphs(visium, coord_type="grid", delaunay=True, n_rings=2)


def test_libraries_in_the_same_place_are_not_connected():
    points = np.tile(np.stack(np.meshgrid(range(3), range(3)), axis=-1).reshape(-1, 2), (2, 1))
    adata = tissue(points)
    adata.obs["library"] = pd.Categorical(["x"] * 9 + ["y"] * 9)
    alone, _ = spatial_neighbors(tissue(points[:9]), coord_type="grid", n_neighs=4, n_rings=2, copy=True)
    spatial_neighbors(adata, library_key="library", coord_type="grid", n_neighs=4, n_rings=2)
    both = adata.obsp["spatial_connectivities"].toarray()
    assert not both[:9, 9:].any() and not both[9:, :9].any()
    for block in (both[:9, :9], both[9:, 9:]):
        np.testing.assert_array_equal(block, alone.toarray())
    assert adata.uns["spatial_neighbors"]["params"]["library_key"] == "library"


def test_a_triangle_and_what_cannot_be_triangulated():
    corners = tissue([[0, 0], [3, 0], [0, 4]])
    _, distances = spatial_neighbors(corners, coord_type="generic", delaunay=True, copy=True)
    assert distances.toarray().tolist() == [[0, 3, 4], [3, 0, 5], [4, 5, 0]]
    adjacency, _ = spatial_neighbors(corners, coord_type="generic", delaunay=True, radius=4, copy=True)
    assert adjacency.toarray().tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    for points in ([[0, 0], [1, 1]], [[0, 0], [1, 1], [2, 2], [3, 3]]):
        with pytest.raises(InvalidInput, match="cannot be triangulated"):
            spatial_neighbors(tissue(points), coord_type="generic", delaunay=True)


def test_squares_have_four_neighbours():
    grid = tissue(np.stack(np.meshgrid(range(3), range(3)), axis=-1).reshape(-1, 2))
    adjacency, distances = spatial_neighbors(grid, coord_type="grid", n_neighs=4, copy=True)
    assert adjacency.sum(axis=1).ravel().tolist()[0] == [2, 3, 2, 3, 4, 3, 2, 3, 2]
    assert (distances.data == 1).all() and (adjacency != adjacency.T).nnz == 0


def test_of_equally_near_points_the_first_are_taken():
    line = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [0, 1]], dtype=float)
    indices, square = Fields(line).nearest(3)
    assert indices[0].tolist() == [1, 2, 3] and square[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("n", [2, 40, 300])
def test_many_points_in_one_place(n):
    indices, square = Fields(np.zeros((n, 2))).nearest(6)
    expected = [[j for j in range(n) if j != i][:6] for i in range(n)]
    assert indices.tolist() == expected and (square == 0).all()
    adjacency, distances = spatial_neighbors(tissue(np.zeros((n, 2))), copy=True)
    assert adjacency.nnz == n * min(6, n - 1) and distances.nnz == 0


def test_nearest_equals_all_distances_with_ties():
    points = np.random.default_rng(1).integers(0, 8, (200, 2)).astype(float)
    square = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(square, np.inf)
    expected = np.lexsort((np.broadcast_to(np.arange(200), square.shape), square))[:, :7]
    indices, found = Fields(points).nearest(7)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(found, np.take_along_axis(square, expected, axis=1))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_rows_are_those_of_all_distances(to_xp, dimensions):
    """Bit for bit on both backends: strewn points, a lattice with its ties, a dense clump far away, points in one place."""
    draw = np.random.default_rng(2)
    parts = draw.uniform(0, 100, (300, 3)), draw.integers(0, 12, (300, 3)), draw.normal(1e4, 0.1, (300, 3)), np.full((40, 3), 50.0)
    points = draw.permutation(np.concatenate(parts))[:, :dimensions].copy()
    square = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(square, np.inf)
    nearest = np.zeros(square.shape, dtype=bool)
    np.put_along_axis(nearest, np.argsort(square, axis=1, kind="stable")[:, :6], True, axis=1)
    adata = tissue(points)
    adata.obsm["spatial"] = to_xp(points)
    for options, expected in [
        ({"n_neighs": 6}, nearest),
        ({"radius": 5.0}, square <= 25.0),
        ({"radius": (2.0, 5.0)}, (square <= 25.0) & (square >= 4.0)),
        ({"coord_type": "grid"}, nearest & (np.sqrt(square) < 1.3 * np.median(np.sqrt(square[nearest])))),
    ]:
        options = {"coord_type": "generic", **options}
        found = spatial_neighbors(adata, copy=True, **options)
        length = expected if options["coord_type"] == "grid" else np.where(expected, np.sqrt(square), 0)
        np.testing.assert_array_equal(found.connectivities.toarray(), expected)
        np.testing.assert_array_equal(found.distances.toarray(), length)
        for graph in found:
            assert sp.csr_matrix((graph.data, graph.indices, graph.indptr)).has_sorted_indices


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_points_take_all_others(n):
    adata = tissue(np.arange(2.0 * n).reshape(n, 2))
    spatial_neighbors(adata)
    assert adata.obsp["spatial_connectivities"].nnz == n * (n - 1)
    assert adata.uns["spatial_neighbors"]["params"] == {"coord_type": "generic", "n_neighbors": 6}


def test_a_spot_far_away_has_no_neighbours():
    grid = np.stack(np.meshgrid(range(4), range(4)), axis=-1).reshape(-1, 2)
    adjacency, _ = spatial_neighbors(tissue([*grid, [50, 50]]), coord_type="grid", n_neighs=4, copy=True)
    assert adjacency[16].nnz == 0 and adjacency[:, 16].nnz == 0
    spectral, _ = spatial_neighbors(tissue([*grid, [50, 50]]), coord_type="generic", transform="spectral", copy=True)
    assert np.isfinite(spectral.data).all()


def test_visium_is_a_grid_by_default():
    adata = tissue(np.stack(np.meshgrid(range(4), range(4)), axis=-1).reshape(-1, 2), spatial={})
    spatial_neighbors(adata, key_added="other")
    assert adata.uns["other_neighbors"]["params"]["coord_type"] == "grid" and "other_distances" in adata.obsp


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_missing_coordinate_names_the_cell(value):
    adata = scattered(10)
    adata.obsm["spatial"][7, 1] = value
    with pytest.raises(InvalidInput, match=r"row 7 \(c7\)"):
        spatial_neighbors(adata)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_key": "xy"}, "no obsm\\['xy'\\]; obsm has 'spatial'"),
        ({"coord_type": "hexagons"}, "grid, generic"),
        ({"transform": "sine"}, "spectral, cosine"),
        ({"n_neighs": 0}, "n_neighs is 0"),
        ({"coord_type": "grid", "radius": 2}, "n_rings"),
        ({"radius": -1}, "radius is -1"),
        ({"percentile": 101}, "percentile is 101"),
        ({"coord_type": "grid", "percentile": 50}, "percentile is for coord_type 'generic'"),
        ({"library_key": "slide"}, "library_key 'slide': no such column; obs has library"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        spatial_neighbors(scattered(10), **options)


WAYS = {
    "knn": [{}, {"n_neighs": 9, "percentile": 80, "set_diag": True}, {"transform": "cosine"}],
    "radius": [{"radius": 9.0}, {"radius": (3.0, 9.0), "percentile": 80, "transform": "spectral"}],
    "delaunay": [{}, {"radius": 9.0, "percentile": 95}, {"radius": (3.0, 9.0), "set_diag": True}],
    "grid": [{}, {"n_neighs": 4, "n_rings": 2, "transform": "cosine"}, {"delaunay": True}],
}


@pytest.mark.parametrize(("way", "options"), [(way, options) for way, several in WAYS.items() for options in several], ids=str)
def test_each_way_equals_squidpys_function_of_its_name(way, options):
    name = f"spatial_neighbors_{way}"
    adata = scattered()
    if way == "grid":
        adata.obsm["spatial"] = np.stack([np.arange(300) % 20, np.arange(300) // 20], axis=1).astype(np.float64)
    options = {**options, "library_key": None if way == "grid" else "library"}
    ours, theirs = (getattr(module, name)(adata, copy=True, **options) for module in (gr, sq.gr))
    for part in ("connectivities", "distances"):
        mine, reference = getattr(ours, part), getattr(theirs, part)
        np.testing.assert_allclose(mine.toarray(), reference.toarray(), rtol=4 * np.finfo(mine.dtype).eps, atol=1e-12)
    getattr(gr, name)(adata, key_added="near", **options)
    assert (adata.obsp["near_connectivities"] != ours.connectivities).nnz == 0 and "near_neighbors" in adata.uns


@pytest.mark.parametrize("way", WAYS)
def test_each_way_takes_squidpys_arguments(way):
    mine, reference = (inspect.signature(getattr(module, f"spatial_neighbors_{way}")).parameters for module in (gr, sq.gr))
    left_out = {"data", "elements_to_coordinate_systems", "table_key", "n_jobs"}  # of SpatialData; threads are the process's
    assert {name: p.default for name, p in reference.items() if name not in left_out} == {
        name: p.default for name, p in mine.items() if name != "adata"
    }


def test_a_radius_is_needed_where_it_is_the_way():
    with pytest.raises(ValueError, match="radius is None"):
        gr.spatial_neighbors_radius(scattered(), radius=None)
