"""
Bounds on the error of right labels
===================================

Labels became wrong at a known rate. With ``noise_matrix`` the bounds are about the right labels
that nobody has seen.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.label_noise import symmetric_noise

X, y = load_breast_cancer(return_X_y=True)
rates = [0.1, 0.2, 0.3]
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for shift, known in ((-0.01, False), (0.01, True)):
    for rate in rates:
        wrong = symmetric_noise(y, rate, random_state=0)
        matrix = rate if known else None
        model = MGCEClassifier(q=1.0, lam="feasible", noise_matrix=matrix).fit(X, wrong)
        bounds, error = model.error_bounds(X), 1 - model.score(X, y)
        print(f"rate {rate}, {known=}: {bounds.lower:.3f} to {bounds.upper:.3f}, true {error:.3f}")
        color, first = f"C{int(known)}", rate == rates[0]
        label = f"bounds {'with' if known else 'without'} noise_matrix" if first else None
        ax.plot([rate + shift] * 2, [bounds.lower, bounds.upper], color=color, lw=6, label=label)
        ax.plot(rate + shift, error, "k_", ms=14, label="true error" if known and first else None)
ax.set(xlabel="share of wrong labels", ylabel="error on right labels", xticks=rates, ylim=(0, None))
ax.legend()
plt.show()

# %%
# **What the figure shows:** without the matrix the bounds are about wrong labels and miss the
# error on right ones. With it they hold it.
