"""NEIGHBORS: the nearest-neighbour graph."""

from __future__ import annotations

import warnings

import anndata as ad

from rsc_core import backend as backends
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import Delta, read_delta
from rsc_core.io.store import CountsStore
from rsc_core.pp._bbknn import bbknn
from rsc_core.pp._neighbors import neighbors
from rsc_core.stages._inputs import check_same_cells
from rsc_core.stages._task import Task

REPRESENTATIONS = ("X_pca_harmony", "X_pca_combat", "X_pca")  # the first that a delta has is used

CUVS = ("cuvs-cu12", "cuvs-cu13")  # distributions, one of which a GPU image has


def run(
    *,
    representation,
    output,
    store=None,
    backend="cpu",
    seed=0,
    n_neighbors=15,
    metric="euclidean",
    neighbors_method="umap",
    neighbors_algorithm="auto",
    integration="none",
    batch_key="sample",
    neighbors_within_batch=3,
    trim=-1,
):
    """Neighbours and weights.

    Parameters
    ----------
    representation
        Delta with ``X_pca_harmony``, ``X_pca_combat`` or ``X_pca``; the first is preferred.
    output
        Delta with ``obsp`` distances and connectivities, and ``uns['neighbors']``.
    store
        Counts store of all samples, of which bbknn reads the batches.
    backend, seed
        Where the work runs; seed of its random numbers.
    n_neighbors, metric, neighbors_method, neighbors_algorithm
        See :func:`rsc_core.pp.neighbors`.
    integration
        ``"bbknn"``: :func:`rsc_core.pp.bbknn`, unless there is one batch; any other: plain neighbours.
    batch_key, neighbors_within_batch, trim
        See :func:`rsc_core.pp.bbknn`; a trim of -1 is its default.
    """
    parameters = {"n_neighbors": n_neighbors, "metric": metric, "method": neighbors_method, "algorithm": neighbors_algorithm}
    parents = (representation,)
    if integration == "bbknn":
        if store is None:
            raise ValueError("integration bbknn needs the counts store")
        parameters |= {"integration": integration, "batch_key": batch_key, "neighbors_within_batch": neighbors_within_batch, "trim": trim}
        parents = (representation, store)
    packages = ("faiss-cpu",) if backend == "cpu" else CUVS if neighbors_algorithm in ("cagra", "nn_descent") else ()
    task = Task("neighbors", output, parameters=parameters, parents=parents, backend_name=backend, seed=seed, packages=packages)
    with task.step("read"):
        delta = read_delta(representation)
        key = representation_key(delta, representation)
        adata = ad.AnnData(obs=delta.obs[[]], obsm={key: backends.to_device(delta.obsm[key], backend)})
        balanced = integration == "bbknn" and _read_batches(adata, store, batch_key, representation, task)
    with task.step("neighbors"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            if balanced:
                options = {"neighbors_within_batch": neighbors_within_batch, "trim": None if trim < 0 else trim}
                bbknn(adata, batch_key, use_rep=key, metric=metric, random_state=seed, **options)
            else:
                options = {"method": neighbors_method, "algorithm": neighbors_algorithm}
                neighbors(adata, n_neighbors, use_rep=key, metric=metric, random_state=seed, **options)
        except ValueError as error:
            remedy = "Relax the QC thresholds so that more cells remain, or correct the parameter that the message names."
            raise InvalidInput(f"{representation}: {error}.", remedy) from error
    for warning in caught:
        if "exceeds the" in str(warning.message):
            task.warn(f"{warning.message}.", "Choose --n-neighbors below the number of cells.")
        elif "of the neighbours of a sample" in str(warning.message):
            task.warn(f"{warning.message}.", "Use --neighbors-algorithm exact or ivf.")
    obsp = {slot: backends.to_host(matrix) for slot, matrix in adata.obsp.items()}
    task.write(obs=adata.obs[[]], obsp=obsp, uns={"neighbors": adata.uns["neighbors"]})


def _read_batches(adata, store, batch_key, representation, task) -> bool:
    """Put the batch column into obs; False, and a warning, where all cells are of one batch."""
    obs = CountsStore(store).obs
    check_same_cells(obs.index, adata.obs.index, representation)
    if batch_key not in obs:
        raise InvalidInput(f"{store}: obs has no column {batch_key!r}.", f"Choose --batch-key among {list(obs.columns)}.")
    adata.obs[batch_key] = obs[batch_key].to_numpy()
    if adata.obs[batch_key].nunique(dropna=False) > 1:
        return True
    task.warn(f"bbknn: obs[{batch_key!r}] has one batch; plain neighbours were searched.", "Nothing to do, or choose another --batch-key.")
    return False


def representation_key(delta: Delta, path) -> str:
    """Which representation of a delta the graph and the embeddings use."""
    for key in REPRESENTATIONS:
        if key in delta.obsm:
            return key
    raise InvalidInput(f"{path}: its obsm has none of {REPRESENTATIONS}.", "Give the delta of PREPROCESS or INTEGRATE.")
