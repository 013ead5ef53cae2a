"""Losses of margins: one routine for every loss, and what is special to each."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import func  # noqa: E402
from torch.nn.functional import cross_entropy, one_hot  # noqa: E402

from mgce_sklearn import kernels  # noqa: E402
from mgce_sklearn.kernels import reference  # noqa: E402
from mgce_sklearn.torch import (  # noqa: E402
    FocalLoss,
    GCELoss,
    GenerativeCrossEntropyLoss,
    MGCELoss,
    mgce_worst_case,
)

LOSSES = {
    "MGCE 0": lambda **options: MGCELoss(0.0, **options),
    "MGCE .7": lambda **options: MGCELoss(0.7, **options),
    "MGCE 1": lambda **options: MGCELoss(1.0, **options),
    "GCE 0": lambda **options: GCELoss(0.0, **options),
    "GCE .7": lambda **options: GCELoss(0.7, **options),
    "GCE 1": lambda **options: GCELoss(1.0, **options),
    "GenCE": GenerativeCrossEntropyLoss,
    "Focal 2": lambda **options: FocalLoss(2.0, **options),
    "Focal .5": lambda **options: FocalLoss(0.5, **options),
    "Focal 0": lambda **options: FocalLoss(0.0, **options),
}
# Of these the loss of a row depends on the row alone.
ROWWISE = [name for name in LOSSES if name != "GenCE"]


# A row for each true class, no two classes alike.
NOISE = torch.tensor(
    [[0.7, 0.2, 0.1, 0.0], [0.0, 0.9, 0.05, 0.05], [0.3, 0.1, 0.6, 0.0], [0.1, 0.1, 0.3, 0.5]],
    dtype=torch.float64,
)


def sample(*shape, seed=0, dtype=torch.float64):
    """Return margins, and labels from their softmax."""
    generator = torch.Generator().manual_seed(seed)
    margins = 2.0 * torch.randn(*shape, generator=generator, dtype=dtype)
    rows = torch.softmax(margins, dim=-1).reshape(-1, shape[-1])
    labels = torch.multinomial(rows, 1, generator=generator).reshape(shape[:-1])
    return margins, labels


def softmax_of(row):
    weights = np.exp(row - np.max(row))
    return weights / weights.sum()


def slow(name, margins, labels):
    """Compute the loss of every row by its formula, one row at a time."""
    rows = margins.reshape(-1, margins.shape[-1]).numpy()
    labels = labels.reshape(-1).numpy()
    proba = np.array([softmax_of(row) for row in rows])
    kind, _, parameter = name.partition(" ")
    out = []
    for row, p, y in zip(rows, proba, labels, strict=True):
        if kind == "MGCE":
            loss = reference.threshold(row[np.newaxis], float(parameter))[0] - row[y]
        elif kind == "GCE":
            q = float(parameter)
            loss = -np.log(p[y]) if q == 0.0 else (1.0 - p[y] ** q) / q
        elif kind == "GenCE":
            loss = -np.log(p[y]) + np.log(np.mean([other[y] for other in proba]))
        else:
            loss = -((1.0 - p[y]) ** float(parameter)) * np.log(p[y])
        out.append(loss)
    return np.reshape(out, margins.shape[:-1])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(4,), (30, 5), (6, 7, 3)])
def test_agrees_with_its_formula(name, shape):
    margins, labels = sample(*shape)
    expected = slow(name, margins, labels)
    got = LOSSES[name](reduction="none")(margins, labels)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert LOSSES[name]()(margins, labels).item() == pytest.approx(expected.mean(), rel=1e-12)
    total = LOSSES[name](reduction="sum")(margins, labels).item()
    assert total == pytest.approx(expected.sum(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives(name):
    margins, labels = sample(6, 4)
    loss = LOSSES[name]()
    margins.requires_grad_()
    assert torch.autograd.gradcheck(lambda m: loss(m, labels), margins, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda m: loss(m, labels), margins, check_fwd_over_rev=True)


@pytest.mark.parametrize("q", [0.0, 0.3, 0.7, 1.0])
def test_gradient_of_mgce_is_the_worst_case_less_the_label(q):
    margins, labels = sample(20, 5)
    margins.requires_grad_()
    MGCELoss(q, reduction="sum")(margins, labels).backward()
    expected = mgce_worst_case(margins.detach(), q) - one_hot(labels, 5)
    torch.testing.assert_close(margins.grad, expected, rtol=0, atol=1e-14)


def test_cross_entropy_is_the_end_of_every_family():
    margins, labels = sample(20, 5)
    expected = cross_entropy(margins, labels)
    for name in ("MGCE 0", "GCE 0", "Focal 0"):
        torch.testing.assert_close(LOSSES[name]()(margins, labels), expected)
    torch.testing.assert_close(MGCELoss(1e-9)(margins, labels), expected, rtol=1e-8, atol=0)
    torch.testing.assert_close(GCELoss(1e-9)(margins, labels), expected, rtol=1e-8, atol=0)


def test_generative_cross_entropy_is_minus_log_p_of_x_given_y():
    margins, labels = sample(30, 4)
    proba = torch.softmax(margins, dim=-1)
    given_class = proba / proba.sum(dim=0)  # p(x_i | y) over the rows of the batch
    expected = -torch.log(given_class.gather(1, labels[:, None]) * len(labels)).mean()
    torch.testing.assert_close(GenerativeCrossEntropyLoss()(margins, labels), expected)


def test_mgce_is_zero_at_finite_margins_for_positive_q():
    margins = torch.tensor([[4.0, 0.0, 0.0]])
    assert MGCELoss(0.5)(margins, torch.tensor([0])) == 0.0
    assert MGCELoss(0.0)(margins, torch.tensor([0])) > 0.0


@pytest.mark.parametrize("name", LOSSES)
def test_proba_is_the_link_of_the_loss(name):
    margins, _ = sample(10, 5)
    q = float(name.partition(" ")[2]) if name.startswith("MGCE") else 0.0
    expected = kernels.rule(margins.numpy(), q)
    np.testing.assert_allclose(LOSSES[name]().proba(margins), expected, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_distributions_are_means_over_labels(name):
    margins, labels = sample(12, 5)
    loss = LOSSES[name]()
    certain = one_hot(labels, 5).double()
    torch.testing.assert_close(loss(margins, certain), loss(margins, labels))
    other = labels.roll(1)
    mixed = 0.3 * certain + 0.7 * one_hot(other, 5)
    expected = 0.3 * loss(margins, labels) + 0.7 * loss(margins, other)
    torch.testing.assert_close(loss(margins, mixed), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_label_smoothing_is_a_distribution(name):
    margins, labels = sample(12, 5)
    smoothed = 0.9 * one_hot(labels, 5).double() + 0.1 / 5
    got = LOSSES[name](label_smoothing=0.1)
    torch.testing.assert_close(got(margins, labels), LOSSES[name]()(margins, smoothed))
    ignored = torch.cat([labels[:-1], torch.tensor([-100])])
    if name in ROWWISE:
        torch.testing.assert_close(got(margins, ignored), got(margins[:-1], labels[:-1]))


def test_label_smoothing_of_cross_entropy_agrees_with_pytorch():
    margins, labels = sample(12, 5)
    expected = cross_entropy(margins, labels, label_smoothing=0.2)
    torch.testing.assert_close(MGCELoss(0.0, label_smoothing=0.2)(margins, labels), expected)


@pytest.mark.parametrize("name", ROWWISE)
def test_weights_of_classes_and_rows_are_repetitions(name):
    margins, labels = sample(10, 3)
    weight = torch.tensor([1.0, 2.0, 0.0])
    rows = torch.repeat_interleave(torch.arange(10), weight.long()[labels])
    expected = LOSSES[name]()(margins[rows], labels[rows])
    torch.testing.assert_close(LOSSES[name](weight=weight)(margins, labels), expected)
    torch.testing.assert_close(LOSSES[name]()(margins, labels, weight[labels]), expected)
    both = LOSSES[name](weight=weight.sqrt())(margins, labels, weight.sqrt()[labels])
    torch.testing.assert_close(both, expected)
    certain = one_hot(labels, 3).double()
    torch.testing.assert_close(LOSSES[name](weight=weight)(margins, certain), expected)


def test_rows_need_not_lie_together():
    margins, labels = sample(20, 5)
    loss = MGCELoss(0.7, reduction="none")
    got = loss(margins.T.contiguous().T[::2], labels[::2])
    torch.testing.assert_close(got, loss(margins, labels)[::2])


def test_class_weights_agree_with_pytorch():
    margins, labels = sample(12, 5)
    weight = torch.arange(5.0, dtype=torch.float64)
    for reduction in ("mean", "sum", "none"):
        expected = cross_entropy(margins, labels, weight, reduction=reduction)
        got = MGCELoss(0.0, weight=weight, reduction=reduction)(margins, labels)
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_rows_count_for_nothing(name):
    margins, labels = sample(10, 4)
    expected = LOSSES[name]()(margins[3:], labels[3:])
    labels[:3] = -1
    margins.requires_grad_()
    got = LOSSES[name](ignore_index=-1)(margins, labels)
    torch.testing.assert_close(got, expected)
    got.backward()
    assert not margins.grad[:3].any()
    assert margins.grad[3:].any()
    none = LOSSES[name](ignore_index=-1)(margins, torch.full((10,), -1))
    none.backward()
    assert none == 0.0
    assert margins.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_class_can_be_the_ignored_label(name):
    margins, labels = sample(12, 3)
    kept = labels != 1
    expected = LOSSES[name]()(margins[kept], labels[kept])
    torch.testing.assert_close(LOSSES[name](ignore_index=1)(margins, labels), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_an_impossible_class_costs_nothing_where_its_target_is_zero(name):
    margins, labels = sample(6, 3)
    margins.requires_grad_()
    expected = LOSSES[name]()(margins, labels)
    gradient = torch.autograd.grad(expected, margins)[0]
    for target in (labels, one_hot(labels, 4).double()):
        impossible = torch.cat([margins, torch.full((6, 1), -torch.inf)], dim=1)
        loss = LOSSES[name]()(impossible, target)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(torch.autograd.grad(loss, margins)[0], gradient)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_margins_of_any_precision_give_numbers(name, dtype):
    rows = [[-6e4, 0.0, 6e4], [6e4, 6e4, -6e4], [0.0, 0.0, 0.0], [-6e4, 6e4, 0.0]]
    margins = torch.tensor(rows, dtype=dtype, requires_grad=True)
    loss = LOSSES[name]()(margins, torch.tensor([0, 1, 2, 1]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert margins.grad.dtype == dtype
    assert margins.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_computes_in_single(name):
    margins, labels = sample(16, 5, dtype=torch.float32)
    layer = torch.nn.Linear(5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer(margins)
        loss = LOSSES[name]()(half, labels)
    assert half.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, LOSSES[name]()(half.float(), labels))
    loss.backward()
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", ["MGCE .7", "GCE .7", "GenCE", "Focal 2"])
def test_compiles_into_one_graph(name):
    margins, labels = sample(16, 5)
    loss = LOSSES[name](weight=torch.arange(5.0), label_smoothing=0.0)
    margins.requires_grad_()
    expected = torch.autograd.grad(loss(margins, labels), margins)[0]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    got = torch.autograd.grad(compiled(margins, labels), margins)[0]
    torch.testing.assert_close(got, expected)


INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32)


def test_integers_of_every_size_are_labels():
    margins, labels = sample(8, 3)
    expected = MGCELoss()(margins, labels)
    for dtype in INTEGERS:
        torch.testing.assert_close(MGCELoss()(margins, labels.to(dtype)), expected)
    two = MGCELoss()(margins[:, :2], labels.clamp(max=1))
    torch.testing.assert_close(MGCELoss()(margins[:, :2], labels > 0), two)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"weight": torch.ones(300)}])
@pytest.mark.parametrize(
    ("dtype", "n_classes", "ignore_index"),
    [
        (torch.uint8, 256, 255),
        (torch.uint8, 256, -100),  # 156 of eight bits
        (torch.uint8, 300, 256),  # 0
        (torch.int8, 128, 255),  # -1
        (torch.int8, 300, 256),
        (torch.int16, 300, 2**16),
    ],
)
def test_no_number_is_another_in_few_bits(dtype, n_classes, ignore_index, options, compiled):
    if "weight" in options:
        options = {"weight": options["weight"][:n_classes]}
    labels = torch.arange(min(n_classes, torch.iinfo(dtype).max + 1))
    margins, _ = sample(len(labels), n_classes)
    loss = MGCELoss(0.0, ignore_index=ignore_index, reduction="none", **options)
    expected = loss(margins, labels)
    assert (expected > 0.0).equal(labels != ignore_index)
    if compiled:
        torch.compiler.reset()  # it gives up after some versions of one function
        loss = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(loss(margins, labels.to(dtype)), expected)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_of_no_rows(name, reduction):
    margins, options = torch.zeros(0, 4, requires_grad=True), {"reduction": reduction}
    distributions = torch.zeros(0, 4, dtype=torch.float16)
    for target in (torch.zeros(0, dtype=torch.uint8), distributions):
        for loss in (
            LOSSES[name](**options)(margins, target),
            LOSSES[name](**options)(margins, target, torch.ones(0)),
            LOSSES[name](weight=torch.ones(4), label_smoothing=0.1, **options)(margins, target),
        ):
            assert loss.shape == ((0,) if reduction == "none" else ())
            assert loss.sum() == 0.0
            assert torch.autograd.grad(loss.sum(), margins)[0].shape == (0, 4)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_distributions_and_weights_in_half_precision_are_numbers_as_good_as_others(name, dtype):
    margins, labels = sample(12, 4)
    target = torch.softmax(sample(12, 4, seed=1)[0], dim=-1).to(dtype)
    factors, rows = (sample(n, 1, seed=2)[0].squeeze().abs().to(dtype) for n in (4, 12))
    for half, single in ((None, None), (factors, factors.double())):
        of_half, of_single = LOSSES[name](weight=half), LOSSES[name](weight=single)
        expected = of_single(margins, target.double(), rows.double())
        torch.testing.assert_close(of_half(margins, target, rows), expected)
        expected = of_single(margins, labels, rows.double())
        torch.testing.assert_close(of_half(margins, labels, rows), expected)


# Known noise


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", LOSSES)
def test_a_corrected_loss_is_on_average_over_the_noise_that_of_the_true_label(name, smoothing):
    margins, labels = sample(12, 4)
    plain = LOSSES[name](label_smoothing=smoothing, reduction="none")
    noisy = LOSSES[name](label_smoothing=smoothing, reduction="none", noise_matrix=NOISE)
    of_observed = torch.stack([noisy(margins, torch.full((12,), k)) for k in range(4)], dim=1)
    mean = torch.sum(NOISE[labels] * of_observed, dim=1)
    torch.testing.assert_close(mean, plain(margins, labels), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(noisy(margins, labels), plain(margins, labels))


@pytest.mark.parametrize("q", [0.0, 0.7, 1.0])
def test_corrected_mgce_agrees_with_its_formula_and_has_the_curvature_of_psi(q):
    margins, labels = sample(12, 4)
    solved = np.linalg.solve(NOISE.numpy(), margins.numpy().T).T  # T⁻¹ m of every row
    expected = reference.threshold(margins.numpy(), q) - solved[np.arange(12), labels]
    loss = MGCELoss(q, noise_matrix=NOISE.tolist(), reduction="none")
    np.testing.assert_allclose(loss(margins, labels), expected, rtol=1e-11, atol=1e-11)
    assert expected.min() < 0.0
    loss.reduction = "mean"
    curvatures = [gradient_and_hessian(each, margins, labels)[1] for each in (loss, MGCELoss(q))]
    torch.testing.assert_close(*curvatures)
    assert torch.autograd.gradcheck(lambda m: loss(m, labels), margins.requires_grad_())


@pytest.mark.parametrize("name", ROWWISE)
def test_rows_of_noisy_labels_are_ignored_weighted_and_of_any_precision(name):
    margins, labels = sample(12, 4)
    row_weight = torch.arange(12.0)
    loss = LOSSES[name](noise_matrix=NOISE)
    rows = torch.repeat_interleave(torch.arange(12), row_weight.long())
    expected = loss(margins[rows], labels[rows])
    torch.testing.assert_close(loss(margins, labels, row_weight), expected)
    torch.testing.assert_close(
        LOSSES[name](noise_matrix=NOISE.float())(margins, labels, row_weight), expected,
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip
    assert LOSSES[name](noise_matrix=NOISE.half()).correction.dtype == torch.float32
    with_ignored = torch.cat([labels[:3].new_full((3,), -100), labels[3:]])
    torch.testing.assert_close(loss(margins, with_ignored), loss(margins[3:], labels[3:]))
    unharmed = LOSSES[name](noise_matrix=torch.eye(4, dtype=torch.int64))
    torch.testing.assert_close(
        unharmed(margins.float(), labels), LOSSES[name]()(margins.float(), labels)
    )


def test_noise_compiles_into_one_graph():
    margins, labels = sample(16, 4)
    loss = MGCELoss(noise_matrix=NOISE)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(margins, labels), loss(margins, labels))


# Transforms

OPTIONS = {
    "nothing": {},
    "weights": {"weight": torch.tensor([0.5, 2.0, 0.0, 1.0], dtype=torch.float64)},
    "smoothing": {"label_smoothing": 0.1},
    "an ignored class": {"ignore_index": 2},
    "noise": {"noise_matrix": NOISE, "label_smoothing": 0.1, "ignore_index": 2},
    "all of them": {
        "weight": torch.tensor([0.5, 2.0, 0.0, 1.0], dtype=torch.float64),
        "label_smoothing": 0.1,
        "ignore_index": 2,
    },
}


def gradient_and_hessian(loss, margins, *others):
    """Return both by backward passes."""
    functional = torch.autograd.functional
    return [of(lambda m: loss(m, *others), margins) for of in
            (functional.jacobian, functional.hessian)]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_derivatives_by_transforms_are_those_of_backward_passes(name, options):
    margins, labels = sample(6, 4)
    loss = LOSSES[name](**OPTIONS[options])
    gradient, hessian = gradient_and_hessian(loss, margins, labels)
    for first in (func.grad, func.jacrev, func.jacfwd):
        torch.testing.assert_close(first(loss)(margins, labels), gradient)
    for second in (func.hessian, lambda of: func.jacrev(func.grad(of))):
        torch.testing.assert_close(second(loss)(margins, labels), hessian)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_vmap_is_one_row_after_another(name, options):
    margins, labels = sample(6, 4)
    loss = LOSSES[name](**OPTIONS[options])
    targets = [labels, labels.to(torch.uint8)]
    if options != "noise":
        targets.append((0.8 * one_hot(labels, 4) + 0.05).double())
    for target in targets:
        rows = list(zip(margins, target, strict=True))
        expected = torch.stack([loss(*row) for row in rows])
        torch.testing.assert_close(func.vmap(loss)(margins, target), expected)
        gradients, hessians = (
            torch.stack(parts)
            for parts in zip(*(gradient_and_hessian(loss, *row) for row in rows), strict=True)
        )
        torch.testing.assert_close(func.vmap(func.grad(loss))(margins, target), gradients)
        torch.testing.assert_close(func.vmap(func.hessian(loss))(margins, target), hessians)


@pytest.mark.parametrize("name", LOSSES)
def test_vmap_over_some_arguments(name):
    margins, labels = sample(6, 4)
    loss, row, label = LOSSES[name](), margins[0], labels[0]
    gradient = func.grad(loss)
    got = func.vmap(gradient, in_dims=(1, None))(margins.T.contiguous(), label)
    torch.testing.assert_close(got, torch.stack([gradient(each, label) for each in margins]))
    got = func.vmap(gradient, in_dims=(None, 0))(row, labels)
    torch.testing.assert_close(got, torch.stack([gradient(row, each) for each in labels]))
    batches = margins.reshape(2, 3, 4), labels.reshape(2, 3)
    got = func.vmap(func.vmap(gradient))(*batches)
    torch.testing.assert_close(got.reshape(6, 4), func.vmap(gradient)(margins, labels))


@pytest.mark.parametrize("name", LOSSES)
def test_transforms_over_weights(name):
    margins, labels = sample(6, 4)
    row_weights, class_weights = sample(6, 5, seed=1)[0].abs(), sample(3, 4, seed=2)[0].abs()

    def of_rows(weight):
        return LOSSES[name]()(margins, labels, weight)

    def of_classes(weight):
        return LOSSES[name](weight=weight)(margins, labels)

    got = func.vmap(func.grad(of_rows), in_dims=1)(row_weights)
    expected = [torch.autograd.functional.jacobian(of_rows, each) for each in row_weights.T]
    torch.testing.assert_close(got, torch.stack(expected))
    got = func.vmap(func.grad(of_classes))(class_weights)
    expected = [torch.autograd.functional.jacobian(of_classes, each) for each in class_weights]
    torch.testing.assert_close(got, torch.stack(expected))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("transform", [func.vmap, lambda of: func.vmap(func.grad(of))])
def test_bad_input_is_seen_through_transforms(name, transform):
    loss, weight = transform(LOSSES[name]()), torch.ones(4)
    for arguments, words in {
        (MARGINS, LABELS + 1): "labels 0 to 2.*got 3",
        (MARGINS * torch.nan, LABELS): "NaN",
        (MARGINS, LABELS, -weight): "non-negative",
        (MARGINS, MARGINS - 1.0): "non-negative",
    }.items():
        with pytest.raises(ValueError, match=words):
            loss(*arguments)


@pytest.mark.parametrize("name", ["MGCE .7", "GCE .7", "GenCE", "Focal 2"])
def test_transforms_compile_into_one_graph(name):
    torch.compiler.reset()  # it gives up after some versions of one function
    of, rows = func.vmap(func.grad(LOSSES[name]())), sample(6, 4)
    compiled = torch.compile(of, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*rows), of(*rows))


def test_a_gradient_for_every_row_of_a_network():
    margins, labels = sample(6, 4)
    layer = torch.nn.Linear(4, 4).double()
    parameters = dict(layer.named_parameters())

    def of_row(parameters, row, label):
        return MGCELoss()(func.functional_call(layer, parameters, row), label)

    got = func.vmap(func.grad(of_row), in_dims=(None, 0, 0))(parameters, margins, labels)
    for name, parameter in parameters.items():
        expected = [
            torch.autograd.grad(MGCELoss()(layer(row), label), parameter)[0]
            for row, label in zip(margins, labels, strict=True)
        ]
        torch.testing.assert_close(got[name], torch.stack(expected))


def test_state_moves_with_the_module():
    loss = MGCELoss(weight=[1.0, 2.0]).double()
    assert loss.weight.dtype == torch.float64
    assert "q=0.7" in repr(loss)


MARGINS = torch.zeros(4, 3)
LABELS = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("margins", "target", "error", "words"),
    [
        (MARGINS.long(), LABELS, TypeError, "margins must be a tensor of floating-point"),
        (MARGINS, [0, 1, 2, 0], TypeError, "got list"),
        (MARGINS, LABELS + 1, ValueError, "labels 0 to 2.*got 3"),
        (MARGINS, LABELS - 1, ValueError, "labels 0 to 2.*got -1"),
        (MARGINS, LABELS[:3], ValueError, r"shape \(4,\).*got \(3,\)"),
        (MARGINS, LABELS[:, None], ValueError, r"shape \(4,\).*got \(4, 1\)"),
        (MARGINS, LABELS.float(), ValueError, r"shape \(4, 3\).*got \(4,\)"),
        (MARGINS, -torch.ones(4, 3), ValueError, "non-negative"),
        (MARGINS, torch.full((4, 3), torch.nan), ValueError, "NaN"),
        (MARGINS, LABELS.to("meta"), ValueError, "device of the margins, cpu; got meta"),
    ],
)
def test_bad_input(margins, target, error, words):
    with pytest.raises(error, match=words):
        MGCELoss()(margins, target)


@pytest.mark.parametrize("name", LOSSES)
def test_margins_that_are_no_numbers(name):
    for number in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="NaN"):
            LOSSES[name]()(torch.full((4, 3), number), LABELS)


@pytest.mark.parametrize(
    ("sample_weight", "words"),
    [(torch.ones(3), r"got \(3,\)"), (-torch.ones(4), "non-negative"),
     (torch.full((4,), torch.nan), "non-negative"), (torch.ones(4, device="meta"), "got meta")],
)  # fmt: skip
def test_bad_sample_weight(sample_weight, words):
    with pytest.raises(ValueError, match=words):
        MGCELoss()(MARGINS, LABELS, sample_weight)


def test_sample_weight_that_is_no_tensor():
    with pytest.raises(TypeError, match="sample_weight must be a tensor; got list"):
        MGCELoss()(MARGINS, LABELS, [1.0] * 4)


@pytest.mark.parametrize("name", LOSSES)
def test_values_are_not_looked_at_where_there_are_none(name):
    margins, labels, weight = (
        tensor.to("meta") for tensor in (MARGINS, LABELS, torch.ones(4))
    )  # fmt: skip
    for target in (labels, one_hot(LABELS, 3).double().to("meta")):
        assert LOSSES[name]()(margins, target, weight).shape == ()


NEARLY_SINGULAR = [[0.5, 0.5, 0.0], [0.5, 0.5 - 1e-8, 1e-8], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: MGCELoss(1.2), ValueError, "q must be"),
        (lambda: MGCELoss("1"), TypeError, "q must be"),
        (lambda: GCELoss(-0.1), ValueError, "q must be"),
        (lambda: FocalLoss(-1.0), ValueError, "gamma must be"),
        (lambda: MGCELoss(reduction="average"), ValueError, "reduction must be one of"),
        (lambda: MGCELoss(label_smoothing=1.5), ValueError, "label_smoothing must be"),
        (lambda: MGCELoss(weight=torch.tensor([1.0, -1.0])), ValueError, "weight must have"),
        (lambda: MGCELoss(weight=torch.ones(2, 2)), ValueError, "weight must have"),
        (lambda: MGCELoss(weight="balanced"), ValueError, "weight must have"),
        (lambda: MGCELoss(weight={0: 1.0}), ValueError, "weight must have"),
        (lambda: MGCELoss(ignore_index=None), TypeError, "ignore_index must be an integer"),
        (lambda: MGCELoss(noise_matrix=0.2), ValueError, r"shape \(n_classes, n_classes\).*rate"),
        (lambda: MGCELoss(noise_matrix=torch.ones(2, 3) / 3), ValueError, r"got shape \(2, 3\)"),
        (lambda: MGCELoss(noise_matrix=-torch.eye(2)), ValueError, "must have probabilities"),
        (lambda: MGCELoss(noise_matrix=NEARLY_SINGULAR), ValueError, "an accurate inverse"),
        (
            lambda: FocalLoss(noise_matrix=NOISE, weight=torch.ones(4)),
            ValueError,
            "weight must be None if noise_matrix is given",
        ),
    ],
)
def test_bad_parameters(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_weight_of_another_number_of_classes():
    with pytest.raises(ValueError, match="weight must have 3 numbers"):
        MGCELoss(weight=torch.ones(2))(MARGINS, LABELS)


def test_targets_that_a_noise_matrix_does_not_know():
    loss = MGCELoss(noise_matrix=NOISE)
    with pytest.raises(ValueError, match=r"noise_matrix must have 3 rows.*; got 4"):
        loss(MARGINS, LABELS)
    with pytest.raises(ValueError, match=r"target must be labels .* if noise_matrix is given"):
        loss(torch.zeros(4, 4), torch.eye(4))
    with pytest.raises(ValueError, match="noise_matrix must be on the device of the margins"):
        loss.to("meta")(torch.zeros(4, 4), LABELS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("compiled", [False, True])
def test_gpu_agrees(name, compiled):
    margins, labels = sample(32, 5)
    loss = LOSSES[name]()
    expected = torch.autograd.grad(loss(margins.requires_grad_(), labels), margins)[0]
    there = margins.detach().cuda().requires_grad_()
    on_gpu = torch.compile(loss, fullgraph=True) if compiled else loss
    got = torch.autograd.grad(on_gpu(there, labels.cuda()), there)[0]
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="target must be on the device of the margins"):
        loss(there, labels)
