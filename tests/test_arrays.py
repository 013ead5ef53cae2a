"""Two classes and triangles: what is written once for all who need it."""

import numpy as np
import pytest

from mgce_sklearn.arrays import decision_values, two_class_margins
from mgce_sklearn.kernels import triangles


@pytest.mark.parametrize("axis", [0, 1])
def test_two_classes_and_back(axis):
    difference = np.array([-1.0, 0.0, 2.5], np.float32)
    margins = two_class_margins(difference, axis)
    assert margins.dtype == np.float32 and margins.shape[axis] == 2
    first, second = np.moveaxis(margins, axis, 0)
    np.testing.assert_array_equal(first, 0.0)
    np.testing.assert_array_equal(second, difference)
    rows = margins if axis == 1 else margins.T
    np.testing.assert_array_equal(decision_values(rows + 3.0), difference)


def test_two_classes_of_stacks_and_of_tensors():
    stack = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(two_class_margins(stack, -2)[:, 1], stack)
    torch = pytest.importorskip("torch")
    margins = two_class_margins(torch.arange(3.0), 1)
    assert margins.tolist() == [[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]]
    assert decision_values(margins).tolist() == [0.0, 1.0, 2.0]


def test_margins_of_three_classes_are_decision_values():
    margins = np.ones((4, 3))
    assert decision_values(margins) is margins


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_positions_of_pairs(size):
    k, other = triangles.pairs(size)
    assert len(k) == triangles.n_pairs(size) and (k <= other).all()
    assert triangles.size_of(len(k)) == size
    np.testing.assert_array_equal(triangles.diagonal(size), np.flatnonzero(k == other))


def test_matrices_of_pairs():
    matrix = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])
    np.testing.assert_array_equal(triangles.unpacked(np.arange(1.0, 7.0), 3), matrix)
    wrong_below = np.where(np.tri(3, k=-1) > 0.0, np.nan, matrix)
    np.testing.assert_array_equal(triangles.symmetric(wrong_below), matrix)
