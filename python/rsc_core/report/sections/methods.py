"""The methods of a run as text for a paper, with what to cite."""

from __future__ import annotations

import json
from importlib import resources

from rsc_core import __version__
from rsc_core.report.page import Part, Section

CITATIONS = json.loads((resources.files("rsc_core.report") / "templates" / "citations.json").read_text(encoding="utf-8"))
EMBEDDINGS = {
    "umap": "UMAP",
    "tsne": "t-SNE",
    "diffmap": "a diffusion map",
    "fa2": "a ForceAtlas2 layout",
    "mde": "a minimum-distortion embedding",
}
MARKER_TESTS = {
    "wilcoxon": "the Wilcoxon rank-sum test",
    "t-test": "Welch's t-test",
    "t-test_overestim_var": "Welch's t-test with overestimated variance",
    "logreg": "multinomial logistic regression",
}


def methods(adata, parameters: dict, stages: set[str]) -> Section:
    """Sentences for the stages that ran, in the past tense, and the works that they rest on."""
    sentences, cited = [], ["nextflow", "anndata"]
    for stage, describe in DESCRIPTIONS.items():
        if stage in stages:
            sentence, keys = describe(parameters)
            sentences.append(sentence)
            cited += keys
    backend, seed = parameters.get("backend", "cpu"), parameters.get("seed", 0)
    first = f"Counts were analysed with rsc-flow {__version__} (backend {backend}, seed {seed}) under Nextflow. "
    last = f" The result held {adata.n_obs:,} cells and {adata.n_vars:,} genes. Versions of all packages are listed in the report."
    parts = [
        Part("Text for a paper", paragraphs=[first + " ".join(sentences) + last]),
        Part("To cite", paragraphs=[CITATIONS[key] for key in dict.fromkeys(cited)]),
    ]
    return Section("methods", "Methods", "Made from the parameters of this run: read it through and shorten it for your paper.", parts)


def _qc(p):
    limits = [f"fewer than {p['min_genes']} expressed genes"] if p.get("min_genes") else []
    limits += [f"more than {p['max_mito_percent']} % mitochondrial counts"] if p.get("max_mito_percent") else []
    limits += [f"a metric more than {p['nmads']} median absolute deviations from its sample's median"] if p.get("nmads") else []
    text = f"Cells with {' or '.join(limits)} were removed." if limits else "All cells were kept."
    if p.get("scrublet"):
        return f"{text} Doublets were scored with Scrublet's method in each sample.", ["scrublet"]
    return text, []


def _preprocess(p):
    flavor = p.get("hvg_flavor") or "seurat_v3"
    batch = f" within the groups of {p['batch_key']}" if p.get("batch_key") else ""
    kind = p.get("normalization") or "log"
    total = "the median total" if not p.get("target_sum") else f"a total of {p['target_sum']}"
    value = {"log": f"scaled to {total} and log-transformed", "pearson": "transformed to analytic Pearson residuals"}.get(
        kind, "used as they are"
    )
    text = (
        f"Counts were {value}; {p.get('n_top_genes', 2000)} highly variable genes were chosen (flavour {flavor}){batch}, "
        f"and {p.get('n_comps', 50)} principal components computed."
    )
    return text, ["scanpy", *(["pearson"] if "pearson" in (kind + flavor) else []), *(["seurat_v3"] if "seurat_v3" in flavor else [])]


def _integrate(p):
    method = p.get("integration", "harmony")
    return f"Batches ({p.get('batch_key', 'sample')}) were integrated with {method}.", [method] if method in CITATIONS else []


def _neighbors(p):
    return f"A graph of the {p.get('n_neighbors', 15)} nearest neighbours ({p.get('metric', 'euclidean')} metric) was built.", []


def _embed(p):
    names = [name.strip() for name in str(p.get("embeddings", "umap")).split(",")]
    shown = [EMBEDDINGS.get(name, name) for name in names]
    return f"Cells were laid out by {', '.join(shown)}.", [name for name in names if name in CITATIONS]


def _cluster(p):
    names = [name.strip() for name in str(p.get("cluster_methods") or "leiden").split(",")]
    return f"Clusters were found with {' and '.join(names)} (resolution {p.get('resolutions', '1.0')}).", [
        n for n in names if n in CITATIONS
    ]


def _markers(p):
    names = [name.strip() for name in str(p.get("marker_methods", "wilcoxon")).split(",")]
    tests = " and ".join(MARKER_TESTS.get(name, name) for name in names)
    return f"Marker genes of each cluster were ranked by {tests}, p-values adjusted after Benjamini and Hochberg.", ["bh"]


def _activity(p):
    names = str(p.get("activity_methods", "ulm")).replace(",", ", ")
    return f"Activities were inferred from a network of targets with the methods {names} of decoupleR.", ["decoupler"]


def _spatial(p):
    names = str(p.get("spatial_stats", "moran")).replace(",", ", ")
    text = f"Over the tissue ({p.get('n_neighs', 6)} neighbours; {p.get('n_perms', 100)} permutations) were computed: {names}."
    return text, ["squidpy", *(key for key in ("moran", "ligrec") if key in names)]


DESCRIPTIONS = {
    "qc": _qc,
    "preprocess": _preprocess,
    "integrate": _integrate,
    "neighbors": _neighbors,
    "embed": _embed,
    "cluster": _cluster,
    "markers": _markers,
    "activity": _activity,
    "spatial": _spatial,
}
