"""INTEGRATE: an embedding in which the batches mix."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from rsc_core import backend as backends
from rsc_core import data, rng
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import read_delta
from rsc_core.io.store import CountsStore
from rsc_core.metrics import lisi, silhouette
from rsc_core.pp._combat import without_batches
from rsc_core.pp._harmony import batch_codes, harmony_integrate
from rsc_core.pp._normalize import lognorm
from rsc_core.pp._pca import principal_components, select_genes
from rsc_core.stages._inputs import check_same_cells
from rsc_core.stages._task import Task

METHODS = {"harmony": "X_pca_harmony", "combat": "X_pca_combat"}  # what each writes
MEASURED_CELLS = 10_000  # the quality of more cells is that of a sample: it needs all their neighbours


def run(
    *,
    store,
    preprocess,
    output,
    backend="cpu",
    seed=0,
    integration="harmony",
    batch_key="sample",
    label_key="",
    theta=2.0,
    max_iter_harmony=10,
    harmony_flavor="harmony2",
):
    """Harmony on the principal components, or principal components of the genes after ComBat.

    Parameters
    ----------
    store
        Counts store of all samples; harmony reads its obs alone.
    preprocess
        Delta with ``obsm['X_pca']``; for combat, too, size factors and highly variable genes.
    output
        Delta with ``obsm['X_pca_harmony']`` or ``obsm['X_pca_combat']``, ``uns['harmony']``, and ``uns['integration']``: the method, and
        how well it did, before and after (:func:`quality`).
    backend, seed
        Where the work runs; seed of its random numbers.
    integration
        ``"harmony"`` or ``"combat"``.
    batch_key
        Column of the store's obs.
    label_key
        Column of the store's obs with cell types, for cLISI and the silhouette; empty: neither is computed.
    theta, max_iter_harmony, harmony_flavor
        See :func:`rsc_core.pp.harmony_integrate`.
    """
    if integration not in METHODS:
        raise ValueError(f"integration is {integration!r}; it must be one of {', '.join(METHODS)}")
    parameters = {"integration": integration, "batch_key": batch_key, "label_key": label_key, "theta": theta}
    parameters |= {"max_iter_harmony": max_iter_harmony, "harmony_flavor": harmony_flavor}
    packages = ("scipy", "faiss-cpu") if backend == "cpu" else ("scipy",)
    task = Task("integrate", output, parameters=parameters, parents=(store, preprocess), backend_name=backend, seed=seed, packages=packages)
    with task.step("read"):
        counts = CountsStore(store)
        obs, delta = counts.obs, read_delta(preprocess)
        check_same_cells(obs.index, delta.obs.index, preprocess)
        for name in [batch_key] + ([label_key] if label_key else []):
            if name not in obs:
                raise InvalidInput(
                    f"{store}: obs has no column {name!r}.", f"Choose --batch-key and --label-key among {list(obs.columns)}."
                )
        adata = ad.AnnData(obs=obs[[batch_key]], obsm={"X_pca": backends.to_device(delta.obsm["X_pca"], backend)})
    uns = {}
    with task.step(integration):
        try:
            if integration == "harmony":
                options = {"theta": theta, "max_iter_harmony": max_iter_harmony, "flavor": harmony_flavor, "random_state": seed}
                harmony_integrate(adata, batch_key, **options)
                uns["harmony"] = adata.uns["harmony"]
                _warn_of_harmony(task, uns["harmony"], max_iter_harmony)
            else:
                adata.obsm["X_pca_combat"] = combat_components(counts, delta, batch_codes(obs, batch_key), backend)
        except ValueError as error:
            raise InvalidInput(f"{preprocess}: {error}.", "Correct the batch column in the samplesheet, or the parameter.") from error
    key = METHODS[integration]
    with task.step("quality"):
        found = quality(adata.obsm["X_pca"], adata.obsm[key], obs[batch_key], obs[label_key] if label_key else None, seed)
    uns["integration"] = {"method": integration, "batch_key": batch_key, "label_key": label_key, **found}
    task.write(obs=obs[[]], obsm={key: backends.to_host(adata.obsm[key])}, uns=uns)


def _warn_of_harmony(task, result, max_iter_harmony) -> None:
    if "skipped" in result:
        task.warn(f"integration was skipped: {result['skipped']}.", "Nothing to do; X_pca_harmony equals X_pca.")
    elif not result["converged"]:
        task.warn(f"Harmony stopped after {max_iter_harmony} corrections before it converged.", "Raise --max-iter-harmony.")


def combat_components(counts, delta, batch, backend: str):
    """As many principal components as ``X_pca`` has, of the highly variable genes after ComBat; no corrected matrix is kept."""
    chosen = np.flatnonzero(delta.var["highly_variable"])
    x = select_genes(data.load(counts, backend).X, chosen)
    x = lognorm(x, delta.obs["size_factor"].to_numpy()).toarray()
    corrected = without_batches(x, batch, (batch[:, None] == np.arange(batch.max() + 1)).astype(np.float64))
    return principal_components(corrected, delta.obsm["X_pca"].shape[1])[0]


def quality(before, after, batch, label, seed: int) -> dict:
    """Mean LISI of batches and labels and silhouettes of labels, before and after, of at most ``MEASURED_CELLS`` cells.

    Returns
    -------
    dict of ``n_cells`` and, ``<figure>_before`` and ``<figure>_after`` each, ``ilisi`` (1 to the number of batches: mixed),
    ``batch_silhouette`` and, with labels, ``clisi`` (1: types apart) and ``silhouette``.
    """
    xp, n_cells = backends.xp_of(before), len(before)
    rows = np.arange(n_cells)
    if n_cells > MEASURED_CELLS:
        rows = np.sort(rng.permutation(seed, "sample", n_cells, 0)[:MEASURED_CELLS])
    labels = {"ilisi": batch, "clisi": label} if label is not None else {"ilisi": batch}
    labels = {name: pd.Series(value).astype(str).to_numpy()[rows] for name, value in labels.items()}
    found = {"n_cells": len(rows)}
    for when, x in (("before", before), ("after", after)):
        x = x[xp.asarray(rows)]
        means = np.atleast_2d(lisi(x, *labels.values())).mean(axis=1)
        found |= {f"{name}_{when}": float(mean) for name, mean in zip(labels, means, strict=True)}
        for name, key in (("batch_silhouette", "ilisi"), ("silhouette", "clisi")):
            if key in labels:
                found[f"{name}_{when}"] = silhouette(x, labels[key])
    return found
