"""SPATIALDATA: the result in the layout of the package spatialdata, for napari, spatialdata-plot and Vitessce."""

from __future__ import annotations

import importlib.util
import warnings

import anndata as ad
import numpy as np
import pandas as pd

from rsc_core.errors import BackendUnavailable, InvalidInput
from rsc_core.io.files import replaced_folder
from rsc_core.stages._task import Task

TABLE, TABLE_WITHOUT = "table", "table_without_places"
REGION, INSTANCE = "region", "instance_id"


def run(*, adata, output):
    """Write the result as a SpatialData folder.

    Parameters
    ----------
    adata
        File of ASSEMBLE.
    output
        Folder (.zarr) to write. Each sample with coordinates has a coordinate system of its name, circles ``<sample>_cells`` in it
        and, of Space Ranger, the low-resolution picture ``<sample>_image``. ``tables['table']`` annotates the circles
        (``obs['region']``, ``obs['instance_id']``); cells of samples without coordinates are ``tables['table_without_places']``.

    Raises
    ------
    BackendUnavailable
        When the package spatialdata is not installed.
    InvalidInput
        When two samples' names differ only in upper and lower case, which spatialdata does not allow.

    References
    ----------
    Marconato et al. 2025, Nature Methods 22:58.
    """
    if importlib.util.find_spec("spatialdata") is None:
        raise BackendUnavailable(
            "The package spatialdata is not installed.",
            "pip install 'spatialdata>=0.7', or name an image with it: --container_spatialdata.",
        )
    task = Task("spatialdata", output, packages=("spatialdata", "zarr"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries below spatialdata, about their own future
        with task.step("read"):
            data = ad.read_h5ad(adata)
        with task.step("convert"):
            found = spatial_data(data)
        with task.step("write"), replaced_folder(output) as temporary:
            found.write(temporary)
    task.finish()


def spatial_data(adata: ad.AnnData):
    """The SpatialData object of a result; the AnnData's names become such as spatialdata allows."""
    import spatialdata
    from spatialdata.models import TableModel

    places = np.asarray(adata.obsm["spatial"], dtype=np.float64)[:, :2] if "spatial" in adata.obsm else np.full((adata.n_obs, 2), np.nan)
    placed, samples = np.isfinite(places).all(axis=1), adata.obs["sample"].astype(str).to_numpy()
    names = [name for name in dict.fromkeys(samples) if placed[samples == name].any()]
    check_names(names)
    libraries, shapes, images = adata.uns.get("spatial", {}), {}, {}
    for name in names:
        mine = placed & (samples == name)
        library = libraries.get(name, {})
        shapes[f"{name}_cells"] = circles(places[mine], adata.obs[mine], library, name)
        if "lowres" in library.get("images", {}):
            images[f"{name}_image"] = picture(library, name)
    adata.obs = adata.obs.rename(columns={key: f"{key}_input" for key in (REGION, INSTANCE)})
    spatialdata.sanitize_table(adata)
    tables = {}
    if not placed.all():
        tables[TABLE_WITHOUT] = TableModel.parse(adata[~placed].copy())
    if placed.any():
        table = adata if placed.all() else adata[placed].copy()
        table.obs[REGION] = pd.Categorical([f"{name}_cells" for name in samples[placed]])
        table.obs[INSTANCE] = table.obs_names.to_numpy()
        tables[TABLE] = TableModel.parse(table, region=list(shapes), region_key=REGION, instance_key=INSTANCE)
    return spatialdata.SpatialData(images=images, shapes=shapes, tables=tables)


def check_names(names: list[str]) -> None:
    """Refuse names that a file system without upper and lower case would take for one."""
    first = {}
    for name in names:
        if first.setdefault(name.lower(), name) != name:
            raise InvalidInput(
                f"samples {first[name.lower()]!r} and {name!r}: their names differ only in upper and lower case.",
                "Rename one in the samplesheet, or leave out --spatialdata.",
            )


def circles(places: np.ndarray, obs: pd.DataFrame, library: dict, system: str):
    """A circle for each cell: of the spot's size, of the cell's area, or else half as wide as the typical cell is far from the next."""
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    diameter = library.get("scalefactors", {}).get("spot_diameter_fullres")
    if diameter is not None:
        radius = np.full(len(obs), float(diameter) / 2)
    elif "cell_area" in obs and (obs["cell_area"] > 0).all():
        radius = np.sqrt(obs["cell_area"].to_numpy(dtype=np.float64) / np.pi)
    else:
        radius = np.full(len(obs), gap(places) / 2)
    return ShapesModel.parse(places, geometry=0, radius=radius, index=obs.index, transformations={system: Identity()})


def gap(places: np.ndarray) -> float:
    """Median distance from a place to the nearest other one; 1 where there is none."""
    from scipy.spatial import cKDTree

    unique = np.unique(places, axis=0)
    return float(np.median(cKDTree(unique).query(unique, k=2)[0][:, 1])) if len(unique) > 1 else 1.0


def picture(library: dict, system: str):
    """The low-resolution picture, scaled to the coordinates of the cells."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Scale

    factor = 1 / float(library.get("scalefactors", {}).get("tissue_lowres_scalef", 1))
    pixels = np.asarray(library["images"]["lowres"])
    colours = ["r", "g", "b", "a"][: pixels.shape[2]]
    scale = Scale([factor, factor], axes=("x", "y"))
    return Image2DModel.parse(np.moveaxis(pixels, 2, 0), dims=("c", "y", "x"), c_coords=colours, transformations={system: scale})
