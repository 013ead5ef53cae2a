"""Threshold and worst case in single precision."""

import numpy as np
import pytest

from mgce_sklearn.kernels import reference
from mgce_sklearn.kernels.single import threshold_and_worst_case_single

Q = [0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]


def solve(margins, q):
    margins = np.ascontiguousarray(margins, dtype=np.float32)
    out = np.empty(len(margins), np.float32), np.empty(margins.shape, np.float32)
    threshold_and_worst_case_single(margins, q, out)
    return out


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize(("n_rows", "n_classes"), [(100, 2), (70, 10), (50, 300), (20, 5000)])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_agrees_with_the_reference(q, n_rows, n_classes, scale):
    generator = np.random.default_rng(0)
    margins = (scale * generator.standard_normal((n_rows, n_classes))).astype(np.float32)
    psi, proba = solve(margins, q)
    expected = reference.threshold(margins.astype(float), q)
    np.testing.assert_allclose(psi, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=2e-6)
    # Away from the edge of the support, where z is known to its last digits only.
    worst_case = reference.worst_case(margins.astype(float), q)
    z = 1.0 + q * (margins - expected[:, np.newaxis])
    inside = (z > 0.02) | (z < -0.02)
    np.testing.assert_allclose(proba[inside], worst_case[inside], rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("q", Q)
def test_extreme_margins(q):
    psi, proba = solve([[-np.inf, 1.0, -6e4], [1e30, 1e30, -1e30], [-1e30, -1e30, -1e30]], q)
    np.testing.assert_allclose(psi[0], 1.0)
    np.testing.assert_allclose(proba, [[0, 1, 0], [0.5, 0.5, 0], [1 / 3] * 3], atol=1e-6)


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_makes_its_row_nan(q, bad):
    psi, proba = solve([[0.0, bad, 1.0], [0.0, 1.0, 2.0], [-np.inf] * 3], q)
    assert np.isnan(psi).tolist() == [True, False, True]
    assert np.isnan(proba).all(axis=1).tolist() == [True, False, True]
