"""Label noise: frequencies within five standard deviations, dtypes, seeds, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from mgce_sklearn.label_noise import (
    matrix_noise,
    pair_flip_noise,
    pair_flip_transition,
    symmetric_noise,
    symmetric_transition,
)

N = 40_000
NOISES = [symmetric_noise, pair_flip_noise]


def assert_frequencies(y, noisy, transition):
    """Hold counts of every pair of classes against the binomial distribution."""
    for k, row in enumerate(transition):
        n = np.sum(y == k)
        for j, probability in enumerate(row):
            count = np.sum(noisy[y == k] == j)
            tolerance = 5.0 * np.sqrt(n * probability * (1.0 - probability))
            assert abs(count - n * probability) <= tolerance + 1e-9


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_symmetric_frequencies(rate, n_classes):
    y = np.arange(N) % n_classes
    noisy = symmetric_noise(y, rate, random_state=0)
    others = rate / (n_classes - 1)
    expected = [[1 - rate if j == k else others for j in range(n_classes)]
                for k in range(n_classes)]  # fmt: skip
    assert_frequencies(y, noisy, expected)
    np.testing.assert_allclose(symmetric_transition(n_classes, rate), expected, atol=1e-15)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_pair_flip_frequencies(rate, n_classes):
    y = np.arange(N) % n_classes
    noisy = pair_flip_noise(y, rate, random_state=1)
    expected = np.zeros((n_classes, n_classes))
    for k in range(n_classes):
        expected[k, k] = 1 - rate
        expected[k, (k + 1) % n_classes] = rate
    assert_frequencies(y, noisy, expected)
    np.testing.assert_allclose(pair_flip_transition(n_classes, rate), expected, atol=1e-15)


def test_matrix_frequencies():
    transition = np.random.default_rng(2).dirichlet(np.ones(4), 4)
    transition[1] = [0.1, 0.2, 0.7, 0.0]  # sums to a little less than 1 in floating point
    transition[2] = [0.0, 0.0, 0.5, 0.5]
    y = np.arange(N) % 4
    assert_frequencies(y, matrix_noise(y, transition, random_state=3), transition)


class Fixed(np.random.RandomState):
    """Draws one number only."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def uniform(self, size):
        return np.full(size, self.number)


def test_draws_at_the_ends_reach_no_class_of_probability_zero():
    row = np.array([0.0, *np.full(10, 0.1), 0.0])  # 0.1 ten times is less than 1 by rounding
    transition = np.tile(row, (12, 1))
    y = np.arange(12)
    lowest = matrix_noise(y, transition, random_state=Fixed(0.0))
    highest = matrix_noise(y, transition, random_state=Fixed(np.nextafter(1.0, 0.0)))
    assert (set(lowest), set(highest)) == ({1}, {10})


def test_every_label_has_a_draw_of_its_own():
    """Neighbours change independently: pairs of changes are as frequent as rate squared."""
    y = np.zeros(N, dtype=int)
    changed = symmetric_noise(y, 0.3, classes=[0, 1, 2], random_state=4) != y
    both = np.sum(changed[1:] & changed[:-1])
    assert abs(both - 0.09 * N) < 5 * np.sqrt(N * 0.09)


@pytest.mark.parametrize("noise", NOISES)
def test_rate_zero_changes_nothing_and_rate_one_everything(noise):
    y = np.random.default_rng(0).integers(0, 7, 5000)
    np.testing.assert_array_equal(noise(y, 0.0), y)
    assert (noise(y, 1.0) != y).all()
    np.testing.assert_array_equal(matrix_noise(y, np.eye(7)), y)


@pytest.mark.parametrize("noise", NOISES)
def test_two_classes_swap(noise):
    y = np.array(["no", "yes"])[np.arange(100) % 2]
    np.testing.assert_array_equal(noise(y, 1.0), [*y[1:].tolist(), "no"])


@pytest.mark.parametrize(
    "y",
    [
        np.array([3, 7, 7, 5] * 30, dtype=np.int16),
        np.array([3, 7, 7, 5] * 30, dtype=np.float32),
        np.array(["x", "yy", "z", "z"] * 30),
        np.array(["x", "yy", "z", "z"] * 30, dtype=object),
        np.array([True, False] * 60),
        ["x", "yy", "z", "z"] * 30,
        [0, 1, 1, 2] * 30,
    ],
)
@pytest.mark.parametrize("noise", NOISES)
def test_labels_of_any_dtype_keep_it(y, noise):
    before = list(y)
    noisy = noise(y, 0.5, random_state=0)
    assert noisy.dtype == np.asarray(y).dtype
    assert set(noisy) == set(y)
    assert 0.2 < np.mean(noisy != np.asarray(y)) < 0.8
    assert list(y) == before
    codes = np.unique(y, return_inverse=True)[1]
    same = noise(codes, 0.5, random_state=0)
    np.testing.assert_array_equal(noisy, np.unique(y)[same])


def test_classes_that_y_lacks():
    y = np.full(3000, 4, dtype=np.uint8)
    noisy = symmetric_noise(y, 0.5, classes=[4, 9, 6], random_state=0)
    assert noisy.dtype == np.uint8
    assert set(noisy) == {4, 6, 9}
    assert set(pair_flip_noise(y, 1.0, classes=[4, 9, 6])) == {6}
    assert set(pair_flip_noise(["a"] * 3, 1.0, classes=["a", "long"])) == {"long"}
    assert set(pair_flip_noise(y, 1.0, classes=[4, 300])) == {300}


def test_pandas_labels():
    pd = pytest.importorskip("pandas")
    y = pd.Series(["a", "b"] * 5, index=np.arange(10)[::-1])
    np.testing.assert_array_equal(pair_flip_noise(y, 1.0), ["b", "a"] * 5)
    for dtype, kind in (("Int64", "i"), ("boolean", "b"), ("category", "i")):
        noisy = pair_flip_noise(pd.Series([0, 1] * 5, dtype=dtype), 1.0)
        assert noisy.dtype.kind == kind
        np.testing.assert_array_equal(noisy, [1, 0] * 5)
    with pytest.raises(ValueError, match=r"list of labels.*\(Row 1 has <NA>: drop such rows"):
        symmetric_noise(pd.Series(["a", None, "b"], dtype="string"), 0.1)


def test_seeds():
    y = np.arange(200) % 3
    a, b, c = (symmetric_noise(y, 0.5, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    generator = np.random.RandomState(0)
    np.testing.assert_array_equal(symmetric_noise(y, 0.5, random_state=generator), a)
    assert (symmetric_noise(y, 0.5, random_state=generator) != a).any()


Y = ["a", "b", "c"]
BAD = [
    (lambda: symmetric_noise(Y, -0.1), ValueError, r"rate must be a number in \[0, 1\]; got -0.1"),
    (lambda: symmetric_noise(Y, 1.1), ValueError, "rate must be"),
    (lambda: pair_flip_noise(Y, np.nan), ValueError, "rate must be"),
    (lambda: pair_flip_noise(Y, "0.1"), TypeError, "rate must be"),
    (lambda: symmetric_noise(Y, True), TypeError, "rate must be"),
    (lambda: symmetric_noise([], 0.1), ValueError, "at least one label"),
    (lambda: symmetric_noise(["a", "a"], 0.1), ValueError, "at least 2 different labels"),
    (lambda: symmetric_noise([0.5, 1.5], 0.1), ValueError, "y must be a list of labels"),
    (lambda: symmetric_noise([0, np.nan], 0.1), ValueError, "y must be a list of labels"),
    (lambda: symmetric_noise(["a", None], 0.1), ValueError, "y must be a list of labels"),
    (lambda: symmetric_noise([["a", "b"]] * 2, 0.1), ValueError, "1d array"),
    (lambda: symmetric_noise(Y, 0.1, classes=["a", "b"]), ValueError, "row 2 has 'c'"),
    (lambda: symmetric_noise(Y, 0.1, random_state="x"), ValueError, "seed"),
    (lambda: matrix_noise(Y, np.eye(2)), ValueError, r"each class.*got shape \(2, 2\)"),
    (lambda: matrix_noise(Y, [0.5, 0.2, 0.3]), ValueError, "transition must have rows"),
    (lambda: matrix_noise(Y, 0.9 * np.eye(3)), ValueError, "sum to 1 in every row; row 0"),
    (lambda: matrix_noise(Y, np.eye(3) * [1, np.nan, 1]), ValueError, "transition must have prob"),
    (lambda: matrix_noise(Y, np.roll(np.eye(3), 1) * 2 - np.eye(3)), ValueError, "transition"),
    (lambda: matrix_noise(Y, "abc"), ValueError, "transition must have numbers"),
    (lambda: symmetric_transition(1, 0.1), ValueError, "n_classes must be an integer of at least"),
    (lambda: pair_flip_transition(2.0, 0.1), TypeError, "n_classes must be"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
