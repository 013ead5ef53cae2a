"""The demonstration: what it prints is true and can be read, and mistakes cost one sentence."""

import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.__main__ import main
from mgce_sklearn.demo import study, table
from mgce_sklearn.demo.sample import Sample, breast_cancer, digits

N_ROWS = 240


def flowers() -> pd.DataFrame:
    """Three classes told by two columns, among columns that need care."""
    random = np.random.default_rng(0)
    codes = np.arange(N_ROWS) % 3
    frame = pd.DataFrame(
        {
            "row": np.arange(N_ROWS) + 7,
            "height": random.normal(size=N_ROWS) + 2.0 * codes,
            "colour": np.array(["red", "green", "blue"])[codes],
            "site": "north",
            "note": [f"seen by {i}" for i in range(N_ROWS)],
            "wild": random.random(N_ROWS) < 0.5,
            "species": np.array(["daisy", "iris", "rose"])[codes],
        }
    )
    frame.loc[::6, "height"] = np.nan
    frame.loc[::8, "colour"] = None
    frame.loc[5, "height"] = np.inf
    frame.loc[:3, "species"] = None
    frame.loc[4:6, "species"] = "thistle"
    return frame


@pytest.fixture
def flowers_csv(tmp_path):
    path = tmp_path / "flowers.csv"
    flowers().to_csv(path, index=False)
    return path


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


@pytest.mark.usefixtures("small_searches")
def test_own_table(flowers_csv, tmp_path, capsys):
    figure = tmp_path / "figure.png"
    assert main([str(flowers_csv), "species", "--figure", str(figure)]) == 0
    output = capsys.readouterr().out
    check_numbers(output, n_sections=1)
    check_png(figure)
    for line in (
        "flowers.csv: 240 rows, 7 columns, target 'species'",
        "left out, constant: site",
        "left out, a number for each row: row",
        "left out, text that hardly repeats, such as names, dates or free text: note",
        "left out, 'species' is missing: 4 rows",
        "left out, classes of fewer than 10 rows: thistle (3)",
        "3 columns, 3 classes: daisy, iris, rose",
    ):
        assert line in output
    assert re.search(r"missing values.*: height \(41\), colour \(30\)$", output, re.M)


@pytest.mark.usefixtures("small_searches")
@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators(separator, tmp_path, capsys):
    path = tmp_path / "table.csv"
    flowers().to_csv(path, index=False, sep=separator, encoding="utf-8-sig")
    assert main([str(path), "species", "--figure", str(tmp_path / "figure.pdf")]) == 0
    assert "240 rows, 7 columns" in capsys.readouterr().out


def test_question_marks_and_spaces(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("size , colour\n1, red\n?, ?\n2,red\n")
    frame = table.read_csv(path)
    assert list(frame.columns) == ["size", "colour"]
    np.testing.assert_array_equal(frame["size"], [1.0, np.nan, 2.0])
    assert list(frame["colour"].dropna()) == ["red", "red"]


def test_columns_become_finite_standardised_numbers():
    features = table.usable_columns(flowers().drop(columns="species"))
    numbers = table.preprocessing(features).fit_transform(features)
    # height, height is missing; blue, green, red, colour is missing; wild False, True
    assert numbers.shape == (N_ROWS, 2 + 4 + 2)
    assert np.isfinite(numbers).all()
    np.testing.assert_allclose(numbers[:, :2].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(numbers[:, :2].std(axis=0), 1.0, rtol=1e-12)


def test_categories_not_seen_and_rare_ones_share_a_column():
    seen = pd.DataFrame({"town": ["a"] * 150 + ["b"] * 150 + ["c", "d"]})
    encoder = table.preprocessing(seen).fit(seen)
    new = pd.DataFrame({"town": ["c", "never seen"]})
    first, second = encoder.transform(new)
    np.testing.assert_array_equal(first, second)
    assert first.sum() == 1.0


def test_labels_keep_their_names():
    integers = pd.Series([0, 1, np.nan] * 10, name="y")
    np.testing.assert_array_equal(table.usable_labels(integers).unique(), [0, 1])
    assert table.usable_labels(integers).dtype.kind == "i"
    truths = pd.Series([True, False] * 10, name="y")
    np.testing.assert_array_equal(table.usable_labels(truths).unique(), ["True", "False"])


HEADER = "size,colour,kind\n"
ROWS = "".join(f"{i % 5},{'red' if i % 2 else 'blue'},{'ab'[i % 2]}\n" for i in range(40))

MISTAKES = {
    "no file": (None, "kind", "No such file"),
    "no target": (HEADER + ROWS, None, "columns are: size, colour, kind"),
    "no such column": (HEADER + ROWS, "Kind", "columns are: size, colour, kind"),
    "empty": ("", "kind", "is empty"),
    "blank": ("\n\n", "kind", "is empty"),
    "header alone": (HEADER, "kind", "no rows"),
    "ragged": (HEADER + ROWS + "1,2,3,4,5\n", "kind", "is not a table"),
    "not text": (b"\x89PNG\xff\xfe\x00", "kind", "UTF-8"),
    "one class": (HEADER + "1,red,a\n2,blue,a\n" * 20, "kind", "two classes"),
    "tiny": (HEADER + ROWS[:60], "kind", "two classes"),
    "a quantity": (
        "size,price\n" + "".join(f"{i % 5},{i * 1.5}\n" for i in range(40)),
        "price",
        "this is a classifier",
    ),
    "no column left": ("row,kind\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(40)), "kind",
                       "no column is left"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_the_table(name, tmp_path, capsys):
    content, target, sentence = MISTAKES[name]
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    figure = tmp_path / "figure.png"
    assert main([str(path), *([target] if target else []), "--figure", str(figure)]) == 2
    check_one_sentence(capsys, sentence)
    assert not figure.exists()


def test_a_folder_is_not_a_table(tmp_path, capsys):
    assert main([str(tmp_path), "kind"]) == 2
    check_one_sentence(capsys, "cannot read")


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


@pytest.mark.parametrize("package", ["pandas", "matplotlib.figure"])
def test_a_package_that_is_not_installed(package, flowers_csv, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert main([str(flowers_csv), "species"]) == 2
    check_one_sentence(capsys, "pip install 'mgce_sklearn[demo]'")


def check_one_sentence(capsys, expected: str) -> str:
    """Check what stderr says, and return what was printed before it."""
    printed = capsys.readouterr()
    assert printed.err.startswith("mgce_sklearn: ")
    assert printed.err.count("\n") == 1
    assert expected in printed.err
    return printed.out


def test_help_in_a_new_process():
    command = [sys.executable, "-m", "mgce_sklearn", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "usage: python -m mgce_sklearn" in done.stdout
    assert not done.stderr


@pytest.mark.usefixtures("small_searches")
def test_search_is_a_table_of_q_by_lam():
    sample = breast_cancer().with_wrong_labels(0.3)
    search = study.search_q_and_lam(sample)
    model = make_pipeline(StandardScaler(), MGCEClassifier(q=0.0, lam=1.0))
    folds = cross_val_score(model, sample.X_train, sample.y_train, cv=study.N_FOLDS)
    assert search.accuracy.shape == (2, 3)
    assert search.accuracy[0, 2] == pytest.approx(folds.mean())
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


def test_at_most_keeps_the_proportions():
    sample = digits()
    few = sample.at_most(200)
    assert len(few.y_train) == len(few.X_train) == 200
    shares = [np.bincount(y, minlength=10) / len(y) for y in (few.y_train, sample.y_train)]
    np.testing.assert_allclose(*shares, atol=1 / 200)
    assert sample.at_most(10_000) is sample


def test_warnings_become_notes(capsys):
    with study.warnings_as_notes():
        warnings.warn("first", ConvergenceWarning, stacklevel=1)
        warnings.warn("second", ConvergenceWarning, stacklevel=1)
        warnings.warn("alone", UserWarning, stacklevel=1)
    assert capsys.readouterr().out == "note: first (and 1 more such)\nnote: alone\n"
