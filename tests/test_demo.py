"""The demonstration: what it prints is true and can be read, and mistakes cost one sentence."""

import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from command_line import check_one_sentence
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifierCV
from mgce_sklearn.__main__ import main
from mgce_sklearn.demo import study
from mgce_sklearn.demo.sample import Sample, breast_cancer, digits

pytest.importorskip("matplotlib")


@pytest.fixture
def small_searches(monkeypatch):
    monkeypatch.setattr(study, "QS", (0.0, 0.5))
    monkeypatch.setattr(study, "LAMS", (0.1, 0.3, 1.0))


def check_numbers(output: str, n_sections: int) -> None:
    """Read the numbers back from the text."""
    brackets = re.findall(r"(\S+) = dual value <= optimum <= minimax_risk_ = (\S+)", output)
    assert len(brackets) == n_sections
    for dual_value, risk in brackets:
        assert 0.0 < float(dual_value) <= float(risk) < 3.0
        assert float(dual_value) == pytest.approx(float(risk), rel=2e-4)
    bounds = re.findall(r"set: (\S+) <= error of the (\w+) rule <= (\S+) \(", output)
    assert [rule for _, rule, _ in bounds] == ["deterministic", "randomized"] * n_sections
    assert all(0.0 <= float(lower) < float(upper) < 1.0 for lower, _, upper in bounds)
    risks = [float(risk) for _, risk in brackets]
    assert all(
        float(upper) <= risk + 1e-3 for (*_, upper), risk in zip(bounds[1::2], risks, strict=True)
    )
    scores = re.findall(r"(?:default|searched) +(\S+) +(\S+) +(\S+) +(\S+)$", output, re.M)
    assert len(scores) == 2 * n_sections + 1
    accuracy, brier, calibration_error, seconds = np.array(scores, dtype=float).T
    assert np.all((accuracy > 0.8) & (accuracy <= 1.0))
    assert np.all((brier >= 0.0) & (brier < 0.5))
    assert np.all((calibration_error >= 0.0) & (calibration_error < 0.5))
    assert np.all(seconds >= 0.0)
    drawn, predicted = re.findall(r"held out: (\S+) of labels .* wrong, (\S+) of those", output)[-1]
    assert float(predicted) == pytest.approx(1.0 - accuracy[-1], abs=1.1e-3)
    assert float(predicted) <= float(drawn) <= 1.0


def check_png(path) -> None:
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("small_searches")
def test_embedded_data(tmp_path, capsys):
    figure = tmp_path / "figure.png"
    assert main(["--figure", str(figure)]) == 0
    output = capsys.readouterr().out
    check_numbers(output, n_sections=3)
    assert "digits, 20% of the training labels wrong" in output
    check_png(figure)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("missing/figure.png", "folder"), ("figure.xyz", ".png"), ("figure", ".png"), ("", ".png")],
)
def test_mistakes_in_the_figure(name, sentence, tmp_path, capsys):
    assert main(["--figure", str(tmp_path / name)]) == 2
    assert check_one_sentence(capsys, sentence) == ""


def test_a_folder_named_like_a_figure(tmp_path, capsys):
    (tmp_path / "folder.png").mkdir()
    assert main(["--figure", str(tmp_path / "folder.png")]) == 2
    assert check_one_sentence(capsys, "cannot write") == ""


def test_a_package_that_is_not_installed(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([]) == 2
    assert check_one_sentence(capsys, "pip install 'mgce_sklearn[plot]'") == ""


def test_help_in_a_new_process():
    command = [sys.executable, "-m", "mgce_sklearn", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "usage: python -m mgce_sklearn" in done.stdout
    words = " ".join(done.stdout.split())
    assert "An empty cell is missing. In a column of numbers so are ?, -, ., na, n/a" in words
    assert not done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_seen_enough(unbuffered, tmp_path):
    """As in ``| head -1``: no traceback, wherever the pipe breaks."""
    command = [sys.executable, "-m", "mgce_sklearn"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(
        [*command, "--figure", tmp_path / "figure.png"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.usefixtures("small_searches")
def test_search_is_a_table_of_q_by_lam():
    sample = breast_cancer().with_wrong_labels(0.3)
    search = study.search_q_and_lam(sample)
    alone = MGCEClassifierCV([0.0], [1.0], cv=study.N_FOLDS, feature_map=StandardScaler())
    alone.fit(sample.X_train, sample.y_train)
    assert search.accuracy.shape == (2, 3)
    assert search.accuracy[0, 2] == pytest.approx(alone.best_score_)
    assert len(set(search.accuracy.ravel())) > 4  # no other place would do
    best = search.qs.index(search.q), search.lams.index(search.lam)
    assert search.accuracy[best] == search.accuracy.max()


class Fixed(LogisticRegression):
    """Gives every row the same probabilities."""

    def predict_proba(self, X):
        return np.tile([0.7, 0.2, 0.1], (len(X), 1))


def test_scores_of_known_probabilities():
    X = np.arange(12.0)[:, np.newaxis]
    y = np.array(["a", "b", "c"] * 4)
    sample = Sample("known", StandardScaler(), X, X[:4], y, np.array(["a", "a", "b", "d"]))
    scores = study.assess("default", Fixed(), sample)
    assert scores.accuracy == 0.5
    # squared distance from a: .09 + .04 + .01; from b: .49 + .64 + .01; from none: .54
    assert scores.brier == pytest.approx((2 * 0.14 + 1.14 + 0.54) / 4)
    assert scores.drawn_error == pytest.approx(1.0 - (0.7 + 0.7 + 0.2) / 4)
    assert scores.calibration.error == pytest.approx(0.2)


def test_wrong_labels_are_wrong_and_only_in_training():
    clean = digits()
    noisy = clean.with_wrong_labels(0.2)
    wrong = np.mean(noisy.y_train != clean.y_train)
    assert wrong == pytest.approx(0.2, abs=1e-3)
    assert set(noisy.y_train) == set(clean.y_train)
    np.testing.assert_array_equal(noisy.y_test, clean.y_test)


def test_warnings_become_notes(capsys):
    with study.warnings_as_notes():
        warnings.warn("first", ConvergenceWarning, stacklevel=1)
        warnings.warn("second", ConvergenceWarning, stacklevel=1)
        warnings.warn("alone", UserWarning, stacklevel=1)
    assert capsys.readouterr().out == "note: first (and 1 more such)\nnote: alone\n"
