"""Multinomial regression against scikit-learn, and as a method of rank_genes_groups."""

import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rsc_core.pp._normalize import lognorm, size_factors
from rsc_core.tl import _multinomial, rank_genes_groups
from rsc_core.tl._logreg import fit


def expression(n_cells=240, n_genes=60, n_types=3, seed=0):
    """Log-normalised cells, and types of which some are wrong: the groups cannot be told apart without error."""
    counts = cases.counts(n_cells, n_genes, n_types=n_types, seed=seed)
    label = np.arange(n_cells) % n_types
    label[::7] = np.random.default_rng(seed).integers(0, n_types, len(label[::7]))
    return lognorm(counts, size_factors(counts)), label.astype(np.int64)


def sklearn_fit(x, label, C=1.0):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, tol=1e-8, max_iter=20_000).fit(x.toarray().astype(np.float64), label)


@pytest.mark.parametrize(("n_types", "C"), [(3, 1.0), (3, 0.05), (33, 1.0)])  # fewer classes than a warp has lanes, and more
def test_coefficients_equal_sklearn(to_xp, n_types, C):
    """1e-3: the gradient's norm, at most 1e-7 of 240 cells in each entry here, times C bounds the distance to the optimum."""
    x, label = expression(n_types=n_types)
    ours, theirs = fit(lambda: [to_xp(x)], label, 60, C=C, tol=1e-7), sklearn_fit(x, label, C)
    assert ours.converged and ours.gradient_norm <= 1e-7
    np.testing.assert_allclose(ours.coef, theirs.coef_, atol=1e-3)
    np.testing.assert_allclose(ours.intercept - ours.intercept.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=0.01)


def test_500_groups_equal_sklearn(to_xp):
    x, _ = expression(1500, 15)
    label = np.arange(1500) % 500
    ours = fit(lambda: [to_xp(x)], label, 15, tol=1e-7)
    assert ours.converged
    np.testing.assert_allclose(ours.coef, sklearn_fit(x, label).coef_, atol=1e-3)


def test_sparse_cells_are_never_made_dense():
    """All that is allocated at once, in bytes, against 1,000 cells of 20,000 genes as float32."""
    import tracemalloc

    x = sp.random(1000, 20_000, 0.002, format="csr", dtype=np.float32, random_state=0)
    label = np.arange(1000) % 3
    fit(lambda: [x], label, 20_000, max_iter=1)  # what is compiled and imported counts for nothing
    tracemalloc.start()
    fit(lambda: [x], label, 20_000, max_iter=5)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 0.5 * 4 * 1000 * 20_000


def test_stops_by_sklearns_rule(to_xp):
    """The stated gradient is that of the mean loss, by the formula; tol is reached, and not far exceeded."""
    x, label = expression()
    ours = fit(lambda: [to_xp(x)], label, 60, C=2.0, tol=1e-3)
    score = x.toarray().astype(float) @ ours.coef.T + ours.intercept
    share = np.exp(score - score.max(axis=1, keepdims=True))
    residual = share / share.sum(axis=1, keepdims=True) - np.eye(3)[label]
    gradient = np.vstack([x.T @ residual + ours.coef.T / 2.0, residual.sum(axis=0)]) / 240
    assert ours.gradient_norm == pytest.approx(np.abs(gradient).max(), rel=1e-4) and 1e-5 < ours.gradient_norm <= 1e-3


def test_few_products_with_the_matrix(to_xp):
    """scikit-learn's lbfgs needs a product of each side for each evaluation of its objective: at least n_iter + 1."""
    from sklearn.linear_model import LogisticRegression

    x, label = expression(n_types=8)
    ours = fit(lambda: [to_xp(x)], label, 60, tol=1e-5)
    theirs = LogisticRegression(tol=1e-5, max_iter=1000).fit(x.toarray().astype(np.float64), label)
    assert ours.converged and ours.n_passes < 0.5 * theirs.n_iter_[0], (ours.n_passes, theirs.n_iter_)


def test_cpu_and_blocks_of_cells_and_a_second_run_change_no_bit(to_xp, monkeypatch):
    monkeypatch.setattr(_multinomial, "PANEL", 64)
    x, label = expression()
    whole = fit(lambda: [x], label, 60)
    for cuts in ([(0, 240)], [(0, 1), (1, 100), (100, 240)], [(0, 64), (64, 70), (70, 200), (200, 240)]):
        cut = fit(lambda cuts=cuts: (to_xp(x[a:b]) for a, b in cuts), label, 60)
        np.testing.assert_array_equal(whole.coef, cut.coef)
        assert whole.n_iter == cut.n_iter
    np.testing.assert_array_equal(whole.coef, fit(lambda: [to_xp(x)], label, 60).coef)


def test_as_a_method_equals_scanpy(to_xp):
    """scanpy with a tight tolerance; cells of other groups and without a label are left out by both."""
    import scanpy as sc

    x, label = expression(n_types=4)
    names = pd.Categorical(np.where(np.arange(240) % 11 == 0, None, np.array(list("abcd"), dtype=object)[label]))
    ours, theirs = cases.annotated(to_xp(x), g=names), cases.annotated(x.astype(np.float64), g=names)
    rank_genes_groups(ours, "g", method="logreg", groups=["a", "c", "d"], C=0.5, tol=1e-7)
    sc.tl.rank_genes_groups(theirs, "g", method="logreg", groups=["a", "c", "d"], use_raw=False, C=0.5, tol=1e-8, max_iter=10_000)
    ours, theirs = ours.uns["rank_genes_groups"], theirs.uns["rank_genes_groups"]
    assert list(ours) == list(theirs)
    for group in "acd":
        a, b = (pd.Series(result["scores"][group], index=result["names"][group]).sort_index() for result in (ours, theirs))
        np.testing.assert_allclose(a, b, atol=1e-3)
    assert ours["params"]["gradient_norm"] <= ours["params"]["tol"] == 1e-7 and ours["params"]["C"] == 0.5


def test_two_groups_have_one_field_that_tells_the_first_from_the_second(to_xp):
    x, label = expression(n_types=2)
    adata = cases.annotated(to_xp(x), g=pd.Categorical(np.array(["a", "b"])[label]))
    rank_genes_groups(adata, "g", method="logreg", pts=True, tol=1e-7)
    result = adata.uns["rank_genes_groups"]
    assert result["names"].dtype.names == ("a",) and set(result) == {"params", "names", "scores", "pts", "pts_rest"}
    score = pd.Series(result["scores"]["a"], index=result["names"]["a"])
    np.testing.assert_allclose(score[adata.var_names], -sklearn_fit(x, label).coef_[0], atol=1e-3)


def test_what_cannot_be_fitted(to_xp):
    x, label = expression()
    adata = cases.annotated(to_xp(x), g=pd.Categorical(np.array(list("abc"))[label]))
    with pytest.warns(UserWarning, match="stopped after 2 steps with a gradient of .* a cell"):
        rank_genes_groups(adata, "g", method="logreg", max_iter=2)
    with pytest.raises(ValueError, match="there is one, name two"):
        rank_genes_groups(adata, "g", method="logreg", groups=["a"])
    with pytest.raises(ValueError, match="C is 0; it must be above 0"):
        rank_genes_groups(adata, "g", method="logreg", C=0)
    with pytest.raises(TypeError, match="t-test takes no C"):
        rank_genes_groups(adata, "g", method="t-test", C=1.0)
