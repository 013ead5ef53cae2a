"""The training loop of networks: skorch's, with what `MGCENetClassifier` adds to it.

skorch calls the methods here by their names. They add the loss's class weights and noise matrix,
an L1 penalty that leaves exact zeros, gradient clipping, mixed precision, seeds, and the minimax
risk of every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from inspect import signature
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from skorch import NeuralNet
from skorch.callbacks import EpochScoring, EpochTimer, PassthroughScoring, PrintLog
from skorch.dataset import ValidSplit, unpack_data
from skorch.history import History
from skorch.utils import to_device, to_tensor
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mgce_sklearn import validation
from mgce_sklearn.arrays import on_host
from mgce_sklearn.tensors.link import check_numbers
from mgce_sklearn.torch.batches import batches
from mgce_sklearn.torch.losses import MarginLoss, MGCELoss
from mgce_sklearn.torch.modules import (
    cast,
    check_device,
    check_output,
    check_precision,
    dtype_of,
    made_module,
    penalized_parameters,
)
from mgce_sklearn.torch.rows import weights_of, without_weights

Array = np.ndarray[Any, Any]


class TrainingLoop(NeuralNet):
    """How a network is made, and how it learns from batches.

    `MGCENetClassifier` derives from this class, has its parameters, and sets them. It sets
    ``classes_``, ``class_weight_`` and ``n_features_in_`` before a network is made, as far as they
    are known.
    """

    # The parameters that are read here, beside skorch's own.
    q: float
    lam: float
    penalized: Any
    class_weight: Any
    noise_matrix: Any
    track_minimax_risk: bool
    gradient_clip: float | None
    amp: str | None
    validation_fraction: float | None
    random_state: Any

    # What skorch sets: a subclass of MarginLoss, and an instance of it.
    criterion: Any
    criterion_: Any
    classes_: Any

    # Making the network and what trains it

    def initialize(self) -> TrainingLoop:
        """Make module, criterion, optimizer and callbacks, from the seed if there is one."""
        check_device(self.device)
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

    def initialize_module(self) -> TrainingLoop:
        """Make the module, with the numbers of features and classes if it takes them."""
        module = made_module(self.module, self.get_params_for("module"), self._sizes())
        check_precision(module, self._device_type())
        self.module_ = module
        return self

    def _sizes(self) -> dict[str, int]:
        """Return the numbers of features and classes, as far as they are known."""
        sizes = {}
        if hasattr(self, "n_features_in_"):
            sizes["n_features"] = self.n_features_in_
        if hasattr(self, "classes_"):
            sizes["n_classes"] = len(self.classes_)
        return sizes

    def initialize_criterion(self) -> TrainingLoop:
        """Make the criterion, with q, class weights and the noise matrix."""
        if not (isinstance(self.criterion, type) and issubclass(self.criterion, MarginLoss)):
            raise TypeError(
                "criterion must be a subclass of MarginLoss, which also computes probabilities; "
                f"got {self.criterion!r}. Give its parameters as criterion__name=value. For "
                "cross-entropy use MGCELoss with q=0."
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
                options[option] = torch.as_tensor(numbers(), dtype=dtype_of(self.module_))
        return options

    def _factors_of_classes(self) -> Array:
        """Return the class weights of the fit; before a fit, ones that a file may overwrite."""
        return getattr(self, "class_weight_", np.ones(len(self.classes_)))

    def _transition(self) -> Array:
        return validation.check_noise_matrix(self.noise_matrix, len(self.classes_))

    def initialize_optimizer(self, triggered_directly: Any = None) -> TrainingLoop:
        """Make the optimizer, and for float16 the scaler of its gradients."""
        super().initialize_optimizer()
        # Gradients in half precision vanish below 6e-8; bfloat16 has the range of float32.
        scaled = self.amp == "float16" and self._device_type() == "cuda"
        self.scaler_ = torch.amp.GradScaler("cuda") if scaled else None
        return self

    def initialize_history(self) -> TrainingLoop:
        """Begin another history, and leave that of the last fit as it is."""
        self.history_ = History()
        return self

    def torch_compile(self, module: nn.Module, name: str) -> nn.Module:
        """Compile in place, so that parameters keep their names and the module its class."""
        if self.compile:
            module.compile(**self.get_params_for("compile"))
        return module

    def trim_for_prediction(self) -> None:
        """Drop what only training needs. The criterion stays, because it makes probabilities."""
        kept = self.criterion, self.criterion_
        super().trim_for_prediction()
        self.criterion, self.criterion_ = kept

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("learned_from_", None)  # rows, while training
        return state

    def _get_param_names(self) -> list[str]:
        """Return the names of parameters, without an attribute that skorch has for itself."""
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

    # Epochs and batches

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
        """Seed every epoch, so that `partial_fit` continues as a longer `fit` would."""
        super().on_epoch_begin(net, **kwargs)
        self._seed()

    def on_epoch_end(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        """Record the minimax risk, if it is tracked, before callbacks look for it."""
        super().on_epoch_end(net, dataset_train=dataset_train, **kwargs)
        if self.track_minimax_risk:
            self.history.record("minimax_risk", self._minimax_risk(dataset_train))

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call the callbacks, and explain the error if one watches a number that is not there."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyError as error:
            if "not found in history" not in str(error):
                raise
            raise ValueError(
                f"callbacks must watch a number of the history. {error.args[0]} For a number of "
                "held-out rows set validation_fraction=0.1; otherwise set another monitor."
            ) from error

    # One batch

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        """Return the margins (n, K) of a batch."""
        x = to_tensor(without_weights(x), device=None)
        x = cast(x, dtype_of(self.module_))  # before it moves: a device may lack double precision
        return super().infer(to_device(x, self.device), **fit_params)

    def get_loss(
        self, y_pred: Tensor, y_true: Any, X: Any = None, training: bool = False
    ) -> Tensor:
        """Return the loss of a batch."""
        check_output(y_pred, len(self.classes_))
        loss = self.criterion_(y_pred, *self._targets(y_true, X, y_pred))
        if loss.is_cuda and isinstance(self.criterion_, MarginLoss):
            # On a GPU the loss does not look for NaN. Here it costs no time: the history reads the
            # loss anyway.
            check_numbers(loss)
        return loss

    def _targets(self, y: Any, X: Any, margins: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return positions of labels in ``classes_``, or distributions; and weights or None."""
        y, weights, dtype = np.asarray(on_host(y)), weights_of(X), dtype_of(self.module_)
        if validation.has_columns(y):
            target = torch.as_tensor(y, dtype=dtype)
        else:
            target = torch.from_numpy(validation.check_labels(y, self.classes_))
        if weights is not None:
            weights = torch.as_tensor(weights, dtype=dtype).to(margins.device)
        return target.to(margins.device), weights

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute margins, the loss, and its gradient, clipped if ``gradient_clip`` is set."""
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
        """Return the margins of a batch, and explain the error if one row is too few."""
        try:
            return self.infer(rows, **fit_params)
        except ValueError as error:
            if n_rows > 1:
                raise
            raise ValueError(
                f"module cannot learn from a batch of one row ({error}). If only the last batch "
                "has one row, try another batch_size, or iterator_train__drop_last=True."
            ) from error

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute margins and the loss of held-out rows."""
        with self._autocast():
            return super().validation_step(batch, **fit_params)

    def evaluation_step(self, batch: Any, training: bool = False) -> Tensor:
        """Compute margins, in single precision at least."""
        with self._autocast():
            margins = super().evaluation_step(batch, training)
        return margins.float() if margins.dtype in (torch.bfloat16, torch.float16) else margins

    # A step of the optimizer, and the penalty

    def _step_optimizer(self, step_fn: Any) -> None:
        stepped = True
        if self.scaler_ is None:
            super()._step_optimizer(step_fn)
        else:
            step_fn()  # the scaler takes no closures
            scale = self.scaler_.get_scale()
            self.scaler_.step(self.optimizer_)
            self.scaler_.update()
            stepped = self.scaler_.get_scale() >= scale  # if not, gradients were too large for it
        if stepped and self.lam > 0:
            self._shrink()

    @torch.no_grad()
    def _shrink(self) -> None:
        """Take the proximal step of lam ‖θ‖₁: the soft threshold at step length × lam.

        The step length is what multiplies a gradient that stays the same. With momentum this is
        more than the learning rate.
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
        return penalized_parameters(self.module_, self.penalized)

    # The objective of all rows

    def _minimax_risk(self, dataset: Any) -> float:
        """Return the weighted mean of psi(m) - m_y, plus the penalty."""
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

    # Devices, generators, and what an error puts back

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
        """Seed PyTorch's generators, if there is a seed. If not, they are the user's."""
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
        # Learning continues with copies, and `unchanged_on_error` puts the originals back.
        self.history_, self.seeds_ = deepcopy((self.history_, self.seeds_))
        try:
            yield
        except BaseException:
            for part, state in zip(parts, before, strict=True):
                part.load_state_dict(state)
            raise
