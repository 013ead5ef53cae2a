"""A user's table: read in any form, made numbers, and mistakes in it cost one sentence."""

import csv
import io

import numpy as np
import pytest
from command_line import check_one_sentence
from flowers import N_ROWS, write_flowers

from mgce_sklearn.__main__ import main
from mgce_sklearn.report import table
from mgce_sklearn.report.columns import TableColumns, names_out, preprocessing

pd = pytest.importorskip("pandas")
for package in ("jinja2", "matplotlib"):
    pytest.importorskip(package, reason="the command checks for it before it reads a table")


@pytest.fixture
def flowers_csv(tmp_path):
    return write_flowers(tmp_path / "flowers.csv")


CELLS = [
    ["size", "self", "town, country", "kind"],
    ["1", "7", "Rome, Italy", "None"],
    ["2.5", "9", 'the "big" one; x', "NA"],
    ["", "8", "", "rose"],
    ["-4e-3", "9", "NA", "NA"],
]


def rendered(separator=",", decimal=".", end="\n", quoting=csv.QUOTE_MINIMAL, more=0):
    """Write the cells as programs do, rows with more separators at the end."""
    file = io.StringIO()
    rows = [[cells[0].replace(".", decimal), *cells[1:]] for cells in CELLS]
    rows = [rows[0], *(row + [""] * more for row in rows[1:])]
    csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting).writerows(rows)
    return file.getvalue()


FORMS = {
    "commas": rendered(),
    "Windows": rendered(end="\r\n"),
    "an old Mac": rendered(end="\r"),
    "tabs": rendered("\t"),
    "bars": rendered("|"),
    "semicolons": rendered(";"),
    "European Excel": rendered(";", ",", "\r\n"),
    "a byte order mark": "\ufeff" + rendered(),
    "a line for Excel": "sep=;\r\n" + rendered(";", ",", "\r\n"),
    "both": "\ufeffSEP=^\n" + rendered("^"),
    "quotes everywhere": rendered(quoting=csv.QUOTE_ALL),
    "rows that end with a separator": rendered(more=1),
    "rows that end with a semicolon": rendered(";", ",", more=1),
    "an empty column": rendered().replace("\n", ",\n"),
    "blank lines": "\n \n" + rendered().replace("2.5,", "\n2.5,") + "\n \n,,,\n",
    "blank rows": ",,,,,,\n" + rendered() + ",,,\n",
    "spaces": rendered().replace(',"', ' , "').replace('",', '" ,').replace("1,7", " 1 , 7 "),
}


def read_numbers(path, content):
    path.write_bytes(content.encode())
    return table.with_numbers(*table.read_csv(path))


@pytest.mark.parametrize("form", FORMS)
def test_one_table_in_many_forms(form, tmp_path):
    frame = read_numbers(tmp_path / "table.csv", FORMS[form])
    assert list(frame) == CELLS[0]
    np.testing.assert_array_equal(frame["size"], [1.0, 2.5, np.nan, -4e-3])
    np.testing.assert_array_equal(frame["self"], [7, 9, 8, 9])
    assert frame["self"].dtype.kind == "i"
    assert frame["town, country"].fillna("").tolist() == [row[2] for row in CELLS[1:]]
    assert frame["kind"].tolist() == ["None", "NA", "rose", "NA"]


def test_words_for_missing_numbers_are_words_elsewhere(tmp_path):
    marks = ["?", "-", ".", "NA", "n/a", "#N/A", "NaN", "None", "NULL", "<NA>"]
    rows = "".join(f"{mark},{mark} , {mark}\n" for mark in marks)
    frame = read_numbers(tmp_path / "table.csv", "size,word,only\n1,red,\n,None,\n2.5,,\n" + rows)
    np.testing.assert_array_equal(frame["size"], [1.0, np.nan, 2.5] + [np.nan] * len(marks))
    assert frame["word"].dropna().tolist() == ["red", "None", *marks]
    assert frame["only"].dropna().tolist() == marks


def test_classes_may_be_called_none(tmp_path):
    path = tmp_path / "table.csv"
    kinds = ["None", "NA", "null", "?", "01", "1", ""]
    path.write_text("size,kind\n" + "".join(f"{i % 9},{kinds[i % 7]}\n" for i in range(140)))
    read = table.read_table(path, "kind")
    assert set(read.labels) == set(kinds[:-1])
    assert "left out, 'kind' is missing: 20 rows" in read.notes


def test_a_comma_is_one_thing_in_a_file(tmp_path):
    path = tmp_path / "table.csv"
    for separator in ",\t|":
        frame = read_numbers(
            path, '"size","kind"\n"1,234","a"\n"999","b"\n'.replace('","', f'"{separator}"')
        )
        assert frame["size"].tolist() == ["1,234", "999"]  # a thousand, as like as not
    frame = read_numbers(path, "size;weight;price;code;kind\n1,5;,5;1.234;1,5;a\n2;1e3;1.5;1.5;b\n")
    np.testing.assert_array_equal(frame["size"], [1.5, 2.0])
    np.testing.assert_array_equal(frame["weight"], [0.5, 1000.0])
    assert frame["price"].tolist() == ["1.234", "1.5"]  # thousands, among decimal commas
    assert frame["code"].tolist() == ["1,5", "1.5"]
    frame = read_numbers(path, "size;price;kind\n1.5;2.5;1,a\n2;1e3;2,b\n")
    np.testing.assert_array_equal(frame[["size", "price"]], [[1.5, 2.5], [2.0, 1000.0]])


def test_the_separator_is_the_one_of_header_and_rows(tmp_path):
    header = "size;weight, in kg;height, in cm, barefoot;kind\n"
    frame = read_numbers(tmp_path / "table.csv", header + "1,5;2,5;3;a\n2,5;3,5;4;b\n")
    assert list(frame) == header.strip().split(";")
    np.testing.assert_array_equal(frame["weight, in kg"], [2.5, 3.5])
    frame = read_numbers(tmp_path / "table.csv", "note|kind\n" + "a, b; c|x\n" * 3 + "end\n")
    assert frame["note"].tolist() == ["a, b; c"] * 3 + ["end"]


def test_a_column_without_a_name_is_numbered(tmp_path):
    frame = read_numbers(tmp_path / "table.csv", ",size,,kind\n0,1,,a\n1,2,,b\n")
    assert list(frame) == ["column 1", "size", "kind"]


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_numbers_of_any_size(size, tmp_path):
    heights = np.random.default_rng(0).normal(size=40)
    path = tmp_path / "table.csv"
    transformed = []
    for unit in (1.0, size):
        frame = pd.DataFrame({"height": unit * heights, "few": 0.0, "kind": np.arange(40) % 2})
        frame.loc[20:, "few"] = 5 * unit
        frame.to_csv(path, index=False)
        features = table.read_table(path, "kind").features
        transformed.append(preprocessing(features).fit_transform(features))
        np.testing.assert_allclose(transformed[-1].std(axis=0), 1.0)
    np.testing.assert_allclose(*transformed, rtol=1e-9, atol=1e-12)


def test_columns_become_finite_standardized_numbers(flowers_csv):
    frame = table.with_numbers(*table.read_csv(flowers_csv))
    features = frame[["height", "color", "wild"]]
    numbers = preprocessing(features).fit_transform(features)
    # height, height is missing; blue, green, red, color is missing; wild False, True
    assert numbers.shape == (N_ROWS, 2 + 4 + 2)
    assert np.isfinite(numbers).all()
    np.testing.assert_allclose(numbers[:, :2].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(numbers[:, :2].std(axis=0), 1.0, rtol=1e-12)


def test_categories_not_seen_and_rare_ones_share_a_column():
    seen = pd.DataFrame({"town": ["a"] * 150 + ["b"] * 150 + ["c", "d"]})
    encoder = preprocessing(seen).fit(seen)
    new = pd.DataFrame({"town": ["c", "never seen"]})
    first, second = encoder.transform(new)
    np.testing.assert_array_equal(first, second)
    assert first.sum() == 1.0


HEADER = "size,color,kind\n"
ROWS = "".join(f"{i % 5},{'red' if i % 2 else 'blue'},{'ab'[i % 2]}\n" for i in range(40))

MISTAKES = {
    "no file": (None, "kind", "No such file"),
    "no target": (HEADER + ROWS, None, "columns are: size, color, kind"),
    "no such column": (HEADER + ROWS, "name", "columns are: size, color, kind"),
    "nearly a column": (HEADER + ROWS, "Kinds", "did you mean 'kind'?"),
    "empty": ("", "kind", "is empty"),
    "blank": ("\n\n", "kind", "is empty"),
    "header alone": (HEADER, "kind", "no rows"),
    "ragged": (HEADER + ROWS + "1,2,3,4,5\n", "kind", "line 42 has 5 cells and the header 3, so"),
    "a cell too many": ("\n" + HEADER + "1,\"r\ned\",a\n1,5,blue,a\n" + ROWS, "kind",
                        "line 5 has 4 cells and the header 3, so quote cells that contain ','"),
    "an open quote": (HEADER + ROWS + '1,"red,a\n', "kind", "is not a table: Error tokenizing"),
    "an early one": (HEADER + '1,"red,a\n' + 9999 * ROWS, "kind", "EOF inside string"),
    "not text": (b"\x89PNG\xff\xfe\x00", "kind", "UTF-8"),
    "UTF-16": ((HEADER + ROWS).encode("utf-16"), "kind", "save it as a UTF-8 CSV file"),
    "UTF-16 without its mark": ((HEADER + ROWS).encode("utf-16-le"), "kind", "UTF-8"),
    "Latin": ((HEADER + ROWS).replace("red", "grün").encode("latin-1"), "kind", "UTF-8"),
    "names alike but for spaces": ("size , size,kind\n" + ROWS, "kind", "two columns 'size'"),
    "two targets": ("size,kind,kind\n" + ROWS, "kind", "two columns 'kind': give each a name"),
    "one column": ("kind\n" + "a\nb\n" * 20, "kind", "no column is left"),
    "many columns": (",".join(f"x{i}" for i in range(99)) + "\n" + "1," * 98 + "1\n", "y",
                     "x18, x19, and 79 more"),
    "one class": (HEADER + "1,red,a\n2,blue,a\n" * 20, "kind", "two classes"),
    "tiny": (HEADER + ROWS[:60], "kind", "two classes"),
    "a quantity": (
        "size,price\n" + "".join(f"{i % 5},{i * 1.5}\n" for i in range(40)),
        "price",
        "this is a classifier",
    ),
    "no column left": ("row,kind\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(40)), "kind",
                       "no column is left"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_the_table(name, tmp_path, capsys):
    content, target, sentence = MISTAKES[name]
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    page = tmp_path / "page.html"
    assert main([str(path), *([target] if target else []), "--report", str(page)]) == 2
    check_one_sentence(capsys, sentence)
    assert not page.exists()


def test_a_folder_is_not_a_table(tmp_path, capsys):
    assert main([str(tmp_path), "kind"]) == 2
    check_one_sentence(capsys, "cannot read")


def test_what_is_done_with_flowers(flowers_csv):
    found = table.read_table(flowers_csv, "species")
    assert found.notes == [
        "left out, a number for each row: row",
        "left out, constant: site",
        "left out, text that hardly repeats, such as names, dates, numbers with units or free "
        "text: note",
        "missing values, by column (numbers: filled with the median, and a column that says so; "
        "text: a category of its own): height (41), color (30)",
        "left out, 'species' is missing: 4 rows",
        "left out, classes of fewer than 10 rows: thistle (3)",
        "rows that repeat an earlier one in all columns that are used: 34 (kept)",
    ]
    assert list(found.features) == ["height", "color", "wild"]
    assert found.labels.index[0] == 8  # of rows counted from 1
    assert found.words.loc[9, "note"] == "seen by 8"


def test_rows_that_repeat_are_told(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(HEADER + ROWS)
    assert table.read_table(path, "kind").notes == [
        "rows that repeat an earlier one in all columns that are used: 30 (kept)"
    ]


@pytest.fixture
def sizes():
    return pd.DataFrame({"size": [3.0, np.nan, 6.0, 1.0], "color": ["red", None, "red", "blue"]})


def test_columns_are_found_by_name(sizes):
    columns = TableColumns(["size"], ["color"]).fit(sizes)
    more = sizes.assign(other=1.0)[["color", "other", "size"]]
    pd.testing.assert_frame_equal(columns.transform(more), columns.transform(sizes))


def test_codes_are_text_if_they_were_when_learned(sizes):
    columns = TableColumns(["size"], ["code"]).fit(sizes.assign(code=["1", "a", None, "2"]))
    new = columns.transform(sizes.assign(code=[1, 2, 3, 4]))
    assert new["code"].tolist() == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame[["size"]], "lacks color"),
        (lambda frame: frame.to_numpy(), "lacks size, color"),
        (lambda frame: frame.assign(size=["1", "2 kg", None, "3"]), "got '2 kg' in row 1"),
    ],
)
def test_tables_unlike_the_one_of_the_fit(sizes, change, message):
    columns = TableColumns(["size"], ["color"]).fit(sizes)
    with pytest.raises(ValueError, match=message):
        columns.transform(change(sizes))


def test_names_of_columns_can_be_read(sizes):
    frame = pd.concat([sizes] * 50, ignore_index=True)
    frame.loc[0, "color"] = "gray"
    assert names_out(preprocessing(frame).fit(frame)) == [
        "size",
        "size is missing",
        "color = (missing)",
        "color = blue",
        "color = red",
        "color = (rare)",
    ]
