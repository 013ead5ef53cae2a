"""What the decisions of a rule cost, class by class, and what guessing costs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mgce_sklearn import kernels

Array = np.ndarray[Any, Any]

RULES = ("deterministic", "randomized")


class AgainstChance:
    """An upper bound on the cost of a rule, compared with the cost of guessing."""

    upper: float
    chance: float

    @property
    def informative(self) -> bool:
        """Whether the upper bound is below ``chance``."""
        return self.upper < self.chance

    def _remarked(self, text: str) -> str:
        if self.informative:
            return text
        return f"{text}; this is vacuous: guessing has {self.chance:.4f}"


class Costs(NamedTuple):
    """Costs of a rule, shifted and scaled into [0, 1].

    Attributes
    ----------
    scaled : ndarray of shape (K, n)
        Expected cost of each row's decision by class.
    least, largest : float
        The costs that 0 and 1 stand for.
    chance : float
        Expected cost of guessing uniformly among equally frequent classes.
    quantity : {"error", "expected cost"}
    """

    scaled: Array
    least: float
    largest: float
    chance: float
    quantity: str

    @classmethod
    def of(cls, margins: Array, q: float, rule: str, cost: Array | None = None) -> Costs:
        """Return the costs of a rule of `RULES` at margins (n, K).

        ``cost`` is a matrix (K, K): what deciding the column's class costs if the row's is true.
        None: 0 on the diagonal and 1 elsewhere, so that expected costs are errors.
        """
        matrix: Array = 1.0 - np.eye(margins.shape[1]) if cost is None else cost
        if rule == "deterministic":
            expected = matrix[:, margins.argmax(axis=1)]
        else:
            expected = matrix @ kernels.rule(margins, q).T
        least, largest = float(matrix.min()), float(matrix.max())
        scaled = (expected - least) / ((largest - least) or 1.0)
        quantity = "error" if cost is None else "expected cost"
        return cls(np.clip(scaled, 0.0, 1.0), least, largest, float(matrix.mean()), quantity)

    def unscaled(self, value: float) -> float:
        """Return the cost that a value in [0, 1] stands for."""
        return self.least + (self.largest - self.least) * value
