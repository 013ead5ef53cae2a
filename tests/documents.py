"""What documents print: the same words, and nearly the same numbers, whenever they run."""

import re

import numpy as np

NUMBER = re.compile(r"(?<![\w.])-?(?:\d[\d,]*)?(?:\.\d+|\d)(?:e[-+]\d+)?")


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def words(text: str) -> list[str]:
    return NUMBER.sub("#", text).split()


def assert_printed(fresh: str, stored: str) -> None:
    assert words(fresh) == words(stored)
    np.testing.assert_allclose(numbers(fresh), numbers(stored), atol=0.01, rtol=0.01)
