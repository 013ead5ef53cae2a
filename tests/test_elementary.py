"""The vectorized logarithms and exponentials against numpy's long double."""

import numpy as np
import pytest

from mgce_sklearn.kernels import elementary

EXP2_RANGES = [(-1000.0, 1000.0), (-3.0, 1.0), (-1e-9, 1e-9)]


def evaluate(function, x):
    return np.array([function(value) for value in x])


def uniform(low, high, dtype=np.float64):
    return np.random.default_rng(0).uniform(low, high, 2000).astype(dtype)


def relative_error(computed, exact):
    return np.max(np.abs((computed.astype(np.longdouble) - exact) / exact))


@pytest.mark.parametrize("low, high", EXP2_RANGES)
def test_exp2(low, high):
    x = uniform(low, high)
    assert relative_error(evaluate(elementary.exp2, x), np.exp2(x.astype(np.longdouble))) < 4e-16


@pytest.mark.parametrize("low, high", EXP2_RANGES)
def test_exp2m1(low, high):
    x = uniform(low, high)
    exact = np.expm1(x.astype(np.longdouble) * np.log(np.longdouble(2)))
    assert relative_error(evaluate(elementary.exp2m1, x), exact) < 5e-16


@pytest.mark.parametrize("low, high", [(-300.0, 300.0), (-0.1, 0.1), (-1e-9, 1e-9)])
def test_log2(low, high):
    x = np.exp(uniform(low, high))
    x = x[x != 1]
    assert relative_error(evaluate(elementary.log2, x), np.log2(x.astype(np.longdouble))) < 5e-16


@pytest.mark.parametrize("y", [uniform(-1, 0), -np.exp(uniform(-100, 0)), np.exp(uniform(-30, 30))])
def test_log2_1p(y):
    exact = np.log1p(y.astype(np.longdouble)) / np.log(np.longdouble(2))
    assert relative_error(evaluate(elementary.log2_1p, y), exact) < 5e-16


def test_single_precision():
    x = uniform(-100, 100, np.float32)
    computed = evaluate(elementary.exp2_single, x)
    assert computed.dtype == np.float32 or np.all(computed == computed.astype(np.float32))
    assert relative_error(computed, np.exp2(x.astype(np.longdouble))) < 4e-7
    y = np.concatenate([uniform(-0.99, 0, np.float32), -np.exp(uniform(-60, 0, np.float32))])
    y = y[y > -1]
    exact = np.log1p(y.astype(np.longdouble)) / np.log(np.longdouble(2))
    assert relative_error(evaluate(elementary.log2_1p_single, y), exact) < 4e-7


# The payload is that of R's missing value: its low bits must not leak into the exponent.
NA = np.array([0x7FF00000000007A2], dtype=np.uint64).view(np.float64)[0]


@pytest.mark.parametrize(
    "function, argument, expected",
    [
        (elementary.exp2, 0.0, 1.0),
        (elementary.exp2, 1024.0, np.inf),
        (elementary.exp2, np.inf, np.inf),
        (elementary.exp2, -1022.0, 2.0**-1022),
        (elementary.exp2, -1023.0, 0.0),
        (elementary.exp2, -np.inf, 0.0),
        (elementary.exp2, np.nan, np.nan),
        (elementary.exp2, NA, np.nan),
        (elementary.exp2m1, -np.inf, -1.0),
        (elementary.exp2m1, np.inf, np.inf),
        (elementary.exp2m1, NA, np.nan),
        (elementary.log2, 1.0, 0.0),
        (elementary.log2, 2.0**-1022, -1022.0),
        (elementary.log2, 0.0, -np.inf),
        (elementary.log2, -1.0, -np.inf),
        (elementary.log2, np.inf, np.inf),
        (elementary.log2, NA, np.nan),
        (elementary.log2_1p, 0.0, 0.0),
        (elementary.log2_1p, -1.0, -np.inf),
        (elementary.log2_1p, -np.inf, -np.inf),
        (elementary.log2_1p, np.nan, np.nan),
        (elementary.exp2_single, np.float32(128), np.inf),
        (elementary.exp2_single, np.float32(-np.inf), 0.0),
        (elementary.exp2_single, np.float32(np.nan), np.nan),
        (elementary.log2_1p_single, np.float32(-1), -np.inf),
        (elementary.log2_1p_single, np.float32(-np.inf), -np.inf),
        (elementary.log2_1p_single, np.float32(np.nan), np.nan),
    ],
)
def test_special_values(function, argument, expected):
    np.testing.assert_equal(float(function(argument)), expected)
