"""LISI against harmonypy and silhouettes against scikit-learn, and their answers at the edges."""

import numpy as np
import pytest

from rsc_core.metrics import lisi, silhouette


def cells(n_cells=400, seed=0):
    random = np.random.default_rng(seed)
    kind, batch = random.integers(4, size=n_cells), random.integers(3, size=n_cells)
    x = random.normal(size=(4, 6))[kind] * 3 + random.normal(size=(3, 6))[batch] + random.normal(size=(n_cells, 6))
    return x, [f"b{b}" for b in batch], kind


def test_lisi_equals_harmonypy(to_xp):
    """1e-4: both bisect to an entropy within 1e-5, from other sides."""
    import harmonypy

    x, batch, kind = cells()
    theirs = harmonypy.compute_lisi(x, {"batch": np.array(batch), "kind": kind}, ["batch", "kind"])
    ours = lisi(to_xp(x), batch, kind)
    np.testing.assert_allclose(ours, theirs.T, rtol=1e-4)
    np.testing.assert_allclose(
        lisi(to_xp(x), batch, perplexity=10), harmonypy.compute_lisi(x, {"b": np.array(batch)}, ["b"], 10)[:, 0], rtol=1e-4
    )


def test_lisi_of_few_or_equal_cells(to_xp):
    assert lisi(to_xp(np.zeros((1, 2))), ["a"]).tolist() == [1.0]
    assert lisi(to_xp(np.zeros((2, 2))), ["a", "b"]).tolist() == [1.0, 1.0]  # the only neighbour
    equal = lisi(to_xp(np.zeros((101, 2))), ["a", None] * 50 + ["a"])
    assert ((equal > 1.99) & (equal < 2 + 1e-12)).all()
    one = lisi(to_xp(cells(60)[0]), ["a"] * 60)
    np.testing.assert_allclose(one, 1, rtol=1e-12)


def test_lisi_of_mixed_and_of_apart_labels(to_xp):
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(1000, 5)), np.repeat(["a", "b"], 500)
    mixed = lisi(to_xp(x), labels).mean()
    x[500:] += 100
    assert mixed > 1.8 and lisi(to_xp(x), labels).max() == pytest.approx(1, abs=1e-12)


def test_silhouette_equals_sklearn(to_xp):
    from sklearn.metrics import silhouette_score

    x, batch, kind = cells(1100)  # more than one block of rows
    for labels in (batch, kind):
        assert silhouette(to_xp(x), labels) == pytest.approx(silhouette_score(x, labels), abs=1e-9)
    alone = np.array(batch)
    alone[3] = "alone"
    assert silhouette(to_xp(x), alone) == pytest.approx(silhouette_score(x, alone), abs=1e-9)


def test_silhouette_of_one_label_and_of_equal_cells(to_xp):
    x = np.ones((10, 3))
    assert np.isnan(silhouette(to_xp(x), ["a"] * 10))
    assert silhouette(to_xp(x), ["a", "b"] * 5) == 0
