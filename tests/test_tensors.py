"""The linear model with arrays that are tensors: the same results as with numpy's."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from problems import Tempered, array_of, columns_of, value_slope_and_proba
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier, kernels
from mgce_sklearn.arrays import on_host
from mgce_sklearn.calibration import TemperatureScaling
from mgce_sklearn.kernels import barrier
from mgce_sklearn.metrics import expected_calibration_error
from mgce_sklearn.potentials import MGCEPotential
from mgce_sklearn.problem import Problem
from mgce_sklearn.solvers import SOLVERS, Status, certificate, choose_solver
from mgce_sklearn.solvers.repair import repaired

torch = pytest.importorskip("torch")

from mgce_sklearn.tensors.barrier import TensorBarrier  # noqa: E402
from mgce_sklearn.tensors.design import TensorDesign  # noqa: E402
from mgce_sklearn.tensors.link import newton  # noqa: E402
from mgce_sklearn.tensors.potentials import TensorMGCEPotential  # noqa: E402

Q = [0.0, 1e-8, 0.005, 0.3, 0.5, 0.7, 1.0]


def data(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def objectives(q, lam=0.3, load=load_iris, **options):
    """Return the same objective with numpy's arrays, and with tensors."""
    X, y = data(load)
    return [Problem.from_labels(rows, y, **options).objective(q, lam)
            for rows in (X, torch.tensor(X))]  # fmt: skip


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
@pytest.mark.parametrize("q", Q)
def test_objective_has_the_same_values_and_certificates(q, load):
    weight = np.random.default_rng(1).uniform(0.5, 2.0, len(load()["target"]))
    ours, theirs = objectives(q, load=load, sample_weight=weight, class_weight="balanced")
    coef = 0.2 * random(*ours.shape)
    value, gradient, proba = value_slope_and_proba(ours, coef)
    put = theirs.parts.like.put
    value_of, gradient_of, proba_of = value_slope_and_proba(theirs, put(coef))
    assert value_of == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(gradient_of, gradient, atol=1e-13)
    np.testing.assert_allclose(proba_of, proba, atol=1e-13)
    columns, columns_there = columns_of(ours, proba), columns_of(theirs, proba_of)
    mine, tensors = ours.dual_point(columns), theirs.dual_point(columns_there)
    assert tensors.value == pytest.approx(mine.value, rel=1e-12)
    assert tensors.shrink == pytest.approx(mine.shrink, rel=1e-9)
    better = array_of(ours, repaired(ours, columns))
    better_there = array_of(theirs, repaired(theirs, columns_there))
    np.testing.assert_allclose(better_there, better, atol=1e-9)
    assert certificate(theirs, put(coef)) == pytest.approx(certificate(ours, coef))


@pytest.mark.parametrize("q", Q)
def test_potential_is_that_of_the_kernels(q):
    margins = 2.0 * random(7, 40)
    ours, theirs = MGCEPotential(q), TensorMGCEPotential(q)
    proba = np.random.default_rng(2).dirichlet(np.full(7, 0.3), 40).T
    proba[2] = 0.0
    proba /= proba.sum(axis=0)
    np.testing.assert_allclose(theirs.entropy(torch.tensor(proba)), ours.entropy(proba), atol=1e-14)
    # Rounding of z costs the smoothed psi 1e-16 / q.
    for eps in (0.0,) if q < 0.005 else (0.0, 0.3, 1e-2, 1e-4):
        mine, tensors = (sharp.smoothed(eps) if eps else sharp for sharp in (ours, theirs))
        got = tensors.value_and_gradient(torch.tensor(margins))
        for part, expected in zip(got, mine.value_and_gradient(margins), strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(theirs.rule(torch.tensor(margins)), ours.rule(margins), atol=1e-13)


def interior_rows(q, seed=3, n_classes=5, n_rows=12):
    """Return margins, and a point inside all constraints that meets no equation."""
    generator = np.random.default_rng(seed)
    margins = generator.standard_normal((n_classes, n_rows))
    threshold = margins.max(axis=0) + generator.uniform(0.1, 1.0, n_rows)
    slack = generator.uniform(0.05, 2.0, margins.shape)
    c = 1.0 + q * (margins - threshold + slack)
    slack = np.where(c > 0.05, slack, slack + (0.05 - c) / max(q, 1e-300))
    c = 1.0 + q * (margins - threshold + slack)
    state = barrier.RowState(
        barrier.nearer(slack, c, q),
        generator.uniform(0.1, 1.0, margins.shape),
        q * generator.uniform(0.1, 1.0, margins.shape),
        *10.0 ** generator.uniform(-2.0, 0.0, (2, n_rows)),
        threshold,
    )
    return margins, state


def states(state):
    """Return copies of a point for both implementations, with single precision where ours has."""
    single = [np.float32, float, np.float32, float, float, float]
    mine = barrier.RowState(*(a.astype(t) for a, t in zip(state, single, strict=True)))
    return mine, barrier.RowState(*(torch.tensor(a.astype(float)) for a in mine))


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize("first", [0, 1])
def test_rows_are_eliminated_as_by_the_kernels(q, first):
    margins, point = interior_rows(q)
    mine, tensors = states(point)
    size = len(margins) - first
    ours = [np.empty((n, 10)) for n in (size * (size + 1) // 2, 5, 5)]
    theirs = [torch.empty(*array.shape, dtype=torch.float64) for array in ours]
    part = margins[:, 1:11]
    barrier.eliminate(mine, 1, 11, q, part, first, *ours)
    TensorBarrier("cpu").eliminate(tensors, 1, 11, q, torch.tensor(part), first, *theirs)
    for expected, got in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))  # so that each kind of variable is the first to end
def test_directions_are_followed_as_by_the_kernels(q, stages, seed):
    margins, point = interior_rows(q, seed)
    mine, tensors = states(point)
    moves = np.stack([margins, *0.1 * random(stages, *margins.shape)])
    weights = np.random.default_rng(4).uniform(0.5, 2.0, margins.shape[1])
    reach = np.array([[0.7, 0.8], [0.5, 0.9]])
    outs = []
    for kernel, state, put in (
        (barrier, mine, np.asarray),
        (TensorBarrier("cpu"), tensors, torch.tensor),
    ):
        kappa, rates, sums = put(np.empty(margins.shape)), np.zeros(2), np.zeros(4)
        common = (state, 0, margins.shape[1], q, put(weights), stages, put(moves), 0.05, reach)
        kernel.follow(*common, np.zeros(2), kappa, rates, sums)
        kernel.follow(*common, np.array([0.03, 0.02]), kappa, rates, sums)
        outs.append([np.asarray(kappa), rates, sums, *map(np.asarray, state)])
    for expected, got in zip(*outs, strict=True):
        # The kernels keep two of the arrays in single precision.
        tolerance = 1e-6 if expected.dtype == np.float32 else 1e-9
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer])
@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_risk_equals_numpys_to_eight_digits(q, load):
    X, y = data(load)
    # At q = 1 rounding ends the gap at 1e-8 itself: which of two steps is the last would be chance,
    # and they are 2e-7 apart.
    tol = 1e-8 if q < 1.0 else 1e-7
    mine = MGCEClassifier(q, 0.3, solver="interior_point", tol=tol).fit(X, y)
    tensors = MGCEClassifier(q, 0.3, solver="interior_point", tol=tol).fit(torch.tensor(X), y)
    # Rows of numpy are read in single precision while the gap is wide: the steps differ by that.
    assert abs(tensors.n_iter_ - mine.n_iter_) <= 1
    assert tensors.minimax_risk_ == pytest.approx(mine.minimax_risk_, abs=1e-8)
    assert tensors.minimax_risk_ - tensors.dual_gap_ == pytest.approx(
        mine.minimax_risk_ - mine.dual_gap_, abs=1e-7
    )
    np.testing.assert_allclose(tensors.coef_, mine.coef_, atol=1e-4)
    np.testing.assert_allclose(tensors.intercept_, mine.intercept_, atol=1e-4)
    np.testing.assert_allclose(
        tensors.predict_proba(torch.tensor(X)), mine.predict_proba(X), atol=1e-5
    )


@pytest.mark.parametrize("solver", ["interior_point", "lbfgs"])
@pytest.mark.parametrize("q", [0.0, 0.5])
def test_digits_have_the_same_minimum(q, solver):
    X, y = data(load_digits)
    X, y = X[:600], y[:600]
    results = [
        SOLVERS[solver](tol=1e-4).solve(Problem.from_labels(rows, y).objective(q, 1.0))
        for rows in (X, torch.tensor(X))
    ]
    assert [result.status for result in results] == [Status.CONVERGED] * 2
    # The interior points differ: rows of numpy are read in single precision while gaps are wide.
    digits = 1e-8 if solver == "lbfgs" else 1e-4
    assert results[1].value == pytest.approx(results[0].value, abs=digits)


def test_lbfgs_smooths_as_with_numpy():
    ours, theirs = objectives(0.7)
    results = [SOLVERS["lbfgs"](tol=1e-3, max_iter=200).solve(each) for each in (ours, theirs)]
    assert results[1].value == pytest.approx(results[0].value, abs=1e-8)


def test_features_never_seen_with_a_class_have_the_same_widths():
    X = (random(60, 4) > 0.8).astype(float)
    y = np.arange(60) % 3
    X[y == 1, 2] = 0.0
    mine, tensors = (MGCEClassifier(0.5, 0.3).fit(rows, y) for rows in (X, torch.tensor(X)))
    np.testing.assert_allclose(
        tensors.uncertainty_set_.half_width, mine.uncertainty_set_.half_width, rtol=1e-12
    )
    assert tensors.minimax_risk_ == pytest.approx(mine.minimax_risk_, abs=1e-8)


def test_single_precision_intercept_and_two_classes():
    X, y = data(load_breast_cancer)
    X = X.astype(np.float32)
    for fit_intercept in (True, False):
        mine = MGCEClassifier(0.5, 0.3, fit_intercept=fit_intercept, tol=1e-8).fit(X, y)
        tensors = clone(mine).fit(torch.tensor(X), y)
        assert tensors.coef_.dtype == mine.coef_.dtype == np.float32
        np.testing.assert_allclose(tensors.coef_, mine.coef_, atol=1e-4)
        assert tensors.minimax_risk_ == pytest.approx(mine.minimax_risk_, abs=1e-8)
        margins = tensors.decision_function(torch.tensor(X))
        assert margins.shape == (len(X),)
        np.testing.assert_allclose(margins, mine.decision_function(X), atol=1e-4)


def test_predictions_are_where_the_rows_are_and_the_model_is_anywhere():
    X, y = data(load_iris)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    rows = torch.tensor(X)
    model = MGCEClassifier(0.7, 0.3).fit(rows, names)
    for method in ("decision_function", "predict_proba", "predict_log_proba",
                   "predict_worst_case_proba"):  # fmt: skip
        got = getattr(model, method)(rows)
        assert isinstance(got, torch.Tensor)
        np.testing.assert_allclose(got, getattr(model, method)(X), atol=1e-12)
    assert model.predict(rows).dtype == names.dtype
    assert model.score(rows, names) == model.score(X, names) > 0.9
    assert model.score(rows, names) == pickle.loads(pickle.dumps(model)).score(X, names)
    torch.testing.assert_close(
        model.margins_to_proba(model.decision_function(rows)), model.predict_proba(rows)
    )


def test_q_set_after_a_fit_waits_for_the_next():
    X, y = load_wine(return_X_y=True)
    rows = torch.tensor(X)
    model = MGCEClassifier(q=0.7).fit(rows, y)
    methods = (model.predict_proba, model.predict_worst_case_proba)
    before = [method(rows) for method in methods]
    model.set_params(q=0.0)
    for method, expected in zip(methods, before, strict=True):
        torch.testing.assert_close(method(rows), expected, rtol=0.0, atol=0.0)


def test_labels_weights_and_integers_may_be_tensors():
    X, y = data(load_iris)
    X = np.round(X)
    weight = np.linspace(0.0, 1.0, len(y))
    mine = MGCEClassifier(0.5, 0.3, class_weight="balanced", tol=1e-8).fit(X, y, weight)
    tensors = clone(mine).fit(torch.tensor(X).int(), torch.tensor(y), torch.tensor(weight))
    np.testing.assert_allclose(tensors.coef_, mine.coef_, atol=1e-4)
    assert tensors.score(torch.tensor(X).int(), torch.tensor(y)) == mine.score(X, y)
    warm = MGCEClassifier(0.5, 0.3, warm_start=True).fit(torch.tensor(X), y)
    warm.set_params(lam=0.5).fit(torch.tensor(X), torch.tensor(y))
    cold = MGCEClassifier(0.5, 0.5).fit(X, y)
    assert warm.minimax_risk_ == pytest.approx(cold.minimax_risk_, rel=1e-4)


def test_bounds_certificates_and_portions_of_tensors():
    X, y = data(load_iris)
    rows = torch.tensor(X)
    model = MGCEClassifier(0.5, 0.3, feature_range=(-5, 5), tol=1e-8)
    mine, tensors = (clone(model).fit(part, y) for part in (X, rows))
    assert tensors.error_bounds(rows).upper == pytest.approx(mine.error_bounds(X).upper, abs=1e-3)
    shifted = X + 0.01
    expected = mine.confidence_bound(shifted).upper
    found = tensors.confidence_bound(torch.tensor(shifted)).upper
    assert found == pytest.approx(expected, abs=1e-6)
    assert tensors.certificate(rows, y) == pytest.approx(mine.certificate(X, y), abs=1e-7)
    for width in ("hoeffding", "betting"):
        pair = (
            MGCEClassifier(0.5, width=width, tol=1e-8).fit(part, y).minimax_risk_
            for part in (X, rows)
        )
        assert next(pair) == pytest.approx(next(pair), abs=1e-8)
    stream = [MGCEClassifier().partial_fit(part, y, classes=[0, 1, 2]) for part in (X, rows)]
    np.testing.assert_array_equal(stream[1].coef_, stream[0].coef_)


def test_auto_chooses_among_the_solvers_of_tensors(monkeypatch):
    monkeypatch.setattr("mgce_sklearn.design.LARGEST_SYSTEM", 10**9)  # as on another device
    _, few = objectives(0.7)
    assert choose_solver(few) == "interior_point"
    X = torch.tensor(random(30, 2001))
    many = Problem.from_labels(X, np.arange(30) % 3).objective(0.7, 0.3)
    assert choose_solver(many) == "lbfgs"
    X = torch.tensor(random(4300, 420))
    many_rows = Problem.from_labels(X, np.arange(4300) % 10).objective(0.7, 0.3)
    assert choose_solver(many_rows) == "lbfgs"


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_takes_tensors_or_refuses_them_in_one_sentence(solver):
    ours, theirs = objectives(0.7)
    solve = SOLVERS[solver](tol=1e-3).solve
    if solver in ("sgd", "cvxpy"):
        with pytest.raises(ValueError, match=f"solver='{solver}' requires rows in numpy's arrays"):
            solve(theirs)
        return
    first = solve(theirs)
    assert first.value == pytest.approx(solve(ours).value, rel=1e-3)
    narrower = replace(theirs, uncertainty=theirs.uncertainty.widened(0.9))
    assert solve(narrower, start=first).n_iter < solve(narrower).n_iter


def test_a_potential_that_tensors_leave_without_a_solver():
    _, objective = objectives(0.9)
    tempered = replace(objective, potential=Tempered(TensorMGCEPotential(0.9)))
    words = "No solver can solve this problem: solver='interior_point' .*; solver='lbfgs'.*"
    with pytest.raises(ValueError, match=words + "solver='sgd' requires rows in numpy's arrays"):
        choose_solver(tempered)
    smooth = replace(objective, potential=Tempered(TensorMGCEPotential(0.3)))
    assert choose_solver(smooth) == "lbfgs"


def test_no_array_leaves_the_device(monkeypatch):
    """Count what solvers fetch: numbers that steer them, coefficients at a start, never a row."""
    X, y = data(load_iris)
    problem = Problem.from_labels(torch.tensor(X), y)
    objective = problem.objective(0.7, 0.3)
    fetched = []
    plain = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: (fetched.append(t.numel()), plain(t))[1])
    monkeypatch.setattr(torch.Tensor, "numpy", lambda t: (fetched.append(t.numel()), t)[1]
                        if t.numel() > 15 else np.array(t.tolist()))  # fmt: skip
    # What other devices than a CPU take: its kernels read the rows where they are.
    for module in ("link", "potentials"):
        monkeypatch.setattr(f"mgce_sklearn.tensors.{module}.solve", newton)
    for name in ("interior_point", "lbfgs"):
        result = SOLVERS[name](tol=1e-2, max_iter=300).solve(objective)
        assert isinstance(result.coef, torch.Tensor)
        assert max(fetched, default=0) <= (15 if name == "interior_point" else 4)
        fetched.clear()


X_SMALL, Y_SMALL = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("X", "y", "error", "words"),
    [
        (X_SMALL[:, 0], Y_SMALL, ValueError, r"two dimensions.*got shape \(4,\)"),
        (X_SMALL[:, None], Y_SMALL, ValueError, "two dimensions"),
        (X_SMALL * 1j, Y_SMALL, TypeError, "real numbers"),
        (X_SMALL.to_sparse(), Y_SMALL, TypeError, "X must be dense; got torch.sparse_coo"),
        (torch.where(X_SMALL > 1.5, torch.nan, X_SMALL), Y_SMALL, ValueError, "row 2, column 0"),
        (X_SMALL / 0.0, Y_SMALL, ValueError, "must be finite"),
        (X_SMALL[:0], [], ValueError, "minimum of 1 is required"),
        (X_SMALL[:, :0], Y_SMALL, ValueError, "at least one row and one column"),
        (X_SMALL, Y_SMALL[:3], ValueError, "inconsistent numbers of samples"),
        (X_SMALL, [0, 0, 0, 0], ValueError, "at least 2 classes"),
        (X_SMALL, [0.0, 1.0, np.nan, 1.0], ValueError, "Row 2 has nan"),
    ],
)
def test_bad_tensors(X, y, error, words):
    model = MGCEClassifier()
    with pytest.raises(error, match=words):
        model.fit(X, y)
    assert not hasattr(model, "coef_")
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize("center", [None, [1.0, -2.0, 0.5]])
def test_some_rows_are_a_design_of_their_own(center):
    rng = np.random.default_rng(0)
    X, weights, rows = rng.normal(size=(9, 3)), rng.uniform(1.0, 2.0, 9), np.array([5, 0, 5])
    whole = TensorDesign.of(torch.as_tensor(X), weights, True)
    if center is not None:
        whole = whole.centered_at(np.array([*center, 0.0]))
    taken = whole.view(0, 8).take(rows)
    assert type(taken) is TensorDesign
    expected = np.column_stack([X - (0.0 if center is None else center), np.ones(9)])[rows]
    np.testing.assert_allclose(taken.features().numpy(), expected.T)
    np.testing.assert_allclose(taken.weights.numpy(), weights[rows] / weights[rows].sum())


def test_bad_calls_after_a_fit():
    model = MGCEClassifier().fit(X_SMALL, Y_SMALL)
    with pytest.raises(ValueError, match="is expecting 1 features"):
        model.predict(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"X must have two dimensions.*got shape \(3,\)"):
        model.predict(torch.zeros(3))
    for shape in ((3, 5), (3, 1), (3, 2, 2)):
        with pytest.raises(ValueError, match=r"margins must have a column for each class"):
            model.margins_to_proba(torch.zeros(shape))
    for solver in ("sgd", "cvxpy"):
        with pytest.raises(ValueError, match=f"solver='{solver}' requires rows in numpy's arrays"):
            MGCEClassifier(solver=solver).fit(X_SMALL, Y_SMALL)
    with pytest.raises(ValueError, match="row 3, column 0"):
        MGCEClassifier(feature_range=(0, 2.5)).fit(X_SMALL, Y_SMALL)


def test_half_precision_goes_to_the_host():
    rows = torch.tensor([[0.5, -3.0]])
    for dtype in (torch.bfloat16, torch.float16):
        np.testing.assert_array_equal(on_host(rows.to(dtype)), rows)
    model = MGCEClassifier().fit(X_SMALL, torch.tensor(Y_SMALL).bfloat16())
    np.testing.assert_array_equal(model.classes_, [0, 1])


def test_calibration_of_predictions_on_a_device(monkeypatch):
    """numpy reads no tensor of a device by itself; stands in for one."""
    X, y = data(load_iris)
    rows, labels = torch.tensor(X), torch.tensor(y)
    model = MGCEClassifier(0.7, 0.3).fit(X, y)
    expected = [
        expected_calibration_error(y, model.predict_proba(X)),
        TemperatureScaling(FrozenEstimator(model)).fit(X, y).temperature_,
    ]

    def refuse(tensor, dtype=None):
        raise TypeError("can't convert a tensor of a device")

    monkeypatch.setattr(torch.Tensor, "__array__", refuse)
    got = [
        expected_calibration_error(labels, model.predict_proba(rows)),
        TemperatureScaling(FrozenEstimator(model)).fit(rows, labels).temperature_,
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_kernels_agree_on_soft_thresholds():
    x, width = random(20), np.abs(random(20, seed=1))
    got = kernels.soft_threshold(torch.tensor(x), torch.tensor(width))
    np.testing.assert_array_equal(got, kernels.soft_threshold(x, width))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("solver", ["interior_point", "lbfgs"])
@pytest.mark.parametrize("q", [0.0, 0.3, 0.5])
def test_fit_on_a_gpu_equals_numpys(q, solver):
    X, y = data(load_iris)
    rows = torch.tensor(X, device="cuda")
    mine = MGCEClassifier(q, 0.3, solver=solver, tol=1e-7).fit(X, y)
    there = MGCEClassifier(q, 0.3, solver=solver, tol=1e-7).fit(rows, torch.tensor(y).cuda())
    assert there.minimax_risk_ == pytest.approx(mine.minimax_risk_, abs=1e-8)
    proba = there.predict_proba(rows)
    assert proba.is_cuda
    np.testing.assert_allclose(proba.cpu(), mine.predict_proba(X), atol=1e-3)
    assert there.score(rows, torch.tensor(y).cuda()) == there.score(X, y)
    network = torch.nn.Linear(4, 6).cuda().double()
    mapped = MGCEClassifier(q, 0.3, feature_map=network).fit(X, y)
    assert mapped.decision_function(X).is_cuda
    assert mapped.error_bounds(X).upper < 0.5


def test_more_coefficients_than_a_factor_holds_are_solved_as_arrays():
    """On the host, where tensors and arrays share memory."""
    rng = np.random.default_rng(0)
    y = np.arange(1100) % 4
    X = rng.normal(size=(1100, 1001)) + 2.0 * np.eye(1001)[y]
    expected = MGCEClassifier(lam=0.5, tol=1e-2).fit(X, y)
    found = MGCEClassifier(lam=0.5, tol=1e-2).fit(torch.from_numpy(X), y)
    assert found.solver_ == "interior_point"
    np.testing.assert_array_equal(found.coef_, expected.coef_)
    assert found.score(torch.from_numpy(X), y) == expected.score(X, y)
    design = Problem.from_labels(torch.from_numpy(X), y).parts.like
    assert np.shares_memory(design.X, X)
    narrow = Problem.from_labels(torch.from_numpy(X[:, :100]), y).parts.like
    assert isinstance(narrow.X, torch.Tensor)
