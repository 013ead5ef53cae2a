"""
A temperature that knows the noise
==================================

Logistic regression is fitted to digits with 30% wrong labels. A temperature is found on the same
wrong labels, with and without knowing that rate.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mgce_sklearn.calibration import TemperatureScaling
from mgce_sklearn.label_noise import symmetric_noise
from mgce_sklearn.plot import ReliabilityDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
wrong = symmetric_noise(y_train, 0.3, random_state=0)
regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
models = {
    "alone": regression.fit(X_train, wrong),
    "temperature": TemperatureScaling(regression).fit(X_train, wrong),
    "temperature that knows the rate": TemperatureScaling(regression, noise_matrix=0.3).fit(
        X_train, wrong
    ),
}
display = ReliabilityDisplay.from_estimator(models, X_test, y_test, n_bins=10)
print({name: round(curve.error, 3) for name, curve in display.curves.items()})
plt.show()

# %%
# **What the figure shows:** a temperature found on wrong labels makes matters worse, since it
# fits the noise. One that knows the rate is near the diagonal.
