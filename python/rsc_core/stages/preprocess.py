"""PREPROCESS: size factors, highly variable genes and principal components of all cells."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from rsc_core import backend as backends
from rsc_core import data
from rsc_core.errors import InvalidInput
from rsc_core.io.store import CountsStore
from rsc_core.pp._hvg import COUNT_FLAVORS, FLAVORS, highly_variable_genes
from rsc_core.pp._moments import gene_mean_variance, totals
from rsc_core.pp._normalize import lognorm, size_factors
from rsc_core.pp._pca import principal_components, select_genes
from rsc_core.pp._regress import regressed
from rsc_core.pp._scale import pearson_residuals, scaled
from rsc_core.stages._counts import open_counts
from rsc_core.stages._task import Task

MIN_CELLS = 10
THETA = 100.0  # of Pearson residuals
SOLVER_OF = {"covariance": "covariance_eigh", "truncated": "covariance_eigh"}
MIN_GENES = 10  # with counts; fewer give the regression of variance on mean nothing to work with


def run(
    *,
    store,
    output,
    backend="cpu",
    seed=0,
    target_sum=0.0,
    n_top_genes=2000,
    batch_key="sample",
    n_comps=50,
    normalization="log",
    hvg_flavor="seurat_v3",
    hvg_batch="",
    regress_out=(),
    scale=False,
    max_value=10.0,
    pca_method="covariance",
):
    """Normalise, choose genes and project; the normalised matrix is not written, its size factors are.

    Parameters
    ----------
    store, output
        Merged counts store, delta to write.
    seed
        Of the first vectors of the randomized and Lanczos methods.
    target_sum
        Total of each cell after normalisation; 0: the median.
    n_top_genes
        Number of highly variable genes.
    batch_key
        Column of obs within whose groups gene variability is judged; empty: none.
    n_comps
        Number of principal components.
    normalization
        What is projected: ``log``: log(1 + count / size factor); ``pearson``: Pearson residuals of the chosen genes, as
        :func:`rsc_core.pp.normalize_pearson_residuals` of these gives; ``none``: counts, and all size factors are 1.
    hvg_flavor
        See :func:`rsc_core.pp.highly_variable_genes`; ``seurat`` and ``cell_ranger`` see the logarithms, the others counts.
    hvg_batch
        Goes before ``batch_key`` for the choice of genes; ``none``: all cells together.
    regress_out
        Columns of obs whose effect is taken off the chosen genes.
    scale, max_value
        Give the chosen genes mean 0 and variance 1, within ± ``max_value`` (0: no limit); after regress_out.
    pca_method
        ``covariance``, ``randomized``, ``lanczos``, or ``truncated``: the mean is not taken off.

    Notes
    -----
    Where memory is short the counts are streamed in row blocks, with the same results (:func:`rsc_core.backend.plan`).

    Raises
    ------
    InvalidInput
        For fewer than 10 cells, fewer than 10 genes with counts, or a column of obs that is absent, incomplete or unfit.
    """
    parameters = {key: value for key, value in locals().items() if key not in ("store", "output", "backend", "seed")}
    if hvg_flavor not in FLAVORS:
        raise InvalidInput(f"hvg_flavor is {hvg_flavor!r}.", f"Use one of {', '.join(FLAVORS)}.")
    packages = ["scipy", "scikit-misc"]
    task = Task("preprocess", output, parameters=parameters, parents=[store], backend_name=backend, seed=seed, packages=packages)
    hvg_batch = {"": batch_key, "none": ""}.get(hvg_batch, hvg_batch)
    is_dense = normalization == "pearson" or scale or bool(regress_out)
    with task.step("read"):
        adata = open_counts(task, CountsStore(store), n_dense=n_top_genes if is_dense else 0, n_square=n_top_genes)
        _check(adata, hvg_batch)
    with task.step("size factors"):
        factor = np.ones(adata.n_obs) if normalization == "none" else size_factors(adata.X, target_sum or None)
    with task.step("highly variable genes"), _warnings_of(task):
        table = _chosen_genes(adata, factor, hvg_flavor, n_top_genes, hvg_batch)
    chosen = np.flatnonzero(table["highly_variable"])
    most = min(adata.n_obs, chosen.size) - 1
    if n_comps > most:
        task.warn(f"n_comps is {n_comps}; {adata.n_obs} cells and {chosen.size} genes have {most}.", "Nothing to do, or set n_comps.")
    if most < 1:
        raise InvalidInput(f"{chosen.size} genes are highly variable; 2 are needed.", "Use another hvg_flavor.")
    with task.step("values"):
        x = _values(select_genes(adata.X, chosen), factor, normalization)
        if regress_out:
            x = _regressed(x, adata.obs, list(regress_out))
        if scale:
            mean, variance = gene_mean_variance(x)
            every = np.ones(adata.n_obs, dtype=bool)
            x = scaled(x, every, mean, np.where(variance > 0, np.sqrt(variance), 1.0), max_value or np.inf)
    with task.step("principal components"):
        solver, centred = SOLVER_OF.get(pca_method, pca_method), pca_method != "truncated"
        found = principal_components(x, min(n_comps, most), centred, solver, seed)
        scores, some_loadings, variance, ratio = (backends.to_host(part) for part in found)
    loadings = np.zeros((adata.n_vars, scores.shape[1]))
    loadings[chosen] = some_loadings
    task.write(
        obs=pd.DataFrame({"size_factor": factor}, index=adata.obs_names),
        var=table,
        obsm={"X_pca": scores},
        varm={"PCs": loadings},
        uns={"pca": {"variance": variance, "variance_ratio": ratio}, "hvg": {"flavor": hvg_flavor}, "log1p": {}},
    )


def _chosen_genes(adata, factor, flavor: str, n_top_genes: int, batch: str) -> pd.DataFrame:
    """The table of highly_variable_genes."""
    x = adata.X if flavor in COUNT_FLAVORS else lognorm(adata.X, factor)
    seen = int((totals(adata.X, 0) > 0).sum())
    if seen < MIN_GENES:
        raise InvalidInput(
            f"{seen} of {adata.n_vars} genes have counts; {MIN_GENES} are needed.",
            "Lower min_cells, use join outer, or check that the file holds the whole expression matrix.",
        )
    try:
        seen_by = data.CunnData(x, adata.obs, adata.var)
        return highly_variable_genes(seen_by, flavor=flavor, n_top_genes=n_top_genes, batch_key=batch or None, inplace=False)
    except ValueError as error:
        raise InvalidInput(f"highly variable genes: {error}.", "Check that the samples hold cells that differ.") from error


def _values(x, factor, normalization: str):
    """What is projected, of the counts of the chosen genes."""
    if normalization == "log":
        return lognorm(x, factor)
    return pearson_residuals(x, THETA, float(np.sqrt(x.shape[0]))) if normalization == "pearson" else x


def _regressed(x, obs, keys):
    try:
        return regressed(x, obs, keys)
    except (KeyError, ValueError) as error:
        raise InvalidInput(f"regress_out: {error.args[0]}.", "Name numerical columns, or one of categories, without gaps.") from error


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
