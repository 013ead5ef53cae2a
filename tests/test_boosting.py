"""MGCEBoostingClassifier: the loss as LightGBM's objective, and an estimator like the others."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from problems import load
from sklearn.utils.estimator_checks import parametrize_with_checks

lightgbm = pytest.importorskip("lightgbm")

from mgce_sklearn.boosting import MGCEBoostingClassifier  # noqa: E402

TREES = lightgbm.LGBMClassifier(n_estimators=20, learning_rate=0.5, min_child_samples=2, n_jobs=1, verbosity=-1)

@parametrize_with_checks([MGCEBoostingClassifier(TREES, n_iter_no_change=5), MGCEBoostingClassifier(TREES, n_iter_no_change=None)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)
