"""wsum, wmean, waggr: estimates against decoupler, permutations against plain loops over exact numbers."""

import cases
import numba
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from test_activity import network, normalised

from rsc_core import dc, rng
from rsc_core.dc import _aggregate
from rsc_core.stats import benjamini_hochberg

TIMES = 60


def dense(x, net):
    """Values (cells, genes seen) and weights (genes seen, sources), float64."""
    values = x.toarray().astype(np.float64)
    seen = np.flatnonzero(values.any(axis=0))
    weights = net.pivot(index="target", columns="source", values="weight").reindex([f"g{g}" for g in seen]).fillna(0)
    return values[:, seen], weights.to_numpy()


def null(values, weights, times, seed):
    """Sums under permutations (times, cells, sources)."""
    return np.array([values @ weights[rng.permutation(seed, "network", len(weights), i)] for i in range(times)])


@pytest.mark.parametrize("fun", ["wsum", "wmean"])
def test_estimate_equals_decoupler(to_xp, fun):
    """Within 1e-9: both are float64 and add in other orders."""
    import decoupler

    x, net = normalised(50, 120, mean=2, empty_gene=3), network(7, 120, 30)
    ours, theirs = cases.annotated(to_xp(x)), cases.annotated(x.copy())
    decoupler.mt.waggr(theirs, net, fun=fun, times=0)
    expected = theirs.obsm["score_waggr"]
    dc.waggr(ours, net, fun=fun, times=0)
    getattr(dc, fun)(ours, net, times=5)
    pd.testing.assert_frame_equal(ours.obsm["score_waggr"], expected, rtol=1e-9, atol=1e-9)
    pd.testing.assert_frame_equal(ours.obsm[f"score_{fun}"], expected, rtol=1e-9, atol=1e-9)
    assert "padj_waggr" not in ours.obsm


@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("n_sources", [6, 40])
def test_normalised_score_equals_decoupler_for_the_same_permutations(to_xp, seed, n_sources):
    """decoupler's own function, given our permutations, also for seed 0; within 1e-5: our sums are of rounded numbers."""
    from decoupler.mt._waggr import _cfuncs, _perm, _validate_func, _wsum

    x, net = normalised(30, 150, mean=2), network(n_sources, 150, 25)
    values, weights = dense(x, net)
    order = np.array([np.argsort(rng.permutation(seed, "network", len(weights), i)) for i in range(TIMES)])
    _validate_func(_wsum, verbose=False)
    compiled = _cfuncs["_wsum"] if cases.decoupler_is_before("2.3") else _cfuncs["_wsum"][1]
    norm, _ = _perm(compiled, values @ weights, values, weights, order)
    score, ours, corr, adjusted = dc.wsum(
        pd.DataFrame(x.toarray(), [f"c{i}" for i in range(30)], [f"g{i}" for i in range(150)]), net, times=TIMES, seed=seed
    )
    np.testing.assert_allclose(ours, norm, rtol=1e-5, atol=1e-5)
    adata = cases.annotated(to_xp(x))
    dc.wsum(adata, net, times=TIMES, seed=seed)
    for key, table in zip(("score", "norm", "corr", "padj"), (score, ours, corr, adjusted), strict=True):
        pd.testing.assert_frame_equal(adata.obsm[f"{key}_wsum"], table, rtol=1e-12)
    assert np.abs(ours.to_numpy()).max() > 0.5


@pytest.mark.parametrize("n_sources", [5, 40])
def test_p_from_exact_sums_with_ties(to_xp, n_sources):
    """Few values and weights: many ties. The reference adds int64: float32 logarithms times 2^30 are whole."""
    random = np.random.default_rng(1)
    x = sp.csr_matrix(np.log1p(random.poisson(0.4, (25, 60)).astype(np.float32)))
    net = network(n_sources, 60, 12).assign(weight=lambda t: np.sign(t["weight"]))
    values, weights = (part.astype(np.int64) for part in (dense(x, net)[0] * 2**30, dense(x, net)[1]))
    observed, permuted = values @ weights, null(values, weights, TIMES, 3)
    assert (permuted == observed).mean() > 0.02
    high, low = (1 + (compare(permuted, observed)).sum(axis=0) for compare in (np.greater_equal, np.less_equal))
    p = np.minimum(1, 2 * np.minimum(high, low) / (TIMES + 1))
    adata = cases.annotated(to_xp(x))
    dc.wsum(adata, net, times=TIMES, seed=3)
    np.testing.assert_allclose(adata.obsm["padj_wsum"], benjamini_hochberg(p, axis=1), rtol=1e-12)
    np.testing.assert_allclose(adata.obsm["corr_wsum"], adata.obsm["score_wsum"] * -np.log10(p), rtol=1e-12, atol=1e-12)
    dc.wmean(adata, net, times=TIMES, seed=3)
    dc.waggr(adata, net, fun="wsum", times=TIMES, seed=3)
    for key in ("norm_wmean", "score_waggr"):
        np.testing.assert_array_equal(adata.obsm[key], adata.obsm["norm_wsum"])
    for key in ("padj_wmean", "padj_waggr"):
        np.testing.assert_array_equal(adata.obsm[key], adata.obsm["padj_wsum"])
    np.testing.assert_allclose(adata.obsm["corr_wmean"], adata.obsm["score_wmean"] * -np.log10(p), rtol=1e-12, atol=1e-12)


def test_no_result_depends_on_blocks_or_on_parts_of_the_sources(to_xp, monkeypatch):
    x, net = normalised(70, 90, mean=2), network(5, 90, 20)
    results = []
    for bsize, table_bytes, least_genes in ((16384, 1 << 29, 1024), (13, 1, 1024), (70, 4 * 61 * 45, 1024), (16384, 1 << 29, 0), (9, 1, 0)):
        monkeypatch.setattr(_aggregate, "TABLE_BYTES", table_bytes)
        monkeypatch.setattr(_aggregate, "LEAST_GENES", least_genes)
        adata = cases.annotated(to_xp(x))
        dc.wsum(adata, net, times=TIMES, bsize=bsize)
        results.append(pd.concat({key: adata.obsm[key] for key in ("norm_wsum", "padj_wsum")}, axis=1))
    for result, same in zip(results[1:], (0, 0, 3, 3), strict=True):
        pd.testing.assert_frame_equal(result, results[same], check_exact=True)
    assert (results[0] != results[3]).any(axis=None)


def many_genes(n_cells, n_genes, n_sources, n_targets, seed=0):
    random = np.random.default_rng(seed)
    x = sp.random(n_cells, n_genes, 0.1, format="csr", dtype=np.float32, random_state=random)
    x.data = np.log1p(random.integers(1, 6, x.nnz)).astype(np.float32)
    return x, network(n_sources, n_genes, n_targets)


def test_groups_of_permutations_equal_plain_sums(to_xp):
    """1,100 genes: groups of 32. The reference takes the places one by one and adds in float64."""
    x, net = many_genes(40, 1100, 4, 50)
    values, weights = dense(x, net)
    place, width = _aggregate.places(len(weights), TIMES, 5, np)
    assert width == 32 and place.shape == (3, len(weights)) and (np.sort(place, axis=1) == np.arange(len(weights))).all()
    ordered, sums = np.empty_like(values), []
    ordered[:, place[0]] = values
    for i in range(TIMES):
        moved = np.empty_like(weights)
        moved[(place[1 + i // 32] + i % 32) % len(weights)] = weights
        sums.append(ordered @ moved)
    observed, sums = values @ weights, np.array(sums)
    norm = (observed - sums.mean(axis=0)) / sums.std(axis=0, ddof=1)
    high, low = (1 + (compare(sums, observed)).sum(axis=0) for compare in (np.greater_equal, np.less_equal))
    adata = cases.annotated(to_xp(x))
    dc.wsum(adata, net, times=TIMES, seed=5)
    np.testing.assert_allclose(adata.obsm["norm_wsum"], norm, rtol=1e-4, atol=1e-4)
    adjusted = benjamini_hochberg(np.minimum(1, 2 * np.minimum(high, low) / (TIMES + 1)), axis=1)
    np.testing.assert_allclose(adata.obsm["padj_wsum"], adjusted, rtol=1e-12)
    by_function = cases.annotated(to_xp(x))
    dc.waggr(by_function, net, fun=lambda x, w: np.sum(x * w), times=TIMES, seed=5)
    np.testing.assert_allclose(by_function.obsm["padj_waggr"], adjusted, rtol=1e-12)


def test_groups_of_permutations_are_as_good_as_others(to_xp):
    """Their sums have the mean and the spread that follow from all permutations, in each cell; p of chance is uniform."""
    x, net = many_genes(1, 1500, 150, 30)
    x = sp.vstack([x[:, np.random.default_rng(i).permutation(x.shape[1])] for i in range(30)], format="csr")
    values, weights = dense(x, net)
    n, times = len(weights), 992
    adata = cases.annotated(to_xp(x))
    dc.wsum(adata, net, times=times)
    observed, norm = values @ weights, adata.obsm["norm_wsum"].to_numpy()
    mean = values.mean(axis=1)[:, None] * weights.sum(axis=0)
    spread = np.sqrt(values.var(axis=1)[:, None] * weights.var(axis=0) * n**2 / (n - 1))
    # norm = (z - error of the mean) / (error of the spread): 1/sqrt(992) = 0.032, 1/sqrt(2 * 992) = 0.022, a bit more for tails
    difference = norm - (observed - mean) / spread
    assert abs(difference.mean()) < 0.005 and 0.02 < difference.std() < 0.055
    p = np.minimum(1, 10.0 ** -(adata.obsm["corr_wsum"] / adata.obsm["score_wsum"]).to_numpy())
    # 4,500 p-values, those of a cell or a source not quite independent: standard error of a share of 0.1 about 0.006
    assert all(abs((p <= level).mean() - level) < 0.03 for level in (0.01, 0.05, 0.1, 0.5))


def test_seeds(to_xp):
    x, net = to_xp(normalised(10, 90, mean=2)), network(3, 90, 20)
    norms = []
    for seed in (0, 1, 0, -1):
        adata = cases.annotated(x)
        dc.wsum(adata, net, times=20, seed=seed)
        norms.append(adata.obsm["norm_wsum"].to_numpy())
    np.testing.assert_array_equal(norms[0], norms[2])
    assert (norms[0] != norms[1]).all() and (norms[0] != norms[3]).all() and (norms[0] != 0).all()


@pytest.mark.parametrize("method", ["wsum", "wmean", "waggr"])
def test_without_permutations_there_is_the_estimate_alone(method):
    for times in (0, 1):
        adata = cases.annotated(normalised(10, 90, mean=2))
        getattr(dc, method)(adata, network(3, 90, 20), times=times)
        assert list(adata.obsm) == [f"score_{method}"]


def test_where_the_null_does_not_vary(to_xp):
    """A cell without expression, a cell whose genes all have one value."""
    x = normalised(10, 60, mean=2).toarray()
    x[3], x[5] = 0, 0.1
    adata = cases.annotated(to_xp(sp.csr_matrix(x)))
    dc.wsum(adata, network(3, 60, 15), times=20)
    assert (adata.obsm["norm_wsum"].iloc[[3, 5]] == 0).all(axis=None) and (adata.obsm["padj_wsum"].iloc[[3, 5]] == 1).all(axis=None)
    assert (adata.obsm["norm_wsum"].drop(["c3", "c5"]) != 0).all(axis=None)


def test_functions(to_xp):
    """Two functions of one name do not collide; a function that is the weighted sum gives the weighted sum's scores."""
    x, net = normalised(12, 60, mean=2), network(3, 60, 15)
    adata = cases.annotated(to_xp(x))
    values, weights = dense(x, net)
    dc.waggr(adata, net, fun=lambda x, w: np.sum(x * w), times=0)
    np.testing.assert_allclose(adata.obsm["score_waggr"], values @ weights, rtol=1e-12)
    dc.waggr(adata, net, fun=lambda x, w: np.max(x * w), times=0)
    np.testing.assert_allclose(adata.obsm["score_waggr"], (values[:, :, None] * weights).max(axis=1), rtol=1e-12)
    dc.waggr(adata, net, fun=lambda x, w: np.sum(x * w), times=30)
    score, adjusted = adata.obsm["score_waggr"].copy(), adata.obsm["padj_waggr"].copy()
    dc.waggr(adata, net, fun="wsum", times=30)
    np.testing.assert_allclose(adata.obsm["score_waggr"], score, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(adata.obsm["padj_waggr"], adjusted, rtol=1e-12)
    compiled = numba.njit(lambda x, w: np.max(x * w))
    dc.waggr(adata, net, fun=compiled, times=0)
    np.testing.assert_allclose(adata.obsm["score_waggr"], (values[:, :, None] * weights).max(axis=1), rtol=1e-12)
    with pytest.raises(ValueError, match="fun is 'median'"):
        dc.waggr(adata, net, fun="median")
    with pytest.raises(ValueError, match="fun cannot be compiled"):
        dc.waggr(adata, net, fun=lambda x, w: nothing(x), times=0)  # noqa: F821
