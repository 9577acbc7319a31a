"""EMBED: the cells drawn in two dimensions, and what follows from the neighbour graph."""

from __future__ import annotations

import anndata as ad
import numpy as np

from rsc_core import backend as backends
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import read_delta
from rsc_core.stages._inputs import check_same_cells
from rsc_core.stages._task import Task
from rsc_core.tl._diffmap import diffmap, dpt
from rsc_core.tl._draw_graph import draw_graph
from rsc_core.tl._embedding_density import embedding_density
from rsc_core.tl._mde import mde
from rsc_core.tl._tsne import tsne
from rsc_core.tl._umap import umap

FEWEST_CELLS = 4  # of fewer a diffusion map has not the three components that it needs


def _umap(adata, options):
    umap(adata, min_dist=options["min_dist"], spread=options["spread"], random_state=options["seed"], impl=options["umap_impl"])


def _tsne(adata, options):
    use_rep = adata.uns["neighbors"]["params"]["use_rep"]
    tsne(adata, use_rep=use_rep, perplexity=options["perplexity"], random_state=options["seed"])


def _diffmap(adata, options):
    diffmap(adata, min(options["n_diffmap"], adata.n_obs), random_state=options["seed"])


def _fa2(adata, options):
    draw_graph(adata, "fa", random_state=options["seed"])


def _mde(adata, options):
    mde(adata, random_state=options["seed"])


# Name of the option: what does it, and the name of its basis as scanpy has it.
EMBEDDINGS = {
    "umap": (_umap, "umap"),
    "tsne": (_tsne, "tsne"),
    "diffmap": (_diffmap, "diffmap"),
    "fa2": (_fa2, "draw_graph_fa"),
    "mde": (_mde, "mde"),
}
LIBRARIES = {"cpu": ("umap-learn",), "gpu": ("cuml-cu12", "cuml-cu13")}


def run(
    *,
    neighbors,
    representation,
    output,
    backend="cpu",
    seed=0,
    embeddings=("umap",),
    min_dist=0.5,
    spread=1.0,
    umap_impl="rsc",
    perplexity=30.0,
    n_diffmap=15,
    density=(),
    root_cell="",
):
    """The embeddings that are asked for, densities in them, and pseudotime.

    Parameters
    ----------
    neighbors
        Delta of NEIGHBORS.
    representation
        The delta that it was made from.
    output
        Delta with ``obsm['X_umap']`` and the like and their entries of uns, as scanpy names them.
    backend, seed
        Where the work runs; seed of its random numbers.
    embeddings
        Names among ``EMBEDDINGS``.
    min_dist, spread, umap_impl
        See :func:`rsc_core.tl.umap`.
    perplexity
        See :func:`rsc_core.tl.tsne`.
    n_diffmap
        Components of the diffusion map, as far as there are cells.
    density
        Those of the embeddings whose density goes into ``obs['<basis>_density']``.
    root_cell
        Name of the cell where pseudotime starts, which goes into ``obs['dpt_pseudotime']``; needs the embedding diffmap.
        Empty: none.
    """
    _check(embeddings, density, root_cell)
    options = {"min_dist": min_dist, "spread": spread, "umap_impl": umap_impl, "perplexity": perplexity, "n_diffmap": n_diffmap}
    parameters = {"embeddings": list(embeddings), **options, "density": list(density), "root_cell": root_cell}
    packages = ("numba", "scipy", *(LIBRARIES[backend] if umap_impl == "library" else ()))
    parents = (neighbors, representation)
    task = Task("embed", output, parameters=parameters, parents=parents, backend_name=backend, seed=seed, packages=packages)
    with task.step("read"):
        adata = _read(neighbors, representation, backend)
    before = {"neighbors"}, set(adata.obsm)
    for name in dict.fromkeys(embeddings):
        if name == "diffmap" and adata.n_obs < FEWEST_CELLS:
            task.warn(f"there is no diffusion map of {adata.n_obs} cells.", "Relax the QC thresholds so that more cells remain.")
            continue
        with task.step(name):
            EMBEDDINGS[name][0](adata, options | {"seed": seed})
    for name in dict.fromkeys(density):
        with task.step(f"density {name}"):
            if f"X_{EMBEDDINGS[name][1]}" in adata.obsm:
                embedding_density(adata, EMBEDDINGS[name][1])
    if root_cell and "X_diffmap" in adata.obsm:
        with task.step("dpt"):
            adata.uns["iroot"] = _position(adata.obs.index, root_cell, neighbors)
            dpt(adata, min(10, adata.obsm["X_diffmap"].shape[1]))
    obsm = {key: backends.to_host(value) for key, value in adata.obsm.items() if key not in before[1]}
    task.write(obs=adata.obs, obsm=obsm, uns={key: value for key, value in adata.uns.items() if key not in before[0]})


def _check(embeddings, density, root_cell):
    """Refuse names that are not known, and options that need an embedding which is not made."""
    unknown = [name for name in embeddings if name not in EMBEDDINGS]
    if unknown or not embeddings:
        raise InvalidInput(f"embeddings are {list(embeddings)}.", f"Each must be one of {sorted(EMBEDDINGS)}.")
    missing = [name for name in density if name not in embeddings]
    if missing:
        raise InvalidInput(f"density is asked of {missing}, which are not among the embeddings {list(embeddings)}.", "Add them there.")
    if root_cell and "diffmap" not in embeddings:
        raise InvalidInput(f"root_cell is {root_cell!r}, but there is no diffusion map.", "Add diffmap to the embeddings.")


def _read(neighbors, representation, backend):
    graph, delta = read_delta(neighbors), read_delta(representation)
    check_same_cells(graph.obs.index, delta.obs.index, representation)
    entry = graph.uns["neighbors"]
    key, slots = entry["params"]["use_rep"], (entry["connectivities_key"], entry["distances_key"])
    return ad.AnnData(
        obs=graph.obs[[]],
        obsm={key: backends.to_device(delta.obsm[key], backend)},
        obsp={slot: backends.to_device(graph.obsp[slot], backend) for slot in slots},
        uns={"neighbors": entry},
    )


def _position(cells, name, path):
    found = np.flatnonzero(cells == name)
    if not found.size:
        raise InvalidInput(f"{path}: there is no cell {name!r}.", f"Give --root-cell a name such as {cells[0]!r}, of a cell after QC.")
    return int(found[0])
