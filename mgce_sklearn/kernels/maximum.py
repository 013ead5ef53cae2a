"""Row elimination for the largest margin, the potential of worst cases.

The largest margin of a row is the linear program

    minimize t  subject to  t >= m_k,

with slacks s_k = t - m_k and multipliers p_k. The points at which every complementarity
product has the value nu satisfy

    sum p = 1,    s_k = t - m_k,    p_k s_k = nu.

With rho = p/s, a Newton step for a change dm of the margins has ds = dt - dm and

    dp = C dm + kappa,    C = diag(rho) - rho rhoᵀ / sum(rho),

where C is positive semidefinite, C 1 = 0, and kappa = u - rho (sum u - r) / sum(rho) carries
the targets u of p s = nu, over s, and the residual r of sum p = 1.

The functions correspond to those of `mgce_sklearn.kernels.elimination` and
`mgce_sklearn.kernels.barrier`, for another potential. The arrays are class-major, (K, n): rows lie
side by side, and every loop runs over rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mgce_sklearn.kernels.barrier import pull
from mgce_sklearn.kernels.compilation import jit
from mgce_sklearn.kernels.elimination import lanes_of

Array = np.ndarray[Any, Any]

# Far below the slacks at any accuracy, and large enough for sums of the squares of its inverse.
SMALLEST_SLACK = 1e-100


class MaximumState(NamedTuple):
    """The interior point of every row.

    Attributes
    ----------
    proba : ndarray of shape (K, n)
        p_k, the multiplier of s_k.
    threshold : ndarray of shape (n,)
        t. The slacks follow from it and the margins.
    """

    proba: Array
    threshold: Array


def new_rows(n_classes: int, n_rows: int) -> MaximumState:
    """Return a state of so many rows, with nothing in it yet."""
    return MaximumState(np.empty((n_classes, n_rows)), np.empty(n_rows))


class _Scratch(NamedTuple):
    """Memory for one group of rows (lanes)."""

    slack: Array  # (K, lanes), like the next five
    ratio: Array  # p/s
    target: Array  # residual of p s = nu, over s
    following: Array  # what the next corrector adds to it
    d_slack: Array
    d_proba: Array
    total: Array  # sum of the ratios (lanes,), like the next four
    residual: Array  # of sum p = 1
    shift: Array  # kappa's share of every ratio; then dt
    primal: Array
    dual: Array


@jit
def _scratch(n_classes, lanes):
    wide, flat = np.empty((6, n_classes, lanes)), np.empty((5, lanes))
    return _Scratch(
        wide[0], wide[1], wide[2], wide[3], wide[4], wide[5],
        flat[0], flat[1], flat[2], flat[3], flat[4],
    )  # fmt: skip


@jit
def _factor(w, state, start, margins, offset):
    """Fill in the slacks, the ratios, the residuals, and the affine targets nu = 0."""
    n_classes, lanes = w.slack.shape
    for i in range(lanes):
        w.total[i] = 0.0
        w.residual[i] = 1.0
    for k in range(n_classes):
        for i in range(lanes):
            p = state.proba[k, start + i]
            slack = max(state.threshold[start + i] - margins[k, offset + i], SMALLEST_SLACK)
            ratio = p / slack
            w.slack[k, i], w.ratio[k, i], w.target[k, i] = slack, ratio, -p
            w.total[i] += ratio
            w.residual[i] -= p


@jit
def _write_kappa(w, target, whole, out, offset):
    """Write kappa of given targets. ``whole`` is 1, or 0 for an increment without the residual."""
    n_classes, lanes = w.slack.shape
    for i in range(lanes):
        w.shift[i] = -whole * w.residual[i]
    for k in range(n_classes):
        for i in range(lanes):
            w.shift[i] += target[k, i]
    for k in range(n_classes):
        for i in range(lanes):
            out[k, offset + i] = target[k, i] - w.ratio[k, i] * w.shift[i] / w.total[i]


@jit
def _direction(w, margin_step, offset):
    """Recover the row's step from the step of its margins."""
    n_classes, lanes = w.slack.shape
    for i in range(lanes):
        w.shift[i] = -w.residual[i]
    for k in range(n_classes):
        for i in range(lanes):
            w.shift[i] += w.target[k, i] + w.ratio[k, i] * margin_step[k, offset + i]
    for i in range(lanes):
        w.shift[i] /= w.total[i]
    for k in range(n_classes):
        for i in range(lanes):
            step = w.shift[i] - margin_step[k, offset + i]
            w.d_slack[k, i] = step
            w.d_proba[k, i] = w.target[k, i] - w.ratio[k, i] * step


@jit
def _second_order(w):
    """Mehrotra's correction: the products that the linearization dropped."""
    n_classes, lanes = w.slack.shape
    for k in range(n_classes):
        for i in range(lanes):
            w.following[k, i] = -w.d_proba[k, i] * w.d_slack[k, i] / w.slack[k, i]


@jit
def _centrality(w, state, start, nu, primal, dual):
    """Gondzio's correction: pull in the products that a longer step would throw far off."""
    n_classes, lanes = w.slack.shape
    for k in range(n_classes):
        for i in range(lanes):
            p, s = state.proba[k, start + i], w.slack[k, i]
            product = (p + dual * w.d_proba[k, i]) * (s + primal * w.d_slack[k, i])
            w.following[k, i] = pull(product, nu) / s


@jit
def _staged_direction(w, state, start, stages, margins, offset, nu, reach):
    """Repeat the predictor, the corrector and the centrality correctors up to ``stages``."""
    n_classes, lanes = w.slack.shape
    _factor(w, state, start, margins[0], offset)
    for stage in range(stages):
        if stage == 1:
            _second_order(w)
        elif stage >= 2:
            _centrality(w, state, start, nu, reach[stage - 2, 0], reach[stage - 2, 1])
        if stage > 0:
            center = nu if stage == 1 else 0.0
            for k in range(n_classes):
                for i in range(lanes):
                    w.target[k, i] += w.following[k, i] + center / w.slack[k, i]
        _direction(w, margins[1 + stage], offset)


@jit
def _measure(w, state, start, weights, rates, sums):
    """Raise ``rates`` and add to ``sums`` for a direction; see `follow`."""
    n_classes, lanes = w.slack.shape
    for i in range(lanes):
        w.primal[i] = 0.0
        w.dual[i] = 0.0
    for k in range(n_classes):
        for i in range(lanes):
            p, s = state.proba[k, start + i], w.slack[k, i]
            dp, ds, weight = w.d_proba[k, i], w.d_slack[k, i], weights[start + i]
            rate = -ds / s
            w.primal[i] = rate if rate > w.primal[i] else w.primal[i]
            rate = -dp / p
            w.dual[i] = rate if rate > w.dual[i] else w.dual[i]
            sums[0] += weight * p * s
            sums[1] += weight * p * ds
            sums[2] += weight * dp * s
            sums[3] += weight * dp * ds
    for i in range(lanes):
        rates[0] = max(rates[0], w.primal[i])
        rates[1] = max(rates[1], w.dual[i])


@jit
def _move(w, state, start, primal, dual):
    n_classes, lanes = w.slack.shape
    for i in range(lanes):
        state.threshold[start + i] += primal * w.shift[i]
    for k in range(n_classes):
        for i in range(lanes):
            state.proba[k, start + i] += dual * w.d_proba[k, i]


@jit
def _curvature(w, first, out, offset):
    """Write C_kl, first <= k <= l."""
    n_classes, lanes = w.slack.shape
    pair = 0
    for k in range(first, n_classes):
        for i in range(lanes):
            ratio = w.ratio[k, i]
            out[pair, offset + i] = ratio * (w.total[i] - ratio) / w.total[i]
        pair += 1
        for m in range(k + 1, n_classes):
            for i in range(lanes):
                out[pair, offset + i] = -w.ratio[k, i] * w.ratio[m, i] / w.total[i]
            pair += 1


@jit
def eliminate(state, start, stop, margins, first, curvature, kappa, kappa_center):
    """Eliminate rows ``start`` to ``stop`` at the present point.

    Parameters
    ----------
    state : MaximumState
    start, stop : int
    margins : ndarray of shape (K, stop - start)
    first : int
        First class that has coefficients: 1 where class 0 is the reference, else 0.
    curvature : ndarray of shape (pairs, stop - start)
        Written: C_kl for first <= k <= l, row by row of the upper triangle.
    kappa, kappa_center : ndarray of shape (K, stop - start)
        Written: kappa of the affine step (nu = 0), and its change per unit of nu.
    """
    n_classes = state.proba.shape[0]
    lanes = lanes_of(n_classes)
    scratch = _scratch(n_classes, lanes)
    for begin in range(start, stop, lanes):
        size = min(lanes, stop - begin)
        w = scratch if size == lanes else _scratch(n_classes, size)
        offset = begin - start
        _factor(w, state, begin, margins, offset)
        _curvature(w, first, curvature, offset)
        _write_kappa(w, w.target, 1.0, kappa, offset)
        for k in range(n_classes):
            for i in range(size):
                w.following[k, i] = 1.0 / w.slack[k, i]
        _write_kappa(w, w.following, 0.0, kappa_center, offset)


@jit
def follow(state, start, stop, weights, stages, margins, nu, reach, lengths, kappa, rates, sums):
    """Follow a direction: measure how far it goes, or, given step lengths, take the step.

    The parameters are those of `mgce_sklearn.kernels.barrier.follow`, without q.
    """
    n_classes = state.proba.shape[0]
    lanes = lanes_of(n_classes)
    scratch = _scratch(n_classes, lanes)
    for begin in range(start, stop, lanes):
        size = min(lanes, stop - begin)
        w = scratch if size == lanes else _scratch(n_classes, size)
        offset = begin - start
        _staged_direction(w, state, begin, stages, margins, offset, nu, reach)
        if lengths[0] > 0.0:
            _move(w, state, begin, lengths[0], lengths[1])
            continue
        _measure(w, state, begin, weights, rates, sums)
        if stages == 1:
            _second_order(w)
        else:
            _centrality(w, state, begin, nu, reach[stages - 2, 0], reach[stages - 2, 1])
        _write_kappa(w, w.following, 0.0, kappa, offset)
