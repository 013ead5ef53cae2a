"""Calibration errors: against slow loops, known answers, and what must not change them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score

from mgce_sklearn.metrics import (
    Reliability,
    equal_mass_bins,
    equal_width_bins,
    expected_calibration_error,
    static_calibration_error,
)

METRICS = [expected_calibration_error, static_calibration_error]
STRATEGIES = ["uniform", "quantile"]


def slow_bin(value, values, weights, n_bins, strategy):
    """Find the bin of one value by its definition, in exact arithmetic."""
    if strategy == "uniform":
        return next(b for b in range(n_bins) if value <= (b + 1) / n_bins)
    below = sum(Fraction(w) for v, w in zip(values, weights, strict=True) if v < value)
    here = sum(Fraction(w) for v, w in zip(values, weights, strict=True) if v == value)
    total = sum(Fraction(w) for w in weights)
    return min(int(n_bins * (below + here / 2) / total), n_bins - 1)


def slow_error(confidence, event, weights, n_bins, strategy):
    """Sum over bins of |sum of w (confidence - event)| / sum of w."""
    bins = [slow_bin(value, confidence, weights, n_bins, strategy) for value in confidence]
    error = 0.0
    for b in range(n_bins):
        rows = [i for i in range(len(bins)) if bins[i] == b]
        error += abs(sum(weights[i] * (confidence[i] - event[i]) for i in rows))
    return error / sum(weights)


def slow_metric(metric, codes, proba, weights, n_bins, strategy):
    if metric is expected_calibration_error:
        right = [float(row.argmax() == code) for row, code in zip(proba, codes, strict=True)]
        return slow_error(proba.max(axis=1), right, weights, n_bins, strategy)
    n_classes = proba.shape[1]
    return (
        sum(
            slow_error(proba[:, k], (codes == k).astype(float), weights, n_bins, strategy)
            for k in range(n_classes)
        )
        / n_classes
    )


def random_rows(n, n_classes, seed, step=None):
    """Return codes, probabilities and weights; a step makes many probabilities equal."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(n_classes, 0.5), n)
    if step:
        counts = np.array([rng.multinomial(step, row) for row in proba])
        proba = counts / step
    return rng.integers(0, n_classes, n), proba, rng.integers(0, 4, n) / 2


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n_bins", [1, 7, 15])
@pytest.mark.parametrize(("n_classes", "step"), [(2, None), (5, None), (2, 8), (4, 5)])
def test_equals_the_definition_written_as_loops(metric, strategy, n_bins, n_classes, step):
    codes, proba, weights = random_rows(120, n_classes, seed=n_bins, step=step)
    for sample_weight in (None, weights):
        each = np.ones(120) if sample_weight is None else weights
        found = metric(codes, proba, n_bins=n_bins, strategy=strategy, sample_weight=sample_weight)
        expected = slow_metric(metric, codes, proba, each.tolist(), n_bins, strategy)
        assert found == pytest.approx(expected, abs=1e-12)


def test_bins_are_closed_on_the_right():
    values = np.array([0.0, 0.25, 0.2500001, 0.5, 0.75, 0.7500001, 1.0])
    np.testing.assert_array_equal(equal_width_bins(values, 4), [0, 0, 1, 1, 2, 3, 3])
    assert set(equal_width_bins(values, 1)) == {0}


@pytest.mark.parametrize("n_bins", [1, 2, 5, 10])
def test_bins_of_equal_mass_without_ties_have_as_many_rows(n_bins):
    values = np.random.default_rng(0).permutation(20) / 20
    bins = equal_mass_bins(values, np.ones(20), n_bins)
    np.testing.assert_array_equal(np.bincount(bins), 20 // n_bins)
    np.testing.assert_array_equal(bins[np.argsort(values)], np.arange(20) * n_bins // 20)


def test_equal_values_stay_together_where_their_middle_lies():
    values = np.array([0.9, 0.1, 0.9, 0.9, 0.2, 0.9, 0.3, 1.0])
    bins = equal_mass_bins(values, np.ones(8), 4)
    np.testing.assert_array_equal(bins, [2, 0, 2, 2, 0, 2, 1, 3])


def test_rounding_of_weights_does_not_move_a_border():
    values = np.arange(3.0)
    for weight in (0.1, 0.7, 1.0, 1e-12, 3e7):
        np.testing.assert_array_equal(equal_mass_bins(values, np.full(3, weight), 2), [0, 1, 1])


def test_known_answers():
    proba = np.array([[0.7, 0.2, 0.1]] * 10)
    codes = np.array([0] * 5 + [1] * 5)
    assert expected_calibration_error(codes, proba, labels=[0, 1, 2]) == pytest.approx(0.2)
    # |.7 - .5|, |.2 - .5| and |.1 - 0|
    assert static_calibration_error(codes, proba, labels=[0, 1, 2]) == pytest.approx(0.6 / 3)
    sure = np.eye(3)[[0, 1, 2, 0]]
    for metric in METRICS:
        assert metric([0, 1, 2, 0], sure) == 0.0
    assert expected_calibration_error([1, 2, 0, 1], sure) == 1.0
    # bins average before the distance is taken: .6 and .6, half right
    even = np.array([[0.5, 0.5]] * 4)
    assert expected_calibration_error([0, 1, 0, 1], even) == 0.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("step", [None, 6])
def test_order_repetition_and_scale_of_weights_do_not_matter(metric, strategy, step):
    codes, proba, _ = random_rows(90, 3, seed=1, step=step)
    weights = np.arange(90) % 3
    found = metric(codes, proba, strategy=strategy, sample_weight=weights)
    order = np.random.default_rng(2).permutation(90)
    shuffled = metric(codes[order], proba[order], strategy=strategy, sample_weight=weights[order])
    rows = np.repeat(np.arange(90), weights)
    repeated = metric(codes[rows], proba[rows], strategy=strategy)
    scaled = metric(codes, proba, strategy=strategy, sample_weight=0.1 * weights)
    np.testing.assert_allclose([shuffled, repeated, scaled], found, rtol=1e-12)
    assert metric(codes, proba, strategy=strategy) != pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "names",
    [
        ["b", "c", "d"],
        np.array(["b", "c", "d"], dtype=object),
        [-1, 5, 7],
        [0.0, 1.0, 2.0],
        np.array([1, 2, 200], dtype=np.uint8),
    ],
)
def test_labels_of_any_dtype(metric, names):
    codes, proba, _ = random_rows(60, 3, seed=3)
    names = np.asarray(names)
    assert metric(names[codes], proba) == metric(codes, proba)
    present = codes < 2
    partial = metric(names[codes[present]], proba[present], labels=names[::-1])
    assert partial == metric(codes[present], proba[present], labels=[0, 1, 2])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_vector_is_the_second_of_two_classes(metric, strategy):
    codes, proba, weights = random_rows(60, 2, seed=4)
    for y in (codes, codes == 1, np.array(["no", "yes"])[codes]):
        vector = metric(y, proba[:, 1], strategy=strategy, sample_weight=weights)
        both = metric(codes, proba, strategy=strategy, sample_weight=weights)
        assert vector == pytest.approx(both, rel=1e-12)


def test_half_precision_probabilities_count_as_such():
    codes, proba, _ = random_rows(200, 50, seed=5)
    codes[:50] = np.arange(50)
    half = expected_calibration_error(codes, proba.astype(np.float16))
    assert half == pytest.approx(expected_calibration_error(codes, proba), abs=0.02)


def as_bfloat16(proba):
    """Round to 8 bits, half to even, as numbers of bfloat16 are."""
    fraction, exponent = np.frexp(proba)
    return np.ldexp(np.round(fraction * 256) / 256, exponent)


@pytest.mark.parametrize("metric", METRICS)
def test_bfloat16_probabilities_count_as_such(metric):
    codes, proba, _ = random_rows(200, 50, seed=5)
    codes[:50] = np.arange(50)
    rounded = as_bfloat16(proba)
    off = abs(rounded.sum(axis=1) - 1.0)
    assert 1e-3 < off.max() < 2**-8
    found = metric(codes, rounded)
    assert found == pytest.approx(metric(codes, proba), abs=0.03)
    assert metric(codes, rounded.astype(np.float32)) == found
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(rounded).bfloat16()
    np.testing.assert_array_equal(tensor.double().numpy(), rounded)
    assert metric(codes, tensor) == found
    # As far from 1 in numbers of more bits, rounding is no excuse.
    rounded[off.argmax()] += 1e-9
    with pytest.raises(ValueError, match=f"sum to 1 in every row; row {off.argmax()} has"):
        metric(codes, rounded)
    with pytest.raises(ValueError, match="sum to 1 in every row; row 0 has"):
        metric([0, 1], [[0.5, 0.515625], [0.5, 0.5]])  # of 8 bits, and 2**-6 too much


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
def test_as_a_scorer(metric, load):
    X, y = load(return_X_y=True)
    y = np.array(["a", "b", "c"])[y]
    scorer = make_scorer(metric, response_method="predict_proba", greater_is_better=False)
    model = LogisticRegression(max_iter=10_000).fit(X, y)
    assert scorer(model, X, y) == -metric(y, model.predict_proba(X))
    scores = cross_val_score(model, X, y, cv=3, scoring=scorer)
    assert ((scores > -1.0) & (scores < 0.0)).all()
    search = GridSearchCV(model, {"C": [1e-4, 1.0]}, cv=3, scoring=scorer).fit(X, y)
    assert search.best_params_ == {"C": 1.0}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("total", [2e-300, 9e307])
def test_weights_whose_sum_floats_just_hold(metric, strategy, total):
    codes, proba, _ = random_rows(300, 3, seed=0)
    options = {"strategy": strategy, "labels": [0, 1, 2]}
    expected = metric(codes, proba, **options)
    weights = np.full(300, total / 300)
    assert metric(codes, proba, sample_weight=weights, **options) == pytest.approx(expected)


def test_the_diagram_and_its_error():
    confidence = np.array([0.55, 0.56, 0.95, 1.0])
    correct = np.array([True, False, True, False])
    found = Reliability.measure(confidence, correct)
    np.testing.assert_allclose(found.confidence, [0.555, 0.975])
    np.testing.assert_allclose(found.accuracy, [0.5, 0.5])
    np.testing.assert_allclose(found.share, [0.5, 0.5])
    assert found.error == pytest.approx((0.055 + 0.475) / 2)


GOOD = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1]])


def spoilt(value):
    proba = GOOD.copy()
    proba[1, 2] = value
    return proba


BAD = [
    (([0, 1, 2], spoilt(np.nan)), {}, ValueError, "y_proba must have probabilities.*row 1 has"),
    (([0, 1, 2], spoilt(np.inf)), {}, ValueError, "y_proba must have probabilities"),
    (([0, 1, 2], spoilt(-0.2)), {}, ValueError, r"in \[0, 1\] that sum to 1"),
    (([0, 1, 2], spoilt(0.7)), {}, ValueError, "sum to 1"),
    (([0, 1], [0.5, 1.5]), {}, ValueError, r"in \[0, 1\]"),
    (([0, 1, 2], [["a"] * 3] * 3), {}, ValueError, "y_proba must have numbers only"),
    (([], np.empty((0, 3))), {}, ValueError, "y_proba must have rows"),
    (([0, 1, 2], np.ones((3, 1))), {}, ValueError, "at least 2 classes"),
    (([0, 1, 2], 0.5), {}, ValueError, "y_proba must have rows"),
    (([0, 1], GOOD), {}, ValueError, "a label for each row of y_proba, 3; got 2"),
    (([0, 1, 1], GOOD), {}, ValueError, "column for each class.*give all of them as labels"),
    (([0, 1, 2], GOOD), {"labels": [0, 1, 2, 3]}, ValueError, r"\[0, 1, 2, 3\]; got 3"),
    (([0, 1, 9], GOOD), {"labels": [0, 1, 2]}, ValueError, "row 2 has 9"),
    (([0, 1, None], GOOD), {}, ValueError, "y_true must be a list of labels of one type"),
    (([0, 1, np.nan], GOOD), {}, ValueError, "y_true must be a list of labels"),
    ((["a", "b", None], GOOD), {}, ValueError, r"\(Row 2 has None: drop such rows"),
    (([0.5, 1, 2], GOOD), {}, ValueError, r"got \[0.5, 1, 2\]. \(Unknown label type"),
    ((np.array([0, "b"] * 9, dtype=object), GOOD), {}, ValueError, r"got \[0, 'b'.* 'b', ...\]"),
    (([0, 1, 2], GOOD), {"labels": [0, "a"]}, ValueError, "labels|row 0"),
    ((np.eye(3, dtype=int), GOOD), {}, ValueError, "1d array"),
    (([0, 1, 2], GOOD), {"n_bins": 0}, ValueError, "n_bins must be a positive integer"),
    (([0, 1, 2], GOOD), {"n_bins": 2.5}, TypeError, "n_bins must be"),
    (([0, 1, 2], GOOD), {"strategy": "equal"}, ValueError, "one of 'uniform', 'quantile'"),
    (([0, 1, 2], GOOD), {"strategy": None}, TypeError, "strategy must be"),
    (([0, 1, 2], GOOD), {"sample_weight": [1, 1, -1]}, ValueError, "non-negative; row 2"),
    (([0, 1, 2], GOOD), {"sample_weight": [1, 1]}, ValueError, "one weight per row"),
    (([0, 1, 2], GOOD), {"sample_weight": ["x"] * 3}, ValueError, "weight must have numbers"),
    (([0, 1, 2], GOOD), {"sample_weight": [0, 0, 0]}, ValueError, "zero for every row"),
    (([0, 1, 2], GOOD), {"sample_weight": [1e308] * 3}, ValueError, "a sum from 1e-300 to 1e308"),
    (([0, 1, 2], GOOD), {"sample_weight": [4e307] * 3}, ValueError, "a sum from 1e-300 to 1e308"),
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("arguments", "options", "error", "message"), BAD)
def test_bad_input(metric, arguments, options, error, message):
    with pytest.raises(error, match=message):
        metric(*arguments, **options)
