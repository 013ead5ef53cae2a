"""
Probabilities that are exactly 0 and 1
======================================

``predict_proba`` turns margins into probabilities by a function that depends on q. At q = 0 it is
the logistic function. For q > 0 a class whose margin is far enough behind has probability exactly
0.
"""

import matplotlib.pyplot as plt

from mgce_sklearn.plot import LinkDisplay

LinkDisplay([0, 0.5, 1]).plot()
plt.show()

# %%
# **What the figure shows:** at q = 1 two classes share the probability only while their margins
# are less than 1 apart, at q = 0.5 less than 2. At q = 0 no probability is ever 0 or 1.
