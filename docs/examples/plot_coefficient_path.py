"""
Coefficients vanish as lam grows
================================

The penalty of each coefficient is ``lam`` standard errors of its feature mean. ``mgce_path``
solves a grid, each point from its neighbor.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import lam_max, mgce_path
from mgce_sklearn.plot import CoefficientPathDisplay

data = load_breast_cancer()
X = StandardScaler().fit_transform(data.data)  # to draw coefficients on one scale
largest = lam_max(X, data.target)
path = mgce_path(X, data.target, qs=[0.5], lams=np.geomspace(0.1, largest, 15))
CoefficientPathDisplay.from_path(path, feature_names=data.feature_names, n_named=4)
used = (path.coefs[0] != 0).sum(axis=(1, 2))
print(f"{used[0]} of {X.shape[1]} features at lam = 0.1, {used[-1]} at lam_max = {largest:.1f}")
plt.show()

# %%
# **What the figure shows:** one feature after another leaves the model. At ``lam_max`` none is
# left.
