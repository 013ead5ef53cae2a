"""
What q does to probabilities
============================

The margin of class 1 becomes its probability by a function that depends on q. At q = 0 it is the
logistic function. For q > 0 probabilities are exactly 0 or 1 beyond some margin.
"""

import matplotlib.pyplot as plt
import numpy as np

from mgce_sklearn import MGCEClassifier

X, y = [[-1.0], [-0.5], [0.5], [1.0]], [0, 1, 0, 1]
margins = np.linspace(-4, 4, 401)
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for q in (0.0, 0.3, 0.5, 0.7, 1.0):
    rule = MGCEClassifier(q=q).fit(X, y)
    ax.plot(margins, rule.margins_to_proba(margins)[:, 1], label=f"q = {q}")
ax.set(xlabel="margin of class 1 over class 0", ylabel="probability of class 1")
ax.legend()
plt.show()
