"""Builders of matrices and graphs with wanted properties, for all tests."""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from rsc_core.io.store import smallest_count_dtype, write_store


def counts(n_cells, n_genes, *, seed=0, n_types=3, mean=0.5, empty_cell=None, empty_gene=None):
    """Counts with structure: cell types, library sizes, genes of very different abundance; negative binomial.

    Returns CSR float32 (n_cells, n_genes) with sorted int32 indices and no stored zeros.
    """
    rng = np.random.default_rng(seed)
    abundance = mean * rng.lognormal(0, 1.5, n_genes)
    profile = abundance * rng.lognormal(0, 1, (n_types, n_genes))
    rate = profile[np.arange(n_cells) % n_types] * rng.lognormal(0, 0.5, (n_cells, 1))
    values = rng.poisson(rng.gamma(2, rate / 2)).astype(np.float32)
    if empty_cell is not None:
        values[empty_cell] = 0
    if empty_gene is not None:
        values[:, empty_gene] = 0
    return sp.csr_matrix(values)


def annotated(matrix, **obs):
    """An AnnData around a matrix: cells c0, c1, ..., genes g0, g1, ...; keyword arguments are columns of obs."""
    n_cells, n_genes = matrix.shape
    return ad.AnnData(
        X=matrix,
        obs=pd.DataFrame(obs, index=[f"c{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(n_genes)]),
    )


def store(path, matrix, sample, *, genes=None, cells=None, var=None, obsm=None, uns=None, **obs):
    """Write a matrix as the counts store of a sample, as INGEST does."""
    n_cells, n_genes = matrix.shape
    cells = [f"c{i}" for i in range(n_cells)] if cells is None else cells
    genes = [f"g{i}" for i in range(n_genes)] if genes is None else genes
    write_store(
        path,
        [matrix],
        nnz=matrix.nnz,
        count_dtype=smallest_count_dtype(int(matrix.data.max(initial=0))),
        obs=pd.DataFrame({**obs, "sample": pd.Categorical([sample] * n_cells)}, index=pd.Index(cells, dtype=object)),
        var=pd.DataFrame(var or {}, index=pd.Index(genes, dtype=object)),
        obsm=obsm,
        uns=uns,
    )


def pancreas_components(data_dir, n_comps=30):
    """Principal components of the three pancreas libraries together, by scanpy: float32 (1937, n_comps)."""
    import scanpy as sc

    adata = ad.concat([sc.read_h5ad(data_dir / f"pancreas_lib{i}.h5ad") for i in (1, 2, 3)], index_unique="-", keys=["1", "2", "3"])
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=1000)
    adata = adata[:, adata.var["highly_variable"]].copy()
    sc.pp.pca(adata, n_comps=n_comps)
    return np.ascontiguousarray(adata.obsm["X_pca"], dtype=np.float32)


def decoupler_is_before(version: str) -> bool:
    """Whether the decoupler that tests compare with is older: some of its faults are cured in 2.3."""
    from importlib.metadata import version as installed

    return tuple(int(part) for part in installed("decoupler").split(".")[:2]) < tuple(int(part) for part in version.split("."))
