"""Programs for a GPU, on one, or row by row by Triton's interpreter (see CONTRIBUTING.md)."""

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")
fused = pytest.importorskip("mgce_sklearn.tensors.fused", reason="needs Triton")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from mgce_sklearn import kernels  # noqa: E402
from mgce_sklearn.tensors import link  # noqa: E402
from mgce_sklearn.torch import MGCELoss, mgce_threshold, mgce_worst_case  # noqa: E402

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = [
    pytest.mark.skipif(
        not (torch.cuda.is_available() or INTERPRETED),
        reason="needs a GPU, or Triton's interpreter",
    ),
    # The interpreter computes with numpy, which warns of what is masked afterward.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Q = [0.0, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
IGNORED = -100


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    monkeypatch.setattr(link, "_has_programs", lambda margins: True)


def sample(n_rows, n_classes, dtype=torch.float64):
    """Return margins, and labels of which the second is ignored."""
    generator = torch.Generator().manual_seed(0)
    margins = 3.0 * torch.randn(n_rows, n_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(n_classes, (n_rows,), generator=generator)
    labels[1] = IGNORED
    return margins.to(dtype).to(DEVICE), labels.to(DEVICE)


@pytest.mark.parametrize("q", Q)
@pytest.mark.parametrize(("n_classes", "longest"), [(2, 2048), (26, 2048), (100, 8)])
@pytest.mark.parametrize(
    ("dtype", "tol"), [(torch.float64, 1e-11), (torch.float32, 4e-6), (torch.bfloat16, 4e-6)]
)
def test_roots_and_gradients_are_the_kernels(q, n_classes, longest, dtype, tol, monkeypatch):
    """Of rows held whole, and of rows that are read in pieces."""
    monkeypatch.setattr(fused, "LONGEST", longest)
    monkeypatch.setattr(fused, "CHUNK", 32)
    margins, labels = sample(37, n_classes, dtype)
    exact, known = margins.double().cpu().numpy(), labels.cpu().numpy() != IGNORED
    psi, proba = kernels.threshold(exact, q), kernels.worst_case(exact, q)
    own = np.where(known, labels.cpu().numpy(), 0)
    kept, loss = fused.threshold(margins, q, labels, IGNORED)
    np.testing.assert_allclose((kept[0] + kept[1]).double().cpu(), psi, rtol=tol, atol=tol)
    expected = np.where(known, psi - exact[np.arange(37), own], 0.0)
    np.testing.assert_allclose(loss.cpu(), expected, rtol=tol, atol=10 * tol)
    np.testing.assert_allclose(fused.worst_case(margins, q, kept).cpu(), proba, atol=50 * tol)
    factor = torch.linspace(0.5, 1.0, 37, dtype=kept.dtype, device=DEVICE)
    got = fused.gradient(margins, q, kept, labels, IGNORED, factor).double().cpu()
    proba[np.arange(37), own] -= 1.0
    expected = np.where(known, factor.cpu(), 0.0)[:, np.newaxis] * proba
    np.testing.assert_allclose(got, expected, atol=5e-3 if dtype == torch.bfloat16 else 50 * tol)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, for its own sizes")
@pytest.mark.parametrize("q", [0.0, 0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize(("n_rows", "n_classes"), [(600, 2048), (3000, 2049), (300, 50_000)])
@pytest.mark.parametrize(
    ("dtype", "tol_of_loss", "tol"),
    [(torch.float64, 1e-11, 1e-9), (torch.float32, 2e-5, 1e-3), (torch.bfloat16, 2e-5, 5e-3)],
)
def test_many_classes(n_rows, n_classes, dtype, tol_of_loss, tol, q):
    """In tiles as they are, with more rows than programs, beside the kernels in float64.

    At the edge of the support p* of single precision is not sharp: its slope there has no bound.
    """
    margins, labels = sample(n_rows, n_classes, dtype)
    exact, codes = margins.double().cpu().numpy(), labels.cpu().numpy()
    rows, known = np.arange(n_rows), codes != IGNORED
    own = np.where(known, codes, 0)
    loss = MGCELoss(q, reduction="none")(margins.requires_grad_(), labels)
    expected = np.where(known, kernels.threshold(exact, q) - exact[rows, own], 0.0)
    np.testing.assert_allclose(loss.detach().cpu(), expected, rtol=tol_of_loss, atol=tol_of_loss)
    slope = kernels.worst_case(exact, q)
    slope[rows, own] -= 1.0
    slope[~known] = 0.0
    (gradient,) = torch.autograd.grad(loss.sum(), margins)
    error = np.linalg.norm(gradient.double().cpu().numpy() - slope, axis=1)
    assert (error <= tol * np.linalg.norm(slope, axis=1)).all()


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"weight": [0.5, 1.0, 2.0, 0.0]}])
@pytest.mark.parametrize("weighted", [True, False])
def test_a_loss_is_that_of_the_kernels(q, options, weighted, monkeypatch):
    if "weight" in options:
        options = {"weight": torch.tensor(options["weight"], device=DEVICE)}
    margins, labels = sample(12, 4)
    row_weight = torch.linspace(0.0, 1.0, 12, dtype=torch.float64, device=DEVICE)
    row_weight = row_weight if weighted else None
    found = []
    for with_programs in (True, False):
        monkeypatch.setattr(link, "_has_programs", lambda margins, here=with_programs: here)
        leaf = margins.clone().requires_grad_()
        value = MGCELoss(q, **options).to(DEVICE)(leaf, labels, row_weight)
        found.append((value.detach(), *torch.autograd.grad(value, leaf)))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10)


class Watched(TorchDispatchMode):
    """Sees programs and PyTorch's operations in turn, but for what the interpreter does itself."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.seen, self.launching = [], False
        for name in ("_short_rows", "_long_rows", "_total", "_worst_case"):
            monkeypatch.setattr(fused, name, Launches(self, getattr(fused, name)))

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if not self.launching:
            self.seen.append(operation.overloadpacket.__name__)
        return operation(*args, **(kwargs or {}))


class Launches:
    """A program that is watched."""

    def __init__(self, watched, program):
        self.watched, self.program = watched, program

    def __getitem__(self, grid):
        def launch(*arguments, **settings):
            self.watched.seen.append(self.program.__name__)
            self.watched.launching = True
            self.program[grid](*arguments, **settings)
            self.watched.launching = False

        return launch


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("longest", "first"), [(2048, "_short_rows"), (2, "_long_rows")])
def test_three_programs_and_room_for_what_they_write(reduction, longest, first, monkeypatch):
    """Small batches wait for the host: for every launch, operation, and node of the graph."""
    monkeypatch.setattr(fused, "LONGEST", longest)
    margins, labels = sample(12, 4)
    with Watched(monkeypatch) as watched:
        loss = MGCELoss(0.7, reduction=reduction)(margins.requires_grad_(), labels)
        forward, watched.seen = watched.seen, []
        torch.autograd.grad(loss, margins)
    scratch = ["new_empty"] if longest == 2 else []
    assert forward == ["new_empty", "new_empty", *scratch, first, "new_empty", "_total"]
    assert [each for each in watched.seen if each != "detach"] == [
        "ones_like",
        "empty_like",
        "_worst_case",
    ]
    names, node = [], loss.grad_fn
    while node is not None:
        names.append(node.name())
        node = node.next_functions[0][0] if node.next_functions else None
    assert names == ["_LossByProgramsBackward", "torch::autograd::AccumulateGrad"]


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("n_rows", "longest"), [(12, 2048), (90, 2048), (90, 2)])
@pytest.mark.parametrize(
    ("dtype", "tol"), [(torch.float64, 1e-11), (torch.float32, 4e-6), (torch.bfloat16, 4e-3)]
)
def test_reductions_are_those_on_a_cpu(q, reduction, n_rows, longest, dtype, tol, monkeypatch):
    """Of one part, of more parts than are added at a time, and of some rows a part."""
    monkeypatch.setattr(fused, "LONGEST", longest)
    monkeypatch.setattr(fused, "TILE", 16)
    margins, labels = sample(n_rows, 4, dtype)
    labels[-1] = IGNORED
    found = []
    for with_programs, leaf in ((True, margins), (False, margins.double().cpu())):
        monkeypatch.setattr(link, "_has_programs", lambda margins, here=with_programs: here)
        leaf = leaf.clone().requires_grad_()
        value = MGCELoss(q, reduction=reduction)(leaf, labels.to(leaf.device))
        found.append((value, *torch.autograd.grad(-3.0 * value, leaf)))
    (value, gradient), (expected, expected_gradient) = found
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert gradient.dtype == dtype
    assert value.item() == pytest.approx(expected.item(), rel=min(tol, 4e-6))
    scale = 3.0 if reduction == "sum" else 3.0 / n_rows
    torch.testing.assert_close(
        gradient.double().cpu() / scale, expected_gradient / scale, rtol=0.0, atol=50 * tol
    )


@pytest.mark.parametrize("longest", [2048, 2])
def test_rows_of_any_shape_and_layout(longest, monkeypatch):
    monkeypatch.setattr(fused, "LONGEST", longest)
    margins, labels = sample(30, 4)
    expected = MGCELoss(0.3)(margins.requires_grad_(), labels)
    (slope,) = torch.autograd.grad(expected, margins)
    apart = margins.detach().view(5, 6, 4).transpose(0, 1).contiguous().transpose(0, 1)
    codes = labels.view(5, 6).t().contiguous().t()
    assert not (apart.is_contiguous() or codes.is_contiguous())
    loss = MGCELoss(0.3)(apart.requires_grad_(), codes)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, apart)[0].reshape(30, 4), slope)
    rows = MGCELoss(0.3, reduction="none")(apart, codes)
    factor = torch.linspace(0.5, 1.0, 30, dtype=torch.float64, device=DEVICE).view(6, 5).t()
    (gradient,) = torch.autograd.grad(rows, apart, factor)
    torch.testing.assert_close(rows.sum() / 29.0, expected)
    torch.testing.assert_close(gradient / 29.0, factor.unsqueeze(-1) * slope.view(5, 6, 4))
    one = MGCELoss(0.3)(margins[0], labels[0])
    assert one.item() == pytest.approx(rows[0, 0].item(), rel=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("longest", [2048, 2])
def test_ignored_rows_may_be_no_numbers_and_all_there_are(reduction, longest, monkeypatch):
    monkeypatch.setattr(fused, "LONGEST", longest)
    margins, labels = sample(12, 4)
    loss = MGCELoss(0.7, reduction=reduction)
    expected = loss(margins, labels)
    margins[1] = torch.nan
    assert loss(margins, labels).equal(expected)
    value = loss(margins.requires_grad_(), torch.full_like(labels, IGNORED))
    assert value.item() == 0.0
    assert not torch.autograd.grad(value, margins)[0].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, for its many programs")
@pytest.mark.parametrize(("n_rows", "n_classes"), [(200_000, 10), (5_000, 3_000)])
def test_sums_are_the_same_every_time_and_close(n_rows, n_classes):
    margins, labels = sample(n_rows, n_classes, torch.float32)
    losses = [MGCELoss(0.5)(margins, labels) for _ in range(5)]
    assert all(loss.equal(losses[0]) for loss in losses)
    rows = MGCELoss(0.5, reduction="none")(margins, labels).double()
    assert losses[0].item() == pytest.approx(rows.sum().item() / (n_rows - 1), rel=1e-6)


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
def test_known_noise(q):
    noise = 0.7 * np.eye(4) + 0.3 * np.roll(np.eye(4), 1, axis=1)
    margins, labels = sample(12, 4)
    exact, codes = margins.cpu().numpy(), labels.cpu().numpy()
    known = codes != IGNORED
    codes = np.where(known, codes, 0)
    solved = np.linalg.solve(noise, exact.T).T[np.arange(12), codes]
    loss = MGCELoss(q, noise_matrix=noise).to(DEVICE)(margins.requires_grad_(), labels)
    expected = (kernels.threshold(exact, q) - solved)[known].mean()
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    slope = kernels.worst_case(exact, q) - np.linalg.inv(noise)[codes]
    (gradient,) = torch.autograd.grad(loss, margins)
    np.testing.assert_allclose(gradient.cpu(), known[:, np.newaxis] * slope / 11, atol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_derivatives_of_derivatives(reduction):
    margins, labels = sample(4, 5)
    loss = MGCELoss(0.3, reduction=reduction)
    assert torch.autograd.gradcheck(lambda m: loss(m, labels), margins.requires_grad_())
    (gradient,) = torch.autograd.grad(loss(margins, labels).sum(), margins)
    (again,) = torch.autograd.grad(loss(margins, labels).sum(), margins, create_graph=True)
    torch.testing.assert_close(again, gradient)
    assert torch.autograd.gradgradcheck(lambda m: loss(m, labels), margins)


def test_half_precision_stays_half():
    margins, labels = sample(6, 5, torch.bfloat16)
    loss = MGCELoss(0.5)(margins.requires_grad_(), labels)
    (gradient,) = torch.autograd.grad(loss, margins)
    assert loss.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    assert not gradient[1].any()


def test_what_is_no_number_makes_the_loss_nan():
    rows = [
        [0.0, torch.nan],
        [0.0, torch.inf],
        [-torch.inf, -torch.inf],
        [0.0, 1.0],
        [-torch.inf, 0.0],
    ]
    margins = torch.tensor(rows, device=DEVICE)
    labels = torch.tensor([0, 1, 0, 2, 1], device=DEVICE)
    loss = MGCELoss(0.5, reduction="none")(margins, labels)
    assert loss.isnan().tolist() == [True, True, True, True, False]
    for reduction in ("mean", "sum"):
        whole = MGCELoss(0.5, reduction=reduction)
        assert [
            whole(*row).isnan().item()
            for row in zip(margins.split(1), labels.split(1), strict=True)
        ] == loss.isnan().tolist()
        assert whole(margins, labels).isnan()
    for function in (mgce_threshold, mgce_worst_case):
        with pytest.raises(ValueError, match="NaN"):
            function(margins, 0.5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("longest", [2048, 2])
def test_no_rows(reduction, longest, monkeypatch):
    monkeypatch.setattr(fused, "LONGEST", longest)
    margins = torch.zeros(0, 3, device=DEVICE, requires_grad=True)
    loss = MGCELoss(0.5, reduction=reduction)(
        margins, torch.zeros(0, dtype=torch.long, device=DEVICE)
    )
    assert loss.item() == 0.0
    assert torch.autograd.grad(loss, margins)[0].shape == (0, 3)
