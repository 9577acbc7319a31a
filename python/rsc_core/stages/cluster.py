"""CLUSTER: communities of the neighbour graph."""

from __future__ import annotations

import anndata as ad

from rsc_core import backend as backends
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import read_delta
from rsc_core.stages._inputs import check_same_cells
from rsc_core.stages._task import Task
from rsc_core.tl._kmeans import kmeans
from rsc_core.tl._leiden import leiden
from rsc_core.tl._louvain import louvain
from rsc_core.tl._paga import paga as abstraction

PACKAGES = {"deterministic": ("numba",), "igraph": ("igraph",), "cugraph": ("pylibcugraph-cu12", "pylibcugraph-cu13")}
METHODS = ("leiden", "louvain", "kmeans")


def run(
    *,
    neighbors,
    output,
    representation=None,
    backend="cpu",
    seed=0,
    cluster_methods=("leiden",),
    resolutions=(1.0,),
    leiden_impl="deterministic",
    n_clusters=8,
    paga=False,
):
    """Leiden and Louvain at one or more resolutions, and k-means.

    Parameters
    ----------
    neighbors
        Delta of NEIGHBORS.
    output
        Delta with a column of obs and an entry of uns for each method; with several resolutions also
        ``<method>_<resolution>`` for each, and ``<method>`` is the first.
    representation
        The delta that the neighbours were made from, for kmeans.
    backend, seed
        Where the work runs; seed of its random numbers.
    cluster_methods
        Names among ``METHODS``.
    resolutions
        Numbers above 0.
    leiden_impl
        ``"deterministic"``, ``"igraph"`` or ``"cugraph"`` (backend gpu only).
    n_clusters
        Of kmeans.
    paga
        Whether the connections between the clusters of the first method go into ``uns['paga']``.
    """
    unknown = [name for name in cluster_methods if name not in METHODS]
    if unknown or not cluster_methods:
        raise InvalidInput(f"cluster_methods are {','.join(cluster_methods)}.", f"Use --cluster-methods with some of {', '.join(METHODS)}.")
    if "kmeans" in cluster_methods and representation is None:
        raise InvalidInput("kmeans needs the representation.", "Give --representation, the delta that the neighbours were made from.")
    if not resolutions:
        raise ValueError("no resolution was given")
    if leiden_impl == "cugraph" and backend == "cpu":
        raise InvalidInput(
            "leiden_impl is cugraph, but the backend is cpu.", "Use --leiden-impl deterministic or igraph, or --backend gpu."
        )
    parameters = {"resolutions": list(resolutions), "leiden_impl": leiden_impl, "cluster_methods": list(cluster_methods), "paga": paga}
    parents = (neighbors,)
    if "kmeans" in cluster_methods:
        parameters, parents = parameters | {"n_clusters": n_clusters}, (neighbors, representation)
    packages = PACKAGES[leiden_impl]
    task = Task("cluster", output, parameters=parameters, parents=parents, backend_name=backend, seed=seed, packages=packages)
    with task.step("read"):
        delta = read_delta(neighbors)
        entry = delta.uns["neighbors"]
        key, slot = entry["params"]["use_rep"], entry["connectivities_key"]
        graph = backends.to_device(delta.obsp[slot], backend)
        adata = ad.AnnData(obs=delta.obs[[]], obsp={slot: graph}, uns={"neighbors": entry})
        if "kmeans" in cluster_methods:
            places = read_delta(representation)
            check_same_cells(delta.obs.index, places.obs.index, representation)
            adata.obsm[key] = backends.to_device(places.obsm[key], backend)
    for method in cluster_methods:
        with task.step(method):
            if method == "kmeans":
                try:
                    kmeans(adata, n_clusters, use_rep=key, random_state=seed)
                except ValueError as error:
                    raise InvalidInput(f"{representation}: {error}.", "Choose --n-clusters up to the number of cells.") from error
            elif method == "louvain":
                louvain(adata, resolutions, random_state=seed)
            else:
                leiden(adata, resolutions, random_state=seed, flavor=leiden_impl)
    names = list(adata.obs)
    if paga:
        with task.step("paga"):
            distances = entry["distances_key"]
            adata.obsp[distances] = delta.obsp[distances]
            abstraction(adata, cluster_methods[0])
        names += ["paga", f"{cluster_methods[0]}_sizes"]
    task.write(obs=adata.obs, uns={name: adata.uns[name] for name in names})
