"""Minimum-distortion embedding: its distortion by the formula, its constraint, and that it is a minimum."""

import json

import numpy as np
import pytest
from test_layouts import manifold, one_thread, with_graph

from rsc_core import backend
from rsc_core.tl._mde import mde, minimise, neighbor_pairs, other_pairs

__all__ = ["one_thread"]  # for every test here


def by_formula(pairs, partner, y):
    """Mean over pairs, each once, of PyMDE's Log1p (exponent 1.5) with the weights and Log with weight -1."""
    coo = pairs.tocoo()
    one = coo.row < coo.col
    d = np.sqrt(((y[coo.row[one]] - y[coo.col[one]]) ** 2).sum(axis=1))
    near = coo.data[one] * np.log1p(d**1.5)
    rounds, cells = np.nonzero(partner > np.arange(partner.shape[1]))
    far = np.sqrt(((y[cells] - y[partner[rounds, cells]]) ** 2).sum(axis=1))
    return np.concatenate([near, -np.log(-np.expm1(-far))]).mean()


def test_distortion_follows_the_formula_and_the_coordinates_are_standardised(to_xp):
    adata = with_graph(to_xp(manifold(200)))
    mde(adata, maxiter=40)
    y = backend.to_host(adata.obsm["X_mde"]).astype(float)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(y.T @ y / 200, np.eye(2), atol=1e-5)
    pairs = neighbor_pairs(backend.to_host(adata.obsp["distances"]))
    assert adata.uns["mde"]["distortion"] == pytest.approx(by_formula(pairs, other_pairs(pairs, 0), y), rel=1e-5)


def test_pairs_are_weighted_by_both_sides_and_the_others_are_no_neighbours():
    adata = with_graph(manifold(100), n_neighbors=4)
    pairs = neighbor_pairs(adata.obsp["distances"])
    one = adata.obsp["distances"].toarray() > 0
    np.testing.assert_array_equal(pairs.toarray(), one.astype(float) + one.T)
    partner = other_pairs(pairs, 0)
    rounds, cells = np.nonzero(partner >= 0)
    assert abs(len(partner) - 0.5 * pairs.nnz / 100) <= 0.5
    assert (pairs.toarray()[cells, partner[rounds, cells]] == 0).all()
    np.testing.assert_array_equal(partner[rounds, partner[rounds, cells]], cells)


def test_no_worse_than_a_general_optimiser():
    """scipy's L-BFGS on the formula with the constraint put in by standardising; 2 %: there are many local minima."""
    from scipy.optimize import minimize

    adata = with_graph(manifold(40), n_neighbors=5)
    pairs = neighbor_pairs(adata.obsp["distances"])
    partner, start = other_pairs(pairs, 0), np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)

    def standardised(y):
        y = y.reshape(40, 2) - y.reshape(40, 2).mean(axis=0)
        values, vectors = np.linalg.eigh(y.T @ y / 40)
        return y @ (vectors / np.sqrt(values)) @ vectors.T

    found = minimize(
        lambda y: by_formula(pairs, partner, standardised(y)), start.ravel().astype(float), method="L-BFGS-B", options={"maxiter": 60}
    )
    assert minimise(pairs, partner, start, 300)[1] < 1.02 * found.fun


def test_distortion_is_that_of_pymde(to_xp, data_dir):
    """The same pairs, a spectral start on both sides: 1 % above after the default number of steps, the same minimum after more."""
    theirs = json.loads((data_dir / "pymde_arms.json").read_text())["distortion"]
    adata = with_graph(to_xp(manifold(300)))
    mde(adata)
    assert adata.uns["mde"]["distortion"] < 1.01 * theirs
    mde(adata, maxiter=3000)
    assert adata.uns["mde"]["distortion"] == pytest.approx(theirs, rel=1e-4)


def test_both_backends_give_the_same_bytes(to_xp):
    x = manifold(150)
    start = np.ascontiguousarray(x[:, :3])
    pairs = neighbor_pairs(with_graph(x).obsp["distances"])
    partner = other_pairs(pairs, 0)
    here = minimise(pairs, partner, start, 20)[0]
    np.testing.assert_array_equal(backend.to_host(minimise(to_xp(pairs), to_xp(partner), to_xp(start), 20)[0]), here)


@pytest.mark.parametrize("case", ["four", "constant", "parts"])
def test_what_is_hard_to_embed(to_xp, case):
    x = manifold(60)
    if case == "four":
        x = x[:4]
    elif case == "constant":
        x[:] = 1
    else:
        x[30:] += 1000
    adata = with_graph(to_xp(x), n_neighbors=3 if case == "four" else 6)
    mde(adata, maxiter=20)
    assert np.isfinite(backend.to_host(adata.obsm["X_mde"])).all()


def test_too_few_cells_are_refused():
    adata = with_graph(manifold(3), n_neighbors=3)
    with pytest.raises(ValueError, match="there are 3 cells"):
        mde(adata, n_components=3)
