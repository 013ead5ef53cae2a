"""Losses against the probability of the label."""

import matplotlib.pyplot as plt
import numpy as np

h = np.linspace(0.005, 1, 400)
fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for q in (0, 0.3, 0.5, 0.7, 1):
    loss = -np.log(h) if q == 0 else (1 - h**q) / q
    ax.plot(h, loss, label=f"q = {q}" + {0: ", cross-entropy", 1: ", 0-1 loss"}.get(q, ""))
ax.set(xlabel="probability of the label", ylabel="loss", ylim=(0, 4))
ax.legend()
