"""psi, the rule and the worst case on tensors."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.func import hessian, jacfwd, jacrev, vmap  # noqa: E402

from mgce_sklearn import kernels  # noqa: E402
from mgce_sklearn.kernels import reference  # noqa: E402
from mgce_sklearn.tensors.link import newton  # noqa: E402
from mgce_sklearn.torch import mgce_proba, mgce_threshold, mgce_worst_case  # noqa: E402

Q = [0.0, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
FUNCTIONS = [mgce_threshold, mgce_proba, mgce_worst_case]


def test_steps_on_tensors_leave_what_is_no_number_for_the_check():
    margins = torch.tensor([[0.0, torch.nan, 1.0], [0.0, torch.inf, 1.0], [0.0, 1.0, 2.0]])
    for q in Q:
        psi, proba = newton(margins, q)
        assert psi.isnan().tolist() == [True, True, False]
        assert proba.isnan().all(dim=-1).tolist() == [True, True, False]


def normal(*shape, scale=3.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=dtype)


def by_kernels(margins, q):
    rows = margins.reshape(-1, margins.shape[-1]).numpy()
    psi, worst_case = kernels.threshold_and_worst_case(rows, q)
    return (
        psi.reshape(margins.shape[:-1]),
        kernels.rule(rows, q).reshape(margins.shape),
        worst_case.reshape(margins.shape),
    )


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize("shape", [(7,), (50, 2), (40, 26), (3, 4, 300), (0, 5), (4, 1)])
def test_agrees_with_the_kernels(q, shape):
    margins = normal(*shape)
    for function, expected in zip(FUNCTIONS, by_kernels(margins, q), strict=True):
        got = function(margins, q)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9, 1.0])
def test_agrees_with_entmax(q):
    entmax = pytest.importorskip("entmax")
    margins = normal(200, 12)
    expected = entmax.entmax_bisect(margins, alpha=1.0 + q, dim=-1, n_iter=60)
    np.testing.assert_allclose(mgce_proba(margins, q), expected, atol=1e-10)


def families(n_classes):
    """Rows that take Newton's method long: near-ties, long tails, geometric sequences."""
    generator = np.random.default_rng(0)
    order, n_rows = np.arange(n_classes), 3 if n_classes > 1000 else 20
    for scale in (0.01, 0.1, 0.3, 1.0, 10.0, 1000.0):
        yield scale * generator.standard_normal((n_rows, n_classes))
    for ratio in (0.3, 0.7, 0.99):
        yield -generator.uniform(0.1, 3.0, (n_rows, 1)) * ratio**order
        yield generator.uniform(0.1, 3.0, (n_rows, 1)) * ratio**order
    yield generator.integers(0, 3, (n_rows, n_classes)).astype(float)
    yield -generator.uniform(0.1, 5.0, (n_rows, 1)) * np.log1p(order)


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize("n_classes", [2, 10, 1000, 50_000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_steps_on_tensors_find_the_root(q, n_classes, dtype, tolerance):
    for rows in families(n_classes):
        margins = torch.tensor(rows, dtype=dtype)
        psi, proba = newton(margins, q)
        rule = reference.rule_at(psi.double().numpy(), margins.double().numpy(), q)
        scale = np.maximum(1.0, np.abs(psi.double().numpy()))
        # What an error of psi, of its own rounding, does to the sum of the rule.
        slope = np.sum(rule ** (1.0 - q), axis=1, where=rule > 0.0)
        assert np.all(np.abs(rule.sum(axis=1) - 1.0) <= tolerance * slope * scale)
        np.testing.assert_allclose(proba.sum(dim=-1), 1.0, atol=100 * tolerance)


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize("apart", [0.0, 1e-16, 1e-12, 1e-3, 1.0])
def test_steps_on_tensors_have_the_derivatives_of_the_link(q, apart):
    margins = 1.0 + normal(20, 4, scale=apart)
    for derivative in (jacrev, hessian):
        got = vmap(derivative(lambda row: newton(row, q)[0]))(margins)
        torch.testing.assert_close(
            got, vmap(derivative(lambda row: mgce_threshold(row, q)))(margins)
        )


@pytest.mark.parametrize("q", Q)
def test_first_derivatives(q):
    margins = normal(5, 4, seed=1).requires_grad_()
    modes = {"check_forward_ad": True, "check_batched_grad": True}
    for function in FUNCTIONS:
        assert torch.autograd.gradcheck(lambda m: function(m, q), margins, **modes)  # noqa: B023


@pytest.mark.parametrize("q", Q)
def test_second_derivatives(q):
    margins = normal(5, 4, seed=1).requires_grad_()
    modes = {"check_fwd_over_rev": True, "check_batched_grad": True}
    for function in FUNCTIONS:
        assert torch.autograd.gradgradcheck(
            lambda m: function(m, q),  # noqa: B023
            margins,
            **modes,
        )


@pytest.mark.parametrize("q", [0.0, 0.3, 0.7])
def test_second_derivative_is_that_of_the_reference(q):
    margins = normal(6)
    hessian = torch.autograd.functional.hessian(lambda m: mgce_threshold(m, q), margins)
    row = margins.numpy()[np.newaxis]
    expected = reference.hessian(reference.worst_case(row, q), reference.curvature(row, q))
    np.testing.assert_allclose(hessian, expected[0], atol=1e-12)


@pytest.mark.parametrize("q", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_vmap_over_any_dimension_is_the_rows_together(function, q):
    margins = normal(3, 4, 5)
    expected = function(margins, q)

    def of(rows):
        return function(rows, q)

    torch.testing.assert_close(vmap(of)(margins), expected)
    torch.testing.assert_close(vmap(of, in_dims=1, out_dims=1)(margins), expected)
    torch.testing.assert_close(vmap(of, in_dims=2)(margins.permute(1, 2, 0)), expected)
    torch.testing.assert_close(vmap(vmap(of))(margins), expected)


@pytest.mark.parametrize("q", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_jacobians_by_every_transform(function, q):
    margins = normal(6, 4)

    def of(row):
        return function(row, q)

    first = torch.stack([torch.autograd.functional.jacobian(of, row) for row in margins])
    second = torch.autograd.functional.hessian(lambda m: function(m, q).pow(2).sum(), margins)
    torch.testing.assert_close(vmap(jacrev(of))(margins), first)
    torch.testing.assert_close(vmap(jacfwd(of))(margins), first)
    for outer, inner in itertools.product((jacrev, jacfwd), repeat=2):
        got = outer(inner(lambda m: of(m).pow(2).sum()))(margins)
        torch.testing.assert_close(got, second)


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(q, dtype):
    margins = normal(20, 9).to(dtype).requires_grad_()
    for function in FUNCTIONS:
        got = function(margins, q)
        assert got.dtype == torch.float32
        assert torch.equal(got, function(margins.float(), q))
    (gradient,) = torch.autograd.grad(mgce_threshold(margins, q).sum(), margins)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, mgce_worst_case(margins, q).to(dtype))


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize("solve", ["kernels", "tensors"])
def test_large_margins_cost_no_digits_and_give_no_nan(q, solve):
    def by_kernels(margins, q):
        return mgce_threshold(margins, q), mgce_worst_case(margins, q)

    solve = newton if solve == "tensors" else by_kernels
    margins = torch.tensor([[-1e30, 0.0, -65504.0], [1e30, 1e30, -1e30], [-1e30, -1e30, -1e30]])
    psi, proba = solve(margins, q)
    assert psi[0] == 0.0
    np.testing.assert_allclose(proba, [[0, 1, 0], [0.5, 0.5, 0], [1 / 3] * 3], atol=1e-6)
    psi, proba = solve(torch.tensor([[-torch.inf, 1.0, -torch.inf]]), q)
    assert psi == 1.0
    assert proba.tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize("q", [0.0, 0.7, 1.0])
def test_compiles_into_one_graph(q):
    def loss(margins):
        return torch.sum(mgce_threshold(margins, q) ** 2) + torch.sum(mgce_proba(margins, q) ** 2)

    margins = normal(8, 5).requires_grad_()
    expected = torch.autograd.grad(loss(margins), margins)[0]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(margins), margins)[0], expected)


@pytest.mark.parametrize("transform", [vmap, hessian])
def test_transforms_compile_into_one_graph(transform):
    torch.compiler.reset()  # it gives up after some versions of one function
    of = transform(lambda m: mgce_threshold(m, 0.1).sum())
    margins = normal(5, 4)
    margins[0] = torch.tensor([12.0, 0.0, 0.0, 0.0])  # all probability is the first one's
    margins[1] = 1.0
    compiled = torch.compile(of, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(margins), of(margins))


def test_steps_on_tensors_compile_into_one_graph():
    margins = normal(8, 5)
    compiled = torch.compile(newton, fullgraph=True, backend="aot_eager")
    for got, expected in zip(compiled(margins, 0.7), newton(margins, 0.7), strict=True):
        torch.testing.assert_close(got, expected)


def test_memory_order_and_threads_do_not_matter():
    margins = normal(30_000, 8)
    expected = mgce_worst_case(margins, 0.7)
    assert torch.equal(mgce_worst_case(margins.T.contiguous().T, 0.7), expected)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        # Which rows share a block decides how many steps they take, and so the last digit.
        torch.testing.assert_close(mgce_worst_case(margins, 0.7), expected, rtol=0, atol=1e-13)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("margins", "q", "error", "words"),
    [
        ([[0.0, 1.0]], 0.5, TypeError, "got list"),
        (torch.tensor([[0, 1]]), 0.5, TypeError, "torch.int64"),
        (torch.eye(2).to_sparse(), 0.5, TypeError, "dense; got torch.sparse_coo"),
        (torch.tensor(0.0), 0.5, ValueError, r"got shape \(\)"),
        (torch.zeros(3, 0), 0.5, ValueError, r"got shape \(3, 0\)"),
        (torch.tensor([[0.0, torch.nan]]), 0.5, ValueError, "NaN"),
        (torch.tensor([[0.0, torch.inf]]), 0.0, ValueError, "NaN"),
        (torch.tensor([[-torch.inf, -torch.inf]]), 1.0, ValueError, "NaN"),
        (torch.zeros(1, 2), 1.5, ValueError, r"q must be a number in \[0, 1\]"),
        (torch.zeros(1, 2), -0.1, ValueError, r"q must be a number in \[0, 1\]"),
        (torch.zeros(1, 2), "0.5", TypeError, r"q must be a number in \[0, 1\]"),
    ],
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_bad_input(function, margins, q, error, words):
    with pytest.raises(error, match=words):
        function(margins, q)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("q", Q)
def test_gpu_agrees_with_the_kernels(q):
    margins = normal(50, 26)
    for function, expected in zip(FUNCTIONS, by_kernels(margins, q), strict=True):
        got = function(margins.cuda(), q)
        assert got.is_cuda
        np.testing.assert_allclose(got.cpu(), expected, rtol=1e-12, atol=1e-10)
    with pytest.raises(ValueError, match="NaN"):
        mgce_threshold(torch.full((2, 3), torch.nan, device="cuda"), q)
