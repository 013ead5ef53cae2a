"""Displays: their numbers against independent computation, what they draw, and mistakes."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV, mgce_path
from mgce_sklearn.kernels import reference
from mgce_sklearn.metrics import expected_calibration_error, static_calibration_error

pyplot = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("pandas")

from matplotlib.text import Text  # noqa: E402

from mgce_sklearn.plot import (  # noqa: E402
    CoefficientPathDisplay,
    ConvergenceDisplay,
    ErrorBoundDisplay,
    LinkDisplay,
    ReliabilityDisplay,
    SearchDisplay,
)
from mgce_sklearn.plot.drawing import COLORS  # noqa: E402


@pytest.fixture(autouse=True)
def agg():
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def along_lam(cancer):
    X, y = cancer
    return [MGCEClassifier(lam=lam).fit(X[::2], y[::2]) for lam in (1.0, 0.1, 3.0)]


def draw(display):
    """Draw for real: labels and layouts that cannot be drawn fail here."""
    display.figure_.canvas.draw()
    return display


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def assert_apart(artists, figure):
    """No text covers another, and none is outside the figure."""
    boxes = [Text.get_window_extent(artist) for artist in artists]  # without leaders
    whole = figure.bbox.padded(1.0)
    assert boxes
    for i, box in enumerate(boxes):
        assert whole.containsx(box.x0) and whole.containsx(box.x1)
        assert whole.containsy(box.y0) and whole.containsy(box.y1)
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


# Reliability


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_reliability_of_two_classes_is_that_of_scikit_learn(cancer, strategy):
    X, y = cancer
    proba = LogisticRegression(C=0.01).fit(X[::2], y[::2]).predict_proba(X[1::2])
    display = ReliabilityDisplay.from_predictions(
        y[1::2], proba, per_class=True, n_bins=5, strategy=strategy
    )
    share, mean = calibration_curve(y[1::2], proba[:, 1], n_bins=5, strategy=strategy)
    found = display.curves["class 1"]
    if strategy == "uniform":
        np.testing.assert_allclose(found.confidence, mean)
        np.testing.assert_allclose(found.accuracy, share)
    # Of quantiles the edges differ by a row, which either side may have.
    np.testing.assert_allclose(found.confidence, mean, atol=0.02)
    np.testing.assert_allclose(found.accuracy, share, atol=0.03)
    line = display.lines_[1]
    np.testing.assert_array_equal(line.get_xydata(), np.c_[found.confidence, found.accuracy])


def test_reliability_of_the_top_label(iris):
    X, y = iris
    model = MGCEClassifier().fit(X, y)
    display = draw(ReliabilityDisplay.from_estimator(model, X, y, n_bins=4))
    (name,) = display.curves
    found = display.curves[name]
    proba = model.predict_proba(X)
    top, right = proba.max(axis=1), model.predict(X) == y
    rows_of = [(top > low) & (top <= low + 0.25) for low in (0.0, 0.25, 0.5, 0.75)]
    used = [rows for rows in rows_of if rows.any()]
    assert len(used) == len(found.count) > 1
    for k, rows in enumerate(used):
        assert found.count[k] == rows.sum()
        assert found.confidence[k] == pytest.approx(top[rows].mean())
        assert found.accuracy[k] == pytest.approx(right[rows].mean())
    error = expected_calibration_error(y, proba, n_bins=4)
    assert legend(display.ax_) == ["calibrated", f"MGCEClassifier: ECE {error:.3f}"]
    np.testing.assert_array_equal(display.count_lines_[0].get_ydata(), found.count)
    assert display.counts_ax_.get_xlabel() == "probability of the predicted class"
    assert display.counts_ax_.get_ylabel() == "rows in bin"
    assert display.ax_.get_ylabel() == "accuracy, share of rows"


def test_reliability_of_each_class_averages_to_the_static_error(iris):
    X, y = iris
    names = np.array(["a", "b", "c"])[y]
    model = MGCEClassifier().fit(X, names)
    display = draw(ReliabilityDisplay.from_estimator(model, X, names, per_class=True))
    assert list(display.curves) == ["class a", "class b", "class c"]
    mean = np.mean([found.error for found in display.curves.values()])
    assert mean == pytest.approx(static_calibration_error(names, model.predict_proba(X)))
    assert all(found.count.sum() == len(y) for found in display.curves.values())
    assert display.counts_ax_.get_yscale() == "log"


def test_reliability_of_several_models(iris):
    X, y = iris
    models = {
        "linear": LogisticRegression(max_iter=1000).fit(X, y),
        "minimax": make_pipeline(StandardScaler(), MGCEClassifier()).fit(X, y),
    }
    at_once = ReliabilityDisplay.from_estimator(models, X, y)
    assert list(at_once.curves) == ["linear", "minimax"]
    one = ReliabilityDisplay.from_estimator(models["linear"], X, y, name="linear")
    both = ReliabilityDisplay.from_estimator(models["minimax"], X, y, name="minimax", ax=one.ax_)
    assert both.ax_ is one.ax_ and both.counts_ax_ is one.counts_ax_
    assert both.reference_line_ is one.reference_line_
    assert legend(both.ax_) == legend(at_once.ax_)
    apart, together = [*one.lines_, *both.lines_], at_once.lines_
    for mine, other in zip(apart, together, strict=True):
        np.testing.assert_array_equal(mine.get_xydata(), other.get_xydata())
        assert mine.get_color() == other.get_color()
    assert len({(line.get_marker(), line.get_linestyle()) for line in together}) == 2


def test_reliability_counts_weights(iris):
    X, y = iris
    proba = MGCEClassifier().fit(X, y).predict_proba(X)
    weight = np.arange(len(y)) % 3
    weighted = ReliabilityDisplay.from_predictions(y, proba, sample_weight=weight)
    rows = np.repeat(np.arange(len(y)), weight)
    repeated = ReliabilityDisplay.from_predictions(y[rows], proba[rows])
    np.testing.assert_allclose(weighted.curves[""].count, repeated.curves[""].count)
    np.testing.assert_allclose(weighted.curves[""].accuracy, repeated.curves[""].accuracy)


def test_labels_that_the_rows_lack(iris):
    X, y = iris
    model = MGCEClassifier().fit(X, y)
    display = ReliabilityDisplay.from_estimator(model, X[:100], y[:100], per_class=True)
    assert list(display.curves) == ["class 0", "class 1", "class 2"]


def test_the_strip_of_counts_stays_in_the_figure(iris):
    X, y = iris
    model = MGCEClassifier().fit(X, y)
    _, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3), layout="constrained")
    left.set_title("two\nlines")
    display = draw(ReliabilityDisplay.from_estimator(model, X, y, ax=left))
    assert right.child_axes == []
    assert_apart([display.counts_ax_.xaxis.label, display.ax_.title], display.figure_)
    assert display.counts_ax_.get_window_extent().y1 < display.ax_.get_window_extent().y0


# Error bounds


def test_error_bounds_of_one_model(cancer):
    X, y = cancer
    model = MGCEClassifier(q=0.7).fit(X[::2], y[::2])
    display = draw(ErrorBoundDisplay.from_estimator(model, X[::2], X_test=X[1::2], y_test=y[1::2]))
    for rule in ("deterministic", "randomized"):
        bounds = model.error_bounds(X[::2], rule)
        assert display.lower[rule] == [bounds.lower]
        assert display.upper[rule] == [bounds.upper]
        bar = display.bound_artists_[rule].get_xdata()
        np.testing.assert_array_equal(bar, [bounds.lower, bounds.upper])
    proba = model.predict_proba(X[1::2])
    drawn = 1.0 - proba[np.arange(len(proba)), y[1::2]].mean()
    assert display.held_out["randomized"][0] == pytest.approx(drawn)
    assert display.held_out["deterministic"][0] == pytest.approx(1 - model.score(X[1::2], y[1::2]))
    assert display.minimax_risk == [model.minimax_risk_]
    assert set(display.risk_artist_.get_xdata()) == {model.minimax_risk_}
    assert display.ax_.get_xlabel() == "error, share of rows"
    assert legend(display.ax_) == [
        f"minimax_risk_, bound on the loss: {model.minimax_risk_:.3f}",
        "error on held-out rows",
    ]
    assert_apart([*display.ax_.texts, display.ax_.xaxis.label], display.figure_)


def test_error_bounds_along_lam_come_in_its_order(cancer, along_lam):
    X, _ = cancer
    display = draw(ErrorBoundDisplay.from_estimator(along_lam, X[::2], rules="randomized"))
    assert display.parameter == "lam"
    np.testing.assert_array_equal(display.values, [0.1, 1.0, 3.0])
    one, small, large = along_lam
    risks = [model.minimax_risk_ for model in (small, one, large)]
    np.testing.assert_array_equal(display.minimax_risk, risks)
    uppers = [model.error_bounds(X[::2], "randomized").upper for model in (small, one, large)]
    np.testing.assert_array_equal(display.upper["randomized"], uppers)
    assert list(display.lower) == ["randomized"] and display.held_out == {}
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_xlabel() == "half-width lam, standard errors"
    assert display.ax_.get_ylabel() == "error, share of rows"
    assert legend(display.ax_) == ["minimax_risk_, bound on the loss", "bounds, randomized rule"]


def test_error_bounds_along_q_of_pipelines():
    X, y = load_breast_cancer(return_X_y=True)
    models = [make_pipeline(StandardScaler(), MGCEClassifier(q=q)).fit(X, y) for q in (0.0, 1.0)]
    display = ErrorBoundDisplay.from_estimator(models, X, X_test=X, y_test=y)
    rows = models[1][:-1].transform(X)
    upper = models[1][-1].error_bounds(rows).upper
    assert display.upper["deterministic"][1] == upper
    assert display.held_out["deterministic"][0] == pytest.approx(1 - models[0].score(X, y))
    assert display.ax_.get_xlabel() == "loss parameter q"
    assert display.ax_.get_xscale() == "linear"


def test_error_bounds_of_a_search(iris):
    X, y = iris
    search = MGCEClassifierCV(qs=[0.5], lams=[0.3, 1.0], cv=2).fit(X, y)
    display = ErrorBoundDisplay.from_estimator(search, X, rules=["deterministic"])
    assert display.upper["deterministic"] == [search.best_estimator_.error_bounds(X).upper]


def test_the_unit_of_lam_is_that_of_the_width(cancer):
    X, y = cancer
    models = [MGCEClassifier(width="std", lam=lam).fit(X, y) for lam in (0.01, 0.1)]
    display = ErrorBoundDisplay.from_estimator(models, X, rules=["randomized"])
    assert display.ax_.get_xlabel() == "half-width lam, standard deviations"


# Coefficients


def test_coefficients_of_a_path(cancer):
    X, y = cancer
    path = mgce_path(X, y, qs=[0.2, 0.5], lams=[3.0, 0.3, 1.0])
    names = load_breast_cancer().feature_names
    display = draw(CoefficientPathDisplay.from_path(path, q=0.5, feature_names=names, n_named=7))
    np.testing.assert_array_equal(display.lams, [0.3, 1.0, 3.0])
    np.testing.assert_array_equal(display.coefs, path.coefs[1, [1, 2, 0], 0])
    alone = MGCEClassifier(q=0.5, lam=1.0).fit(X, y)
    np.testing.assert_allclose(display.coefs[1], alone.coef_[0], atol=0.02)
    largest = np.argsort(-np.abs(path.coefs[1, 1, 0]))[:7]
    assert display.named_ == largest.tolist()
    assert [text.get_text() for text in display.text_] == names[largest].tolist()
    assert_apart([*display.text_, display.ax_.xaxis.label], display.figure_)
    left, right = display.ax_.get_xlim()
    assert (left, right) == (3.0, 0.3)
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_xlabel() == "half-width lam, standard errors"
    assert display.ax_.get_ylabel() == "coefficient, margin per unit of the feature"
    assert len(display.lines_) == 30


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_names_of_nearly_equal_coefficients_stay_apart_and_inside(sign):
    """They would reach below the lower end, or above the upper one."""
    ends = np.r_[sign * np.linspace(0.99, 1.0, 12), -0.01 * sign]
    coefs = np.vstack([ends, 0.0 * ends])
    display = CoefficientPathDisplay(np.array([0.1, 1.0]), coefs, list("abcdefghijklm"))
    draw(display.plot(n_named=12))
    assert_apart(display.text_, display.figure_)
    axes = display.ax_.get_window_extent()
    heights = [Text.get_window_extent(text).y1 for text in display.text_]
    assert axes.y0 <= min(heights) and max(heights) <= axes.y1 + 10.0


def test_coefficients_of_several_classes(iris):
    X, y = iris
    path = mgce_path(X, np.array(["a", "b", "c"])[y], qs=[0.5], lams=[0.1, 1.0])
    of_b = CoefficientPathDisplay.from_path(path, label="b")
    np.testing.assert_array_equal(of_b.coefs, path.coefs[0, :, 1])
    of_all = draw(CoefficientPathDisplay.from_path(path))
    np.testing.assert_array_equal(of_all.coefs, np.abs(path.coefs[0]).max(axis=1))
    assert of_all.ax_.get_ylabel().startswith("largest |coefficient| of any class")
    assert of_all.feature_names == ["x0", "x1", "x2", "x3"]


def test_coefficients_of_the_first_of_two_classes_have_the_other_sign(cancer):
    X, y = cancer
    path = mgce_path(X, y, qs=[0.5], lams=[0.3, 1.0])
    plain = CoefficientPathDisplay.from_path(path).coefs
    for label, sign in ((0, -1.0), (1, 1.0)):
        signed = CoefficientPathDisplay.from_path(path, label=label).coefs
        np.testing.assert_array_equal(signed, sign * plain)


def test_coefficients_of_fitted_models(along_lam):
    display = CoefficientPathDisplay.from_estimator(along_lam)
    one, small, large = (model.coef_[0] for model in along_lam)
    np.testing.assert_array_equal(display.coefs, [small, one, large])


def test_coefficients_know_the_names_of_columns():
    frame, y = load_iris(return_X_y=True, as_frame=True)
    models = [MGCEClassifier(lam=lam).fit(frame, y) for lam in (0.3, 1.0)]
    assert CoefficientPathDisplay.from_estimator(models).feature_names == frame.columns.tolist()
    pipelines = [make_pipeline(StandardScaler(), m).fit(frame, y) for m in models]
    found = CoefficientPathDisplay.from_estimator(pipelines).feature_names
    assert found == frame.columns.tolist()


def test_points_without_a_solution_are_left_out(cancer):
    X, y = cancer
    path = mgce_path(X, y, qs=[0.5], lams=[0.3, 1.0, 3.0])
    path.minimax_risks[0, 0] = np.nan
    np.testing.assert_array_equal(CoefficientPathDisplay.from_path(path).lams, [1.0, 3.0])


# Convergence


def test_convergence_is_the_history_of_the_fit(cancer):
    X, y = cancer
    model = MGCEClassifier(tol=1e-5).fit(X, y)
    display = draw(ConvergenceDisplay.from_estimator(model, against="steps"))
    (gaps,) = display.gaps.values()
    assert gaps[-1] <= 1e-5 < gaps[-2]
    assert model.trace_[-1].value == pytest.approx(model.minimax_risk_, rel=1e-5)
    (line,) = display.lines_
    assert line.get_xdata()[-1] == model.trace_[-1].n_iter == model.n_iter_
    np.testing.assert_array_equal(line.get_ydata(), gaps)
    assert display.ax_.get_yscale() == "log"
    assert set(display.tol_line_.get_ydata()) == {1e-5}
    assert legend(display.ax_) == ["MGCEClassifier", "tol = 1e-05"]
    assert display.ax_.get_xlabel() == "steps of the solver"
    assert display.ax_.get_ylabel() == "duality gap, share of value"


def test_convergence_of_several_fits_against_seconds(iris):
    X, y = iris
    fits = {
        name: make_pipeline(StandardScaler(), MGCEClassifier(solver=name, tol=tol)).fit(X, y)
        for name, tol in (("interior_point", 1e-4), ("lbfgs", 1e-3))
    }
    display = draw(ConvergenceDisplay.from_estimator(fits))
    assert display.tol_line_ is None  # each has its own
    assert legend(display.ax_) == ["interior_point", "lbfgs"]
    for name, line in zip(fits, display.lines_, strict=True):
        trace = fits[name][-1].trace_
        assert line.get_xdata()[-1] == trace[-1].seconds > 0.0
    assert display.ax_.get_xlabel() == "time since the solver began, seconds"


def test_the_history_goes_with_the_fit(iris):
    X, y = iris
    model = MGCEClassifier().fit(X, y)
    assert [point.n_iter for point in model.trace_] == sorted(
        point.n_iter for point in model.trace_
    )
    model.partial_fit(X, y)
    assert not hasattr(model, "trace_")
    with pytest.raises(TypeError, match="with trace_; got MGCEClassifier"):
        ConvergenceDisplay.from_estimator(model)


def test_a_gap_that_is_not_known_is_not_drawn(iris):
    first, *rest = MGCEClassifier().fit(*iris).trace_
    unknown = first._replace(dual_value=-np.inf)
    closed = rest[-1]._replace(dual_value=rest[-1].value + 1e-17)
    display = draw(ConvergenceDisplay({"fit": [unknown, *rest, closed]}).plot())
    assert np.isinf(display.gaps["fit"][0]) and display.gaps["fit"][-1] == 0.0
    assert len(display.lines_[0].get_xdata()) == len(rest)


# Link


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_link_is_that_of_the_formulas(n_classes):
    qs = [0.0, 0.3, 1.0]
    display = draw(LinkDisplay(qs, n_classes).plot())
    rows = np.zeros((len(display.margins), n_classes))
    rows[:, 0] = display.margins
    for q, rule, worst in zip(qs, display.rule, display.worst_case, strict=True):
        np.testing.assert_allclose(rule, reference.rule(rows, q)[:, 0], atol=1e-9)
        np.testing.assert_allclose(worst, reference.worst_case(rows, q)[:, 0], atol=1e-9)
    softmax = np.exp(display.margins) / (np.exp(display.margins) + n_classes - 1)
    np.testing.assert_allclose(display.rule[0], softmax)
    np.testing.assert_array_equal(display.rule_lines_[2].get_ydata(), display.rule[2])
    np.testing.assert_array_equal(display.worst_case_lines_[1].get_ydata(), display.worst_case[1])
    assert [ax.get_title() for ax in display.ax_] == ["rule h, predict_proba", "worst case p*"]
    assert legend(display.ax_[0]) == ["q = 0", "q = 0.3", "q = 1"]
    others = "the other is" if n_classes == 2 else "the 4 others are"
    assert display.ax_[1].get_xlabel() == f"margin ({others} 0)"
    assert display.ax_[0].get_ylabel() == "probability of the class"


def test_the_link_on_axes_of_ones_own():
    figure, axes = pyplot.subplots(2, 1)
    display = LinkDisplay([0.5]).plot(axes, despine=True)
    assert display.figure_ is figure and list(display.ax_) == list(axes)
    assert not axes[0].spines["top"].get_visible()
    with pytest.raises(ValueError, match="two Axes"):
        LinkDisplay([0.5]).plot(axes[0])


# Search


def test_a_search_of_scikit_learn_and_ours_give_the_same_map(iris):
    X, y = iris
    qs, lams = (0.5, 0.0), (1.0, 0.1, 0.3)
    ours = MGCEClassifierCV(qs=qs, lams=lams, cv=3, certify_scores=True).fit(X, y)
    theirs = GridSearchCV(MGCEClassifier(), {"q": qs, "lam": lams}, cv=3).fit(X, y)
    one, two = map(SearchDisplay.from_estimator, (ours, theirs))
    for display, search in ((one, ours), (two, theirs)):
        draw(display)
        np.testing.assert_array_equal(display.qs, [0.0, 0.5])
        np.testing.assert_array_equal(display.lams, [0.1, 0.3, 1.0])
        for params, score in zip(
            search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
        ):
            i, j = [0.0, 0.5].index(params["q"]), [0.1, 0.3, 1.0].index(params["lam"])
            assert display.scores[i, j] == score
            assert display.text_[i, j].get_text() == f"{score:.3f}"
            assert display.text_[i, j].get_position() == (j, i)
        assert display.chosen == (search.best_params_["q"], search.best_params_["lam"])
        x, y0 = display.chosen_patch_.get_xy()
        assert display.lams[int(x + 0.5)] == display.chosen[1]
        assert display.qs[int(y0 + 0.5)] == display.chosen[0]
        assert_apart(list(display.text_.ravel()), display.figure_)
    assert two.colorbar_.ax.get_ylabel() == "accuracy, mean over the folds"
    assert one.ax_.get_xlabel() == "half-width lam, standard errors"
    assert one.ax_.get_ylabel() == "loss parameter q"
    assert [tick.get_text() for tick in one.ax_.get_xticklabels()] == ["0.1", "0.3", "1"]


def test_a_search_over_a_pipeline(iris):
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), MGCEClassifier(width="std"))
    grid = {"mgceclassifier__q": [0.0, 0.5], "mgceclassifier__lam": [0.01, 0.1]}
    search = GridSearchCV(pipeline, grid, cv=2, scoring="neg_log_loss").fit(X, y)
    display = SearchDisplay.from_estimator(search)
    assert display.scores.max() == search.best_score_
    assert display.colorbar_.ax.get_ylabel() == "neg_log_loss, mean over the folds"
    assert display.ax_.get_xlabel() == "half-width lam, standard deviations"


def test_a_search_by_several_scores(iris):
    X, y = iris
    scoring = {"accuracy": "accuracy", "brier": "neg_brier_score"}
    grid = {"q": [0.0, 0.5], "lam": [0.1, 1.0]}
    search = GridSearchCV(MGCEClassifier(), grid, cv=2, scoring=scoring, refit="brier").fit(X, y)
    display = SearchDisplay.from_estimator(search)
    assert display.scores.max() == search.best_score_ < 0.0
    assert display.score_name == "mean test brier"
    accuracy = SearchDisplay.from_estimator(search, score="mean_test_accuracy")
    assert accuracy.scores.min() > 0.5
    search.refit = False
    with pytest.raises(ValueError, match=r"score must be given.*mean_test_accuracy"):
        SearchDisplay.from_estimator(search)


def results(**columns):
    q, lam = np.meshgrid([0.0, 0.5], [0.1, 1.0])
    known = {"param_q": q.ravel(), "param_lam": lam.ravel(), "mean_test_score": np.arange(4.0)}
    return {**known, **columns}


def test_a_cell_without_score_is_empty():
    display = draw(
        SearchDisplay.from_cv_results(results(mean_test_score=np.array([1.0, np.nan, 3.0, 4.0])))
    )
    assert np.isnan(display.scores[1, 0]) and display.text_[1, 0] is None
    assert display.chosen is None and display.chosen_patch_ is None
    ranked = results(rank_test_score=np.array([3, 2, 1, 4]))
    assert SearchDisplay.from_cv_results(ranked).chosen == (0.0, 1.0)


def test_many_numbers_in_cells_stay_apart():
    qs, lams = np.linspace(0, 1, 7), np.geomspace(0.01, 10, 14)
    display = draw(SearchDisplay(qs, lams, -np.ones((7, 14))).plot())
    assert_apart(list(display.text_.ravel()), display.figure_)


def test_numbers_can_be_read_on_their_cells():
    display = draw(
        SearchDisplay(np.array([0.0]), np.array([0.1, 1.0]), np.array([[0, 1.0]])).plot()
    )
    dark, light = display.text_[0]
    assert (dark.get_color(), light.get_color()) == ("white", "black")


# Frames


def test_frames_hold_the_numbers(cancer, along_lam, iris):
    X, y = cancer
    proba = along_lam[0].predict_proba(X)
    reliability = ReliabilityDisplay.from_predictions(y, proba, per_class=True)
    frame = reliability.frame()
    assert frame.columns.tolist() == ["curve", "confidence", "accuracy", "count"]
    of_1 = frame[frame["curve"] == "class 1"]
    np.testing.assert_array_equal(of_1["count"], reliability.curves["class 1"].count)

    bounds = ErrorBoundDisplay.from_estimator(
        along_lam, X[::2], X_test=X, y_test=y, rules=["randomized"]
    )
    frame = bounds.frame()
    assert frame.columns.tolist() == ["lam", "minimax_risk", "randomized_lower",
                                      "randomized_upper", "randomized_held_out"]  # fmt: skip
    np.testing.assert_array_equal(frame["randomized_held_out"], bounds.held_out["randomized"])
    np.testing.assert_array_equal(frame["randomized_upper"], bounds.upper["randomized"])
    assert (frame["randomized_lower"] < frame["randomized_upper"]).all()

    coefficients = CoefficientPathDisplay.from_estimator(along_lam).frame()
    assert coefficients.loc[3.0, "x2"] == along_lam[2].coef_[0, 2]

    model = MGCEClassifier().fit(*iris)
    frame = ConvergenceDisplay.from_estimator(model, name="fit").frame()
    assert frame["n_iter"].iloc[-1] == model.n_iter_
    gap = (frame["value"] - frame["dual_value"]) / frame["value"]
    np.testing.assert_allclose(frame["relative_gap"], gap, atol=1e-12)

    link = LinkDisplay([0.0, 1.0], margins=[0.0, 2.0]).frame()
    assert link.iloc[3].tolist() == [1.0, 2.0, 1.0, 1.0]
    search = SearchDisplay.from_cv_results(results()).frame()
    assert search.loc[0.5, 1.0] == 3.0


# Styles


@pytest.mark.parametrize("own", [{"c": "red"}, {"color": "red"}, [{"color": "red"}]])
def test_curves_take_a_users_settings(own, iris):
    display = ConvergenceDisplay.from_estimator(MGCEClassifier().fit(*iris), curve_kwargs=own)
    assert display.lines_[0].get_color() == "red"
    display = CoefficientPathDisplay.from_path(
        mgce_path(*iris, qs=[0.5], lams=[0.3, 1.0]),
        label=0,
        curve_kwargs={"c": "red", "label": "me"},
    )
    assert display.lines_[3].get_color() == "red" and display.lines_[3].get_label() == "me"


def test_colors_can_be_told_apart_without_red_and_green():
    """As deuteranopes see them, by the matrix of Viénot, Brettel and Mollon (1999)."""
    from matplotlib.colors import to_rgb

    linear = np.array([to_rgb(color) for color in COLORS]) ** 2.2
    seen = (
        linear @ np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]).T
    )
    seen = seen.clip(0.0) ** (1 / 2.2)
    distances = np.linalg.norm(seen[:, None] - seen, axis=2) + 9 * np.eye(len(seen))
    assert distances.min() > 0.15


def test_despine(iris, along_lam):
    model = MGCEClassifier().fit(*iris)
    for display in (
        ReliabilityDisplay.from_estimator(model, *iris, despine=True),
        ConvergenceDisplay.from_estimator(model, despine=True),
        CoefficientPathDisplay.from_estimator(along_lam, despine=True),
        ErrorBoundDisplay.from_estimator(model, iris[0], despine=True),
        SearchDisplay.from_cv_results(results(), despine=True),
    ):
        assert not display.ax_.spines["right"].get_visible()
        assert draw(display).figure_.get_size_inches()[0] == 6.0


# Mistakes


def check_raises(error, sentence, function, *arguments, **named):
    with pytest.raises(error, match=sentence) as caught:
        function(*arguments, **named)
    assert str(caught.value).count("\n") == 0


def test_mistakes_in_reliability(iris):
    X, y = iris
    model = MGCEClassifier().fit(X, y)
    make = ReliabilityDisplay.from_estimator
    check_raises(NotFittedError, "not fitted", make, MGCEClassifier(), X, y)
    check_raises(TypeError, "predict_proba; got LinearSVC", make, LinearSVC().fit(X, y), X, y)
    check_raises(TypeError, "per_class must be", make, model, X, y, per_class="yes")
    check_raises(ValueError, "strategy must be", make, model, X, y, strategy="wide")
    check_raises(ValueError, "name must be None", make, {"a": model}, X, y, name="b")
    check_raises(ValueError, "must have an entry", make, {}, X, y)
    two = MGCEClassifier().fit(X[:100], y[:100])
    check_raises(ValueError, "same classes", make, {"a": model, "b": two}, X, y)
    check_raises(
        ValueError, "each of the 1 curves; got 2", make, model, X, y, curve_kwargs=[{}, {}]
    )
    display = make(model, X, y)
    check_raises(ValueError, "name must be a string for each", display.plot, name=["a", "b"])


def test_mistakes_in_error_bounds(iris, along_lam):
    X, y = iris
    model = MGCEClassifier().fit(X, y)
    make = ErrorBoundDisplay.from_estimator
    check_raises(NotFittedError, "not fitted", make, MGCEClassifier(), X)
    other = LogisticRegression(max_iter=1000).fit(X, y)
    check_raises(TypeError, "error_bounds; got LogisticRegression", make, other, X)
    check_raises(ValueError, "together; got only X_test", make, model, X, X_test=X)
    check_raises(ValueError, "together; got only y_test", make, model, X, y_test=y)
    check_raises(ValueError, "rules must be", make, model, X, rules="both")
    check_raises(ValueError, "one or both", make, model, X, rules=[])
    check_raises(ValueError, "got an empty list", make, [], X)
    check_raises(ValueError, "differ by lam or by q", make, [model, model], X)
    both = MGCEClassifier(q=0.1, lam=1.0).fit(X, y)
    check_raises(ValueError, "differ by lam or by q", make, [model, both], X)


def test_mistakes_in_coefficients(iris, along_lam):
    X, y = iris
    path = mgce_path(X, y, qs=[0.0, 0.5], lams=[0.3, 1.0])
    make = CoefficientPathDisplay.from_path
    check_raises(ValueError, r"q must be one of \[0.0, 0.5\]; got None", make, path)
    check_raises(ValueError, "q must be one of", make, path, q=0.4)
    check_raises(ValueError, "label must be one of", make, path, q=0.5, label=7)
    check_raises(ValueError, "4 features; got 1", make, path, q=0.5, feature_names=["a"])
    check_raises(TypeError, "n_named must be", make, path, q=0.5, n_named="all")
    make = CoefficientPathDisplay.from_estimator
    check_raises(ValueError, "several fitted estimators that differ by lam", make, along_lam[0])
    other = MGCEClassifier(lam=7.0).fit(X, y)
    check_raises(ValueError, "same features and classes", make, [*along_lam, other])


def test_mistakes_in_convergence(iris):
    model = MGCEClassifier().fit(*iris)
    make = ConvergenceDisplay.from_estimator
    check_raises(ValueError, "against must be", make, model, against="hours")
    check_raises(
        TypeError,
        "trace_; got LogisticRegression",
        make,
        LogisticRegression(max_iter=1000).fit(*iris),
    )
    check_raises(ValueError, "must have a point; got none", ConvergenceDisplay, {"fit": ()})


def test_mistakes_in_the_link():
    check_raises(ValueError, "qs", LinkDisplay, [2.0])
    check_raises(ValueError, "n_classes must be an integer of at least 2", LinkDisplay, [0.5], 1)
    check_raises(ValueError, "finite numbers", LinkDisplay, [0.5], margins=[np.nan])
    check_raises(ValueError, "finite numbers", LinkDisplay, [0.5], margins=[[1.0]])


def test_mistakes_in_searches(iris):
    check_raises(NotFittedError, "not fitted", SearchDisplay.from_estimator, MGCEClassifierCV())
    other = MGCEClassifier().fit(*iris)
    check_raises(TypeError, "cv_results_", SearchDisplay.from_estimator, other)
    make = SearchDisplay.from_cv_results
    check_raises(ValueError, "got 'mean_train_score'. Its means are", make, results(),
                 score="mean_train_score")  # fmt: skip
    lacking = {key: value for key, value in results().items() if key != "param_q"}
    check_raises(ValueError, "param_q.*got none", make, lacking)
    twice = {key: np.tile(value, 2) for key, value in results().items()}
    by_tol = {**twice, "param_tol": np.repeat([0.1, 0.01], 4)}
    check_raises(ValueError, "differ by param_tol", make, by_tol)
    words = results(param_lam=np.array(["feasible", 1.0, 0.1, 2.0], dtype=object))
    check_raises(ValueError, "param_lam must have numbers", make, words)


WITHOUT = """
import sys
sys.modules["{0}"] = None
{1}
"""


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True).stderr.splitlines()[-1]


def test_without_matplotlib_one_sentence_says_what_to_install():
    told = run(WITHOUT.format("matplotlib", "import mgce_sklearn.plot"))
    assert told == (
        "ImportError: mgce_sklearn.plot needs matplotlib: pip install 'mgce_sklearn[plot]'."
    )


def test_without_pandas_one_sentence_says_what_to_install(monkeypatch):
    display = LinkDisplay([0.5]).plot()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"needs pandas: pip install 'mgce_sklearn\[plot\]'"):
        display.frame()


def test_an_open_gap_is_drawn_all_the_same(iris):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MGCEClassifier(max_iter=1).fit(*iris)
    display = draw(ConvergenceDisplay.from_estimator(model))
    (gaps,) = display.gaps.values()
    assert gaps[-1] > model.tol
