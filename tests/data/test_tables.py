"""Tables: read whatever the separator, sign and zone, written back to the bit but for what was filled."""

from pathlib import Path

import numpy as np
import pytest

from sfumato.data.csv_tables import number, read_csv, split, unquoted
from sfumato.data.tables import Columns, as_table, read_table

NAN = float("nan")


def table(tmp_path: Path, text: str | bytes, **options):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_csv(path, **options)


@pytest.mark.parametrize(
    "text",
    [
        "time,a,b\n2020-01-01,1.50,\n2020-01-02,,7\n",
        "time;a;b\r\n01.02.2020;1,50;\r\n02.02.2020;;7",
        "a\tb\n1\t2\n\n3\t4\n\n",
        '"a","b ""x"", y"\n"1,000.5", 2\n,NA\n',
        '\ufeffa,b\n1,2\n3,"4\n"\n',
        "a\n1\n\n3\n",
        "a,b\r1,2\r3,4\r",
    ],
)
def test_a_table_is_written_back_byte_for_byte(tmp_path, text):
    read = table(tmp_path, text)
    out = tmp_path / "out.csv"
    read.write(out)
    assert out.read_bytes() == text.encode()
    assert read.filled({}).text() == read.text()


def test_utf_16_is_written_back(tmp_path):
    raw = "zeit;größe\n1;2,5\n2;\n".encode("utf-16")
    read = table(tmp_path, raw)
    assert read.names == ("zeit", "größe")
    read.write(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == raw


def test_only_missing_cells_are_filled(tmp_path):
    read = table(tmp_path, 'when;a;n;"b"\r\nx;1,50;3;0,1\r\ny;;NA;"-2e-3"\r\nz;"7";5;?\r\n')
    assert (read.separator, read.decimal) == (";", ",")
    new = read.filled({"a": np.array([9.0, 2.346, 9.0]), "n": np.full(3, 4.4), "b": np.array([9.0, 9.0, 0.25])})
    assert new.text() == 'when;a;n;"b"\r\nx;1,50;3;0,1\r\ny;2,35;4;"-2e-3"\r\nz;"7";5;0,250\r\n'
    assert read.text().count("NA") == 1  # the first table is what it was


def test_a_filled_decimal_comma_is_quoted_where_commas_separate(tmp_path):
    read = table(tmp_path, 'a,b\n"1,25",x\n,y\n', decimal=",")
    assert read.filled({"a": np.array([0.0, 3.5])}).text() == 'a,b\n"1,25",x\n"3,50",y\n'


def test_numbers_of_each_convention():
    cases = {
        ("1,5", ","): 1.5, ("1.234,5", ","): 1234.5, ("1,234.5", "."): 1234.5, ("-3e-2", "."): -0.03,
        ("+.5", "."): 0.5, ("12345678", ","): 12345678.0, ("1,234,567", "."): 1234567.0,
    }  # fmt: skip
    for (word, sign), value in cases.items():
        assert number(word, sign) == value, word
    for word, sign in (("1,5", "."), ("1_000", "."), ("0x10", "."), ("1.2.3", "."), ("12,34,5", "."), ("abc", ".")):
        assert number(word, sign) is None, word
    for word in ("", "NA", "NaN", "null", "?", "-", "#N/A"):
        assert np.isnan(number(word, "."))
    assert number("inf", ".") == np.inf
    assert number("-Infinity", ".") == np.inf


def test_the_decimal_sign_is_found_or_asked_for(tmp_path):
    assert table(tmp_path, "a;b\n1,5;2\n1.234,5;3\n").numbers("a").tolist() == [1.5, 1234.5]
    assert table(tmp_path, "a;b\n1,234.5;2\n7;3\n").numbers("a").tolist() == [1234.5, 7.0]
    assert table(tmp_path, "a;b\n1.25;2\n7;3\n").decimal == "."
    with pytest.raises(ValueError, match=r"may be 1.234 or 1234: name the decimal sign"):
        table(tmp_path, "a;b\n1,234;2\n5,678;3\n")
    assert table(tmp_path, "a;b\n1,234;2\n5,678;3\n", decimal=",").numbers("a").tolist() == [1.234, 5.678]
    assert table(tmp_path, "a;b\n1,234;2\n5,678;3\n", decimal=".").numbers("a").tolist() == [1234.0, 5678.0]
    with pytest.raises(ValueError, match=r"'.' or ',', got ';'"):
        table(tmp_path, "a\n1\n", decimal=";")


def test_a_header_is_text_alone(tmp_path):
    assert table(tmp_path, "1,2\n3,4\n").names == ("c1", "c2")
    assert table(tmp_path, "2020-01-01,2\n2020-01-02,4\n").names == ("c1", "c2")
    assert table(tmp_path, ",x\n3,4\n").names == ("column 1", "x")
    assert table(tmp_path, "1990,1991\n3,4\n", header=True).names == ("1990", "1991")
    assert len(table(tmp_path, "a,b\n3,4\n", header=False)) == 2


def test_blank_lines_are_no_rows_but_gaps_in_a_lone_column(tmp_path):
    assert len(table(tmp_path, "a,b\n\n1,2\n \n3,4\n\n")) == 2
    lone = table(tmp_path, "\na\n1\n\n3\n\n\n")
    assert np.array_equal(lone.numbers("a"), [1.0, NAN, 3.0], equal_nan=True)
    assert len(table(tmp_path, "1,2\n,\n3,4\n")) == 3  # a row of commas is a row, all missing


def test_errors_say_where(tmp_path):
    bad = {
        "": "is empty",
        "\n  \n": "is empty: it has no line",
        "a,b\n": "a header and no rows",
        "a,b\n1,2\n3\n": r"the first line has 2 columns, line 3 has 1",
        "a,a\n1,2\n": "two columns 'a'",
        'a,b\n1,"2\n3,4\n': "quote opened in line 2 is not closed",
        "a\0b\n": "zero bytes",
    }
    for text, words in bad.items():
        path = tmp_path / "bad.csv"
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_table(path)
    read = table(tmp_path, 'a,b\n"x\ny",1\nz,oops\n')
    with pytest.raises(ValueError, match=r"column 'b' of .*t.csv is to hold numbers, but line 4 holds 'oops'"):
        read.numbers("b")
    with pytest.raises(ValueError, match="column 'a' of .* is infinite in line 3"):
        table(tmp_path, "a\n1\ninf\n").numbers("a")
    with pytest.raises(ValueError, match=r"no column 'c': it has 'a', 'b'"):
        read.numbers("c")
    with pytest.raises(ValueError, match="no table in utf-8: name its encoding"):
        table(tmp_path, b"a,b\n\xe9,1\n")
    assert table(tmp_path, b"a,b\n\xe9,1\n", encoding="latin-1").words("a") == ["é"]
    with pytest.raises(ValueError, match="no encoding 'klingon'"):
        table(tmp_path, "a\n1\n", encoding="klingon")
    for wrong in ("ab", "\n", '"'):
        with pytest.raises(ValueError, match="a separator is one character"):
            table(tmp_path, "a\n1\n", separator=wrong)
    with pytest.raises(FileNotFoundError, match="is not there"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_table(tmp_path)


def test_a_separator_that_no_line_agrees_on_is_reported_with_the_line(tmp_path):
    with pytest.raises(ValueError, match=r"3 columns, line 3 has 2 \(separator ';'\)"):
        table(tmp_path, "a;b;c\n1;2;3\n4;5\n")


def test_text_columns_are_no_numbers(tmp_path):
    read = table(tmp_path, "a,b,c\n1,x,\n2,y,\noops,3,\n")
    assert [read.is_numeric(name) for name in "abc"] == [True, False, True]


def test_hypothesis_round_trip(tmp_path):
    given = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
    st = given.strategies
    cell = st.text(st.characters(exclude_characters='"\r\n,', exclude_categories=["Cs"]), max_size=6)
    quoted = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"'), max_size=6)
    field = st.one_of(cell, quoted.map(lambda s: f'"{s}"'), st.just('"a ""b"""'))
    lines = st.lists(st.tuples(st.lists(field, min_size=1, max_size=4), st.sampled_from(["\n", "\r\n"])), min_size=1)

    @given.given(lines)
    @given.settings(max_examples=200, deadline=None, derandomize=True)
    def check(made):
        text = "".join(",".join(record) + end for record, end in made)
        records, ends = split(text, ",")
        assert "".join(",".join(r) + e for r, e in zip(records, ends, strict=True)) == text
        if '"' in text:  # every field is found as it was put there
            assert [list(r) for r in records] == [list(r) for r, _ in made]

    check()
    assert unquoted(' "a ""b""" ') == 'a "b"'
    assert unquoted('"') == '"'


def test_any_text_is_read_or_refused_in_a_sentence(tmp_path):
    given = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
    words = given.strategies.sampled_from(["1", "2,5", "a", ",", ";", "\n", '"', " ", "2020-01-01", "NA", "\t", "é", "-"])
    path = tmp_path / "t.csv"

    @given.given(given.strategies.lists(words, max_size=30))
    @given.settings(max_examples=300, deadline=None, derandomize=True)
    def check(pieces):
        path.write_bytes("".join(pieces).encode())
        try:
            read = read_csv(path)
            for name in read.names:
                read.is_numeric(name)
                read.numbers(name)
        except ValueError as error:
            assert len(str(error)) > 20
        else:
            assert read.text() == "".join(pieces)

    check()


def test_columns_in_memory(tmp_path):
    made = Columns({"a": [1.0, NAN, 3.0], "n": np.array([1, 2, 3]), "w": ["x", "y", "z"]})
    assert len(made) == 3
    assert [made.is_numeric(name) for name in made.names] == [True, True, False]
    full = made.filled({"a": np.array([9.0, 2.5, 9.0])})
    assert full.numbers("a").tolist() == [1.0, 2.5, 3.0]
    assert np.isnan(made.numbers("a")[1])
    made.write(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "a,n,w\n1.0,1,x\n,2,y\n3.0,3,z\n"
    with pytest.raises(ValueError, match="holds <U1, not numbers"):
        made.numbers("w")
    with pytest.raises(ValueError, match="infinite in row 2"):
        Columns({"a": [0.0, np.inf]}).numbers("a")
    with pytest.raises(ValueError, match="columns of one length"):
        Columns({"a": [1.0], "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match="columns of one length"):
        Columns({})
    with pytest.raises(ValueError, match=r"\(rows,\) or \(rows, columns\), got \(1, 1, 1\)"):
        Columns.of(np.zeros((1, 1, 1)))
    stamped = Columns({"t": np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"), "u": [0.5, 1.0]})
    assert stamped.stamps("t").index.tolist() == [0.0, 1.0]
    assert stamped.stamps("u").index.tolist() == [0.0, 1.0]


def test_as_table_takes_what_holds_one(tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert as_table(tmp_path / "t.csv").names == as_table(str(tmp_path / "t.csv")).names == ("a",)
    assert as_table({"a": [1.0]}).names == ("a",)
    assert as_table(np.zeros((3, 2))).names == ("c1", "c2")
    assert as_table(np.zeros(3)).names == ("c1",)
    same = Columns({"a": [1.0]})
    assert as_table(same) is same
    with pytest.raises(TypeError, match="got int"):
        as_table(3)


# Parquet and DataFrames


def test_parquet_keeps_types_metadata_and_values(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="extra tables: pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    schema = arrow.schema(
        [("n", arrow.int16()), ("x", arrow.float32()), ("w", arrow.string()), ("d", arrow.decimal128(6, 2))],
        metadata={"owner": "me"},
    )
    data = arrow.table(
        {"n": [1, None, 3], "x": [0.1, float("nan"), None], "w": ["a", None, "c"], "d": [None, 2, 3]}, schema=schema
    )
    parquet.write_table(data, tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet")
    assert read.names == ("n", "x", "w", "d")
    assert len(read) == 3
    assert np.array_equal(read.numbers("n"), [1, NAN, 3], equal_nan=True)
    full = read.filled({"n": np.full(3, 2.6), "x": np.array([9, 0.5, 0.25]), "d": np.full(3, 1.25)})
    full.write(tmp_path / "out.parquet")
    back = parquet.read_table(tmp_path / "out.parquet")
    assert back.schema.equals(data.schema, check_metadata=True)
    assert back["n"].to_pylist() == [1, 3, 3]
    assert back["x"].to_pylist() == [data["x"][0].as_py(), 0.5, 0.25]
    assert back["w"].to_pylist() == ["a", None, "c"]
    assert [float(v) for v in back["d"].to_pylist()] == [1.25, 2, 3]
    with pytest.raises(ValueError, match="column 'w' of .* holds string, not numbers"):
        read.numbers("w")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match="damaged or no Parquet file"):
        read_table(tmp_path / "bad.parquet")
    parquet.write_table(data.slice(0, 0), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="no rows"):
        read_table(tmp_path / "none.parquet")


def test_a_data_frame_keeps_its_index_and_types():
    pandas = pytest.importorskip("pandas", reason="extra tables: pandas")
    pytest.importorskip("pyarrow", reason="extra tables: pyarrow")
    index = pandas.date_range("2020-03-28", periods=3, freq="D", tz="Europe/Berlin", name="day")
    frame = pandas.DataFrame({"a": [1.5, None, 2.5], "k": pandas.Categorical(["x", "y", "x"])}, index=index)
    read = as_table(frame)
    stamps = read.stamps("day")
    assert stamps.zone == "Europe/Berlin"
    assert stamps.index.tolist() == [0.0, 1.0, 2.0]  # the day of 23 hours is a day
    back = read.filled({"a": np.array([0, 2.0, 0])}).to_frame()
    frame.loc[frame.index[1], "a"] = 2.0
    pandas.testing.assert_frame_equal(back, frame, check_freq=False)


def test_stamps_of_arrow_columns():
    arrow = pytest.importorskip("pyarrow", reason="extra tables: pyarrow")
    from datetime import date, datetime

    from sfumato.data.parquet import ArrowTable

    moments = arrow.array([datetime(2020, 1, 1), datetime(2020, 1, 1, 6)], arrow.timestamp("ns"))
    columns = {
        "t": moments, "u": moments.cast(arrow.timestamp("ms", "UTC")), "d": [date(2020, 1, 31), date(2020, 2, 29)],
        "y": [2001, 2003], "w": ["2020-01", "2020-03"], "g": [None, 1],
    }  # fmt: skip
    read = ArrowTable(arrow.table(columns), "it")
    assert read.stamps("t").step == read.stamps("u").step == 6 * 3600 * 1e6
    assert (read.stamps("d").step, read.stamps("d").months) == (1.0, True)
    assert read.stamps("y").step == 2
    assert read.stamps("w").words() == ["2020-01", "2020-03"]
    with pytest.raises(ValueError, match="no time in row 1"):
        read.stamps("g")
