"""Label noise: frequencies within five standard deviations, dtypes, seeds, estimates, votes."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict

from mgce_sklearn import validation
from mgce_sklearn.label_noise import (
    estimated_transition,
    matrix_noise,
    pair_flip_noise,
    pair_flip_transition,
    symmetric_noise,
    symmetric_rate,
    symmetric_transition,
    votes,
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
    """Neighbors change independently: pairs of changes are as frequent as rate squared."""
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


MATRIX = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]])


def test_noise_matrices_are_read():
    for read in (MATRIX, MATRIX.tolist(), MATRIX.astype(np.float32)):
        found = validation.check_noise_matrix(read, 3)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, MATRIX, atol=1e-7)
        np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-15)
    for rate in (0, 0.2, np.float32(0.25), 0.9):
        expected = symmetric_transition(3, float(rate))
        np.testing.assert_array_equal(validation.check_noise_matrix(rate, 3), expected)
    rounded = np.full((3, 3), 0.333) + np.diag([0.001, 0.0, 0.0])
    rounded[1] = [0.5, 0.3, 0.1999]
    np.testing.assert_allclose(validation.check_noise_matrix(rounded, 3).sum(axis=1), 1.0)


@pytest.mark.parametrize(
    ("noise_matrix", "error", "message"),
    [
        (-0.1, ValueError, r"noise_matrix must be a rate in \[0, 1\).*got -0.1"),
        (1, ValueError, "must be a rate.*got 1"),
        (np.nan, ValueError, "must be a rate.*got nan"),
        (False, TypeError, "must be a rate.*of type bool"),
        (3j, TypeError, "must be a rate.*of type complex"),
        ("0.2", ValueError, "must be a rate.*got '0.2'"),
        ([0.5, 0.5], ValueError, r"must have rows.*got shape \(2,\)"),
        (np.eye(2), ValueError, r"shape \(3, 3\); got shape \(2, 2\)"),
        (MATRIX[:2], ValueError, r"shape \(3, 3\); got shape \(2, 3\)"),
        (MATRIX.T, ValueError, r"sum to 1 in every row; row 1 has \[0.2, 1.0, 0.3\]"),
        (MATRIX * [1, np.nan, 1], ValueError, "sum to 1 in every row; row 0"),
        ([[1.1, -0.1, 0], [0, 1, 0], [0, 0, 1]], ValueError, r"in \[0, 1\].*row 0 has \[1.1, -0.1"),
        ([["a"] * 3] * 3, ValueError, "noise_matrix must have numbers only"),
        (2 / 3, ValueError, "rows that differ; got 0.666"),
        (np.full((3, 3), 1 / 3), ValueError, "rows that differ"),
    ],
)
def test_noise_matrices_that_are_none(noise_matrix, error, message):
    with pytest.raises(error, match=message):
        validation.check_noise_matrix(noise_matrix, 3)


def test_inverses():
    found = validation.check_invertible(MATRIX)
    np.testing.assert_allclose(found @ MATRIX, np.eye(3), atol=1e-14)
    # For two classes and rate r the condition number is 1 / |1 - 2 r|.
    close = validation.check_noise_matrix(0.5 - 0.51e-6, 2)
    assert validation.check_invertible(close).max() > 4e5
    for far in (symmetric_transition(2, 0.5 - 0.49e-6), symmetric_transition(2, 0.5)):
        with pytest.raises(ValueError, match=r"1e\+06; got .*Classes with nearly equal rows"):
            validation.check_invertible(far)
    twins = np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    validation.check_noise_matrix(twins, 3)  # enough for what needs no inverse
    with pytest.raises(ValueError, match="noise_matrix must have an accurate inverse"):
        validation.check_invertible(twins)


def drawn(n, n_classes, scale=3.0, seed=0):
    """Return probabilities, and true labels drawn from them."""
    rng = np.random.default_rng(seed)
    proba = softmax(rng.normal(scale=scale, size=(n, n_classes)), axis=1)
    below = np.cumsum(proba, axis=1)[:, :-1]
    return proba, (rng.random((n, 1)) > below).sum(axis=1)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
def test_the_rate_of_symmetric_noise_is_found(n_classes, rate):
    proba, y = drawn(10_000, n_classes)
    noisy = symmetric_noise(y, rate, random_state=0)
    found = symmetric_rate(proba, noisy)
    assert found == pytest.approx(rate, abs=0.025)
    # Any power of the probabilities will do, within the temperatures compared.
    for power in (0.3, 3.0):
        other = proba**power / (proba**power).sum(axis=1, keepdims=True)
        assert symmetric_rate(other, noisy) == pytest.approx(found, abs=1e-4)


@pytest.mark.filterwarnings("ignore:Labels do not tell the rate")  # that of 300 rows
def test_the_rate_has_the_largest_likelihood():
    proba, y = drawn(300, 4, scale=2.0, seed=5)
    proba[:9] = np.eye(4)[np.arange(9) % 4]  # labels may have probability 0
    noisy = symmetric_noise(y, 0.3, random_state=1)

    def least_loss(rate):
        losses = []
        for temperature in np.geomspace(1 / 50, 20, 3000):
            p = proba ** (1 / temperature)
            p = (p / p.sum(axis=1, keepdims=True))[np.arange(300), noisy]
            losses.append(-np.log((1 - rate) * p + rate / 3 * (1 - p)).mean())
        return min(losses)

    rate = symmetric_rate(proba, noisy)
    assert 0.1 < rate < 0.5
    for other in (0.5 * rate, 0.99 * rate, 1.01 * rate, 0.5 * (rate + 0.75)):
        assert least_loss(rate) < least_loss(other)


def test_rates_at_the_ends():
    proba, y = drawn(500, 3)
    assert symmetric_rate(proba, proba.argmax(axis=1)) == 0.0
    assert symmetric_rate(np.eye(3)[y], y) == 0.0
    assert symmetric_rate(np.eye(3)[y], (y + 1) % 3) == pytest.approx(2 / 3, abs=1e-6)
    random = np.random.default_rng(0).permutation(y)
    assert symmetric_rate(proba, random) > 0.55


def test_a_forest_tells_how_often_labels_are_wrong():
    X, y = load_digits(return_X_y=True)
    names = np.array([f"digit {k}" for k in range(10)])[y]
    noisy = symmetric_noise(names, 0.3, random_state=0)
    forest = RandomForestClassifier(50, min_samples_leaf=3, random_state=0)
    proba = cross_val_predict(forest, X, noisy, cv=3, method="predict_proba")
    assert symmetric_rate(proba, noisy) == pytest.approx(np.mean(noisy != names), abs=0.03)


def test_a_rate_that_labels_do_not_tell_is_mentioned():
    """Margins that are all alike say as much of noise as of a high temperature."""
    y = np.arange(1000) % 2
    wrong = np.random.default_rng(0).random(1000) < 0.3
    proba = np.where((y ^ wrong)[:, np.newaxis] == [0, 1], 0.8, 0.2)
    with pytest.warns(UserWarning, match=r"determine the rate: rates from 0.00 to 0.2\d") as seen:
        symmetric_rate(proba, y)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        proba, y = drawn(1000, 2)
        assert symmetric_rate(proba, symmetric_noise(y, 0.2, random_state=0)) > 0.1


def test_rates_of_classes_that_y_lacks():
    proba, y = drawn(2000, 3, scale=1.0)
    kept = y < 2
    found = symmetric_rate(proba[kept], y[kept], classes=[0, 1, 2])
    names = np.array(["a", "b", "c"], dtype=object)
    assert symmetric_rate(proba[kept], names[y[kept]], classes=list("cab")) == found


@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_matrix_is_counted(n_classes):
    pytest.importorskip("cleanlab")
    y = np.arange(4000) % n_classes
    transition = np.random.default_rng(0).dirichlet(np.ones(n_classes), n_classes)
    transition = 0.4 * transition + 0.6 * np.eye(n_classes)
    noisy = matrix_noise(y, transition, random_state=0)
    proba = 0.9 * np.eye(n_classes)[y] + 0.1 / n_classes  # sure of every true class
    frequencies = [[np.mean(noisy[y == k] == j) for j in range(n_classes)]
                   for k in range(n_classes)]  # fmt: skip
    found = estimated_transition(proba, noisy)
    np.testing.assert_allclose(found, frequencies, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    names = np.array([f"class {k}" for k in range(n_classes)])
    np.testing.assert_array_equal(estimated_transition(proba, names[noisy]), found)


def test_a_class_that_no_row_counts_for():
    pytest.importorskip("cleanlab")
    proba, y = drawn(300, 3)
    with pytest.raises(ValueError, match="confidently in at least one row; class number 2"):
        estimated_transition(proba, np.minimum(y, 1), classes=[0, 1, 2])


def test_without_cleanlab(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setitem(sys.modules, "cleanlab.count", None)
    with pytest.raises(ImportError, match=r"needs cleanlab: pip install 'mgce_sklearn\[noise\]'"):
        estimated_transition(*drawn(300, 3))


@pytest.mark.parametrize("estimate", [symmetric_rate, estimated_transition])
@pytest.mark.parametrize(
    ("proba", "y", "message"),
    [
        (np.full((3, 2), 0.5), ["a", "b", "c"], r"each class, shape \(3, 3\); got shape \(3, 2\)"),
        (np.full((2, 2), 0.5), ["a", "b", "a"], r"shape \(3, 2\); got shape \(2, 2\)"),
        (np.full((3, 2), 0.6), ["a", "b", "a"], "proba must have probabilities"),
        (np.full((3, 2), np.nan), ["a", "b", "a"], "proba must have probabilities"),
        (np.full((3, 2), 0.5), ["a", None, "a"], "y must be a list of labels"),
        (np.full((3, 2), 0.5), ["a", "a", "a"], "at least 2 different labels"),
    ],
)
def test_bad_estimates(estimate, proba, y, message):
    with pytest.raises(ValueError, match=message):
        estimate(proba, y)


def answered(n=200, n_annotators=7, n_classes=4, seed=0):
    """Return codes (n, n_annotators) with gaps of -1, every row answered, and shares."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_classes, (n, n_annotators))
    gaps = rng.random(codes.shape) < 0.6
    gaps[np.arange(n), rng.integers(0, n_annotators, n)] = False
    shares = np.zeros((n, n_classes))
    for i in range(n):
        for k, gap in zip(codes[i], gaps[i], strict=True):
            shares[i, k] += not gap
    return np.where(gaps, -1, codes), shares / shares.sum(axis=1, keepdims=True)


NAMES = np.array(["zebra", "cat", "dog", "ant"], dtype=object)


@pytest.mark.parametrize("absent", [None, np.nan, -1, "?"])
@pytest.mark.parametrize("kind", ["integers", "floats", "words", "truths", "lists"])
def test_votes_are_shares_of_the_answers(absent, kind):
    codes, shares = answered(n_classes=2 if kind == "truths" else 4)
    labels = {"words": NAMES, "truths": np.array([False, True])}.get(kind, np.arange(4))
    table = np.where(codes < 0, absent, labels.astype(object)[codes])
    if kind == "integers" and absent == -1:
        table = table.astype(np.int16)
    if kind == "floats" and isinstance(absent, (int, float)):
        table = table.astype(np.float32)
    found = votes(table.tolist() if kind == "lists" else table, missing=absent)
    order = np.argsort(labels)
    np.testing.assert_allclose(found, shares[:, order], atol=1e-15)


def test_votes_for_classes_that_nobody_chose():
    codes, shares = answered()
    found = votes(np.where(codes < 0, -1, 2 * codes + 1), classes=range(9), missing=-1)
    np.testing.assert_allclose(found[:, 1:9:2], shares, atol=1e-15)
    assert not found[:, ::2].any()


def test_votes_in_frames_are_frames_with_classes():
    pd = pytest.importorskip("pandas")
    codes, shares = answered()
    index = np.arange(200)[::-1]
    words = pd.DataFrame(np.where(codes < 0, None, NAMES[codes]), index=index)
    found = votes(words)
    assert found.columns.tolist() == ["ant", "cat", "dog", "zebra"]
    assert found.index.tolist() == index.tolist()
    np.testing.assert_allclose(found, shares[:, np.argsort(NAMES)], atol=1e-15)
    numbers = pd.DataFrame(np.where(codes < 0, np.nan, 10 + codes))
    for frame in (numbers, numbers.astype("Int64"), numbers.astype("Int64").astype("category")):
        found = votes(frame)
        assert found.columns.tolist() == [10, 11, 12, 13]
        assert found.columns.dtype.kind == "i"
        np.testing.assert_allclose(found, shares, atol=1e-15)


@pytest.mark.parametrize(
    ("answers", "options", "message"),
    [
        ([0, 1], {}, r"two dimensions, a row for each sample.*got shape \(2,\)"),
        ([[0, 1], [None, None]], {}, "answers must have at least one in every row; row 1 has none"),
        ([[0, 1], [9, 9], [9, 0]], {"missing": 9}, "in every row; row 1 has none"),
        ([[0, 1], [1, "a"]], {}, "answers must be a list of labels of one type"),
        ([[0, 0.5]], {}, "answers must be a list of labels"),
        ([["a", None, "a"]], {}, r"classes must be at least 2 different labels; got \['a'\]"),
        ([["a", "b"], [None, "c"]], {"classes": ["a", "b"]}, "row 1, column 1 has 'c'"),
        (np.empty((0, 3)), {}, "at least 2 different labels"),
    ],
)
def test_bad_answers(answers, options, message):
    with pytest.raises(ValueError, match=message):
        votes(answers, **options)
