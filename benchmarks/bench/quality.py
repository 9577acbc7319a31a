"""The figure that stands beside a time: each takes (result, AnnData after the call, Inputs) and returns numbers by name.

References are formulas written out in NumPy and SciPy on a sample of cells or genes, or a property that needs no reference.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.stats

from bench.inputs import TARGET_SUM
from rsc_core import backend, metrics

SAMPLE = 1000  # cells that expensive figures look at
FEW = 50  # cells or genes that a formula is written out for


def dense(x) -> np.ndarray:
    """An array, table or sparse matrix of any place as an array of the host."""
    if type(x).__module__.split(".")[0] == "cudf":
        x = x.to_pandas()
    x = backend.to_host(x)
    x = x.toarray() if sp.issparse(x) else x
    return np.asarray(x)


def _few(n: int, k: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(k, n)).astype(np.int64))


def _rows(matrix, rows) -> np.ndarray:
    """Rows of a matrix on the host; only they are copied from the device."""
    return dense(matrix[int(rows[0]) : int(rows[-1]) + 1])[rows - rows[0]] if len(rows) else dense(matrix[:0])


def _block(n: int) -> np.ndarray:
    return np.arange(min(n, FEW))


def _difference(found, wanted) -> float:
    """Largest difference as a share of the largest wanted value."""
    found, wanted = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    same = np.isnan(found) == np.isnan(wanted)
    if not same.all():
        return float("nan")
    return float(np.nanmax(np.abs(found - wanted), initial=0) / max(np.nanmax(np.abs(wanted), initial=0), 1e-300))


def same_counts(result, adata, inputs):
    """Equal to the store in the first cells."""
    rows = _block(inputs.n_cells)
    return {"max_difference": _difference(_rows(result, rows), inputs.store.rows(0, len(rows)).toarray())}


def qc(result, adata, inputs):
    """Totals, and the mitochondrial share, of every cell."""
    share = np.asarray(adata.obs["pct_counts_mt"], dtype=np.float64)
    return {
        "total_max_difference": _difference(adata.obs["total_counts"], inputs.obs["total_counts"]),
        "mt_max_difference": _difference(share, inputs.obs["pct_counts_mt"]),
    }


def filtered(result, adata, inputs):
    """Cells and genes that are left."""
    kept = np.diff(inputs.store.indptr) >= 800
    return {"cells": adata.n_obs, "genes": adata.n_vars, "cells_as_wanted": bool(adata.n_obs == kept.sum())}


def _lognorm_rows(inputs, log):
    rows = _block(inputs.n_cells)
    counts = inputs.store.rows(0, len(rows)).toarray().astype(np.float64)
    scaled = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * TARGET_SUM
    return rows, np.log1p(scaled) if log else scaled


def normalized(result, adata, inputs):
    """Against the formula in float64."""
    rows, wanted = _lognorm_rows(inputs, log=False)
    return {"max_difference": _difference(_rows(adata.X, rows), wanted)}


def logged(result, adata, inputs):
    """log1p of the counts in float64."""
    rows = _block(inputs.n_cells)
    return {"max_difference": _difference(_rows(adata.X, rows), np.log1p(inputs.store.rows(0, len(rows)).toarray().astype(np.float64)))}


def hvg(result, adata, inputs):
    """Share of the chosen genes that the stored choice (seurat_v3) has, too."""
    found, stored = dense(adata.var["highly_variable"]).astype(bool), inputs.array("hvg")
    return {"genes": int(found.sum()), "overlap_with_seurat_v3": float((found & stored).sum() / max(found.sum(), 1))}


def finite_matrix(result, adata, inputs):
    """Share of finite values in the first cells; their mean square, 1 where the model fits."""
    x = _rows(adata.X, _block(adata.n_obs)).astype(np.float64)
    return {"finite": float(np.isfinite(x).mean()), "mean_square": float(np.nanmean(x**2))}


def regressed(result, adata, inputs):
    """Against least squares of a few genes in float64."""
    genes = _few(adata.n_vars, FEW)
    covariates = np.column_stack([np.ones(inputs.n_cells), *(inputs.obs[key] for key in ("total_counts", "pct_counts_mt"))])
    covariates /= np.abs(covariates).max(axis=0)
    y = inputs.csr("lognorm_hvg")[:, genes].toarray().astype(np.float64)
    wanted = y - covariates @ np.linalg.lstsq(covariates, y, rcond=None)[0]
    found = np.column_stack([dense(adata.X[:, int(gene)]).ravel() for gene in genes])
    return {"max_difference_of_deviations": _difference(found - found.mean(axis=0), wanted)}


def scaled(result, adata, inputs):
    """Against the formula of a few genes in float64."""
    genes = _few(adata.n_vars, FEW)
    y = inputs.csr("lognorm_hvg")[:, genes].toarray().astype(np.float64)
    spread = y.std(axis=0, ddof=1)
    wanted = np.clip((y - y.mean(axis=0)) / np.where(spread > 0, spread, 1), -10, 10)
    return {"max_difference": _difference(np.column_stack([dense(adata.X[:, int(gene)]).ravel() for gene in genes]), wanted)}


def pca(result, adata, inputs):
    """Variance that the scores hold, as a share of all; 1 - cosine of the loadings, orthogonal where 0."""
    scores, loadings = dense(adata.obsm["X_pca"]).astype(np.float64), dense(adata.varm["PCs"]).astype(np.float64)
    gram = loadings.T @ loadings
    return {
        "variance_of_scores": float(scores.var(axis=0, ddof=1).sum()),
        "pc1_ratio": float(dense(adata.uns["pca"]["variance_ratio"])[0]),
        "orthogonality_error": float(np.abs(gram - np.eye(len(gram))).max()),
    }


def doublets(result, adata, inputs):
    """Doublets found and the spread of their scores (there are none in the synthetic cells)."""
    score = np.asarray(adata.obs["doublet_score"], dtype=np.float64)
    return {"predicted": int(np.asarray(adata.obs["predicted_doublet"], dtype=bool).sum()), "score_mean": float(np.nanmean(score))}


def _nearest(x, rows, k):
    """Exact nearest neighbours of some rows, themselves left out, in float64."""
    x = x.astype(np.float64)
    squares, found = (x * x).sum(axis=1), np.empty((len(rows), k), dtype=np.int64)
    for start in range(0, len(rows), FEW):
        here = rows[start : start + FEW]
        distance = squares[None] - 2 * x[here] @ x.T
        distance[np.arange(len(here)), here] = np.inf
        found[start : start + FEW] = np.argpartition(distance, k, axis=1)[:, :k]
    return found


def knn(result, adata, inputs):
    """Share of the exact 14 nearest neighbours that were found, over a sample of cells."""
    rows = _few(inputs.n_cells, SAMPLE)
    graph = backend.to_host(adata.obsp["distances"]).tocsr()
    wanted = _nearest(inputs.array("pca"), rows, 14)
    found = [np.isin(w, graph.indices[graph.indptr[r] : graph.indptr[r + 1]]).mean() for w, r in zip(wanted, rows, strict=True)]
    return {"recall": float(np.mean(found)), "connectivities_per_cell": float(adata.obsp["connectivities"].nnz / inputs.n_cells)}


def harmony(result, adata, inputs):
    """Mixing of batches (entropy of the neighbours' batches, 1 as the whole) and purity of types among 30 neighbours."""
    rows = _few(inputs.n_cells, SAMPLE)
    nearest = _nearest(dense(adata.obsm["X_pca_harmony"]), rows, min(30, inputs.n_cells - 2))
    batch, kind = inputs.obs["batch"].cat.codes.to_numpy(), inputs.obs["cell_type"].cat.codes.to_numpy()
    counts = np.stack([(batch[nearest] == b).mean(axis=1) for b in range(batch.max() + 1)], axis=1)
    whole = np.bincount(batch) / len(batch)
    return {
        "batch_entropy": float(scipy.stats.entropy(counts, axis=1).mean() / max(scipy.stats.entropy(whole), 1e-12)),
        "type_purity": float((kind[nearest] == kind[rows][:, None]).mean()),
    }


def embedding(key):
    """Trustworthiness, and the share of the 15 nearest cells in PCA that are among the 15 nearest in the embedding."""

    def figure(result, adata, inputs):
        x, y = inputs.array("pca"), dense(adata.obsm[key])
        rows = _few(inputs.n_cells, SAMPLE)
        k = min(15, inputs.n_cells // 3)
        kept = [np.isin(a, b).mean() for a, b in zip(_nearest(x, rows, k), _nearest(y, rows, k), strict=True)]
        trust = metrics.trustworthiness(x, y, n_neighbors=k, max_cells=3000)
        return {"trustworthiness": trust, "knn_kept": float(np.mean(kept)), "finite": bool(np.isfinite(y).all())}

    return figure


def diffmap(result, adata, inputs):
    """The largest eigenvalues; residual |T v - λ v| of the second, T the symmetric transition matrix."""
    values, vectors = dense(adata.uns["diffmap_evals"]).astype(np.float64), dense(adata.obsm["X_diffmap"]).astype(np.float64)
    w = inputs.csr("connectivities").astype(np.float64)
    q = np.asarray(w.sum(axis=0)).ravel()
    k = sp.diags(1 / q) @ w @ sp.diags(1 / q)
    z = np.sqrt(np.asarray(k.sum(axis=0)).ravel())
    transition = sp.diags(1 / z) @ k @ sp.diags(1 / z)
    v = vectors[:, 1]
    return {"eigenvalue_1": float(values[1]), "residual_1": float(np.linalg.norm(transition @ v - values[1] * v) / np.linalg.norm(v))}


def clusters(key):
    """Modularity of the labels on the stored graph, agreement with the true types, number."""

    def figure(result, adata, inputs):
        graph = inputs.csr("connectivities")
        labels = np.unique(np.asarray(adata.obs[key]).astype(str), return_inverse=True)[1]
        return {
            "modularity": metrics.modularity(graph.indptr, graph.indices, graph.data, labels),
            "ari_types": metrics.adjusted_rand_index(labels, inputs.obs["cell_type"].cat.codes),
            "clusters": int(labels.max() + 1),
        }

    return figure


def _one_gene(method, values, mask):
    if method == "t-test":
        return scipy.stats.ttest_ind(values[mask], values[~mask], equal_var=False).statistic
    n, m = mask.sum(), (~mask).sum()
    rank_sum = scipy.stats.rankdata(values)[mask].sum()
    return (rank_sum - n * (n + m + 1) / 2) / np.sqrt(n * m * (n + m + 1) / 12)


def markers(method):
    """Scores of the ten best genes of a few groups against SciPy; for logreg: how well the best genes single out the group."""

    def figure(result, adata, inputs):
        table, kind = adata.uns["rank_genes_groups"], inputs.obs["cell_type"]
        groups = list(table["names"].dtype.names)[:4]
        if method == "logreg":
            x = inputs.csr("lognorm_hvg")
            hits = []
            for group in groups:
                where = inputs.hvg_names.get_indexer(list(table["names"][group][:10]))
                inside = (kind == group).to_numpy()
                mean_in, mean_out = (np.asarray(x[part][:, where].mean(axis=0)).ravel() for part in (inside, ~inside))
                hits.append((mean_in > mean_out).mean())
            return {"best_genes_higher_inside": float(np.mean(hits))}
        x, worst = inputs.csr("lognorm"), 0.0
        for group in groups:
            inside, names = (kind == group).to_numpy(), list(table["names"][group][:10])
            values = x[:, inputs.genes.get_indexer(names)].toarray().astype(np.float64)
            for column, score in enumerate(table["scores"][group][:10]):
                worst = max(worst, abs(float(score) / _one_gene(method, values[:, column], inside) - 1))
        return {"max_relative_error": worst}

    return figure


def score_genes(result, adata, inputs):
    """Spearman correlation of the score with the plain mean of the genes."""
    plain = np.asarray(inputs.csr("lognorm")[:, inputs.genes.get_indexer(inputs.hvg_names[:100])].mean(axis=1)).ravel()
    return {"correlation_with_mean": float(scipy.stats.spearmanr(np.asarray(adata.obs["score"], dtype=np.float64), plain).statistic)}


def density(result, adata, inputs):
    """Spearman correlation with SciPy's Gaussian kernel density of a sample of cells."""
    points = inputs.array("umap").T.astype(np.float64)
    rows = _few(inputs.n_cells, FEW)
    wanted = scipy.stats.gaussian_kde(points)(points[:, rows])
    found = np.asarray(adata.obs["umap_density"], dtype=np.float64)[rows]
    return {"correlation_with_scipy": float(scipy.stats.spearmanr(found, wanted).statistic)}


def _table(adata, result, name):
    for key in (f"score_{name}", f"{name}_estimate", name):
        if key in adata.obsm:
            return adata.obsm[key]
    raise KeyError(f"no score of {name} among {list(adata.obsm)}")


def activity(name, n_sources, n_targets):
    """Against the formula in float64 on a few cells (ulm, mlm); z-scores and areas: Spearman correlation with ulm's formula."""

    def figure(result, adata, inputs):
        table = _table(adata, result, "waggr" if name == "wsum" and "score_waggr" in adata.obsm else name)
        found = dense(table)[:FEW].astype(np.float64)
        seen = np.zeros(inputs.n_genes, dtype=bool)
        seen[inputs.store.indices] = True
        weights = np.zeros((inputs.n_genes, n_sources))
        for number, (_, part) in enumerate(inputs.network(n_sources, n_targets).groupby("source", sort=True)):
            weights[inputs.genes.get_indexer(part["target"]), number] = part["weight"]
        y = inputs.csr("lognorm")[:FEW].toarray().astype(np.float64)
        if found.shape != (len(y), n_sources):
            return {"shape": list(found.shape)}
        if name == "wsum":
            sums = y @ weights
            return {"correlation_with_sums": float(scipy.stats.spearmanr(found.ravel(), sums.ravel()).statistic)}
        if name in ("ulm", "mlm"):
            return {"max_difference": _difference(found, (_ulm if name == "ulm" else _mlm)(y[:, seen], weights[seen]))}
        wanted = y @ (weights if name == "zscore" else (weights != 0).astype(float))
        return {"correlation_with_sums": float(scipy.stats.spearmanr(found.ravel(), wanted.ravel()).statistic)}

    return figure


def _ulm(y, w):
    y, w = y - y.mean(axis=1, keepdims=True), w - w.mean(axis=0)
    r = y @ w / np.linalg.norm(y, axis=1)[:, None] / np.linalg.norm(w, axis=0)
    return r * np.sqrt((w.shape[0] - 2) / (1 - r**2))


def _mlm(y, w):
    design = np.column_stack([np.ones(len(w)), w])
    inverse = np.linalg.inv(design.T @ design)
    slope = y @ design @ inverse
    rest = y - slope @ design.T
    error = (rest**2).sum(axis=1) / (len(w) - design.shape[1])
    return (slope / np.sqrt(error[:, None] * np.diag(inverse)))[:, 1:]


def autocorr(mode):
    """The statistic of a few genes against the formula in float64, rows of the graph summing to one."""

    def figure(result, adata, inputs):
        key, column = ("moranI", "I") if mode == "moran" else ("gearyC", "C")
        table = adata.uns[key]
        genes = [inputs.hvg_names[i] for i in _few(len(inputs.hvg_names), FEW)]
        w = inputs.csr("spatial_connectivities").astype(np.float64)
        w = sp.diags(1 / np.maximum(np.asarray(w.sum(axis=1)).ravel(), 1e-300)) @ w
        z = inputs.csr("lognorm")[:, inputs.genes.get_indexer(genes)].toarray().astype(np.float64)
        z -= z.mean(axis=0)
        n, total, spread = len(z), w.sum(), (z**2).sum(axis=0)
        cross = (z * (w @ z)).sum(axis=0)
        out, into = (np.asarray(w.sum(axis=axis)).ravel() for axis in (1, 0))
        gap = ((out + into)[:, None] * z**2).sum(axis=0) - 2 * cross
        with np.errstate(invalid="ignore"):
            wanted = n * cross / (total * spread) if mode == "moran" else (n - 1) * gap / (2 * total * spread)
        return {"max_difference": _difference(np.asarray(table[column].loc[genes], dtype=np.float64), wanted)}

    return figure


def _values(result):
    """The arrays of what a function returned: a tuple, a record, a dict or an array."""
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, tuple | list) else [result]
    return [dense(part).astype(np.float64) for part in parts]


def co_occurrence(result, adata, inputs):
    """Mean ratio at the smallest distance of a type with itself (above 1: types lie together) and over all."""
    ratio = _values(result)[0]
    return {
        "mean_ratio": float(np.nanmean(ratio)),
        "own_ratio_near": float(np.nanmean(np.diagonal(ratio[:, :, 0]))),
        "distances": ratio.shape[2],
    }


def near(result, adata, inputs):
    """Edges of a cell; share of a few cells whose nearest other cell is a neighbour: 1, but for cells with none within a radius."""
    graph, points = sp.csr_matrix(result[0]), dense(adata.obsm["spatial"])
    rows = _few(len(points), FEW)
    found = 0
    for row in rows:
        square = ((points - points[row]) ** 2).sum(axis=1)
        square[row] = np.inf
        neighbors = graph.indices[graph.indptr[row] : graph.indptr[row + 1]]
        found += square[neighbors].min(initial=np.inf) == square.min()
    return {"edges_per_cell": graph.nnz / len(points), "nearest_found": found / len(rows)}


def _edges_between(inputs):
    """Edges from each type to each other."""
    graph, kind = inputs.csr("spatial_connectivities").tocoo(), inputs.obs["cell_type"].cat
    n, code = len(kind.categories), kind.codes.to_numpy().astype(np.int64)
    return np.bincount(code[graph.row] * n + code[graph.col], minlength=n * n).reshape(n, n)


def interactions(result, adata, inputs):
    """Counts of edges between types against bincount."""
    return {"count_max_difference": _difference(dense(result), _edges_between(inputs))}


def nhood(result, adata, inputs):
    """Counts of edges between types against bincount; z of a type with itself."""
    score, count = _values(result)[:2]
    return {"count_max_difference": _difference(count, _edges_between(inputs)), "own_z": float(np.nanmean(np.diag(score)))}


def ligrec(result, adata, inputs):
    """Means of a few interactions against the formula; share of p-values below 0.05."""
    means, p = (result[key] for key in ("means", "pvalues"))
    x, kind = inputs.csr("lognorm"), inputs.obs["cell_type"]
    worst = 0.0
    for row in _few(len(means), 10):
        ligand, receptor = means.index[row][:2]
        for column in _few(means.shape[1], 5):
            first, second = means.columns[column]
            wanted = [
                x[(kind == group).to_numpy()][:, inputs.genes.get_loc(gene)].mean() for group, gene in ((first, ligand), (second, receptor))
            ]
            found = float(dense(means.iloc[row, column]))
            if found > 0:
                worst = max(worst, abs(found / np.mean(wanted) - 1))
    p = np.asarray(p, dtype=np.float64)
    return {"mean_max_relative_error": worst, "tested": int(np.isfinite(p).sum()), "significant": float((p[np.isfinite(p)] < 0.05).mean())}
