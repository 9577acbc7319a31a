"""gsea, gsva, viper: against decoupler, and its loops over our random sets."""

import warnings

import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from test_activity import network, normalised
from test_ranks_of_targets import pair, without_ties

from rsc_core import backend, dc, rng
from rsc_core.dc import _shadows as shadows
from rsc_core.stats import benjamini_hochberg

TIMES = 25


def by_decoupler(method, x, net, **options):
    import decoupler

    theirs = cases.annotated(x.copy())
    getattr(decoupler.mt, method)(theirs, net, **options)
    return theirs.obsm[f"score_{method}"], theirs.obsm.get(f"padj_{method}")


def test_gsea_equals_decoupler_without_ties(to_xp):
    x, net = without_ties(40, 150), network(9, 150, 25)
    adata = cases.annotated(to_xp(x))
    dc.gsea(adata, net, times=0, bsize=7)
    pd.testing.assert_frame_equal(adata.obsm["score_gsea"], by_decoupler("gsea", x, net, times=0)[0], rtol=1e-9, atol=1e-9)
    assert "padj_gsea" not in adata.obsm


@pytest.mark.parametrize("seed", [0, 42])
def test_gsea_against_decouplers_walk_over_the_same_random_sets(to_xp, seed):
    """Two sizes of sets; norm and p from plain loops; no block matters."""
    from decoupler.mt._gsea import _esrank

    x = without_ties(6, 90)
    net = pd.concat([network(3, 90, 20), network(1, 90, 11, seed=5).assign(source="small")])
    adata, other = pair(to_xp, x)
    dc.gsea(adata, net, times=TIMES, seed=seed)
    dc.gsea(adata, net, times=TIMES, seed=seed, bsize=4)
    dc.gsea(other, net, times=TIMES, seed=seed, bsize=5)
    plain = dc.gsea(pd.DataFrame(x.toarray(), adata.obs_names, adata.var_names), net, times=0)
    pd.testing.assert_frame_equal(adata.obsm["score_gsea"], other.obsm["score_gsea"], check_exact=True)
    score, p = np.empty((2, 6, 4))
    for cell, row in enumerate(-np.sort(-x.toarray(), axis=1)):
        for s, source in enumerate(plain.columns):
            k, es, null = 11 if source == "small" else 20, plain.iloc[cell, s], np.empty(TIMES)
            for t in range(TIMES):
                mask = np.isin(np.arange(90), rng.permutation(seed, "network", 90, t + 1)[:k])
                null[t] = _esrank(row, np.arange(90), mask, 1 / (90 - k))[0]
            same = null[(null >= 0) == (es >= 0)]
            score[cell, s], p[cell, s] = es / abs(same.mean()), (1 + (abs(same) >= abs(es)).sum()) / (1 + same.size)
    np.testing.assert_allclose(adata.obsm["score_gsea"], score, rtol=1e-9)
    np.testing.assert_allclose(adata.obsm["padj_gsea"], benjamini_hochberg(p, axis=1), rtol=1e-9)
    assert p.min() > 0 and len(np.unique(score)) == score.size


def test_gsea_of_cells_with_zeros(to_xp):
    """A cell without expression has 0 and p 1; a set whose targets a cell does not express has 0."""
    x = normalised(8, 60, mean=2).toarray()
    net = network(3, 60, 15)
    x[2] = 0
    x[5, [int(g[1:]) for g in net.loc[net["source"] == "s1", "target"]]] = 0
    adata = cases.annotated(to_xp(sp.csr_matrix(x)))
    dc.gsea(adata, net, times=TIMES)
    score, adjusted = adata.obsm["score_gsea"], adata.obsm["padj_gsea"]
    assert (score.loc["c2"] == 0).all() and (adjusted.loc["c2"] == 1).all() and score.loc["c5", "s1"] == 0
    assert np.isfinite(score).all(axis=None) and (score.drop("c2").drop("c5") != 0).all(axis=None)
    whole = pd.DataFrame([("all", f"g{g}") for g in range(60) if x[:, g].any()], columns=["source", "target"])
    with pytest.raises(ValueError, match="source all has all 59 genes as targets"):
        dc.gsea(adata, whole)


@pytest.mark.parametrize("options", [{}, {"kcdf": None}, {"maxdiff": False}, {"absrnk": True, "tau": 2}])
@pytest.mark.parametrize("n_genes", [120, 121])
def test_gsva_equals_decoupler_without_ties(to_xp, options, n_genes):
    """decoupler's table of the normal distribution is 1e-7 off: no two genes of a cell are that close here but in shares."""
    x, net = without_ties(30, n_genes), network(7, n_genes, 20)
    adata = cases.annotated(to_xp(x))
    dc.gsva(adata, net, bsize=7, **options)
    tied = options == {"kcdf": None}  # shares are tied by nature: the walk by hand, in the order of our ties
    expected = by_walking(x.toarray(), net, adata) if tied else by_decoupler("gsva", x, net, **options)[0]
    pd.testing.assert_frame_equal(adata.obsm["score_gsva"], expected, rtol=1e-9, atol=1e-9)


def by_walking(x, net, adata):
    from scipy.stats import rankdata

    n_genes = x.shape[1]
    ties = rng.permutation(0, "network", n_genes, 0)
    shares = rankdata(x, method="max", axis=0)[:, ties]
    score = pd.DataFrame(0.0, adata.obs_names, sorted(net["source"].unique()))
    for cell, row in enumerate(shares):
        genes = [f"g{g}" for g in ties[np.argsort(-row, kind="stable")]]
        amount = np.trunc(abs(n_genes / 2 - np.arange(n_genes, 0, -1)))
        for source in score:
            mask = np.isin(genes, net.loc[net["source"] == source, "target"])
            walk = np.cumsum(np.where(mask, amount / amount[mask].sum(), -1 / (~mask).sum()))
            score.loc[f"c{cell}", source] = max(walk.max(), 0) + min(walk.min(), 0)
    return score


def test_gsva_of_counts(to_xp):
    """Poisson: the means of scipy's distribution; the order of genes is what decoupler has where they are not tied."""
    x = cases.counts(25, 80, mean=30)
    net = network(5, 80, 15)
    adata = cases.annotated(to_xp(x))
    dc.gsva(adata, net, kcdf="poisson")
    theirs = by_decoupler("gsva", x, net, kcdf="poisson")[0]
    assert np.abs(adata.obsm["score_gsva"] - theirs).median(axis=None) < 1e-9  # ties of few counts are broken otherwise
    with pytest.raises(ValueError, match="a value is 0.5; give counts"):
        dc.gsva(cases.annotated(to_xp(x * 0.5)), net, kcdf="poisson")
    with pytest.raises(ValueError, match="kcdf is 'uniform'"):
        dc.gsva(adata, net, kcdf="uniform")


@pytest.mark.parametrize("options", [{}, {"kcdf": None}, {"kcdf": "poisson"}, {"maxdiff": False}])
def test_gsva_has_the_same_bits_on_both_backends(to_xp, options):
    """Also for any block, with stored zeros, genes that no cell expresses, and one that is alike in all."""
    x = cases.counts(25, 80, mean=2, empty_gene=3).toarray()
    x[:, 7] = 2
    with_zeros, net = sp.csr_matrix(x), network(5, 80, 15)
    with_zeros.data[::9] = 0
    with_zeros[:, 7] = 2
    plain = with_zeros.copy()
    plain.eliminate_zeros()
    ours, other = cases.annotated(plain), cases.annotated(to_xp(with_zeros))
    dc.gsva(ours, net, **options)
    dc.gsva(other, net, bsize=4, **options)
    pd.testing.assert_frame_equal(other.obsm["score_gsva"], ours.obsm["score_gsva"], check_exact=True)


def test_bandwidths_and_shares(to_xp):
    """NumPy adds down the columns in the order of the cells, as we do."""
    from scipy.stats import rankdata

    from rsc_core.kernels import places

    x = np.round(np.random.default_rng(0).normal(size=(37, 50)), 1)
    x[:, 4] = 0.1
    on, share = to_xp(x), to_xp(np.empty(x.shape))
    bandwidth = to_xp(np.empty(50))
    places.bandwidths(50, on, *x.shape, bandwidth)
    places.share_tail(x.size, on, *x.shape, share)
    np.testing.assert_array_equal(backend.to_host(bandwidth), np.where(np.arange(50) == 4, 0, x.std(axis=0, ddof=1) / 4))
    np.testing.assert_array_equal(backend.to_host(share), rankdata(x, method="max", axis=0) / 37)


def test_gsva_of_one_cell(to_xp):
    x, net = without_ties(1, 80), network(5, 80, 15)
    adata = cases.annotated(to_xp(x))
    dc.gsva(adata, net)
    pd.testing.assert_frame_equal(adata.obsm["score_gsva"], by_decoupler("gsva", x, net)[0], rtol=1e-9)


def of_unit_weights(net):
    return net.assign(weight=np.clip(net["weight"], -1, 1))


@pytest.mark.parametrize("pleiotropy", [False, True])
@pytest.mark.parametrize("kind", ["normal", "counts"])
def test_viper_equals_decoupler(to_xp, pleiotropy, kind):
    """Overlapping sources, many of them active: the correction finds work in every cell."""
    x = without_ties(20, 200) if kind == "normal" else normalised(20, 200, mean=2)
    net = of_unit_weights(network(8, 200, 70))
    effect = network_matrix(net, 200).sum(axis=1)
    x = sp.csr_matrix(x.toarray() + 0.4 * effect if kind == "normal" else x.toarray() * np.exp(effect))
    adata = cases.annotated(to_xp(x))
    dc.viper(adata, net, pleiotropy=pleiotropy, bsize=6)
    score, adjusted = by_decoupler("viper", x, net, pleiotropy=pleiotropy)
    pd.testing.assert_frame_equal(adata.obsm["score_viper"], score, rtol=1e-6, atol=1e-6)
    pd.testing.assert_frame_equal(adata.obsm["padj_viper"], adjusted, rtol=1e-5, atol=1e-6)
    if pleiotropy:
        dc.viper(adata, net, pleiotropy=False)
        assert (np.abs(adata.obsm["score_viper"] - score) > 1e-3).any(axis=None)


def test_viper_does_not_depend_on_blocks_or_backend(to_xp, monkeypatch):
    x = normalised(30, 200, mean=2)
    net = of_unit_weights(network(8, 200, 70))
    net = pd.concat([net, net[net["source"] == "s1"].assign(source="twin")])  # pairs with equal p
    x = sp.csr_matrix(x.toarray() * np.exp(network_matrix(net, 200).sum(axis=1)))
    whole, parts = cases.annotated(x), cases.annotated(to_xp(x))
    dc.viper(whole, net)
    monkeypatch.setattr(shadows, "ROOM", 1 << 16)  # three cells at a time
    dc.viper(parts, net, bsize=7)
    pd.testing.assert_frame_equal(parts.obsm["score_viper"], whole.obsm["score_viper"], check_exact=True)
    pd.testing.assert_series_equal(whole.obsm["score_viper"]["twin"], whole.obsm["score_viper"]["s1"], check_names=False)


def network_matrix(net, n_genes):
    return net.pivot(index="target", columns="source", values="weight").reindex([f"g{g}" for g in range(n_genes)]).fillna(0).to_numpy()


def test_viper_without_differences_and_wrong_arguments(to_xp):
    x = normalised(6, 80, mean=2).toarray()
    x[3], x[4] = 0, 0.5
    adata, net = cases.annotated(to_xp(sp.csr_matrix(x))), of_unit_weights(network(4, 80, 20))
    dc.viper(adata, net)
    assert (adata.obsm["score_viper"].loc[["c3", "c4"]] == 0).all(axis=None)
    assert (adata.obsm["padj_viper"].loc[["c3", "c4"]] == 1).all(axis=None)
    weightless = net.assign(weight=net["weight"].where(net["source"] != "s1", 0))
    with warnings.catch_warnings(action="error"):
        dc.viper(adata, weightless)
    score = adata.obsm["score_viper"]
    assert score["s1"].isna().all() and score.drop(columns="s1").notna().all(axis=None)
    with pytest.raises(ValueError, match="reg_sign is 0"):
        dc.viper(adata, net, reg_sign=0)


def test_log_of_the_normal_tail():
    """At 3 the series meets the continued fraction; there the tail is a difference of 0.5, which loses three digits."""
    from scipy.special import log_ndtr

    from rsc_core.kernels.shadows import log_tail

    z = np.concatenate([np.linspace(-9, 9, 500), [-3, np.nextafter(3, 0), 3, 40, 1e4]])
    np.testing.assert_allclose([log_tail(one) for one in z], log_ndtr(-z), rtol=1e-13, atol=1e-15)
