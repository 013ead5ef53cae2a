"""Sketches: what rows are known by again, whatever they are stored in."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

from mgce_sklearn.sketch import SIZE, RowSketch, row_codes

CODE_OF_A_ROW = 1143617983547965440  # of 0.5 and -2


def normal(n, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def codes_of(X):
    return np.concatenate(list(row_codes(X)))


def same(one, other):
    return all(map(np.array_equal, one, other))


def rows_with_zeros(n=50, d=7):
    X = np.round(normal(n, d), 1)
    return np.where(np.abs(X) < 0.7, 0.0, X)


def with_duplicates(X):
    """Return CSR rows whose every number is stored in two halves, columns backward."""
    n, d = X.shape
    columns = np.tile(np.repeat(np.arange(d)[::-1], 2), n)
    numbers = np.repeat(X[:, ::-1].ravel(), 2) / 2.0
    return sp.csr_array((numbers, columns, 2 * d * np.arange(n + 1)), shape=(n, d))


def with_zeros_stored(X):
    stored = sp.csr_array(np.ones_like(X))
    stored.data[:] = X.ravel()
    return stored


LAYOUTS = {
    "columns contiguous": np.asfortranarray,
    "every other": lambda X: np.repeat(X, 2, axis=0)[::2],
    "negative zeros": lambda X: np.where(X == 0.0, -0.0, X),
    "sparse": sp.csr_array,
    "sparse matrix": sp.csr_matrix,
    "sparse, zeros stored": with_zeros_stored,
    "sparse, in parts": with_duplicates,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_codes_are_those_of_the_numbers_whatever_the_layout(layout):
    X = rows_with_zeros()
    np.testing.assert_array_equal(codes_of(LAYOUTS[layout](X)), codes_of(X))


def test_codes_of_single_precision_are_those_of_its_numbers():
    X = normal(50).astype(np.float32)
    np.testing.assert_array_equal(codes_of(X), codes_of(X.astype(np.float64)))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_codes_of_tensors(device):
    torch = pytest.importorskip("torch")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    X = rows_with_zeros(3000, 400)  # several blocks
    for rows in (X, X.astype(np.float32)):
        np.testing.assert_array_equal(codes_of(torch.tensor(rows, device=device)), codes_of(rows))


def test_sparse_rows_stay_as_they_are():
    X = with_duplicates(rows_with_zeros())
    before = X.copy()
    list(row_codes(X))
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(X, part), getattr(before, part))


def test_codes_are_the_same_in_another_process():
    """And in another version of numpy: models are kept."""
    code = (
        "import numpy as np; from mgce_sklearn.sketch import row_codes; "
        "print(*next(row_codes(np.array([[0.5, -2.0]]))))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) == codes_of(np.array([[0.5, -2.0]]))[0] == CODE_OF_A_ROW


@pytest.mark.parametrize(
    "values", ["few integers", "many integers", "bytes", "one of many columns"]
)
def test_different_rows_of_round_numbers_have_different_codes(values):
    """Their bits are mostly zeros."""
    if values == "few integers":
        X = np.stack(np.meshgrid(*[np.arange(-4.0, 5.0)] * 4), axis=-1).reshape(-1, 4)
    elif values == "many integers":
        X = np.arange(2.0**17)[:, np.newaxis]
    elif values == "bytes":
        X = np.unique(np.random.default_rng(0).integers(256, size=(20_000, 8)), axis=0) / 255.0
    else:
        X = sp.eye_array(20_000).tocsr()
    codes = codes_of(X)
    assert len(np.unique(codes)) == X.shape[0]
    # And they are spread evenly: a sketch takes such a share of rows as its end is of all codes.
    shares = np.histogram(codes.astype(float), bins=16, range=(0.0, 2.0**64))[0] / len(codes)
    assert np.all(np.abs(shares - 1 / 16) < 0.02)


def test_the_order_of_columns_matters():
    X = normal(20)
    assert not np.isin(codes_of(X[:, ::-1]), codes_of(X)).any()


@pytest.mark.parametrize("n", [5, SIZE - 1, SIZE, 5 * SIZE])
def test_a_sketch_of_parts_is_that_of_all_rows(n):
    X = np.repeat(normal(n), np.random.default_rng(1).integers(1, 4, n), axis=0)
    X = X[np.random.default_rng(2).permutation(len(X))]
    whole = RowSketch.of(X)
    parts = RowSketch.none()
    for part in np.array_split(X, 7):
        parts = parts.joined(RowSketch.of(part))
    assert same(parts, whole)
    assert len(whole.codes) == min(n, SIZE)
    codes, counts = np.unique(codes_of(X), return_counts=True)
    np.testing.assert_array_equal(whole.codes, codes[:SIZE])
    np.testing.assert_array_equal(whole.counts, counts[:SIZE])


def test_sketches_do_not_hold_what_they_are_cut_from():
    whole = RowSketch.of(normal(4 * SIZE))
    assert whole.codes.base is None and whole.counts.base is None


def refused(seen, asked):
    try:
        RowSketch.of(seen).check_unseen(RowSketch.of(asked))
    except ValueError:
        return True
    return False


N_MANY = 50_000


@pytest.mark.parametrize("n_asked", [500, 5000, 2 * N_MANY])
@pytest.mark.parametrize("seed", range(5))
def test_new_rows_are_not_refused(seed, n_asked):
    seen, asked = normal(N_MANY, seed=2 * seed), normal(n_asked, seed=2 * seed + 1)
    assert not refused(seen, asked)
    asked[:3] = seen[:3]
    assert not refused(seen, asked)


def test_one_row_that_was_seen_is_an_accident():
    """Though it is one of very few that can be looked up."""
    seen, asked = normal(N_MANY), normal(200, seed=1)
    asked[0] = seen[codes_of(seen).argmin()]
    assert not refused(seen, asked)


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("n_asked", [2000, 20_000, N_MANY])
def test_rows_that_were_seen_are_refused(n_asked, share):
    seen, asked = normal(N_MANY), normal(n_asked, seed=1)
    n_shared = int(share * n_asked)
    asked[:n_shared] = seen[-n_shared:]
    assert refused(seen, asked[::-1])


def test_all_rows_that_were_seen_among_many_more_are_not_the_rule():
    """One in twenty of those asked for: most of them are new."""
    seen = normal(500)
    assert not refused(seen, np.vstack([seen, normal(9500, seed=1)]))


@pytest.mark.parametrize("n_values", [3, 20])
@pytest.mark.parametrize("seed", range(10))
def test_rows_of_few_values_coincide_by_chance(seed, n_values):
    """All of them, or half: that is what rows of one distribution do. The very same are refused."""
    rng = np.random.default_rng(seed)
    seen, asked = rng.integers(n_values, size=(2, 3000, 3)).astype(float)
    assert not refused(seen, asked)
    assert refused(seen, seen[::-1])


@pytest.mark.parametrize("seed", range(20))
def test_values_of_which_few_are_rare_coincide(seed):
    """Six different rows, of which one or two are alone."""
    rng = np.random.default_rng(seed)
    seen, asked = rng.choice(6, (2, 200, 1), p=[0.6, 0.2, 0.1, 0.08, 0.01, 0.01]).astype(float)
    assert not refused(seen, asked)


@pytest.mark.parametrize("seed", range(20))
def test_how_often_rows_coincide_is_known_from_a_few(seed):
    """Of 1,000 rows with small counts one in seven is alone, and some in a hundred are new."""
    seen, asked = (np.random.default_rng([seed, i]).poisson(1.0, (n, 4)).astype(float)
                   for i, n in enumerate((1000, 20_000)))  # fmt: skip
    assert not refused(seen, asked)


@pytest.mark.parametrize("seed", range(10))
def test_one_row_that_is_frequent_is_no_sign(seed):
    """A third of all rows are zeros, the others differ: an empty basket, say."""
    rng = np.random.default_rng(seed)
    seen, asked = rng.normal(size=(2, 20_000, 3)) * (rng.random((2, 20_000, 1)) < 2 / 3)
    assert not refused(seen, asked)
    assert refused(seen, np.vstack([asked[:10_000], seen[:10_000]]))
