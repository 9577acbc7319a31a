"""SPATIALDATA: what spatialdata reads back is the result, in place; and what is refused."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rsc_core.errors import BackendUnavailable, InvalidInput
from rsc_core.stages import spatialdata_zarr
from rsc_core.stages.spatialdata_zarr import run

spatialdata = pytest.importorskip("spatialdata")
pytestmark = pytest.mark.filterwarnings("ignore")


def result(samples=("a", "b", "c")):
    """Nine cells: sample a of Visium with its picture, b of cells with areas, c without coordinates; names to be mended."""
    obs = pd.DataFrame({"sample": pd.Categorical(np.repeat(samples, 3)), "cell type": "T", "region": "north", "cell_area": np.pi * 4.0})
    obs.index = [f"c{i}" for i in range(9)]
    places = np.full((9, 2), np.nan)
    places[:6] = np.arange(12).reshape(6, 2) * 10
    picture = {"images": {"lowres": np.zeros((4, 8, 3), dtype=np.uint8)}}
    picture["scalefactors"] = {"spot_diameter_fullres": 6.0, "tissue_lowres_scalef": 0.5}
    names = np.rec.fromarrays([["g1", "g0"]], names=["0"])
    uns = {"spatial": {samples[0]: picture}, "rank_genes_groups": {"names": names}}
    adata = ad.AnnData(sp.csr_matrix(np.arange(18.0).reshape(9, 2)), obs=obs, obsm={"spatial": places}, uns=uns)
    adata.obsp["connectivities"] = sp.csr_matrix(np.eye(9))
    return adata


def converted(tmp_path, adata):
    adata.write_h5ad(tmp_path / "adata.h5ad")
    run(adata=tmp_path / "adata.h5ad", output=tmp_path / "out.zarr")
    return spatialdata.read_zarr(tmp_path / "out.zarr")


def test_spatialdata_reads_the_result_in_place(tmp_path):
    adata = result()
    found = converted(tmp_path, adata)
    assert set(found.coordinate_systems) == {"a", "b"}
    table = found["table"]
    assert list(table.obs_names) == [f"c{i}" for i in range(6)] and list(table.obs["region_input"]) == ["north"] * 6
    assert "cell_type" in table.obs  # a space is not allowed
    np.testing.assert_array_equal(table.X.toarray(), adata.X[:6].toarray())
    assert table.obsp["connectivities"].shape == (6, 6) and table.uns["rank_genes_groups"]["names"]["0"].tolist() == ["g1", "g0"]
    assert list(found["table_without_places"].obs_names) == ["c6", "c7", "c8"]
    for name, radius in (("a", 3.0), ("b", 2.0)):
        shapes, joined = spatialdata.join_spatialelement_table(
            sdata=found, spatial_element_names=f"{name}_cells", table_name="table", how="inner", match_rows="left"
        )
        circles = shapes[f"{name}_cells"]
        np.testing.assert_array_equal(np.c_[circles.geometry.x, circles.geometry.y], joined.obsm["spatial"])
        assert circles["radius"].unique().tolist() == pytest.approx([radius])
    extent = spatialdata.get_extent(found["a_image"], coordinate_system="a")
    assert (extent["x"], extent["y"]) == ((0, 16), (0, 8))


def test_cells_without_area_are_half_as_wide_as_the_gap():
    assert spatialdata_zarr.gap(np.array([[0.0, 0], [0, 3], [0, 3], [4, 3]])) == 3.0
    assert spatialdata_zarr.gap(np.zeros((2, 2))) == 1.0


def test_without_coordinates_there_is_the_table_alone(tmp_path):
    adata = result()
    del adata.obsm["spatial"]
    found = converted(tmp_path, adata)
    assert list(found.tables) == ["table_without_places"] and not found.shapes and not found.images


def test_what_is_refused(tmp_path, monkeypatch):
    result(("a", "A", "c")).write_h5ad(tmp_path / "adata.h5ad")
    with pytest.raises(InvalidInput, match="samples 'a' and 'A': their names differ only"):
        run(adata=tmp_path / "adata.h5ad", output=tmp_path / "out.zarr")
    monkeypatch.setattr(spatialdata_zarr.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match="spatialdata is not installed"):
        run(adata=tmp_path / "adata.h5ad", output=tmp_path / "out.zarr")
