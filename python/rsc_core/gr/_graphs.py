"""The ways of :func:`rsc_core.gr.spatial_neighbors`, each as a function of its own, as squidpy 1.8 has them."""

from __future__ import annotations

from rsc_core.gr._build import spatial_neighbors


def spatial_neighbors_knn(
    adata,
    *,
    spatial_key="spatial",
    library_key=None,
    n_neighs=6,
    percentile=None,
    transform=None,
    set_diag=False,
    key_added="spatial",
    copy=False,
):
    """Connect each cell with its ``n_neighs`` nearest, in one direction.

    :func:`rsc_core.gr.spatial_neighbors` with ``coord_type="generic"``, where parameters, results and errors are explained.
    """
    options = {"percentile": percentile, "transform": transform, "set_diag": set_diag, "key_added": key_added, "copy": copy}
    return spatial_neighbors(adata, spatial_key=spatial_key, library_key=library_key, coord_type="generic", n_neighs=n_neighs, **options)


def spatial_neighbors_radius(
    adata,
    *,
    radius,
    spatial_key="spatial",
    library_key=None,
    percentile=None,
    transform=None,
    set_diag=False,
    key_added="spatial",
    copy=False,
):
    """Connect each cell with all within ``radius``, or between its two numbers.

    :func:`rsc_core.gr.spatial_neighbors` with ``coord_type="generic"`` and a radius, where parameters, results and errors are explained.
    """
    if radius is None:
        raise ValueError("radius is None; it must be a number, or the smallest and the largest distance")
    options = {"percentile": percentile, "transform": transform, "set_diag": set_diag, "key_added": key_added, "copy": copy}
    return spatial_neighbors(adata, spatial_key=spatial_key, library_key=library_key, coord_type="generic", radius=radius, **options)


def spatial_neighbors_delaunay(
    adata,
    *,
    spatial_key="spatial",
    library_key=None,
    radius=None,
    percentile=None,
    transform=None,
    set_diag=False,
    key_added="spatial",
    copy=False,
):
    """Connect the corners of the Delaunay triangulation, of those within ``radius`` (or between its two numbers) where it is given.

    :func:`rsc_core.gr.spatial_neighbors` with ``coord_type="generic"`` and ``delaunay=True``, where parameters, results and errors are
    explained.
    """
    options = {"percentile": percentile, "transform": transform, "set_diag": set_diag, "key_added": key_added, "copy": copy}
    return spatial_neighbors(
        adata, spatial_key=spatial_key, library_key=library_key, coord_type="generic", delaunay=True, radius=radius, **options
    )


def spatial_neighbors_grid(
    adata,
    *,
    spatial_key="spatial",
    library_key=None,
    n_neighs=6,
    n_rings=1,
    delaunay=False,
    transform=None,
    set_diag=False,
    key_added="spatial",
    copy=False,
):
    """Connect the spots of a grid with those next to them, and on to ``n_rings`` rings.

    :func:`rsc_core.gr.spatial_neighbors` with ``coord_type="grid"``, where parameters, results and errors are explained.
    """
    options = {"transform": transform, "set_diag": set_diag, "key_added": key_added, "copy": copy}
    return spatial_neighbors(
        adata,
        spatial_key=spatial_key,
        library_key=library_key,
        coord_type="grid",
        n_neighs=n_neighs,
        n_rings=n_rings,
        delaunay=delaunay,
        **options,
    )
