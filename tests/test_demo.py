"""The demonstration: what it prints is true and can be read, and mistakes cost one sentence."""

import csv
import io
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifierCV
from mgce_sklearn.__main__ import main
from mgce_sklearn.demo import study, table
from mgce_sklearn.demo.sample import Sample, breast_cancer, digits

pd = pytest.importorskip("pandas")

N_ROWS = 240


def flowers() -> pd.DataFrame:
    """Three classes told by two columns, among columns that need care."""
    random = np.random.default_rng(0)
    codes = np.arange(N_ROWS) % 3
    frame = pd.DataFrame(
        {
            "row": np.arange(N_ROWS) + 7,
            "height": random.normal(size=N_ROWS) + 2.0 * codes,
            "color": np.array(["red", "green", "blue"])[codes],
            "site": "north",
            "note": [f"seen by {i}" for i in range(N_ROWS)],
            "wild": random.random(N_ROWS) < 0.5,
            "species": np.array(["daisy", "iris", "rose"])[codes],
        }
    )
    frame.loc[::6, "height"] = np.nan
    frame.loc[::8, "color"] = None
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
        "left out, text that hardly repeats, such as names, dates, numbers with units or free "
        "text: note",
        "left out, 'species' is missing: 4 rows",
        "left out, classes of fewer than 10 rows: thistle (3)",
        "3 columns, 3 classes: daisy, iris, rose",
    ):
        assert line in output
    assert re.search(r"missing values.*: height \(41\), color \(30\)$", output, re.M)


CELLS = [
    ["size", "self", "town, country", "kind"],
    ["1", "7", "Rome, Italy", "None"],
    ["2.5", "9", 'the "big" one; x', "NA"],
    ["", "8", "", "rose"],
    ["-4e-3", "9", "NA", "NA"],
]


def rendered(separator=",", decimal=".", end="\n", quoting=csv.QUOTE_MINIMAL, more=0):
    """Write the cells as programs do, rows with more separators at the end."""
    file = io.StringIO()
    rows = [[cells[0].replace(".", decimal), *cells[1:]] for cells in CELLS]
    rows = [rows[0], *(row + [""] * more for row in rows[1:])]
    csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting).writerows(rows)
    return file.getvalue()


FORMS = {
    "commas": rendered(),
    "Windows": rendered(end="\r\n"),
    "an old Mac": rendered(end="\r"),
    "tabs": rendered("\t"),
    "bars": rendered("|"),
    "semicolons": rendered(";"),
    "European Excel": rendered(";", ",", "\r\n"),
    "a byte order mark": "\ufeff" + rendered(),
    "a line for Excel": "sep=;\r\n" + rendered(";", ",", "\r\n"),
    "both": "\ufeffSEP=^\n" + rendered("^"),
    "quotes everywhere": rendered(quoting=csv.QUOTE_ALL),
    "rows that end with a separator": rendered(more=1),
    "rows that end with a semicolon": rendered(";", ",", more=1),
    "an empty column": rendered().replace("\n", ",\n"),
    "blank lines": "\n \n" + rendered().replace("2.5,", "\n2.5,") + "\n \n,,,\n",
    "blank rows": ",,,,,,\n" + rendered() + ",,,\n",
    "spaces": rendered().replace(',"', ' , "').replace('",', '" ,').replace("1,7", " 1 , 7 "),
}


def read(path, content):
    path.write_bytes(content.encode())
    return table.with_numbers(*table.read_csv(path))


@pytest.mark.parametrize("form", FORMS)
def test_one_table_in_many_forms(form, tmp_path):
    frame = read(tmp_path / "table.csv", FORMS[form])
    assert list(frame) == CELLS[0]
    np.testing.assert_array_equal(frame["size"], [1.0, 2.5, np.nan, -4e-3])
    np.testing.assert_array_equal(frame["self"], [7, 9, 8, 9])
    assert frame["self"].dtype.kind == "i"
    assert frame["town, country"].fillna("").tolist() == [row[2] for row in CELLS[1:]]
    assert frame["kind"].tolist() == ["None", "NA", "rose", "NA"]


def test_words_for_missing_numbers_are_words_elsewhere(tmp_path):
    marks = ["?", "-", ".", "NA", "n/a", "#N/A", "NaN", "None", "NULL", "<NA>"]
    rows = "".join(f"{mark},{mark} , {mark}\n" for mark in marks)
    frame = read(tmp_path / "table.csv", "size,word,only\n1,red,\n,None,\n2.5,,\n" + rows)
    np.testing.assert_array_equal(frame["size"], [1.0, np.nan, 2.5] + [np.nan] * len(marks))
    assert frame["word"].dropna().tolist() == ["red", "None", *marks]
    assert frame["only"].dropna().tolist() == marks


def test_classes_may_be_called_none(tmp_path, capsys):
    path = tmp_path / "table.csv"
    kinds = ["None", "NA", "null", "?", "01", "1", ""]
    path.write_text("size,kind\n" + "".join(f"{i % 9},{kinds[i % 7]}\n" for i in range(140)))
    sample = table.sample_from_csv(path, "kind")
    assert set(sample.y_train) == set(sample.y_test) == set(kinds[:-1])
    assert "left out, 'kind' is missing: 20 rows" in capsys.readouterr().out


def test_a_comma_is_one_thing_in_a_file(tmp_path):
    path = tmp_path / "table.csv"
    for separator in ",\t|":
        frame = read(
            path, '"size","kind"\n"1,234","a"\n"999","b"\n'.replace('","', f'"{separator}"')
        )
        assert frame["size"].tolist() == ["1,234", "999"]  # a thousand, as like as not
    frame = read(path, "size;weight;price;code;kind\n1,5;,5;1.234;1,5;a\n2;1e3;1.5;1.5;b\n")
    np.testing.assert_array_equal(frame["size"], [1.5, 2.0])
    np.testing.assert_array_equal(frame["weight"], [0.5, 1000.0])
    assert frame["price"].tolist() == ["1.234", "1.5"]  # thousands, among decimal commas
    assert frame["code"].tolist() == ["1,5", "1.5"]
    frame = read(path, "size;price;kind\n1.5;2.5;1,a\n2;1e3;2,b\n")
    np.testing.assert_array_equal(frame[["size", "price"]], [[1.5, 2.5], [2.0, 1000.0]])


def test_the_separator_is_the_one_of_header_and_rows(tmp_path):
    header = "size;weight, in kg;height, in cm, barefoot;kind\n"
    frame = read(tmp_path / "table.csv", header + "1,5;2,5;3;a\n2,5;3,5;4;b\n")
    assert list(frame) == header.strip().split(";")
    np.testing.assert_array_equal(frame["weight, in kg"], [2.5, 3.5])
    frame = read(tmp_path / "table.csv", "note|kind\n" + "a, b; c|x\n" * 3 + "end\n")
    assert frame["note"].tolist() == ["a, b; c"] * 3 + ["end"]


def test_a_column_without_a_name_is_numbered(tmp_path):
    frame = read(tmp_path / "table.csv", ",size,,kind\n0,1,,a\n1,2,,b\n")
    assert list(frame) == ["column 1", "size", "kind"]


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_numbers_of_any_size(size, tmp_path):
    heights = np.random.default_rng(0).normal(size=40)
    path = tmp_path / "table.csv"
    transformed = []
    for unit in (1.0, size):
        frame = pd.DataFrame({"height": unit * heights, "few": 0.0, "kind": np.arange(40) % 2})
        frame.loc[20:, "few"] = 5 * unit
        frame.to_csv(path, index=False)
        sample = table.sample_from_csv(path, "kind")
        transformed.append(sample.preprocessing.fit_transform(sample.X_train))
        np.testing.assert_allclose(transformed[-1].std(axis=0), 1.0)
    np.testing.assert_allclose(*transformed, rtol=1e-9, atol=1e-12)


def test_columns_become_finite_standardized_numbers(flowers_csv):
    frame = table.with_numbers(*table.read_csv(flowers_csv))
    features = table.usable_columns(frame.drop(columns="species"))
    numbers = table.preprocessing(features).fit_transform(features)
    # height, height is missing; blue, green, red, color is missing; wild False, True
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


HEADER = "size,color,kind\n"
ROWS = "".join(f"{i % 5},{'red' if i % 2 else 'blue'},{'ab'[i % 2]}\n" for i in range(40))

MISTAKES = {
    "no file": (None, "kind", "No such file"),
    "no target": (HEADER + ROWS, None, "columns are: size, color, kind"),
    "no such column": (HEADER + ROWS, "Kind", "columns are: size, color, kind"),
    "empty": ("", "kind", "is empty"),
    "blank": ("\n\n", "kind", "is empty"),
    "header alone": (HEADER, "kind", "no rows"),
    "ragged": (HEADER + ROWS + "1,2,3,4,5\n", "kind", "line 42 has 5 cells and the header 3, so"),
    "a cell too many": ("\n" + HEADER + "1,\"r\ned\",a\n1,5,blue,a\n" + ROWS, "kind",
                        "line 5 has 4 cells and the header 3, so quote cells that contain ','"),
    "an open quote": (HEADER + ROWS + '1,"red,a\n', "kind", "is not a table: Error tokenizing"),
    "an early one": (HEADER + '1,"red,a\n' + 9999 * ROWS, "kind", "EOF inside string"),
    "not text": (b"\x89PNG\xff\xfe\x00", "kind", "UTF-8"),
    "UTF-16": ((HEADER + ROWS).encode("utf-16"), "kind", "save it as a UTF-8 CSV file"),
    "UTF-16 without its mark": ((HEADER + ROWS).encode("utf-16-le"), "kind", "UTF-8"),
    "Latin": ((HEADER + ROWS).replace("red", "grün").encode("latin-1"), "kind", "UTF-8"),
    "names alike but for spaces": ("size , size,kind\n" + ROWS, "kind", "two columns 'size'"),
    "two targets": ("size,kind,kind\n" + ROWS, "kind", "two columns 'kind': give each a name"),
    "one column": ("kind\n" + "a\nb\n" * 20, "kind", "no column is left"),
    "many columns": (",".join(f"x{i}" for i in range(99)) + "\n" + "1," * 98 + "1\n", "y",
                     "x18, x19, and 79 more"),
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
    check_one_sentence(capsys, "pip install 'mgce_sklearn[plot]'")


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
    words = " ".join(done.stdout.split())
    assert "An empty cell is missing. In a column of numbers so are ?, -, ., na, n/a" in words
    assert not done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_seen_enough(unbuffered, flowers_csv, tmp_path):
    """As in ``| head -1``: no traceback, wherever the pipe breaks."""
    command = [sys.executable, "-m", "mgce_sklearn", flowers_csv, "species"]
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
