"""Temperature scaling: probabilities that match the accuracy, for any classifier with margins.

The margins are divided by a temperature T. The classifier's own link then turns them into
probabilities. The order of the classes in a row stays the same, and so does the prediction.

A common substitute for margins are logarithms of probabilities, with the softmax as the link. That
fails for rules whose probabilities can be 0: 0 has no logarithm, and the softmax is not their link.
"""

from mgce_sklearn.calibration.scaling import PiecewiseTemperatureScaling, TemperatureScaling

__all__ = ["PiecewiseTemperatureScaling", "TemperatureScaling"]
