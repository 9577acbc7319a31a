"""NEIGHBORS: the nearest-neighbour graph."""

from __future__ import annotations

import warnings

import anndata as ad

from rsc_core import backend as backends
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import Delta, read_delta
from rsc_core.pp._neighbors import neighbors
from rsc_core.stages._task import Task

REPRESENTATIONS = ("X_pca_harmony", "X_pca_combat", "X_pca")  # the first that a delta has is used


def run(*, representation, output, backend="cpu", seed=0, n_neighbors=15, metric="euclidean"):
    """Exact neighbours and UMAP's weights.

    Parameters
    ----------
    representation
        Delta with ``X_pca_harmony``, ``X_pca_combat`` or ``X_pca``; the first is preferred.
    output
        Delta with ``obsp`` distances and connectivities, and ``uns['neighbors']``.
    backend, seed
        Where the work runs; the seed is recorded.
    n_neighbors, metric
        See :func:`rsc_core.pp.neighbors`.
    """
    parameters = {"n_neighbors": n_neighbors, "metric": metric}
    packages = ("faiss-cpu",) if backend == "cpu" else ("cuvs-cu12", "cuvs-cu13")
    task = Task("neighbors", output, parameters=parameters, parents=(representation,), backend_name=backend, seed=seed, packages=packages)
    with task.step("read"):
        delta = read_delta(representation)
        key = representation_key(delta, representation)
        adata = ad.AnnData(obs=delta.obs[[]], obsm={key: backends.to_device(delta.obsm[key], backend)})
    with task.step("neighbors"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            neighbors(adata, n_neighbors, use_rep=key, metric=metric, random_state=seed)
        except ValueError as error:
            raise InvalidInput(f"{representation}: {error}.", "Relax the QC thresholds so that more cells remain.") from error
    for warning in caught:
        if "exceeds the" in str(warning.message):
            task.warn(f"{warning.message}.", "Choose --n-neighbors below the number of cells.")
    obsp = {slot: backends.to_host(matrix) for slot, matrix in adata.obsp.items()}
    task.write(obs=adata.obs, obsp=obsp, uns={"neighbors": adata.uns["neighbors"]})


def representation_key(delta: Delta, path) -> str:
    """Which representation of a delta the graph and the embeddings use."""
    for key in REPRESENTATIONS:
        if key in delta.obsm:
            return key
    raise InvalidInput(f"{path}: its obsm has none of {REPRESENTATIONS}.", "Give the delta of PREPROCESS or INTEGRATE.")
