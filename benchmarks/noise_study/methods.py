"""The methods of the study: each tries at most eight settings on a table, and tells its margins.

A method is a function of a `Cell` that yields (setting, `Fitted`). All are told the same: training
rows and validation rows whose labels are as wrong as those, and nothing of the noise, but for those
named "true rate". What several methods need is computed once and charged to each.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.svm import LinearSVC

from mgce_sklearn import MGCEClassifier, RandomReLUFeatures
from mgce_sklearn.label_noise import estimated_transition
from noise_study.tables import Table

Array = np.ndarray[Any, Any]
Margins = tuple[Array, Array]  # of validation and of test rows, (n, K) each

N_TREES = 100
FLOOR = 0.02  # what MGCEStackingClassifier adds to the base's probabilities
LEAST = 1e-3  # forests have no smaller probabilities, and zeros have no logarithm
ROUNDS = 300
PATIENCE = 20
TOL = 1e-2  # of the duality gap
SECONDS_OF_FIT = SECONDS_OF_BOUNDS = 20.0


class Fitted(NamedTuple):
    """Margins of a fitted model, the link to its probabilities, and bounds of its error.

    ``bounds`` is None, or a function without arguments.
    """

    margins: Margins
    link: Callable[[Array], Array]
    bounds: Callable[[], Any] | None = None


class Base(NamedTuple):
    """Log-probabilities of a classifier: of training rows out of fold, of the others; seconds."""

    train: Array
    rest: Margins
    seconds: float


@dataclass
class Cell:
    """A table, and what methods share. ``spent`` is the cost of what was shared since reset."""

    table: Table
    seed: int
    spent: float = field(default=0.0)
    _bases: dict[str, Base] = field(default_factory=dict)

    @property
    def learned(self) -> tuple[Array, Array]:
        """Rows for linear models, and labels."""
        return self.table.X[0], self.table.y[0]

    @property
    def columns(self) -> tuple[Array, Array]:
        """Rows for trees, and labels."""
        return self.table.columns[0], self.table.y[0]

    @cached_property
    def _relu(self) -> tuple[tuple[Array, Array, Array], float]:
        begin = time.perf_counter()
        units = RandomReLUFeatures(random_state=self.seed).fit(self.table.X[0])
        features = tuple(units.transform(X) for X in self.table.X)
        return features, time.perf_counter() - begin

    @property
    def relu(self) -> tuple[Array, Array, Array]:
        """Hidden units beside the columns, of all parts."""
        features, seconds = self._relu
        self.spent += seconds
        return features

    def base(self, name: str) -> Base:
        """Return a classifier to correct, by its name in `BASES`, or the "default"."""
        if name == "default":
            found = [self.base(each) for each in DEFAULT_BASES]
            return max(
                found, key=lambda base: (base.train.argmax(axis=1) == self.table.y[0]).mean()
            )
        if name not in self._bases:
            self._bases[name] = self._fitted(BASES[name](self.seed))
        found = self._bases[name]
        self.spent += found.seconds
        return found

    def _fitted(self, classifier: Any) -> Base:
        begin = time.perf_counter()
        X, y = self.columns
        train = cross_val_predict(classifier, X, y, cv=5, method="predict_proba")
        classifier.fit(X, y)
        rest = tuple(np.log(classifier.predict_proba(X) + FLOOR) for X in self.table.columns[1:])
        return Base(np.log(train + FLOOR), (rest[0], rest[1]), time.perf_counter() - begin)


Method = Callable[[Cell], Iterator[tuple[str, Fitted]]]


def _forest(kind: Any, leaf: int) -> Callable[[int], Any]:
    return lambda seed: kind(N_TREES, min_samples_leaf=leaf, random_state=seed)


# What is corrected, made of a seed.
BASES: dict[str, Callable[[int], Any]] = {
    "forest": _forest(RandomForestClassifier, 5),
    "extra 1": _forest(ExtraTreesClassifier, 1),
    "extra 5": _forest(ExtraTreesClassifier, 5),
    "extra 20": _forest(ExtraTreesClassifier, 20),
    "LightGBM": lambda seed: lightgbm(seed, n_estimators=40, num_leaves=8),
}
# MGCEStackingClassifier's default: of these the one of best accuracy out of fold.
DEFAULT_BASES = ("extra 1", "extra 5", "extra 20")


def lightgbm(seed: int, **params: Any) -> Any:
    """Return LightGBM's classifier, on one thread."""
    from lightgbm import LGBMClassifier

    return LGBMClassifier(**params, n_jobs=1, random_state=seed, verbose=-1)


def wide(margins: Array) -> Array:
    """Return margins (n, K), also of two classes."""
    return np.column_stack([np.zeros(len(margins)), margins]) if margins.ndim == 1 else margins


def softmax_of(margins: Array) -> Array:
    """Return the link of logistic regression."""
    return softmax(margins, axis=1)


def placed(margins: Array, classes: Array, n_classes: int) -> Array:
    """Return margins of all classes; those that a model has not seen come last in every row."""
    if len(classes) == n_classes:
        return margins
    out = np.tile(margins.min(axis=1, keepdims=True) - 10.0, (1, n_classes))
    out[:, classes] = margins
    return out


def of_margins(model: Any, rest: Any, n_classes: int) -> Fitted:
    """Return what a classifier with `decision_function` says of the other rows."""
    margins = [placed(wide(model.decision_function(X)), model.classes_, n_classes) for X in rest]
    return Fitted((margins[0], margins[1]), softmax_of)


def of_proba(model: Any, rest: Any, n_classes: int) -> Fitted:
    """Return what a classifier with probabilities alone says of the other rows."""
    logs = [np.log(np.maximum(model.predict_proba(X), LEAST)) for X in rest]
    margins = [placed(each, model.classes_, n_classes) for each in logs]
    return Fitted((margins[0], margins[1]), softmax_of)


def grid(**values: Any) -> list[dict[str, Any]]:
    """Return settings, the last name varying fastest."""
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def named(setting: dict[str, Any]) -> str:
    """Return a setting as text, as in "q=1 lam=3"."""
    return " ".join(f"{name}={value:g}" for name, value in setting.items())


# --- ours --------------------------------------------------------------------------------------


def _mgce(
    X: tuple[Array, Array, Array],
    y: Array,
    setting: dict[str, float],
    base: Base | None = None,
) -> Fitted:
    """Fit MGCEClassifier, beside a base's margins if there is one."""
    q, lam, scale = setting["q"], setting["lam"], setting.get("scale", 1.0)
    train = None if base is None else scale * base.train
    model = MGCEClassifier(q, lam, tol=TOL, max_time=SECONDS_OF_FIT).fit(X[0], y, base_margin=train)
    offsets = (None, None) if base is None else [scale * part for part in base.rest]
    margins = [
        wide(model.decision_function(part, offset))
        for part, offset in zip(X[1:], offsets, strict=True)
    ]
    bounds = partial(
        model.error_bounds, X[0], tol=TOL, max_time=SECONDS_OF_BOUNDS, base_margin=train
    )
    return Fitted((margins[0], margins[1]), model.margins_to_proba, bounds)


def linear(cell: Cell, qs: tuple[float, ...]) -> Iterator[tuple[str, Fitted]]:
    """MGCEClassifier on the columns."""
    for setting in grid(q=qs, lam=(0.03, 0.1, 0.3, 1.0)):
        yield named(setting), _mgce(cell.table.X, cell.table.y[0], setting)


def relu(cell: Cell, qs: tuple[float, ...]) -> Iterator[tuple[str, Fitted]]:
    """MGCEClassifier(feature_map="relu")."""
    for setting in grid(lam=(3.0, 1.0, 0.3, 0.1), q=qs):  # the quick ones first
        yield named(setting), _mgce(cell.relu, cell.table.y[0], setting)


CORRECTIONS = [
    *grid(q=(1.0,), scale=(0.5, 1.0, 2.0), lam=(1.0, 3.0)),
    *grid(q=(0.5,), scale=(1.0,), lam=(1.0, 3.0)),
]
LOGISTIC_CORRECTIONS = [
    *grid(q=(0.0,), scale=(0.5, 1.0, 2.0), lam=(1.0, 3.0)),
    *grid(q=(0.0,), scale=(1.0,), lam=(0.3, 10.0)),
]
OTHER_CORRECTIONS = [
    *grid(q=(0.75,), scale=(0.5, 1.0, 2.0), lam=(1.0, 3.0)),
    *grid(q=(1.0,), scale=(1.0,), lam=(0.3, 10.0)),
]


def corrected(
    cell: Cell, base: str, settings: list[dict[str, float]]
) -> Iterator[tuple[str, Fitted]]:
    """MGCEStackingClassifier around a base."""
    for setting in settings:
        yield named(setting), _mgce(cell.table.X, cell.table.y[0], setting, cell.base(base))


def with_votes(cell: Cell, features: str) -> Iterator[tuple[str, Fitted]]:
    """Return MGCEClassifier fitted to shares of votes."""
    shares = cell.table.shares
    if features == "forest":
        for setting in CORRECTIONS:
            yield named(setting), _mgce(cell.table.X, shares, setting, cell.base("forest"))
        return
    X = cell.relu if features == "relu" else cell.table.X
    for setting in grid(lam=(3.0, 1.0, 0.3, 0.1), q=(0.5, 1.0)):
        yield named(setting), _mgce(X, shares, setting)


# --- linear rivals -----------------------------------------------------------------------------

CS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)


def logistic(cell: Cell, features: str) -> Iterator[tuple[str, Fitted]]:
    """L2 logistic regression on the columns, on hidden units, or beside a forest's logarithms."""
    X = {
        "linear": lambda: cell.table.X,
        "relu": lambda: cell.relu,
        "stacked": lambda: _beside(cell),
    }
    train, *rest = X[features]()
    for C in CS:
        model = LogisticRegression(C=C, max_iter=300).fit(train, cell.table.y[0])
        yield named({"C": C}), of_margins(model, rest, cell.table.n_classes)


def _beside(cell: Cell) -> tuple[Array, Array, Array]:
    base = cell.base("forest")
    logs = (base.train, *base.rest)
    train, valid, test = (np.hstack(parts) for parts in zip(cell.table.X, logs, strict=True))
    return train, valid, test


def forward(cell: Cell, known: bool) -> Iterator[tuple[str, Fitted]]:
    """L2 logistic regression through the noise matrix, the true one or cleanlab's estimate."""
    X, y = cell.learned
    if known:
        transition = cell.table.transition
    else:
        proba = cross_val_predict(LogisticRegression(C=0.1), X, y, cv=5, method="predict_proba")
        transition = estimated_transition(proba, y)
    for C in CS:
        W = forward_corrected(X, y, transition, C)
        yield named({"C": C}), Fitted((cell.table.X[1] @ W[:-1] + W[-1],
                                       cell.table.X[2] @ W[:-1] + W[-1]), softmax_of)  # fmt: skip


def forward_corrected(X: Array, y: Array, transition: Array, C: float) -> Array:
    """Minimize C sum_i -log (softmax(X_i W) T)_(y_i) + |W|^2 / 2; the last row is the constant."""
    shape = (X.shape[1] + 1, len(transition))
    seen = transition.T[y]  # (n, K): the probability of each row's label under each true class

    def loss(flat: Array) -> tuple[float, Array]:
        W = flat.reshape(shape)
        logs = log_softmax(X @ W[:-1] + W[-1], axis=1)
        joint = np.exp(logs) * seen
        total = np.maximum(joint.sum(axis=1), 1e-300)
        slopes = np.exp(logs) - joint / total[:, np.newaxis]
        gradient = C * np.vstack([X.T @ slopes, slopes.sum(axis=0)])
        gradient[:-1] += W[:-1]
        return C * -np.log(total).sum() + 0.5 * np.square(W[:-1]).sum(), gradient.ravel()

    start = np.zeros(shape[0] * shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return found.x.reshape(shape)


def support_vectors(cell: Cell) -> Iterator[tuple[str, Fitted]]:
    """LinearSVC; it has no probabilities, and here gets the softmax of its margins."""
    X, y = cell.learned
    for C in (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0):
        yield (
            named({"C": C}),
            of_margins(LinearSVC(C=C).fit(X, y), cell.table.X[1:], cell.table.n_classes),
        )


# --- trees -------------------------------------------------------------------------------------


def trees(cell: Cell, kind: Any) -> Iterator[tuple[str, Fitted]]:
    """Forests over the rows of a leaf and the columns of a split."""
    X, y = cell.columns
    for leaf, share in itertools.product((1, 5, 10, 20), (None, 0.5)):
        model = kind(
            N_TREES, min_samples_leaf=leaf, max_features=share or "sqrt", random_state=cell.seed
        )
        name = f"leaf={leaf} features={share or 'sqrt'}"
        yield name, of_proba(model.fit(X, y), cell.table.columns[1:], cell.table.n_classes)


BOOSTING = grid(leaves=(4, 16), rate=(0.03, 0.1), least=(20, 100))


def hist_boosting(cell: Cell) -> Iterator[tuple[str, Fitted]]:
    """HistGradientBoostingClassifier, stopped early by the validation rows' log loss."""
    for setting in BOOSTING:
        model = HistGradientBoostingClassifier(
            max_leaf_nodes=setting["leaves"], learning_rate=setting["rate"],
            min_samples_leaf=setting["least"], max_iter=ROUNDS, early_stopping=True,
            n_iter_no_change=PATIENCE, random_state=cell.seed,
        )  # fmt: skip
        X, y = cell.columns
        model.fit(X, y, X_val=cell.table.columns[1], y_val=cell.table.y[1])
        yield named(setting), of_proba(model, cell.table.columns[1:], cell.table.n_classes)


def light_boosting(cell: Cell) -> Iterator[tuple[str, Fitted]]:
    """LightGBM, stopped early by the validation rows' log loss."""
    for setting in BOOSTING:
        model = lightgbm(
            cell.seed, n_estimators=ROUNDS, num_leaves=setting["leaves"],
            learning_rate=setting["rate"], min_child_samples=setting["least"],
        )  # fmt: skip
        yield (
            named(setting),
            of_proba(_stopped_early(model, cell), cell.table.columns[1:], cell.table.n_classes),
        )


def our_boosting(cell: Cell, qs: tuple[float, ...]) -> Iterator[tuple[str, Fitted]]:
    """MGCEBoostingClassifier, stopped early by its own loss of the validation rows."""
    from mgce_sklearn.boosting import MGCEBoostingClassifier

    X, y = cell.columns
    for setting in grid(q=qs, leaves=(4, 16), least=(20, 100)):
        trees = lightgbm(
            cell.seed, n_estimators=ROUNDS, num_leaves=setting["leaves"],
            min_child_samples=setting["least"],
        )  # fmt: skip
        model = MGCEBoostingClassifier(trees, setting["q"], n_iter_no_change=PATIENCE)
        model.fit(X, y, X_val=cell.table.columns[1], y_val=cell.table.y[1])
        margins = [wide(model.decision_function(part)) for part in cell.table.columns[1:]]
        yield named(setting), Fitted((margins[0], margins[1]), model.margins_to_proba)


def _stopped_early(model: Any, cell: Cell) -> Any:
    from lightgbm import early_stopping

    X, y = cell.columns
    held_out = [(cell.table.columns[1], cell.table.y[1])]
    return model.fit(X, y, eval_set=held_out, callbacks=[early_stopping(PATIENCE, verbose=False)])


# --- cleanlab ----------------------------------------------------------------------------------

FILTERS = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning")


def cleaned_logistic(cell: Cell) -> Iterator[tuple[str, Fitted]]:
    """Logistic regression without the rows that cleanlab takes for wrong."""
    for C in (0.01, 0.1):
        for name, model in _cleaned(LogisticRegression(C=C, max_iter=300), *cell.learned):
            fitted = of_margins(model, cell.table.X[1:], cell.table.n_classes)
            yield f"C={C:g} filter={name}", fitted


def cleaned_boosting(cell: Cell) -> Iterator[tuple[str, Fitted]]:
    """LightGBM without the rows that cleanlab takes for wrong."""
    for leaves in (4, 16):
        trees = lightgbm(cell.seed, n_estimators=60, num_leaves=leaves)
        for name, model in _cleaned(trees, *cell.columns):
            fitted = of_proba(model, cell.table.columns[1:], cell.table.n_classes)
            yield f"leaves={leaves} filter={name}", fitted


def _cleaned(model: Any, X: Array, y: Array) -> Iterator[tuple[str, Any]]:
    """Return a model fitted after each of cleanlab's filters, which share predictions."""
    from cleanlab.classification import CleanLearning

    proba = cross_val_predict(model, X, y, cv=5, method="predict_proba")
    for name in FILTERS:
        found = CleanLearning(model, find_label_issues_kwargs={"filter_by": name, "n_jobs": 1})
        yield name, found.fit(X, y, pred_probs=proba).clf


# --- networks ----------------------------------------------------------------------------------

NETWORK_SETS = ("digits", "letter", "magic", "adult", "spambase", "covtype")
EPOCHS = (10, 40)


def network(cell: Cell, loss: str) -> Iterator[tuple[str, Fitted]]:
    """Train a network of one hidden layer of 256 units, by Adam."""
    import torch
    from torch import nn

    from mgce_sklearn import torch as losses

    def module(n_features: int, n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n_features, 256), nn.ReLU(), nn.Linear(256, n_classes))

    torch.set_num_threads(1)
    X, y = cell.learned
    if loss == "CE":
        settings = grid(q=(0.0,), decay=(0.0, 1e-4, 1e-3, 1e-2), epochs=EPOCHS)
    else:
        settings = grid(q=(0.5, 1.0), decay=(0.0, 1e-3), epochs=EPOCHS)
    criterion = {"GCE": losses.GCELoss}.get(loss, losses.MGCELoss)
    for setting in settings:
        model = losses.MGCENetClassifier(
            module, q=setting["q"], criterion=criterion, optimizer=torch.optim.AdamW,
            optimizer__weight_decay=setting["decay"], lr=1e-3, batch_size=128,
            max_epochs=int(setting["epochs"]), random_state=cell.seed,
        ).fit(X.astype(np.float32), y)  # fmt: skip
        rest = [part.astype(np.float32) for part in cell.table.X[1:]]
        margins = tuple(wide(model.decision_function(part)).astype(float) for part in rest)
        yield named(setting), Fitted(margins, model.margins_to_proba)


# In the order in which they are computed; a bar before what serves decisions alone.
METHODS: dict[str, Method] = {
    "MGCE stacking": partial(corrected, base="default", settings=CORRECTIONS),
    "MGCE forest": partial(corrected, base="forest", settings=CORRECTIONS),
    "MGCE extra trees": partial(corrected, base="extra 5", settings=CORRECTIONS),
    "MGCE linear": partial(linear, qs=(0.5, 1.0)),
    "MGCE relu": partial(relu, qs=(0.5, 1.0)),
    "MGCE LightGBM": partial(corrected, base="LightGBM", settings=CORRECTIONS),
    "MGCE linear votes": partial(with_votes, features="linear"),
    "MGCE relu votes": partial(with_votes, features="relu"),
    "MGCE forest votes": partial(with_votes, features="forest"),
    "MGCE boosting": partial(our_boosting, qs=(0.7, 1.0)),
    "LR linear": partial(logistic, features="linear"),
    "LR relu": partial(logistic, features="relu"),
    "LR stacked": partial(logistic, features="stacked"),
    "q = 0 stacking": partial(corrected, base="default", settings=LOGISTIC_CORRECTIONS),
    "q = 0 forest": partial(corrected, base="forest", settings=LOGISTIC_CORRECTIONS),
    "q = 0 LightGBM": partial(corrected, base="LightGBM", settings=LOGISTIC_CORRECTIONS),
    "forward LR, true rate": partial(forward, known=True),
    "forward LR, estimated": partial(forward, known=False),
    "LinearSVC": support_vectors,
    "RandomForest": partial(trees, kind=RandomForestClassifier),
    "ExtraTrees": partial(trees, kind=ExtraTreesClassifier),
    "HistGradientBoosting": hist_boosting,
    "LightGBM": light_boosting,
    "cleanlab LR": cleaned_logistic,
    "cleanlab LightGBM": cleaned_boosting,
    "MLP CE": partial(network, loss="CE"),
    "MLP GCE": partial(network, loss="GCE"),
    "MLP MGCE": partial(network, loss="MGCE"),
    "| linear, other q": partial(linear, qs=(0.25, 0.75)),
    "| relu, other q": partial(relu, qs=(0.25, 0.75)),
    "| stacking, other": partial(corrected, base="default", settings=OTHER_CORRECTIONS),
    "| forest, other": partial(corrected, base="forest", settings=OTHER_CORRECTIONS),
    "| boosting, other q": partial(our_boosting, qs=(0.3, 0.5)),
    "| LightGBM, other": partial(corrected, base="LightGBM", settings=OTHER_CORRECTIONS),
}

# Methods that are for some of the sets only.
ONLY = {
    **dict.fromkeys(("MLP CE", "MLP GCE", "MLP MGCE"), NETWORK_SETS),
    **dict.fromkeys(("MGCE linear votes", "MGCE relu votes", "MGCE forest votes"), ("labelme",)),
}
