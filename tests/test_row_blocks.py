"""Blocks of rows: what they are read as, what is refused, and that every pass is the same."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from mgce_sklearn import RowBlocks
from mgce_sklearn.parquet import ParquetRows


def table(n=1000, d=3, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)).astype(dtype), rng.integers(3, size=n)


def in_parts(*arrays, sizes=(300, 1, 500, 199)):
    """Split arrays of as many rows into blocks."""
    return list(zip(*(np.split(array, np.cumsum(sizes)[:-1]) for array in arrays), strict=True))


def joined(blocks):
    """Return all rows."""
    X, y, weight = zip(*blocks, strict=True)
    return tuple(
        None if part[0] is None else np.concatenate(part)
        for part in ([rows.toarray() if sp.issparse(rows) else rows for rows in X], y, weight)
    )


class Changing:
    """Blocks that are others from the second pass on."""

    def __init__(self, first, then):
        self.passes = [first, then]

    def __iter__(self):
        return iter(self.passes.pop(0) if len(self.passes) > 1 else self.passes[0])


# What is read


def test_blocks_are_read_again_and_again():
    X, y = table()
    blocks = RowBlocks(in_parts(X, y))
    for _ in range(3):
        again, labels, weight = joined(blocks)
        np.testing.assert_array_equal(again, X)
        np.testing.assert_array_equal(labels, y)
        assert weight is None


def test_a_function_gives_blocks_too():
    X, y = table()
    blocks = RowBlocks(lambda: (part for part in in_parts(X, y)))
    for _ in range(2):
        np.testing.assert_array_equal(joined(blocks)[0], X)


def test_facts_are_known_after_a_pass():
    X, y = table(dtype=np.float32)
    blocks = RowBlocks(in_parts(X, np.array(["a", "b", "c"])[y]))
    assert "not yet read" in repr(blocks)
    with pytest.raises(AttributeError, match=r"n_rows is known after.*call scan\(\)"):
        _ = blocks.n_rows
    assert not hasattr(blocks, "shape")
    assert blocks.scan() is blocks
    assert (blocks.n_rows, blocks.n_features, blocks.n_blocks) == (1000, 3, 4)
    assert blocks.block_sizes == (300, 1, 500, 199)
    assert blocks.dtype == np.float32 and blocks.n_bytes == X.nbytes
    assert blocks.feature_names is None
    assert blocks.classes.tolist() == ["a", "b", "c"]
    assert repr(blocks) == "RowBlocks(4 blocks, 1000 rows x 3 features, float32)"


def test_scan_reads_once():
    calls = []
    blocks = RowBlocks(lambda: calls.append(1) or iter([table()]))
    blocks.scan().scan()
    assert calls == [1]


def test_blocks_can_be_copied_and_pickled():
    blocks = RowBlocks(in_parts(*table())).scan()
    for other in (copy.deepcopy(blocks), pickle.loads(pickle.dumps(blocks))):
        np.testing.assert_array_equal(joined(other)[0], joined(blocks)[0])
        assert other.n_rows == 1000
    fresh = pickle.loads(pickle.dumps(RowBlocks(in_parts(*table()))))
    assert not hasattr(fresh, "n_rows")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (np.float32, np.float32), (np.float64, np.float64), (np.int64, np.float64),
        (np.int8, np.float64), (bool, np.float64), (np.float16, np.float64), (">f8", np.float64),
    ],
)  # fmt: skip
def test_numbers_are_floats(given, read):
    X = (4 * table()[0]).astype(given)
    (block,) = RowBlocks([X])
    assert block.X.dtype == read and block.X.dtype.isnative
    np.testing.assert_array_equal(block.X, X.astype(read))


def test_rows_are_contiguous_and_not_copied_where_they_are():
    X, y = table()
    (plain,) = RowBlocks.from_memmap(X, y)
    (by_columns,) = RowBlocks([(np.asfortranarray(X), y)])
    assert np.shares_memory(plain.X, X) and np.shares_memory(plain.y, y)
    assert by_columns.X.flags.c_contiguous
    np.testing.assert_array_equal(by_columns.X, X)


@pytest.mark.parametrize("form", [sp.csr_array, sp.csr_matrix, sp.csc_array, sp.coo_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_rows(form, dtype):
    X, y = table(dtype=dtype)
    X[X < 0.5] = 0.0
    blocks = RowBlocks([(form(X), y)] * 2)
    for block in blocks:
        assert block.X.format == "csr" and block.X.dtype == dtype
        assert block.X.has_canonical_format
        np.testing.assert_array_equal(block.X.toarray(), X)
    part = next(iter(blocks)).X
    assert blocks.scan().n_bytes == 2 * (
        part.data.nbytes + part.indices.nbytes + part.indptr.nbytes
    )


def test_what_a_user_gives_stays_as_it_is():
    twice = sp.csr_array((np.ones(3), [1, 0, 1], [0, 3]), shape=(1, 2))
    for _ in range(2):
        (block,) = RowBlocks([twice])
        np.testing.assert_array_equal(block.X.toarray(), [[1.0, 2.0]])
        assert twice.nnz == 3


def test_weights_are_float64():
    X, y = table()
    weight = np.arange(1000)
    weight[:301] = 0  # of a block all may be zero
    blocks = RowBlocks(in_parts(X, y, weight))
    read = joined(blocks)[2]
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, weight)


def test_rows_without_labels():
    X, _ = table()
    for blocks in ([X[:500], X[500:]], [(X[:500],), (X[500:],)], [(X[:500], None), [X[500:]]]):
        read = RowBlocks(blocks)
        again, y, weight = joined(read)
        np.testing.assert_array_equal(again, X)
        assert y is None and weight is None and read.classes is None


def test_empty_blocks_are_left_out():
    X, y = table()
    blocks = RowBlocks([(X[:0], y[:0]), (X, y), ([], [])])
    assert blocks.scan().block_sizes == (1000,)
    assert [len(block.y) for block in blocks] == [1000]


def test_blocks_may_be_blocks():
    X, y = table()
    np.testing.assert_array_equal(joined(RowBlocks(RowBlocks(in_parts(X, y))))[0], X)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, 0, 1]), np.array(["u", "vw", "u"]), np.array([True, False, True]),
        np.array(["u", "vw", "u"], dtype=object), [[1], [0], [1]], ["b", "a", "b"],
    ],
    ids=str,
)  # fmt: skip
def test_labels(labels):
    blocks = RowBlocks([(np.zeros((3, 1)), labels)])
    for _ in range(2):
        (block,) = blocks
        assert block.y.tolist() == np.ravel(labels).tolist()
        assert block.y.dtype != object
    assert blocks.classes.tolist() == sorted(set(np.ravel(labels).tolist()))


def test_classes_are_those_of_all_blocks():
    X = np.zeros((2, 1))
    blocks = RowBlocks([(X, ["b", "b"]), (X, ["long", "a"]), (X, ["b", "a"])])
    assert blocks.scan().classes.tolist() == ["a", "b", "long"]


def test_frames():
    pd = pytest.importorskip("pandas")
    X, y = table()
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(c=X[:, 2] > 0)
    labels = pd.Series(y).map({0: "u", 1: "v", 2: "w"})
    sizes = (600, 400)
    blocks = RowBlocks([(frame[:600], labels[:600]), (frame[600:], labels[600:])])
    for _ in range(2):
        read, names, _ = joined(blocks)
        np.testing.assert_array_equal(read, frame.to_numpy(dtype=float))
        assert names.tolist() == labels.tolist()
    assert blocks.feature_names == ("a", "b", "c") and blocks.block_sizes == sizes


def test_tables_of_arrow():
    pa = pytest.importorskip("pyarrow")
    X, y = table()
    arrow = pa.table({"a": X[:, 0], "b": X[:, 1]})
    blocks = RowBlocks([(arrow, pa.array(y))])
    np.testing.assert_array_equal(joined(blocks)[0], X[:, :2])
    assert blocks.feature_names == ("a", "b")


def test_tensors():
    torch = pytest.importorskip("torch")
    X, y = table(dtype=np.float32)
    blocks = RowBlocks([[torch.tensor(X), torch.tensor(y)]])  # as a DataLoader gives them
    (block,) = blocks
    np.testing.assert_array_equal(block.X, X)
    np.testing.assert_array_equal(block.y, y)


# What is refused at once


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ((part for part in in_parts(*table())), r"a generator, .*once.*RowBlocks\(read\)"),
        (iter([table()]), "list_iterator, which can be read once"),
        (zip([1], [2], strict=True), "a zip, which can be read once"),
        (table()[0], r"one ndarray. Try RowBlocks.from_memmap\(X, y\)"),
        (sp.csr_array(table()[0]), "one csr_array. Try RowBlocks.from_memmap"),
        ("folder", r"'folder'. Try RowBlocks.from_parquet\(path, target\)"),
        (None, r"a NoneType. Try a list of \(X, y\)"),
        (3, "a int. Try a list"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_read_again_is_refused_at_once(blocks, message):
    with pytest.raises(TypeError, match="blocks must be an iterable that starts again.*" + message):
        RowBlocks(blocks)


# What is refused in a pass. Every case is the block after a good one.

GOOD = np.zeros((4, 2)), [0, 1, 1, 0], np.ones(4)
NAN = np.array([[0.0, 0.0], [0.0, np.nan], [1.0, np.inf], [0.0, 0.0]])

UNUSABLE = {
    "four parts": ((*GOOD, 1), r"a block must be \(X, y\) or .*; got a tuple of 4"),
    "no parts": ((), "got a tuple of 0"),
    "one dimension": ((np.zeros(4), *GOOD[1:]), r"two dimensions.*ndarray of shape \(4,\)"),
    "a dict": ({"X": 1}, "X must have two dimensions.*got a dict"),
    "strings": (([["a", "b"]] * 4, *GOOD[1:]), "X must be numbers.*'a'"),
    "complex": ((1j * GOOD[0], *GOOD[1:]), "X must be numbers.*Complex"),
    "no columns": ((GOOD[0][:, :0], *GOOD[1:]), "at least one column"),
    "NaN": ((NAN, *GOOD[1:]), "X must be finite; row 1, column 1 has nan"),
    "infinity": ((NAN[[2, 0, 0, 0]], *GOOD[1:]), "X must be finite; row 0, column 1 has inf"),
    "fewer labels": ((GOOD[0], GOOD[1][1:], GOOD[2]), r"label per row of X, shape \(4,\); got.*3"),
    "two columns of labels": ((GOOD[0], np.eye(4), GOOD[2]), r"label per row.*got shape \(4, 4\)"),
    "missing label": ((GOOD[0], [0.0, 1.0, np.nan, 0.0], GOOD[2]), "Row 2 has nan"),
    "no label": ((GOOD[0], [None, "a", "b", "a"], GOOD[2]), "Row 0 has None"),
    "real targets": ((GOOD[0], [0.5, 0.1, 0.2, 0.3], GOOD[2]), "continuous"),
    "fewer weights": ((*GOOD[:2], np.ones(3)), "one weight per row of X"),
    "negative weight": ((*GOOD[:2], [1, 1, -1, 1]), "non-negative; row 2 has -1"),
    "NaN weight": ((*GOOD[:2], [1, np.nan, 1, 1]), "finite and non-negative; row 1 has nan"),
}  # fmt: skip

UNLIKE = {
    "columns": ((np.zeros((4, 3)), *GOOD[1:]), "number of columns of X .* all blocks, 2; got 3"),
    "dtype": ((GOOD[0].astype(np.float32), *GOOD[1:]), "dtype of X.*'float64'; got 'float32'"),
    "storage": ((sp.csr_array(GOOD[0]), *GOOD[1:]), "storage of X.*'dense'; got 'sparse'"),
    "labels": ((GOOD[0], ["a", "b", "b", "a"], GOOD[2]), "labels.*'numbers'; got 'strings'"),
    "no labels": ((GOOD[0], None, GOOD[2]), "labels .*'numbers'; got 'none'"),
    "no weights": (GOOD[:2], "weights .*'given'; got 'none'"),
}


@pytest.mark.parametrize("case", UNUSABLE | UNLIKE)
def test_a_block_that_cannot_be_used(case):
    block, message = (UNUSABLE | UNLIKE)[case]
    blocks = RowBlocks([GOOD, block])
    for _ in range(2):  # nothing is learned from a pass that fails
        with pytest.raises(ValueError, match="Block 1: .*" + message) as raised:
            blocks.scan()
        assert "\n" not in str(raised.value)
        assert not hasattr(blocks, "n_rows")


@pytest.mark.parametrize("case", UNUSABLE | UNLIKE)
def test_a_block_that_cannot_be_used_in_a_later_pass(case):
    block, message = (UNUSABLE | UNLIKE)[case]
    blocks = RowBlocks(Changing([GOOD, GOOD], [GOOD, block])).scan()
    with pytest.raises(ValueError, match="Block 1: .*" + message):
        joined(blocks)


def test_numbers_of_sparse_rows_that_are_not_finite():
    with pytest.raises(ValueError, match=r"Block 0: .*row 2, column 1 has inf"):
        RowBlocks([sp.csr_array(np.where(np.isnan(NAN), 0.0, NAN))]).scan()


def test_finite_numbers_with_an_infinite_sum():
    RowBlocks([np.full((3, 2), 3e38, np.float32)]).scan()


def test_names_of_columns_must_stay():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.eye(2), columns=["a", "b"])
    for other in (frame[["b", "a"]], frame.to_numpy(), frame.rename(columns={"a": "c"})):
        with pytest.raises(ValueError, match=r"Block 1: the names of columns .*\('a', 'b'\); got"):
            RowBlocks([frame, other]).scan()


@pytest.mark.parametrize("blocks", [[], [(np.empty((0, 2)), [])], lambda: iter([])])
def test_no_rows(blocks):
    with pytest.raises(ValueError, match="blocks must have rows"):
        RowBlocks(blocks).scan()


def test_an_error_of_the_users_own_stays_as_it_is():
    def broken():
        yield table()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        RowBlocks(broken).scan()


def test_an_error_of_a_reader_stays_as_it_is():
    with pytest.raises(ValueError, match=r"^mine$"):
        for _ in RowBlocks(in_parts(*table())):
            raise ValueError("mine")


# Blocks that change from pass to pass


def one_number(X, y, w):
    X[1999 % len(X), 1] += 1e-9
    return X, y, w


def rows_swapped(X, y, w):
    X[[3, 4]] = X[[4, 3]]
    return X, y, w


def columns_swapped(X, y, w):
    return np.ascontiguousarray(X[:, [1, 0, 2]]), y, w


def shuffled(X, y, w):
    order = np.random.default_rng(0).permutation(len(X))
    return X[order], y[order], w[order]


def one_label(X, y, w):
    y[5] = (y[5] + 1) % 3
    return X, y, w


def labels_swapped(X, y, w):
    first, second = np.argmax(y == 0), np.argmax(y == 1)
    y[[first, second]] = y[[second, first]]
    return X, y, w


def one_weight(X, y, w):
    w[-1] += 1.0
    return X, y, w


def a_row_less(X, y, w):
    return X[:-1], y[:-1], w[:-1]


CHANGES = [
    one_number, rows_swapped, columns_swapped, shuffled, one_label, labels_swapped, one_weight,
    a_row_less,
]  # fmt: skip


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("n", [40, 20_000])  # less and more than a fingerprint's table has columns
@pytest.mark.parametrize("change", CHANGES)
def test_a_block_that_changes(change, n, form):
    X, y = table(n)
    w = np.ones(n)

    def block(X, y, w):
        return form(X), y, w

    first = [block(X, y, w)] * 2
    then = [block(X, y, w), block(*change(X.copy(), y.copy(), w.copy()))]
    blocks = RowBlocks(Changing(first, then)).scan()
    passed = iter(blocks)
    next(passed)
    fewer = f"it has {n - 1} rows, and had {n}"
    what = fewer if change is a_row_less else "its numbers, labels"
    with pytest.raises(ValueError, match=f"Block 1: {what}.* turn shuffling off"):
        next(passed)


def test_numbers_that_change_places_as_far_apart_as_a_fingerprint_repeats():
    X, y = table(20_000)
    swapped = X.copy()
    swapped.ravel()[[0, 1024]] = X.ravel()[[1024, 0]]
    blocks = RowBlocks(Changing([(X, y)], [(swapped, y)])).scan()
    with pytest.raises(ValueError, match="Block 0: its numbers, labels"):
        joined(blocks)


def test_rows_that_change_places():
    X, y = np.eye(8)[np.arange(1024) // 128], np.zeros(1024)
    other = X[np.roll(np.arange(1024), 128)]
    blocks = RowBlocks(Changing([(X, y)], [(other, y)])).scan()
    with pytest.raises(ValueError, match="Block 0: its numbers, labels"):
        joined(blocks)


def test_a_function_that_returns_nothing():
    with pytest.raises(TypeError, match=r"a function that returns an iterator .* it returned None"):
        RowBlocks(lambda: None).scan()


def test_a_reader_may_write_over_its_last_block():
    X, y = table()
    weights = np.arange(1000.0)

    def read():
        buffers = np.empty((500, 3)), np.empty(500, y.dtype), np.empty(500)
        for start in (0, 500):
            for buffer, array in zip(buffers, (X, y, weights), strict=True):
                buffer[:] = array[start : start + 500]
            yield buffers

    blocks = list(RowBlocks(read))
    for found, expected in zip(zip(*blocks, strict=True), (X, y, weights), strict=True):
        np.testing.assert_array_equal(np.concatenate(found), expected)
    sparse = sp.csr_array(X)
    (block,) = RowBlocks([(sparse, y)])
    assert not np.shares_memory(block.X.data, sparse.data)
    (block,) = RowBlocks.from_memmap(X, y)  # whose arrays nobody writes over
    assert np.shares_memory(block.X, X)


def test_names_are_known_with_the_first_block():
    pd = pytest.importorskip("pandas")
    blocks = RowBlocks([(pd.DataFrame(np.eye(3), columns=list("abc")), np.zeros(3))] * 2)
    assert blocks.column_names is None
    next(iter(blocks))
    assert blocks.column_names == ("a", "b", "c")


def test_text_that_changes():
    X = np.zeros((2, 1))
    blocks = RowBlocks(Changing([(X, ["a", "b"])], [(X, ["b", "a"])])).scan()
    with pytest.raises(ValueError, match="Block 0: its numbers, labels"):
        joined(blocks)


def test_text_in_objects_is_known_by_what_it_says():
    X = np.zeros((2, 1))
    first, then = (np.array(["".join(["a", "b"]), "c"], dtype=object) for _ in range(2))
    joined(RowBlocks(Changing([(X, first)], [(X, then)])).scan())


def test_blocks_that_change_places():
    parts = in_parts(*table(), sizes=(500, 500))
    blocks = RowBlocks(Changing(parts, parts[::-1])).scan()
    with pytest.raises(ValueError, match="Block 0: its numbers"):
        joined(blocks)


def test_a_pass_that_ends_early():
    parts = in_parts(*table())
    blocks = RowBlocks(Changing(parts, parts[:2])).scan()
    with pytest.raises(ValueError, match=r"Block 2: the pass ended before it.*on to block 3"):
        joined(blocks)


def test_an_iterable_that_does_not_start_anew():
    class Once:
        def __init__(self):
            self.rows = iter(in_parts(*table()))

        def __iter__(self):
            return self.rows

    blocks = RowBlocks(Once()).scan()
    with pytest.raises(ValueError, match="Block 0: the pass ended before it"):
        joined(blocks)


def test_a_pass_that_goes_on():
    parts = in_parts(*table())
    blocks = RowBlocks(Changing(parts[:2], parts)).scan()
    with pytest.raises(ValueError, match="Block 2: it comes after the last one"):
        joined(blocks)


def test_a_pass_left_midway_says_nothing():
    X, y = table()
    blocks = RowBlocks(Changing(in_parts(X, y), in_parts(2 * X, y)))
    next(iter(blocks))
    assert not hasattr(blocks, "n_rows")
    for _ in range(2):
        np.testing.assert_array_equal(joined(blocks)[0], 2 * X)
    next(iter(blocks))
    np.testing.assert_array_equal(joined(blocks)[0], 2 * X)


# Arrays


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memmap(tmp_path, dtype):
    X, y = table(dtype=dtype)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    weight = np.arange(1000.0)
    blocks = RowBlocks.from_memmap(mapped, y, weight, rows_per_block=300)
    for _ in range(2):
        for block in blocks:
            assert np.shares_memory(block.X, mapped)
        for read, given in zip(joined(blocks), (X, y, weight), strict=True):
            np.testing.assert_array_equal(read, given)
            assert read.dtype == given.dtype
    assert blocks.block_sizes == (300, 300, 300, 100)


def test_memmap_of_sparse_rows_and_without_labels():
    X, _ = table()
    X[X < 0] = 0.0
    for form in (sp.csr_array, sp.csc_array):
        blocks = RowBlocks.from_memmap(form(X), rows_per_block=300)
        read, y, weight = joined(blocks)
        np.testing.assert_array_equal(read, X)
        assert y is None and weight is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]],), "X must be an array of rows and columns.*got a list"),
        ((np.zeros(3),), r"X must be.*got a ndarray of shape \(3,\)"),
        ((np.zeros((3, 1)), [0, 1]), r"y must have one entry per row of X, shape \(3,\).*\(2,\)"),
        ((np.zeros((3, 1)), [0, 1, 0], [1.0]), "sample_weight must have one entry per row"),
        ((np.zeros((3, 1)), None, None, 0), "rows_per_block must be a positive integer; got 0"),
    ],
)
def test_arrays_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        RowBlocks.from_memmap(*arguments)


# Parquet files


def write(path, columns, **settings):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path, **settings)
    return path


def columns_of(X, **others):
    return {f"x{j}": X[:, j] for j in range(X.shape[1])} | others


@pytest.mark.parametrize("rows_per_block", [1, 333, 1000, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parquet_is_read_as_written(tmp_path, dtype, rows_per_block):
    X, y = table(50 if rows_per_block == 1 else 1000, dtype=dtype)
    path = write(tmp_path / "a.parquet", columns_of(X, y=y), row_group_size=257)
    blocks = RowBlocks.from_parquet(path, "y", rows_per_block=rows_per_block)
    for _ in range(2):
        read, labels, weight = joined(blocks)
        assert read.dtype == dtype and labels.dtype == y.dtype and weight is None
        np.testing.assert_array_equal(read, X)
        np.testing.assert_array_equal(labels, y)
    assert all(block.X.flags.c_contiguous for block in blocks)
    assert blocks.feature_names == ("x0", "x1", "x2")
    assert set(blocks.block_sizes[:-1]) <= {rows_per_block}


def files_of(folder, X, y, weight):
    for i, (rows, labels, weights) in enumerate(in_parts(X, y, weight)):
        columns = columns_of(rows, y=labels, w=weights)
        write(folder / f"part-{i}.parquet", columns, row_group_size=100)
    return folder


@pytest.mark.parametrize(
    "path",
    [
        lambda folder: folder,
        lambda folder: str(folder / "part-*.parquet"),
        lambda folder: str(folder.parent / "**" / "*.parquet"),
        lambda folder: sorted(folder.glob("*.parquet"), reverse=True),
    ],
    ids=["folder", "glob", "nested glob", "list"],
)
def test_several_files_in_the_order_of_their_names(tmp_path, path):
    X, y = table()
    weight = np.arange(1000.0)
    (tmp_path / "files").mkdir()
    folder = files_of(tmp_path / "files", X, y, weight)
    (folder / "_SUCCESS").write_text("")
    blocks = RowBlocks.from_parquet(path(folder), "y", sample_weight="w", rows_per_block=400)
    for read, given in zip(joined(blocks), (X, y, weight), strict=True):
        np.testing.assert_array_equal(read, given)
    assert blocks.block_sizes == (400, 400, 200)
    assert blocks.feature_names == ("x0", "x1", "x2")


def test_many_columns_in_small_pieces(tmp_path):
    """A block is filled by several pieces of a file, and pieces end within blocks."""
    X, y = table(5000, 600, np.float32)
    path = write(tmp_path / "a.parquet", columns_of(X, y=y), row_group_size=1700)
    blocks = RowBlocks.from_parquet(path, "y", rows_per_block=2500)
    np.testing.assert_array_equal(joined(blocks)[0], X)
    assert blocks.block_sizes == (2500, 2500)


@pytest.mark.parametrize(
    ("kinds", "dtype"),
    [
        ((np.int64, np.int64), np.float64), ((bool, np.uint8), np.float64),
        ((np.float32, np.int8), np.float32), ((np.float32, bool), np.float32),
        ((np.float32, np.int32), np.float64), ((np.float32, np.float64), np.float64),
        ((np.float16, np.float16), np.float64),
    ],
)  # fmt: skip
def test_dtype_is_that_of_a_frame(tmp_path, kinds, dtype):
    X, y = table()
    columns = {f"x{j}": (4 * X[:, j]).astype(kind) for j, kind in enumerate(kinds)}
    path = write(tmp_path / "a.parquet", {**columns, "y": y})
    (block,) = RowBlocks.from_parquet(path, "y")
    assert block.X.dtype == dtype
    np.testing.assert_array_equal(block.X, np.column_stack(list(columns.values())).astype(dtype))


def test_dtype_is_one_for_all_files(tmp_path):
    X, y = table()
    for i, dtype in enumerate((np.float32, np.float64)):
        write(tmp_path / f"{i}.parquet", columns_of(X.astype(dtype), y=y))
    blocks = RowBlocks.from_parquet(tmp_path, "y")
    assert blocks.scan().dtype == np.float64
    np.testing.assert_array_equal(joined(blocks)[0][1000:], X)


def kept_as(name, labels):
    import pyarrow as pa

    return {
        "strings": lambda: pa.array(labels),
        "large strings": lambda: pa.array(labels.tolist(), pa.large_string()),
        "dictionary": lambda: pa.array(labels).dictionary_encode(),
        "truth": lambda: pa.array([label == "a" for label in labels]),
        "numbers": lambda: pa.array([len(label) for label in labels], pa.int8()),
        "dictionary of numbers": lambda: pa.array([len(label) for label in labels])
        .dictionary_encode(),
    }[name]()  # fmt: skip


@pytest.mark.parametrize(
    "form",
    ["strings", "large strings", "dictionary", "truth", "numbers", "dictionary of numbers"],
)
def test_labels_of_all_kinds(tmp_path, form):
    pytest.importorskip("pyarrow")
    X, y = table()
    labels = kept_as(form, np.array(["a", "long", "bc"])[y])
    path = write(tmp_path / "a.parquet", columns_of(X, y=labels), row_group_size=300)
    blocks = RowBlocks.from_parquet(path, "y", rows_per_block=400)
    for _ in range(2):
        assert joined(blocks)[1].tolist() == labels.to_pylist()
    assert blocks.classes.tolist() == sorted(set(labels.to_pylist()))
    assert all(block.y.dtype != object for block in blocks)


def test_columns_are_read_in_the_order_asked_for(tmp_path):
    X, y = table()
    path = write(tmp_path / "a.parquet", columns_of(X, y=y))
    blocks = RowBlocks.from_parquet(path, "y", columns=["x2", "x0"])
    np.testing.assert_array_equal(joined(blocks)[0], X[:, [2, 0]])
    assert blocks.feature_names == ("x2", "x0")


def test_names_with_dots_and_one_column(tmp_path):
    X, y = table()
    path = write(tmp_path / "a.parquet", {"a.b": X[:, 0], "a": y})
    blocks = RowBlocks.from_parquet(path, "a")
    np.testing.assert_array_equal(joined(blocks)[0], X[:, :1])


def test_the_index_of_pandas_is_no_feature(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]}, index=pd.Index([7, 9], name="row"))
    frame.to_parquet(tmp_path / "a.parquet")
    assert RowBlocks.from_parquet(tmp_path, "y").scan().feature_names == ("x",)


def test_files_without_labels(tmp_path):
    X, _ = table()
    path = write(tmp_path / "a.parquet", columns_of(X))
    read, y, weight = joined(RowBlocks.from_parquet(path, None))
    np.testing.assert_array_equal(read, X)
    assert y is None and weight is None


def test_blocks_of_files_can_be_pickled(tmp_path):
    X, y = table()
    path = write(tmp_path / "a.parquet", columns_of(X, y=y))
    blocks = pickle.loads(pickle.dumps(RowBlocks.from_parquet(path, "y")))
    np.testing.assert_array_equal(joined(blocks)[0], X)


def test_a_file_that_is_written_anew(tmp_path):
    X, y = table()
    path = write(tmp_path / "a.parquet", columns_of(X, y=y))
    blocks = RowBlocks.from_parquet(path, "y", rows_per_block=400).scan()
    X[500, 0] += 1.0
    write(path, columns_of(X, y=y))
    with pytest.raises(ValueError, match="Block 1: its numbers"):
        joined(blocks)


BAD_FILES = {
    "target": (dict(target="z"), r"must have the columns \['z'\]; it has"),
    "columns": (dict(columns=["x0", "x9"]), r"must have the columns \['x9'\]"),
    "weights": (dict(sample_weight="z"), r"must have the columns \['z'\]"),
    "text": (
        dict(),
        r"in the columns of X and in weights; \['text'.*\] have other types, the first string",
    ),
    "text as weights": (
        dict(columns=["x0"], sample_weight="text"),
        r"\['text'.*\] have other types, the first string",
    ),
    "lists": (dict(columns=["x0"], target="lists"), "one label for each row in 'lists'; got list"),
    "target as a column": (dict(columns=["x0", "y"]), r"columns must have.*\['y'\] more than once"),
    "a column twice": (dict(columns=["x0", "x0"]), r"columns must have.*\['x0'\] more than once"),
    "no columns": (dict(columns=[]), r"columns must have at least one name"),
    "rows_per_block": (dict(rows_per_block=0), "rows_per_block must be a positive integer"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_lack_something(tmp_path, case):
    X, y = table(4)
    path = write(tmp_path / "a.parquet", columns_of(X, y=y, text=["a"] * 4, lists=[[1]] * 4))
    arguments, message = BAD_FILES[case]
    with pytest.raises(ValueError, match=message):
        RowBlocks.from_parquet(path, **{"target": "y", **arguments})


def test_columns_must_be_a_list(tmp_path):
    path = write(tmp_path / "a.parquet", {"x": [1.0], "y": [0]})
    with pytest.raises(TypeError, match=r"columns must be a list of names.*got 'x'"):
        RowBlocks.from_parquet(path, "y", columns="x")


def test_every_file_must_have_the_columns(tmp_path):
    X, y = table(4)
    write(tmp_path / "a.parquet", columns_of(X, y=y))
    write(tmp_path / "b.parquet", columns_of(X[:, :2], y=y))
    with pytest.raises(ValueError, match=r"b.parquet must have the columns \['x2'\]"):
        RowBlocks.from_parquet(tmp_path, "y")


@pytest.mark.parametrize("path", ["missing.parquet", "", "*.parquet", ["missing.parquet"], []])
def test_no_files(tmp_path, path):
    pytest.importorskip("pyarrow")
    path = str(tmp_path / path) if isinstance(path, str) else path
    with pytest.raises(ValueError, match="path must lead to Parquet files; there are none at"):
        RowBlocks.from_parquet(path, "y")


def test_what_is_no_path():
    pytest.importorskip("pyarrow")
    with pytest.raises(TypeError, match=r"path must be a Parquet file, a folder.*got 3"):
        RowBlocks.from_parquet(3, "y")


def test_a_file_of_another_kind(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match=r"a.parquet must be a Parquet file"):
        RowBlocks.from_parquet(tmp_path, "y")


@pytest.mark.parametrize("empty", ["x1", "y", "w"])
def test_missing_values_are_named_by_block_and_column(tmp_path, empty):
    X, y = table(10)
    columns = columns_of(X, y=y, w=np.ones(10))
    columns[empty] = [None if i == 7 else value.item() for i, value in enumerate(columns[empty])]
    path = write(tmp_path / "a.parquet", columns)
    blocks = RowBlocks.from_parquet(path, "y", sample_weight="w", rows_per_block=4)
    with pytest.raises(ValueError, match=rf"Block 1: .*value in every row; \['{empty}'\] lacks"):
        blocks.scan()


def test_nan_in_a_file(tmp_path):
    X, y = table(10)
    X[7, 2] = np.nan
    path = write(tmp_path / "a.parquet", columns_of(X, y=y))
    with pytest.raises(ValueError, match="Block 1: X must be finite; row 3, column 2 has nan"):
        RowBlocks.from_parquet(path, "y", rows_per_block=4).scan()


def test_threads_are_as_many_as_arrow_is_allowed(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    X, y = table(10)
    path = write(tmp_path / "a.parquet", columns_of(X, y=y))
    asked = []
    original = pq.ParquetFile.iter_batches

    def iter_batches(self, size, groups, columns, use_threads):
        asked.append(use_threads)
        return original(self, size, groups, columns, use_threads)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    allowed = pa.cpu_count()
    try:
        for count in (1, 2):
            pa.set_cpu_count(count)
            RowBlocks.from_parquet(path, "y").scan()
    finally:
        pa.set_cpu_count(allowed)
    assert asked == [False, True]


def test_without_pyarrow_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_text("")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install 'mgce_sklearn\[parquet\]'"):
        RowBlocks.from_parquet(tmp_path, "y")


MEMORY = """
import sys
from mgce_sklearn import RowBlocks

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

import pyarrow.parquet
blocks = RowBlocks.from_parquet(sys.argv[1], "y")
before = anonymous()
most = max(anonymous() for _ in range(3) for block in blocks)
print(most - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((700_000, 50), dtype=np.float32)  # 140 MB
    y = rng.integers(2, size=len(X))
    path = write(tmp_path / "a.parquet", columns_of(X, y=y), use_dictionary=False)
    command = [sys.executable, "-c", MEMORY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 180.0


def test_what_reads_files_says_what_it_reads(tmp_path):
    path = write(tmp_path / "a.parquet", {"x": [1.0], "y": [0], "w": [1.0]})
    rows = ParquetRows.open(path, "y", None, "w", 7)
    assert (rows.feature_names, rows.dtype, rows.files) == (("x",), np.float64, (str(path),))


def test_labels_of_two_kinds_in_files(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for name, labels in (("a", [0, 1]), ("b", ["0", "1"])):
        parquet.write_table(pa.table({"x": [0.5, 1.5], "y": labels}), tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"labels must be of one kind .*b\.parquet is strings"):
        RowBlocks.from_parquet(tmp_path, "y")


@pytest.mark.parametrize(("n_threads", "threaded"), [(1, False), (2, True)])
def test_decoding_keeps_to_the_limit_of_threads(tmp_path, monkeypatch, n_threads, threaded):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"x": [0.5, 1.5], "y": [0, 1]}), tmp_path / "a.parquet")
    monkeypatch.setattr(pa, "cpu_count", lambda: 4)
    asked = []

    class File(parquet.ParquetFile):
        def iter_batches(self, *how):
            asked.append(how[-1])
            return super().iter_batches(*how)

    monkeypatch.setattr(parquet, "ParquetFile", File)
    with threadpool_limits(n_threads, user_api="blas"):
        list(RowBlocks.from_parquet(tmp_path, "y"))
    assert asked == [threaded]
