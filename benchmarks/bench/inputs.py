"""The stored input of each step: made once by one path, read alike by every tool."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from bench.cells import gene_names, generate
from rsc_core import backend
from rsc_core.gr import spatial_neighbors
from rsc_core.io.store import CountsStore
from rsc_core.pp import highly_variable_genes, log1p, neighbors, normalize_total, pca, scale
from rsc_core.tl import leiden, umap

N_HVG, N_COMPS, N_NEIGHBORS, TARGET_SUM = 2000, 50, 15, 1e4
UNITS = {"k": 1_000, "M": 1_000_000}
DIGEST_BYTES = 1 << 24  # of each array that its digest looks at


def number_of_cells(text: str) -> int:
    """90k, 1.3M or 6000 as a number."""
    text = str(text)
    return round(float(text[:-1]) * UNITS[text[-1]]) if text[-1] in UNITS else int(text)


def prepare(folder, n_cells: int, *, n_genes=25_000, backend_name="cpu", seed=0) -> Inputs:
    """Make the inputs in a folder unless they are there; what made them and how long it took stands in ``made.json``."""
    folder = Path(folder)
    if not (folder / "made.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        seconds = {}
        for name, make in (("counts", _counts), ("matrices", _matrices), ("graph", _graph), ("tissue", _tissue)):
            start = time.perf_counter()
            make(folder, n_cells, n_genes, backend_name, seed)
            seconds[name] = round(time.perf_counter() - start, 2)
        (folder / "made.json").write_text(json.dumps({"backend": backend_name, "seed": seed, "seconds": seconds}))
    return Inputs(folder)


def _counts(folder, n_cells, n_genes, backend_name, seed):
    generate(folder / "counts.h5ad", n_cells, n_genes=n_genes, seed=seed, backend_name=backend_name)


def _matrices(folder, n_cells, n_genes, backend_name, seed):
    counts = CountsStore(folder / "counts.h5ad").counts().astype(np.float32)
    adata = ad.AnnData(X=backend.to_device(counts, backend_name))
    highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=min(N_HVG, n_genes // 2))
    normalize_total(adata, target_sum=TARGET_SUM)
    log1p(adata)
    lognorm, chosen = backend.to_host(adata.X), adata.var["highly_variable"].to_numpy()
    _save_csr(folder, "lognorm", lognorm)
    np.save(folder / "hvg.npy", chosen)
    part = lognorm[:, np.flatnonzero(chosen)]
    part.sort_indices()
    _save_csr(folder, "lognorm_hvg", part)
    adata = ad.AnnData(X=backend.to_device(part, backend_name))
    pca(adata, min(N_COMPS, *(n - 1 for n in part.shape)))
    np.save(folder / "pca.npy", np.ascontiguousarray(backend.to_host(adata.obsm["X_pca"]), dtype=np.float32))
    np.save(folder / "variance_ratio.npy", np.asarray(adata.uns["pca"]["variance_ratio"]))
    scale(adata, max_value=10)
    np.save(folder / "scaled.npy", np.ascontiguousarray(backend.to_host(adata.X), dtype=np.float32))


def _graph(folder, n_cells, n_genes, backend_name, seed):
    x = np.load(folder / "pca.npy")
    adata = ad.AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(x))]), obsm={"X_pca": backend.to_device(x, backend_name)})
    neighbors(adata, N_NEIGHBORS, use_rep="X_pca")
    leiden(adata)
    umap(adata)
    for key in ("distances", "connectivities"):
        _save_csr(folder, key, backend.to_host(adata.obsp[key]))
    np.save(folder / "leiden.npy", adata.obs["leiden"].cat.codes.to_numpy())
    np.save(folder / "umap.npy", backend.to_host(adata.obsm["X_umap"]))


def _tissue(folder, n_cells, n_genes, backend_name, seed):
    store = CountsStore(folder / "counts.h5ad")
    adata = ad.AnnData(obs=store.obs[[]], obsm={"spatial": store.obsm["spatial"]})
    spatial_neighbors(adata, coord_type="generic", n_neighs=6)
    _save_csr(folder, "spatial_connectivities", adata.obsp["spatial_connectivities"])


def _save_csr(folder, name, matrix):
    matrix = matrix.tocsr()
    matrix.sort_indices()
    for part in ("data", "indices", "indptr"):
        np.save(folder / f"{name}.{part}.npy", getattr(matrix, part))
    (folder / f"{name}.json").write_text(json.dumps({"shape": [int(n) for n in matrix.shape]}))


class Inputs:
    """What a folder of :func:`prepare` holds; each array is read when it is first used."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.store = CountsStore(self.folder / "counts.h5ad")
        self.n_cells, self.n_genes = self.store.shape
        self.nnz = int(self.store.indptr[-1])
        self.made = json.loads((self.folder / "made.json").read_text())

    def csr(self, name: str) -> sp.csr_matrix:
        """A sparse input: lognorm, lognorm_hvg, distances, connectivities, spatial_connectivities; or ``counts``."""
        if name == "counts":
            return self.store.counts().astype(np.float32)
        shape = json.loads((self.folder / f"{name}.json").read_text())["shape"]
        parts = [np.load(self.folder / f"{name}.{part}.npy") for part in ("data", "indices", "indptr")]
        return sp.csr_matrix(tuple(parts), shape=shape)

    def array(self, name: str) -> np.ndarray:
        """A dense input: hvg, pca, variance_ratio, scaled, leiden, umap."""
        return np.load(self.folder / f"{name}.npy")

    @functools.cached_property
    def obs(self) -> pd.DataFrame:
        """cell_type, batch, and total_counts and pct_counts_mt as covariates."""
        obs, counts = self.store.obs, self.store.counts()
        total = np.asarray(counts.sum(axis=1, dtype=np.int64)).ravel()
        obs["total_counts"] = total.astype(np.float64)
        mt = np.asarray(counts[:, np.flatnonzero(self.store.var["mt"].to_numpy())].sum(axis=1)).ravel()
        obs["pct_counts_mt"] = 100.0 * mt / np.maximum(total, 1)
        return obs

    @functools.cached_property
    def genes(self) -> pd.Index:
        """Names of all genes."""
        return pd.Index(gene_names(self.n_genes))

    @functools.cached_property
    def hvg_names(self) -> pd.Index:
        """Names of the highly variable genes."""
        return self.genes[self.array("hvg")]

    def network(self, n_sources: int, n_targets: int) -> pd.DataFrame:
        """A network as decoupler's: targets among the genes of more than 1% of the cells, weights of both signs."""
        return self._network(n_sources, n_targets).copy()

    @functools.cache  # noqa: B019 - what is timed does not make it anew; there is one object a process
    def _network(self, n_sources, n_targets):
        draw = np.random.default_rng([n_sources, n_targets])
        found = np.bincount(self.store.indices[: self.store.indptr[min(2000, self.n_cells)]], minlength=self.n_genes)
        pool = np.flatnonzero(found > 0.01 * min(2000, self.n_cells))
        size = min(n_targets, len(pool) // 2)
        rows = [
            pd.DataFrame(
                {"source": f"TF{i:03d}", "target": self.genes[draw.choice(pool, size, replace=False)], "weight": draw.normal(0, 2, size)}
            )
            for i in range(n_sources)
        ]
        return pd.concat(rows, ignore_index=True)

    def interactions(self, n_pairs: int = 1000) -> pd.DataFrame:
        """Pairs of ligand and receptor among the genes of more than 1% of the cells."""
        genes = self.network(1, 1 << 30)["target"].to_numpy()
        draw = np.random.default_rng(n_pairs)
        pairs = pd.DataFrame({"source": draw.choice(genes, n_pairs), "target": draw.choice(genes, n_pairs)})
        return pairs[pairs["source"] != pairs["target"]].drop_duplicates(ignore_index=True)

    def digest(self, names) -> str:
        """SHA-256 over the beginning of the named inputs: two rows of a table with equal digests had the same input."""
        total = hashlib.sha256(self.store.digest.encode())
        for name in names:
            for path in sorted(self.folder.glob(f"{name}*.npy")):
                total.update(path.name.encode())
                total.update(np.ascontiguousarray(np.load(path, mmap_mode="r")[: DIGEST_BYTES // 8]))
        return total.hexdigest()[:16]


if __name__ == "__main__":  # a process of its own: what it holds of the device ends with it
    prepare(**json.loads(sys.argv[1]))
