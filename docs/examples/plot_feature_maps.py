"""
Feature maps bend the boundary
==============================

On the columns alone the model is linear. ``feature_map`` puts more features beside them.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import make_moons
from sklearn.inspection import DecisionBoundaryDisplay

from mgce_sklearn import MGCEClassifier

X, y = make_moons(400, noise=0.25, random_state=0)
X_test, y_test = make_moons(2_000, noise=0.25, random_state=1)
fig, axes = plt.subplots(2, 2, figsize=(6.4, 5), layout="constrained", sharex=True, sharey=True)
for ax, feature_map in zip(axes.flat, (None, "relu", "fourier", "threshold"), strict=True):
    model = MGCEClassifier(lam=0.1, feature_map=feature_map, random_state=0).fit(X, y)
    DecisionBoundaryDisplay.from_estimator(
        model, X, ax=ax, response_method="predict_proba", cmap="RdBu_r", alpha=0.7
    )
    ax.scatter(*X.T, c=y, s=6, cmap="RdBu_r", edgecolor="k", linewidth=0.2)
    ax.set_title(f"{feature_map}: accuracy {model.score(X_test, y_test):.3f}", fontsize=10)
plt.show()

# %%
# **What the figure shows:** the linear boundary cannot follow the moons. Random units and waves
# can; thresholds do it by steps along the axes.
