r"""Losses on raw margins, for training networks: MGCE, and losses to compare it with.

All have one interface (`MarginLoss`): margins (..., K) with a column for each class, targets that
are labels or distributions, class and sample weights, label smoothing, ignored labels, and known
label noise. ``loss.proba(margins)`` computes the probabilities that belong to the loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mgce_sklearn.constraints import FOCUSING, IGNORED, LABEL_SMOOTHING, REDUCTION
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
from mgce_sklearn.torch.checks import (
    check_label_values,
    check_row_weight,
    check_same_device,
    check_target,
    class_weight_tensor,
    noise_correction,
)


class MarginLoss(nn.Module):
    r"""A loss of margins and labels, or of margins and distributions of the label.

    A subclass defines a score of each class from the margins, and the loss of a score.

    Parameters
    ----------
    weight : Tensor of shape (K,), default=None
        Factor of each class on the loss of its rows, non-negative.
    reduction : {"mean", "sum", "none"}, default="mean"
        "mean" is the sum of weighted losses divided by the sum of the weights, for labels and for
        distributions. The mean over no rows is 0.
    ignore_index : int, default=-100
        Rows with this label are left out.
    label_smoothing : float, default=0
        Share in [0, 1] of the probability of every label that is spread evenly over all classes.
    noise_matrix : array-like or Tensor of shape (K, K), default=None
        Probabilities of observed labels, a row for each true class. If it is given, the loss is
        corrected for this noise, see the notes. It cannot be combined with ``weight``, nor with
        targets that are distributions.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be used.

    Notes
    -----
    With a ``noise_matrix`` T, the loss of an observed label is the sum over classes k of
    :math:`(T^{-1})_{\tilde y k}` times the loss of k [1]_. Its mean over the noise is the loss of
    the true label, exactly, for every loss here and with label smoothing. Where labels are often
    wrong, entries of the inverse are negative. The loss of a row may then be below 0. If the
    uncorrected loss is unbounded, as cross-entropy is, the corrected one may have no minimum, and
    networks that can fit every row need a penalty, or few epochs.

    References
    ----------
    .. [1] G. Patrini, A. Rozza, A. Menon, R. Nock and L. Qu, "Making Deep Neural Networks Robust to
       Label Noise: A Loss Correction Approach", CVPR 2017, theorem 1.

    Examples
    --------
    By default the score of a class is the logarithm of its softmax probability:

    >>> import torch
    >>> from mgce_sklearn.torch import MarginLoss
    >>> class MeanAbsoluteError(MarginLoss):
    ...     def _loss(self, scores):
    ...         return 2.0 * (1.0 - torch.exp(scores))
    >>> MeanAbsoluteError()(torch.zeros(2, 4), torch.tensor([0, 1]))
    tensor(1.5000)
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
                "weight must be None if noise_matrix is given, because factors by observed class "
                f"would bias the correction; got {weight!r}. Drop one of the two."
            )
        correction = None if noise_matrix is None else noise_correction(noise_matrix)
        self.register_buffer("weight", None if weight is None else class_weight_tensor(weight))
        self.register_buffer("correction", correction, persistent=False)
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def proba(self, margins: Tensor) -> Tensor:
        """Compute the probabilities (..., K) that belong to the loss: here the softmax."""
        return torch.softmax(as_margins(margins), dim=-1)

    def _scores(self, margins: Tensor, kept: Tensor | None) -> Tensor:
        """Return scores (..., K). Statistics of the batch are over the rows ``kept``, None: all."""
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
            Raw outputs of a network. The last dimension is the classes; any others are rows. Half
            precision is computed in float32.
        target : Tensor of shape (...) or (..., K)
            Integers of any size are labels: 0 to K - 1, or ``ignore_index``. Floating-point numbers
            are distributions; the loss is the expected loss of a label drawn from them.
        sample_weight : Tensor of shape (...), default=None
            Factor on the loss of every row, non-negative.

        Returns
        -------
        Tensor
            Of shape (), or of shape (...) if ``reduction="none"``.

        Raises
        ------
        TypeError, ValueError
            If margins are not floating point or contain NaN, if targets are out of range or have
            another shape, or if tensors are on different devices.
        """
        target = self._checked(margins, target, sample_weight)
        reduced = self._reduced_at_once(margins, target) if sample_weight is None else None
        if reduced is not None:
            return reduced
        return self._reduced(*self._weighted_rows(margins, target, sample_weight))

    def weighted_rows(
        self, margins: Tensor, target: Tensor, sample_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the weighted loss of every row, and its weight, before `forward` sums them.

        Parameters
        ----------
        margins, target, sample_weight
            As in `forward`.

        Returns
        -------
        loss : Tensor of shape (...)
            Loss of every row, times its weight.
        weight : Tensor of shape (...) or None
            The weights. They are booleans if all are 1 or 0, and None if all are 1.
        """
        target = self._checked(margins, target, sample_weight)
        return self._weighted_rows(margins, target, sample_weight)

    def _checked(self, margins: Any, target: Any, sample_weight: Any) -> Tensor:
        """Return the target, labels as 64-bit integers, or raise TypeError or ValueError."""
        check_margins(margins)
        labeled = check_target(target, margins)
        self._check_factors(margins, sample_weight)
        if self.correction is not None and not labeled:
            raise ValueError(
                "target must be labels (integers) if noise_matrix is given, because the matrix is "
                "about labels; got distributions. Drop one of the two."
            )
        # Smaller integers cannot hold every K, nor every ignored label.
        return target.long() if labeled else target

    def _is_of_labels(self, target: Tensor) -> bool:
        """Return whether the loss of a row is the loss of one label."""
        labeled = not target.is_floating_point()
        return labeled and self.label_smoothing == 0.0 and self.correction is None

    def _reduced_at_once(self, margins: Tensor, target: Tensor) -> Tensor | None:
        """Return the reduced loss if a subclass computes it directly, otherwise None."""
        return None

    def _weighted_rows(
        self, margins: Tensor, target: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return what `weighted_rows` returns, of arguments that are checked."""
        if self._is_of_labels(target):
            loss, weight = self._of_labels(margins, target)
        else:
            loss, weight = self._of_distributions(margins, target)
        if sample_weight is None:
            return loss, weight
        check_row_weight(sample_weight, loss)
        factor = sample_weight.to(loss.dtype)
        return loss * factor, factor if weight is None else weight * factor

    def _check_factors(self, margins: Tensor, sample_weight: Tensor | None) -> None:
        """Raise TypeError or ValueError unless all weights fit the margins, on one device."""
        check_same_device("sample_weight", sample_weight, margins)
        for name, factors in (("weight", self.weight), ("noise_matrix", self.correction)):
            check_same_device(name, factors, margins)
            if factors is not None and len(factors) != margins.shape[-1]:
                what = "numbers" if name == "weight" else "rows"
                raise ValueError(
                    f"{name} must have {margins.shape[-1]} {what}, one for each class; got "
                    f"{len(factors)}."
                )

    def _of_labels(self, margins: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return `_weighted_rows` of labels, before sample weights."""
        margins = in_single(margins)
        kept = self._kept(labels, margins.shape[-1])
        labels = labels if kept is None else torch.where(kept, labels, 0)
        loss = self._loss_of_labels(margins, labels, kept)
        if kept is not None:  # an ignored row may have any margins, so any loss
            loss = torch.where(kept, loss, 0.0)
        return self._weighted(loss, labels, kept)

    def _weighted(
        self, loss: Tensor, labels: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss of labels times the weight of the class, and the weights."""
        if self.weight is None:
            return loss, kept
        weight = _entries_of(self.weight, labels, loss.dtype)
        return loss * weight, weight if kept is None else weight * kept

    def _kept(self, labels: Tensor, n_classes: int) -> Tensor | None:
        """Return which rows are not ignored; None if it is known that none is."""
        values = values_of(labels)
        if values is not None and values.numel():
            # First look at the smallest and the largest label alone: mini-batches are small, so
            # every operation takes a share of the time.
            least, largest = torch.stack(values.aminmax()).tolist()
            if least >= 0 and largest < n_classes and not 0 <= self.ignore_index < n_classes:
                return None
            check_label_values(values, n_classes, self.ignore_index)
        return labels != self.ignore_index

    def _of_distributions(self, margins: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return `_weighted_rows` of targets that have a factor for every class."""
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
        # Where the target is 0, a score of -inf must add 0 to the loss and to the gradient.
        scores = torch.where(target != 0.0, self._scores(margins, kept), 0.0)
        loss = torch.sum(target * self._loss(scores), dim=-1)
        check_numbers(loss)
        return loss, target.sum(dim=-1)

    def _factors_of(self, labels: Tensor, kept: Tensor | None, n_classes: int) -> Tensor:
        """Return onehot(y) (..., K), corrected for noise if there is a matrix; 0 if ignored.

        `one_hot` would read the labels, which fails under `torch.func.vmap`.
        """
        if self.correction is None:
            factors = labels.unsqueeze(-1) == torch.arange(n_classes, device=labels.device)
        else:
            known = labels if kept is None else torch.where(kept, labels, 0)
            factors = _entries_of(self.correction, known, self.correction.dtype)
        return factors if kept is None else factors * kept.unsqueeze(-1)

    def _reduced(self, loss: Tensor, weight: Tensor | None) -> Tensor:
        if self.reduction == "none":
            return loss
        if self.reduction == "sum":
            return loss.sum()
        if weight is None:
            return loss.mean()  # there are rows: without any, the weights are not None
        total = weight.sum()
        # This avoids a division by 0. `torch.where` would take another operation, and send a number
        # to the GPU.
        return loss.sum() / (total + (total == 0))


class _LossOfQ(MarginLoss):
    """A margin loss with a parameter q."""

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

    It is cross-entropy for q = 0, and a convex form of the mean absolute error for q = 1. It is
    non-negative and classification-calibrated. It is 0 only where the rule gives probability 1 to
    the label, which happens at finite margins for q > 0. Its gradient is
    :math:`p^* - \text{onehot}(y)`, where p* is the worst-case distribution, `mgce_worst_case`.

    Parameters
    ----------
    q : float, default=0.7
        Loss parameter in [0, 1]. Larger values resist wrong labels more.
    weight : Tensor of shape (K,), default=None
        Factor of each class on the loss of its rows, non-negative.
    reduction : {"mean", "sum", "none"}, default="mean"
        "mean" is the sum of weighted losses divided by the sum of the weights, for labels and for
        distributions. The mean over no rows is 0.
    ignore_index : int, default=-100
        Rows with this label are left out.
    label_smoothing : float, default=0
        Share in [0, 1] of the probability of every label that is spread evenly over all classes.
    noise_matrix : array-like or Tensor of shape (K, K), default=None
        Probabilities of observed labels, a row for each true class. If it is given, the loss is
        corrected for this noise, see the notes. It cannot be combined with ``weight``, nor with
        targets that are distributions.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be used.

    Notes
    -----
    *Probabilities.* ``loss.proba(margins)`` is the rule h of `mgce_proba`, not the softmax.

    *Derivatives.* The loss is twice differentiable where no class is at the edge of the support,
    in reverse and in forward mode: `torch.func.grad`, `jacrev`, `jacfwd`, `hessian` and `vmap`
    work.

    *Devices.* On a CPU psi is found by the kernels of the linear model, on a GPU with Triton by
    programs that read the margins once, and on other devices by Newton's method on whole tensors.
    On a GPU with Triton, if targets are labels and there is no noise matrix, the host does not wait
    for the GPU. Invalid values then raise no error: the loss is NaN if margins contain NaN, or if a
    label is not a class.

    *Noise.* With a ``noise_matrix`` T, the loss of an observed label is
    :math:`\psi(m) - (T^{-1} m)_{\tilde y}`, which is still convex in the margins. Its mean over the
    noise is the loss of the true label. It may be below 0. If that row of :math:`T^{-1}` has a
    negative entry, it has no minimum, and networks that can fit every row need a penalty, or few
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
    r"""Generalized cross-entropy of the softmax. It is not convex in the margins.

    .. math:: (1 - p_y^q) / q, \qquad p = \operatorname{softmax}(m),

    which is cross-entropy for q = 0, and half the mean absolute error for q = 1.

    Parameters
    ----------
    q : float, default=0.7
        Loss parameter in [0, 1].
    weight, reduction, ignore_index, label_smoothing, noise_matrix
        As in `MGCELoss`.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be used.

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
    r"""Generative cross-entropy: -log p(x | y), up to a term that depends on x alone.

    .. math:: -\log p_i(y_i) + \log \tfrac{1}{B} \sum_j p_j(y_i), \qquad
              p_i = \operatorname{softmax}(m_i),

    with the sum over the B rows j of the batch that are not ignored. (All dimensions but the last
    are rows.) The mean over the batch estimates the frequency of the class, by which Bayes' rule
    divides. So rows of rare classes count as much as those of frequent ones.

    Parameters
    ----------
    weight, reduction, ignore_index, label_smoothing, noise_matrix
        As in `MGCELoss`. The mean over the batch is not weighted.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be used.

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
        # If a class had probability 0 in every row, the gradient of the mean's logarithm would be
        # NaN.
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
    r"""Focal loss: cross-entropy with smaller weights for rows that are classified well.

    .. math:: -(1 - p_y)^\gamma \log p_y, \qquad p = \operatorname{softmax}(m).

    Parameters
    ----------
    gamma : float, default=2
        Focusing parameter, at least 0. The loss is cross-entropy for 0.
    weight, reduction, ignore_index, label_smoothing, noise_matrix
        As in `MGCELoss`.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be used.

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
        # 1 - p is kept positive: at 0 the slope of its power is infinite for gamma < 1.
        rest = (-torch.expm1(scores)).clamp(min=torch.finfo(scores.dtype).tiny)
        return -(rest**self.gamma) * scores

    def extra_repr(self) -> str:
        """Return the parameters to print."""
        return f"gamma={self.gamma}"


def _entries_of(table: Tensor, labels: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the entry (...) of a vector, or the row (..., K) of a matrix, for every label (...).

    Indexing by labels directly would fail under `torch.func.vmap`.
    """
    rows = table.to(dtype).index_select(0, labels.flatten())
    return rows.view(labels.shape + table.shape[1:])
