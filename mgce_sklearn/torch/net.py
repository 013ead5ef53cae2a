r"""MGCENetClassifier: networks that produce margins, as a scikit-learn estimator on skorch.

skorch runs the training loop, and its parameters and callbacks keep their names. What is added
here: labels of any dtype, distributions as labels, known noise, weights, the probabilities of the
loss, an L1 penalty that leaves exact zeros, clipping, mixed precision, seeds, and the minimax risk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from fnmatch import fnmatchcase
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch import NeuralNet
from skorch.callbacks import EpochScoring, EpochTimer, PassthroughScoring, PrintLog
from skorch.dataset import Dataset, ValidSplit, get_len, unpack_data
from skorch.history import History
from skorch.utils import data_from_dataset, is_dataset, to_device, to_tensor
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mgce_sklearn import validation
from mgce_sklearn.arrays import on_host
from mgce_sklearn.problem import class_factors
from mgce_sklearn.tensors.link import check_numbers, mgce_worst_case
from mgce_sklearn.torch.batches import batches, take
from mgce_sklearn.torch.losses import MarginLoss, MGCELoss
from mgce_sklearn.validation import Constraint

Array = np.ndarray[Any, Any]

PARAMETERS = {
    "q": validation.LOSS_PARAMETER,
    "noise_matrix": validation.NOISE_MATRIX,
    "track_minimax_risk": validation.SWITCH,
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

# Rows that have weights are given to skorch as a mapping with these two keys.
ROWS, WEIGHTS = "rows of MGCENetClassifier", "weights of MGCENetClassifier"


def _trained_by_mgce(net: MGCENetClassifier) -> bool:
    criterion = net.criterion if isinstance(net.criterion, type) else type(net.criterion)
    if not issubclass(criterion, MGCELoss):
        raise AttributeError(
            "The worst-case distribution is that of MGCELoss; got "
            f"criterion={criterion.__name__}. Try predict_proba."
        )
    return True


class MGCENetClassifier(ClassifierMixin, NeuralNet):
    r"""Network trained by minimax generalized cross-entropy, or another loss of margins.

    .. math::

        \min_\theta \; \operatorname{mean}_i \psi(m_i) - m_{i, y_i} + \lambda \|\theta\|_1,
        \qquad \sum_k \bigl(1 + q (m_k - \psi(m))\bigr)_+^{1/q} = 1,

    where margins m (n, n_classes) are the outputs of any `torch.nn.Module`. The training loop is
    skorch's [2]_, so parameters of `skorch.NeuralNet` that are not listed here, those with
    prefixes (``module__``, ``optimizer__``, ``iterator_train__``, ``criterion__``,
    ``callbacks__``, ``compile__``), and callbacks work as they do there.

    Parameters
    ----------
    module : class, function or instance
        What makes the module, or is it: features (n, d) go in, margins (n, n_classes) come out, no
        softmax. If its arguments include ``n_features`` or ``n_classes`` and they are not set as
        ``module__n_features``, they are taken from X, an array or tensor, and y or ``classes``; so
        are the sizes of lazy layers. Of an instance every fit trains a copy, from the weights that
        it has.
    q : float, default=0.7
        Loss parameter in [0, 1], given to the criterion if it takes one. Larger values resist
        wrong labels more.
    lam : float, default=0
        Factor of the L1 penalty, at least 0, in the inverse unit of the parameters.
    criterion : class, default=MGCELoss
        A `MarginLoss`, whose link also makes the probabilities.
    penalized : str or list of str, default: ``"*weight"``
        Which parameters of the module ``lam`` penalizes: patterns of their names, as in file names.
        ``"*"`` is all of them. Only those that are trained count.
    class_weight : dict, "balanced" or None, default=None
        Factors on the loss by class. "balanced": inverse to class frequencies.
    classes : array-like of shape (n_classes,) or None, default=None
        All labels that can occur, sorted, as in ``classes_``. None: those that `fit` learns from.
        A net that loads its parameters and is never fitted needs them, see the notes.
    noise_matrix : float, array-like of shape (n_classes, n_classes) or None, default=None
        What is known of wrong labels: the rate at which they became any other class alike, or the
        probabilities of observed labels, a row for each true class. The loss is corrected for it,
        see the notes. Not with ``class_weight``.
    track_minimax_risk : bool, default=False
        Whether the history has ``minimax_risk`` of every epoch, at the cost of another pass over
        the rows: see ``minimax_risk_``.
    gradient_clip : float or None, default=None
        Largest Euclidean norm of the gradient of all parameters together, before the step.
    amp : {"bfloat16", "float16"} or None, default=None
        Type of numbers for mixed precision: modules and loss run under `torch.autocast`, and
        "float16" on a GPU with scaled gradients. Parameters keep their type.
    validation_fraction : float or None, default=None
        Share of the rows, in (0, 1) and stratified, that is held out from learning, for
        ``valid_loss`` and ``valid_acc`` in the history and for callbacks such as `EarlyStopping`.
        None: all rows are learned from, unless skorch's ``train_split`` is given.
    random_state : int, RandomState instance or None, default=None
        Decides initial weights (save those of an instance), the split, the order of rows and
        dropout, and leaves PyTorch's global generators as they were, those of the CPU and of CUDA;
        of other devices they are used. None: all of them are used.
    optimizer : class, default=torch.optim.Adam
    lr : float, default=1e-3
        Learning rate.
    max_epochs : int, default=20
        Passes over the rows in `fit`.
    batch_size : int, default=128
        Rows in a step; -1 for all.
    iterator_train, iterator_valid : callable
        What makes batches of a data set, `torch.utils.data.DataLoader` for example. The default
        slices arrays and tensors, and takes a `DataLoader` for other data sets, or if it is given
        its options, such as ``iterator_train__num_workers``. Rows are shuffled in learning unless
        ``iterator_train__shuffle=False``.
    dataset : class, default=skorch.dataset.Dataset
    train_split : callable or None, default=None
        skorch's own way to hold rows out, such as `skorch.dataset.ValidSplit`.
    callbacks : list of skorch callbacks, "disable" or None, default=None
        Early stopping, checkpoints, schedules of the learning rate, a progress bar, and so on.
    warm_start : bool, default=False
        Whether `fit` goes on from the parameters and the optimizer of the last one.
    verbose : int, default=0
        Whether to print a line an epoch.
    device : str, torch.device or None, default="cpu"
        Where to compute. Arrays go there by batches.
    compile : bool, default=False
        Whether to compile module and loss by `torch.compile`.
    **kwargs : dict
        Other parameters of `skorch.NeuralNet`, of which ``predict_nonlinearity`` plays no part, and
        those with prefixes.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, in the order of the columns of margins.
    class_weight_ : ndarray of shape (n_classes,)
        Factors on the loss by class.
    minimax_risk_ : float
        The objective at the end of `fit`, in evaluation mode, over the rows learned from: see the
        notes for what it bounds. Only with `MGCELoss` and without a ``noise_matrix``, and not after
        `partial_fit`.
    module_, criterion_, optimizer_, history_
        As in skorch.
    n_features_in_ : int
        Number of features, ``X.shape[1]``, if X was an array or tensor.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had string column names.

    Notes
    -----
    *What* ``minimax_risk_`` *bounds.* Take phi(x), the inputs of the last linear layer as learned,
    for fixed features. ``minimax_risk_`` is at least the expected loss (1 - h_y^q) / q, hence at
    least the error of labels drawn from `predict_proba`, under every distribution that has the x
    of the rows learned from, and whose means of onehot(y) ⊗ phi(x) lie within ``lam`` of the
    sample's where that layer is penalized, and equal the sample's where it is not, its bias
    for instance. Means are weighted as the rows are. This holds whether or not training
    converged, and the penalty of other layers only adds to it. It says nothing of new data:
    phi was learned from the same rows, and labels are taken as they are, wrong ones included.
    With a ``noise_matrix`` it is not reported: no labels of these rows need have the corrected
    means, and a bound over no distributions bounds nothing.

    *Labels as distributions*, such as the shares of annotators' votes, mean what K copies of their
    row do, each with a class as its label and its probability as weight. So ``class_weight`` is a
    factor on the copies, "balanced" counts probabilities, and ``minimax_risk_`` takes labels as
    drawn from them. ``validation_fraction`` stratifies by the most probable class.

    *Known noise.* With a ``noise_matrix`` T the loss of an observed label is the sum over classes k
    of :math:`(T^{-1})_{\tilde y k}` times the loss of k, whatever the criterion. For fixed
    parameters its mean over the noise is the loss of the true labels, which `predict` and
    `predict_proba` are then about. On the rows learned from it may become negative, without an end
    if the criterion has no upper bound: networks that can fit every row need a penalty, early
    stopping by ``valid_loss``, or few epochs. Predictions need not gain: where noise is symmetric,
    few epochs without the matrix may do better. `score` and ``valid_acc`` are about labels as they
    come.

    *The penalty* is applied after every step of the optimizer by its proximal operator, the soft
    threshold at lr × ``lam`` / (1 - momentum) with the settings of the parameter's group, so that
    zeros are exact. With `torch.optim.SGD` without momentum this is proximal gradient descent on
    the objective above; with momentum its fixed points are the same. Adam and its kin divide
    gradients by their own scale, which the threshold does not follow: what they end at is sparse,
    and no minimizer.

    *Types.* Arrays, frames and lists must hold finite numbers; every batch is turned into the type
    of the module's parameters. So are floating-point tensors; tensors of integers stay integers,
    as embeddings need them. Mappings and data sets are given to skorch as they are.

    *Pickling* works for modules that Python can import, by `pickle` or `joblib`. Parameters alone
    are saved by ``save_params``, as in skorch, and loaded into a net that is told what is not in
    the file: ``MGCENetClassifier(module, classes=classes, module__n_features=n_features)``, then
    ``initialize()`` and ``load_params``. Without ``classes`` it has probabilities and no labels.

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

    # What skorch sets: a subclass of MarginLoss, and one of its instances.
    criterion: Any
    criterion_: Any
    classes_: Any

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
            Finite numbers. A mapping holds arrays by the names of the module's arguments.
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels of any dtype, at least two different ones. Or distributions, non-negative numbers
            that sum to 1 in every row: the columns of a frame are named by their classes, and those
            of an array are ``classes`` in sorted order, or 0 to n_classes - 1. May be None for a
            Dataset with an attribute ``targets`` or ``y``, which has what its rows yield.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative. Rows of weight 0 are left out. A batch's loss is the weighted mean over
            its rows.

        Returns
        -------
        MGCENetClassifier
            The trained classifier.

        Raises
        ------
        TypeError, ValueError
            For a parameter, a module or data that cannot be used, or if the loss does not stay
            finite. The estimator stays as it was.
        """
        self._check_parameters()
        with validation.unchanged_on_error(self), self._own_randomness():
            return self._fit(X, y, sample_weight)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> MGCENetClassifier:
        fresh = not (self.warm_start and self.initialized_)
        known = self._known_classes(fresh)
        X, y, sample_weight, classes = self._check_rows(X, y, sample_weight, known, fresh)
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
        """Learn from rows in one pass, going on from the present parameters.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels, all of them among ``classes``. Or distributions: columns of an array are the
            classes in sorted order; a frame, whose columns are classes, may lack some.
        classes : array-like of shape (n_classes,), default=None
            All labels that can occur. Needed at the first call if the parameter ``classes`` is
            None; after `fit` those of the fit serve.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.

        Returns
        -------
        MGCENetClassifier
            The classifier after these rows.

        Raises
        ------
        TypeError, ValueError
            As in `fit`, and for labels that are not among the classes. The estimator stays as it
            was.

        Notes
        -----
        One pass, as in scikit-learn, and not ``max_epochs`` of them, as in skorch. With a seed, as
        many calls on the same rows as `fit` has epochs come to the same parameters.
        """
        self._check_parameters()
        with validation.unchanged_on_error(self), self._own_randomness():
            return self._partial_fit(X, y, classes, sample_weight)

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> MGCENetClassifier:
        validation.check_weight_of_portions(self.class_weight)
        fresh = not self.initialized_
        known = self._known_classes(fresh)
        self.classes_ = validation.check_classes(classes, known, begun=known is not None)
        X, y, sample_weight, _ = self._check_rows(X, y, sample_weight, self.classes_, fresh)
        self._train(X, y, sample_weight, fresh, 1)
        self.__dict__.pop("learned_from_")
        return self

    def _train(self, X: Any, y: Array, sample_weight: Any, fresh: bool, epochs: int) -> None:
        """Run epochs over rows, on parameters that are fresh or go on from the last ones."""
        self.class_weight_ = self._class_factors(y, sample_weight)
        self.__dict__.pop("minimax_risk_", None)
        if sample_weight is not None:
            X = {ROWS: X, WEIGHTS: sample_weight}
        if fresh:
            self.initialize()
        with nullcontext() if fresh else self._parameters_unchanged_on_error():
            if not fresh:
                self.initialize_criterion()  # q may be another
            super().partial_fit(X, y, epochs=epochs)
            if any(epoch.get("train_batch_count") == 0 for epoch in self.history_[-1:]):
                raise ValueError(
                    f"batches must have rows to learn from; got no batch of {len(y)} rows. Try a "
                    "smaller batch_size, or iterator_train__drop_last=False."
                )

    def _class_factors(self, y: Array, sample_weight: Array | None) -> Array:
        """Return the factors of classes, by labels or by the sums of probabilities."""
        weights = np.ones(len(y)) if sample_weight is None else sample_weight
        if y.ndim == 2:
            return class_factors(self.class_weight, self.classes_, weights @ y)
        codes = validation.check_labels(y, self.classes_)
        totals = np.bincount(codes, weights, len(self.classes_))
        return class_factors(self.class_weight, self.classes_, totals)

    def _known_classes(self, fresh: bool) -> Array | None:
        """Return the labels given as a parameter or, unless learning starts afresh, learned."""
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
        self._check_device_is_there()
        if self.classes is not None:
            self.classes_ = self._known_classes(fresh=True)
        with self._own_randomness():
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            self.seeds_ = np.random.RandomState(seed)
            self.split_seed_ = self.seeds_.randint(2**31 - 1)
            self._seed()
            super().initialize()
        if self.lam > 0 and not self._penalized_parameters():
            names = [name for name, _ in self.module_.named_parameters()]
            raise ValueError(
                f"penalized must match the name of a parameter; {self.penalized!r} matches none "
                f"of {names}."
            )
        return self

    def initialize_module(self) -> MGCENetClassifier:
        """Make the module, given the numbers of features and classes if it asks for them."""
        module = self._make_module()
        self._check_device_takes(module)
        self.module_ = module
        return self

    def _make_module(self) -> nn.Module:
        options = self.get_params_for("module")
        if isinstance(self.module, nn.Module) and not options:
            return deepcopy(self.module)  # every fit starts from the user's
        make = type(self.module) if isinstance(self.module, nn.Module) else self.module
        if not callable(make) or (isinstance(make, type) and not issubclass(make, nn.Module)):
            raise TypeError(f"module must be {MODULE}; got {make!r}.")
        module = make(**self._sizes_asked_for(make, options), **options)
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be {MODULE}; {make!r} returned {module!r}.")
        return module

    def _sizes_asked_for(self, make: Any, options: dict[str, Any]) -> dict[str, int]:
        """Return the sizes that are arguments of what makes the module, and not set as options."""
        known, asked = self._sizes(), signature(make).parameters
        names = [name for name in UNKNOWN_SIZE if name in asked and name not in options]
        for name in names:
            if name not in known and asked[name].default is Parameter.empty:
                raise ValueError(f"module asks for {name}, which {UNKNOWN_SIZE[name]}.")
        return {name: known[name] for name in names if name in known}

    def _sizes(self) -> dict[str, int]:
        sizes = {}
        if hasattr(self, "n_features_in_"):
            sizes["n_features"] = self.n_features_in_
        if hasattr(self, "classes_"):
            sizes["n_classes"] = len(self.classes_)
        return sizes

    def initialize_criterion(self) -> MGCENetClassifier:
        """Make the criterion, given q, class weights and the noise."""
        if not (isinstance(self.criterion, type) and issubclass(self.criterion, MarginLoss)):
            raise TypeError(
                "criterion must be a subclass of MarginLoss, which knows its probabilities; got "
                f"{self.criterion!r}. Give its parameters as criterion__name=value, and q=0 to "
                "MGCELoss for cross-entropy."
            )
        self.criterion_ = self.criterion(**self._criterion_options())
        if self.track_minimax_risk and not self._has_minimax_risk():
            raise ValueError(
                "track_minimax_risk must be False unless the criterion is MGCELoss without a "
                f"noise_matrix; got criterion={self.criterion_!r}. Watch train_loss in its place."
            )
        if self.device is not None:
            self.criterion_.to(self.device)
        return self

    def _criterion_options(self) -> dict[str, Any]:
        options = self.get_params_for("criterion")
        if "q" in signature(self.criterion).parameters:
            options.setdefault("q", self.q)
        if not hasattr(self, "classes_"):
            return options
        for name, option, numbers in (
            ("class_weight", "weight", self._factors_of_classes),
            ("noise_matrix", "noise_matrix", self._transition),
        ):
            given = getattr(self, name)
            if given is not None and option in options:
                raise ValueError(
                    f"{name} must be None if criterion__{option} is given; got {given!r}. Drop one "
                    "of the two."
                )
            if given is not None:
                options[option] = torch.as_tensor(numbers(), dtype=self._dtype())
        return options

    def _factors_of_classes(self) -> Array:
        """Return the factors of the fit; before one, ones to load others into."""
        return getattr(self, "class_weight_", np.ones(len(self.classes_)))

    def _transition(self) -> Array:
        return validation.check_noise_matrix(self.noise_matrix, len(self.classes_))

    def initialize_optimizer(self, triggered_directly: Any = None) -> MGCENetClassifier:
        """Make the optimizer, and for float16 the scaler of its gradients."""
        super().initialize_optimizer()
        # Gradients in half precision vanish below 6e-8; bfloat16 has the range of float32.
        scaled = self.amp == "float16" and self._device_type() == "cuda"
        self.scaler_ = torch.amp.GradScaler("cuda") if scaled else None
        return self

    def initialize_history(self) -> MGCENetClassifier:
        """Start another history; that of the last fit is left as it is."""
        self.history_ = History()
        return self

    def torch_compile(self, module: nn.Module, name: str) -> nn.Module:
        """Compile in place: parameters keep their names, and the module its class."""
        if self.compile:
            module.compile(**self.get_params_for("compile"))
        return module

    def trim_for_prediction(self) -> None:
        """Drop what only training needs. The criterion stays: it knows the probabilities."""
        kept = self.criterion, self.criterion_
        super().trim_for_prediction()
        self.criterion, self.criterion_ = kept

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("learned_from_", None)  # rows, while training
        return state

    def _get_param_names(self) -> list[str]:
        """Return the names of parameters, without what skorch notes down for itself."""
        return [name for name in super()._get_param_names() if name != "_params_to_validate"]

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring(name="valid_loss")),
            ("valid_acc", EpochScoring(None, name="valid_acc", lower_is_better=False)),
            ("print_log", PrintLog()),
        ]

    def get_split_datasets(self, X: Any, y: Any = None, **split_params: Any) -> tuple[Any, Any]:
        """Return the rows to learn from and those held out, or None."""
        if self.validation_fraction is None:
            datasets = super().get_split_datasets(X, y, **split_params)
        else:
            split = ValidSplit(
                float(self.validation_fraction),
                stratified=True,
                random_state=self.split_seed_,
            )
            labels = np.argmax(y, axis=1) if np.ndim(y) == 2 else y
            datasets = split(self.get_dataset(X, y), labels)
        self.learned_from_ = datasets[0]
        return datasets

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return an iterator over batches; labeled rows to learn from are shuffled."""
        iterator = self.iterator_train if training else self.iterator_valid
        options = self.get_params_for("iterator_train" if training else "iterator_valid")
        options.setdefault("batch_size", self.batch_size)
        if options["batch_size"] == -1:
            options["batch_size"] = len(dataset)
        labeled = getattr(dataset, "y", dataset) is not None
        if training and labeled and iterator in (batches, DataLoader):
            options.setdefault("shuffle", True)
        return iterator(dataset, **options)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Seed every epoch, so that `partial_fit` goes on as a longer `fit` would."""
        super().on_epoch_begin(net, **kwargs)
        self._seed()

    def on_epoch_end(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        """Record the minimax risk if that is asked for, before callbacks look for it."""
        super().on_epoch_end(net, dataset_train=dataset_train, **kwargs)
        if self.track_minimax_risk:
            self.history.record("minimax_risk", self._minimax_risk(dataset_train))

    # A step

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        """Return the margins (n, K) of a batch."""
        if isinstance(x, Mapping) and ROWS in x:
            x = x[ROWS]
        x = _cast(to_tensor(x, device=None), self._dtype())  # of which a device may have no double
        return super().infer(to_device(x, self.device), **fit_params)

    def get_loss(
        self, y_pred: Tensor, y_true: Any, X: Any = None, training: bool = False
    ) -> Tensor:
        """Return the loss of a batch."""
        _check_margins(y_pred, len(self.classes_))
        loss = self.criterion_(y_pred, *self._targets(y_true, X, y_pred))
        if loss.is_cuda and isinstance(self.criterion_, MarginLoss):
            check_numbers(loss)  # the loss did not wait there, and the history does anyway
        return loss

    def _targets(self, y: Any, X: Any, margins: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return positions of labels in ``classes_``, or distributions; and weights or None."""
        y, weights = np.asarray(on_host(y)), None
        if validation.has_columns(y):
            target = torch.as_tensor(y, dtype=self._dtype())
        else:
            target = torch.from_numpy(validation.check_labels(y, self.classes_))
        if isinstance(X, Mapping) and WEIGHTS in X:
            weights = torch.as_tensor(X[WEIGHTS], dtype=self._dtype()).to(margins.device)
        return target.to(margins.device), weights

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute margins, the loss, and its gradient, clipped if that is asked for."""
        self._set_training(True)
        rows, labels = unpack_data(batch)
        with self._autocast():
            margins = self._infer_to_learn(rows, len(labels), fit_params)
            loss = self.get_loss(margins, labels, X=rows, training=True)
        if self.scaler_ is None:
            loss.backward()
        else:
            self.scaler_.scale(loss).backward()
            self.scaler_.unscale_(self.optimizer_)
        if self.gradient_clip is not None:
            parameters = [parameter for _, parameter in self.get_all_learnable_params()]
            nn.utils.clip_grad_norm_(parameters, self.gradient_clip)
        return {"loss": loss, "y_pred": margins}

    def _infer_to_learn(self, rows: Any, n_rows: int, fit_params: dict[str, Any]) -> Tensor:
        """Return the margins of a batch, or say what to do about one that is too small."""
        try:
            return self.infer(rows, **fit_params)
        except ValueError as error:
            if n_rows > 1:
                raise
            raise ValueError(
                f"module cannot learn from a batch of one row ({error}). If that is what is left "
                "for the last, try another batch_size, or iterator_train__drop_last=True."
            ) from error

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call the callbacks, and say what to do if one watches what is not in the history."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyError as error:
            if "not found in history" not in str(error):
                raise
            raise ValueError(
                f"callbacks must watch a number of the history. {error.args[0]} Set "
                "validation_fraction=0.1 for those of rows held out, or another monitor."
            ) from error

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute margins and the loss of rows held out."""
        with self._autocast():
            return super().validation_step(batch, **fit_params)

    def evaluation_step(self, batch: Any, training: bool = False) -> Tensor:
        """Compute margins, of at least single precision."""
        with self._autocast():
            margins = super().evaluation_step(batch, training)
        return margins.float() if margins.dtype in (torch.bfloat16, torch.float16) else margins

    def _step_optimizer(self, step_fn: Any) -> None:
        stepped = True
        if self.scaler_ is None:
            super()._step_optimizer(step_fn)
        else:
            step_fn()  # the scaler knows no closures
            scale = self.scaler_.get_scale()
            self.scaler_.step(self.optimizer_)
            self.scaler_.update()
            stepped = self.scaler_.get_scale() >= scale  # else gradients were too large for it
        if stepped and self.lam > 0:
            self._shrink()

    @torch.no_grad()
    def _shrink(self) -> None:
        """Take the proximal step of lam ‖θ‖₁: the soft threshold at step × lam.

        The step is what a constant gradient is multiplied by: with momentum more than the
        learning rate.
        """
        penalized = set(self._penalized_parameters())
        for group in self.optimizer_.param_groups:
            step, momentum = float(group["lr"]), group.get("momentum", 0.0)
            if momentum > 0.0:
                step *= (1.0 - group.get("dampening", 0.0)) / (1.0 - momentum)
            threshold = step * self.lam
            for parameter in penalized.intersection(group["params"]):
                parameter.copy_(nn.functional.softshrink(parameter, threshold))

    def _penalized_parameters(self) -> list[nn.Parameter]:
        patterns = [self.penalized] if isinstance(self.penalized, str) else self.penalized
        return [
            parameter
            for name, parameter in self.module_.named_parameters()
            if parameter.requires_grad and any(fnmatchcase(name, each) for each in patterns)
        ]

    # Predictions

    def decision_function(self, X: Any) -> Array:
        """Compute margins.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            One margin per class; of two classes, the second margin less the first.
        """
        margins = self._margins(X).numpy()
        return margins[:, 1] - margins[:, 0] if margins.shape[1] == 2 else margins

    def predict(self, X: Any) -> Array:
        """Predict the label with the largest margin.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self, "classes_", msg=NO_LABELS)
        codes = self._margins(X).argmax(dim=1).numpy()
        return self.classes_[codes]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the accuracy, of distributions its expectation for labels drawn from them.

        With a ``noise_matrix`` it is that of labels as they come, too.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels; or distributions, with columns as in `partial_fit`.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
            Share of right labels, or the mean probability of the predicted class.
        """
        if not validation.has_columns(y):
            return super().score(X, y, sample_weight=sample_weight)
        predicted = self.predict(X)
        proba, _ = validation.check_soft_labels("y", y, self.classes_)
        check_consistent_length(proba, predicted, sample_weight)
        own = proba[np.arange(len(proba)), np.searchsorted(self.classes_, predicted)]
        return float(np.average(own, weights=sample_weight))

    def predict_proba(self, X: Any) -> Array:
        """Compute the probabilities of the criterion: with `MGCELoss` the minimax rule h.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Each row sums to 1; for q > 0 the rule h may be exactly 0.
        """
        margins = self._margins(X)
        return self.criterion_.proba(margins).numpy()

    def predict_log_proba(self, X: Any) -> Array:
        """Compute the logarithm of `predict_proba`, -inf where that is 0.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features, ...), mapping or Dataset

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
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
        """Compute the probabilities of given margins, scaled ones for instance.

        Parameters
        ----------
        margins : array-like of shape (n_samples, n_classes) or (n_samples,)
            As `decision_function` returns them.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Of `decision_function`'s margins, what `predict_proba` returns.
        """
        check_is_fitted(self, "classes_", msg=NO_LABELS)
        margins = validation.check_margins(on_host(margins), len(self.classes_))
        return self.criterion_.proba(torch.as_tensor(margins)).numpy()

    def _margins(self, X: Any) -> Tensor:
        """Return margins (n, K) on the CPU."""
        check_is_fitted(self, "module_")
        parts = list(self.forward_iter(self._check_features(X, reset=False)))
        if not parts:
            raise ValueError(NO_ROWS)
        margins = torch.cat(parts).detach()
        if hasattr(self, "classes_"):
            _check_margins(margins, len(self.classes_))
        return margins

    def _minimax_risk(self, dataset: Any) -> float:
        """Return the weighted mean of psi(m) - m_y, and the penalty."""
        class_weight = self.criterion_.weight
        criterion = MGCELoss(
            self.criterion_.q, weight=None if class_weight is None else class_weight.cpu()
        )
        total = total_weight = 0.0
        for batch in self.get_iterator(dataset):
            rows, labels = unpack_data(batch)
            margins = self.evaluation_step(batch).cpu().double()
            targets = self._targets(labels, rows, margins)
            loss, weights = criterion.weighted_rows(margins, *targets)
            total += float(loss.sum())
            total_weight += len(loss) if weights is None else float(weights.sum())
        norm = sum(float(each.detach().abs().sum()) for each in self._penalized_parameters())
        return total / total_weight + self.lam * norm

    def _has_minimax_risk(self) -> bool:
        """Tell whether the objective bounds expected losses over a set that is not empty."""
        return isinstance(self.criterion_, MGCELoss) and self.criterion_.correction is None

    # Checks

    def _check_parameters(self) -> None:
        validation.check_all(vars(self), PARAMETERS)
        if not (self.noise_matrix is None or self.class_weight is None):
            raise ValueError(
                "class_weight must be None if noise_matrix is given: factors by observed class "
                f"would bias the correction; got {self.class_weight!r}. Drop one of the two."
            )
        if self.validation_fraction is not None and self.train_split is not None:
            raise ValueError(
                "validation_fraction must be None if train_split is given; got "
                f"{self.validation_fraction}. Drop one of the two."
            )
        self._check_device_is_there()

    def _check_device_is_there(self) -> None:
        try:
            torch.empty(0, device=self.device)
        except Exception as error:  # PyTorch has another type for every reason
            raise ValueError(
                f"device={self.device!r} is none that PyTorch can use here. Try device='cpu'."
            ) from error

    def _check_device_takes(self, module: nn.Module) -> None:
        """Raise ValueError for double precision on Apple's GPUs, which have none."""
        parts = (*module.parameters(), *module.buffers())
        if self._device_type() == "mps" and any(part.dtype == torch.float64 for part in parts):
            raise ValueError(
                "module must be of single precision, as device='mps' has no other; got "
                "torch.float64. Try module.float(), or device='cpu'."
            )

    def _check_rows(
        self, X: Any, y: Any, sample_weight: Any, known: Array | None, reset: bool
    ) -> tuple[Any, Array, Array | None, Array | None]:
        """Return features, labels or distributions, weights or None, and classes if they are known.

        All are without the rows of weight 0.
        """
        X = self._check_features(X, reset or not hasattr(self, "n_features_in_"))
        y, classes = _check_target(X, y, known)
        if y.ndim == 2 and self.noise_matrix is not None:
            raise ValueError(
                "y must be labels if noise_matrix is given, which says nothing of distributions; "
                f"got shape {y.shape}. Drop one of the two."
            )
        n_rows = get_len(X)
        if n_rows == 0:
            raise ValueError(NO_ROWS)
        if len(y) != n_rows:
            raise ValueError(
                f"y must have a label for each row of X, {n_rows} of them; got {len(y)}. "
                "Found input variables with inconsistent numbers of samples."
            )
        if sample_weight is None:
            return X, y, None, classes
        if is_dataset(X):
            raise ValueError(
                "sample_weight must be None if X is a Dataset, whose batches are its own; pass "
                "arrays or tensors in place of it."
            )
        weights = validation.check_sample_weight(sample_weight, n_rows)
        used = np.flatnonzero(weights)
        if len(used) < n_rows:
            X, y, weights = take(X, used), y[used], weights[used]
        return X, y, weights, classes

    def _check_features(self, X: Any, reset: bool) -> Any:
        """Return X: a finite float array of what is array-like, and what skorch takes as it is."""
        if reset:
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
        if is_dataset(X) or (isinstance(X, Mapping) and not sp.issparse(X)):
            return X
        if not isinstance(X, Tensor):
            kind = {"dtype": [np.float64, np.float32], "allow_nd": True}
            if not (reset or hasattr(self, "n_features_in_")):  # no arrays have been learned from
                return check_array(X, **kind)
            return validate_data(self, X, reset=reset, **kind)
        if X.layout != torch.strided:
            raise TypeError(f"X must be dense; got {X.layout}. Try X.to_dense().")
        if X.dim() < 2 or len(X) == 0:
            raise ValueError(
                f"X must have rows, and be of two dimensions or more; got {tuple(X.shape)}."
            )
        if not bool(torch.isfinite(X).all()):
            raise ValueError("X must be finite; got NaN or inf. Try a SimpleImputer.")
        if reset:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != getattr(self, "n_features_in_", X.shape[1]):
            raise ValueError(
                f"X must have the {self.n_features_in_} features of the fit; got {X.shape[1]}."
            )
        return X

    # Surroundings

    def _dtype(self) -> torch.dtype:
        """Return the type of the module's parameters."""
        for parameter in self.module_.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
        return torch.get_default_dtype()

    def _device_type(self) -> str:
        return "cpu" if self.device is None else torch.device(self.device).type

    def _autocast(self) -> Any:
        if self.amp is None:
            return nullcontext()
        return torch.autocast(self._device_type(), dtype=getattr(torch, self.amp))

    def _own_randomness(self) -> Any:
        """Return a context that leaves PyTorch's generators as they were, if there is a seed."""
        if self.random_state is None:
            return nullcontext()
        gpu = self._device_type() == "cuda" and torch.cuda.is_available()
        return torch.random.fork_rng([torch.device(self.device)] if gpu else [])

    def _seed(self) -> None:
        """Seed PyTorch's generators, if there is a seed; its user has seeded them else."""
        if self.random_state is None:
            return
        seed = self.seeds_.randint(2**31 - 1)
        torch.default_generator.manual_seed(seed)
        if self._device_type() == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(seed)

    @contextmanager
    def _parameters_unchanged_on_error(self) -> Iterator[None]:
        """Put back what learning changes in place if what runs inside raises."""
        parts = (self.module_, self.optimizer_)
        before = deepcopy([part.state_dict() for part in parts])
        # Learning goes on with copies, and `unchanged_on_error` puts the originals back.
        self.history_, self.seeds_ = deepcopy((self.history_, self.seeds_))
        try:
            yield
        except BaseException:
            for part, state in zip(parts, before, strict=True):
                part.load_state_dict(state)
            raise


MODULE = (
    "a class, an instance or a function that makes a torch.nn.Module, from features (n, d) to "
    "margins (n, n_classes)"
)


UNKNOWN_SIZE = {
    "n_features": "is found in X by fit, if that is an array or a tensor. Set module__n_features",
    "n_classes": "is found in y by fit. Set classes, or module__n_classes",
}
NO_ROWS = "X must have rows; got none."
NO_LABELS = (
    "This %(name)s knows no labels. Call fit, or set classes, call initialize and then load_params."
)


def _check_margins(margins: Any, n_classes: int) -> None:
    if not isinstance(margins, Tensor) or margins.dim() != 2 or margins.shape[1] != n_classes:
        came = tuple(margins.shape) if isinstance(margins, Tensor) else type(margins).__name__
        raise ValueError(
            f"module must return margins of shape (n, {n_classes}), a column for each class; got "
            f"{came}. Give its last layer {n_classes} outputs."
        )


def _check_target(X: Any, y: Any, known: Array | None) -> tuple[Array, Array | None]:
    """Return labels (n,) or distributions (n, K), of a data set its own if there are no others.

    With them come all classes, None if labels are the only ones to tell.
    """
    if y is None and is_dataset(X):
        y = getattr(X, "targets", None)
        if y is None:
            try:
                y = data_from_dataset(X)[1]
            except AttributeError:
                raise ValueError(
                    "y must be given if X is a Dataset without attribute targets or y; pass the "
                    "labels of its rows as y."
                ) from None
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")
    if validation.has_columns(y):
        return validation.check_soft_labels("y", y, known)
    return validation.check_label_array("y", y, warn=True)[0], known


def _cast(x: Any, dtype: torch.dtype) -> Any:
    """Return tensors with floating-point numbers as ``dtype``, and integers as they are."""
    if isinstance(x, Mapping):
        return {name: _cast(part, dtype) for name, part in x.items()}
    if isinstance(x, Tensor) and x.is_floating_point() and x.dtype != dtype:
        return x.to(dtype)
    return x
