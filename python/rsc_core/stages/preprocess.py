"""PREPROCESS: size factors, highly variable genes and principal components of all cells."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from rsc_core import backend as backends
from rsc_core import data
from rsc_core.errors import InvalidInput
from rsc_core.io.store import CountsStore
from rsc_core.pp._hvg import highly_variable_genes
from rsc_core.pp._normalize import lognorm, size_factors
from rsc_core.pp._pca import principal_components, select_genes
from rsc_core.stages._task import Task

MIN_CELLS = 10
MIN_GENES = 10  # with counts; fewer give the regression of variance on mean nothing to work with


def run(*, store, output, backend="cpu", seed=0, target_sum=0.0, n_top_genes=2000, batch_key="sample", n_comps=50):
    """Normalise, choose genes and project; the normalised matrix is not written, its size factors are.

    Parameters
    ----------
    store, output
        Merged counts store, delta to write.
    seed
        Of every random number; nothing here draws one.
    target_sum
        Total of each cell after normalisation; 0: the median.
    n_top_genes
        Number of highly variable genes.
    batch_key
        Column of obs within whose groups gene variability is judged; empty: none.
    n_comps
        Number of principal components.

    Raises
    ------
    InvalidInput
        For fewer than 10 cells, fewer than 10 genes with counts, or a batch column that is absent or incomplete.
    """
    parameters = {"target_sum": target_sum, "n_top_genes": n_top_genes, "batch_key": batch_key, "n_comps": n_comps}
    packages = ["scipy", "scikit-misc"]
    task = Task("preprocess", output, parameters=parameters, parents=[store], backend_name=backend, seed=seed, packages=packages)
    with task.step("read"):
        adata = data.load(CountsStore(store), backend)
        _check(adata, batch_key)
    with task.step("size factors"):
        factor = size_factors(adata.X, target_sum or None)
    with task.step("highly variable genes"), _warnings_of(task):
        try:
            table = highly_variable_genes(adata, n_top_genes=n_top_genes, batch_key=batch_key or None, inplace=False)
        except ValueError as error:
            raise InvalidInput(f"highly variable genes: {error}.", "Check that the samples hold cells that differ.") from error
    seen = int((table["means"] > 0).sum())
    if seen < MIN_GENES:
        raise InvalidInput(
            f"{seen} of {adata.n_vars} genes have counts; {MIN_GENES} are needed.",
            "Lower min_cells, use join outer, or check that the file holds the whole expression matrix.",
        )
    chosen = np.flatnonzero(table["highly_variable"])
    most = min(adata.n_obs, chosen.size) - 1
    if n_comps > most:
        task.warn(f"n_comps is {n_comps}; {adata.n_obs} cells and {chosen.size} genes have {most}.", "Nothing to do, or set n_comps.")
    with task.step("principal components"):
        x = lognorm(select_genes(adata.X, chosen), factor)
        scores, some_loadings, variance, ratio = (backends.to_host(part) for part in principal_components(x, min(n_comps, most)))
    loadings = np.zeros((adata.n_vars, scores.shape[1]))
    loadings[chosen] = some_loadings
    task.write(
        obs=pd.DataFrame({"size_factor": factor}, index=adata.obs_names),
        var=table,
        obsm={"X_pca": scores},
        varm={"PCs": loadings},
        uns={"pca": {"variance": variance, "variance_ratio": ratio}, "hvg": {"flavor": "seurat_v3"}, "log1p": {}},
    )


class _warnings_of:
    """Hands the Python warnings of a block to the task, so that the report shows them."""

    def __init__(self, task):
        self.task = task

    def __enter__(self):
        self.catcher = warnings.catch_warnings(record=True)
        self.caught = self.catcher.__enter__()
        warnings.simplefilter("always", UserWarning)

    def __exit__(self, *error):
        self.catcher.__exit__(*error)
        for warning in self.caught:
            if warning.category is UserWarning:
                self.task.warn(f"{warning.message}.", "Nothing to do, or take out samples that are too small.")


def _check(adata, batch_key: str) -> None:
    if adata.n_obs < MIN_CELLS:
        raise InvalidInput(f"{adata.n_obs} cells came; {MIN_CELLS} are needed.", "Loosen the QC thresholds, or add samples.")
    if batch_key and batch_key not in adata.obs:
        raise InvalidInput(
            f"batch_key {batch_key!r}: no such column; the cells have {', '.join(adata.obs)}.",
            "Name one of these, or add the column to the samplesheet.",
        )
    if batch_key and adata.obs[batch_key].isna().any():
        cell = adata.obs_names[adata.obs[batch_key].isna()][0]
        raise InvalidInput(
            f"batch_key {batch_key!r}: {int(adata.obs[batch_key].isna().sum())} cells have no value (first: {cell!r}).",
            "Give every sample a value in the samplesheet, or name another column.",
        )
