"""MGCEStackingClassifier: a base, its out-of-fold margins, and their correction."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from problems import load
from scipy.stats import rankdata
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from mgce_sklearn import (
    EmptySetError,
    MGCEClassifier,
    MGCEClassifierCV,
    MGCEStackingClassifier,
)
from mgce_sklearn.calibration import TemperatureScaling

FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)
TREE = DecisionTreeClassifier(max_depth=3, random_state=0)


@parametrize_with_checks(
    [
        MGCEStackingClassifier(GaussianNB(), cv=2),
        MGCEStackingClassifier(GaussianNB(), cv=2, passthrough=False),
    ]
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def diabetes():
    return load("diabetes")


@pytest.fixture(scope="module")
def wine():
    return load("wine")


def out_of_fold(base, X, y, cv=FOLDS):
    return np.log(cross_val_predict(base, X, y, cv=cv, method="predict_proba") + 0.02)


@pytest.mark.parametrize("passthrough", [True, False])
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], ["d", "a", "c", "b"]])
def test_it_is_a_correction_of_margins_out_of_fold(passthrough, labels, diabetes):
    X, y = diabetes[0], np.array(labels)[diabetes[1]]
    model = MGCEStackingClassifier(
        TREE, 0.5, 0.3, 2.0, cv=FOLDS, passthrough=passthrough, keep_base_margin=True
    ).fit(X, y)
    margins = out_of_fold(TREE, X, y)
    np.testing.assert_array_equal(model.base_margin_, margins)
    features = X if passthrough else margins
    by_hand = MGCEClassifier(0.5, 0.3).fit(features, y, base_margin=2.0 * margins)
    assert model.minimax_risk_ == by_hand.minimax_risk_
    np.testing.assert_array_equal(model.coef_, by_hand.coef_)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    new = 1.1 * X
    margins = np.log(clone(TREE).fit(X, y).predict_proba(new) + 0.02)
    rows = (new if passthrough else margins), 2.0 * margins
    for method in (
        "predict", "predict_proba", "predict_log_proba", "predict_worst_case_proba",
        "decision_function",
    ):  # fmt: skip
        expected = getattr(by_hand, method)(*rows)
        np.testing.assert_array_equal(getattr(model, method)(new), expected)
    proba = model.margins_to_proba(model.decision_function(new))
    np.testing.assert_allclose(proba, model.predict_proba(new), atol=1e-12)
    assert (model.q_, model.lam_, model.scale_) == (0.5, 0.3, 2.0)
    assert model.n_iter_ > 0
    assert model.intercept_.shape == (4,)
    assert model.dual_gap_ <= 1e-4 * model.minimax_risk_
    assert not hasattr(model, "cv_results_")


@pytest.mark.parametrize("selection", ["largest_q", "best", "one_standard_error"])
def test_the_choice_is_by_one_search_over_all_three(selection, diabetes):
    X, y = diabetes
    qs, lams, scales = [0.0, 0.5, 1.0], [0.3, 3.0], [0.2, 1.0, 3.0]
    model = MGCEStackingClassifier(TREE, qs, lams, scales, cv=FOLDS, selection=selection)
    results = model.fit(X, y).cv_results_
    margins = out_of_fold(TREE, X, y)
    means, errors, candidates = [], [], []
    for scale in scales:
        search = MGCEClassifierCV(qs, lams, cv=FOLDS, refit=False)
        alone = search.fit(X, y, base_margin=scale * margins).cv_results_
        means += alone["mean_test_score"].tolist()
        errors += (alone["std_test_score"] / np.sqrt(2)).tolist()
        candidates += [{**pair, "scale": scale} for pair in alone["params"]]
    np.testing.assert_array_equal(results["mean_test_score"], means)
    assert results["params"] == candidates
    np.testing.assert_array_equal(results["param_scale"], np.repeat(scales, 6))
    np.testing.assert_array_equal(results["rank_test_score"], rankdata(-np.array(means), "min"))
    best = int(np.argmax(means))
    if selection != "best":
        name = "q" if selection == "largest_q" else "lam"
        near = [i for i in range(18) if means[i] >= means[best] - errors[best]]
        most = max(candidates[i][name] for i in near)
        best = max((i for i in near if candidates[i][name] == most), key=lambda i: means[i])
    found = {"q": model.q_, "lam": model.lam_, "scale": model.scale_}
    assert found == candidates[best]
    assert model.correction_.get_params()["q"] == model.q_
    again = MGCEStackingClassifier(TREE, model.q_, model.lam_, model.scale_, cv=FOLDS).fit(X, y)
    assert again.minimax_risk_ == model.minimax_risk_
    model.set_params(q=0.5, lam=1.0, scale=1.0).fit(X, y)
    assert not hasattr(model, "cv_results_")


def test_a_fitted_base_is_taken_as_it_is(diabetes):
    X, y = diabetes
    base = clone(TREE).fit(X[:200], y[:200])
    names = np.array(["d", "a", "c", "b"])
    by_name = clone(TREE).fit(X[:200], names[y[:200]])
    rows = X[200:], y[200:]
    margins = np.log(base.predict_proba(X[200:]) + 0.02)
    by_hand = MGCEClassifier(1.0, 1.0).fit(*rows, base_margin=margins)
    for model in (
        MGCEStackingClassifier(base, lam=1.0, cv="prefit"),
        MGCEStackingClassifier(FrozenEstimator(base), lam=1.0),
    ):
        assert model.fit(*rows).minimax_risk_ == by_hand.minimax_risk_
        assert (
            model.error_bounds(X[200:], tol=1e-2).upper
            == by_hand.error_bounds(X[200:], tol=1e-2, base_margin=margins).upper
        )
    named = MGCEStackingClassifier(by_name, cv="prefit").fit(X[200:], names[y[200:]])
    assert named.score(X[200:], names[y[200:]]) > 0.3
    searched = MGCEStackingClassifier(base, lam=1.0, cv="prefit", scale=[0.5, 1.0]).fit(*rows)
    assert len(searched.cv_results_["params"]) == 2
    with pytest.raises(ValueError, match=r"must have the classes of y, \['a', 'b'\].*it has \[0"):
        MGCEStackingClassifier(base, cv="prefit").fit(X, np.array(["a", "b"])[y % 2])


@pytest.mark.parametrize("n_classes", [2, 4])
def test_decision_values_are_margins_where_there_are_no_probabilities(n_classes, diabetes):
    X, y = diabetes[0], diabetes[1] % n_classes
    model = MGCEStackingClassifier(LinearSVC(), cv=FOLDS, keep_base_margin=True).fit(X, y)
    values = cross_val_predict(LinearSVC(), X, y, cv=FOLDS, method="decision_function")
    expected = values if n_classes > 2 else np.column_stack([0.0 * values, values])
    np.testing.assert_array_equal(model.base_margin_, expected)
    assert model.predict(X).shape == y.shape


def test_a_class_missing_in_a_fold_has_the_least_margin(wine):
    X, y = wine
    model = MGCEStackingClassifier(TREE, cv=KFold(3), keep_base_margin=True).fit(X, y)
    first = slice(0, 59)  # all rows of class 0, in the first fold
    np.testing.assert_allclose(model.base_margin_[first, 0], np.log(0.02))
    assert model.score(X, y) > 0.8


def test_boosting_of_tables_that_no_linear_model_takes():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    rng = np.random.default_rng(0)
    colors = np.array(["red", "green", "blue"])
    X = pd.DataFrame({"color": rng.choice(colors, 300), "size": rng.normal(size=300)})
    y = np.where((X["color"] == "red") | (X["size"] > 1), "yes", "no")
    X.loc[::7, "size"] = np.nan
    X["color"] = X["color"].astype("category")
    boosting = HistGradientBoostingClassifier(max_iter=10, categorical_features="from_dtype")
    with pytest.raises(ValueError, match=r"finite numbers for passthrough=True.*passthrough=False"):
        MGCEStackingClassifier(boosting).fit(X, y)
    model = MGCEStackingClassifier(boosting, passthrough=False, keep_base_margin=True).fit(X, y)
    assert model.score(X, y) > 0.9
    assert list(model.feature_names_in_) == ["color", "size"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns={"size": "weight"}))
    bounds = model.error_bounds(X)  # rows of text are known again
    assert bounds == model.correction_.error_bounds(
        model.base_margin_, base_margin=model.base_margin_
    )
    with pytest.raises(ValueError, match="all rows of the fit in their order"):
        model.error_bounds(X.iloc[::-1])
    model.set_params(keep_base_margin=False).fit(X, y)
    with pytest.raises(ValueError, match="keep_base_margin=True"):
        model.error_bounds(X)
    with pytest.raises(ValueError, match="Set passthrough=True, or give a base"):
        model.confidence_bound(X)

    def filled(rows):
        return rows[["size"]].fillna(0.0).to_numpy()

    mapped = MGCEStackingClassifier(boosting, feature_map=filled).fit(X, y)
    assert mapped.coef_.shape == (1, 1)
    assert mapped.score(X, y) > 0.9


def test_lists_of_text():
    texts, y = ["good film", "bad film", "good play", "bad play"] * 10, [1, 0] * 20
    base = make_pipeline(CountVectorizer(), MultinomialNB())
    model = MGCEStackingClassifier(base, passthrough=False).fit(texts, y)
    np.testing.assert_array_equal(model.predict(["a good one", "a bad one"]), [1, 0])


@pytest.mark.parametrize("module, name", [("lightgbm", "LGBM"), ("xgboost", "XGB")])
def test_boosting_of_other_libraries(module, name, wine):
    kind = getattr(pytest.importorskip(module), f"{name}Classifier")
    X, y = wine
    labels = np.array(["c", "a", "b"])[y]
    model = MGCEStackingClassifier(kind(n_estimators=10)).fit(X, labels)
    assert model.score(X, labels) > 0.95


class Weighing(GaussianNB):
    """Remembers the sum of its weights."""

    def fit(self, X, y, sample_weight=None):
        self.total_ = None if sample_weight is None else sample_weight.sum()
        return super().fit(X, y, sample_weight)


def test_weights_go_to_the_base_and_to_the_correction(diabetes):
    X, y = diabetes
    weights = 1.0 + np.arange(len(y)) % 3
    model = MGCEStackingClassifier(Weighing(), lam=1.0, cv=FOLDS, keep_base_margin=True)
    model.fit(X, y, weights)
    assert model.estimator_.total_ == weights.sum()
    with_weights = cross_val_predict(
        GaussianNB(), X, y, cv=FOLDS, method="predict_proba", params={"sample_weight": weights}
    )
    np.testing.assert_array_equal(model.base_margin_, np.log(with_weights + 0.02))
    by_hand = MGCEClassifier(1.0, 1.0).fit(X, y, weights, model.base_margin_)
    assert model.minimax_risk_ == by_hand.minimax_risk_
    piped = MGCEStackingClassifier(make_pipeline(StandardScaler(), Weighing()), cv=FOLDS)
    with pytest.warns(UserWarning, match=r"Pipeline.fit takes no sample_weight"):
        piped.fit(X, y, weights)
    assert piped.estimator_[-1].total_ is None
    with config_context(enable_metadata_routing=True):
        base = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False),
            Weighing().set_fit_request(sample_weight=True),
        )
        routed = MGCEStackingClassifier(base, cv=FOLDS).fit(X, y, sample_weight=weights)
    assert routed.estimator_[-1].total_ == weights.sum()
    assert routed.cv_results_["param_lam"].tolist() == [1.0, 3.0]


def test_groups_stay_together(diabetes):
    X, y = diabetes
    groups = np.arange(len(y)) // 10
    model = MGCEStackingClassifier(TREE, cv=GroupKFold(3), keep_base_margin=True)
    model.fit(X, y, groups=groups)
    folds = list(GroupKFold(3).split(X, y, groups))
    np.testing.assert_array_equal(model.base_margin_, out_of_fold(TREE, X, y, folds))
    with pytest.raises(TypeError, match="fit takes colors only with metadata routing"):
        model.fit(X, y, colors=groups)


def test_bounds_on_rows_of_the_fit_are_those_of_its_own_margins(diabetes):
    X, y = diabetes
    model = MGCEStackingClassifier(TREE, lam=2.0, cv=FOLDS).fit(X, y)
    with pytest.raises(ValueError, match=r"not stored. Fit with keep_base_margin=True"):
        model.error_bounds(X)
    with pytest.raises(ValueError, match="must be rows that the fit has not seen"):
        model.confidence_bound(X)
    risk = model.minimax_risk_
    model.set_params(keep_base_margin=True).fit(X, y)
    assert model.minimax_risk_ == risk
    bounds = model.error_bounds(X, tol=1e-2, max_time=60.0)
    margins = model.base_margin_
    assert bounds == model.correction_.error_bounds(X, tol=1e-2, max_time=60.0, base_margin=margins)
    error = np.mean(model.correction_.predict(X, margins) != y)
    assert bounds.lower <= error <= bounds.upper
    with pytest.raises(ValueError, match="all rows of the fit in their order"):
        model.error_bounds(X[::-1])


def test_bounds_on_rows_held_out():
    X, y = make_classification(3000, 5, n_informative=5, n_redundant=0, random_state=0)
    train, held_out = slice(1500), slice(1500, None)
    model = MGCEStackingClassifier(GaussianNB(), lam=3.0).fit(X[train], y[train])
    bounds = model.error_bounds(X[held_out], tol=1e-2)
    error = np.mean(model.predict(X[held_out]) != y[held_out])
    assert bounds.lower <= error <= bounds.upper < 0.5
    found = model.confidence_bound(X[held_out])
    assert error <= found.upper
    judged = model.correction_.confidence_bound(
        X[held_out], base_margin=np.log(model.estimator_.predict_proba(X[held_out]) + 0.02)
    )
    assert found == judged
    with pytest.warns(FutureWarning, match="certify is deprecated; call confidence_bound"):
        assert model.certify(X[held_out]) == judged
    with pytest.raises(EmptySetError):
        model.error_bounds(X[held_out] + 1.0)


def test_nothing_as_long_as_the_rows_is_kept_unless_asked():
    X, y = make_classification(8000, random_state=0)
    sizes = {}
    for keep in (False, True):
        for n in (4000, 8000):
            model = MGCEStackingClassifier(GaussianNB(), cv=2, keep_base_margin=keep, tol=0.1)
            sizes[keep, n] = len(pickle.dumps(model.fit(X[:n], y[:n])))
    assert sizes[False, 8000] == pytest.approx(sizes[False, 4000], abs=500)
    assert sizes[True, 8000] > sizes[True, 4000] + 4000 * 16


def test_of_a_list_the_base_of_best_accuracy_out_of_fold_is_corrected(wine):
    X, y = wine
    bases = [DummyClassifier(), GaussianNB(), DecisionTreeClassifier(max_depth=1)]
    model = MGCEStackingClassifier(bases, keep_base_margin=True).fit(X, y)
    scores = [cross_val_score(base, X, y, cv=5).mean() for base in bases]
    np.testing.assert_allclose(model.estimator_scores_, scores, atol=0.01)
    alone = MGCEStackingClassifier(GaussianNB(), keep_base_margin=True).fit(X, y)
    np.testing.assert_array_equal(model.base_margin_, alone.base_margin_)
    np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))
    assert isinstance(model.estimator_, GaussianNB)


def test_weights_count_in_the_choice_of_the_base(wine):
    X, y = wine
    bases = [DummyClassifier(strategy="constant", constant=k) for k in range(3)]
    for k in range(3):
        weight = np.where(y == k, 10.0, 1.0)
        model = MGCEStackingClassifier(bases, tol=0.1).fit(X, y, weight)
        assert model.estimator_.constant == k
        assert model.estimator_scores_[k] == pytest.approx(weight[y == k].sum() / weight.sum())


def test_of_equal_bases_the_first_is_corrected(wine):
    bases = [DummyClassifier(), DummyClassifier(strategy="most_frequent")]
    model = MGCEStackingClassifier(bases, tol=0.1).fit(*wine)
    assert model.estimator_.strategy == "prior"


def test_bases_of_a_list_get_the_metadata_they_request(wine):
    X, y = wine
    weight = np.where(y == 0, 10.0, 1.0)
    with config_context(enable_metadata_routing=True):
        bases = [
            DummyClassifier(strategy="prior").set_fit_request(sample_weight=False),
            GaussianNB().set_fit_request(sample_weight=True),
        ]
        model = MGCEStackingClassifier(bases).set_fit_request(sample_weight=True)
        model.fit(X, y, sample_weight=weight)
    expected = GaussianNB().fit(X, y, weight)
    np.testing.assert_array_equal(model.estimator_.class_prior_, expected.class_prior_)
    unrouted = MGCEStackingClassifier(GaussianNB()).fit(X, y, weight)
    for name in ("mean_test_score", "split0_test_score"):
        np.testing.assert_array_equal(model.cv_results_[name], unrouted.cv_results_[name])


@pytest.mark.filterwarnings("ignore:The temperature ended at its limit")
def test_the_default_is_the_forest_whose_leaves_suit(wine):
    X, y = wine
    model = MGCEStackingClassifier(random_state=3).fit(X, y)
    assert isinstance(model.estimator_, ExtraTreesClassifier)
    assert model.estimator_.n_estimators == 100
    assert model.estimator_.random_state == 3
    leaves = (1, 5, 20)
    assert model.estimator_.min_samples_leaf == leaves[model.estimator_scores_.argmax()]
    noisy = make_classification(1000, flip_y=0.7, random_state=0)
    assert MGCEStackingClassifier(random_state=3).fit(*noisy).estimator_.min_samples_leaf > 1
    assert (model.q_, model.scale_) == (1.0, 1.0)
    assert model.cv_results_["param_lam"].tolist() == [1.0, 3.0]
    assert model.score(X, y) > 0.95
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
    tempered = TemperatureScaling(FrozenEstimator(model)).fit(X, y)
    assert tempered.predict_proba(X).shape == (178, 3)


def test_names_of_maps_are_taken(wine):
    X, y = wine
    model = MGCEStackingClassifier(GaussianNB(), feature_map="threshold").fit(X, y)
    assert model.coef_.shape[1] > X.shape[1]
    assert model.score(X, y) > 0.95


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"scale": 0.0}, ValueError, "scale must be a positive, finite number"),
        ({"scale": [1.0, -1.0]}, ValueError, r"scale\[1\] must be a positive"),
        ({"q": 2.0}, ValueError, r"q must be a number in \[0, 1\]"),
        ({"lam": []}, ValueError, "lam must have at least one number"),
        ({"estimator": "forest"}, TypeError, "estimator must be a classifier with predict_proba"),
        ({"estimator": StandardScaler()}, TypeError, "estimator must be a classifier"),
        ({"estimator": [GaussianNB(), "forest"]}, TypeError, "or a list of such; got 'forest'"),
        (
            {"estimator": []},
            ValueError,
            r"estimator must be one .* at least one otherwise; got \[\]",
        ),
        (
            {"estimator": None, "cv": "prefit"},
            ValueError,
            "estimator must be one classifier if it is fitted already",
        ),
        (
            {"estimator": [FrozenEstimator(GaussianNB()), GaussianNB()]},
            ValueError,
            "estimator must be one classifier if it is fitted already",
        ),
        ({"cv": "all"}, ValueError, "cv must be a number of folds.*got 'all'"),
        ({"passthrough": "yes"}, TypeError, "passthrough must be True or False"),
        ({"passthrough": False, "feature_map": "relu"}, ValueError, "feature_map must be None for"),
        ({"selection": "worst"}, ValueError, "selection must be one of"),
        ({"cv": []}, ValueError, "cv must give at least one fold"),
    ],
)
def test_bad_parameters_lose_nothing(parameters, error, message, wine):
    X, y = wine
    model = MGCEStackingClassifier(GaussianNB()).fit(X, y)
    model.set_params(**parameters)
    before = dict(vars(model))
    with pytest.raises(error, match=message):
        model.fit(X, y)
    assert vars(model) == before


def test_one_class_and_classes_without_weight_are_refused(wine):
    with pytest.raises(ValueError, match=r"it is 0 in all rows of 2. Leave that class out"):
        MGCEStackingClassifier(GaussianNB()).fit(*wine, sample_weight=wine[1] < 2)
    with pytest.raises(ValueError, match="y must have at least 2 classes"):
        MGCEStackingClassifier(LogisticRegression()).fit(wine[0], np.zeros(178))
