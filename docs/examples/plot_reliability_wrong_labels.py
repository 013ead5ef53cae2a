"""
Calibration when labels are wrong
=================================

30% of the training labels of digits are wrong. Test labels are right.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.label_noise import symmetric_noise
from mgce_sklearn.plot import ReliabilityDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
wrong = symmetric_noise(y_train, 0.3, random_state=0)
models = {
    "LogisticRegression": make_pipeline(StandardScaler(), LogisticRegression(C=0.01)),
    "MGCEClassifier, q = 0.5": MGCEClassifier(q=0.5),
    "MGCEClassifier, q = 0.9": MGCEClassifier(q=0.9),
}
for model in models.values():
    model.fit(X_train, wrong)
display = ReliabilityDisplay.from_estimator(models, X_test, y_test, n_bins=10)
for name, model in models.items():
    error = display.curves[name].error
    print(f"{name}: accuracy {model.score(X_test, y_test):.3f}, ECE {error:.3f}")
plt.show()

# %%
# **What the figure shows:** all models are less sure than they could be, since they have seen
# wrong labels. Logistic regression is furthest from the diagonal, and a larger q is nearer to it.
