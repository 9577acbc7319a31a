"""How alike to real data are the synthetic cells: figures, and the band in which they shall lie."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from rsc_core import backend, metrics
from rsc_core.pp import highly_variable_genes, log1p, neighbors, normalize_total, pca
from rsc_core.tl import leiden

# Real data: 1,937 cells of a human pancreas have 1,924, 1.94, 0.076, 150, 0.80 and 0.52.
BAND = {
    "nonzeros_per_cell": (1600, 2400),
    "dispersion": (1.4, 2.6),
    "pc1_share": (0.05, 0.10),
    "in_degree_max": (60, 400),
    "modularity": (0.75, 0.88),
    "ari": (0.5, 0.8),
}


def dispersion(counts) -> float:
    """Median over genes of mean above 0.1 of (variance - mean) / mean², counts scaled to the median library size."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scaled = counts.astype(np.float64).multiply(np.median(totals) / np.maximum(totals, 1)[:, None]).tocsr()
    mean = np.asarray(scaled.mean(axis=0)).ravel()
    variance = np.asarray(scaled.multiply(scaled).mean(axis=0)).ravel() - mean**2
    high = mean > 0.1
    return float(np.median((variance[high] - mean[high]) / mean[high] ** 2))


def figures(counts, kind, backend_name: str = "cpu") -> dict:
    """The figures of :data:`BAND` and a few more, of counts (cells, genes) and the cells' types."""
    totals, found = np.asarray(counts.sum(axis=1)).ravel(), np.diff(counts.indptr)
    x = backend.to_device(counts.astype(np.float32), backend_name)
    adata = ad.AnnData(X=x, obs=pd.DataFrame({"kind": kind}, index=[str(i) for i in range(counts.shape[0])]))
    highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=2000)
    normalize_total(adata, target_sum=1e4)
    log1p(adata)
    pca(adata, 50)
    neighbors(adata, 15)
    leiden(adata)
    share = np.asarray(adata.uns["pca"]["variance_ratio"])
    graph = backend.to_host(adata.obsp["distances"]).tocsr()
    in_degree = np.bincount(graph.indices, minlength=graph.shape[0])
    return {
        "nonzeros_per_cell": float(found.mean()),
        "genes_p5_p50_p95": np.percentile(found, [5, 50, 95]).tolist(),
        "umi_median": float(np.median(totals)),
        "dispersion": dispersion(counts),
        "pc1_share": float(share[0]),
        "pc2_pc3_pc50_share": [float(share[i]) for i in (1, 2, 49)],
        "in_degree_max": int(in_degree.max()),
        "in_degree_p99": float(np.percentile(in_degree, 99)),
        "clusters": int(adata.obs["leiden"].nunique()),
        "modularity": float(adata.uns["leiden"]["modularity"]),
        "ari": metrics.adjusted_rand_index(adata.obs["leiden"].to_numpy(), np.asarray(kind)),
        "connectivities_per_cell": float(adata.obsp["connectivities"].nnz / adata.n_obs),
    }
