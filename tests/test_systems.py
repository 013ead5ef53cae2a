"""The equations of the interior point method, in both forms, against dense matrices."""

from __future__ import annotations

import time
import weakref
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from problems import array_of, columns_of, load, make_objective, of_design, split
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from mgce_sklearn.arrays import LARGEST_SYSTEM
from mgce_sklearn.design import Design
from mgce_sklearn.kernels import blocks
from mgce_sklearn.objective import Objective
from mgce_sklearn.parallel import RowTeam
from mgce_sklearn.parts import Parts, RowsInMemory
from mgce_sklearn.solvers import interior_point, preconditioner, systems
from mgce_sklearn.solvers.base import Status, Watch
from mgce_sklearn.solvers.interior_point import InteriorPoint
from mgce_sklearn.solvers.preconditioner import ActiveBlock, ClassBlocks

FORMS = ("conjugate", "factored")


def pairs_of(matrices):
    """Return what kernels keep of symmetric matrices (n, C, C)."""
    k, other = np.triu_indices(matrices.shape[1])
    return np.ascontiguousarray(matrices[:, k, other].T)


def reference_class(v):
    """Return diag(v) - v vᵀ / sum v (n, C, C) of v (C, n)."""
    return np.einsum("ki,kl->ikl", v, np.eye(len(v))) - np.einsum("ki,li->ikl", v, v / v.sum(0))


@dataclass
class Equations:
    """A problem's rows, curvatures of them, and the same as dense matrices in float64.

    Features are in units of their root mean square, as both forms have them inside.
    """

    objective: Objective
    curvature: np.ndarray  # (n, C, C)
    unit: np.ndarray
    features: np.ndarray  # (n, d)

    @property
    def hessian(self):
        n_coef = self.curvature.shape[1] * self.features.shape[1]
        H = np.einsum(
            "ikl,ia,ib->kalb", self.curvature, self.features, self.features, optimize=True
        )
        return H.reshape(n_coef, n_coef)

    def per_class(self, weights):
        """Return A_k = sum v_ik x_i x_iᵀ (C, d, d)."""
        return np.einsum("ki,ia,ib->kab", weights, self.features, self.features, optimize=True)

    def at(self, form, barrier):
        """Return the form's equations, with D in the features' own units."""
        gathered = self.objective.parts.over(partial(self.gathered, form))
        return form.at(gathered, barrier, self.pairs)

    def gathered(self, form, part):
        """Return what the form gathers of a part of the rows, block by block."""
        gathered = form.gather(part)
        for block in part.blocks_of(37):
            gathered.add(self.pairs(block), block.design.block(), block)
        return gathered

    def pairs(self, part):
        """Return the curvatures (pairs, rows) of some rows."""
        return pairs_of(self.curvature[part.first_row : part.first_row + part.n_rows])


def equations(
    n=150, d=5, n_classes=4, q=0.5, intercept=True, center=0.0, curvature=None, compact=True, seed=0
):
    """Random rows with weights, of features in very different units, and random curvatures."""
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + center) * 10.0 ** rng.uniform(-3, 3, d)
    y, weights = np.arange(n) % n_classes, rng.uniform(0.5, 2.0, n)
    objective = make_objective(X, y, q, sample_weight=weights, fit_intercept=intercept)
    point = np.zeros(X.shape[1] + intercept)
    if center:
        point[:d] = np.average(X, axis=0, weights=weights)
    objective = of_design(objective, objective.parts.like.centered_at(point))
    if compact:
        objective = replace(objective, parts=objective.parts.compact())
    full = np.column_stack([X, np.ones(n)])[:, : len(point)] - point
    unit = np.sqrt(weights @ full**2 / weights.sum())
    if curvature is None:
        root = rng.normal(size=(n, objective.shape[0], objective.shape[0] + 1))
        curvature = root @ root.transpose(0, 2, 1) / n
    return Equations(objective, curvature, unit, full / unit)


def random_barrier(shape, low=-2.0, high=2.0, seed=5):
    return 10.0 ** np.random.default_rng(seed).uniform(low, high, shape)


def relative_error(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


# Products of single rows.


@pytest.mark.parametrize("n_classes", [1, 2, 5])
def test_products_of_rows_are_those_of_their_matrices(n_classes):
    rng = np.random.default_rng(0)
    C = rng.normal(size=(30, n_classes, n_classes))
    C, margins = C + C.transpose(0, 2, 1), rng.normal(size=(n_classes, 30))
    out = np.full(margins.shape, np.nan)
    blocks.multiply(pairs_of(C), margins, out)
    np.testing.assert_allclose(out, np.einsum("ikl,li->ki", C, margins), atol=1e-12)


@pytest.mark.parametrize(("n_classes", "rounds"), [(2, 1e-12), (3, 0.03), (7, 1e-3), (20, 1e-6)])
def test_the_diagonal_part_has_the_diagonal_of_the_curvature(n_classes, rounds):
    """Up to what the fixed point leaves after its rounds."""
    v = np.random.default_rng(0).uniform(0.5, 1.5, (n_classes, 50))
    out = np.empty_like(v)
    curvature = reference_class(v)
    blocks.diagonal_part(pairs_of(curvature), out)
    diagonals = [np.einsum("ikk->ki", C) for C in (reference_class(out), curvature)]
    np.testing.assert_allclose(*diagonals, rtol=rounds)
    if n_classes > 2:  # two classes share one number, which tells nothing of their own
        np.testing.assert_allclose(out, v, rtol=3.0 * rounds)


def test_the_diagonal_part_of_equal_shares_is_exact():
    v = np.full((4, 3), [2.0, 0.3, 1e-12])
    out = np.empty_like(v)
    blocks.diagonal_part(pairs_of(reference_class(v)), out)
    np.testing.assert_allclose(out, v, rtol=1e-12)


def test_the_diagonal_part_of_one_class_is_its_curvature():
    curvature, out = np.array([[3.0, 0.0, 1e-9, -1e-9]]), np.empty((1, 4))
    blocks.diagonal_part(curvature, out)
    np.testing.assert_array_equal(out, [[3.0, 0.0, 1e-9, 0.0]])


def test_the_diagonal_part_of_no_curvature_is_zero():
    v = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 2.5]])
    curvature = np.zeros((2, 4, 4))
    curvature[1] = np.diag(v[:, 1]) - np.outer(v[:, 1], v[:, 1]) / v[:, 1].sum()
    out = np.full(v.shape, np.nan)
    blocks.diagonal_part(pairs_of(curvature), out)
    np.testing.assert_array_equal(out[:, 0], 0.0)
    assert out[0, 1] == 0.0
    assert (out[1:, 1] > 0.0).all()


# The two forms.


def forget_memory(monkeypatch):
    """Let there be no room for curvatures, nor for rows in single precision."""
    monkeypatch.setattr("mgce_sklearn.design.WORKING_MEMORY", 0)
    monkeypatch.setattr("mgce_sklearn.parts.Parts.working_memory", 0)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("n_classes", "intercept", "center"),
    [(4, True, 0.0), (4, False, 0.0), (4, True, 1e4), (2, True, 0.0), (2, False, 0.0)],
)
def test_products_are_those_of_the_dense_matrix(
    n_classes, intercept, center, n_threads, kept, monkeypatch
):
    if not kept:
        forget_memory(monkeypatch)
    this = equations(600, 5, n_classes, intercept=intercept, center=center)
    assert (this.objective.parts.like.rows is not None) == kept
    shape = this.objective.shape
    assert shape[0] == (1 if n_classes == 2 else n_classes)
    with closing(RowTeam(600, 10**6, n_threads)) as team:
        assert team.n_threads == n_threads
        if n_threads > 1:
            this.objective = split(this.objective, [290, 600], team)
        form = systems.Conjugate(this.objective)
        np.testing.assert_allclose(form.unit, this.unit, rtol=1e-12)
        this.at(form, np.ones(shape))
        step = np.random.default_rng(1).normal(size=shape)
        product = form.product(step)
    expected = (this.hessian @ step.ravel()).reshape(shape)
    assert product.dtype == np.float64
    assert relative_error(product, expected) < 1e-6


def dense_solution(this, barrier, right):
    """Return dW (C, d) and the matrix, in the features' own units."""
    unit = np.broadcast_to(this.unit, barrier.shape).ravel()
    matrix = this.hessian * np.outer(unit, unit) + np.diag(barrier.ravel())
    # Numbers of equal size are solved to more digits.
    scale = np.diag(matrix) ** -0.5
    inside = np.linalg.solve(matrix * np.outer(scale, scale), scale * right.ravel())
    return (scale * inside).reshape(barrier.shape), matrix


@pytest.mark.parametrize("guessed", [False, True])
@pytest.mark.parametrize("q", [0.5, 1.0])
@pytest.mark.parametrize(("n_classes", "intercept"), [(4, True), (3, False), (2, True)])
def test_conjugate_gradients_leave_no_more_than_was_asked(n_classes, intercept, q, guessed):
    this = equations(300, 6, n_classes, q, intercept)
    shape, rng = this.objective.shape, np.random.default_rng(2)
    barrier = random_barrier(shape) * this.unit**2
    right = rng.normal(size=shape) * this.unit
    expected, matrix = dense_solution(this, barrier, right)
    guess = expected * rng.uniform(0.9, 1.1, shape) if guessed else None
    form = systems.Conjugate(this.objective)
    system, products = this.at(form, barrier), []
    for share in (1e-1, 1e-4):
        before = form.n_products
        accuracy = share * this.unit * np.ones(shape)
        step = system.solve(right, accuracy, guess)
        left = right - (matrix @ step.ravel()).reshape(shape)
        # Products are in single precision.
        assert (np.abs(left) <= accuracy + 1e-5 * this.unit).all()
        products.append(form.n_products - before)
    assert relative_error(step * this.unit, expected * this.unit) < 1e-3
    assert products[0] <= products[1] < systems.MOST_PRODUCTS
    assert products[0] < products[1] or shape[0] == 1  # one class: the preconditioner is exact
    active = n_classes > 2 and q == 1.0
    assert isinstance(form.preconditioner, ActiveBlock if active else ClassBlocks)


def test_a_guess_that_is_good_enough_costs_one_product():
    this = equations()
    shape = this.objective.shape
    barrier, right = np.ones(shape) * this.unit**2, np.ones(shape) * this.unit
    guess, _ = dense_solution(this, barrier, right)
    form = systems.Conjugate(this.objective)
    step = this.at(form, barrier).solve(right, 1e-3 * right, guess)
    assert form.n_products == 1
    assert this.at(form, barrier).n_products == 0  # of another step
    np.testing.assert_allclose(step, guess, rtol=1e-12)


@pytest.mark.parametrize("compact", [True, False])
def test_products_read_rows_in_single_precision(compact):
    this = equations(compact=compact)
    form, types = systems.Conjugate(this.objective), []
    form.sum(lambda part, features: types.append((part.n_rows, features.dtype)))
    assert types == [(150, np.float32)]
    step = np.random.default_rng(0).normal(size=this.objective.shape)
    image = this.at(form, np.ones(step.shape)).product(step).ravel()
    assert relative_error(image, this.hessian @ step.ravel()) < 1e-5


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize(("n_classes", "intercept"), [(4, True), (3, False), (2, True)])
def test_factors_solve_the_dense_equations(n_classes, intercept, compact):
    this = equations(300, 6, n_classes, intercept=intercept, compact=compact)
    shape = this.objective.shape
    barrier = random_barrier(shape) * this.unit**2
    right = np.random.default_rng(2).normal(size=shape) * this.unit
    expected, _ = dense_solution(this, barrier, right)
    this.objective = split(this.objective, [100, 150, 300])
    system = this.at(systems.Factored(this.objective), barrier)
    step = system.solve(right, np.full(shape, np.nan), np.full(shape, np.nan))
    tolerance = 1e-5 if compact else 1e-10  # rows in single precision, or not
    assert relative_error(step * this.unit, expected * this.unit) < tolerance


# Preconditioners.


def class_curvatures(n, n_classes, seed=0):
    """Curvatures of the form that class blocks are made for, of v that diagonals give exactly."""
    v = np.tile(np.random.default_rng(seed).uniform(0.2, 2.0, n) / n, (n_classes, 1))
    return v, reference_class(v) if n_classes > 1 else v.T[:, :, None]


def dense_preconditioner(this, v, barrier):
    """Return blockdiag(B_k) - [A_k] (sum A)^{-1} [A_l]ᵀ, as a matrix."""
    A = this.per_class(v)
    n_classes, d, _ = A.shape
    P = np.zeros((n_classes, d, n_classes, d))
    shared = np.linalg.inv(A.sum(axis=0))
    for k in range(n_classes):
        P[k, :, k] += A[k] + np.diag(barrier[k])
        if n_classes > 1:
            for other in range(n_classes):
                P[k, :, other] -= A[k] @ shared @ A[other]
    return P.reshape(n_classes * d, -1)


def matrix_of(apply, shape):
    """Return the matrix of a linear function of arrays (C, d)."""
    columns = [apply(unit.reshape(shape)).ravel() for unit in np.eye(shape[0] * shape[1])]
    return np.array(columns).T


def class_blocks(this, barrier):
    form = systems.Conjugate(this.objective)
    this.at(form, barrier * this.unit**2)
    return form


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("n_classes", [1, 3, 5])
def test_class_blocks_are_the_inverse_of_their_matrix(n_classes, single, monkeypatch):
    monkeypatch.setattr(preconditioner, "MANY_FEATURES", 0 if single else 300)
    ridge = 1e-7 if single else 1e-12
    monkeypatch.setattr(preconditioner, "RIDGES", (ridge,))
    monkeypatch.setattr(preconditioner, "SHARED_RIDGES", (ridge,))
    v, curvature = class_curvatures(200, n_classes)
    this = equations(200, 6, max(n_classes, 2), curvature=curvature)
    barrier = random_barrier(this.objective.shape)
    form = class_blocks(this, barrier)
    made = form.preconditioner
    assert made.inverse_roots.dtype == (np.float32 if single else np.float64)
    inverse = matrix_of(made.apply, barrier.shape)
    expected = np.linalg.inv(dense_preconditioner(this, v, barrier))
    assert relative_error(inverse, expected) < (1e-3 if single else 1e-5)


@pytest.mark.parametrize("ratio", [1.0, 1e4, 1e8, 1e10])
@pytest.mark.parametrize("single", [False, True])
def test_class_blocks_stay_positive_definite(single, ratio, monkeypatch):
    """However far above the curvature the barrier is, also for a feature of all classes."""
    monkeypatch.setattr(preconditioner, "MANY_FEATURES", 0 if single else 300)
    _, curvature = class_curvatures(200, 4)
    this = equations(200, 6, 4, curvature=curvature)
    barrier = np.full(this.objective.shape, 0.01)
    barrier[:, 2:] = ratio * np.random.default_rng(0).uniform(0.2, 0.3, barrier[:, 2:].shape)
    form = class_blocks(this, barrier)
    scale = np.sqrt(barrier.ravel())
    inverse = matrix_of(form.preconditioner.apply, barrier.shape) * np.outer(scale, scale)
    assert relative_error(inverse, inverse.T) < (0.05 if single else 1e-5)
    assert np.linalg.eigvalsh(inverse + inverse.T).min() > 0.0
    right = np.ones(barrier.shape)
    step = form.solve(right * this.unit, 1e-3 * right * this.unit, None) * this.unit
    left = right.ravel() - this.hessian @ step.ravel() - (barrier * step).ravel()
    assert np.abs(left).max() < 2e-3


@pytest.mark.parametrize("ratio", [1e-8, 1e-3, 1.0, 1e3, 1e8, 1e14])
def test_the_parallel_sum_keeps_its_digits(ratio):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(30, 6))
    A, extra = root.T @ root / 30, ratio * rng.uniform(0.5, 2.0, 6)
    inverse = np.linalg.inv(A + np.diag(extra))
    # A - A B^{-1} A = (A^{-1} + D^{-1})^{-1}, which is no difference.
    expected = np.linalg.inv(np.linalg.inv(A) + np.diag(1.0 / extra))
    scale = np.diag(expected) ** -0.5
    actual = preconditioner._parallel(A, inverse, extra)
    np.testing.assert_allclose(
        actual * np.outer(scale, scale), expected * np.outer(scale, scale), atol=1e-7
    )


@pytest.mark.parametrize("n_classes", [1, 3])
def test_a_kept_sum_is_scaled_to_the_new_diagonal(n_classes, monkeypatch):
    monkeypatch.setattr(preconditioner, "RIDGES", (1e-12,))
    monkeypatch.setattr(preconditioner, "SHARED_RIDGES", (1e-12,))
    v, curvature = class_curvatures(200, n_classes)
    this = equations(200, 6, max(n_classes, 2), curvature=curvature)
    barrier = random_barrier(this.objective.shape)
    form = class_blocks(this, barrier)
    made, sums = form.preconditioner, form.preconditioner._sums
    # Where all curvatures change alike, so does the sum.
    this.curvature = 3.0 * curvature
    this.at(form, barrier * this.unit**2)
    assert made._sums is sums
    inverse = matrix_of(made.apply, barrier.shape)
    expected = np.linalg.inv(dense_preconditioner(this, 3.0 * v, barrier))
    assert relative_error(inverse, expected) < 1e-5
    # Beyond that the diagonal alone follows.
    size = np.linspace(10.0, 20.0, barrier.shape[1])
    block = made._block(0, size)
    np.testing.assert_allclose(np.diag(block), size)
    off = ~np.eye(len(size), dtype=bool)
    np.testing.assert_allclose(block[off], preconditioner.LARGEST_SCALE * sums[0][off])


@pytest.mark.parametrize(
    "steps",
    [
        # More products than at the step of the sum itself, for longer than a sum takes.
        [(5, False), (5, False), (1, False), (6, True), (9, False), (9, False)],
        # As many as are too many at any step, though that is usual.
        [(25, False), (24, False), (25, True)],
    ],
)
def test_a_sum_that_takes_too_many_products_is_too_old(steps):
    this = equations()
    barrier = np.ones(this.objective.shape)
    form = class_blocks(this, barrier)
    made = form.preconditioner
    for n_products, renewed in steps:
        sums = made._sums
        made.count(n_products)
        made.renew(barrier)
        assert (made._sums is not sums) == renewed


def test_equations_are_gone_when_nobody_wants_them():
    """Without a collection of cycles: the rows in single precision are theirs."""
    this = equations()
    form = class_blocks(this, np.ones(this.objective.shape))
    gone = weakref.ref(form)
    del form
    assert gone() is None


def many_rows(q, monkeypatch):
    """Rows of very different leverage, of which a tenth is summed over."""
    monkeypatch.setattr(preconditioner, "SAMPLED_ROWS", 400)
    monkeypatch.setattr(preconditioner, "ROWS_AT_A_TIME", 100)
    curvature = class_curvatures(4000, 3)[1]
    curvature *= 10.0 ** np.random.default_rng(3).uniform(-3.0, 1.0, 4000)[:, None, None]
    this = equations(4000, 6, 3, q, curvature=curvature)
    return this, random_barrier(this.objective.shape, -4.0, -1.0)


@pytest.mark.parametrize("q", [0.5, 1.0])
def test_a_sample_needs_few_products(q, monkeypatch):
    this, barrier = many_rows(q, monkeypatch)
    form = class_blocks(this, barrier)
    right = np.random.default_rng(1).normal(size=barrier.shape)
    step = form.solve(right * this.unit, 1e-4 * this.unit * np.ones(barrier.shape), None)
    step *= this.unit
    left = right - (this.hessian @ step.ravel()).reshape(barrier.shape) - barrier * step
    assert np.abs(left).max() < 2e-4
    assert form.n_products <= 20


def test_a_sample_is_as_large_as_all_and_has_their_diagonal(monkeypatch):
    this, barrier = many_rows(0.5, monkeypatch)
    form = class_blocks(this, barrier)
    made = form.preconditioner
    v = 1.5 * np.einsum("ikk->ki", this.curvature)  # of equal shares of three classes
    expected = this.per_class(v)
    assert np.linalg.norm(made._sums - expected) < 0.2 * np.linalg.norm(expected)
    monkeypatch.setattr(preconditioner, "LARGEST_SCALE", 0.1)
    for k in range(3):
        diagonal = np.diag(expected[k])
        np.testing.assert_allclose(np.diag(made._block(k, diagonal)), diagonal, rtol=1e-6)


def test_a_sampled_active_block_has_the_diagonal_of_all(monkeypatch):
    this, barrier = many_rows(1.0, monkeypatch)
    monkeypatch.setattr(preconditioner, "LARGEST_SCALE", 0.1)
    factored, factored_blocks = preconditioner._factored, []
    monkeypatch.setattr(
        preconditioner,
        "_factored",
        lambda block: factored_blocks.append(block.copy()) or factored(block),
    )
    form = class_blocks(this, barrier)
    made = form.preconditioner
    own = np.diag(this.hessian).reshape(barrier.shape)
    assert made.free.sum() > 1
    np.testing.assert_allclose(np.diag(*factored_blocks), (own + barrier)[made.free], rtol=1e-5)
    weights = np.einsum("ikk->ki", this.curvature)
    own = columns_of(this.objective, weights.astype(np.float32))
    (sampled,) = array_of(this.objective, made._sampled(own))
    assert 200 < np.count_nonzero(sampled) < 600
    np.testing.assert_allclose(weights @ sampled, weights.sum(axis=1), rtol=0.2)


@pytest.mark.parametrize(("sampled", "tolerance"), [(4000, 1e-5), (400, 0.3)])
def test_the_active_block_is_summed_over_all_its_rows(sampled, tolerance, monkeypatch):
    """Of a sample, weighted so that it stands for all."""
    this, barrier = many_rows(1.0, monkeypatch)
    monkeypatch.setattr(preconditioner, "SAMPLED_ROWS", sampled)
    form = class_blocks(this, barrier)
    made = form.preconditioner
    free = made.free.ravel()
    expected = this.hessian[np.ix_(free, free)]
    assert np.linalg.norm(made._block - expected) < tolerance * np.linalg.norm(expected)


def chances_of(leverages, monkeypatch):
    """Return the chances (C, n) of rows with such leverages (C, n), and what rows count if drawn.

    Their only feature is 1, and so is what leverages are a share of.
    """
    n_classes, n = leverages.shape
    parts, found = RowsInMemory.of(Design(np.ones((n, 1)), np.ones(n), False)), []
    draw, in_blocks = preconditioner._draw, preconditioner.sum_over_features

    def seen(_, leverage, slope, share, factor, seed, chosen, part):
        chances = factor[:, None] * preconditioner._chances(leverage, slope, share, part)
        found.append(np.minimum(chances, 1.0))
        draw(None, leverage, slope, share, factor, seed, chosen, part)

    monkeypatch.setattr(preconditioner, "_draw", seen)
    source = SimpleNamespace(parts=parts, sum=lambda term: parts.over(partial(in_blocks, term, 37)))
    weights, total = parts.kept_array(leverages), np.ones((n_classes, 1))
    chosen = preconditioner._sample(source, weights, total, 1, by_class=True)
    return np.hstack(found), chosen(parts.together())


@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
def test_chances_sum_to_the_rows_wanted(spread, monkeypatch):
    monkeypatch.setattr(preconditioner, "SAMPLED_ROWS", 500)
    leverage = np.exp(spread * np.random.default_rng(0).normal(size=5000))
    (chances, others), (counts, _) = chances_of(np.stack([leverage, 9.0 + leverage]), monkeypatch)
    drawn = counts > 0.0
    np.testing.assert_allclose(counts[drawn], 1.0 / chances[drawn], rtol=1e-6)
    assert drawn.sum() == pytest.approx(500, rel=0.1)
    assert others.sum() == pytest.approx(500, rel=0.05)  # each class has its own
    assert chances.max() <= 1.0
    assert chances.sum() == pytest.approx(500, rel=0.05)
    assert chances.min() >= 0.05 * 500 / 5000 * (1.0 - 1e-9)
    assert (np.diff(chances[np.argsort(leverage)]) >= -1e-12).all()


def test_chances_of_rows_without_leverage_are_equal(monkeypatch):
    monkeypatch.setattr(preconditioner, "SAMPLED_ROWS", 500)
    chances, _ = chances_of(np.zeros((1, 5000)), monkeypatch)
    np.testing.assert_allclose(chances, 0.1)


def test_an_active_block_is_kept_as_long_as_few_products_are_needed():
    """Of a sum of before, the part that is still free is scaled to the new diagonal."""
    this = equations(200, 6, 4, q=1.0)
    own = np.diag(this.hessian).reshape(this.objective.shape)
    barrier = 1e-3 * own
    barrier[0, :3] = 1e9 * own[0, :3]  # not free
    form = class_blocks(this, barrier)
    made, block = form.preconditioner, form.preconditioner._block
    barrier[0, :2] = 1e-3 * own[0, :2]  # free from now on, and not in the block
    barrier[1, 2:4] = 1e9 * own[1, 2:4]
    this.curvature = 3.0 * this.curvature
    this.at(form, barrier * this.unit**2)
    assert made._block is block
    free = np.ones(barrier.shape, bool)
    free[0, :3] = free[1, 2:4] = False
    np.testing.assert_array_equal(made.free, free)
    inside = free.ravel()
    dense = np.diag((3.0 * own + barrier).ravel())
    dense[np.ix_(inside, inside)] = (this.hessian + np.diag(barrier.ravel()))[
        np.ix_(inside, inside)
    ]
    scale = np.diag(dense) ** -0.5
    inverse = matrix_of(made.apply, barrier.shape) / np.outer(scale, scale)
    assert relative_error(inverse, np.linalg.inv(dense) / np.outer(scale, scale)) < 1e-3
    made.count(preconditioner.TOO_MANY_PRODUCTS)
    this.at(form, barrier * this.unit**2)  # the step with the sum itself counts for nothing
    made.count(preconditioner.TOO_MANY_PRODUCTS)
    this.at(form, barrier * this.unit**2)
    assert made._block is not block
    assert made.free[0, :2].all()


@pytest.mark.parametrize("most_free", [5000, 7])
def test_the_active_block_is_the_inverse_of_what_is_free(most_free, monkeypatch):
    monkeypatch.setattr(preconditioner, "MOST_FREE", most_free)
    this = equations(200, 6, 4, q=1.0)
    shape = this.objective.shape
    own = np.diag(this.hessian).reshape(shape)
    barrier = own * random_barrier(shape, -2.0, 3.0)
    form = class_blocks(this, barrier)
    made = form.preconditioner
    assert isinstance(made, ActiveBlock)
    ratio = (barrier / own).ravel()
    free = ratio <= 5.0
    assert 7 < free.sum() < free.size - 2
    if most_free == 7:
        free = ratio <= np.sort(ratio)[7]
    dense = np.diag((own + barrier).ravel())
    dense[np.ix_(free, free)] = (this.hessian + np.diag(barrier.ravel()))[np.ix_(free, free)]
    scale = np.diag(dense) ** -0.5
    inverse = matrix_of(made.apply, shape)
    expected = np.linalg.inv(dense)
    assert (
        relative_error(inverse / np.outer(scale, scale), expected / np.outer(scale, scale)) < 1e-3
    )
    np.testing.assert_array_equal(made.free.ravel(), free)


# Whole fits.


def choose(monkeypatch, name):
    """Let all steps solve by one of the forms; return a list of those made."""
    made = []

    def choice(objective, tol):
        conjugate = name == "conjugate"
        form = systems.Conjugate(objective) if conjugate else systems.Factored(objective)
        made.append(form)
        return form

    monkeypatch.setattr(interior_point, "choose_form", choice)
    monkeypatch.setattr(interior_point, "reconsidered", lambda form, objective: form)
    return made


def sample(n_classes, n=400, d=6):
    rng = np.random.default_rng(0)
    y = np.arange(n) % n_classes
    X = rng.normal(size=(n, d)) + rng.normal(size=(n_classes, d))[y]
    return X, y, rng.uniform(0.5, 2.0, n)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("q", [0.0, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_fits_of_both_forms_end_within_the_tolerance(n_classes, q, form, monkeypatch):
    X, y, weights = sample(n_classes)
    objective = make_objective(X, y, q, 0.3, weights)
    made = choose(monkeypatch, form)
    result = InteriorPoint(tol=1e-4).solve(objective)
    assert result.status is Status.CONVERGED
    assert 0.0 <= result.value - result.dual_value <= 1e-4 * result.value
    assert objective.value(result.coef) == pytest.approx(result.value, rel=1e-12)
    assert len(made) == 1
    if form == "conjugate":
        assert made[0].n_products > 0


@pytest.mark.parametrize("q", [0.0, 0.7, 1.0])
def test_both_forms_find_the_same_optimum(q, monkeypatch):
    X, y, weights = sample(4)
    objective, bounds = make_objective(X, y, q, 0.3, weights), []
    for form in FORMS:
        choose(monkeypatch, form)
        result = InteriorPoint(tol=1e-5).solve(objective)
        assert result.status is Status.CONVERGED
        bounds.append((result.dual_value, result.value))
    (low, high), (other_low, other_high) = bounds
    assert low <= other_high * (1 + 1e-12)
    assert other_low <= high * (1 + 1e-12)


def test_products_of_sparse_rows_are_those_of_dense_ones(monkeypatch):
    rng = np.random.default_rng(0)
    y = np.arange(600) % 4
    X = (rng.normal(size=(600, 120)) + 2.0 * np.eye(120)[y]) * (rng.random((600, 120)) < 0.2)
    made, results = choose(monkeypatch, "conjugate"), []
    for rows in (X, sp.csr_array(X)):
        objective = make_objective(rows, y, 0.5, 0.3)
        assert systems.has_products(objective)
        results.append(InteriorPoint(tol=1e-4).solve(objective))
    assert [result.status for result in results] == [Status.CONVERGED] * 2
    assert all(form.n_products > 0 for form in made)
    dense, sparse = results
    assert dense.dual_value <= sparse.value
    assert sparse.dual_value <= dense.value


def of_size(n, d, n_classes, q=0.5, sparse=False):
    """An objective with rows of which only the number is read."""
    rng = np.random.default_rng(0)
    X = np.broadcast_to(rng.normal(size=d), (n, d))
    base = make_objective(
        rng.normal(size=(4 * n_classes, d)), np.arange(4 * n_classes) % n_classes, q
    )
    if sparse:
        X = sp.csr_array((n, d))
    return of_design(base, Design(X, np.broadcast_to(1.0, n), True))


@pytest.mark.parametrize(
    ("size", "tol", "expected"),
    [
        # Few coefficients: a factor. Many: products, unless the gap shall be very small.
        ({"n": 200, "d": 4, "n_classes": 3}, 1e-4, "Factored"),
        ({"n": 50_000, "d": 200, "n_classes": 10}, 1e-4, "Conjugate"),
        ({"n": 50_000, "d": 200, "n_classes": 10}, 1e-6, "Factored"),
        # No factor can be had.
        ({"n": 50_000, "d": 600, "n_classes": 30}, 1e-6, "Conjugate"),
        # Sparse rows, which products read as dense ones: with room for their zeros, and without.
        ({"n": 50_000, "d": 200, "n_classes": 10, "sparse": True}, 1e-4, "Conjugate"),
        ({"n": 2_000_000, "d": 200, "n_classes": 10, "sparse": True}, 1e-4, "Factored"),
        # Fewer rows than features.
        ({"n": 150, "d": 200, "n_classes": 10}, 1e-4, "Factored"),
        # Near q = 1 from `ACTIVE_FROM` coefficients on.
        ({"n": 50_000, "d": 100, "n_classes": 10, "q": 1.0}, 1e-4, "Factored"),
        ({"n": 50_000, "d": 200, "n_classes": 10, "q": 1.0}, 1e-4, "Conjugate"),
    ],
)
def test_the_form_that_is_chosen(size, tol, expected):
    objective = of_size(**size)
    assert (np.prod(objective.shape) > LARGEST_SYSTEM) == (size["n_classes"] == 30)
    assert type(systems.choose_form(objective, tol)).__name__ == expected


@pytest.mark.parametrize(
    ("threads", "latency", "expected"),
    [(1, 0.0, "Conjugate"), (1_000, 0.0, "Factored"), (1, 10.0, "Factored")],
)
def test_the_form_for_rows_that_many_threads_share(threads, latency, expected, monkeypatch):
    """Where each has few rows products gain nothing; nor where a pass takes long to begin."""
    monkeypatch.setattr(Parts, "at_once", threads)
    monkeypatch.setattr(Parts, "latency", latency)
    objective = of_size(n=50_000, d=50, n_classes=10)
    assert type(systems.choose_form(objective, 1e-4)).__name__ == expected


@pytest.mark.parametrize(
    ("n_products", "size", "expected"),
    [
        # 30 features of 10 classes: a factor takes as long as some 50 products.
        (10, {"n": 2000, "d": 30, "n_classes": 10}, "Conjugate"),
        (200, {"n": 2000, "d": 30, "n_classes": 10}, "Factored"),
        # No factor can be had.
        (10**6, {"n": 50_000, "d": 600, "n_classes": 30}, "Conjugate"),
    ],
)
def test_products_give_way_to_a_factor_that_takes_less_time(n_products, size, expected):
    objective = of_size(**size)
    form = systems.Conjugate(objective)
    form.n_products = n_products
    assert type(systems.reconsidered(form, objective)).__name__ == expected
    factored = systems.Factored(objective)
    assert systems.reconsidered(factored, objective) is factored


def test_a_fit_that_class_blocks_do_not_suit_takes_few_steps(monkeypatch):
    """Of half-widths so small every solution took all the products allowed, and 68 steps."""
    reconsidered = interior_point.reconsidered
    choose(monkeypatch, "conjugate")
    monkeypatch.setattr(interior_point, "reconsidered", reconsidered)
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X[:, X.std(axis=0) > 0])
    objective = make_objective(X, y, 0.7, 0.02)
    result = InteriorPoint(tol=1e-4).solve(objective)
    assert result.status is Status.CONVERGED
    assert result.n_iter <= 16


# Rows in single precision.


@pytest.fixture
def few_rows_are_rounded(monkeypatch):
    monkeypatch.setattr("mgce_sklearn.solvers.systems.SINGLE_FROM", 0)


def certificate_is_in_double(objective, result):
    value = objective.value(result.coef)
    assert result.value == pytest.approx(value, rel=1e-12)
    assert result.dual_value <= value


@pytest.mark.usefixtures("few_rows_are_rounded")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("max_iter", [0, 1])
def test_a_fit_that_ends_early_certifies_in_double_precision(max_iter, form, monkeypatch):
    choose(monkeypatch, form)
    objective = make_objective(*load("wine"), 0.5, 0.3)
    result = InteriorPoint(tol=1e-4, max_iter=max_iter).solve(objective)
    assert result.status is Status.MAX_ITER
    # It was rounded while it ran: the trace has other values.
    assert abs(result.trace[-1].value / objective.value(result.coef) - 1.0) > 1e-12
    certificate_is_in_double(objective, result)


@pytest.mark.usefixtures("few_rows_are_rounded")
def test_a_fit_stopped_by_the_clock_certifies_in_double_precision():
    objective = make_objective(*load("wine"), 0.5, 0.3)
    result = InteriorPoint(tol=1e-4).solve(objective, watch=Watch(deadline=time.monotonic()))
    assert result.status is Status.STOPPED
    assert abs(result.trace[-1].value / objective.value(result.coef) - 1.0) > 1e-12
    certificate_is_in_double(objective, result)


@pytest.mark.usefixtures("few_rows_are_rounded")
@pytest.mark.parametrize("tol", [1e-2, 1e-6])
def test_a_fit_that_converges_ends_in_double_precision(tol):
    objective = make_objective(*load("wine"), 0.5, 0.3)
    result = InteriorPoint(tol=tol).solve(objective)
    assert result.status is Status.CONVERGED
    certificate_is_in_double(objective, result)


@pytest.mark.usefixtures("few_rows_are_rounded")
def test_rows_are_rounded_where_half_widths_are_wide_beside_it():
    X, y = load("wine")
    wide, narrow = (make_objective(X, y, 0.5, lam) for lam in (0.3, 1e-5))
    assert interior_point._may_be_rounded(wide)
    assert not interior_point._may_be_rounded(narrow)
    assert not interior_point._may_be_rounded(replace(wide, labeled=False))
    # Widths are compared in the features' own units.
    assert interior_point._may_be_rounded(
        make_objective(1e-9 * X, y, 0.5, 0.3, fit_intercept=False)
    )


@pytest.mark.parametrize(
    ("gaps", "exact"),
    [
        ([0.5, 0.49, 0.48], False),  # the first steps gain little by nature
        ([0.5, 0.5, 0.5], True),
        ([0.03, 0.02, 0.01], False),
        ([0.012, 0.011, 0.01], True),
        ([0.012, 0.01], False),  # one step more may gain
        ([0.1, 0.01, 0.002], True),
    ],
)
def test_rows_are_read_in_double_once_steps_gain_little(gaps, exact):
    *before, gap = gaps
    trace = [SimpleNamespace(value=1.0, dual_value=1.0 - each) for each in before]
    progress = SimpleNamespace(gap=gap, value=1.0, tol=1e-4, trace=trace)
    assert interior_point._rounding_matters(progress) == exact
