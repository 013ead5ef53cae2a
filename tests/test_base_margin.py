"""base_margin: margins of another classifier, to which those of the features are added."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from problems import _means_program, load, worst_case_by_linear_program
from scipy.optimize import linprog, minimize
from sklearn import config_context
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV, mgce_path
from mgce_sklearn.bounds import least_of_convex
from mgce_sklearn.kernels import reference
from mgce_sklearn.solvers import SOLVERS

FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)


def based(name, n_rows=None):
    """Return rows, labels, and the logarithms of a forest's out-of-fold probabilities."""
    X, y = load(name)
    if n_rows is not None:
        chosen = np.random.default_rng(0).permutation(len(y))[:n_rows]
        X, y = X[chosen], y[chosen]
    forest = RandomForestClassifier(10, random_state=0)
    proba = cross_val_predict(forest, X, y, cv=FOLDS, method="predict_proba")
    return X, y, np.log(proba + 0.02)


@pytest.fixture(scope="module")
def diabetes():
    return based("diabetes")


@pytest.fixture(scope="module")
def cancer():
    return based("breast_cancer", 200)


def base_loss(base, y, q):
    """Return L of the rows, and the half-width of its mean in standard errors."""
    n = len(y)
    loss = reference.threshold(base, q) - base[np.arange(n), y]
    at_zero = reference.threshold(np.zeros((1, base.shape[1])), q)[0]
    return loss, np.sqrt((loss.var() + (loss.mean() - at_zero) ** 2 / n) / n)


def worst_over_set(model, X, y, base, costs):
    """Maximize expected costs (n, K) over the means and the base's loss, by a linear program."""
    n, n_classes = base.shape
    q, lam, known = model.q, model.lam, model.uncertainty_set_
    program = _means_program(X, np.ones(n), known, n_classes)
    tau, width = known.tau.ravel(), known.half_width.ravel()
    loss, error = base_loss(base, y, q)
    of_base = (reference.threshold(base, q)[:, None] - base).T.ravel() / n
    found = linprog(
        -costs.T.ravel() / n,
        A_ub=sp.vstack([program, -program, sp.csr_array(of_base[None])]),
        b_ub=np.concatenate([tau + width, width - tau, [loss.mean() + lam * error]]),
        A_eq=sp.hstack([sp.eye(n)] * n_classes).tocsr(),
        b_eq=np.ones(n),
        method="highs-ipm",
    )
    assert found.status == 0
    return -found.fun


def features_of(X):
    return np.column_stack([X - X.mean(axis=0), np.ones(len(X))])


@pytest.mark.parametrize("q", [0.0, 0.5])
def test_a_fit_is_that_of_a_hand_written_objective(q):
    """L-BFGS of scipy on W⁺ and W⁻, every term from its definition."""
    X, y, base = based("diabetes", 150)
    lam, (n, d, n_classes) = 0.3, (150, 11, 4)
    features, one_hot = features_of(X), np.eye(n_classes)[y]
    tau = one_hot.T @ features / n
    width = lam * np.sqrt(one_hot.T @ features**2 / n - tau**2) / np.sqrt(n)
    loss, error = base_loss(base, y, q)

    def risk(parts):
        plus, minus = parts.reshape(2, n_classes, d)
        margins = base + features @ (plus - minus).T
        slope = reference.worst_case(margins, q).T @ features / n - tau
        value = np.mean(reference.threshold(margins, q) - base[np.arange(n), y])
        value += np.sum(width * (plus + minus)) - np.sum(tau * (plus - minus)) + lam * error
        return value, np.stack([width + slope, width - slope]).ravel()

    bounds = [(0.0, None)] * (2 * n_classes * d)
    options = {"ftol": 1e-14, "gtol": 1e-10, "maxiter": 10_000, "maxfun": 100_000}
    found = minimize(risk, np.zeros(len(bounds)), jac=True, bounds=bounds, options=options)
    plus, minus = found.x.reshape(2, n_classes, d)
    model = MGCEClassifier(q=q, lam=lam, tol=1e-8).fit(X, y, base_margin=base)
    assert model.minimax_risk_ == pytest.approx(found.fun, rel=1e-6)
    proba = reference.rule(base + features @ (plus - minus).T, q)
    np.testing.assert_allclose(model.predict_proba(X, base), proba, atol=2e-3)
    assert np.abs(plus - minus).max() > 0.1
    assert found.fun < np.mean(loss) + lam * error - 1e-3


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_the_risk_bounds_the_loss_over_the_set_with_the_base_loss(q, diabetes):
    """The worst expected loss by a linear program, of the means and of the base's loss."""
    X, y, base = diabetes
    model = MGCEClassifier(q=q, lam=0.5).fit(X, y, base_margin=base)
    proba = model.predict_proba(X, base)
    with np.errstate(divide="ignore"):
        losses = -np.log(proba) if q == 0.0 else (1.0 - proba**q) / q
    least = worst_over_set(model, X, y, base, losses)
    assert least <= model.minimax_risk_ + 1e-7
    assert model.minimax_risk_ <= 1.2 * least
    # Of margins in place of losses, and the base's loss at its ceiling, it is the sum of both.
    margins = model.decision_function(X, base)
    extended = reference.threshold(margins, q)[:, None] - margins
    most = worst_over_set(model, X, y, base, extended)
    assert least <= most + 1e-9 <= model.minimax_risk_ + 1e-7


@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
@pytest.mark.parametrize("solver", ["interior_point", "lbfgs", "sgd"])
def test_zeros_are_no_base(name, solver):
    X, y = load(name)
    zeros = np.zeros((len(y), len(np.unique(y))))
    model = MGCEClassifier(lam=1.0, solver=solver, tol=1e-3, random_state=0)
    plain = model.fit(X, y)
    risk, coef, proba = plain.minimax_risk_, plain.coef_, plain.predict_proba(X)
    model.fit(X, y, base_margin=zeros)
    np.testing.assert_array_equal(model.coef_, coef)
    np.testing.assert_array_equal(model.predict_proba(X, zeros), proba)
    assert model.minimax_risk_ == pytest.approx(risk, rel=1e-14)


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_certifies_the_same_optimum(solver, q, diabetes, cancer):
    if solver == "cvxpy":
        pytest.importorskip("cvxpy")
    for X, y, base in (diabetes, cancer):
        exact = MGCEClassifier(q=q, lam=1.0, tol=1e-7).fit(X, y, base_margin=base)
        assert exact.dual_gap_ <= 1e-7 * exact.minimax_risk_
        passes = {"max_iter": 100} if solver == "sgd" else {}
        model = MGCEClassifier(q=q, lam=1.0, tol=1e-3, solver=solver, random_state=0, **passes)
        for rows in (X, sp.csr_matrix(X)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(rows, y, base_margin=base)
            assert model.minimax_risk_ >= exact.minimax_risk_ * (1 - 1e-6)
            assert model.minimax_risk_ - model.dual_gap_ <= exact.minimax_risk_ * (1 + 1e-6)
            assert model.dual_gap_ <= 1e-2 * model.minimax_risk_
            if not sp.issparse(rows):
                assert model.minimax_risk_ <= exact.minimax_risk_ * (1 + 2e-3)


@pytest.mark.parametrize("q", [0.3, 1.0])
def test_tensors_give_the_fit_of_arrays(q, cancer):
    torch = pytest.importorskip("torch")
    X, y, base = cancer
    model = MGCEClassifier(q=q, lam=1.0, tol=1e-6).fit(X, y, base_margin=base)
    risk, proba = model.minimax_risk_, model.predict_proba(X, base)
    rows, margins = torch.tensor(X), torch.tensor(base)
    model.fit(rows, y, base_margin=margins)
    assert model.minimax_risk_ == pytest.approx(risk, rel=1e-5)
    np.testing.assert_allclose(model.predict_proba(rows, margins), proba, atol=1e-2)


@pytest.mark.parametrize("q", [0.0, 1.0])
def test_what_is_added_to_a_row_does_not_matter(q, diabetes):
    X, y, base = diabetes
    model = MGCEClassifier(q=q, lam=0.5).fit(X, y, base_margin=base)
    risk, proba = model.minimax_risk_, model.predict_proba(X, base)
    moved = base + np.random.default_rng(0).normal(size=(len(y), 1))
    model.fit(X, y, base_margin=moved)
    assert model.minimax_risk_ == pytest.approx(risk, rel=2e-4)
    np.testing.assert_allclose(model.predict_proba(X, moved), proba, atol=2e-2)


def test_two_classes_take_a_vector(cancer):
    X, y, base = cancer
    labels = np.array(["malignant", "benign"])[y]  # sorted, the other way round
    vector = base[:, 0] - base[:, 1]
    model = MGCEClassifier().fit(X, y, base_margin=base)
    margins = model.decision_function(X, base)
    other = MGCEClassifier().fit(X, labels, base_margin=vector)
    np.testing.assert_allclose(other.decision_function(X, vector), -margins, atol=1e-2)
    assert other.minimax_risk_ == pytest.approx(model.minimax_risk_, rel=2e-4)
    agree = other.predict(X, vector) == np.where(margins > 0, "benign", "malignant")
    assert agree.mean() > 0.99
    assert other.score(X, labels, base_margin=vector) == np.mean(other.predict(X, vector) == labels)


@pytest.mark.parametrize("width", ["standard_error", "std"])
def test_weight_two_is_the_row_twice_and_zero_the_row_left_out(width, diabetes):
    X, y, base = diabetes
    weights = np.random.default_rng(0).integers(0, 3, len(y))
    rows = np.repeat(np.arange(len(y)), weights)
    model = MGCEClassifier(lam=0.1, width=width, tol=1e-7)
    weighted = model.fit(X, y, weights, base).minimax_risk_
    repeated = model.fit(X[rows], y[rows], base_margin=base[rows]).minimax_risk_
    assert weighted == pytest.approx(repeated, rel=1e-6)


def test_a_base_without_an_error_is_not_taken_for_perfect(cancer):
    X, y, _ = cancer
    base = 10.0 * np.eye(2)[y]
    for q in (0.0, 0.5, 1.0):
        model = MGCEClassifier(q=q, lam=1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # zeros are not a prediction alike for all rows
            model.fit(X, y, base_margin=base)
        assert not model.coef_.any()
        at_zero = reference.threshold(np.zeros((1, 2)), q)[0]
        assert model.minimax_risk_ == pytest.approx(at_zero / len(y), rel=0.02)


def test_a_path_and_a_certificate_are_those_of_fits(diabetes):
    X, y, base = diabetes
    path = mgce_path(X, y, [0.0, 1.0], [0.3, 1.0], base_margin=base)
    assert path.converged.all()
    for i, q in enumerate(path.qs):
        model = MGCEClassifier(q=q, lam=1.0).fit(X, y, base_margin=base)
        assert path.minimax_risks[i, 1] == pytest.approx(model.minimax_risk_, rel=2e-4)
        certificate = model.certificate(X, y, base_margin=base)
        assert certificate.minimax_risk == pytest.approx(model.minimax_risk_, rel=1e-9)
        assert certificate.dual_gap <= 0.1 * certificate.minimax_risk


@pytest.mark.parametrize("q", [0.0, 1.0])
@pytest.mark.parametrize("data", ["diabetes", "cancer", "wine"])
def test_error_bounds_know_the_base_loss(q, data, request):
    X, y, base = based("wine") if data == "wine" else request.getfixturevalue(data)
    model = MGCEClassifier(q=q, lam=1.0).fit(X, y, base_margin=base)
    bounds = model.error_bounds(X, base_margin=base)
    errs = 1.0 - np.eye(base.shape[1])[model.predict(X, base)]
    exact = [sign * worst_over_set(model, X, y, base, sign * errs) for sign in (-1, 1)]
    assert [bounds.lower, bounds.upper] == pytest.approx(exact, abs=1e-3)
    assert bounds.lower <= exact[0] + 1e-9
    assert exact[1] <= bounds.upper + 1e-9
    assert bounds.gap <= 1e-3
    assert bounds.lower <= 1.0 - model.score(X, y, base_margin=base) <= bounds.upper
    means_alone = worst_case_by_linear_program(X, np.ones(len(y)), model.uncertainty_set_, errs.T)
    assert bounds.upper < means_alone - 1e-3
    for tol in (1e-3, 0.5):
        drawn = model.error_bounds(X, "randomized", tol=tol, base_margin=base)
        assert drawn.upper <= model.minimax_risk_ * (1 + 1e-9)


def test_error_bounds_of_rows_of_the_base(diabetes, cancer):
    X, y, base = diabetes
    model = MGCEClassifier(q=1.0, lam=2.0).fit(X, y, base_margin=base)
    weights = np.arange(len(y)) % 2
    half = model.error_bounds(X, sample_weight=weights, base_margin=base, max_time=60)
    assert half == model.error_bounds(X[1::2], base_margin=base[1::2], max_time=60)
    X, y, base = cancer
    model.fit(X, y, base_margin=base)
    with pytest.raises(ValueError, match="base loss is as small as in the fit"):
        model.error_bounds(X, base_margin=0.0 * base)  # whatever the labels


def test_a_convex_function_is_bounded_from_below():
    rng = np.random.default_rng(0)
    for _ in range(200):
        slopes, heights = np.sort(rng.normal(size=5)), rng.normal(size=5)
        slopes[-1] = 2.0

        def at(price, slopes=slopes, heights=heights):
            value = np.max(slopes * price + heights)
            return price, value + 1e-3, value - 1e-3

        grid = np.linspace(0.0, 20.0, 20_001)[:, np.newaxis]
        minimum = np.max(slopes * grid + heights, axis=1).min()
        points = [at(a) for a in (0.0, 1.0, 2.0)]
        for _ in range(12):
            price, bound = least_of_convex(sorted(points))
            assert price >= 0.0
            assert bound <= minimum + 1e-9
            points.append(at(price))
            points = list({point[0]: point for point in points}.values())
        assert bound >= minimum - 0.02


def test_a_certificate_for_new_rows_judges_the_corrected_rule():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (6000, 2))
    y = (X @ [1, 1] > 0).astype(int)
    base = np.column_stack([-3.0 * X[:, 0], 3.0 * X[:, 0]])
    train, held_out = slice(3000), slice(3000, None)
    model = MGCEClassifier(feature_range=(-1, 1)).fit(X[train], y[train], base_margin=base[train])
    good = model.confidence_bound(X[held_out], base_margin=base[held_out])
    # A base that decides everything, wrongly.
    bad = model.confidence_bound(X[held_out], base_margin=-100.0 * base[held_out])
    assert good.informative
    assert good.upper < bad.upper


def routed():
    """Return a pipeline whose last step asks for base margins, while routing is enabled."""
    model = MGCEClassifier(lam=1.0)
    model.set_fit_request(base_margin=True).set_score_request(base_margin=True)
    model.set_predict_request(base_margin=True)
    return make_pipeline(StandardScaler(), model)


def scores_without_routing(X, y, base):
    for train, test in FOLDS.split(X, y):
        scaler = StandardScaler().fit(X[train])
        alone = MGCEClassifier(lam=1.0)
        alone.fit(scaler.transform(X[train]), y[train], base_margin=base[train])
        yield alone.score(scaler.transform(X[test]), y[test], base_margin=base[test])


def test_it_is_routed_through_a_pipeline(diabetes):
    X, y, base = diabetes
    found = []
    with config_context(enable_metadata_routing=True):
        for train, test in FOLDS.split(X, y):
            piped = routed().fit(X[train], y[train], base_margin=base[train])
            predicted = piped.predict(X[test], base_margin=base[test])
            found.append(np.mean(predicted == y[test]))
            assert piped.score(X[test], y[test], base_margin=base[test]) == found[-1]
    np.testing.assert_allclose(found, list(scores_without_routing(X, y, base)), rtol=1e-12)


@pytest.mark.skipif(
    sklearn.__version__.startswith("1.7."),
    reason="scikit-learn 1.7 hands the scores of a pipeline no metadata in cross-validation",
)
def test_it_is_routed_through_cross_validation(diabetes):
    X, y, base = diabetes
    with config_context(enable_metadata_routing=True):
        params = {"base_margin": base}
        found = cross_validate(routed(), X, y, cv=FOLDS, params=params)["test_score"]
    np.testing.assert_array_equal(found, list(scores_without_routing(X, y, base)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda base: base[:-1], r"shape \(200, 2\), or \(200,\); got shape \(199, 2\)"),
        (lambda base: base[:, :1], r"got shape \(200, 1\)"),
        (lambda base: np.log(np.eye(2)[base.argmax(axis=1)]), "finite; row 0 has .*log"),
        (lambda base: [["a", "b"]] * 200, "base_margin must have numbers only"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_bad_margins_lose_nothing(spoil, message, cancer):
    X, y, base = cancer
    bad = spoil(base)
    model = MGCEClassifier().fit(X, y, base_margin=base)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, base_margin=bad)
    assert vars(model) == before
    with pytest.raises(ValueError, match=message):
        model.predict(X, bad)


def test_base_margins_are_given_always_or_never(cancer):
    X, y, base = cancer
    model = MGCEClassifier().fit(X, y, base_margin=base)
    for call in (
        model.predict,
        model.error_bounds,
        model.confidence_bound,
        model.predict_log_proba,
    ):
        with pytest.raises(ValueError, match="must be given, since the fit had one; got None"):
            call(X[:50])
    with pytest.raises(ValueError, match="must be given, since the fit had one; got None"):
        model.certificate(X, y)
    plain = MGCEClassifier().fit(X, y)
    with pytest.raises(ValueError, match="must be None, since the fit had none"):
        plain.predict_worst_case_proba(X, base)
    model.partial_fit(X, y)
    assert model.predict(X).shape == y.shape
    for width in ("hoeffding", np.ones((2, 31))):
        with pytest.raises(ValueError, match="width must be 'standard_error' or 'std' where"):
            MGCEClassifier(width=width).fit(X, y, base_margin=base)


def test_the_least_value_of_labeled_rows_is_that_of_their_labels(cancer):
    from problems import columns_of, make_objective

    X, y, base = cancer
    objective = make_objective(X, y)
    objective = replace(objective, offsets=columns_of(objective, base.T))
    assert objective.least_value == pytest.approx(base[np.arange(200), y].mean())


@pytest.mark.parametrize("certify_scores", [True, False])
def test_a_search_scores_the_corrected_rule(certify_scores, diabetes):
    X, y, base = diabetes
    search = MGCEClassifierCV(
        [0.0, 1.0], [0.3, 3.0], cv=FOLDS, certify_scores=certify_scores, tol=1e-7
    )
    search.fit(X, y, base_margin=base)
    for i, pair in enumerate(search.cv_results_["params"]):
        for fold, (train, test) in enumerate(FOLDS.split(X, y)):
            alone = MGCEClassifier(**pair, tol=1e-7)
            alone.fit(X[train], y[train], base_margin=base[train])
            score = alone.score(X[test], y[test], base_margin=base[test])
            found = search.cv_results_[f"split{fold}_test_score"][i]
            assert found == pytest.approx(score, abs=1e-12 if certify_scores else 0.03)
    chosen = MGCEClassifier(**search.best_params_, tol=1e-7).fit(X, y, base_margin=base)
    for method in ("predict", "predict_proba", "decision_function", "predict_worst_case_proba"):
        expected = getattr(chosen, method)(X, base)
        np.testing.assert_array_equal(getattr(search, method)(X, base), expected)
    assert search.score(X, y, base_margin=base) == chosen.score(X, y, base_margin=base)
    with pytest.raises(ValueError, match="got shape"):
        search.fit(X, y, base_margin=base[:, :2])


def test_a_search_scores_probabilities_and_folds_without_a_class(diabetes):
    X, y, base = diabetes
    y = np.where(np.arange(len(y)) == 5, 4, y)  # a class of one row
    base = np.column_stack([base, np.full(len(y), -4.0)])
    search = MGCEClassifierCV([0.5], [1.0], cv=FOLDS, scoring="accuracy", refit=False)
    with pytest.warns(UserWarning, match="least populated class"):
        search.fit(X, y, base_margin=base)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    train, test = next(FOLDS.split(X[:, :1], base[:, :4].argmax(axis=1)))
    labels = base[:, :4].argmax(axis=1)
    search = MGCEClassifierCV(
        [0.5], [1.0], cv=[(train, test)], scoring="neg_log_loss", certify_scores=True
    ).fit(X, labels, base_margin=base[:, :4])
    alone = MGCEClassifier(0.5, 1.0).fit(X[train], labels[train], base_margin=base[train, :4])
    proba = alone.predict_proba(X[test], base[test, :4])
    assert search.best_score_ == pytest.approx(-log_loss(labels[test], proba), rel=1e-9)
