"""The figure of the page of this name."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from mgce_sklearn import MGCEStackingClassifier
from mgce_sklearn.label_noise import symmetric_noise

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
wrong = symmetric_noise(y_train, 0.3, random_state=0)
corrected = MGCEStackingClassifier(random_state=0).fit(X_train, wrong)
fig, axes = plt.subplots(1, 2, sharex=True, sharey=True, figsize=(7, 3), layout="constrained")
models = {"forest": corrected.estimator_, "corrected": corrected}
for ax, (name, model) in zip(axes, models.items(), strict=True):
    right = model.predict_proba(X_test)[np.arange(len(y_test)), y_test]
    ax.hist(right, bins=np.linspace(0, 1, 21))
    ax.set(title=name, xlabel="probability of the right class")
axes[0].set_ylabel("test rows")
