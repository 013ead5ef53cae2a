"""Every kernel against `reference`, against other libraries, and against its own definition."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

from mgce_sklearn import kernels
from mgce_sklearn.kernels import lanes, link, reference, smoothed

Q = [0.0, 1e-12, 1e-8, 0.1, 0.3, 1 / 3, 0.34, 0.5, 0.7, 0.9, 1 - 1e-8, 1.0]
SMOOTH_Q = [q for q in Q if q > 0.01]
K = [2, 3, 10, 33, 300]
EPS = [1.0, 0.1, 0.001]


def normal_margins(n_classes, n_rows=150, scale=3.0):
    rng = np.random.default_rng(n_classes)
    return scale * rng.standard_normal((n_rows, n_classes))


def all_kernels(q):
    """Every function of margins, as one that returns a tuple of arrays."""
    table = {
        "threshold": lambda m: (kernels.threshold(m, q),),
        "rule": lambda m: (kernels.rule(m, q),),
        "worst_case": lambda m: (kernels.worst_case(m, q),),
        "threshold_and_worst_case": lambda m: kernels.threshold_and_worst_case(m, q),
    }
    if q > 0.01:
        table["smoothed"] = lambda m: kernels.smoothed_threshold_and_gradient(m, q, 0.1)
    return table


# --- against the reference -------------------------------------------------------------


@pytest.mark.parametrize("n_classes", K)
@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize("scale", [1e-3, 3.0, 100.0])
def test_link_is_the_reference(q, n_classes, scale):
    m = normal_margins(n_classes, scale=scale)
    psi, p = kernels.threshold_and_worst_case(m, q)
    h = kernels.rule(m, q)
    assert_allclose(psi, reference.threshold(m, q), rtol=1e-12, atol=1e-14)
    assert_allclose(h, reference.rule(m, q), rtol=1e-10, atol=1e-12)
    # At the edge of the support p has no bound on its slope for q > 1/2: a last digit of psi is
    # worth 1e-16^((1-q)/q) there. So it is compared away from the edge, by more than which no
    # class of these margins comes.
    inside = np.abs(1 + q * (m - psi[:, None])) > 1e-5
    assert inside.mean() > 0.99
    assert_allclose(p[inside], reference.worst_case(m, q)[inside], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n_classes", K)
@pytest.mark.parametrize("q", [0.1, 0.25, 0.3, 1 / 3])
def test_corrected_worst_case(q, n_classes):
    """For small q the last pass is replaced by a Taylor series: to the last digits."""
    m = normal_margins(n_classes, n_rows=1000)
    p = kernels.worst_case(m, q)
    assert_allclose(p, reference.worst_case(m, q), rtol=0, atol=4e-15)


@pytest.mark.parametrize("q", Q)
def test_margins_on_the_edge_of_the_support(q):
    """Differences of exactly 1/q, where z is zero before and after every step."""
    steps = np.stack(np.meshgrid(*3 * [np.arange(5.0)]), axis=-1).reshape(-1, 3)
    m = steps / max(q, 1e-3)
    psi, p = kernels.threshold_and_worst_case(m, q)
    assert_allclose(p.sum(axis=1), 1, atol=1e-14)
    assert_allclose(psi, reference.threshold(m, q), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n_classes", K)
@pytest.mark.parametrize("q", Q)
def test_sums(q, n_classes):
    m = normal_margins(n_classes, n_rows=2000)
    psi, p = kernels.threshold_and_worst_case(m, q)
    assert_allclose(kernels.rule(m, q).sum(axis=1), 1, rtol=0, atol=1e-12)
    assert_allclose(p.sum(axis=1), 1, rtol=0, atol=1e-14)
    top = m.max(axis=1)
    highest = np.log(n_classes) if q == 0 else -np.expm1(-q * np.log(n_classes)) / q
    assert np.all(psi >= top)
    assert np.all(psi <= top + highest + 1e-12 * np.abs(top))
    assert_array_equal(psi, kernels.threshold(m, q))
    assert_array_equal(p, kernels.worst_case(m, q))


@pytest.mark.parametrize("q", Q)
def test_many_classes(q):
    m = normal_margins(10_000, n_rows=3)
    h = kernels.rule(m, q)
    assert_allclose(h.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert_allclose(kernels.threshold(m, q), reference.threshold(m, q), rtol=1e-12)


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("n_classes", [2, 10, 33])
@pytest.mark.parametrize("q", SMOOTH_Q)
def test_smoothed_is_the_reference(q, n_classes, eps):
    m = normal_margins(n_classes)
    psi, p = kernels.smoothed_threshold_and_gradient(m, q, eps)
    assert_allclose(psi, reference.smoothed_threshold(m, q, eps), rtol=1e-9, atol=1e-10)
    assert_allclose(p, reference.smoothed_gradient(m, q, eps), rtol=1e-9, atol=1e-10)
    assert_allclose(p.sum(axis=1), 1, rtol=0, atol=1e-14)


@pytest.mark.parametrize("q", SMOOTH_Q)
def test_smoothing_vanishes(q):
    m = normal_margins(10)
    psi, p = kernels.smoothed_threshold_and_gradient(m, q, 1e-6)
    exact, exact_p = kernels.threshold_and_worst_case(m, q)
    away = np.all(np.abs(1 + q * (m - exact[:, None])) > 1e-3, axis=1)
    assert np.all(psi >= exact - 1e-14)
    assert np.all(psi <= exact + 1e-6 * np.log(2) * 10**q / q + 1e-14)
    assert_allclose(p[away], exact_p[away], rtol=0, atol=1e-4)


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize("n_classes", K)
def test_entropy_is_the_reference(q, n_classes):
    p = softmax(normal_margins(n_classes), axis=1)
    p[:3] = np.eye(n_classes)[[0, 1, 1]]
    p[3] = 1 / n_classes
    assert_allclose(kernels.entropy(p, q), reference.entropy(p, q), rtol=1e-11, atol=2e-16)
    assert_allclose(kernels.entropy(p[:3], q), 0, atol=1e-15)


def test_soft_threshold():
    x, width = np.linspace(-3, 3, 41), np.linspace(0, 2, 41)
    w = np.linspace(-4, 4, 80_001)[:, None]
    best = w[np.argmin((w - x) ** 2 / 2 + width * np.abs(w), axis=0), 0]
    assert_allclose(kernels.soft_threshold(x, width), best, atol=1.01e-4)
    assert_allclose(kernels.soft_threshold(x, width), reference.soft_threshold(x, width))


# --- against other libraries -----------------------------------------------------------


def test_q_0_is_softmax():
    m = normal_margins(10)
    psi, p = kernels.threshold_and_worst_case(m, 0.0)
    assert_allclose(psi, logsumexp(m, axis=1), rtol=1e-14)
    for computed in (p, kernels.rule(m, 0.0)):
        assert_allclose(computed, softmax(m, axis=1), rtol=1e-13)


def test_q_1_is_sparsemax():
    m = normal_margins(10)
    h, p = kernels.rule(m, 1.0), kernels.worst_case(m, 1.0)
    for row in range(20):
        descending = np.sort(m[row])[::-1]
        sizes = np.arange(1, 11)
        size = np.max(sizes[1 + sizes * descending > np.cumsum(descending)])
        tau = (descending[:size].sum() - 1) / size
        assert_allclose(h[row], np.maximum(m[row] - tau, 0), atol=1e-14)
        assert_allclose(p[row], (m[row] > tau) / size)


@pytest.mark.parametrize("q", SMOOTH_Q)
def test_threshold_is_scipy_root(q):
    m = normal_margins(7, n_rows=20)
    psi = kernels.threshold(m, q)

    def excess(value, row):
        return np.sum(np.maximum(1 + q * (row - value), 0) ** (1 / q)) - 1

    found = [brentq(excess, max(r) - 1, max(r) + 1 / q, args=(r,), xtol=1e-14) for r in m]
    assert_allclose(psi, found, rtol=1e-12)


@pytest.mark.parametrize("q", [0.01, 0.1, 0.5, 0.7, 1.0])
def test_rule_is_entmax(q):
    torch = pytest.importorskip("torch")
    entmax = pytest.importorskip("entmax")
    m = normal_margins(10)
    expected = entmax.entmax_bisect(torch.tensor(m), alpha=1 + q, dim=1, n_iter=100)
    assert_allclose(kernels.rule(m, q), expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.7])
def test_worst_case_is_normmax(q):
    torch = pytest.importorskip("torch")
    entmax = pytest.importorskip("entmax")
    m = normal_margins(10)
    expected = entmax.normmax_bisect(torch.tensor(q * m), alpha=1 / (1 - q), dim=1, n_iter=100)
    assert_allclose(kernels.worst_case(m, q), expected.numpy(), atol=1e-10)


# --- against the definitions -----------------------------------------------------------


def differences(function, m, step=1e-5):
    """Differentiate by central differences along every class: shape of function, then K."""
    columns = []
    for k in range(m.shape[1]):
        shift = step * np.eye(m.shape[1])[k]
        columns.append((function(m + shift) - function(m - shift)) / (2 * step))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("q", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_gradient_and_hessian(q):
    """The Hessian is the reference's, which answers for those that solvers and tensors have."""
    m = normal_margins(5, n_rows=200)
    # There are kinks at the edge of the support: rows close to one are left out.
    m = m[np.all(np.abs(1 + q * (m - kernels.threshold(m, q)[:, None])) > 0.05, axis=1)]
    assert len(m) > 100
    p = kernels.worst_case(m, q)
    assert_allclose(p, differences(lambda x: kernels.threshold(x, q), m), atol=1e-8)
    hessian = reference.hessian(p, reference.curvature(m, q))
    assert_allclose(hessian, differences(lambda x: kernels.worst_case(x, q), m), atol=1e-6)


@pytest.mark.parametrize("eps", [1.0, 0.1])
@pytest.mark.parametrize("q", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_gradient_of_the_smoothed(q, eps):
    m = normal_margins(5, n_rows=200)

    def psi(margins):
        return kernels.smoothed_threshold_and_gradient(margins, q, eps)[0]

    _, p = kernels.smoothed_threshold_and_gradient(m, q, eps)
    assert_allclose(p, differences(psi, m), atol=1e-8)


@pytest.mark.parametrize("n_classes", K)
@pytest.mark.parametrize("q", Q)
def test_fenchel(q, n_classes):
    """psi(m) = <p, m> + H(p) at p*, and is larger than that at any other p."""
    m = normal_margins(n_classes)
    psi, p = kernels.threshold_and_worst_case(m, q)
    assert_allclose(psi, (p * m).sum(axis=1) + kernels.entropy(p, q), rtol=1e-12, atol=1e-13)
    other = softmax(normal_margins(n_classes + 1)[:, 1:], axis=1)
    assert np.all(psi > (other * m).sum(axis=1) + kernels.entropy(other, q))


@pytest.mark.parametrize("q", SMOOTH_Q)
@pytest.mark.parametrize("eps", EPS)
def test_the_smoothed_gradient_has_slopes_of_at_most_one_over_eps(q, eps):
    """As its Hessian is (I - p 1ᵀ) diag(v) (I - 1 pᵀ) with 0 <= v <= p / eps."""
    first = (1 + eps * np.linspace(-20, 20, 4001)) / q  # where the second class leaves
    _, p = kernels.smoothed_threshold_and_gradient(np.column_stack([first, 0 * first]), q, eps)
    slope = np.diff(p[:, 0]) / np.diff(first)
    assert np.all(slope >= -1e-9 / eps)
    assert np.all(slope <= p[:-1].prod(axis=1) / eps * (1 + 1e-2) + 1e-9 / eps)


# --- inputs of every kind --------------------------------------------------------------


@pytest.mark.parametrize("q", Q)
def test_shift(q):
    m = np.round(normal_margins(10), 6)
    for name, kernel in all_kernels(q).items():
        for before, after in zip(kernel(m), kernel(m + 1024.0), strict=True):
            if before.ndim == 1:
                assert_allclose(after, before + 1024.0, rtol=1e-13, err_msg=name)
            else:
                assert_allclose(after, before, rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("q", Q)
def test_equal_margins(q):
    m = np.full((5, 4), 7.0)
    highest = np.log(4) if q == 0 else -np.expm1(-q * np.log(4)) / q
    psi, p = kernels.threshold_and_worst_case(m, q)
    assert_allclose(psi, 7 + highest, rtol=1e-14)
    assert_allclose(p, 0.25, rtol=1e-14)
    assert_allclose(kernels.rule(m, q), 0.25, rtol=1e-13)


@pytest.mark.parametrize("q", Q)
def test_extreme_margins(q):
    m = np.array([[1e9, 0, -1e9], [1e9, 1e9, -1e9], [-1e9, -1e9, -1e9], [0, 1e-300, -1e9]])
    for name, kernel in all_kernels(q).items():
        for result in kernel(m):
            assert np.all(np.isfinite(result)), name
    expected = [[1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]]
    for computed in (kernels.worst_case(m, q), kernels.rule(m, q)):
        assert_allclose(computed, expected, atol=1e-15)


@pytest.mark.parametrize("q", Q)
def test_minus_infinity_is_an_absent_class(q):
    m = normal_margins(6)
    absent = np.insert(m, 2, -np.inf, axis=1)
    for name, kernel in all_kernels(q).items():
        for with_it, without in zip(kernel(absent), kernel(m), strict=True):
            if without.ndim == 2:
                assert_array_equal(with_it[:, 2], 0, err_msg=name)
                with_it = np.delete(with_it, 2, axis=1)
            if name != "smoothed":  # the bracket depends on the number of classes
                assert_allclose(with_it, without, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("n_classes", [2, 40])
@pytest.mark.parametrize("q", Q)
def test_nan_stays_in_its_row(q, n_classes, bad):
    m = normal_margins(n_classes, n_rows=70)
    spoiled = m.copy()
    spoiled[7, 1] = bad
    spoiled[9, 0] = bad
    others = np.delete(np.arange(70), [7, 9])
    for name, kernel in all_kernels(q).items():
        for with_it, without in zip(kernel(spoiled), kernel(m), strict=True):
            assert np.all(np.isnan(with_it[[7, 9]])), name
            assert_allclose(with_it[others], without[others], rtol=1e-9, atol=1e-12)
    p = softmax(m, axis=1)
    p[3, 1] = np.nan
    assert_array_equal(np.flatnonzero(np.isnan(kernels.entropy(p, q))), [3])


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda m: m[::-1, ::-1].copy()[::-1, ::-1],
    "sliced": lambda m: np.repeat(m, 2, axis=1)[:, ::2],
    "list": lambda m: m.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(layout, monkeypatch):
    monkeypatch.setattr(lanes, "SLAB", 700)  # three slabs, the last one short
    m = normal_margins(10)
    for kernel in all_kernels(0.3).values():
        for expected, computed in zip(kernel(m), kernel(LAYOUTS[layout](m)), strict=True):
            assert_array_equal(expected, computed)


def test_one_layout_is_compiled():
    """Or else a user's read-only or single-precision array would cost a compilation."""
    m = normal_margins(10)
    read_only = m.copy()
    read_only.flags.writeable = False
    for rows in (m, read_only, m.astype(np.float32), np.asfortranarray(m), m[::2]):
        for kernel in all_kernels(0.3).values():
            kernel(rows)
    assert len(link._pass.signatures) == 1
    assert len(smoothed._pass.signatures) == 1


def test_read_only():
    m = normal_margins(10)
    copy = m.copy()
    m.flags.writeable = False
    for kernel in all_kernels(0.3).values():
        kernel(m)
    kernels.entropy(kernels.worst_case(m, 0.3), 0.3)
    assert_array_equal(m, copy)


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
def test_single_precision(q):
    """float32 is computed in double, and rounded at the end."""
    m = normal_margins(10).astype(np.float32)
    for kernel in all_kernels(q).values():
        for single, double in zip(kernel(m), kernel(m.astype(np.float64)), strict=True):
            assert single.dtype == np.float32
            assert_array_equal(single, double.astype(np.float32))
    p = softmax(m, axis=1)
    assert kernels.entropy(p, q).dtype == np.float32


@pytest.mark.parametrize("n_rows", [0, 1, 63, 64, 65, 130])
@pytest.mark.parametrize("n_classes", [2, 300])
def test_any_number_of_rows(n_rows, n_classes):
    m = normal_margins(n_classes, n_rows=130)
    for kernel in all_kernels(0.7).values():
        for part, whole in zip(kernel(m[:n_rows]), kernel(m), strict=True):
            assert part.shape == whole[:n_rows].shape
            assert_allclose(part, whole[:n_rows], rtol=1e-9, atol=1e-12)


def test_out_is_filled():
    m = normal_margins(10)
    out = np.empty(150), np.empty((150, 10))
    results = kernels.threshold_and_worst_case(m, 0.3, out=out)
    assert results[0] is out[0] and results[1] is out[1]
    assert_array_equal(out[1], kernels.worst_case(m, 0.3))
    kernels.threshold_and_worst_case(np.asfortranarray(m) + 1, 0.3, out=out)
    assert_array_equal(out[0], kernels.threshold(m + 1, 0.3))


@pytest.mark.parametrize("q", [-0.1, 1.1, np.nan])
def test_q_out_of_range(q):
    for call in (kernels.threshold, kernels.entropy, lambda m, q: kernels.rule(m, q)):
        with pytest.raises(ValueError, match=r"q must be in \[0, 1\]"):
            call(normal_margins(3), q)
    with pytest.raises(ValueError, match=r"q must be in \(0, 1\]"):
        kernels.smoothed_threshold_and_gradient(normal_margins(3), q, 0.1)


@pytest.mark.parametrize("eps", [0.0, -1.0, np.nan, np.inf])
def test_eps_out_of_range(eps):
    with pytest.raises(ValueError, match="eps must be positive"):
        kernels.smoothed_threshold_and_gradient(normal_margins(3), 0.5, eps)


# --- any margins -----------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    row=st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=12),
    scale=st.sampled_from([1.0, 1e-3, 1e-9]),
    q=st.floats(0, 1),
)
def test_properties(row, scale, q):
    m = scale * np.array([row])
    psi, p = kernels.threshold_and_worst_case(m, q)
    h = kernels.rule(m, q)
    assert_allclose(h.sum(), 1, atol=1e-11)
    assert_allclose(p.sum(), 1, atol=1e-14)
    assert np.all(h >= 0)
    assert psi[0] >= m.max()
    assert np.all(np.diff(p[0, np.argsort(m[0], kind="stable")]) >= -1e-14)
    assert_allclose(psi, reference.threshold(m, q), rtol=1e-12, atol=1e-13)
    flipped = kernels.threshold_and_worst_case(m[:, ::-1], q)
    assert_allclose(flipped[0], psi, rtol=1e-13, atol=1e-15)


@settings(max_examples=100, deadline=None)
@given(
    row=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12),
    q=st.floats(0.01, 1),
    eps=st.floats(1e-6, 10),
)
def test_smoothed_properties(row, q, eps):
    m = np.array([row])
    psi, p = kernels.smoothed_threshold_and_gradient(m, q, eps)
    assert_allclose(p.sum(), 1, atol=1e-13)
    exact = kernels.threshold(m, q)[0]
    assert psi[0] >= exact - 1e-12 * abs(exact) - 1e-9


@pytest.mark.parametrize("q", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("smallest", [1e-300, 1e-308, 5e-324])
def test_entropy_of_the_smallest_numbers_is_that_of_zero(smallest, q):
    entropy = kernels.entropy(np.array([[smallest, 0.25, 0.75], [0.0, 0.25, 0.75]]), q)
    assert entropy[0] == pytest.approx(entropy[1], rel=1e-15)


# --- compilation -----------------------------------------------------------------------

SCRIPT = """
import logging, numba, numpy as np
logging.basicConfig(format="%(name)s: %(message)s")
from mgce_sklearn import kernels
numba.njit(lambda x: x + 1)(1)
print("others", flush=True)
m = np.zeros((2, 3))
kernels.entropy(m + 1 / 3, 0.5)
kernels.entropy(np.asfortranarray(m + 1 / 3, dtype=np.float32), 0.5)
"""


def test_compilation_is_announced_once(tmp_path):
    """Once in a process that compiles; not for kernels of others, nor when the cache is warm."""

    def messages():
        environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return process.stderr.count("mgce_sklearn: Compiling")

    assert messages() == 1
    assert messages() == 0
