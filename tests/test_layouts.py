"""t-SNE, ForceAtlas2: their forces against sums over all pairs, their quality against references."""

import math

import anndata as ad
import numba
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rsc_core import backend, metrics
from rsc_core.kernels import layout as kernels
from rsc_core.pp._neighbors import neighbors
from rsc_core.tl._draw_graph import atlas, draw_graph
from rsc_core.tl._pushes import Pushes
from rsc_core.tl._start import principal_components
from rsc_core.tl._tsne import joint_chances, tsne


@pytest.fixture(autouse=True)
def one_thread():
    """Hundreds of short steps: threads that wait for each other on a busy machine would take minutes."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def manifold(n_cells, seed=0):
    """A tree of four arms in 20 dimensions, with noise."""
    random = np.random.default_rng(seed)
    ends, arm = 4 * random.normal(size=(4, 20)), random.integers(4, size=n_cells)
    return (ends[arm] * random.random((n_cells, 1)) + 0.7 * random.normal(size=(n_cells, 20))).astype(np.float32)


def with_graph(x, **options):
    adata = ad.AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(len(x))]), obsm={"X_pca": x})
    neighbors(adata, **options)
    return adata


def kept(x, drawn):
    """Mean share of the 15 nearest cells that are so in the drawing."""
    pair = (np.ascontiguousarray(a, dtype=np.float32) for a in (x, drawn))
    return metrics.knn_overlap(*(with_graph(a, n_neighbors=16).obsp["distances"] for a in pair))


def pair_sums(y, mass, law):
    gap = y[:, None] - y[None]
    square = (gap**2).sum(axis=2)
    np.fill_diagonal(square, np.inf)
    with np.errstate(divide="ignore"):
        by = mass / (1 + square) ** 2 if law == kernels.T_KERNEL else np.where(square > 0, mass / square, 0)
    return (by[:, :, None] * gap).sum(axis=1), (mass / (1 + square)).sum(axis=1)


@pytest.mark.parametrize("law", [kernels.T_KERNEL, kernels.INVERSE])
def test_pushes_are_near_the_sum_over_all_pairs(to_xp, law):
    """10 % of the root mean square of the forces: fields push as one body (Barnes and Hut's trees err by as much at theta 1)."""
    random = np.random.default_rng(0)
    y, mass = 20 * random.normal(size=(700, 2)), random.integers(1, 30, 700)
    pushes = Pushes(to_xp(mass), law)
    push = pushes(to_xp(y))
    exact, exact_norm = pair_sums(y, mass, law)
    error = backend.to_host(push) - exact
    assert np.sqrt((error**2).sum() / (exact**2).sum()) < 0.1
    if law == kernels.T_KERNEL:
        assert int(pushes.state[kernels.NORM]) / pushes.unit == pytest.approx(exact_norm.sum(), rel=0.05)


def test_two_cells_push_each_other_exactly(to_xp):
    """1e-4: positions are summed in 2^-16 of a field."""
    y, mass = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])[:2], np.array([2, 5])
    push = Pushes(to_xp(mass), kernels.INVERSE)(to_xp(y))
    np.testing.assert_allclose(backend.to_host(push), [[-3 * 5 / 25, -4 * 5 / 25], [3 * 2 / 25, 4 * 2 / 25]], rtol=1e-4)


def test_chances_have_the_perplexity(to_xp):
    """exp(entropy) of each cell's chances: the perplexity within 1e-6, as scikit-learn's bisection gives within its 1e-5."""
    from sklearn.manifold._utils import _binary_search_perplexity

    random = np.random.default_rng(1)
    distance = np.sort(random.random((50, 30)), axis=1)
    weight = to_xp(np.empty((50, 30)))
    kernels.perplexity_weights(50, to_xp(distance**2), 30, 10.0, weight)
    weight = backend.to_host(weight)
    np.testing.assert_allclose(np.exp(-(weight * np.log(np.maximum(weight, 1e-300))).sum(axis=1)), 10, rtol=1e-6)
    np.testing.assert_allclose(weight, _binary_search_perplexity((distance**2).astype(np.float32), 10.0, 0), atol=1e-5)
    nearest = np.array([[1, 2], [0, 2], [1, 0]])
    chances = joint_chances(nearest, np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]), 2 / 3)
    np.testing.assert_allclose(chances.toarray(), (1 - np.eye(3)) / 6)


def test_tsne_is_as_good_as_scikit_learn(to_xp):
    """Not below it - 0.01. scikit-learn 1.9.1, TSNE(max_iter=500, random_state=0): the two figures below."""
    x = manifold(300)
    adata = ad.AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(300)]), obsm={"X_pca": to_xp(x)})
    tsne(adata, n_iter=500)
    drawn = backend.to_host(adata.obsm["X_tsne"])
    assert drawn.shape == (300, 2) and drawn.dtype == np.float32
    assert metrics.trustworthiness(x, drawn) > 0.9920 - 0.01
    assert kept(x, drawn) > 0.7333 - 0.01
    assert adata.uns["tsne"]["params"]["perplexity"] == 30


@pytest.mark.parametrize("case", ["pancreas", "arms"])
def test_tsne_is_as_good_as_opentsne(to_xp, data_dir, case):
    """Not below openTSNE of the same components, start and number of steps - 0.01, in both measures."""
    import openTSNE

    x = components(data_dir) if case == "pancreas" else manifold(400, seed=3)
    theirs = np.asarray(openTSNE.TSNE(perplexity=30, initialization="pca", n_iter=250, neighbors="exact", random_state=0, n_jobs=1).fit(x))
    adata = ad.AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(len(x))]), obsm={"X_pca": to_xp(x)})
    tsne(adata, n_iter=500)  # openTSNE's 250 of exaggeration come before its n_iter
    ours = backend.to_host(adata.obsm["X_tsne"])
    assert metrics.trustworthiness(x, ours) > metrics.trustworthiness(x, theirs) - 0.01
    assert kept(x, ours) > kept(x, theirs) - 0.01


def components(data_dir):
    """20 principal components of 568 cells of the pancreas."""
    from rsc_core.pp._normalize import lognorm, size_factors

    counts = sp.csr_matrix(ad.read_h5ad(data_dir / "pancreas_lib1.h5ad").X).astype(np.float32)
    values = lognorm(counts, size_factors(counts))[:, np.argsort(-np.asarray(counts.sum(axis=0)).ravel(), kind="stable")[:1000]].toarray()
    u, spread, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    return np.ascontiguousarray((u * spread)[:, :20], dtype=np.float32)


def by_definition(graph, y, n_iter):
    """ForceAtlas2 as the package fa2 has it, all pairs: scaling 2, gravity 1, jitter tolerance 1."""
    dense, n_cells = graph.toarray(), len(y)
    mass, speed, efficiency, old = (dense > 0).sum(axis=1) + 1, 1.0, 1.0, np.zeros_like(y)
    for _ in range(n_iter):
        force = 2 * mass[:, None] * pair_sums(y, mass, kernels.INVERSE)[0]
        force -= mass[:, None] * y / np.sqrt((y**2).sum(axis=1, keepdims=True))
        force += dense @ y - dense.sum(axis=1, keepdims=True) * y
        swing = mass * np.sqrt(((old - force) ** 2).sum(axis=1))
        traction = (0.5 * mass * np.sqrt(((old + force) ** 2).sum(axis=1))).sum()
        estimate = 0.05 * math.sqrt(n_cells)
        jitter = max(math.sqrt(estimate), min(10, estimate * traction / n_cells**2))
        if swing.sum() / traction > 2:
            efficiency *= 0.5 if efficiency > 0.05 else 1
            jitter = max(jitter, 1.0)
        target = jitter * efficiency * traction / swing.sum()
        if swing.sum() > jitter * traction:
            efficiency *= 0.7 if efficiency > 0.05 else 1
        elif speed < 1000:
            efficiency *= 1.3
        speed += min(target - speed, 0.5 * speed)
        y = y + force * (speed / (1 + np.sqrt(speed * swing)))[:, None]
        old = force
    return y


def test_atlas_keeps_neighbours_as_its_definition_does(to_xp):
    """Steps are the same within 2 % in the middle; after 150 the neighbours kept are not below the definition's - 0.01."""
    x = manifold(250)
    graph = with_graph(x).obsp["connectivities"]
    start = principal_components(x, 2)
    one, reference = backend.to_host(atlas(to_xp(graph), to_xp(start), 1)), by_definition(graph, start, 1)
    error = np.sqrt(((one - reference) ** 2).sum(axis=1) / ((reference - start) ** 2).sum(axis=1))
    assert np.median(error) < 0.02
    drawn, reference = backend.to_host(atlas(to_xp(graph), to_xp(start), 150)), by_definition(graph, start, 150)
    assert kept(x, drawn) > kept(x, reference) - 0.01
    assert metrics.trustworthiness(x, drawn) > metrics.trustworthiness(x, reference) - 0.01


def test_both_backends_and_any_threads_give_the_same_bytes(to_xp):
    x = manifold(300)
    drawn = []
    for move, n_threads in ((to_xp, numba.config.NUMBA_NUM_THREADS), (lambda a: a, 1)):
        numba.set_num_threads(n_threads)
        there = with_graph(move(x))
        there.obsm["start"] = move(x[:, :2])
        draw_graph(there, init_pos="start", n_iter=20)
        tsne(there, n_iter=20)
        drawn.append([backend.to_host(there.obsm[key]) for key in ("X_draw_graph_fa", "X_tsne")])
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    np.testing.assert_array_equal(drawn[0][1], drawn[1][1])


@pytest.mark.parametrize("case", ["three", "constant", "duplicates", "parts"])
def test_what_is_hard_to_draw_is_drawn(to_xp, case):
    x = manifold(60)
    if case == "three":
        x = x[:3]
    elif case == "constant":
        x[:] = 1
    elif case == "duplicates":
        x[:30] = x[0]
    else:
        x[30:] += 1000
    adata = with_graph(to_xp(x), n_neighbors=3 if case == "three" else 6)
    tsne(adata, n_iter=300)
    draw_graph(adata, n_iter=30)
    for key in ("X_tsne", "X_draw_graph_fa"):
        drawn = backend.to_host(adata.obsm[key])
        assert np.isfinite(drawn).all()
        assert len(np.unique(drawn, axis=0)) == len(x)


def test_what_cannot_be_used_is_refused():
    adata = with_graph(manifold(30), n_neighbors=5)
    with pytest.raises(ValueError, match="perplexity is 0.5"):
        tsne(adata, perplexity=0.5)
    with pytest.raises(ValueError, match="layout is 'fr'"):
        draw_graph(adata, "fr")
    with pytest.raises(ValueError, match="2 cells"):
        tsne(ad.AnnData(obs=pd.DataFrame(index=["a", "b"]), obsm={"X_pca": np.ones((2, 3), dtype=np.float32)}))
