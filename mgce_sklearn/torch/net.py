r"""MGCENetClassifier: networks whose outputs are margins, as a scikit-learn estimator.

The training loop is skorch's, so its parameters and callbacks keep their names (`loop`). The
estimator adds what scikit-learn expects: labels of any dtype, sample weights, labels that are
distributions, probabilities, and a fit that leaves the estimator as it was if it fails.
"""

from __future__ import annotations

from contextlib import nullcontext
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from skorch.dataset import Dataset
from torch import Tensor

from mgce_sklearn import constraints, validation
from mgce_sklearn.arrays import decision_values, on_host
from mgce_sklearn.constraints import Constraint
from mgce_sklearn.problem import class_factors
from mgce_sklearn.tensors.link import mgce_worst_case
from mgce_sklearn.torch.batches import batches
from mgce_sklearn.torch.loop import TrainingLoop
from mgce_sklearn.torch.losses import MGCELoss
from mgce_sklearn.torch.modules import check_device, check_output
from mgce_sklearn.torch.rows import NO_ROWS, check_features, check_rows, with_weights

Array = np.ndarray[Any, Any]

PARAMETERS = {
    "q": constraints.LOSS_PARAMETER,
    "noise_matrix": constraints.NOISE_MATRIX,
    "track_minimax_risk": constraints.SWITCH,
    "lam": Constraint(
        (Real,), lambda value: 0 <= value < np.inf, "a non-negative, finite number (try 1e-4)"
    ),
    "penalized": Constraint(
        (str, list, tuple),
        lambda value: all(isinstance(each, str) for each in value),
        "a pattern of names, such as '*weight', or a list of them",
    ),
    "gradient_clip": Constraint(
        (Real, type(None)),
        lambda value: value is None or 0 < value < np.inf,
        "a positive, finite norm (try 1.0), or None",
    ),
    "amp": Constraint(
        (str, type(None)),
        lambda value: value in (None, "bfloat16", "float16"),
        "'bfloat16', 'float16' or None",
    ),
    "validation_fraction": Constraint(
        (Real, type(None)),
        lambda value: value is None or 0 < value < 1,
        "a fraction in (0, 1) (try 0.1), or None",
    ),
    "lr": Constraint(
        (Real,), lambda value: 0 < value < np.inf, "a positive, finite number (try 1e-3)"
    ),
    "max_epochs": Constraint((Integral,), lambda value: value >= 1, "a positive integer"),
    "batch_size": Constraint(
        (Integral,), lambda value: value >= 1 or value == -1, "a positive integer, or -1 for all"
    ),
}

NO_LABELS = (
    "This %(name)s has no class labels yet. Call fit. To load saved parameters, set classes, "
    "then call initialize and load_params."
)


def _trained_by_mgce(net: MGCENetClassifier) -> bool:
    criterion = net.criterion if isinstance(net.criterion, type) else type(net.criterion)
    if not issubclass(criterion, MGCELoss):
        raise AttributeError(
            "Only MGCELoss has a worst-case distribution; got "
            f"criterion={criterion.__name__}. Try predict_proba."
        )
    return True


class MGCENetClassifier(ClassifierMixin, TrainingLoop):
    r"""Neural network trained by minimax generalized cross-entropy, or by another margin loss.

    .. math::

        \min_\theta \; \operatorname{mean}_i \psi(m_i) - m_{i, y_i} + \lambda \|\theta\|_1,
        \qquad \sum_k \bigl(1 + q (m_k - \psi(m))\bigr)_+^{1/q} = 1,

    where margins m (n, n_classes) are the outputs of any `torch.nn.Module` with parameters θ. The
    training loop is skorch's [2]_. Callbacks, parameters with prefixes (``module__``,
    ``optimizer__``, ``iterator_train__``, ``criterion__``, ``callbacks__``, ``compile__``), and
    parameters of `skorch.NeuralNet` that are not listed here work as in skorch.

    Parameters
    ----------
    module : class, function or instance
        The module, or a class or function that makes it. It maps features (n, d) to margins
        (n, n_classes), without a softmax. Arguments named ``n_features`` and ``n_classes`` are
        filled in, unless they are set as ``module__n_features`` and ``module__n_classes``: the
        first from X, which must then be an array or a tensor, and the second from y or
        ``classes``. Sizes of lazy layers are filled in, too. If ``module`` is an instance, every
        fit trains a copy of it, starting from its weights.
    q : float, default=0.7
        Loss parameter in [0, 1]. It is passed to the criterion if the criterion has one. Larger
        values resist wrong labels more.
    lam : float, default=0
        Factor of the L1 penalty, at least 0, in the inverse unit of the parameters.
    criterion : class, default=MGCELoss
        A subclass of `MarginLoss`. Its ``proba`` makes the probabilities.
    penalized : str or list of str, default: ``"*weight"``
        Which parameters of the module ``lam`` penalizes: patterns of their names, as for file
        names. "*" is all of them. Parameters that are not trained are not penalized.
    class_weight : dict, "balanced" or None, default=None
        Factor of each class on the loss of its rows. "balanced": inverse to class frequencies.
    classes : array-like of shape (n_classes,) or None, default=None
        All labels that can occur, sorted, as in ``classes_``. None: the labels in y. A net that
        loads its parameters and is never fitted needs them, see the notes.
    noise_matrix : float, array-like of shape (n_classes, n_classes) or None, default=None
        How often labels are wrong, if that is known. A number is the rate of symmetric noise:
        a label is wrong that often, and all other classes are equally likely. A matrix has the
        probabilities of observed labels, a row for each true class. The loss is corrected for the
        noise, see the notes. It cannot be combined with ``class_weight``.
    track_minimax_risk : bool, default=False
        Whether the history records ``minimax_risk`` after every epoch. This takes another pass over
        the rows. See ``minimax_risk_``.
    gradient_clip : float or None, default=None
        Largest Euclidean norm of the gradient of all parameters together, before the step.
    amp : {"bfloat16", "float16"} or None, default=None
        Type of numbers for mixed precision. Module and loss run under `torch.autocast`, and on a
        GPU "float16" also scales gradients. Parameters keep their type.
    validation_fraction : float or None, default=None
        Share of the rows, in (0, 1), that is held out, stratified by class. Held-out rows give
        ``valid_loss`` and ``valid_acc`` in the history, for callbacks such as `EarlyStopping`.
        None: all rows are learned from, unless skorch's ``train_split`` is given.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights (except those of an instance), the split, the order of rows and
        dropout. With a seed, the global generators of PyTorch for the CPU and CUDA stay as they
        were; those of other devices are used. None: the global generators are used.
    optimizer : class, default=torch.optim.Adam
        Optimizer of `torch.optim`, or a class with the same interface.
    lr : float, default=1e-3
        Learning rate.
    max_epochs : int, default=20
        Number of passes over the rows in `fit`.
    batch_size : int, default=128
        Number of rows in a step; -1 for all.
    iterator_train, iterator_valid : callable
        What makes batches from a data set, such as `torch.utils.data.DataLoader`. The default
        slices arrays and tensors. For other data sets, and if an option such as
        ``iterator_train__num_workers`` is set, it makes a `DataLoader`. Rows to learn from are
        shuffled unless ``iterator_train__shuffle=False``.
    dataset : class, default=skorch.dataset.Dataset
        What X and y become before they are cut into batches.
    train_split : callable or None, default=None
        skorch's own way to hold rows out, such as `skorch.dataset.ValidSplit`.
    callbacks : list of skorch callbacks, "disable" or None, default=None
        Early stopping, checkpoints, schedules of the learning rate, a progress bar, and so on.
    warm_start : bool, default=False
        Whether `fit` continues from the parameters and the optimizer of the last fit.
    verbose : int, default=0
        Whether to print a line for every epoch.
    device : str, torch.device or None, default="cpu"
        Where to compute. Arrays are sent there batch by batch.
    compile : bool, default=False
        Whether to compile module and loss by `torch.compile`.
    **kwargs
        Parameters with prefixes, and other parameters of `skorch.NeuralNet`. Of these,
        ``predict_nonlinearity`` is ignored.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, in the order of the columns of margins.
    class_weight_ : ndarray of shape (n_classes,)
        Factor of each class on the loss of its rows.
    minimax_risk_ : float
        The objective at the end of `fit`, in evaluation mode, over the rows learned from. See the
        notes for what it bounds. Present only for `MGCELoss` without a ``noise_matrix``, and not
        after `partial_fit`.
    module_, criterion_, optimizer_, history_
        As in skorch.
    n_features_in_ : int
        Number of features, ``X.shape[1]``, if X was an array or a tensor.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had string column names.

    Notes
    -----
    *What* ``minimax_risk_`` *bounds.* Regard phi(x), the inputs of the last linear layer after
    training, as fixed features. Consider all distributions of (x, y) with these two properties:
    x is distributed as in the rows learned from, and the means of onehot(y) ⊗ phi(x) are within
    ``lam`` of the sample means where the last layer is penalized, and equal to them where it is
    not, for example at its bias. Under each of them, ``minimax_risk_`` is at least the expected
    loss (1 - h_y^q) / q, and so at least the error of labels drawn from `predict_proba`. Means are
    weighted as the rows are. The bound holds whether or not training converged, and the penalty of
    other layers only adds to it. It is no bound for new data: phi was learned from the same rows,
    and labels are taken as they are, wrong ones included. With a ``noise_matrix`` it is not
    reported: it may be that no labels of these rows have the corrected means, and then the bound
    would be vacuous.

    *Labels that are distributions*, such as the shares of annotators' votes, are equivalent to K
    copies of their row, one for each class, whose weights are the probabilities. So
    ``class_weight`` is a factor on the copies, "balanced" counts probabilities, and
    ``minimax_risk_`` regards labels as drawn from the distributions. ``validation_fraction``
    stratifies by the most probable class.

    *Known noise.* With a ``noise_matrix`` T, the loss of an observed label is the sum over classes
    k of :math:`(T^{-1})_{\tilde y k}` times the loss of k, whatever the criterion. For fixed
    parameters its mean over the noise is the loss of the true labels. So `predict` and
    `predict_proba` are about true labels, while `score` and ``valid_acc`` compare with the labels
    as given. The corrected loss may become negative on the rows learned from. If the criterion has
    no upper bound, it can fall without limit: a network that can fit every row needs a penalty,
    early stopping by ``valid_loss``, or few epochs. Predictions do not always gain: for symmetric
    noise, few epochs without the matrix may do better.

    *The penalty* is applied after every step of the optimizer by its proximal operator, the soft
    threshold at lr × ``lam`` / (1 - momentum), with the settings of the parameter's group. So zeros
    are exact. With `torch.optim.SGD` without momentum this is proximal gradient descent on the
    objective above; with momentum its fixed points are the same. Adam and similar optimizers divide
    gradients by a scale of their own, which the threshold does not use: their result is sparse, but
    it does not minimize the objective.

    *Types.* Arrays, frames and lists must hold finite numbers. Every batch of them, and of
    floating-point tensors, is converted to the type of the module's parameters. Tensors of integers
    stay integers, as embeddings need them. Mappings and data sets are passed to skorch as they are.

    *Saving.* `pickle` and `joblib` work for modules that Python can import. ``save_params`` saves
    the parameters alone, as in skorch. To load them, make a net with what is not in the file,
    ``MGCENetClassifier(module, classes=classes, module__n_features=n_features)``, then call
    ``initialize()`` and ``load_params``. Without ``classes`` it predicts probabilities, but no
    labels.

    References
    ----------
    .. [1] "Minimax Generalized Cross-Entropy", 2026.
    .. [2] M. Tietz, T. J. Fan, D. Nouri, B. Bossan and skorch developers, "skorch: A scikit-learn
       compatible neural network library that wraps PyTorch", 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from torch import nn
    >>> from mgce_sklearn.torch import MGCENetClassifier
    >>> def network(n_features, n_classes, hidden=32):
    ...     return nn.Sequential(
    ...         nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, n_classes)
    ...     )
    >>> X, y = load_iris(return_X_y=True)
    >>> net = MGCENetClassifier(network, q=0.7, lr=0.01, batch_size=16, random_state=0).fit(X, y)
    >>> print(f"{net.score(X, y):.2f}")
    0.96
    """

    def __init__(
        self,
        module: Any,
        q: float = 0.7,
        lam: float = 0.0,
        *,
        criterion: Any = MGCELoss,
        penalized: Any = "*weight",
        class_weight: Any = None,
        classes: Any = None,
        noise_matrix: Any = None,
        track_minimax_risk: bool = False,
        gradient_clip: float | None = None,
        amp: str | None = None,
        validation_fraction: float | None = None,
        random_state: Any = None,
        optimizer: Any = torch.optim.Adam,
        lr: float = 1e-3,
        max_epochs: int = 20,
        batch_size: int = 128,
        iterator_train: Any = batches,
        iterator_valid: Any = batches,
        dataset: Any = Dataset,
        train_split: Any = None,
        callbacks: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        device: Any = "cpu",
        compile: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            dataset=dataset,
            train_split=train_split,
            callbacks=callbacks,
            warm_start=warm_start,
            verbose=verbose,
            device=device,
            compile=compile,
            **kwargs,
        )
        self.q = q
        self.lam = lam
        self.penalized = penalized
        self.class_weight = class_weight
        self.classes = classes
        self.noise_matrix = noise_matrix
        self.track_minimax_risk = track_minimax_risk
        self.gradient_clip = gradient_clip
        self.amp = amp
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    # Learning

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MGCENetClassifier:
        """Train the network.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset
            Finite numbers. A mapping holds an array for each argument of the module's ``forward``,
            by name.
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels of any dtype, at least two different ones. Or distributions: non-negative numbers
            that sum to 1 in every row. The columns of a frame are named by their classes. Those of
            an array are ``classes`` in sorted order, or 0 to n_classes - 1. y may be None if X is
            a Dataset whose attribute ``targets`` or ``y`` has the labels of its rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative. Rows of weight 0 are left out. The loss of a batch is the weighted mean
            over its rows.

        Returns
        -------
        MGCENetClassifier
            The trained classifier.

        Raises
        ------
        TypeError, ValueError
            If a parameter, the module or the data cannot be used, or if the loss does not stay
            finite. The estimator stays as it was.
        """
        self._check_parameters()
        with validation.unchanged_on_error(self), self._own_randomness():
            return self._fit(X, y, sample_weight)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> MGCENetClassifier:
        fresh = not (self.warm_start and self.initialized_)
        known = self._known_classes(fresh)
        X, y, sample_weight, classes = check_rows(self, X, y, sample_weight, known, fresh)
        self.classes_ = np.unique(y) if classes is None else classes
        validation.check_several(self.classes_)
        self._train(X, y, sample_weight, fresh, self.max_epochs)
        learned_from = self.__dict__.pop("learned_from_")
        if self._has_minimax_risk():
            self.minimax_risk_ = self._minimax_risk(learned_from)
        return self

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> MGCENetClassifier:
        """Learn from rows in one pass, starting from the current parameters.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels, all of them among ``classes``. Or distributions: the columns of an array are the
            classes in sorted order; those of a frame are named by classes, and some may be missing.
        classes : array-like of shape (n_classes,), default=None
            All labels that can occur. Needed at the first call if the parameter ``classes`` is
            None. After `fit`, they are those of the fit.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.

        Returns
        -------
        MGCENetClassifier
            The classifier after these rows.

        Raises
        ------
        TypeError, ValueError
            As in `fit`, and if a label is not among the classes. The estimator stays as it was.

        Notes
        -----
        This is one pass, as in scikit-learn, and not ``max_epochs`` passes, as in skorch. With a
        seed, ``max_epochs`` calls on the same rows lead to the same parameters as one `fit`.
        """
        self._check_parameters()
        with validation.unchanged_on_error(self), self._own_randomness():
            return self._partial_fit(X, y, classes, sample_weight)

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> MGCENetClassifier:
        validation.check_weight_of_portions(self.class_weight)
        fresh = not self.initialized_
        known = self._known_classes(fresh)
        self.classes_ = validation.check_classes(classes, known, begun=known is not None)
        X, y, sample_weight, _ = check_rows(self, X, y, sample_weight, self.classes_, fresh)
        self._train(X, y, sample_weight, fresh, 1)
        self.__dict__.pop("learned_from_")
        return self

    def _train(self, X: Any, y: Array, sample_weight: Any, fresh: bool, epochs: int) -> None:
        """Run epochs, from new parameters if ``fresh``, otherwise from the current ones."""
        self.class_weight_ = self._class_factors(y, sample_weight)
        self.__dict__.pop("minimax_risk_", None)
        if fresh:
            self.initialize()
        with nullcontext() if fresh else self._parameters_unchanged_on_error():
            if not fresh:
                self.initialize_criterion()  # q may have changed
            super().partial_fit(with_weights(X, sample_weight), y, epochs=epochs)
            if any(epoch.get("train_batch_count") == 0 for epoch in self.history_[-1:]):
                raise ValueError(
                    f"iterator_train must return at least one batch; got none from {len(y)} rows. "
                    "Try a smaller batch_size, or iterator_train__drop_last=False."
                )

    def _class_factors(self, y: Array, sample_weight: Array | None) -> Array:
        """Return the factor of each class, from the weights of labels or of probabilities."""
        weights = np.ones(len(y)) if sample_weight is None else sample_weight
        if y.ndim == 2:
            return class_factors(self.class_weight, self.classes_, weights @ y)
        codes = validation.check_labels(y, self.classes_)
        totals = np.bincount(codes, weights, len(self.classes_))
        return class_factors(self.class_weight, self.classes_, totals)

    def _known_classes(self, fresh: bool) -> Array | None:
        """Return the classes that are given, or those of the last fit if learning continues."""
        if not fresh:
            return getattr(self, "classes_", None)
        if self.classes is None:
            return None
        classes = validation.check_classes(self.classes, None, begun=False)
        given = np.asarray(on_host(self.classes))
        if not np.array_equal(given, classes):
            raise ValueError(
                f"classes must be sorted and have each label once; got {given.tolist()}. Try "
                f"{classes.tolist()}, if the columns of margins are in that order."
            )
        return classes

    def initialize(self) -> MGCENetClassifier:
        """Make module, criterion, optimizer and callbacks, from the seed if there is one."""
        if self.classes is not None:
            self.classes_ = self._known_classes(fresh=True)
        super().initialize()
        return self

    # Predictions

    def decision_function(self, X: Any) -> Array:
        """Compute margins.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            One margin for each class. For two classes, the second margin minus the first.
        """
        return decision_values(self._margins(X).numpy())

    def predict(self, X: Any) -> Array:
        """Predict the label with the largest margin.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels from ``classes_``.
        """
        check_is_fitted(self, "classes_", msg=NO_LABELS)
        codes = self._margins(X).argmax(dim=1).numpy()
        return self.classes_[codes]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the accuracy on the labels as given, whether or not there is a ``noise_matrix``.

        If labels are distributions, it is the expected accuracy for labels drawn from them.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels; or distributions, with columns as in `partial_fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.

        Returns
        -------
        float
            Weighted share of rows whose label is predicted, or the weighted mean probability of
            the predicted class.
        """
        if not validation.has_columns(y):
            return super().score(X, y, sample_weight=sample_weight)
        predicted = self.predict(X)
        soft, _ = validation.check_soft_labels("y", y, self.classes_)
        check_consistent_length(soft, predicted, sample_weight)
        of_predicted = soft[np.arange(len(soft)), np.searchsorted(self.classes_, predicted)]
        return float(np.average(of_predicted, weights=sample_weight))

    def predict_proba(self, X: Any) -> Array:
        """Compute the probabilities of the criterion: for `MGCELoss` the minimax rule h.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Each row sums to 1. For q > 0 the rule h may have exact zeros.
        """
        margins = self._margins(X)
        return self.criterion_.proba(margins).numpy()

    def predict_log_proba(self, X: Any) -> Array:
        """Compute the logarithm of `predict_proba`.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            -inf where the probability is 0.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    @available_if(_trained_by_mgce)
    def predict_worst_case_proba(self, X: Any) -> Array:
        """Compute the worst-case distribution p*, if the criterion is `MGCELoss`.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Each row sums to 1.
        """
        margins = self._margins(X)
        return mgce_worst_case(margins, self.criterion_.q).numpy()

    def margins_to_proba(self, margins: Any) -> Array:
        """Compute the probabilities that given margins lead to, for example scaled ones.

        Parameters
        ----------
        margins : array-like of shape (n_samples, n_classes) or (n_samples,)
            In the form that `decision_function` returns.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            What `predict_proba` returns for rows with these margins.
        """
        check_is_fitted(self, "classes_", msg=NO_LABELS)
        margins = validation.check_margins(on_host(margins), len(self.classes_))
        return self.criterion_.proba(torch.as_tensor(margins)).numpy()

    def _margins(self, X: Any) -> Tensor:
        """Return margins (n, K) on the CPU."""
        check_is_fitted(self, "module_")
        parts = list(self.forward_iter(check_features(self, X, reset=False)))
        if not parts:
            raise ValueError(NO_ROWS)
        margins = torch.cat(parts).detach()
        if hasattr(self, "classes_"):
            check_output(margins, len(self.classes_))
        return margins

    # Checks

    def _check_parameters(self) -> None:
        constraints.check_all(vars(self), PARAMETERS)
        if not (self.noise_matrix is None or self.class_weight is None):
            raise ValueError(
                "class_weight must be None if noise_matrix is given, because factors by observed "
                f"class would bias the correction; got {self.class_weight!r}. Drop one of the two."
            )
        if self.validation_fraction is not None and self.train_split is not None:
            raise ValueError(
                "validation_fraction must be None if train_split is given; got "
                f"{self.validation_fraction}. Drop one of the two."
            )
        check_device(self.device)
