"""The steps: input, whether it is written over, quality, bytes and operations of one good algorithm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anndata as ad
import numpy as np

from bench import quality as q
from bench.inputs import N_NEIGHBORS, Inputs

NEIGHBORS = {
    "connectivities_key": "connectivities",
    "distances_key": "distances",
    "params": {"n_neighbors": N_NEIGHBORS, "method": "umap", "metric": "euclidean", "random_state": 0, "use_rep": "X_pca"},
}
PROGENY, REGULATORS = (14, 500), (300, 80)
MILLION = 1_000_000  # points of one step, whatever the size of the others
N_PERMS = {"wsum": 1000, "wsum_few": 100, "autocorr": 100, "nhood": 1000, "ligrec": 1000}


@dataclass(frozen=True)
class Step:
    """One row of a table.

    ``given(inputs, place)`` makes the AnnData, ``place`` moves an array to the tool's device, ``place_graph`` a graph.
    ``cost(inputs)`` is (bytes, operations).
    """

    name: str
    needs: tuple[str, ...]
    given: Callable
    quality: Callable
    cost: Callable
    overwrites: bool = False
    spatial: bool = False


def _matrix(name, dense=False):
    """X and obs of a stored matrix."""

    def given(inputs: Inputs, place, place_graph):
        x = inputs.array(name) if dense else inputs.csr(name)
        names = inputs.genes if x.shape[1] == inputs.n_genes else inputs.hvg_names
        adata = ad.AnnData(X=place(x), obs=inputs.obs.copy())
        adata.var_names = names
        if name == "counts":
            adata.var["mt"] = inputs.store.var["mt"].to_numpy()
        else:
            adata.uns["log1p"] = {"base": None}
        return adata

    return given


def _dense_hvg(inputs, place, place_graph):
    adata = _matrix("lognorm_hvg")(inputs, lambda x: place(x.toarray()), place_graph)
    return adata


def _embedding(inputs, place, place_graph):
    x = place(np.zeros((inputs.n_cells, 1), dtype=np.float32))
    return ad.AnnData(X=x, obs=inputs.obs.copy(), obsm={"X_pca": place(inputs.array("pca"))})


def _graph(inputs, place, place_graph):
    adata = _embedding(inputs, place, place_graph)
    for key in ("connectivities", "distances"):
        adata.obsp[key] = place_graph(inputs.csr(key))
    adata.uns["neighbors"] = NEIGHBORS
    return adata


def _with_umap(inputs, place, place_graph):
    adata = _embedding(inputs, place, place_graph)
    adata.obsm["X_umap"] = place(inputs.array("umap"))
    return adata


def _tissue(inputs, place, place_graph):
    adata = _matrix("lognorm")(inputs, place, place_graph)
    adata.obsm["spatial"] = inputs.store.obsm["spatial"]
    adata.obsp["spatial_connectivities"] = inputs.csr("spatial_connectivities")
    adata.uns["spatial_neighbors"] = {"connectivities_key": "spatial_connectivities", "distances_key": "spatial_distances", "params": {}}
    return adata


def _points(coordinates):
    """Cells without genes; ``coordinates(inputs)``: where they are."""

    def given(inputs, place, place_graph):
        points = coordinates(inputs)
        adata = ad.AnnData(X=place(np.zeros((len(points), 1), dtype=np.float32)))
        adata.obsm["spatial"] = place(points)
        return adata

    return given


def _stored_places(inputs):
    return inputs.store.obsm["spatial"]


def _hexagons(inputs):
    """Spots of a lattice as Visium's."""
    row, column = np.divmod(np.arange(inputs.n_cells), int(np.sqrt(inputs.n_cells)))
    return np.stack([column + row % 2 / 2, row * np.sqrt(0.75)], axis=1)


def _strewn_million(inputs):
    return np.random.default_rng(0).uniform(0, 1e6, (MILLION, 2))


def _bytes(per_nonzero=0.0, per_hvg_value=0.0, per_cell=0.0):
    """Cost of passes over memory alone."""
    return lambda i: (per_nonzero * i.nnz + per_hvg_value * i.n_cells * 2000 + per_cell * i.n_cells, 0.0)


def _pca_cost(n_comps):
    return lambda i: (8.0 * i.n_cells * 2000, 2.0 * i.n_cells * 2000 * (2000 / 2 + n_comps))


def _linear_cost(n_sources):
    return lambda i: (8.0 * i.nnz + 16.0 * i.n_cells * n_sources, 4.0 * i.nnz * n_sources)


def _wsum_cost(n_sources, n_targets, n_perms=N_PERMS["wsum"]):
    """Every permutation of a cell's values takes a multiply and an add for each target."""
    return lambda i: (
        8.0 * i.nnz + 8.0 * i.n_cells * n_sources,
        2.0 * i.n_cells * n_sources * n_targets * n_perms * i.nnz / i.n_cells / i.n_genes,
    )


def _layout_cost(n_epochs, bytes_per_edge):
    return lambda i: (n_epochs * bytes_per_edge * i.n_cells * 24.0, 0.0)


def _autocorr_cost(i):
    per_pass = i.n_cells * 2000 * 4.0
    return per_pass * (1 + N_PERMS["autocorr"]) * 2, 6.0 * i.n_cells * 2000 * 3 * (1 + N_PERMS["autocorr"])


def _pairs_cost(flops):
    return lambda i: (8.0 * i.n_cells * 50, flops * float(i.n_cells) ** 2)


COUNTS, LOGNORM, HVG, EMBEDDING, GRAPH = ("counts",), ("lognorm",), ("lognorm_hvg",), ("pca",), ("pca", "connectivities", "distances")
TISSUE, PLACES = ("lognorm", "spatial_connectivities"), ()
EDGE_BYTES = 16 + 6 * 20.0  # coordinates; two matrices with six neighbours
_LIST = [
    Step("to_device", COUNTS, lambda i, place, graph: None, q.same_counts, _bytes(per_nonzero=12)),
    Step("qc_metrics", COUNTS, _matrix("counts"), q.qc, _bytes(per_nonzero=8)),
    Step("filter", COUNTS, _matrix("counts"), q.filtered, _bytes(per_nonzero=24)),
    Step("normalize_total", COUNTS, _matrix("counts"), q.normalized, _bytes(per_nonzero=12), overwrites=True),
    Step("log1p", COUNTS, _matrix("counts"), q.logged, _bytes(per_nonzero=8), overwrites=True),
    Step("hvg_seurat_v3", COUNTS, _matrix("counts"), q.hvg, _bytes(per_nonzero=16)),
    Step("hvg_seurat", LOGNORM, _matrix("lognorm"), q.hvg, _bytes(per_nonzero=8)),
    Step("hvg_cell_ranger", LOGNORM, _matrix("lognorm"), q.hvg, _bytes(per_nonzero=8)),
    Step("hvg_pearson_residuals", COUNTS, _matrix("counts"), q.hvg, lambda i: (8.0 * i.nnz, 30.0 * i.n_cells * i.n_genes)),
    Step("normalize_pearson_residuals", HVG, _matrix("lognorm_hvg"), q.finite_matrix, _bytes(per_hvg_value=4), overwrites=True),
    Step("regress_out", HVG, _dense_hvg, q.regressed, _bytes(per_hvg_value=12), overwrites=True),
    Step("scale", HVG, _dense_hvg, q.scaled, _bytes(per_hvg_value=12), overwrites=True),
    Step("pca50_sparse", HVG, _matrix("lognorm_hvg"), q.pca, _pca_cost(50)),
    Step("pca100_sparse", HVG, _matrix("lognorm_hvg"), q.pca, _pca_cost(100)),
    Step("pca50_dense", ("scaled",), _matrix("scaled", dense=True), q.pca, _pca_cost(50)),
    Step("pca100_dense", ("scaled",), _matrix("scaled", dense=True), q.pca, _pca_cost(100)),
    Step("scrublet", COUNTS, _matrix("counts"), q.doublets, _pairs_cost(2 * 30 * 3.0)),
    Step("harmony", EMBEDDING, _embedding, q.harmony, lambda i: (40 * 8.0 * i.n_cells * 150, 40 * 4.0 * i.n_cells * 50 * 100)),
    Step("neighbors", EMBEDDING, _embedding, q.knn, _pairs_cost(2 * 50.0)),
    Step("umap", GRAPH, _graph, q.embedding("X_umap"), _layout_cost(200, 7 * 16)),
    Step("tsne", EMBEDDING, _embedding, q.embedding("X_tsne"), lambda i: (1000 * 90 * 16.0 * i.n_cells, 0.0)),
    Step("diffmap", GRAPH, _graph, q.diffmap, _layout_cost(100, 12)),
    Step("fa2", GRAPH, _graph, q.embedding("X_draw_graph_fa"), _layout_cost(500, 16)),
    Step("leiden", GRAPH, _graph, q.clusters("leiden"), _layout_cost(60, 4 * 8)),
    Step("louvain", GRAPH, _graph, q.clusters("louvain"), _layout_cost(60, 4 * 8)),
    Step("rank_ttest", LOGNORM, _matrix("lognorm"), q.markers("t-test"), _bytes(per_nonzero=8)),
    Step("rank_wilcoxon", LOGNORM, _matrix("lognorm"), q.markers("wilcoxon"), _bytes(per_nonzero=80)),
    Step(
        "rank_logreg",
        HVG,
        _matrix("lognorm_hvg"),
        q.markers("logreg"),
        lambda i: (200 * 4.0 * i.n_cells * 2000, 400.0 * i.n_cells * 2000 * 24),
    ),
    Step("score_genes", LOGNORM, _matrix("lognorm"), q.score_genes, _bytes(per_nonzero=8)),
    Step("embedding_density", ("umap", "pca"), _with_umap, q.density, lambda i: (24.0 * i.n_cells, 4.0 * 32**2 * i.n_cells)),
    Step("ulm", LOGNORM, _matrix("lognorm"), q.activity("ulm", *REGULATORS), _linear_cost(REGULATORS[0])),
    Step("mlm", LOGNORM, _matrix("lognorm"), q.activity("mlm", *REGULATORS), _linear_cost(REGULATORS[0])),
    Step("ulm_progeny", LOGNORM, _matrix("lognorm"), q.activity("ulm", *PROGENY), _linear_cost(PROGENY[0])),
    Step("mlm_progeny", LOGNORM, _matrix("lognorm"), q.activity("mlm", *PROGENY), _linear_cost(PROGENY[0])),
    Step("zscore", LOGNORM, _matrix("lognorm"), q.activity("zscore", *REGULATORS), _linear_cost(REGULATORS[0])),
    Step("aucell", LOGNORM, _matrix("lognorm"), q.activity("aucell", *REGULATORS), _bytes(per_nonzero=64)),
    Step("wsum_progeny", LOGNORM, _matrix("lognorm"), q.activity("wsum", *PROGENY), _wsum_cost(*PROGENY)),
    Step("wsum_300x80", LOGNORM, _matrix("lognorm"), q.activity("wsum", *REGULATORS), _wsum_cost(*REGULATORS)),
    Step("wsum_few", LOGNORM, _matrix("lognorm"), q.activity("wsum", *REGULATORS), _wsum_cost(*REGULATORS, N_PERMS["wsum_few"])),
    Step("moran", TISSUE, _tissue, q.autocorr("moran"), _autocorr_cost, spatial=True),
    Step("geary", TISSUE, _tissue, q.autocorr("geary"), _autocorr_cost, spatial=True),
    Step("moran_analytic", TISSUE, _tissue, q.autocorr("moran"), lambda i: (i.n_cells * 2000 * 4.0, 0.0), spatial=True),
    Step("spatial_neighbors_knn", PLACES, _points(_stored_places), q.near, _bytes(per_cell=EDGE_BYTES), spatial=True),
    Step("spatial_neighbors_radius", PLACES, _points(_stored_places), q.near, _bytes(per_cell=EDGE_BYTES), spatial=True),
    Step("spatial_neighbors_delaunay", PLACES, _points(_stored_places), q.near, _bytes(per_cell=EDGE_BYTES), spatial=True),
    Step("spatial_neighbors_grid", PLACES, _points(_hexagons), q.near, _bytes(per_cell=EDGE_BYTES), spatial=True),
    Step("spatial_neighbors_1m", PLACES, _points(_strewn_million), q.near, lambda i: (EDGE_BYTES * MILLION, 0.0), spatial=True),
    Step("interaction_matrix", TISSUE, _tissue, q.interactions, _bytes(per_cell=6 * 8.0), spatial=True),
    Step("co_occurrence", TISSUE, _tissue, q.co_occurrence, _pairs_cost(6.0), spatial=True),
    Step("nhood_enrichment", TISSUE, _tissue, q.nhood, lambda i: (N_PERMS["nhood"] * i.n_cells * 6 * 8.0, 0.0), spatial=True),
    Step("ligrec", TISSUE, _tissue, q.ligrec, lambda i: (N_PERMS["ligrec"] * i.n_cells * 150 * 8.0, 0.0), spatial=True),
]
STEPS = {step.name: step for step in _LIST}


def fresh(template, step: Step):
    """An AnnData of its own for one call; only what a step writes over is copied."""
    if template is None:
        return None
    x = template.X.copy() if step.overwrites else template.X
    adata = ad.AnnData(X=x, obs=template.obs.copy(), var=template.var.copy(), uns=dict(template.uns))
    for slot in ("obsm", "obsp"):
        for key, value in getattr(template, slot).items():
            getattr(adata, slot)[key] = value
    return adata
