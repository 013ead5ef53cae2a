"""Labels that became wrong by a known matrix, against formulas written out and linear programs."""

import numpy as np
import pytest
import scipy.sparse as sp
from problems import least_cross_entropy
from scipy.optimize import linprog
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.model_selection import StratifiedKFold

from mgce_sklearn import EmptySetError, MGCEClassifier, MGCEClassifierCV, mgce_path
from mgce_sklearn.feasibility import GROWTH_ACCURACY, Sample
from mgce_sklearn.label_noise import matrix_noise, symmetric_noise, symmetric_transition
from mgce_sklearn.path import ROOM, anchor_of, feasible_lam, objective_of
from mgce_sklearn.problem import Problem
from mgce_sklearn.solvers import SOLVERS, Progress

T = np.array([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.0, 0.1, 0.9]])
LOADERS = {"iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer}


def noisy(name, matrix, seed=0):
    X, y = LOADERS[name](return_X_y=True)
    return X, y, matrix_noise(y, matrix, random_state=seed)


def components(X, observed, matrix, center):
    """Return (T^-1)[observed, k] (x - c), rows × classes × features, the intercept's last."""
    x = np.column_stack([X, np.ones(len(X))]) - center
    return np.einsum("ik,ij->ikj", np.linalg.inv(matrix)[observed], x)


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("kind", ["dense", "sparse", "tensor"])
@pytest.mark.parametrize("center", [True, False])
def test_means_and_widths_are_those_of_the_corrected_rows(name, kind, center):
    matrix = T if name != "breast_cancer" else T[:2, :2] / T[:2, :2].sum(axis=1, keepdims=True)
    X, _, observed = noisy(name, matrix)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
    rows = X
    if kind == "tensor":
        rows = pytest.importorskip("torch", reason="needs PyTorch").tensor(X)
    elif kind == "sparse":
        rows = sp.csr_array(X)
    model = MGCEClassifier(0.5, 3.0, noise_matrix=matrix, center=center)
    found = model.fit(rows, observed, weights).uncertainty_set_
    Z, share = components(X, observed, matrix, found.center), weights / weights.sum()
    tau = np.einsum("i,ikj->kj", share, Z)
    np.testing.assert_allclose(found.tau, tau, rtol=1e-9, atol=1e-11 * np.abs(X).max())
    deviation = np.sqrt(np.einsum("i,ikj->kj", share, Z**2) - tau**2)
    np.testing.assert_allclose(
        found.half_width, 3.0 * deviation / np.sqrt(weights.sum()), rtol=1e-6, atol=1e-12
    )


def test_true_means_are_met_on_average():
    X, y = load_iris(return_X_y=True)
    x = np.column_stack([X, np.ones(len(X))])
    tau = np.einsum("ik,ij->kj", np.eye(3)[y], x) / len(y)
    found = []
    for seed in range(60):
        observed = matrix_noise(y, T, random_state=seed)
        model = MGCEClassifier(0.5, 5.0, noise_matrix=T, center=False).fit(X, observed)
        found.append(model.uncertainty_set_.tau)
    error = np.std(found, axis=0) / np.sqrt(60)
    assert (np.abs(np.mean(found, axis=0) - tau) < 4.0 * error + 1e-12).all()


def test_a_feature_constant_in_an_observed_class_gets_a_pseudo_observation():
    """As without a matrix, in proportion to the squares that the class comes with."""
    X, _, observed = noisy("iris", T)
    X[observed == 0, 0] = 5.0
    plain = MGCEClassifier(lam=3.0).fit(X, observed).uncertainty_set_.half_width
    X[np.flatnonzero(observed == 0)[0], 0] += 1e-8
    near = MGCEClassifier(lam=3.0).fit(X, observed).uncertainty_set_.half_width
    unseen = (plain[0, 0] ** 2 - near[0, 0] ** 2) * np.linalg.inv(T)[0] ** 2
    wide = MGCEClassifier(lam=3.0, noise_matrix=T).fit(X, observed).uncertainty_set_.half_width
    X[observed == 0, 0] = 5.0
    wider = MGCEClassifier(lam=3.0, noise_matrix=T).fit(X, observed).uncertainty_set_.half_width
    np.testing.assert_allclose(wider[:, 0] ** 2 - wide[:, 0] ** 2, unseen, rtol=1e-3)


@pytest.mark.parametrize("solver", ["interior_point", "lbfgs", "sgd"])
@pytest.mark.parametrize("matrix", [0.0, np.eye(3)])
def test_a_matrix_that_changes_no_label_changes_nothing(solver, matrix):
    X, y = load_iris(return_X_y=True)
    plain = MGCEClassifier(0.5, 0.5, tol=1e-5).fit(X, y)
    model = MGCEClassifier(0.5, 0.5, tol=1e-3, solver=solver, noise_matrix=matrix).fit(X, y)
    np.testing.assert_allclose(model.uncertainty_set_.tau, plain.uncertainty_set_.tau, atol=1e-14)
    for set_ in (model.uncertainty_set_,):
        np.testing.assert_allclose(set_.half_width, plain.uncertainty_set_.half_width, rtol=1e-9)
    assert model.minimax_risk_ == pytest.approx(plain.minimax_risk_, rel=1e-3)
    assert model.dual_gap_ <= 1e-3 * model.minimax_risk_


def test_the_optimum_is_another_solvers():
    X, _, observed = noisy("iris", T)
    model = MGCEClassifier(0.0, 1.0, noise_matrix=T, tol=1e-8).fit(X, observed)
    x = np.column_stack([X, np.ones(len(X))]) - model.uncertainty_set_.center
    best = least_cross_entropy(x, model.uncertainty_set_)
    assert model.minimax_risk_ == pytest.approx(best, abs=1e-6)
    assert best >= model.minimax_risk_ - model.dual_gap_ - 1e-9


def least_lam(X, observed, matrix):
    """Return the least lam whose set holds something, by a linear program over p and lam."""
    set_ = MGCEClassifier(lam=100.0, noise_matrix=matrix).fit(X, observed).uncertainty_set_
    x = np.column_stack([X, np.ones(len(X))]) - set_.center
    n, n_classes = len(X), len(set_.tau)
    # Unknowns: p (n × K), lam. mean p_k x - tau_k within lam times the width of lam = 1.
    means = sp.block_diag([x.T / n] * n_classes, format="csr")
    by_class = sp.eye_array(n * n_classes, format="csr").tocsr()
    width = set_.half_width.reshape(-1, 1) / 100.0
    tau = set_.tau.ravel()
    A = sp.vstack([sp.hstack([means @ by_class, -width]), sp.hstack([-means @ by_class, -width])])
    sums = sp.hstack([sp.hstack([sp.eye_array(n)] * n_classes), sp.csr_array((n, 1))])
    cost = np.append(np.zeros(n * n_classes), 1.0)
    solved = linprog(cost, A, np.concatenate([tau, -tau]), sums, np.ones(n), method="highs")
    return solved.x[-1]


@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
def test_the_least_lam_is_a_linear_programs(name):
    X, y = LOADERS[name](return_X_y=True)
    observed = symmetric_noise(y, 0.2, random_state=0)
    expected = least_lam(X, observed, symmetric_transition(y.max() + 1, 0.2))
    with pytest.raises(EmptySetError, match=r"lam must grow from 0\.1 to .*'feasible'") as caught:
        MGCEClassifier(lam=0.1, noise_matrix=0.2).fit(X, observed)
    found = 0.1 * caught.value.growth
    assert expected <= found <= expected * (1.0 + 2.0 * GROWTH_ACCURACY)
    MGCEClassifier(lam=1.02 * expected, noise_matrix=0.2, tol=1e-2).fit(X, observed)
    with pytest.raises(EmptySetError):
        MGCEClassifier(lam=0.98 * expected, noise_matrix=0.2).fit(X, observed)


def test_feasible_is_at_least_one_and_has_room():
    X, y = load_wine(return_X_y=True)
    observed = symmetric_noise(y, 0.2, random_state=0)
    model = MGCEClassifier(lam="feasible", noise_matrix=0.2).fit(X, observed)
    one = MGCEClassifier(lam=1.0, noise_matrix=0.2).fit(X, observed)
    np.testing.assert_array_equal(model.coef_, one.coef_)
    # A rate that is far too high leaves nothing at 1.
    model.set_params(noise_matrix=0.6).fit(X, observed)
    expected = ROOM * least_lam(X, observed, symmetric_transition(3, 0.6))
    set_ = model.uncertainty_set_
    unit = MGCEClassifier(lam=100.0, noise_matrix=0.6).fit(X, observed).uncertainty_set_
    lam = 100.0 * (set_.half_width / unit.half_width).mean()
    assert 1.0 < expected <= lam <= expected * (1.0 + 2.0 * GROWTH_ACCURACY)
    assert MGCEClassifier(lam="feasible").fit(X, y).minimax_risk_ == pytest.approx(
        MGCEClassifier(lam=1.0).fit(X, y).minimax_risk_
    )


def test_zero_coefficients_at_a_feasible_lam_are_a_warning():
    observed = np.repeat([0, 1], [160, 40])
    X = np.where(np.arange(200) % 2 == 0, 1.0, -1.0)[:, np.newaxis]  # tells nothing of classes
    model = MGCEClassifier(lam="feasible", noise_matrix=0.1)
    with pytest.warns(UserWarning, match="at lam=1 no feature"):
        model.fit(X, observed)
    assert not model.coef_.any()


@pytest.mark.parametrize("solver", ["interior_point", "lbfgs", "sgd"])
@pytest.mark.parametrize("q", [0.3, 1.0])
def test_every_solver_has_a_certificate(solver, q):
    if solver == "lbfgs" and q == 1.0:
        pytest.skip("lbfgs ends above the gap at q = 1, with labels too")
    X, _, observed = noisy("wine", T)
    model = MGCEClassifier(q, 1.5, solver=solver, tol=1e-2, noise_matrix=T).fit(X, observed)
    assert model.dual_gap_ <= 1e-2 * model.minimax_risk_
    exact = MGCEClassifier(q, 1.5, tol=1e-6, noise_matrix=T).fit(X, observed)
    lower = model.minimax_risk_ - model.dual_gap_
    assert lower <= exact.minimax_risk_ + 1e-9
    assert exact.minimax_risk_ - exact.dual_gap_ <= model.minimax_risk_ + 1e-9


def test_bounds_are_about_true_labels():
    X, y = load_breast_cancer(return_X_y=True)
    observed = symmetric_noise(y, 0.2, random_state=0)
    model = MGCEClassifier(1.0, 1.0, noise_matrix=0.2).fit(X, observed)
    bounds = model.error_bounds(X)
    assert bounds.lower <= 1.0 - model.score(X, y) <= bounds.upper < 0.5
    plain = MGCEClassifier(1.0, 1.0).fit(X, observed)
    assert plain.error_bounds(X).lower > 1.0 - plain.score(X, y)  # of labels as they come


def test_portions_count_as_one_sample():
    X, _, observed = noisy("wine", T)
    model = MGCEClassifier(lam=2.0, noise_matrix=T).partial_fit(X[::2], observed[::2], [0, 1, 2])
    model.partial_fit(X[1::2], observed[1::2])
    whole = MGCEClassifier(lam=2.0, noise_matrix=T).fit(X, observed)
    for name in ("tau", "half_width"):
        mine, theirs = (getattr(m.uncertainty_set_, name) for m in (model, whole))
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-14)
    value, gap = whole.certificate(X, observed)
    assert value == pytest.approx(whole.minimax_risk_)
    assert gap <= 1e-2 * value
    with pytest.raises(ValueError, match="noise_matrix must stay what it was"):
        model.set_params(noise_matrix=None).partial_fit(X, observed)
    with pytest.raises(ValueError, match="lam must be a number for partial_fit"):
        MGCEClassifier(lam="feasible").partial_fit(X, observed, [0, 1, 2])


def test_a_step_of_a_stream_reads_corrected_labels():
    """One portion of one step: its gradient is that of the mean of the corrected rows."""
    X, _, observed = noisy("iris", T)
    rows = np.arange(0, 150, 5)
    model = MGCEClassifier(0.0, 1e-6, noise_matrix=T, center=False)
    model.partial_fit(X[rows], observed[rows], [0, 1, 2])
    Z = components(X[rows], observed[rows], T, 0.0)
    x = np.column_stack([X[rows], np.ones(30)])
    gradient = np.tile(x.mean(axis=0) / 3.0, (3, 1)) - Z.mean(axis=0)
    assert (np.sign(model.coef_) == -np.sign(gradient[:, :-1])).all()


def test_searches_score_by_true_labels():
    X, _, observed = noisy("wine", T)
    search = MGCEClassifierCV([0.5], [2.0], cv=3, noise_matrix=T, certify_scores=True)
    search.fit(X, observed)
    inverse = np.linalg.inv(T)
    for i, (train, test) in enumerate(StratifiedKFold(3).split(X, observed)):
        model = MGCEClassifier(0.5, 2.0, noise_matrix=T).fit(X[train], observed[train])
        expected = inverse[observed[test], model.predict(X[test])].mean()
        assert search.cv_results_[f"split{i}_test_score"][0] == pytest.approx(expected)
    named = MGCEClassifierCV([0.5], [2.0], cv=3, noise_matrix=T, scoring="accuracy")
    assert named.fit(X, observed).best_score_ < search.best_score_
    with pytest.raises(ValueError, match="All 3 fits failed, the first with EmptySetError"):
        MGCEClassifierCV([0.5], [1e-3], cv=3, noise_matrix=T).fit(X, observed)


def test_paths_take_a_matrix():
    X, _, observed = noisy("wine", T)
    path = mgce_path(X, observed, [0.5], [1.0, 2.0], noise_matrix=T)
    expected = MGCEClassifier(0.5, 2.0, noise_matrix=T).fit(X, observed)
    assert path.minimax_risks[0, 1] == pytest.approx(expected.minimax_risk_, rel=1e-4)
    assert path.converged.all()
    with pytest.raises(EmptySetError):
        mgce_path(X, observed, [0.5], [1.0, 1e-3], noise_matrix=T)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"noise_matrix": 2 / 3}, "rows that differ"),
        ({"noise_matrix": np.eye(2)}, r"shape \(3, 3\); got shape \(2, 2\)"),
        ({"noise_matrix": [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]}, "an accurate inverse"),
        ({"noise_matrix": "much"}, "a rate in"),
        ({"noise_matrix": 0.2, "class_weight": "balanced"}, "class_weight must be None"),
        ({"noise_matrix": 0.2, "width": "betting"}, "noise_matrix must be None if width"),
        ({"lam": "largest"}, "or 'feasible'"),
    ],
)
def test_what_cannot_be_used_gets_a_sentence(parameters, words):
    X, y = load_iris(return_X_y=True)
    model = MGCEClassifier(**parameters)
    with pytest.raises(ValueError, match=words):
        model.fit(X, y)
    assert not hasattr(model, "coef_")


def test_a_missing_class_distributions_and_certify_are_refused():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=r"shape \(2, 2\); got shape \(3, 3\)"):
        MGCEClassifier(noise_matrix=T).fit(X[y > 0], y[y > 0])
    with pytest.raises(ValueError, match="y must be labels beside a noise_matrix"):
        MGCEClassifier(noise_matrix=T).fit(X, np.eye(3)[y])
    with pytest.raises(ValueError, match="base_margin must be None beside a noise_matrix"):
        MGCEClassifier(noise_matrix=T).fit(X, y, base_margin=np.zeros((150, 3)))
    model = MGCEClassifier(lam=1.0, noise_matrix=0.1)
    model.fit(X, symmetric_noise(y, 0.1, random_state=0))
    with pytest.raises(
        ValueError, match="noise_matrix must be None in the fit for confidence_bound"
    ):
        model.confidence_bound(X)


def two_classes():
    X, y = load_breast_cancer(return_X_y=True)
    X[:, 4] = 0.0  # says nothing, and has no half-width
    observed = symmetric_noise(y, 0.2, random_state=0)
    return Problem.from_labels(X, observed, noise_matrix=0.2)


def test_an_anchor_is_the_excess_of_some_distributions():
    """Of two classes that of the second, as a linear program over p confirms."""
    problem = two_classes()
    anchor = anchor_of(problem, 0.5)
    uncertainty = problem.uncertainty(0.5)
    assert anchor.excess.shape == (1, 31)
    assert (np.abs(anchor.excess) <= uncertainty.half_width.min(axis=0)).all()
    assert anchor.excess[0, 4] == 0.0
    design = problem.parts.like
    x = design.features() * design.weights
    mean = (uncertainty.tau[1:] + anchor.excess)[0]
    size = np.abs(design.features()).max(axis=1)
    size[size == 0.0] = 1.0
    found = linprog(np.zeros(design.n_rows), None, None, x / size[:, None], mean / size, (0.0, 1.0))
    assert found.status == 0
    # Neither that of the first class, nor means of their own, are those of any.
    for other in (-anchor.excess, np.zeros_like(anchor.excess)):
        mean = (uncertainty.tau[1:] + other)[0]
        none = linprog(np.zeros(design.n_rows), None, None, x / size[:, None], mean / size, (0, 1))
        assert none.status == 2


def test_solvers_begin_with_the_anchor():
    problem = two_classes()
    objective = objective_of(problem, 0.5, 0.5)
    progress = Progress(SOLVERS["lbfgs"](), objective)
    assert progress.anchor is objective.anchor
    assert progress.dual_value == 0.0
    uniform = problem.parts.kept_array(np.full((2, problem.parts.n_rows), 0.5))
    assert np.isfinite(progress.offer_p(uniform).value)
    assert objective.dual_point(uniform).value == -np.inf  # nothing to move it to


def test_what_is_known_to_be_empty_is_not_looked_into_again(monkeypatch):
    problem = two_classes()
    with pytest.raises(EmptySetError) as first:
        anchor_of(problem, 0.1)
    monkeypatch.setattr(Sample, "of", None)
    with pytest.raises(EmptySetError) as again:
        anchor_of(problem, 0.01)
    assert again.value.growth == pytest.approx(10.0 * first.value.growth)


def test_feasible_keeps_its_distance_from_sets_that_are_nearly_empty():
    X, y = load_wine(return_X_y=True)
    observed = symmetric_noise(y, 0.2, random_state=3)
    least = least_lam(X, observed, symmetric_transition(3, 0.2))
    assert 1.0 / ROOM < least < 1.0
    problem = Problem.from_labels(X, observed, noise_matrix=0.2)
    assert ROOM * least <= feasible_lam(problem) <= ROOM * least * (1.0 + 2.0 * GROWTH_ACCURACY)
