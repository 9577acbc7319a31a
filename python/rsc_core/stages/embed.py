"""EMBED: the cells drawn in two dimensions."""

from __future__ import annotations

import anndata as ad

from rsc_core import backend as backends
from rsc_core.io.delta import read_delta
from rsc_core.stages._inputs import check_same_cells
from rsc_core.stages._task import Task
from rsc_core.tl._umap import umap


def _umap(adata, *, min_dist, spread, seed):
    umap(adata, min_dist=min_dist, spread=spread, random_state=seed)
    return {"X_umap": backends.to_host(adata.obsm["X_umap"])}, {"umap": adata.uns["umap"]}


EMBEDDINGS = {"umap": _umap}


def run(*, neighbors, representation, output, backend="cpu", seed=0, embeddings=("umap",), min_dist=0.5, spread=1.0):
    """The embeddings that are asked for.

    Parameters
    ----------
    neighbors
        Delta of NEIGHBORS.
    representation
        The delta that it was made from.
    output
        Delta with ``obsm['X_umap']`` and ``uns['umap']``.
    backend, seed
        Where the work runs; seed of its random numbers.
    embeddings
        Names among ``EMBEDDINGS``.
    min_dist, spread
        See :func:`rsc_core.tl.umap`.
    """
    unknown = [name for name in embeddings if name not in EMBEDDINGS]
    if unknown or not embeddings:
        raise ValueError(f"embeddings are {list(embeddings)}; each must be one of {sorted(EMBEDDINGS)}")
    parameters = {"embeddings": list(embeddings), "min_dist": min_dist, "spread": spread}
    packages = ("numba", "scipy") if backend == "cpu" else ()
    parents = (neighbors, representation)
    task = Task("embed", output, parameters=parameters, parents=parents, backend_name=backend, seed=seed, packages=packages)
    with task.step("read"):
        graph, delta = read_delta(neighbors), read_delta(representation)
        check_same_cells(graph.obs.index, delta.obs.index, representation)
        entry = graph.uns["neighbors"]
        key, slot = entry["params"]["use_rep"], entry["connectivities_key"]
        adata = ad.AnnData(
            obs=graph.obs[[]],
            obsm={key: backends.to_device(delta.obsm[key], backend)},
            obsp={slot: backends.to_device(graph.obsp[slot], backend)},
            uns={"neighbors": entry},
        )
    obsm, uns = {}, {}
    for name in embeddings:
        with task.step(name):
            coordinates, about = EMBEDDINGS[name](adata, min_dist=min_dist, spread=spread, seed=seed)
        obsm |= coordinates
        uns |= about
    task.write(obs=adata.obs, obsm=obsm, uns=uns)
