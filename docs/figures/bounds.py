"""The figure of the page of this name."""

import matplotlib.pyplot as plt
import numpy as np

from mgce_sklearn import MGCEClassifier


def draw(n, seed):
    """Eight features. The first two decide; one label in ten is swapped."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 8))
    return X, ((X[:, 0] + X[:, 1] > 0) ^ (rng.random(n) < 0.1)).astype(int)


X, y = draw(100, seed=0)
X_new, y_new = draw(100_000, seed=1)
lams = np.geomspace(0.05, 3, 9)
fits = [MGCEClassifier(lam=lam).fit(X, y) for lam in lams]
found = [fit.error_bounds(X) for fit in fits]
fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
lower, upper = [each.lower for each in found], [each.upper for each in found]
ax.fill_between(lams, lower, upper, color="0.85", label="error_bounds")
ax.plot(lams, [1 - fit.score(X_new, y_new) for fit in fits], "C0-", label="true error of predict")
ax.plot(lams, [1 - fit.score(X, y) for fit in fits], "C1:", label="training error")
ax.axhline(0.5, color="0.6", lw=0.8)
large, held_out = draw(10_000, seed=3), draw(10_000, seed=4)
for lam in (0.1, 1.0):
    fit = MGCEClassifier(lam=lam, feature_range=(-1, 1)).fit(*large)
    label = "confidence_bound, 10,000 rows" if lam == 0.1 else None
    ax.plot(lam, fit.confidence_bound(held_out[0]).upper, "C3o", label=label)
ax.set(xscale="log", xlabel="lam (standard errors)", ylabel="error", ylim=(0, 1))
ax.legend()
