"""How each tool is called: step name -> function(AnnData, Inputs). Only what is called is imported."""

from __future__ import annotations

import importlib

import numpy as np

from bench.inputs import N_HVG, N_NEIGHBORS, TARGET_SUM
from bench.steps import N_PERMS, PROGENY, REGULATORS


class Absent(Exception):
    """The tool does not have this step; the message says why."""


def function(module: str, name: str):
    """A function of a package, or Absent with the reason."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Absent(f"{module}.{name}: {error}") from error


def _call(module, name, **options):
    return lambda adata, inputs: function(module, name)(adata, **options)


def _filter(package):
    def call(adata, inputs):
        function(f"{package}.pp", "filter_cells")(adata, min_genes=800)
        function(f"{package}.pp", "filter_genes")(adata, min_cells=3)

    return call


def _shared(package):
    """What scanpy, rapids-singlecell and rsc_core share: the same names and arguments."""
    pp, tl = f"{package}.pp", f"{package}.tl"
    hvg = {"n_top_genes": N_HVG}
    return {
        "filter": _filter(package),
        "normalize_total": _call(pp, "normalize_total", target_sum=TARGET_SUM),
        "log1p": _call(pp, "log1p"),
        "hvg_seurat_v3": _call(pp, "highly_variable_genes", flavor="seurat_v3", **hvg),
        "hvg_seurat": _call(pp, "highly_variable_genes", flavor="seurat", **hvg),
        "hvg_cell_ranger": _call(pp, "highly_variable_genes", flavor="cell_ranger", **hvg),
        "hvg_pearson_residuals": _call(pp, "highly_variable_genes", flavor="pearson_residuals", **hvg),
        "normalize_pearson_residuals": _call(pp, "normalize_pearson_residuals"),
        "regress_out": _call(pp, "regress_out", keys=["total_counts", "pct_counts_mt"]),
        "scale": _call(pp, "scale", max_value=10),
        "pca50_sparse": _call(pp, "pca", n_comps=50),
        "pca100_sparse": _call(pp, "pca", n_comps=100),
        "pca50_dense": _call(pp, "pca", n_comps=50),
        "pca100_dense": _call(pp, "pca", n_comps=100),
        "scrublet": _call(pp, "scrublet"),
        "neighbors": _call(pp, "neighbors", n_neighbors=N_NEIGHBORS, use_rep="X_pca"),
        "umap": _call(tl, "umap"),
        "tsne": _call(tl, "tsne", use_rep="X_pca"),
        "diffmap": _call(tl, "diffmap", n_comps=15),
        "fa2": _call(tl, "draw_graph"),
        "leiden": _call(tl, "leiden", resolution=1.0),
        "louvain": _call(tl, "louvain", resolution=1.0),
        "rank_ttest": _call(tl, "rank_genes_groups", groupby="cell_type", method="t-test", use_raw=False),
        "rank_wilcoxon": _call(tl, "rank_genes_groups", groupby="cell_type", method="wilcoxon", use_raw=False),
        "rank_logreg": _call(tl, "rank_genes_groups", groupby="cell_type", method="logreg", use_raw=False),
        "score_genes": lambda adata, inputs: function(tl, "score_genes")(adata, list(inputs.hvg_names[:100])),
        "embedding_density": _call(tl, "embedding_density", basis="umap"),
    }


def _activities(module, wsum):
    """decoupler's names; ``wsum(module)`` is how weighted sums with permutations are asked for."""

    def scored(name, size):
        return lambda adata, inputs: function(module, name)(adata, inputs.network(*size), tmin=5)

    def weighted(size, n_perms="wsum"):
        name, options = wsum
        return lambda adata, inputs: function(module, name)(adata, inputs.network(*size), tmin=5, times=N_PERMS[n_perms], **options)

    return {
        "ulm": scored("ulm", REGULATORS),
        "mlm": scored("mlm", REGULATORS),
        "ulm_progeny": scored("ulm", PROGENY),
        "mlm_progeny": scored("mlm", PROGENY),
        "zscore": scored("zscore", REGULATORS),
        "aucell": scored("aucell", REGULATORS),
        "wsum_progeny": weighted(PROGENY),
        "wsum_300x80": weighted(REGULATORS),
        "wsum_few": weighted(REGULATORS, "wsum_few"),
    }


def _spatial(module, **extra):
    """squidpy's names; ``extra``: options by step."""

    def autocorr(mode, n_perms=N_PERMS["autocorr"]):
        def call(adata, inputs):
            options = {"genes": list(inputs.hvg_names), "n_perms": n_perms, **extra.get("autocorr", {})}
            return function(module, "spatial_autocorr")(adata, mode=mode, **options)

        return call

    def ligrec(adata, inputs):
        options = {"n_perms": N_PERMS["ligrec"], "copy": True, **extra.get("ligrec", {})}
        return function(module, "ligrec")(adata, "cell_type", interactions=inputs.interactions(), **options)

    def within(adata, inputs):
        radius = 1e6 * np.sqrt(4 / np.pi / adata.n_obs)  # 4 cells in a circle, were they spread evenly over the tissue's square
        return neighbors(coord_type="generic", radius=radius)(adata, inputs)

    def neighbors(**options):
        return _call(module, "spatial_neighbors", copy=True, **options)

    return {
        "moran": autocorr("moran"),
        "geary": autocorr("geary"),
        "moran_analytic": autocorr("moran", n_perms=None),
        "spatial_neighbors_knn": neighbors(coord_type="generic", n_neighs=6),
        "spatial_neighbors_radius": within,
        "spatial_neighbors_delaunay": neighbors(coord_type="generic", delaunay=True),
        "spatial_neighbors_grid": neighbors(coord_type="grid", n_neighs=6),
        "spatial_neighbors_1m": neighbors(coord_type="generic", n_neighs=6),
        "interaction_matrix": _call(module, "interaction_matrix", cluster_key="cell_type", copy=True),
        "co_occurrence": _call(module, "co_occurrence", cluster_key="cell_type", interval=50, copy=True, **extra.get("co_occurrence", {})),
        "nhood_enrichment": _call(
            module, "nhood_enrichment", cluster_key="cell_type", n_perms=N_PERMS["nhood"], copy=True, **extra.get("nhood", {})
        ),
        "ligrec": ligrec,
    }


def _load(backend_name):
    def call(adata, inputs):
        return function("rsc_core.data", "load")(inputs.store, backend_name).X

    return call


def _read_h5ad(move):
    def call(adata, inputs):
        read = function("anndata", "read_h5ad")(inputs.store.path)
        read.X = read.X.astype(np.float32)
        read.X.indices = read.X.indices.astype(np.int32)
        if move:
            function(move, "anndata_to_GPU")(read)
        return read.X

    return call


def _harmonypy(adata, inputs):
    found = function("harmonypy", "run_harmony")(adata.obsm["X_pca"], adata.obs, ["batch"], verbose=False).Z_corr
    adata.obsm["X_pca_harmony"] = found if found.shape[0] == adata.n_obs else found.T


def rsc_core(backend_name):
    """This package."""
    calls = _shared("rsc_core") | _activities("rsc_core.dc", ("wsum", {})) | _spatial("rsc_core.gr")
    calls["to_device"] = _load(backend_name)
    calls["qc_metrics"] = _call("rsc_core.pp", "calculate_qc_metrics", qc_vars=["mt"], inplace=True)
    calls["harmony"] = _call("rsc_core.pp", "harmony_integrate", key="batch")
    return calls


def rapids_singlecell(backend_name):
    """rapids-singlecell 0.18.1."""
    calls = _shared("rapids_singlecell") | _activities("rapids_singlecell.dcg", ("waggr", {"fun": "wsum"}))
    one, raw = {"multi_gpu": False}, {"use_raw": False}
    calls |= _spatial("rapids_singlecell.gr", autocorr=one, co_occurrence=one, ligrec=raw)
    calls["to_device"] = _read_h5ad("rapids_singlecell.get")
    calls["qc_metrics"] = _call("rapids_singlecell.pp", "calculate_qc_metrics", qc_vars=["mt"])
    calls["harmony"] = _call("rapids_singlecell.pp", "harmony_integrate", key="batch")
    return calls


def scanpy(backend_name):
    """scanpy with its defaults; Leiden as its documentation recommends."""
    calls = _shared("scanpy")
    experimental = "scanpy.experimental.pp"
    calls["to_device"] = _read_h5ad(None)
    calls["qc_metrics"] = _call("scanpy.pp", "calculate_qc_metrics", qc_vars=["mt"], percent_top=None, inplace=True)
    calls["hvg_pearson_residuals"] = _call(experimental, "highly_variable_genes", flavor="pearson_residuals", n_top_genes=N_HVG)
    calls["normalize_pearson_residuals"] = _call(experimental, "normalize_pearson_residuals")
    calls["leiden"] = _call("scanpy.tl", "leiden", resolution=1.0, flavor="igraph", n_iterations=2, directed=False)
    calls["louvain"] = _call("scanpy.tl", "louvain", resolution=1.0, flavor="igraph", directed=False)
    return calls


def scanpy_tuned(backend_name):
    """scanpy with the faster of its own choices where it has one."""
    calls = {name: call for name, call in scanpy(backend_name).items() if name.startswith("pca")}
    return {name: _call("scanpy.pp", "pca", n_comps=int(name[3:].split("_")[0]), svd_solver="covariance_eigh") for name in calls}


def decoupler(backend_name):
    """decoupler 2."""
    return _activities("decoupler.mt", ("waggr", {"fun": "wsum"}))


def squidpy(backend_name):
    """squidpy on all cores."""
    plain = {"show_progress_bar": False}
    return _spatial("squidpy.gr", autocorr=plain, co_occurrence=plain, nhood=plain, ligrec=plain | {"use_raw": False})


def harmonypy(backend_name):
    """harmonypy 2."""
    return {"harmony": _harmonypy}


TOOLS = {f.__name__: f for f in (rsc_core, rapids_singlecell, scanpy, scanpy_tuned, decoupler, squidpy, harmonypy)}
BACKENDS = {"rsc_core": ("cpu", "gpu"), "rapids_singlecell": ("gpu",)}  # of the other tools: cpu
DISTRIBUTIONS = {"rsc_core": "rsc_core", "rapids_singlecell": "rapids-singlecell-cu13", "scanpy_tuned": "scanpy"}
