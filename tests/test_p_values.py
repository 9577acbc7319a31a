"""Tails of Student's t and the normal distribution against scipy, adjustment against the shared function."""

import numpy as np
import pytest

from rsc_core import backend
from rsc_core.dc._p import adjusted, normal_p, student_p
from rsc_core.stats import benjamini_hochberg


@pytest.mark.parametrize("df", [1, 2, 7, 118, 1985, 24_998, 60_000])
def test_student(to_xp, df):
    from scipy import stats

    t = np.concatenate([[0.0, np.sqrt(3), -1.7320509, 1.0, -2.5], np.geomspace(1e-2, 36, 4001)])  # scipy is 6e-10 off at df 1, t 1e-9
    exact = 2 * stats.t.sf(np.abs(t), df)
    ours = backend.to_host(student_p(to_xp(t), df))
    assert (exact > 0).all() and ours[0] == 1.0
    np.testing.assert_allclose(ours, exact, rtol=1e-11)


def test_student_of_what_is_no_number(to_xp):
    ours = backend.to_host(student_p(to_xp(np.array([[np.nan, np.inf], [-np.inf, 1e200]])), 30))
    np.testing.assert_array_equal(ours, [[np.nan, 0], [0, 0]])


def test_normal(to_xp):
    from scipy import stats

    z = np.concatenate([[0.0, -1.0], np.linspace(0, 37, 2001)])
    np.testing.assert_allclose(backend.to_host(normal_p(to_xp(z))), 2 * stats.norm.sf(np.abs(z)), rtol=1e-12)
    assert np.isnan(backend.to_host(normal_p(to_xp(np.array([np.nan])))))


@pytest.mark.parametrize("n_tests", [1, 2, 33, 300])
def test_adjusted(to_xp, n_tests):
    """Ties, 0, 1, rows with and without missing values."""
    random = np.random.default_rng(0)
    p = random.uniform(size=(50, n_tests)) ** 3
    p[10:20] = np.round(p[10:20], 1)
    p[20:30][random.uniform(size=(10, n_tests)) < 0.3] = np.nan
    p[30], p[31], p[32] = np.nan, 1, 0
    np.testing.assert_allclose(backend.to_host(adjusted(to_xp(p))), benjamini_hochberg(p, axis=1), rtol=1e-15)


def test_adjusted_p_values_equal_scipys():
    """Bit by bit, ties, 0 and 1 among them; scipy refuses NaN, so that families with NaN are given to it without."""
    from scipy.stats import false_discovery_control

    random = np.random.default_rng(0)
    p = random.uniform(size=(4, 900)) ** 4
    p[1], p[2, :50], p[2, 50:60] = np.round(p[1], 1), 0, 1
    np.testing.assert_array_equal(benjamini_hochberg(p), false_discovery_control(p, axis=1))
    p[3, random.uniform(size=900) < 0.3] = np.nan
    tested = ~np.isnan(p[3])
    adjusted = benjamini_hochberg(p)[3]
    np.testing.assert_array_equal(adjusted[tested], false_discovery_control(p[3, tested]))
    assert np.isnan(adjusted[~tested]).all()
    assert benjamini_hochberg(np.empty((3, 0))).shape == (3, 0)
