"""Ligand-receptor test: means equal squidpy's, p-values equal NumPy's with the same permutations, complexes, degenerate cases."""

import itertools
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import squidpy as sq

from rsc_core import backend
from rsc_core.errors import InvalidInput
from rsc_core.gr import ligrec, restore_ligrec
from rsc_core.gr._ligrec import NothingToTest, storable_ligrec, tidy
from rsc_core.gr._permute import orders
from rsc_core.stats import benjamini_hochberg

PAIRS = Path(__file__).parents[1] / "assets" / "ligand_receptor_consensus.csv"
GENES = [f"G{i}" for i in range(12)]


def cells(n=150, n_clusters=3, *, seed=0):
    """Log-like values, 60 % zeros; the first genes are high in the first cluster; G11 is expressed nowhere."""
    rng_ = np.random.default_rng(seed)
    cluster = rng_.integers(0, n_clusters, n)
    cluster[:n_clusters] = np.arange(n_clusters)
    x = rng_.gamma(2, 0.5, (n, len(GENES))) * (1 + 2 * ((cluster == 0)[:, None] & (np.arange(len(GENES)) < 4)))
    x[rng_.random(x.shape) < 0.6] = 0
    x[:, 11] = 0
    obs = pd.DataFrame({"cluster": pd.Categorical([f"k{c}" for c in cluster])}, index=[f"c{i}" for i in range(n)])
    return ad.AnnData(X=x.astype(np.float32), obs=obs, var=pd.DataFrame(index=GENES))


def table(*pairs, **columns):
    return pd.DataFrame({"source": [a for a, _ in pairs], "target": [b for _, b in pairs], **columns})


SIMPLE = table(*itertools.islice(itertools.permutations(GENES, 2), 0, 130, 7))
COMPLEX = table(("G0", "G1_G2"), ("G3_G4_G5", "G6"), ("G7_X", "G8"), ("X_Y", "G1"), ("G0", "G1"), ("G0", "G2"), ("G9", "G11"))


def on(to_xp, adata, container=sp.csr_matrix):
    adata = adata.copy()
    adata.X = to_xp(container(adata.X))
    return adata


def squidpys(adata, interactions, **options):
    result = sq.gr.ligrec(adata, "cluster", interactions=interactions, use_raw=False, copy=True, seed=0, n_jobs=1, **options)
    return {key: value.sparse.to_dense() if key != "metadata" else value for key, value in result.items()}


@pytest.mark.parametrize("container", [sp.csr_matrix, np.asarray])
@pytest.mark.parametrize(("interactions", "policy"), [(SIMPLE, "min"), (COMPLEX, "min"), (COMPLEX, "all")], ids=["simple", "min", "all"])
@pytest.mark.parametrize("threshold", [0.01, 0.42])
def test_equals_squidpy(to_xp, container, interactions, policy, threshold):
    adata, before = cells(), interactions.copy()
    options = {"complex_policy": policy, "threshold": threshold, "n_perms": 400}
    theirs = squidpys(adata, interactions, **options)
    ours = ligrec(on(to_xp, adata, container), "cluster", interactions=interactions, copy=True, **options)
    pd.testing.assert_frame_equal(interactions, before)
    rows, columns = ours["means"].index, ours["means"].columns
    assert set(rows) == set(theirs["means"].index) and len(rows) == len(theirs["means"])
    assert list(columns) == list(theirs["means"].columns)
    assert list(columns.names) == ["cluster_1", "cluster_2"] and list(rows.names) == list(theirs["means"].index.names)
    np.testing.assert_allclose(ours["means"], theirs["means"].loc[rows, columns], rtol=1e-6)
    p, reference = ours["pvalues"].to_numpy(), theirs["pvalues"].loc[rows, columns].to_numpy()
    np.testing.assert_array_equal(np.isnan(p), np.isnan(reference))
    # Two binomial shares of 400: five standard deviations of their difference, and three counts where p is near 0 or 1.
    middle = (p + reference) / 2
    assert (np.abs(p - reference) <= 5 * np.sqrt(2 * middle * (1 - middle) / 400) + 3 / 400)[~np.isnan(p)].all()


@pytest.mark.parametrize("n_perms", [1, 129])
def test_p_values_equal_numpy(to_xp, n_perms):
    adata = cells()
    ours = ligrec(on(to_xp, adata), "cluster", interactions=SIMPLE, n_perms=n_perms, seed=3, copy=True)
    x, codes = adata.X.astype(np.float64), adata.obs["cluster"].cat.codes.to_numpy()

    def group_means(labels):
        return np.array([x[labels == c].mean(axis=0) for c in range(3)])

    observed = group_means(codes)
    permuted = [group_means(codes[orders(3, "ligrec", len(x), number, 1)[0]]) for number in range(n_perms)]
    for (source, target), (one, other) in itertools.product(ours["means"].index, ours["means"].columns):
        a, b, c, d = GENES.index(source), GENES.index(target), int(one[1]), int(other[1])
        level = observed[c, a] + observed[d, b]
        share = np.mean([means[c, a] + means[d, b] > level for means in permuted])
        expected = share if min(observed[c, a], observed[d, b]) > 0 else np.nan
        np.testing.assert_equal(ours["pvalues"].loc[(source, target), (one, other)], expected)


def test_both_backends_and_all_block_sizes_give_the_same_p_values(to_xp, monkeypatch):
    adata = cells(700, 9)
    expected = ligrec(adata, "cluster", interactions=SIMPLE, n_perms=150, copy=True)
    monkeypatch.setattr("rsc_core.gr._ligrec.ORDERS", 33)
    ours = ligrec(on(to_xp, adata), "cluster", interactions=SIMPLE, n_perms=150, copy=True)
    for key in ("means", "pvalues"):
        pd.testing.assert_frame_equal(ours[key], expected[key], check_exact=True)
    few = ligrec(on(to_xp, adata), "cluster", interactions=SIMPLE[5:8], n_perms=150, copy=True)
    pd.testing.assert_frame_equal(few["pvalues"], expected["pvalues"].loc[few["pvalues"].index], check_exact=True)


def test_a_specific_pair_is_found_and_a_shuffled_one_is_not():
    adata = cells(400)
    result = ligrec(adata, "cluster", interactions=table(("G0", "G1"), ("G8", "G9")), n_perms=500, copy=True)["pvalues"]
    assert result.loc[("G0", "G1"), ("k0", "k0")] == 0 and result.loc[("G0", "G1"), ("k1", "k2")] == 1
    assert 0.001 < result.loc[("G8", "G9"), ("k0", "k1")] < 0.999


def test_sums_of_the_same_cells_tie():
    adata = cells(60)
    adata.X[:, :2] = 0
    adata.X[:2, :2] = 0.1  # of two cells in one cluster, every permutation that keeps them together gives the same mean
    adata.obs["cluster"] = pd.Categorical(["k0"] * 30 + ["k1"] * 30)
    result = ligrec(adata, "cluster", interactions=table(("G0", "G1")), threshold=0, n_perms=300, copy=True)
    assert result["pvalues"].iloc[0, 0] == 0


def test_a_complex_has_its_lowest_component_and_keeps_its_name(to_xp):
    adata = on(to_xp, cells())
    result = ligrec(adata, "cluster", interactions=COMPLEX.assign(origin="book"), n_perms=5, copy=True)
    mean = cells().X.mean(axis=0)
    lowest = min(("G1", "G2"), key=lambda gene: mean[GENES.index(gene)])
    assert result["metadata"].loc[("G0", lowest), "target_partner"] == "G1_G2"
    assert (result["metadata"]["origin"] == "book").all() and not result["means"].index.duplicated().any()


def test_a_gene_whose_name_looks_like_a_complex():
    adata = cells()
    adata.var_names = [*GENES[:-2], "HLA_A", "G11"]
    result = ligrec(adata, "cluster", interactions=table(("HLA_A", "G0")), n_perms=5, copy=True)
    assert list(result["means"].index) == [("HLA_A", "G0")]


@pytest.mark.parametrize(("axis", "number"), [("clusters", 0), ("interactions", 1)])
def test_adjustment(axis, number):
    raw = ligrec(cells(), "cluster", interactions=SIMPLE, n_perms=50, copy=True)["pvalues"]
    adjusted = ligrec(cells(), "cluster", interactions=SIMPLE, n_perms=50, corr_method="fdr_bh", corr_axis=axis, copy=True)["pvalues"]
    np.testing.assert_array_equal(adjusted, benjamini_hochberg(raw.to_numpy(), axis=number))


def test_file_of_interactions_and_real_tissue(to_xp, data_dir):
    adata = ad.read_h5ad(data_dir / "visium_prostate_normal.h5ad")
    adata.obs["cluster"] = pd.Categorical((np.arange(adata.n_obs) % 4).astype(str))
    theirs = pd.read_csv(PAIRS).rename(columns={"ligand": "source", "receptor": "target"})
    adata.var_names = adata.var_names.str.upper()
    theirs = squidpys(adata, theirs, n_perms=2)["means"]
    adata.X = to_xp(sp.csr_matrix(adata.X, dtype=np.float32))
    ligrec(adata, "cluster", interactions=PAIRS, n_perms=2, key_added="pairs")
    ours = adata.uns["pairs"]["means"]
    np.testing.assert_allclose(ours, theirs.loc[ours.index, ours.columns], rtol=1e-6)
    assert len(ours) == len(theirs) > 100


def test_cells_without_a_cluster_are_left_out(to_xp):
    adata = cells()
    adata.obs.loc[adata.obs_names[10:20], "cluster"] = np.nan
    kept = adata[adata.obs["cluster"].notna()].copy()
    ours, expected = (ligrec(on(to_xp, some), "cluster", interactions=SIMPLE, n_perms=20, copy=True) for some in (adata, kept))
    pd.testing.assert_frame_equal(ours["pvalues"], expected["pvalues"])


def test_stored_and_restored(tmp_path):
    result = ligrec(cells(), "cluster", interactions=COMPLEX.assign(origin="book"), n_perms=10, copy=True)
    ad.AnnData(uns={"cluster_ligrec": storable_ligrec(result)}).write_h5ad(tmp_path / "a.h5ad")
    restored = restore_ligrec(ad.read_h5ad(tmp_path / "a.h5ad").uns["cluster_ligrec"])
    for key in ("means", "pvalues", "metadata"):
        np.testing.assert_array_equal(restored[key], result[key])
        assert list(restored[key].index) == list(result[key].index) and list(restored[key].columns) == list(result[key].columns)


def test_tidy_table_lists_what_was_tested():
    result = ligrec(cells(), "cluster", interactions=SIMPLE, n_perms=30, copy=True)
    rows = tidy(result)
    assert len(rows) == result["pvalues"].notna().to_numpy().sum() and rows["p_value"].is_monotonic_increasing
    first = rows.iloc[0]
    assert first["mean"] == result["means"].loc[(first["source"], first["target"]), (first["cluster_1"], first["cluster_2"])]


@pytest.mark.parametrize(
    ("interactions", "error", "message"),
    [
        (table(("A", "B")), NothingToTest, r"No interaction has both partners among the 12 genes \(table: A, B; data: G0, G1, G2\)"),
        (table(("g0", "g1")), NothingToTest, r"2 names are the same but for upper and lower case \(g0, G0\)"),
        (table(), InvalidInput, "no rows"),
        (table(("G0", "G1"), ("G2", None)), InvalidInput, "data row 2 has no target"),
        (pd.DataFrame({"ligand": ["G0"], "gene": ["G1"]}), InvalidInput, "it has ligand, gene"),
        ("missing.csv", InvalidInput, "missing.csv: cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(interactions, error, message):
    with pytest.raises(error, match=message):
        ligrec(cells(), "cluster", interactions=interactions)


def test_one_cluster_and_unused_categories():
    adata = cells(20, 1)
    adata.obs["cluster"] = adata.obs["cluster"].cat.add_categories("k9")
    with pytest.raises(NothingToTest, match="cluster has 1 cluster"):
        ligrec(adata, "cluster", interactions=SIMPLE)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"complex_policy": "max"}, "min, all"), ({"corr_axis": "genes"}, "clusters, interactions"), ({"corr_method": "holm"}, "fdr_bh"),
     ({"n_perms": 0}, "n_perms is 0"), ({"threshold": 2}, "threshold is 2")],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        ligrec(cells(), "cluster", interactions=SIMPLE, **options)


def test_values_that_are_not_finite(to_xp):
    adata = cells()
    adata.X[3, 0] = np.inf
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        ligrec(on(to_xp, adata), "cluster", interactions=SIMPLE)


def test_results_lie_on_the_host(to_xp):
    adata = on(to_xp, cells())
    ligrec(adata, "cluster", interactions=SIMPLE, n_perms=3)
    assert all(backend.xp_of(frame.to_numpy()) is np for frame in adata.uns["cluster_ligrec"].values())
