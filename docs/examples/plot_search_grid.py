"""
What a search chooses
=====================

``MGCEClassifierCV`` scores every pair of q and lam by cross-validation. Here 20% of the labels
that it sees are wrong, and so is the accuracy that it measures.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mgce_sklearn import MGCEClassifierCV
from mgce_sklearn.label_noise import symmetric_noise
from mgce_sklearn.plot import SearchDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
wrong = symmetric_noise(y_train, 0.2, random_state=0)
search = MGCEClassifierCV(
    qs=(0.0, 0.5, 0.9), lams=(0.03, 0.1, 0.3, 1.0), selection="largest_q", cv=3
).fit(X_train, wrong)
SearchDisplay.from_estimator(search)
print(f"q = {search.q_}, lam = {search.lam_}: {search.score(X_test, y_test):.3f} on right labels")
plt.show()

# %%
# **What the figure shows:** ``lam`` matters more than q. ``selection="largest_q"`` takes the
# largest q whose score is within one standard error of the best.
