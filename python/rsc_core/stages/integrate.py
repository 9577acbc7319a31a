"""INTEGRATE: an embedding in which the batches mix."""

from __future__ import annotations

import anndata as ad

from rsc_core import backend as backends
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import read_delta
from rsc_core.io.store import CountsStore
from rsc_core.pp._harmony import harmony_integrate
from rsc_core.stages._inputs import check_same_cells
from rsc_core.stages._task import Task


def run(*, store, preprocess, output, backend="cpu", seed=0, integration="harmony", batch_key="sample", theta=2.0, max_iter_harmony=10):
    """Harmony on the principal components.

    Parameters
    ----------
    store
        Counts store of all samples; only its obs is read.
    preprocess
        Delta with ``obsm['X_pca']``.
    output
        Delta with ``obsm['X_pca_harmony']`` and ``uns['harmony']``.
    backend, seed
        Where the work runs; seed of its random numbers.
    integration
        ``"harmony"``.
    batch_key
        Column of the store's obs.
    theta, max_iter_harmony
        See :func:`rsc_core.pp.harmony_integrate`.
    """
    if integration != "harmony":
        raise ValueError(f"integration is {integration!r}; it must be 'harmony'")
    parameters = {"integration": integration, "batch_key": batch_key, "theta": theta, "max_iter_harmony": max_iter_harmony}
    task = Task(
        "integrate", output, parameters=parameters, parents=(store, preprocess), backend_name=backend, seed=seed, packages=("scipy",)
    )
    with task.step("read"):
        obs, delta = CountsStore(store).obs, read_delta(preprocess)
        check_same_cells(obs.index, delta.obs.index, preprocess)
        if batch_key not in obs:
            raise InvalidInput(f"{store}: obs has no column {batch_key!r}.", f"Choose --batch-key among {list(obs.columns)}.")
        adata = ad.AnnData(obs=obs[[batch_key]], obsm={"X_pca": backends.to_device(delta.obsm["X_pca"], backend)})
    with task.step("harmony"):
        try:
            harmony_integrate(adata, batch_key, theta=theta, max_iter_harmony=max_iter_harmony, random_state=seed)
        except ValueError as error:
            raise InvalidInput(f"{preprocess}: {error}.", "Correct the batch column in the samplesheet, or the parameter.") from error
    result = adata.uns["harmony"]
    if "skipped" in result:
        task.warn(f"integration was skipped: {result['skipped']}.", "Nothing to do; X_pca_harmony equals X_pca.")
    elif not result["converged"]:
        task.warn(f"Harmony stopped after {max_iter_harmony} corrections before it converged.", "Raise --max-iter-harmony.")
    task.write(obs=obs[[]], obsm={"X_pca_harmony": backends.to_host(adata.obsm["X_pca_harmony"])}, uns={"harmony": result})
