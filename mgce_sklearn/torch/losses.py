r"""Losses on raw margins, for training networks: MGCE, and those it is compared with.

All share one interface (`MarginLoss`): margins (..., K) with a class a column, targets that are
labels or distributions, class and sample weights, label smoothing, ignored labels, known noise. A
loss also knows the probabilities that it trains, its own link: ``loss.proba(margins)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mgce_sklearn.arrays import on_host
from mgce_sklearn.tensors.link import (
    as_margins,
    as_parameter,
    check_margins,
    check_numbers,
    in_single,
    loss_by_programs,
    loss_of_labels,
    mgce_proba,
    mgce_threshold,
    values_of,
)
from mgce_sklearn.validation import (
    FOCUSING,
    IGNORED,
    LABEL_SMOOTHING,
    REDUCTION,
    check_invertible,
    check_noise_matrix,
)


class MarginLoss(nn.Module):
    r"""A loss of margins and labels, or of margins and distributions of the label.

    A subclass says how margins become scores, one for each label, and the loss of a score.

    Parameters
    ----------
    weight : Tensor of shape (K,), default=None
        Factor of each class on the loss of its rows, non-negative.
    reduction : {"mean", "sum", "none"}, default="mean"
        "mean" divides by the sum of the weights of the rows, whether they have labels or
        distributions. Over no rows it is 0.
    ignore_index : int, default=-100
        Label of rows that count for nothing.
    label_smoothing : float, default=0
        Share in [0, 1] of every label's probability that is spread evenly over all classes.
    noise_matrix : array-like or Tensor of shape (K, K), default=None
        Probabilities of observed labels, a row for each true class, if labels are wrong that often.
        The loss is then the correction of the notes. Not beside ``weight``, and not for
        distributions.

    Notes
    -----
    With a ``noise_matrix`` T the loss of an observed label is the sum over classes k of
    :math:`(T^{-1})_{\tilde y k}` times the loss of k [1]_. Its mean over the noise is the loss of
    the true label, exactly, for every loss here and with label smoothing. Where a label is likely
    wrong, entries are negative: a row's loss may be below 0, and of a loss without a bound, such as
    cross-entropy, have no least value. Then networks that can fit every row need a penalty, or few
    epochs.

    References
    ----------
    .. [1] G. Patrini, A. Rozza, A. Menon, R. Nock and L. Qu, "Making Deep Neural Networks Robust to
       Label Noise: A Loss Correction Approach", CVPR 2017, theorem 1.

    Examples
    --------
    >>> import torch
    >>> from mgce_sklearn.torch import MarginLoss, MGCELoss
    >>> loss = MGCELoss(q=0.7, reduction="sum")
    >>> isinstance(loss, MarginLoss)
    True
    >>> loss(torch.zeros(2, 3), torch.tensor([0, 2])).shape
    torch.Size([])
    """

    weight: Tensor | None
    correction: Tensor | None

    def __init__(
        self,
        *,
        weight: Tensor | None = None,
        reduction: str = "mean",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        noise_matrix: Any = None,
    ) -> None:
        super().__init__()
        REDUCTION.check("reduction", reduction)
        LABEL_SMOOTHING.check("label_smoothing", label_smoothing)
        IGNORED.check("ignore_index", ignore_index)
        if not (weight is None or noise_matrix is None):
            raise ValueError(
                "weight must be None if noise_matrix is given: factors by observed class would "
                f"bias the correction; got {weight!r}. Drop one of the two."
            )
        correction = None if noise_matrix is None else _correction(noise_matrix)
        self.register_buffer("weight", None if weight is None else _class_weight(weight))
        self.register_buffer("correction", correction, persistent=False)
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def proba(self, margins: Tensor) -> Tensor:
        """Compute the probabilities (..., K) that the loss trains: here the softmax."""
        return torch.softmax(as_margins(margins), dim=-1)

    def _scores(self, margins: Tensor, kept: Tensor | None) -> Tensor:
        """Return scores (..., K); batch statistics are of the rows ``kept``, None for all."""
        return torch.log_softmax(margins, dim=-1)

    def _loss_of_labels(self, margins: Tensor, labels: Tensor, kept: Tensor | None) -> Tensor:
        """Return the loss (...) of labels."""
        scores = self._scores(margins, kept).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        check_numbers(scores if kept is None else torch.where(kept, scores, 0.0))
        return self._loss(scores)

    def _loss(self, scores: Tensor) -> Tensor:
        """Return the loss of every score."""
        raise NotImplementedError

    def forward(
        self, margins: Tensor, target: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        margins : Tensor of shape (..., K)
            Raw outputs of a network, a class a column: the classes are last, whatever is before
            them. Half precision is computed in float32.
        target : Tensor of shape (...) or (..., K)
            Integers of any size: labels 0 to K - 1, or ``ignore_index``. Floating point:
            distributions, whose loss is the mean over them.
        sample_weight : Tensor of shape (...), default=None
            Factor on every row, non-negative.

        Returns
        -------
        Tensor
            A number, or of shape (...) if ``reduction="none"``.

        Raises
        ------
        TypeError, ValueError
            If margins are not floating point or not numbers, targets are out of range or of
            another shape, or tensors are on different devices.
        """
        target = self._checked(margins, target, sample_weight)
        reduced = self._reduced_at_once(margins, target) if sample_weight is None else None
        if reduced is not None:
            return reduced
        return self._reduced(*self._weighted_rows(margins, target, sample_weight))

    def weighted_rows(
        self, margins: Tensor, target: Tensor, sample_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Compute what `forward` adds up.

        Parameters
        ----------
        margins, target, sample_weight
            As in `forward`.

        Returns
        -------
        loss : Tensor of shape (...)
            Of every row, times its weight.
        weight : Tensor of shape (...) or None
            True for 1 and False for 0, if there are no others. None: all are 1.
        """
        target = self._checked(margins, target, sample_weight)
        return self._weighted_rows(margins, target, sample_weight)

    def _checked(self, margins: Any, target: Any, sample_weight: Any) -> Tensor:
        """Return the target, labels in 64 bits; raise TypeError or ValueError for what is amiss."""
        check_margins(margins)
        labeled = _check_target(target, margins)
        self._check_factors(margins, sample_weight)
        if self.correction is not None and not labeled:
            raise ValueError(
                "target must be labels if noise_matrix is given, integers; got distributions, of "
                "which it says nothing. Drop one of the two."
            )
        # In fewer bits K and the ignored label may be other numbers.
        return target.long() if labeled else target

    def _is_of_labels(self, target: Tensor) -> bool:
        """Tell whether the loss of a row is that of one label."""
        labeled = not target.is_floating_point()
        return labeled and self.label_smoothing == 0.0 and self.correction is None

    def _reduced_at_once(self, margins: Tensor, target: Tensor) -> Tensor | None:
        """Return the loss, None where that takes what `weighted_rows` has."""
        return None

    def _weighted_rows(
        self, margins: Tensor, target: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return `weighted_rows` of what is checked."""
        if self._is_of_labels(target):
            loss, weight = self._of_labels(margins, target)
        else:
            loss, weight = self._of_distributions(margins, target)
        if sample_weight is None:
            return loss, weight
        _check_weight(sample_weight, loss)
        factor = sample_weight.to(loss.dtype)
        return loss * factor, factor if weight is None else weight * factor

    def _check_factors(self, margins: Tensor, sample_weight: Tensor | None) -> None:
        """Raise TypeError or ValueError unless all are on one device, and of as many classes."""
        _check_device("sample_weight", sample_weight, margins)
        for name, factors in (("weight", self.weight), ("noise_matrix", self.correction)):
            _check_device(name, factors, margins)
            if factors is not None and len(factors) != margins.shape[-1]:
                what = "numbers" if name == "weight" else "rows"
                raise ValueError(
                    f"{name} must have {margins.shape[-1]} {what}, one for each class; got "
                    f"{len(factors)}."
                )

    def _of_labels(self, margins: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the weighted loss of every row, and its weight, None for ones."""
        margins = in_single(margins)
        kept = self._kept(labels, margins.shape[-1])
        labels = labels if kept is None else torch.where(kept, labels, 0)
        loss = self._loss_of_labels(margins, labels, kept)
        if kept is not None:  # an ignored row may have any margins, and its loss any value but NaN
            loss = torch.where(kept, loss, 0.0)
        return self._weighted(loss, labels, kept)

    def _weighted(
        self, loss: Tensor, labels: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss of labels, 0 unless kept, by weight of class, and the weights."""
        if self.weight is None:
            return loss, kept
        weight = _rows_of(self.weight, labels, loss.dtype)
        return loss * weight, weight if kept is None else weight * kept

    def _kept(self, labels: Tensor, n_classes: int) -> Tensor | None:
        """Return which rows are not ignored, None if all are known to be classes."""
        values = values_of(labels)
        if values is not None and values.numel():
            # One look at the least and the largest: mini-batches are small, and every operation
            # on them shows.
            least, largest = torch.stack(values.aminmax()).tolist()
            if least >= 0 and largest < n_classes and not 0 <= self.ignore_index < n_classes:
                return None
            _check_labels(values, n_classes, self.ignore_index)
        return labels != self.ignore_index

    def _of_distributions(self, margins: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same of targets with a factor on the loss of every class."""
        margins = in_single(margins)
        n_classes, kept = margins.shape[-1], None
        if not target.is_floating_point():
            kept = self._kept(target, n_classes)
            target = self._factors_of(target, kept, n_classes)
        target = target.to(margins.dtype)
        smoothing = self.label_smoothing
        if smoothing > 0.0:
            spread = target.sum(dim=-1, keepdim=True) / n_classes
            target = (1.0 - smoothing) * target + smoothing * spread
        if self.weight is not None:
            target = target * self.weight.to(margins.dtype)
        # A score of -inf where the target is 0 costs nothing, and has no gradient.
        scores = torch.where(target != 0.0, self._scores(margins, kept), 0.0)
        loss = torch.sum(target * self._loss(scores), dim=-1)
        check_numbers(loss)
        return loss, target.sum(dim=-1)

    def _factors_of(self, labels: Tensor, kept: Tensor | None, n_classes: int) -> Tensor:
        """Return onehot(y) (..., K), or of noisy labels its correction; 0 where they are ignored.

        Not by `one_hot`, which looks at the labels: `torch.func.vmap` has none to show.
        """
        if self.correction is None:
            factors = labels.unsqueeze(-1) == torch.arange(n_classes, device=labels.device)
        else:
            known = labels if kept is None else torch.where(kept, labels, 0)
            factors = _rows_of(self.correction, known, self.correction.dtype)
        return factors if kept is None else factors * kept.unsqueeze(-1)

    def _reduced(self, loss: Tensor, weight: Tensor | None) -> Tensor:
        if self.reduction == "none":
            return loss
        if self.reduction == "sum":
            return loss.sum()
        if weight is None:
            return loss.mean()  # of no rows there are weights
        total = weight.sum()
        # `torch.where` and 1 would be an operation more, and a number to send to a GPU.
        return loss.sum() / (total + (total == 0))


class _LossOfQ(MarginLoss):
    """A loss with a parameter q."""

    def __init__(self, q: float = 0.7, **options: Any) -> None:
        super().__init__(**options)
        self.q = as_parameter(q)

    def extra_repr(self) -> str:
        """Return the parameters to print."""
        return f"q={self.q}"


class MGCELoss(_LossOfQ):
    r"""Minimax generalized cross-entropy, convex in the margins.

    .. math:: \psi(m) - m_y, \qquad
              \sum_k \bigl(1 + q (m_k - \psi(m))\bigr)_+^{1/q} = 1 .

    It runs from cross-entropy (q = 0) to a convex form of the mean absolute error (q = 1), and is
    non-negative, classification-calibrated, and 0 only where the rule gives the label all
    probability, which for q > 0 happens at finite margins. Its gradient is
    :math:`p^* - \text{onehot}(y)` with the worst-case distribution p* of `mgce_worst_case`.

    Parameters
    ----------
    q : float, default=0.7
        Loss parameter in [0, 1]. Larger values resist wrong labels more.
    weight : Tensor of shape (K,), default=None
        Factor of each class on the loss of its rows, non-negative.
    reduction : {"mean", "sum", "none"}, default="mean"
        "mean" divides by the sum of the weights of the rows, whether they have labels or
        distributions. Over no rows it is 0.
    ignore_index : int, default=-100
        Label of rows that count for nothing.
    label_smoothing : float, default=0
        Share in [0, 1] of every label's probability that is spread evenly over all classes.
    noise_matrix : array-like or Tensor of shape (K, K), default=None
        Probabilities of observed labels, a row for each true class, if labels are wrong that often.
        The loss is then the correction of the notes. Not beside ``weight``, and not for
        distributions.

    Raises
    ------
    TypeError, ValueError
        For a parameter that cannot be used.

    Notes
    -----
    ``loss.proba(margins)`` is the rule h of `mgce_proba`, not the softmax. Twice differentiable
    where no class is at the edge of the support, backward and forward: `torch.func.grad`,
    `jacrev`, `jacfwd`, `hessian` and `vmap` go through it. On a CPU the root is found by the
    kernels of the linear model, on a GPU with Triton by programs that read the margins once, and
    on other devices by Newton's method on whole tensors. On a GPU with Triton the host waits for
    nothing if targets are labels without noise: the loss is NaN, not an error, where margins are no
    numbers or labels no classes.

    With a ``noise_matrix`` T the loss of an observed label is
    :math:`\psi(m) - (T^{-1} m)_{\tilde y}`, still convex in the margins. Its mean over the noise
    is the loss of the true label. It may be below 0, and has no least value where that row of
    :math:`T^{-1}` has a negative entry: networks that can fit every row need a penalty, or few
    epochs.

    References
    ----------
    .. [1] "Minimax Generalized Cross-Entropy", 2026.

    Examples
    --------
    >>> import torch
    >>> from mgce_sklearn.torch import MGCELoss
    >>> margins = torch.tensor([[1.0, 0.5, -1.0]], requires_grad=True)
    >>> MGCELoss(q=1.0)(margins, torch.tensor([0])).backward()
    >>> margins.grad
    tensor([[-0.5000,  0.5000,  0.0000]])
    """

    def proba(self, margins: Tensor) -> Tensor:
        """Compute the minimax rule h (..., K), see `mgce_proba`."""
        return mgce_proba(margins, self.q)

    def _scores(self, margins: Tensor, kept: Tensor | None) -> Tensor:
        return margins - mgce_threshold(margins, self.q).unsqueeze(-1)

    def _reduced_at_once(self, margins: Tensor, target: Tensor) -> Tensor | None:
        if self.reduction == "none" or self.weight is not None or not self._is_of_labels(target):
            return None
        return loss_by_programs(margins, target, self.q, self.ignore_index, self.reduction)

    def _of_labels(self, margins: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        loss = loss_by_programs(margins, labels, self.q, self.ignore_index)
        if loss is None:
            return super()._of_labels(margins, labels)
        known = labels if self.weight is None else labels.clamp(0, margins.shape[-1] - 1)
        return self._weighted(loss, known, labels != self.ignore_index)

    def _loss_of_labels(self, margins: Tensor, labels: Tensor, kept: Tensor | None) -> Tensor:
        return loss_of_labels(margins, labels, self.q)

    def _loss(self, scores: Tensor) -> Tensor:
        return -scores


class GCELoss(_LossOfQ):
    r"""Generalized cross-entropy of the softmax, not convex in the margins.

    .. math:: (1 - p_y^q) / q, \qquad p = \operatorname{softmax}(m),

    cross-entropy at q = 0, and the mean absolute error (up to a factor 2) at q = 1.

    Parameters
    ----------
    q : float, default=0.7
        Loss parameter in [0, 1].
    weight, reduction, ignore_index, label_smoothing, noise_matrix
        As in `MGCELoss`.

    References
    ----------
    .. [1] Z. Zhang and M. Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural
       Networks with Noisy Labels", NeurIPS 2018, equation (6).

    Examples
    --------
    >>> import torch
    >>> from mgce_sklearn.torch import GCELoss
    >>> GCELoss(q=1.0)(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
    tensor(0.7500)
    """

    def _loss(self, scores: Tensor) -> Tensor:
        return -scores if self.q == 0.0 else -torch.expm1(self.q * scores) / self.q


class GenerativeCrossEntropyLoss(MarginLoss):
    r"""Generative cross-entropy: minus the logarithm of p(x | y), up to that of p(x).

    .. math:: -\log p_i(y_i) + \log \tfrac{1}{B} \sum_j p_j(y_i), \qquad
              p_i = \operatorname{softmax}(m_i),

    with the sum over the rows j of the batch, all leading dimensions together, that are not
    ignored: their mean stands for the frequency of the class, as Bayes' rule has it. Rare classes
    thus cost no more than frequent ones.

    Parameters
    ----------
    weight, reduction, ignore_index, label_smoothing, noise_matrix
        As in `MGCELoss`. Weights do not enter the mean over the batch.

    References
    ----------
    .. [1] "Generative Cross-Entropy", arXiv 2604.06689.

    Examples
    --------
    >>> import torch
    >>> from mgce_sklearn.torch import GenerativeCrossEntropyLoss
    >>> margins = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    >>> GenerativeCrossEntropyLoss()(margins, torch.tensor([0, 1]))  # at least -log K
    tensor(-0.6446)
    """

    def _scores(self, margins: Tensor, kept: Tensor | None) -> Tensor:
        log_proba = torch.log_softmax(margins, dim=-1)
        # Of a class impossible in every row the mean's logarithm would have NaN for a gradient.
        rows = log_proba.clamp(min=torch.finfo(log_proba.dtype).min)
        rows = rows.reshape(-1, log_proba.shape[-1])
        if kept is None:
            count: Any = len(rows)
        else:
            rows = torch.where(kept.reshape(-1, 1), rows, -torch.inf)
            count = kept.sum()
        count = torch.as_tensor(count, dtype=rows.dtype, device=rows.device)
        return log_proba - (torch.logsumexp(rows, dim=0) - torch.log(count))

    def _loss(self, scores: Tensor) -> Tensor:
        return -scores


class FocalLoss(MarginLoss):
    r"""Focal loss: cross-entropy with the well-classified rows weighted down.

    .. math:: -(1 - p_y)^\gamma \log p_y, \qquad p = \operatorname{softmax}(m).

    Parameters
    ----------
    gamma : float, default=2
        Focusing parameter, at least 0, where it is cross-entropy.
    weight, reduction, ignore_index, label_smoothing, noise_matrix
        As in `MGCELoss`.

    References
    ----------
    .. [1] T.-Y. Lin, P. Goyal, R. Girshick, K. He and P. Dollar, "Focal Loss for Dense Object
       Detection", ICCV 2017, equation (4).

    Examples
    --------
    >>> import torch
    >>> from mgce_sklearn.torch import FocalLoss
    >>> FocalLoss(gamma=1.0)(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
    tensor(0.3466)
    """

    def __init__(self, gamma: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        FOCUSING.check("gamma", gamma)
        self.gamma = float(gamma)

    def _loss(self, scores: Tensor) -> Tensor:
        # Away from p = 1, where the power has no bound on its slope for gamma < 1.
        rest = (-torch.expm1(scores)).clamp(min=torch.finfo(scores.dtype).tiny)
        return -(rest**self.gamma) * scores

    def extra_repr(self) -> str:
        """Return the parameters to print."""
        return f"gamma={self.gamma}"


def _class_weight(weight: Any) -> Tensor:
    """Return factors as a tensor (K,)."""
    try:
        factors = torch.as_tensor(weight)
        values = torch.func.debug_unwrap(factors)
        valid = factors.dim() == 1 and bool((values >= 0.0).all() & values.isfinite().all())
    except (TypeError, ValueError, RuntimeError):  # no array of numbers
        valid = False
    if not valid:
        raise ValueError(
            f"weight must have a non-negative, finite number for each class; got {weight!r}."
        )
    return factors


def _correction(noise_matrix: Any) -> Tensor:
    """Return the inverse of a noise matrix (K, K), in the precision of a tensor."""
    shape = tuple(np.shape(noise_matrix))
    if len(shape) != 2:
        raise ValueError(
            "noise_matrix must be of shape (n_classes, n_classes); got shape "
            f"{shape}. Of a rate label_noise.symmetric_transition makes one."
        )
    matrix = check_noise_matrix(on_host(noise_matrix), shape[0])
    inverse = torch.as_tensor(check_invertible(matrix))
    if not isinstance(noise_matrix, Tensor):
        return inverse
    return inverse.to(noise_matrix.device, torch.promote_types(noise_matrix.dtype, torch.float32))


def _rows_of(table: Tensor, labels: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a table's number (...), or row (..., K), for every label (...).

    For `torch.func.vmap` no label may be an index by itself.
    """
    rows = table.to(dtype).index_select(0, labels.flatten())
    return rows.view(labels.shape + table.shape[1:])


def _check_device(name: str, other: Tensor | None, margins: Tensor) -> None:
    if other is None:
        return
    if not isinstance(other, Tensor):
        raise TypeError(
            f"{name} must be a tensor; got {type(other).__name__}. Try torch.as_tensor({name})."
        )
    if other.device != margins.device:
        raise ValueError(
            f"{name} must be on the device of the margins, {margins.device}; got "
            f"{other.device}. Try .to(margins.device)."
        )


def _check_labels(labels: Tensor, n_classes: int, ignore_index: int) -> None:
    valid = ((labels >= 0) & (labels < n_classes)) | (labels == ignore_index)
    if not bool(valid.all()):
        raise ValueError(
            f"target must be labels 0 to {n_classes - 1}, or ignore_index={ignore_index}; got "
            f"{labels[~valid][0].item()}. Try sklearn.preprocessing.LabelEncoder."
        )


def _check_target(target: Any, margins: Tensor) -> bool:
    """Tell whether a target has labels, if it fits the margins."""
    if not isinstance(target, Tensor) or target.is_complex():
        kind = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(
            "target must be a tensor of integers, the labels, or of floating-point numbers, "
            f"distributions; got {kind}. Try torch.as_tensor(target)."
        )
    _check_device("target", target, margins)
    labeled = not target.is_floating_point()
    expected = margins.shape[:-1] if labeled else margins.shape
    if target.shape != expected:
        what = "integers" if labeled else "floating point"
        raise ValueError(
            f"target must have shape {tuple(expected)} if it is of {what}, for margins of shape "
            f"{tuple(margins.shape)}; got {tuple(target.shape)}. The classes are the last "
            "dimension of the margins; labels are integers, distributions floating point."
        )
    if not (labeled or _all_non_negative(target)):
        raise ValueError(
            "target must be distributions, non-negative numbers; got a negative one or NaN."
        )
    return labeled


def _check_weight(sample_weight: Tensor, loss: Tensor) -> None:
    if sample_weight.shape != loss.shape:
        raise ValueError(
            f"sample_weight must have shape {tuple(loss.shape)}, a number for each row; got "
            f"{tuple(sample_weight.shape)}."
        )
    if not _all_non_negative(sample_weight):
        raise ValueError("sample_weight must be non-negative; got a negative number or NaN.")


def _all_non_negative(numbers: Tensor) -> bool:
    """Tell whether no number is known to be negative or NaN."""
    values = values_of(numbers)
    return values is None or bool((values >= 0.0).all())
