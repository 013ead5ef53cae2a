"""Tests of the study of methods under wrong labels."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.datasets import load_iris, make_classification
from sklearn.linear_model import LogisticRegression

pytest.importorskip("pandas")
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import pandas as pd
import practice
from noise import judged
from noise_study import methods, record, report, tables

from mgce_sklearn.label_noise import (
    matrix_noise,
    pair_flip_transition,
    symmetric_transition,
)


def row(setting, valid_accuracy, **numbers):
    """Return a line of the record."""
    blank = dict.fromkeys(
        ("valid_brier", "accuracy", "brier", "ece", "worst_recall", "brier_t", "ece_t", "brier_n",
         "ece_n", "seconds"), 0.5
    )  # fmt: skip
    values = {"n_valid": 400, "valid_accuracy": valid_accuracy, **blank, **numbers}
    return record.Row(0, "iris", "clean", "ours", setting, **values)


def test_largest_q_within_one_standard_error():
    # One standard error of .5 among 400 rows is .025.
    rows = [row("q=0.5 lam=1", 0.5), row("q=1 lam=1", 0.474), row("q=0.75 lam=1", 0.476)]
    assert record.chosen(rows).setting == "q=0.75 lam=1"
    assert record.best(rows).setting == "q=0.5 lam=1"


def test_of_one_q_the_best_is_chosen():
    rows = [row("q=0 lam=1", 0.49), row("q=0 lam=3", 0.5)]
    assert record.chosen(rows).setting == "q=0 lam=3"
    assert record.chosen([row("C=1", 0.5), row("C=3", 0.5)]).setting == "C=1"


def test_record_is_read_as_it_was_written(tmp_path):
    written = record.Record(tmp_path / "a" / "study.csv")
    rows = [row("q=1 lam=1", 0.25, upper=0.125), row("q=1 lam=3", 0.75)]
    written.add(rows)
    (read,) = record.Record(written.path).rows.values()
    assert read[0] == row("q=1 lam=1", 0.25, upper=0.125, lower=read[0].lower)
    assert np.isnan([read[0].lower, read[1].lower, read[1].upper]).all()


def test_runner_up_noise_has_its_rate_and_flips_where_the_forest_doubts():
    X, y = make_classification(
        1500, n_informative=4, n_classes=3, class_sep=1.5, flip_y=0.0, random_state=0
    )
    given = tables.runner_up_noise(X, y, 0.3, seed=0)
    wrong = given != y
    assert abs(wrong.mean() - 0.3) < 0.04  # 3.4 standard errors
    right = LogisticRegression().fit(X, y).predict_proba(X)[np.arange(len(y)), y]
    assert right[wrong].mean() < right[~wrong].mean() - 0.1


def test_runner_up_noise_has_its_rate_also_where_hardly_a_row_is_in_doubt():
    X = np.repeat([[0.0], [1.0]], 500, axis=0)
    y = np.repeat([0, 1], 500)
    assert abs((tables.runner_up_noise(X, y, 0.3, seed=0) != y).mean() - 0.3) < 0.05


def test_observed_transition_counts():
    found = tables.observed_transition(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2)
    np.testing.assert_array_equal(found, [[0.5, 0.5], [0.0, 1.0]])


def test_rare_classes_are_left_out():
    y = np.repeat(["a", "b", "c"], [300, 297, 3])
    X = np.arange(600.0)[:, np.newaxis]
    found = tables.split(X, y, np.array([False]), "clean", seed=0)
    assert found.n_classes == 2
    assert max(part.max() for part in found.columns) < 597.0


def test_codes_become_indicators_for_linear_models_alone():
    X = np.column_stack([np.arange(300) % 3, np.random.default_rng(0).normal(size=300)])
    y = np.arange(300) % 2
    found = tables.split(X, y, np.array([True, False]), "symmetric .2", seed=0)
    assert found.columns[0].shape[1] == 2
    assert found.X[0].shape[1] == 4
    assert len(found.y[0]) + len(found.y[1]) == 200
    np.testing.assert_array_equal(found.transition, [[0.8, 0.2], [0.2, 0.8]])


def test_forward_correction_without_noise_is_logistic_regression():
    X, y = load_iris(return_X_y=True)
    W = methods.forward_corrected(X - X.mean(axis=0), y, np.eye(3), 0.1)
    theirs = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(X - X.mean(axis=0), y)
    np.testing.assert_allclose(W[:-1].T, theirs.coef_, atol=2e-3)


def test_forward_correction_minimizes_the_likelihood_of_observed_labels():
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0))[:, :2]
    transition = pair_flip_transition(3, 0.3)  # rows and columns differ

    def loss(flat):
        W = flat.reshape(3, 3)
        proba = methods.softmax_of(X @ W[:-1] + W[-1]) @ transition
        return -np.log(proba[np.arange(len(y)), y]).sum() + 0.5 * np.square(W[:-1]).sum()

    W = methods.forward_corrected(X, y, transition, 1.0)
    slopes = approx_fprime(W.ravel(), loss, 1e-6)
    assert abs(slopes).max() < 0.02 * abs(approx_fprime(np.zeros(9), loss, 1e-6)).max()


def test_a_table_of_a_file(tmp_path):
    path = tmp_path / "mine.csv"
    rows = ["1,x,yes", ",y,no", "3.5,,no", "4,x,yes", "9,x,"] * 10
    path.write_text("\n".join(["a,word,label", *rows]))
    X, y, codes = tables.from_csv(path, "label")
    assert y.tolist() == ["yes", "no", "no", "yes"] * 10
    # In units of its own; the gap is the median of 1, 3.5 and 4.
    assert (X[:4, 0] / X[0, 0]).tolist() == [1.0, 3.5, 3.5, 4.0]
    assert len(set(X[:, 1])) == 3
    assert X[:4, 2].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert codes.tolist() == [False, True, False]
    for target, message in (("target", "has no column 'target'"), (None, "needs the name")):
        with pytest.raises(SystemExit, match=message):
            tables.from_csv(path, target)
    with pytest.raises(SystemExit, match=r"nothing\.csv"):
        tables.from_csv(tmp_path / "nothing.csv", "label")


def test_ranks_and_their_critical_difference():
    """Of five methods on 30 sets the quantile is 2.728 (Demsar 2006, table 5)."""
    frame = pd.DataFrame(
        [
            {"data": i, "method": f"m{k}", "accuracy": k / 10, "brier": k / 10}
            for i in range(30)
            for k in range(5)
        ]
    )
    by_accuracy, difference, n_sets = report.ranks(frame, "accuracy")
    assert (by_accuracy["m4"], by_accuracy["m0"], n_sets) == (1.0, 5.0, 30)
    assert report.ranks(frame, "brier")[0]["m0"] == 1.0
    assert difference == pytest.approx(2.728 * np.sqrt(5 * 6 / (6 * 30)), abs=1e-3)


def test_cells_without_one_of_the_methods_are_left_out():
    cells = {"seed": 0, "labels": "clean"}
    lines = [("a", "x"), ("a", "y"), ("b", "x")]
    frame = pd.DataFrame([{**cells, "data": data, "method": name} for data, name in lines])
    assert report.complete(frame, ["x", "y"])["data"].tolist() == ["a", "a"]


def test_outcomes_are_summed_up():
    outcomes = [practice.Outcome(0.2, 0.1, 0.3), practice.Outcome(0.4, 0.1, 0.3)]
    assert practice.summary(outcomes) == "0.300 in 0.100-0.300; 1 of 2"
    empty = practice.Outcome(np.nan, np.nan, np.nan)
    assert practice.summary([*outcomes, empty]).endswith("1 of 2, 1 empty")
    assert practice.summary([empty]) == "empty in 1"


def test_what_is_judged():
    """Margins that are right in two rows of three; one class is never recalled."""
    margins = np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    y = np.array([0, 0, 1])
    rows = tables.Table((), (), (y, y, y), np.array([[0.6, 0.4], [0.4, 0.6]]))
    found = judged(methods.Fitted((margins, margins), methods.softmax_of), rows)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["worst_recall"] == 0.0
    assert found["brier"] == pytest.approx(2 * (0.01 + 0.04 + 0.49) / 3)


def test_a_class_that_a_model_has_not_seen_is_last():
    margins = np.array([[1.0, 3.0], [5.0, 2.0]])
    found = methods.placed(margins, np.array([0, 2]), 3)
    np.testing.assert_array_equal(found[:, [0, 2]], margins)
    assert (found[:, 1] < margins.min(axis=1)).all()


def test_temperatures_are_those_of_wrong_labels_and_of_right_ones():
    """Margins are three times as large as labels deserve, whose wrong copies choose."""
    rng = np.random.default_rng(0)
    margins = rng.normal(scale=2.0, size=(4000, 3))
    y = np.array([rng.choice(3, p=p) for p in methods.softmax_of(margins)])
    transition = symmetric_transition(3, 0.3)
    noisy = matrix_noise(y, transition, random_state=0)
    rows = tables.Table((), (), (y, noisy, y), transition)
    found = judged(methods.Fitted((3.0 * margins, 3.0 * margins), methods.softmax_of), rows)
    best = np.square(methods.softmax_of(margins) - np.eye(3)[y]).sum(axis=1).mean()
    assert found["brier_n"] == pytest.approx(best, abs=0.002)
    # Wrong labels alone ask for margins that are less sure than right ones deserve.
    assert found["brier_t"] > best + 0.02
    assert found["brier"] > best + 0.02
