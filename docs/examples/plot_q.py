"""
A larger q when many labels are wrong
=====================================

40% of the training labels of digits are wrong. Every q is fitted to them and judged on right
labels.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.label_noise import symmetric_noise
from mgce_sklearn.metrics import expected_calibration_error

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
wrong = symmetric_noise(y_train, 0.4, random_state=0)
qs = np.linspace(0, 1, 6)
models = [MGCEClassifier(q=q).fit(X_train, wrong) for q in qs]
accuracy = [model.score(X_test, y_test) for model in models]
error = [expected_calibration_error(y_test, model.predict_proba(X_test)) for model in models]
print(np.round([qs, accuracy, error], 3))
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
ax.plot(qs, accuracy, "o-", label="accuracy")
ax.plot(qs, error, "s-", label="expected calibration error")
ax.set(xlabel="q", ylim=(0, 1))
ax.legend()
plt.show()

# %%
# **What the figure shows:** the calibration error falls as q grows, and the accuracy rises up to
# q = 0.8. On tables with more classes, or where a linear model fits badly, accuracy falls
# instead.
