"""zscore, aucell, ora, consensus: against decoupler where it does what it documents, else from first principles."""

import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from test_activity import network, normalised

from rsc_core import dc
from rsc_core.stats import benjamini_hochberg


def without_ties(n_cells, n_genes, seed=0):
    return sp.csr_matrix(np.random.default_rng(seed).normal(size=(n_cells, n_genes)) + 0.5)


def pair(to_xp, x):
    return cases.annotated(to_xp(x)), cases.annotated(x.copy())


@pytest.mark.parametrize("flavor", ["RoKAI", "KSEA"])
def test_zscore_is_what_its_flavor_means(to_xp, flavor):
    """By the formulas, gene by gene; decoupler before 2.3 computes each under the other's name."""
    import decoupler
    from scipy.stats import norm

    x, net = normalised(40, 150, mean=2, empty_gene=3), network(6, 150, 30)
    ours, theirs = pair(to_xp, x)
    dc.zscore(ours, net, flavor=flavor, bsize=17)
    other = {"RoKAI": "KSEA", "KSEA": "RoKAI"}[flavor]
    decoupler.mt.zscore(theirs, net, flavor=other if cases.decoupler_is_before("2.3") else flavor)
    pd.testing.assert_frame_equal(ours.obsm["score_zscore"], theirs.obsm["score_zscore"], rtol=1e-9, atol=1e-9)
    genes = net[net["source"] == "s2"].set_index("target")["weight"]
    values = pd.DataFrame(x.toarray().astype(np.float64), columns=ours.var_names)
    values = values.loc[:, values.any()]
    genes = genes[genes.index.isin(values.columns)]
    mean = (values[genes.index] * genes).sum(axis=1) / genes.abs().sum()
    expected = (mean - (values.mean(axis=1) if flavor == "KSEA" else 0)) * np.sqrt(len(genes)) / values.std(axis=1)
    np.testing.assert_allclose(ours.obsm["score_zscore"]["s2"], expected, rtol=1e-9)
    p = 2 * norm.sf(np.abs(ours.obsm["score_zscore"]))
    np.testing.assert_allclose(ours.obsm["padj_zscore"], benjamini_hochberg(p, axis=1), rtol=1e-9)
    with pytest.raises(ValueError, match="flavor is 'ksea'"):
        dc.zscore(ours, net, flavor="ksea")


@pytest.mark.parametrize("n_up", [None, 2, 40])
def test_aucell_equals_decoupler_without_ties(to_xp, n_up):
    import decoupler

    ours, theirs = pair(to_xp, without_ties(60, 200))
    net = network(9, 200, 25)
    dc.aucell(ours, net, n_up=n_up, bsize=7)
    decoupler.mt.aucell(theirs, net, n_up=n_up)
    pd.testing.assert_frame_equal(ours.obsm["score_aucell"], theirs.obsm["score_aucell"], rtol=1e-12, atol=1e-12)


def test_aucell_with_ties(to_xp):
    """By hand; zeros come after all that is expressed, before what is negative; the block does not matter."""
    x, net = normalised(30, 200, mean=0.3), network(9, 200, 25)
    tables = []
    for bsize in (1000, 7):
        adata = cases.annotated(to_xp(x))
        dc.aucell(adata, net, n_up=12, bsize=bsize)
        tables.append(adata.obsm["score_aucell"])
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    whole = pd.DataFrame([[3.0, 2, 1, 0, 0, 0, -1, -2]], columns=list("abcdefgh"))
    sets = pd.DataFrame([("s", "a"), ("s", "c"), ("t", "g"), ("t", "h"), ("u", "a"), ("u", "b")], columns=["source", "target"])
    whole = pd.concat([whole, whole * 0 + 1], ignore_index=True)  # so that no gene is 0 in all cells
    score = dc.aucell(whole, sets, n_up=4, tmin=1).iloc[0]
    assert score.tolist() == [(3 + 1) / (3 + 2), 0, 1]
    with pytest.raises(ValueError, match="n_up is 9; it must be 2 to 8"):
        dc.aucell(whole, sets, n_up=9, tmin=1)


@pytest.mark.parametrize("method", ["aucell", "ora"])
def test_a_cell_without_expression_has_no_order(to_xp, method):
    x, net = normalised(8, 60, mean=2).toarray(), network(3, 60, 15)
    whole = cases.annotated(to_xp(sp.csr_matrix(x)))
    getattr(dc, method)(whole, net)
    x[5] = 0
    adata = cases.annotated(to_xp(sp.csr_matrix(x)))
    getattr(dc, method)(adata, net)
    for key, values in adata.obsm.items():
        assert values.loc["c5"].isna().all()
        pd.testing.assert_frame_equal(values.drop("c5"), whole.obsm[key].drop("c5"), check_exact=True)


@pytest.mark.parametrize(("n_up", "n_bm", "n_bg"), [(None, 0, 20_000), (20, 0, None), (15, 9, 500)])
def test_ora_counts_the_top_genes(to_xp, n_up, n_bm, n_bg):
    """Tables by sets of names and Fisher's test of scipy."""
    from scipy.stats import fisher_exact

    x, net = without_ties(12, 150), network(5, 150, 20)
    adata = cases.annotated(to_xp(x))
    dc.ora(adata, net, n_up=n_up, n_bm=n_bm, n_bg=n_bg, bsize=5)
    score, p = np.empty((2, 12, 5))
    for cell in range(12):
        order = [f"g{g}" for g in np.argsort(-x.toarray()[cell])]
        high = set(order[: n_up or 8]) | set(order[150 - n_bm :])
        for s in range(5):
            targets = set(net.loc[net["source"] == f"s{s}", "target"])
            a, b, c = len(high & targets), len(targets - high), len(high - targets)
            d = (n_bg or 150) - a - b - c
            score[cell, s] = np.log((a + 0.5) * (d + 0.5) / ((b + 0.5) * (c + 0.5)))
            p[cell, s] = fisher_exact([[a, b], [c, d]]).pvalue
    np.testing.assert_allclose(adata.obsm["score_ora"], score, rtol=1e-9)
    np.testing.assert_allclose(adata.obsm["padj_ora"], benjamini_hochberg(p, axis=1), rtol=1e-9)


def test_ora_equals_decoupler_for_the_complement(to_xp):
    """decoupler before 2.3 takes all but the n_up lowest genes."""
    import decoupler

    ours, theirs = pair(to_xp, without_ties(12, 150))
    net = network(5, 150, 20)
    dc.ora(ours, net, n_up=10)
    decoupler.mt.ora(theirs, net, n_up=140 if cases.decoupler_is_before("2.3") else 10)
    pd.testing.assert_frame_equal(ours.obsm["score_ora"], theirs.obsm["score_ora"], rtol=1e-9)
    pd.testing.assert_frame_equal(ours.obsm["padj_ora"], theirs.obsm["padj_ora"], rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="n_bg is 20; it must be at least 30"):
        dc.ora(ours, net, n_up=10, n_bg=20)
    with pytest.raises(ValueError, match="n_up is 150 and n_bm is 1"):
        dc.ora(ours, net, n_up=150, n_bm=1)


def test_consensus_equals_decoupler():
    import decoupler

    random = np.random.default_rng(0)
    names = [f"c{i}" for i in range(20)]
    tables = {f"score_{m}": pd.DataFrame(random.normal(size=(20, 8)), names, list("abcdefgh")) for m in ("ulm", "mlm", "zscore")}
    tables["score_mlm"].iloc[3] = np.abs(tables["score_mlm"].iloc[3])
    tables["score_ulm"].iloc[2] = 0
    tables["score_ulm"].iloc[4, 2:5] = 0
    score, adjusted = dc.consensus(tables)
    expected = decoupler.mt.consensus({key: table.copy() for key, table in tables.items()})
    pd.testing.assert_frame_equal(score, expected[0], rtol=1e-9, atol=1e-12)
    pd.testing.assert_frame_equal(adjusted, expected[1], rtol=1e-9)
    adata = cases.annotated(sp.csr_matrix((20, 3)))
    with pytest.raises(ValueError, match="no scores of any method"):
        dc.consensus(adata)
    adata.obsm.update(tables)
    dc.consensus(adata)
    dc.consensus(adata)  # its own score is no method's
    pd.testing.assert_frame_equal(adata.obsm["score_consensus"], score)
    dc.consensus(adata, methods=["ulm", "mlm"])
    assert not adata.obsm["score_consensus"].equals(score)
    with pytest.raises(ValueError, match="score_mlm and score_ulm have different"):
        dc.consensus({"score_ulm": tables["score_ulm"], "score_mlm": tables["score_mlm"].iloc[:, 1:]})
