"""
Wider sets, wider bounds
========================

``lam`` is the width of the uncertainty set in standard errors. The bounds of ``error_bounds``
hold for every distribution in the set.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.plot import ErrorBoundDisplay

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
models = [MGCEClassifier(lam=lam).fit(X_train, y_train) for lam in (0.03, 0.1, 0.3, 1.0, 3.0)]
display = ErrorBoundDisplay.from_estimator(
    models, X_train, X_test=X_test, y_test=y_test, rules=["deterministic"]
)
print(display.frame().round(3).to_string())
plt.show()

# %%
# **What the figure shows:** the band widens with ``lam``. The narrowest band does not hold the
# error on the test rows, the wider ones do. Nothing guarantees that: it is a measurement on one
# split.
