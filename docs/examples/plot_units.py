"""
Units of columns do not matter
==============================

One column of the wine data is given in other units. Logistic regression has one penalty for all
columns and so depends on units; ours has one in standard errors of each.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier

X, y = load_wine(return_X_y=True)
X = StandardScaler().fit_transform(X)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
factors = np.geomspace(1e-3, 1e3, 13)
losses = {"LogisticRegression": [], "MGCEClassifier, q = 0": []}
warnings.simplefilter("ignore", ConvergenceWarning)
for factor in factors:
    unit = np.r_[np.full(6, factor), np.ones(X.shape[1] - 6)]  # six columns in another unit
    for name, model in zip(losses, (LogisticRegression(), MGCEClassifier(q=0)), strict=True):
        proba = model.fit(X_train * unit, y_train).predict_proba(X_test * unit)
        losses[name].append(log_loss(y_test, proba))
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for name, values in losses.items():
    ax.plot(factors, values, "o-", label=name)
    print(f"{name}: log loss from {min(values):.4f} to {max(values):.4f}")
ax.set(xscale="log", xlabel="factor on six columns", ylabel="log loss on test rows", ylim=(0, None))
ax.legend()
plt.show()

# %%
# **What the figure shows:** the log loss of ``MGCEClassifier`` is the same whatever the unit.
# That of logistic regression is smaller on standardized columns (factor 1), and larger in most
# other units.
