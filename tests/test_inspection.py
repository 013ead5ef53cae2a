"""What a fitted model shows: a summary, its HTML representation, and a file of skops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn
from problems import load
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from mgce_sklearn import (
    MGCEClassifier,
    MGCEClassifierCV,
    MGCEStackingClassifier,
    ThresholdFeatures,
)
from mgce_sklearn.calibration import PiecewiseTemperatureScaling, TemperatureScaling

STORED = Path(__file__).parent / "models"


@pytest.fixture
def frame():
    pytest.importorskip("pandas")
    return load_iris(return_X_y=True, as_frame=True)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_summary_has_the_numbers_of_every_class_and_feature(frame, n_classes, fit_intercept):
    X, y = frame
    X, y = X[y < n_classes], y[y < n_classes].map(dict(enumerate("abc")))
    model = MGCEClassifier(fit_intercept=fit_intercept).fit(X, y)
    summary = model.summary()
    rows = list("abc"[:n_classes]) if n_classes > 2 else ["b"]
    assert summary.index.names == ["class", "feature"]
    assert list(summary.index.levels[0]) == rows
    assert len(summary) == len(rows) * (4 + fit_intercept)
    center = X.mean() if fit_intercept else 0.0 * X.mean()
    for i, label in enumerate(rows):
        part = summary.loc[label]
        assert list(part.index) == [*X.columns, *["(intercept)"] * fit_intercept]
        np.testing.assert_allclose(part["coef"].iloc[:4], model.coef_[i])
        effect = model.decision_function(X + X.std(ddof=0) * (X.columns == X.columns[2]))
        change = effect - model.decision_function(X)
        of_class = change if n_classes == 2 else change[:, i]
        np.testing.assert_allclose(of_class, part["effect"].iloc[2], atol=1e-9)
        mean = (X - center)[y == label].sum() / len(X)
        np.testing.assert_allclose(part["mean"].iloc[:4], mean, atol=1e-12)
        if fit_intercept:
            assert part["coef"].iloc[4] == model.intercept_[i] and part["effect"].iloc[4] == 0.0
    # For two classes the smaller of their half-widths.
    errors = [((X - center).where(y == label, 0.0)).std(ddof=0) for label in "abc"[:n_classes]]
    standard_error = np.minimum(*errors) if n_classes == 2 else errors[0]
    half_width = summary.loc[rows[0], "half_width"].iloc[:4]
    np.testing.assert_allclose(half_width, 0.3 * standard_error / np.sqrt(len(X)), rtol=1e-9)


def test_features_of_a_summary_have_the_names_that_the_model_knows(frame):
    X, y = frame
    named = ["petal width (cm)", "(intercept)"]
    mapped = MGCEClassifier(feature_map="threshold").fit(X, y).summary().loc[0]
    assert any(name.startswith("threshold__petal width (cm)<=") for name in mapped.index)
    assert list(MGCEClassifier().fit(X.to_numpy(), y).summary().loc[0].index[-2:]) == [
        "x3",
        "(intercept)",
    ]
    unnamed = MGCEClassifier(feature_map=lambda rows: np.asarray(rows)[:, :2]).fit(X, y)
    assert list(unnamed.summary().loc[0].index) == ["x0", "x1", "(intercept)"]
    search = MGCEClassifierCV([0.5], [0.3], cv=2).fit(X, y)
    assert list(search.summary().loc[0].index[-2:]) == named
    base = LogisticRegression(max_iter=1000)
    stacked = MGCEStackingClassifier(base, lam=[1.0], cv=2).fit(X, y)
    assert list(stacked.summary().loc[0].index[-2:]) == named
    stacked.set_params(passthrough=False).fit(X, y)
    assert list(stacked.summary().loc[0].index) == [
        "margin of 0", "margin of 1", "margin of 2", "(intercept)"
    ]  # fmt: skip
    stacked.set_params(passthrough=True, feature_map=ThresholdFeatures()).fit(X, y)
    assert any("<=" in name for name in stacked.summary().loc[0].index)


def test_a_sparse_or_streamed_model_has_a_summary(frame):
    X, y = frame
    model = MGCEClassifier(lam=3.0).fit(X, y)
    before = model.summary()
    np.testing.assert_array_equal(model.sparsify().summary(), before)
    streamed = MGCEClassifier().partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_array_equal(streamed.summary()["coef"].iloc[:4], streamed.coef_[0])
    with pytest.raises(NotFittedError):
        MGCEClassifier().summary()


def test_without_pandas_a_summary_is_refused_in_a_sentence(monkeypatch):
    model = MGCEClassifier().fit(*load("iris"))
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="pandas is not installed: pip install pandas"):
        model.summary()


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="scikit-learn shows fitted attributes from 1.9 on",
)
def test_the_html_representation_shows_the_fit():
    model = MGCEClassifier().fit(*load("iris"))
    html = model._repr_html_()
    for name in ("minimax_risk_", "dual_gap_", "coef_", "uncertainty_set_"):
        assert name in html
    assert f"{model.minimax_risk_:.4g}" in html
    assert "minimax_risk_" not in MGCEClassifier()._repr_html_()


MODELS = {
    "default": lambda: MGCEClassifier(),
    "float32": lambda: MGCEClassifier(),
    "probable": lambda: MGCEClassifier(width="betting", feature_range=(-10, 10)),
    "noise": lambda: MGCEClassifier(noise_matrix=0.05, lam="feasible"),
    "relu": lambda: MGCEClassifier(feature_map="relu", random_state=0),
    "fourier": lambda: MGCEClassifier(feature_map="fourier", random_state=0),
    "threshold": lambda: MGCEClassifier(feature_map="threshold"),
    "pipeline": lambda: make_pipeline(StandardScaler(), MGCEClassifier(q=0.0)),
    "search": lambda: MGCEClassifierCV([0.5], [0.3], cv=2),
    "stacking": lambda: MGCEStackingClassifier(LogisticRegression(max_iter=1000), cv=2),
    "temperature": lambda: TemperatureScaling(MGCEClassifier().fit(*load("iris"))),
    "pieces": lambda: PiecewiseTemperatureScaling(MGCEClassifier().fit(*load("iris"))),
}
# A search keeps the scorer of scikit-learn that chose, as GridSearchCV does.
OTHERS = {
    "search": {
        "sklearn.metrics._classification.accuracy_score",
        "sklearn.metrics._scorer._Scorer",
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_of_skops_asks_to_trust_our_types_alone(name):
    io = pytest.importorskip("skops.io")
    X, y = load("iris")
    X = X.astype(np.float32) if name == "float32" else X
    model = MODELS[name]().fit(X, y)
    data = io.dumps(model)
    asked = io.get_untrusted_types(data=data)
    strangers = {kind for kind in asked if not kind.startswith("mgce_sklearn.")}
    assert strangers == OTHERS.get(name, set())
    loaded = io.loads(data, trusted=asked)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    if name in ("default", "float32", "noise"):
        assert loaded.error_bounds(X) == model.error_bounds(X)
    if name in ("default", "probable"):
        np.testing.assert_allclose(loaded.certificate(X, y), model.certificate(X, y))
    if name == "probable":
        held_out = X + 0.01
        assert loaded.confidence_bound(held_out) == model.confidence_bound(held_out)


def test_a_stream_goes_on_where_its_file_ends():
    io = pytest.importorskip("skops.io")
    X, y = load("wine")
    model = MGCEClassifier().partial_fit(X[::2], y[::2], classes=np.unique(y))
    data = io.dumps(model)
    loaded = io.loads(data, trusted=io.get_untrusted_types(data=data))
    for each in (model, loaded):
        each.partial_fit(X[1::2], y[1::2])
    np.testing.assert_array_equal(loaded.coef_, model.coef_)


def stored_files():
    return sorted(STORED.glob("*.skops"))


def test_there_are_stored_models():
    assert stored_files()


@pytest.mark.parametrize("path", stored_files(), ids=lambda path: path.stem)
def test_models_of_earlier_versions_load_and_predict(path):
    """`python tests/models/store.py` writes a file for the present version."""
    io = pytest.importorskip("skops.io")
    asked = io.get_untrusted_types(file=path)
    assert all(kind.startswith("mgce_sklearn.") for kind in asked)
    model = io.load(path, trusted=asked)
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    X, y = load_iris(return_X_y=True)
    np.testing.assert_allclose(model.predict_proba(X[::10]), expected["proba"], atol=1e-12)
    bounds = model.error_bounds(X)
    np.testing.assert_allclose([bounds.lower, bounds.upper], expected["bounds"], atol=1e-6)
    np.testing.assert_allclose(model.certificate(X, y), expected["certificate"], atol=1e-9)
    model.set_params(warm_start=True).fit(X, y)
    np.testing.assert_allclose(model.minimax_risk_, expected["certificate"][0], atol=1e-4)
