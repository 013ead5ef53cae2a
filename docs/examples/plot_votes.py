"""
Votes in place of the majority
==============================

Five annotators label digits; each is wrong in half of the rows. ``votes`` makes distributions of
their answers, and the fit learns from these. The majority breaks ties at random.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.label_noise import symmetric_noise, votes

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
answers = np.column_stack([symmetric_noise(y_train, 0.5, random_state=i) for i in range(5)])
rng = np.random.default_rng(0)
numbers = [1, 2, 3, 4, 5]
accuracies = {"majority": [], "votes": []}
for n in numbers:
    shares = votes(answers[:, :n], classes=range(10))
    majority = (shares + 1e-6 * rng.random(shares.shape)).argmax(axis=1)
    for name, labels in {"majority": majority, "votes": shares}.items():
        accuracies[name].append(MGCEClassifier().fit(X_train, labels).score(X_test, y_test))
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for name, values in accuracies.items():
    ax.plot(numbers, values, "o-", label=name)
    print(name, [round(float(value), 3) for value in values])
ax.set(xlabel="answers to each row", ylabel="accuracy on right labels", xticks=numbers)
ax.legend()
plt.show()

# %%
# **What the figure shows:** with two to four answers to a row the votes hold more than their
# majority. With five the two are level.
