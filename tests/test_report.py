"""The report: what its page says is true, nothing of a table runs in it, and its model is saved."""

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from base64 import b64decode
from configparser import ConfigParser
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from command_line import check_one_sentence
from flowers import flowers, write_flowers
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from mgce_sklearn import MGCEClassifier, MGCEStackingClassifier
from mgce_sklearn.__main__ import main
from mgce_sklearn.assessment import Assessment
from mgce_sklearn.report import measure
from mgce_sklearn.report.columns import preprocessing
from mgce_sklearn.report.page import Printed, page
from mgce_sklearn.report.saved import TRUSTED
from mgce_sklearn.report.words import summary, verdict

pd = pytest.importorskip("pandas")
skops_io = pytest.importorskip("skops.io")
for package in ("jinja2", "matplotlib"):
    pytest.importorskip(package)

SCRIPT = "<script>document.title = 'run'</script>"
IMAGE = '<img src=x onerror="document.title = 1">'

# Rows, from 1, whose label is wrong on purpose.
WRONG = {100, 150, 200}


def write_table(path: Path) -> Path:
    """Write the flowers with some wrong labels, and with words that must not run."""
    frame = flowers()
    frame["wild"] = frame["wild"].map({True: IMAGE, False: "{{ 7 * 7 }}"})
    for row in WRONG:
        frame.loc[row - 1, ["species", "height"]] = ("rose", 0.0) if row % 3 == 1 else ("daisy", 4)
        frame.loc[row - 1, "color"] = "red" if row % 3 == 1 else "blue"
    frame.loc[frame["species"] == "rose", "species"] = SCRIPT
    frame.rename(columns={"height": "<b>height"}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def small():
    """Fewer trees and folds, for time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mgce_sklearn.stacking.N_TREES", 10)
        patch.setattr(measure, "N_FOLDS", 3)
        yield


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """A folder with the files of a run and what it printed, and its findings."""
    folder, kept = tmp_path_factory.mktemp("report"), []

    def investigate(*arguments):
        kept.append(measure.investigate(*arguments))
        return kept[-1]

    table = write_table(folder / "table.csv")
    outputs = ["--report", str(folder / "page.html"), "--save", str(folder / "model.skops")]
    with (
        pytest.MonkeyPatch.context() as patch,
        (folder / "stdout").open("w", encoding="utf-8") as stdout,
        (folder / "stderr").open("w", encoding="utf-8") as stderr,
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        patch.setattr("mgce_sklearn.report.command.investigate", investigate)
        assert main([str(table), "species", *outputs]) == 0
    return folder, kept[0]


@pytest.fixture(scope="module")
def folder(run):
    return run[0]


@pytest.fixture(scope="module")
def found(run):
    return run[1]


def read(path: Path) -> str:
    return path.read_text("utf-8")


class Elements(HTMLParser):
    """Elements and words of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_printed_summary(folder, found):
    printed = read(folder / "stdout")
    assert "table.csv: 233 rows and 3 columns to learn from, target 'species'" in printed
    assert "left out, classes of fewer than 10 rows: thistle (3)" in printed
    scores = re.findall(r"^(\w+) +(\S+%) +(\S+) +(\S+) +\S+$", printed, re.M)
    assert [(name, accuracy, float(brier)) for name, accuracy, brier, _ in scores] == [
        (each.name, f"{each.accuracy:.1%}", round(each.brier, 3)) for each in found.assessments
    ]
    assert verdict(found) in printed
    assert printed.endswith(f"report: {folder / 'page.html'}\nmodel: {folder / 'model.skops'}\n")


def test_progress_is_told_with_seconds(folder):
    lines = read(folder / "stderr").splitlines()
    assert len(lines) == 4 * 4 + 2
    assert all(re.match(r" *\d+\.\d s  \w+: ", line) for line in lines)


def test_scores_are_those_of_rows_held_out(folder, found):
    table = found.table
    model = make_pipeline(preprocessing(table.features), LogisticRegression(max_iter=2000))
    folds = StratifiedKFold(3, shuffle=True, random_state=measure.SEED)
    labels = table.labels.to_numpy()
    proba = cross_val_predict(model, table.features, labels, cv=folds, method="predict_proba")
    np.testing.assert_allclose(found.logistic.proba, proba)
    classes, codes = np.unique(labels, return_inverse=True)
    assert found.logistic.accuracy == np.mean(proba.argmax(axis=1) == codes)
    assert found.logistic.brier == pytest.approx(
        np.mean(np.sum((proba - np.eye(len(classes))[codes]) ** 2, axis=1))
    )
    low, high = found.logistic.accuracy_interval
    assert 0.5 < low < found.logistic.accuracy < high < 1.0


def test_wrong_labels_are_the_most_doubtful(found):
    assert {doubt.row for doubt in found.doubts[:3]} == WRONG
    for doubt in found.doubts[:3]:
        assert doubt.of_label < measure.DOUBT < 0.5 < doubt.of_suggested
        assert doubt.label == (SCRIPT if doubt.row % 3 == 1 else "daisy")
        assert doubt.suggested == ("daisy" if doubt.row % 3 == 1 else SCRIPT)


def test_the_page_says_it_all(folder, found):
    text = Elements(read(folder / "page.html")).text
    for sentence in (
        verdict(found),
        "233 rows with a label, 6 columns beside it, of which 3 are learned from, and 3 classes",
        "left out, 'species' is missing: 4 rows",
        "The rows were split into 3 parts at random",
        f"{found.recipe.accuracy:.1%}",
        f"{found.bounded[0].bounds.upper:.1%}",
        "color = red",
        "seen by 99",  # of the first wrong label
        "filled with the median",
        "left out: constant",
        'skops.io.load("model.skops", trusted=TRUSTED)',
        "--report",
        "mgce_sklearn 0.1.0",
    ):
        assert sentence in text
    assert "To save time" not in text


def test_what_was_not_done_is_not_said(found):
    first, *others = found.bounded
    stopped = replace(first, bounds=replace(first.bounds, status="stopped", gap=0.02))
    less = replace(found, many=True, doubts=[], coefficients=[], bounded=[stopped, *others])
    text = Elements(page(less, Printed([], "m.skops", False))).text
    assert "To save time they are split into 3 parts" in text
    assert "There is no row to whose label" in text
    assert "were stopped early (stopped). They are valid, and could be tighter by 2.0%" in text
    assert "All coefficients of the minimax linear model are 0" in text
    assert "Run the command again with --save m.skops" in text


def predicting(assessment: Assessment, classes) -> Assessment:
    """Return the same model, if it were sure of these classes."""
    return replace(assessment, proba=np.eye(assessment.proba.shape[1])[classes])


def test_the_verdict_is_about_the_better_rival(found, monkeypatch):
    right = found.boosting.is_label.argmax(axis=1)
    best = replace(found, recipe=predicting(found.recipe, right), doubts=[])
    assert "(100.0% right, Brier score 0.000) is more accurate than" in verdict(best)
    assert "has better probabilities, and gives no label a probability below 5%" in verdict(best)
    worst = replace(
        found, recipe=predicting(found.recipe, (right + 1) % 3), doubts=found.doubts[:1]
    )
    monkeypatch.setattr(measure.Findings, "learns", True)
    assert "(0.0% right, Brier score 2.000) is less accurate than" in verdict(worst)
    assert "has worse probabilities, and 1 of 233 rows has a label to which" in verdict(worst)
    same = replace(found, recipe=found.boosting, logistic=found.boosting)
    assert "is about as accurate as gradient boosting" in verdict(same)
    assert "has probabilities about as good" in verdict(same)


def test_all_places_round_an_accuracy_alike(found, monkeypatch):
    monkeypatch.setattr(Assessment, "accuracy", 0.7675)  # a tie: f"{.7675:.3f}" is 0.767
    text = summary(found)
    assert "  76.8%" in text
    assert "(76.8% right" in text
    assert "0.767" not in text


def test_the_terminal_names_the_most_frequent_class(found):
    line = next(line for line in summary(found).splitlines() if "most frequent class" in line)
    share = found.table.labels.value_counts(normalize=True).max()
    assert re.fullmatch(rf"always the most frequent class +{share:.1%}", line)


def test_nothing_of_a_table_runs(folder):
    elements = Elements(read(folder / "page.html"))
    assert {tag for tag, _ in elements.elements}.isdisjoint({"script", "b", "iframe", "object"})
    assert [
        name for _, attributes in elements.elements for name in attributes if name[:2] == "on"
    ] == []
    assert SCRIPT in elements.text
    assert IMAGE in elements.text
    assert "{{ 7 * 7 }}" in elements.text
    policy = next(a["content"] for tag, a in elements.elements if "http-equiv" in a)
    assert "default-src 'none'" in policy


def test_the_page_needs_no_network_and_has_its_figures(folder):
    elements = Elements(read(folder / "page.html")).elements
    links = [a[name] for _, a in elements for name in ("src", "href") if name in a]
    assert all(link.startswith("data:") for link in links)
    figures = [link for link in links if link.startswith("data:image/svg+xml;base64,")]
    assert len(figures) == 2
    for figure in figures:
        drawing = ET.fromstring(b64decode(figure.partition(",")[2]))
        assert len(list(drawing.iter("{http://www.w3.org/2000/svg}path"))) > 20


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Shows a page in a frame of a given width, and writes down what it looks like.
FRAME = """<body><iframe src="page.html" width="{width}" height="800"></iframe><pre></pre><script>
document.querySelector("iframe").onload = async ({{target}}) => {{
  const page = target.contentDocument, root = page.documentElement;
  const images = [...page.images].map(image => image.naturalWidth > 0 && image.width > 200);
  document.querySelector("pre").textContent =
    JSON.stringify([root.scrollWidth, page.title, images]) + " done";
}}</script>"""


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_in_a_browser(width, folder):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    frame = folder / f"frame{width}.html"
    frame.write_text(FRAME.format(width=width))
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--allow-file-access-from-files", "--enable-logging=stderr", "--virtual-time-budget=10000",
        "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert f'[{width},"Predicting species from table.csv",[true,true]] done' in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


def test_predictions_are_those_of_the_saved_model(folder, found, capsys):
    out = folder / "predictions.csv"
    files = ["--predict", str(folder / "table.csv"), "--model", str(folder / "model.skops")]
    assert main([*files, "--out", str(out)]) == 0
    assert capsys.readouterr().out == (
        "columns that the model does not use: row, site, note, species\n"
        f"predictions of 240 rows: {out}\n"
    )
    predicted = pd.read_csv(out, index_col="row")
    assert list(predicted.index) == list(range(1, 241))
    model = skops_io.load(folder / "model.skops", trusted=TRUSTED)
    raw = pd.read_csv(folder / "table.csv")
    np.testing.assert_array_equal(predicted["prediction"], model.predict(raw))
    names = [f"probability of {name}" for name in model.classes_]
    assert list(predicted) == ["prediction", *names]
    np.testing.assert_allclose(predicted[names], model.predict_proba(raw), rtol=1e-12)
    features = found.table.features
    np.testing.assert_array_equal(
        model.predict_proba(features), found.recipe.model.predict_proba(features)
    )


def test_the_lines_of_the_page_read_a_table_as_the_command_does(tmp_path, small, monkeypatch):
    """Semicolons, decimal commas, and words that pandas takes for numbers or for nothing."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    size, plan = rng.normal(size=90), rng.choice(["01", "2", "None", "x"], 90)
    label = np.where((size > 0) ^ (plan == "01"), "yes", "no")
    frame = pd.DataFrame({"size": size, "plan": plan, "label": label})
    frame.to_csv("table.csv", sep=";", decimal=",", index=False)
    words = frame[frame["plan"] != "x"]  # without "x" all words of the column look like numbers
    words.drop(columns="label").to_csv("new.csv", sep=";", decimal=",", index=False)
    assert main(["table.csv", "label", "--report", "page.html", "--save", "model.skops"]) == 0
    assert main(["--predict", "new.csv", "--model", "model.skops"]) == 0
    lines = re.search("<pre>(import.*?)</pre>", read(tmp_path / "page.html"), re.DOTALL)[1]
    *before, last = unescape(lines).splitlines()
    names: dict = {}
    exec("\n".join(before), names)
    proba = eval(last.removeprefix("print").strip(), names)[0]
    written = pd.read_csv("predictions.csv", index_col="row").drop(columns="prediction")
    np.testing.assert_allclose(proba, written, rtol=1e-12)


def test_a_saved_model_asks_for_no_other_trust(folder):
    assert set(skops_io.get_untrusted_types(file=folder / "model.skops")) == set(TRUSTED)


class Foreign:
    """A type that no report saves."""


def dumped(path: Path, model) -> Path:
    skops_io.dump(model, path)
    return path


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda path: path, "No such file"),
        (lambda path: path.write_text("no model"), "is not a model that --save wrote"),
        (lambda path: dumped(path, Foreign()), "types that --save does not write: test_report.For"),
        (lambda path: dumped(path, MGCEClassifier()), "holds a MGCEClassifier, and not what"),
    ],
)
def test_files_that_are_no_such_model(write, sentence, tmp_path, folder, capsys):
    model = tmp_path / "model.skops"
    write(model)
    out = tmp_path / "out.csv"
    files = ["--predict", str(folder / "table.csv"), "--model", str(model), "--out", str(out)]
    assert main(files) == 2
    check_one_sentence(capsys, sentence)
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("color,wild\nred,x\n", "lacks <b>height"),
        ("<b>height,color,wild\n1 m,red,x\n", "must hold numbers or nothing, as in the fit; got"),
        ("", "is empty"),
    ],
)
def test_tables_that_the_model_cannot_predict(content, sentence, tmp_path, folder, capsys):
    table = tmp_path / "new.csv"
    table.write_text(content)
    out = tmp_path / "out.csv"
    model = str(folder / "model.skops")
    assert main(["--predict", str(table), "--model", model, "--out", str(out)]) == 2
    check_one_sentence(capsys, sentence)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--report", "page.html"], "--report needs TABLE beside it"),
        (["--save", "model.skops"], "--save needs TABLE beside it"),
        (["--predict", "t.csv"], "--predict needs --model beside it"),
        (["--model", "model.skops"], "--model needs --predict beside it"),
        (["--out", "o.csv"], "--out needs --predict beside it"),
        (["t.csv", "species", "--predict", "t.csv"], "TABLE and --predict belong to different"),
        (["t.csv", "species", "--figure", "f.png"], "TABLE and --figure belong to different"),
        (["t.csv", "species", "--report", "none/page.html"], "cannot write the page"),
        (["t.csv", "species", "--save", "none/model.skops"], "cannot write the model"),
        (["t.csv", "species", "--report", "."], "cannot write the page"),
        (["t.csv", "species", "--report", "t.csv"], "which is another file of this command"),
        (["t.csv", "species", "--report", "x", "--save", "x"], "which is another file"),
        (["--predict", "t.csv", "--model", "m", "--out", "t.csv"], "which is another file"),
    ],
)
def test_wrong_calls(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, "investigate", None)  # nothing is fitted before
    write_flowers(tmp_path / "t.csv")
    before = read(tmp_path / "t.csv")
    assert main(arguments) == 2
    assert check_one_sentence(capsys, sentence) == ""
    assert read(tmp_path / "t.csv") == before


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("pandas", []),
        ("jinja2", ["--report", "page.html"]),
        ("matplotlib", ["--report", "page.html"]),
        ("skops", ["--save", "model.skops"]),
    ],
)
def test_a_package_that_is_not_installed(package, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_flowers(tmp_path / "t.csv")
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["t.csv", "species", *arguments]) == 2
    check_one_sentence(capsys, f"needs {package}: pip install 'mgce_sklearn[report]'")


def test_findings_are_printed_if_a_file_cannot_be_written(found, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mgce_sklearn.report.command.investigate", lambda *_: found)
    monkeypatch.setattr(skops_io, "dump", full)
    monkeypatch.setattr(Path, "write_text", full, raising=True)
    table, out = str(write_flowers(tmp_path / "t.csv")), str(tmp_path / "out")
    for option in ("--report", "--save"):
        assert main([table, "species", option, out]) == 2
        assert verdict(found) in check_one_sentence(capsys, "No space left on device")


def test_interrupted(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mgce_sklearn.report.command.investigate", interrupted)
    assert main([str(write_flowers(tmp_path / "t.csv")), "species"]) == 130
    check_one_sentence(capsys, "interrupted")


def test_mgce_is_the_same_command():
    setup = ConfigParser()
    setup.read(Path(__file__).parent.parent / "setup.cfg", "utf-8")
    name, _, value = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
    assert name == "mgce"
    assert EntryPoint(name, value, "console_scripts").load() is main


def test_coefficients_by_name():
    frame = pd.DataFrame({"signal": np.arange(60.0), "noise": np.tile([1.0, 2.0, 0.0], 20)})
    for labels in (np.repeat(["low", "high"], 30), np.repeat(["low", "middle", "top"], 20)):
        model = make_pipeline(preprocessing(frame), MGCEClassifier()).fit(frame, labels)
        first, second = measure.coefficients_of(model)
        assert (first.column, first.disfavors) == ("signal", "low")
        assert first.favors == max(labels, key=list(labels).index)
        assert first.size > second.size >= 0.0


def test_settled_is_what_the_correction_chose(small):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 2)), columns=["a", "b"])
    labels = (frame["a"] > 0).to_numpy()
    model = make_pipeline(preprocessing(frame), MGCEStackingClassifier(random_state=0))
    model.fit(frame, labels)
    again = measure.settled(model)
    assert again[-1].estimator.min_samples_leaf == model[-1].estimator_.min_samples_leaf
    assert (again[-1].q, again[-1].lam) == (model[-1].q_, model[-1].lam_)
    np.testing.assert_allclose(
        again.fit(frame, labels).predict_proba(frame), model.predict_proba(frame)
    )


def test_compared_is_zero_within_chance():
    random = np.random.default_rng(0)
    values = random.random(1000)
    assert measure.compared(values, values) == 0
    assert measure.compared(values, random.permutation(values)) == 0
    assert measure.compared(values + 0.1, values) == 1
    assert measure.compared(values, values + 0.01 * random.random(1000)) == -1


def test_the_interval_of_an_accuracy_is_wilson_s(found):
    recipe, z = found.recipe, 1.959964
    n, p = len(recipe.right), recipe.accuracy
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert recipe.accuracy_interval == pytest.approx((middle - half, middle + half), abs=1e-6)
