"""DaskMGCEClassifier: MGCEClassifier fitted to rows on many machines."""

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
from mgce_sklearn.dask.blocks import block_of, checked_rows
from mgce_sklearn.dask.partitions import (
    check_collection,
    is_collection,
    map_rows,
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

# How often a fit, or a bound, is computed from the beginning, if workers lose arrays that it needs.
MOST_RUNS = 3


class _PredictionMethod:
    """A method of a model, by name, as a function of the rows of a partition."""

    def __init__(self, model: MGCEClassifier, name: str, empty: np.ndarray) -> None:
        self.model, self.name, self.empty = model, name, empty

    def __call__(self, X: Any) -> np.ndarray:
        X = X.to_scipy_sparse() if hasattr(X, "to_scipy_sparse") else X
        found = getattr(self.model, self.name)(X) if len_of(X) else self.empty
        return np.asarray(found, self.empty.dtype)


class DaskMGCEClassifier(MGCEClassifier):
    r"""`MGCEClassifier` fitted to the rows of a Dask collection, on the workers that hold them.

    The fit solves the problem of `MGCEClassifier` for all rows, and ends at the same duality gap.
    So any partitions, in any order, lead to the same risk within ``tol``. Every worker computes
    sums over the rows that it holds. A sample of about 32,768 rows at most is sent to the client,
    and the fit starts from the solution for the sample. So the client's memory does not grow with
    the number of rows.

    Parameters
    ----------
    q, lam, fit_intercept, center, tol, max_iter, max_time, class_weight
        As in `MGCEClassifier`.
    width, delta, feature_range, warm_start, noise_matrix, random_state, verbose
        As in `MGCEClassifier`.
    solver : {"auto", "interior_point", "lbfgs"}, default="auto"
        As in `MGCEClassifier`. The other solvers need all rows in one memory.
    feature_map : torch.nn.Module, callable or None, default=None
        A network, or a function of the rows of a partition. A transformer that must be fitted is
        an error: fit it to a sample, and give its method ``transform``.
    client : distributed.Client, default=None
        None: the client that was made last. It is not a parameter in scikit-learn's sense: it is
        not in ``get_params``, and `clone` and pickle leave it out.

    Attributes
    ----------
    coef_, intercept_, classes_, minimax_risk_, dual_gap_, uncertainty_set_
        As in `MGCEClassifier`.
    n_iter_, trace_, solver_, n_features_in_, feature_names_in_
        As in `MGCEClassifier`.

    Notes
    -----
    *Data.* `fit` takes dask arrays (of dense or sparse blocks), dataframes, or lists of delayed
    partitions. Chunks may have unknown sizes, and partitions may be empty or lack classes. Labels
    of any kind, distributions, weights, class weights and a ``noise_matrix`` work as in
    `MGCEClassifier`.

    *Communication.* A step of "interior_point" takes about five rounds. In each round the
    coefficients are sent to every worker, and sums come back. These are as many numbers as there
    are coefficients; in one of five rounds, as many as the square of that. For more than some
    thousand coefficients, a step uses conjugate gradients, with one round for each of their
    products.

    *Lost workers.* If a worker dies, Dask computes its rows again, from the graph that made them,
    and the fit continues. Each partition counts exactly once. It is an error if rows are different
    when they are computed again, if workers die repeatedly, or if there is no worker for a minute.
    Scattered data cannot be computed again.

    *Threads.* A round is one task for each worker. It uses idle threads of the worker, and starts
    none.

    *Predictions* of collections are lazy: a dask array for an array, a dataframe or series for a
    dataframe, a list of Delayed for a list. For rows in memory they are arrays. The columns of a
    dataframe are named by the classes.

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

    _calls = (
        2  # frames between a user's call and MGCEClassifier's: this class, and `_rerun_on_loss`
    )

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return MGCEClassifier._get_param_names()

    def __getstate__(self) -> Any:
        return {**super().__getstate__(), "client": None}

    def to_local(self) -> MGCEClassifier:
        """Return the same model as an `MGCEClassifier`, which does not need Dask.

        Returns
        -------
        MGCEClassifier
            With the parameters and fitted attributes of this one.
        """
        local = MGCEClassifier(**self.get_params(deep=False))
        local.__dict__.update((k, v) for k, v in vars(self).items() if k != "client")
        return local

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> DaskMGCEClassifier:
        """Fit the coefficients, and bound their distance from the optimum.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features), or list of Delayed
            Finite numbers. Arrays are cut into chunks that have all columns. The blocks of an array
            may be sparse matrices of scipy.
        y : dask Array, Series or DataFrame, or list of Delayed
            Labels, or distributions over the classes, in the same partitions as X.
        sample_weight : dask Array or Series, or list of Delayed, default=None
            Non-negative.

        Returns
        -------
        DaskMGCEClassifier
            The fitted classifier.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data cannot be used. The message names the partition. The
            estimator stays as it was.
        ClusterError
            A RuntimeError: if workers, or the scheduler, have gone for good.
        EmptySetError
            A ValueError: with a ``noise_matrix``, if no labeling of X is consistent with the
            uncertainty set.
        KeyboardInterrupt
            On Ctrl-C; see `MGCEClassifier.fit`.

        Warns
        -----
        ConvergenceWarning
            If the relative duality gap exceeds ``tol``, with the reason. ``minimax_risk_`` is still
            a valid bound.
        """
        return _rerun_on_loss(partial(super().fit, X, y, sample_weight))

    @property
    def partial_fit(self) -> Any:
        """Not available: pass partitions one by one to `MGCEClassifier.partial_fit`."""
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute 'partial_fit': pass partitions one "
            "by one to partial_fit of MGCEClassifier."
        )

    def _problem_of(self, X: Any, y: Any, sample_weight: Any, base_margin: Any) -> Problem:
        if learns(self.feature_map):
            got = repr(self.feature_map) if is_named(self.feature_map) else "a transformer"
            raise ValueError(
                f"feature_map must be None or a function of rows for rows on many machines; got "
                f"{got}. Fit a transformer to a sample, and give its method transform."
            )
        partitions = _labeled_partitions(X, y, sample_weight)
        rounds, totals = self._loaded(partitions, None)
        for name in ("feature_names_in_", "n_features_in_"):
            self.__dict__.pop(name, None)
        if totals.names is not None:
            self.feature_names_in_ = np.asarray(totals.names, dtype=object)
        if self.feature_map is not None:
            self.feature_map_ = self.feature_map
            n_columns = next(each.n_given for each in rounds.summaries if each.likeness is not None)
            if n_columns is not None:
                self.n_features_in_ = n_columns
        return self._problem_on_workers(rounds, totals, self.fit_intercept)

    def _loaded(self, partitions: list[Any], known: Any) -> tuple[Rounds, Totals]:
        """Load partitions as blocks on workers; ``known`` are the classes of a fit, or None."""
        client = self._connected()
        task, feature_map = delayed(block_of, pure=False), self.feature_map
        if feature_map is not None:
            feature_map = delayed(feature_map, pure=False)  # sent to a worker once
        tasks = [task(i, feature_map, known, *each) for i, each in enumerate(partitions)]
        rounds = Rounds(client, client.compute(tasks))
        return rounds, Totals(rounds.summaries)

    def _problem_on_workers(self, rounds: Rounds, totals: Totals, fit_intercept: bool) -> Problem:
        inverse = inverse_noise(
            self.noise_matrix, self.class_weight, totals.classes, totals.certain
        )
        ends = validation.ends_of_range(self.feature_range, totals.n_columns, totals.dtype)
        width = self._width(ends)
        parts = RowsOnWorkers.of(rounds, totals, fit_intercept, self.class_weight)
        return Problem.from_parts(parts, totals.classes, width, self.center, inverse)

    def _connected(self) -> distributed.Client:
        """Return the client to use.

        Raises
        ------
        TypeError
            If it is no client, or an asynchronous one.
        ClusterError
            If there is no client, or no scheduler or worker.
        """
        client: Any = self.client
        if client is None:
            try:
                client = distributed.get_client()
            except ValueError:
                raise ClusterError(
                    "client must be a distributed.Client, or one must have been made before; there "
                    "is none. Try client = distributed.Client(), which uses this machine."
                ) from None
        if not isinstance(client, distributed.Client):
            raise TypeError(
                f"client must be a distributed.Client; got {client!r}. Try Client(address)."
            )
        if client.asynchronous:
            raise TypeError(
                "client must be synchronous; got an asynchronous one. Use Client(address), and "
                "call this method in a thread: await asyncio.to_thread(model.fit, X, y)."
            )
        Cluster(client).check()
        return client

    def certificate(  # type: ignore[override]  # there are no base margins here
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> Certificate:
        """Compute the minimax risk and its duality gap for labeled rows.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`, or rows in memory. Every class must occur.

        Returns
        -------
        Certificate
            See `MGCEClassifier.certificate`.

        Raises
        ------
        TypeError, ValueError, ClusterError
            As in `fit`, or if the classes are not those of the fit.
        """
        return _rerun_on_loss(partial(super().certificate, X, y, sample_weight))

    def _problem_of_others(self, X: Any, y: Any, sample_weight: Any, base_margin: Any) -> Problem:
        if not is_collection(X):
            return super()._problem_of_others(X, y, sample_weight, base_margin)
        self._check_collection(X)
        rounds, totals = self._loaded(_labeled_partitions(X, y, sample_weight), self.classes_)
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
            Rows without labels, as in `fit` or in memory, and their weights.
        rule, tol, cost, max_time, verbose
            As in `MGCEClassifier.error_bounds`.

        Returns
        -------
        ErrorBounds
            See `MGCEClassifier.error_bounds`.

        Raises
        ------
        EmptySetError
            A ValueError: no labeling of X is consistent with the uncertainty set.
        TypeError, ValueError, ClusterError
            If an argument cannot be used, or if workers have gone.
        """
        options = {"cost": cost, "max_time": max_time, "verbose": verbose}
        return _rerun_on_loss(partial(super().error_bounds, X, rule, sample_weight, tol, **options))

    def _judged(self, X: Any, rule: str, sample_weight: Any, cost: Any, base_margin: Any) -> Judged:
        if not is_collection(X):
            return super()._judged(X, rule, sample_weight, cost, base_margin)
        self._check_collection(X)
        rounds, totals = self._loaded(partitions_of(X, None, sample_weight), None)
        self._check_mapped(totals)
        parts = RowsOnWorkers.of(rounds, totals, self._has_intercept(), labeled=False)
        return self._judged_parts(parts, rule, cost)

    def score(  # type: ignore[override]
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> float:
        """Compute the accuracy of `predict`; its expectation if labels are distributions.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`, or rows in memory.

        Returns
        -------
        float
            Weighted share of rows whose label is predicted.
        """
        if not is_collection(X):
            return self.to_local().score(X, y, sample_weight)
        self._check_collection(X)
        partitions = _labeled_partitions(X, y, sample_weight)
        client = self._connected()
        task, model = (delayed(one, pure=False) for one in (_correct_weight, self._sent()))
        tasks = [task(model, i, *each) for i, each in enumerate(partitions)]
        found = Cluster(client).gathered(client.compute(tasks))
        for one in found:
            if isinstance(one, str):
                raise ValueError(one)
        correct, total = np.sum(found, axis=0)
        return float(correct / validation.check_total_weight(float(total)))

    def _sent(self) -> MGCEClassifier:
        """Return the model that is sent to workers, without callbacks (of scikit-learn >= 1.9)."""
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
        """Raise an error unless the model is fitted and the collection has the fit's columns."""
        check_is_fitted(self)
        check_collection(X, "X")
        n_columns, names = shape_of(X)
        if n_columns is not None and hasattr(self, "n_features_in_"):
            self._check_columns(n_columns, names)

    def _check_mapped(self, totals: Totals) -> None:
        """Raise ValueError unless blocks have the columns of the fit, if there is no map."""
        if self.feature_map is None:
            self._check_columns(totals.n_columns, totals.names)

    def _predictions(self, name: str, X: Any, columns: Any = None, dtype: Any = np.float64) -> Any:
        """Return the value of a prediction method: for a collection lazily, otherwise at once."""
        if not is_collection(X):
            return getattr(self.to_local(), name)(X)
        self._check_collection(X)
        empty = np.empty((0,) if columns is None else (0, len(columns)), dtype)
        return map_rows(_PredictionMethod(self._sent(), name, empty), X, columns)

    def decision_function(self, X: Any) -> Any:
        """Compute margins, lazily for collections. See `MGCEClassifier.decision_function`."""
        check_is_fitted(self)
        columns = self.classes_ if len(self.classes_) > 2 else None
        return self._predictions("decision_function", X, columns)

    def predict(self, X: Any) -> Any:
        """Predict labels, lazily for collections. See `MGCEClassifier.predict`."""
        check_is_fitted(self)
        return self._predictions("predict", X, dtype=self.classes_.dtype)

    def predict_proba(self, X: Any) -> Any:
        """Compute the minimax rule, lazily for collections. See `MGCEClassifier.predict_proba`."""
        check_is_fitted(self)
        return self._predictions("predict_proba", X, self.classes_)

    def predict_log_proba(self, X: Any) -> Any:
        """Compute its logarithm, lazily for collections. See `MGCEClassifier.predict_log_proba`."""
        check_is_fitted(self)
        return self._predictions("predict_log_proba", X, self.classes_)

    def predict_worst_case_proba(self, X: Any) -> Any:
        """Compute the worst-case distribution, lazily for collections.

        See `MGCEClassifier.predict_worst_case_proba`.
        """
        check_is_fitted(self)
        return self._predictions("predict_worst_case_proba", X, self.classes_)


def _rerun_on_loss(work: Callable[[], Any]) -> Any:
    """Return ``work()``, run again if workers lose arrays that it cannot restore by itself."""
    for _ in range(MOST_RUNS):
        try:
            return work()
        except LostRows as error:
            lost = error
    raise ClusterError(
        f"Workers were lost in each of {MOST_RUNS} attempts. Look at their logs, and check whether "
        "they have enough memory."
    ) from lost


def _labeled_partitions(X: Any, y: Any, sample_weight: Any) -> list[Any]:
    """Return the partitions of X, y and weights; raise ValueError if there are no labels."""
    partitions = partitions_of(X, y, sample_weight)
    if y is None:
        raise ValueError("y must be given with X: labels in the partitions of X. Got None.")
    return partitions


def _correct_weight(model: MGCEClassifier, number: int, X: Any, y: Any, sample_weight: Any) -> Any:
    """Return the weight of correctly predicted rows and that of all rows. This is a task.

    If the rows cannot be used, it returns the reason as a string.
    """
    try:
        rows = checked_rows(model.feature_map, model.classes_, X, y, sample_weight)
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
    """Return the weighted accuracy, expected if labels are distributions."""
    if isinstance(labels, Distributions):
        return labels.expected_accuracy(predicted, weights)
    if (labels.dtype.kind in "SU") != (predicted.dtype.kind in "SU"):
        raise ValueError(
            f"y must have labels of the kind of the fit, {predicted.dtype}; got {labels.dtype}. "
            "Give the labels that were used in fit."
        )
    return float(np.average(predicted == labels, weights=weights))
