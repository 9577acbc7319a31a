"""Filters, overlaps and trees of markers against scanpy; sums of samples against hand-made ones and decoupler."""

import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rsc_core import get, tl
from rsc_core.pp._normalize import lognorm, size_factors


@pytest.fixture
def pair(to_xp):
    """The same cells for us and for scanpy, with markers of both."""
    import scanpy as sc

    counts = cases.counts(200, 40)
    x, labels = lognorm(counts, size_factors(counts)), pd.Categorical(np.array(list("abc"))[np.arange(200) % 3])
    ours, theirs = cases.annotated(to_xp(x), g=labels), cases.annotated(x, g=labels)
    for adata in (ours, theirs):
        adata.obs["h"] = pd.Categorical(np.where(np.arange(200) % 2, "x", "y"))
        adata.obsm["X_pca"] = (
            np.random.default_rng(0).normal(size=(200, 7)).astype(np.float32) + adata.obs["g"].cat.codes.to_numpy()[:, None]
        )
    ours.obsm["X_pca"] = to_xp(ours.obsm["X_pca"])
    tl.rank_genes_groups(ours, "g", method="wilcoxon", pts=True)
    sc.tl.rank_genes_groups(theirs, "g", method="wilcoxon", pts=True, use_raw=False)
    return ours, theirs


def named(result):
    return {group: [gene if isinstance(gene, str) else None for gene in result["names"][group]] for group in result["names"].dtype.names}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_fold_change": 0.2, "min_in_group_fraction": 0.1, "max_out_group_fraction": 0.9},
        {"compare_abs": True, "max_out_group_fraction": 0.8},
    ],
    ids=str,
)
@pytest.mark.parametrize("recomputed", [False, True])
def test_filter_equals_scanpy(pair, options, recomputed):
    import scanpy as sc

    ours, theirs = pair
    if recomputed:
        for adata in pair:
            del adata.uns["rank_genes_groups"]["pts_rest"], adata.uns["rank_genes_groups"]["logfoldchanges"]
    theirs.uns["rank_genes_groups"]["names"] = ours.uns["rank_genes_groups"]["names"]  # order of equal scores
    if not recomputed:
        theirs.uns["rank_genes_groups"]["logfoldchanges"] = ours.uns["rank_genes_groups"]["logfoldchanges"]
    tl.filter_rank_genes_groups(ours, **options)
    sc.tl.filter_rank_genes_groups(theirs, **options)
    result = named(ours.uns["rank_genes_groups_filtered"])
    assert result == named(theirs.uns["rank_genes_groups_filtered"])
    assert any(gene is None for gene in result["a"]) and (options.get("max_out_group_fraction", 0) < 0.9 or any(result["a"]))


def test_filter_of_a_result_against_a_reference_equals_scanpy(pair):
    """Shares and fold changes are those against the rest then; the column is one of numbers."""
    import scanpy as sc

    ours, theirs = pair
    for adata, function in ((ours, tl.rank_genes_groups), (theirs, sc.tl.rank_genes_groups)):
        function(adata, "g", method="wilcoxon", reference="b", pts=True, use_raw=False)
    theirs.uns["rank_genes_groups"]["names"] = ours.uns["rank_genes_groups"]["names"]  # order of equal scores
    limits = {"min_fold_change": 0.2, "min_in_group_fraction": 0.1, "max_out_group_fraction": 0.9}
    sc.tl.filter_rank_genes_groups(theirs, **limits)
    tl.filter_rank_genes_groups(ours, key_added="k", **limits)
    expected = named(theirs.uns["rank_genes_groups_filtered"])
    assert named(ours.uns["k"]) == expected and any(expected["a"]) and not all(expected["a"])
    ours.obs["n"] = ours.obs["g"].cat.codes.to_numpy()
    tl.rank_genes_groups(ours, "n", method="wilcoxon", reference="1")
    tl.filter_rank_genes_groups(ours, **limits)
    assert list(named(ours.uns["rank_genes_groups_filtered"]).values()) == list(expected.values())


def test_filter_without_a_result(pair):
    with pytest.raises(KeyError, match="run tl.rank_genes_groups first"):
        tl.filter_rank_genes_groups(pair[0], key="other")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "jaccard"},
        {"method": "overlap_coef", "top_n_markers": 5},
        {"normalize": "reference"},
        {"normalize": "data", "top_n_markers": 7},
        {"adj_pval_threshold": 0.05},
    ],
    ids=str,
)
def test_overlap_equals_scanpy(pair, options):
    import scanpy as sc

    known = {"T": ["g1", "g2", "g3"], "B": {"g4"}, "none": ["absent"]}
    ours, theirs = pair
    theirs.uns["rank_genes_groups"] = ours.uns["rank_genes_groups"]
    pd.testing.assert_frame_equal(tl.marker_gene_overlap(ours, known, **options), sc.tl.marker_gene_overlap(theirs, known, **options))


def test_overlap_passes_over_genes_that_a_filter_took_out(pair):
    adata = pair[0]
    tl.filter_rank_genes_groups(adata, min_fold_change=0.2)
    names = named(adata.uns["rank_genes_groups_filtered"])
    table = tl.marker_gene_overlap(adata, {"all": adata.var_names}, key="rank_genes_groups_filtered", top_n_markers=9)
    counts = [sum(gene is not None for gene in names[group][:9]) for group in "abc"]
    assert table.loc["all"].tolist() == counts and min(counts) < 9


def test_overlap_refuses(pair):
    adata = pair[0]
    for options, message in [
        ({"key": "other"}, "run tl.rank_genes_groups first"),
        ({"method": "enrich"}, "method is 'enrich'"),
        ({"method": "jaccard", "normalize": "data"}, "goes with overlap_count"),
        ({"normalize": "rows"}, "normalize is 'rows'"),
    ]:
        with pytest.raises(ValueError, match=message):
            tl.marker_gene_overlap(adata, {"T": ["g1"]}, **options)
    with pytest.raises(ValueError, match="has a string"):
        tl.marker_gene_overlap(adata, {"T": "g1"})
    tl.marker_gene_overlap(adata, {}, inplace=True)
    assert adata.uns["marker_gene_overlap"].shape == (0, 3)


@pytest.mark.parametrize(
    ("groupby", "options"),
    [
        ("g", {}),
        (["g", "h"], {"linkage_method": "average"}),
        ("g", {"n_pcs": 4, "use_rep": "X_pca", "cor_method": "spearman"}),
        ("g", {"var_names": [f"g{i}" for i in range(12)], "optimal_ordering": True}),
    ],
    ids=str,
)
def test_dendrogram_equals_scanpy(pair, groupby, options):
    import scanpy as sc

    for adata in pair:  # up to 50 genes, X would be taken
        adata.uns.clear()
    ours, theirs = pair
    options = {"use_rep": "X_pca", **options} if "var_names" not in options else options
    tl.dendrogram(ours, groupby, **options)
    if "var_names" in options:  # scanpy 1.11 reads var_names and then takes all genes
        theirs = theirs[:, options["var_names"]].copy()
    sc.tl.dendrogram(theirs, groupby, use_raw=False, **options)
    ((key, a),), ((other, b),) = ours.uns.items(), theirs.uns.items()
    assert key == other and list(a) == list(b)
    np.testing.assert_allclose(a["correlation_matrix"], b["correlation_matrix"], atol=1e-6)
    np.testing.assert_allclose(a["linkage"], b["linkage"], atol=1e-6)
    assert a["categories_ordered"] == b["categories_ordered"] and a["categories_idx_ordered"] == b["categories_idx_ordered"]


def test_dendrogram_refuses(pair):
    adata = pair[0]
    adata.obs["text"], adata.obs["one"] = "a", pd.Categorical(["a"] * 200)
    with pytest.raises(ValueError, match="a categorical column is needed"):
        tl.dendrogram(adata, "text")
    with pytest.raises(ValueError, match="a tree needs two"):
        tl.dendrogram(adata, "one")
    with pytest.raises(KeyError, match="no column 'no'"):
        tl.dendrogram(adata, "no")
    with pytest.raises(KeyError, match="no gene 'q'"):
        tl.dendrogram(adata, "g", var_names=["g1", "q"])


def test_pseudobulk(to_xp):
    counts = cases.counts(90, 12)
    sample, group = np.array(["s2", "s1", "s3"])[np.arange(90) % 3], np.array(["k", "l"], dtype=object)[np.arange(90) // 45]
    group[:5] = None
    adata = cases.annotated(to_xp(counts), sample=pd.Categorical(sample), group=pd.Categorical(group), cell=np.arange(90))
    adata.obs["condition"] = np.where(sample == "s1", "sick", "well")
    result = get.pseudobulk(adata, "sample", "group")
    assert list(result.obs_names) == [f"{s}_{g}" for s in ("s1", "s2", "s3") for g in "kl"]
    assert list(result.obs) == ["sample", "group", "condition", "n_cells", "n_counts"]
    assert result.obs["condition"].tolist() == ["sick", "sick", "well", "well", "well", "well"]
    for name, row in zip(result.obs_names, result.X, strict=True):
        cells = (sample == name[:2]) & (group == name[3])
        np.testing.assert_array_equal(row, counts[cells].sum(axis=0).A1)
        assert result.obs.loc[name, "n_cells"] == cells.sum() and result.obs.loc[name, "n_counts"] == row.sum()
    np.testing.assert_array_equal(get.pseudobulk(adata, "sample").X.sum(axis=0), counts.sum(axis=0).A1)
    assert get.pseudobulk(adata, "sample", "group", min_cells=15).n_obs == 3 + (result.obs["n_cells"][["s1_k", "s2_k", "s3_k"]] >= 15).sum()


def test_pseudobulk_refuses(to_xp):
    adata = cases.annotated(to_xp(sp.csr_matrix(np.ones((4, 3), dtype=np.float32))), sample=list("aabb"))
    with pytest.raises(ValueError, match="lower min_cells"):
        get.pseudobulk(adata, "sample", min_cells=3)
    with pytest.raises(KeyError, match="no column 'no'"):
        get.pseudobulk(adata, "no")
