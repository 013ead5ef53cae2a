"""DaskMGCEClassifier: the same model of rows that lie on many machines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import distributed
import numpy as np
from dask.delayed import delayed
from sklearn.utils.validation import check_is_fitted

from mgce_sklearn import validation
from mgce_sklearn.bounds import ErrorBounds, Judged
from mgce_sklearn.classifier import Certificate, MGCEClassifier
from mgce_sklearn.dask.blocks import block_of, rows_of
from mgce_sklearn.dask.partitions import (
    check_collection,
    each,
    is_collection,
    partitions_of,
    shape_of,
)
from mgce_sklearn.dask.parts import RowsOnWorkers, Totals
from mgce_sklearn.dask.rounds import Cluster, ClusterError, Rounds
from mgce_sklearn.feature_maps import is_named, learns, len_of
from mgce_sklearn.parts import LostRows
from mgce_sklearn.problem import Problem, inverse_noise
from mgce_sklearn.row_blocks import names_of
from mgce_sklearn.targets import Distributions

# What is begun anew from its first round, if what workers kept for it was lost.
ATTEMPTS = 3


class _Rows:
    """A method of a model as a function of the rows of a partition, of none too."""

    def __init__(self, model: MGCEClassifier, name: str, empty: np.ndarray) -> None:
        self.model, self.name, self._empty = model, name, empty

    def __call__(self, X: Any) -> np.ndarray:
        X = X.to_scipy_sparse() if hasattr(X, "to_scipy_sparse") else X
        found = getattr(self.model, self.name)(X) if len_of(X) else self._empty
        return np.asarray(found, self._empty.dtype)

    def of_none(self) -> np.ndarray:
        return self._empty


class DaskMGCEClassifier(MGCEClassifier):
    r"""`MGCEClassifier` fitted to the rows of a Dask collection, where they lie.

    The problem, its solution and its certificate are those of `MGCEClassifier` on all rows: any
    partitions, in any order, give the same risk within ``tol``. Every worker computes sums over
    the rows that it holds. A sample of about 32,768 rows at most goes to the client, where the fit
    starts from its solution: the client's memory does not grow with the rows.

    Parameters
    ----------
    q, lam, fit_intercept, center, tol, max_iter, max_time, class_weight
        As in `MGCEClassifier`.
    width, delta, feature_range, warm_start, noise_matrix, random_state, verbose
        As in `MGCEClassifier`.
    solver : {"auto", "interior_point", "lbfgs"}, default="auto"
        As there. The others ask for rows in one memory.
    feature_map : torch.nn.Module, callable or None, default=None
        A function of the rows of a partition, or a network. One that must be fitted is refused:
        fit it to a sample, and give its ``transform``.
    client : distributed.Client, default=None
        None: the client that was made last. It is no parameter of the model: `clone` and pickle
        leave it out.

    Attributes
    ----------
    coef_, intercept_, classes_, minimax_risk_, dual_gap_, uncertainty_set_
        As in `MGCEClassifier`.
    n_iter_, trace_, solver_, n_features_in_, feature_names_in_
        As in `MGCEClassifier`.

    Notes
    -----
    Give ``fit`` dask arrays (of dense or of sparse blocks), dataframes, or lists of delayed
    partitions. Chunks may have unknown sizes, and partitions may be empty or lack classes. Labels
    of any kind, distributions, weights, class weights and a ``noise_matrix`` are taken as by
    `MGCEClassifier`.

    A step of "interior_point" takes about five rounds. In each of them a worker is told the
    coefficients, and sends sums: as many numbers as there are coefficients, or in one of five
    rounds the square of that. For more than some thousand coefficients a step takes conjugate
    gradients, and one round for each of their products.

    A worker that dies is made up for: Dask computes its rows again, from the graph that they came
    from, and the fit goes on. Each partition counts once whatever happens. Rows that are not the
    same when they are computed again are an error, and so are workers that die over and over, or
    that do not come back within a minute. Data that were scattered cannot be computed again.

    In a worker a round is one task. It takes the worker's threads that are idle, and begins none.

    Predictions of collections are lazy, and of the kind of X. Those of arrays are arrays.

    References
    ----------
    .. [1] "Minimax Generalized Cross-Entropy", 2026.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.dask import DaskMGCEClassifier
    >>> X, y = (da.from_array(a, chunks=50) for a in load_iris(return_X_y=True))
    >>> with Client(processes=False, dashboard_address=None) as client:
    ...     model = DaskMGCEClassifier(q=0.7, lam=0.3).fit(X, y)
    ...     accuracy = model.score(X, y)
    >>> print(f"{accuracy:.2f}, {model.minimax_risk_:.3f}")
    0.96, 0.189
    """

    def __init__(
        self,
        q: float = 0.5,
        lam: float = 0.3,
        *,
        fit_intercept: bool = True,
        center: Any = "auto",
        solver: str = "auto",
        tol: float = 1e-4,
        max_iter: int | None = None,
        max_time: float | None = None,
        class_weight: Any = None,
        width: Any = "standard_error",
        delta: float = 0.05,
        feature_range: Any = None,
        warm_start: bool = False,
        feature_map: Any = None,
        noise_matrix: Any = None,
        random_state: Any = None,
        verbose: int = 0,
        client: distributed.Client | None = None,
    ) -> None:
        super().__init__(
            q,
            lam,
            fit_intercept=fit_intercept,
            center=center,
            solver=solver,
            tol=tol,
            max_iter=max_iter,
            max_time=max_time,
            class_weight=class_weight,
            width=width,
            delta=delta,
            feature_range=feature_range,
            warm_start=warm_start,
            feature_map=feature_map,
            noise_matrix=noise_matrix,
            random_state=random_state,
            verbose=verbose,
        )
        self.client = client

    _calls = 2  # of this class, and of `_again`

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return MGCEClassifier._get_param_names()

    def __getstate__(self) -> Any:
        return {**super().__getstate__(), "client": None}

    def to_local(self) -> MGCEClassifier:
        """Return the same model as an `MGCEClassifier`, which knows nothing of Dask.

        Returns
        -------
        MGCEClassifier
        """
        local = MGCEClassifier(**self.get_params(deep=False))
        local.__dict__.update((k, v) for k, v in vars(self).items() if k != "client")
        return local

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> DaskMGCEClassifier:
        """Fit the coefficients and certify them.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features), or list of Delayed
            Finite numbers. Arrays are used in chunks of rows, with all columns. The blocks of an
            array may be sparse matrices of scipy.
        y : dask Array, Series or DataFrame, or list of Delayed
            Labels, or distributions over the classes, in the partitions of X.
        sample_weight : dask Array or Series, or list of Delayed, default=None
            Non-negative.

        Returns
        -------
        DaskMGCEClassifier
            The fitted classifier.

        Raises
        ------
        TypeError, ValueError
            For a parameter or data that cannot be used, with the partition. The estimator stays as
            it was.
        ClusterError
            A RuntimeError: if workers, or the scheduler, went away for good.
        EmptySetError
            A ValueError: with a ``noise_matrix``, if no true labels have means within the set.
        KeyboardInterrupt
            On Ctrl-C; see `MGCEClassifier.fit`.

        Warns
        -----
        ConvergenceWarning
            If the gap exceeds ``tol``, with the reason. ``minimax_risk_`` is a valid bound all the
            same.
        """
        return _again(partial(super().fit, X, y, sample_weight))

    @property
    def partial_fit(self) -> Any:
        """Not there: `MGCEClassifier.partial_fit` takes partitions one by one."""
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute 'partial_fit': give partitions to "
            "that of MGCEClassifier."
        )

    def _problem_of(self, X: Any, y: Any, sample_weight: Any, base_margin: Any) -> Problem:
        if learns(self.feature_map):
            got = repr(self.feature_map) if is_named(self.feature_map) else "a transformer"
            raise ValueError(
                f"feature_map must be None or a function of rows for rows on many machines; got "
                f"{got}. Fit a transformer to a sample, and give its method transform."
            )
        cells = _labeled_partitions(X, y, sample_weight)
        rounds, totals = self._brought(cells, None)
        for name in ("feature_names_in_", "n_features_in_"):
            self.__dict__.pop(name, None)
        if totals.names is not None:
            self.feature_names_in_ = np.asarray(totals.names, dtype=object)
        if self.feature_map is not None:
            self.feature_map_ = self.feature_map
            n_columns = next(fact.n_given for fact in rounds.facts if fact.likeness is not None)
            if n_columns is not None:
                self.n_features_in_ = n_columns
        return self._problem_on_workers(rounds, totals, self.fit_intercept)

    def _brought(self, cells: list[Any], known: Any) -> tuple[Rounds, Totals]:
        """Have the blocks of partitions on workers, of ``known`` classes if there are."""
        client = self._connected()
        task, feature_map = delayed(block_of, pure=False), self.feature_map
        if feature_map is not None:
            feature_map = delayed(feature_map, pure=False)  # sent to a worker once
        tasks = [task(i, feature_map, known, *cell) for i, cell in enumerate(cells)]
        rounds = Rounds(client, client.compute(tasks))
        return rounds, Totals(rounds.facts)

    def _problem_on_workers(self, rounds: Rounds, totals: Totals, fit_intercept: bool) -> Problem:
        inverse = inverse_noise(
            self.noise_matrix, self.class_weight, totals.classes, totals.certain
        )
        ends = validation.ends_of_range(self.feature_range, totals.n_columns, totals.dtype)
        width = self._width(ends)
        parts = RowsOnWorkers.of(rounds, totals, fit_intercept, self.class_weight)
        return Problem.from_parts(parts, totals.classes, width, self.center, inverse)

    def _connected(self) -> distributed.Client:
        """Return the client to work with.

        Raises
        ------
        TypeError, ClusterError
            If it is asynchronous, or there is none that runs.
        """
        client: Any = self.client
        if client is None:
            try:
                client = distributed.get_client()
            except ValueError:
                raise ClusterError(
                    "client must be a distributed.Client, or one must have been made; there is "
                    "none. Try client = distributed.Client() before, which uses this machine."
                ) from None
        if not isinstance(client, distributed.Client):
            raise TypeError(
                f"client must be a distributed.Client; got {client!r}. Try Client(address)."
            )
        if client.asynchronous:
            raise TypeError(
                "client must be synchronous; got an asynchronous one. Make it by Client(address), "
                "and call this method in a thread: await asyncio.to_thread(model.fit, X, y)."
            )
        Cluster(client).check()
        return client

    def certificate(  # type: ignore[override]  # there are no base margins here
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> Certificate:
        """Compute the bound, and its distance from the best one, for labeled rows.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; every class must occur. Or rows in memory.

        Returns
        -------
        Certificate
            See `MGCEClassifier.certificate`.

        Raises
        ------
        TypeError, ValueError, ClusterError
            As in `fit`; or if the classes are not those of the fit.
        """
        return _again(partial(super().certificate, X, y, sample_weight))

    def _problem_of_others(self, X: Any, y: Any, sample_weight: Any, base_margin: Any) -> Problem:
        if not is_collection(X):
            return super()._problem_of_others(X, y, sample_weight, base_margin)
        self._check_collection(X)
        rounds, totals = self._brought(_labeled_partitions(X, y, sample_weight), self.classes_)
        self._check_mapped(totals)
        return self._problem_on_workers(rounds, totals, self._has_intercept())

    def error_bounds(  # type: ignore[override]
        self,
        X: Any,
        rule: str = "deterministic",
        sample_weight: Any = None,
        tol: float = 1e-3,
        *,
        cost: Any = None,
        max_time: float | None = None,
        verbose: int = 0,
    ) -> ErrorBounds:
        """Bound the error of the fitted rule over the uncertainty set from both sides.

        Parameters
        ----------
        X, sample_weight
            As in `fit`: rows without labels. Or rows in memory.
        rule, tol, cost, max_time, verbose
            As in `MGCEClassifier.error_bounds`.

        Returns
        -------
        ErrorBounds
            See `MGCEClassifier.error_bounds`.

        Raises
        ------
        EmptySetError
            A ValueError: no labels give the rows of X means within the set.
        TypeError, ValueError, ClusterError
            For an argument that cannot be used, or workers that went away.
        """
        options = {"cost": cost, "max_time": max_time, "verbose": verbose}
        return _again(partial(super().error_bounds, X, rule, sample_weight, tol, **options))

    def _judged(self, X: Any, rule: str, sample_weight: Any, cost: Any, base_margin: Any) -> Judged:
        if not is_collection(X):
            return super()._judged(X, rule, sample_weight, cost, base_margin)
        self._check_collection(X)
        rounds, totals = self._brought(partitions_of(X, None, sample_weight), None)
        self._check_mapped(totals)
        parts = RowsOnWorkers.of(rounds, totals, self._has_intercept(), labeled=False)
        return self._judged_parts(parts, rule, cost)

    def score(  # type: ignore[override]
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> float:
        """Compute the accuracy of `predict`, expected if labels are distributions.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`, or rows in memory.

        Returns
        -------
        float
        """
        if not is_collection(X):
            return self.to_local().score(X, y, sample_weight)
        self._check_collection(X)
        cells = _labeled_partitions(X, y, sample_weight)
        client = self._connected()
        task, model = (delayed(one, pure=False) for one in (_hits, self._sent()))
        tasks = [task(model, i, *cell) for i, cell in enumerate(cells)]
        found = Cluster(client).gathered(client.compute(tasks))
        for one in found:
            if isinstance(one, str):
                raise ValueError(one)
        right, total = np.sum(found, axis=0)
        return float(right / validation.check_total_weight(float(total)))

    def _sent(self) -> MGCEClassifier:
        """Return what workers predict by. Callbacks of scikit-learn, from 1.9 on, stay here."""
        local = self.to_local()
        if hasattr(local, "set_callbacks"):
            local.set_callbacks()
        return local

    def _checked(self, X: Any) -> Any:
        if is_collection(X):
            raise TypeError(
                f"X must be rows in memory here; got a dask {type(X).__name__}. Try X.compute()."
            )
        return super()._checked(X)

    def _check_collection(self, X: Any) -> None:
        """Raise an error unless the model is fitted, and a collection has the fit's columns."""
        check_is_fitted(self)
        check_collection(X, "X")
        n_columns, names = shape_of(X)
        if n_columns is not None and hasattr(self, "n_features_in_"):
            self._check_columns(n_columns, names)

    def _check_mapped(self, totals: Totals) -> None:
        """Raise ValueError unless blocks have the columns of the fit."""
        if self.feature_map is None:
            self._check_columns(totals.n_columns, totals.names)

    def _of_each(self, name: str, X: Any, columns: Any = None, dtype: Any = np.float64) -> Any:
        """Return what a method gives of rows: at once, or lazily of a collection."""
        if not is_collection(X):
            return getattr(self.to_local(), name)(X)
        self._check_collection(X)
        empty = np.empty((0,) if columns is None else (0, len(columns)), dtype)
        return each(_Rows(self._sent(), name, empty), X, columns)

    def decision_function(self, X: Any) -> Any:
        """Compute margins, lazily of collections.

        Parameters
        ----------
        X : dask Array or DataFrame, list of Delayed, or rows in memory

        Returns
        -------
        of X's kind, of shape (n_samples,) or (n_samples, n_classes)
            For two classes the margin of ``classes_[1]`` less that of ``classes_[0]``.
        """
        check_is_fitted(self)
        columns = self.classes_ if len(self.classes_) > 2 else None
        return self._of_each("decision_function", X, columns)

    def predict(self, X: Any) -> Any:
        """Predict the class of largest margin, lazily of collections.

        Parameters
        ----------
        X : dask Array or DataFrame, list of Delayed, or rows in memory

        Returns
        -------
        of X's kind, of shape (n_samples,)
        """
        check_is_fitted(self)
        return self._of_each("predict", X, dtype=self.classes_.dtype)

    def predict_proba(self, X: Any) -> Any:
        """Compute the minimax rule, lazily of collections; see `MGCEClassifier.predict_proba`.

        Parameters
        ----------
        X : dask Array or DataFrame, list of Delayed, or rows in memory

        Returns
        -------
        of X's kind, of shape (n_samples, n_classes)
            Each row sums to 1. The columns of a frame are the classes.
        """
        check_is_fitted(self)
        return self._of_each("predict_proba", X, self.classes_)

    def predict_log_proba(self, X: Any) -> Any:
        """Compute the logarithm of `predict_proba`, -inf where that is 0, lazily of collections.

        Parameters
        ----------
        X : dask Array or DataFrame, list of Delayed, or rows in memory

        Returns
        -------
        of X's kind, of shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        return self._of_each("predict_log_proba", X, self.classes_)

    def predict_worst_case_proba(self, X: Any) -> Any:
        """Compute the worst-case distribution, lazily of collections.

        Parameters
        ----------
        X : dask Array or DataFrame, list of Delayed, or rows in memory

        Returns
        -------
        of X's kind, of shape (n_samples, n_classes)
            See `MGCEClassifier.predict_worst_case_proba`.
        """
        check_is_fitted(self)
        return self._of_each("predict_worst_case_proba", X, self.classes_)


def _again(work: Callable[[], Any]) -> Any:
    """Return what work does, begun anew where rows lost what it cannot make again."""
    for _ in range(ATTEMPTS):
        try:
            return work()
        except LostRows as error:
            lost = error
    raise ClusterError(
        f"Workers went away in each of {ATTEMPTS} attempts. Look at their logs, and whether their "
        "memory suffices."
    ) from lost


def _labeled_partitions(X: Any, y: Any, sample_weight: Any) -> list[Any]:
    """Return partitions of rows that have labels."""
    cells = partitions_of(X, y, sample_weight)
    if y is None:
        raise ValueError("y must be given with X: labels in the partitions of X. Got None.")
    return cells


def _hits(model: MGCEClassifier, number: int, X: Any, y: Any, sample_weight: Any) -> Any:
    """Return the weight of rows that are predicted as they are labeled, and of all: a task.

    Or, in a sentence, why they cannot be used.
    """
    try:
        rows = rows_of(model.feature_map, model.classes_, X, y, sample_weight)
        if rows is None or not rows.X.shape[0]:
            return 0.0, 0.0
        if model.feature_map is None:
            model._check_columns(rows.X.shape[1], names_of(X))
        predicted = model.classes_[model._margins_of(rows.X).argmax(axis=1)]
        weights = np.ones(len(predicted)) if rows.sample_weight is None else rows.sample_weight
        return _accuracy(rows.y, predicted, weights) * weights.sum(), weights.sum()
    except (TypeError, ValueError) as error:
        return f"Partition {number}: {error}"


def _accuracy(labels: Any, predicted: np.ndarray, weights: np.ndarray) -> float:
    """Return the share of labels, or of distributions, that is as predicted."""
    if isinstance(labels, Distributions):
        return labels.expected_accuracy(predicted, weights)
    if (labels.dtype.kind in "SU") != (predicted.dtype.kind in "SU"):
        raise ValueError(
            f"y must have labels of the kind of the fit, {predicted.dtype}; got {labels.dtype}. "
            "Give the labels that the model has learned."
        )
    return float(np.average(predicted == labels, weights=weights))
