"""forecast and impute: what they write, how it repeats, and bad input in one sentence with nothing written."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.cli.outputs import place


def call(*words: object, code: int = 0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


@pytest.fixture
def demand(tmp_path: Path) -> Path:
    """Three weeks of days and nights, with three gaps."""
    lines = ["timestamp;note;load;temp"]
    for k in range(24 * 21):
        load = (
            ""
            if k in (30, 31, 200)
            else f"{50 + 20 * np.sin(k * np.pi / 12) + (k * 37 % 11) / 10:.2f}".replace(".", ",")
        )
        lines.append(f"2020-01-{1 + k // 24:02} {k % 24:02}:00;x;{load};{k % 24}")
    path = tmp_path / "demand.csv"
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode())
    return path


QUICK = ("--minutes", 0, "--samples", 20, "-q")


def test_forecast_writes_quantiles_samples_a_plot_and_a_manifest(demand, tmp_path):
    out = tmp_path / "out"
    call("forecast", demand, "--time", "timestamp", "--horizon", 24, "-o", out, "--target", "load", *QUICK)
    names = {path.name for path in out.iterdir()}
    assert names - {"plot.png"} == {"quantiles.csv", "samples.npy", "manifest.json"}
    samples = np.load(out / "samples.npy")
    assert samples.shape == (20, 24, 1)
    lines = (out / "quantiles.csv").read_text().splitlines()
    assert lines[0] == "time,target,known,mean,q0.05,q0.1,q0.25,q0.5,q0.75,q0.9,q0.95"
    assert len(lines) == 25
    first = lines[1].split(",")
    assert first[:3] == ["2020-01-22 00:00", "load", "0"]
    assert float(first[7]) == pytest.approx(np.quantile(samples[:, 0, 0], 0.5))
    truth = 50 + 20 * np.sin(np.arange(24) * np.pi / 12) + 0.5
    assert np.abs(np.median(samples, 0)[:, 0] - truth).mean() < 1.0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["command"] == "forecast"
    assert manifest["settings"]["horizon"] == 24
    assert manifest["model"]["steps"] == 0


def test_a_run_is_repeated_from_its_manifest_with_its_steps(demand, tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    words = ("--time", "timestamp", "--horizon", 3, "--target", "load", "--steps", 3, "--samples", 4, "--seed", 5, "-q")
    call("forecast", demand, "-o", out, *words)
    assert json.loads((out / "manifest.json").read_text())["settings"]["steps"] == 3
    call("run", out / "manifest.json", "-o", again, "-q")
    assert (out / "quantiles.csv").read_bytes() == (again / "quantiles.csv").read_bytes()
    demand.write_text(demand.read_text() + "2020-01-22 00:00;x;1;1\n")
    result = call("run", out / "manifest.json", "-o", again, "-q", code=3)
    assert "has changed" in result.output


def test_impute_fills_the_gaps_and_nothing_else(demand, tmp_path):
    out = tmp_path / "filled.csv"
    call("impute", demand, "-o", out, "--time", "timestamp", *QUICK)
    before, after = demand.read_bytes().split(b"\r\n"), out.read_bytes().split(b"\r\n")
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert changed == [31, 32, 201]
    for i in changed:
        cells = after[i].decode().split(";")
        assert len(cells[2].split(",")[1]) == 2  # two decimals, as the column has
        k = i - 1
        assert abs(float(cells[2].replace(",", ".")) - 50.5 - 20 * np.sin(k * np.pi / 12)) < 2.0
    names = {path.name for path in tmp_path.iterdir()} - {"filled.csv.plot.png"}
    assert names == {
        "demand.csv",
        "filled.csv",
        "filled.csv.quantiles.csv",
        "filled.csv.samples.npy",
        "filled.csv.manifest.json",
    }
    first = out.read_bytes()
    out.unlink()
    call("run", tmp_path / "filled.csv.manifest.json", "-q")
    assert out.read_bytes() == first
    assert place(tmp_path / "filled.csv.manifest.json") == out
    assert place(tmp_path / "o/manifest.json") == tmp_path / "o"


def test_impute_into_a_folder(demand, tmp_path):
    call("impute", demand, "-o", tmp_path / "folder", "--time", "timestamp", *QUICK)
    assert {"filled.csv", "manifest.json", "quantiles.csv"} <= {p.name for p in (tmp_path / "folder").iterdir()}
    (tmp_path / "dir.csv").mkdir()
    result = call("impute", demand, "-o", tmp_path / "dir.csv", "--time", "timestamp", *QUICK, code=3)
    assert "is a folder: name a file" in result.output


def test_json_and_dry_run(demand, tmp_path):
    out = tmp_path / "out"
    words = ("forecast", demand, "--time", "timestamp", "--horizon", 2, "--target", "load", "-o", out)
    result = call(*words, "--dry-run", "--json", "-q")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["start", "done"]
    assert events[0]["rows"] == 504
    assert events[0]["missing"] == 3
    assert not out.exists()
    plain = call(*words, "--dry-run", "-q")
    assert plain.stdout.startswith("would forecast load: 504 rows, 3 numbers missing, into ")
    result = call(*words, "--json", "--steps", 2, "--samples", 2, "-q")
    kinds = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert kinds[:3] == ["start", "step", "step"]
    assert kinds[-1] == "done"
    assert kinds.count("item") in (3, 4)


def test_an_uneven_table_is_warned_of_and_resampled_on_request(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("t,a\n" + "".join(f"2020-01-{d:02},{d % 7}\n" for d in range(1, 29) if d != 9))
    result = call("forecast", path, "--time", "t", "--horizon", 2, "-o", tmp_path / "a", *QUICK)
    assert "not evenly spaced" in result.output
    result = call("forecast", path, "--time", "t", "--horizon", 2, "--resample", "1d", "-o", tmp_path / "b", *QUICK)
    assert "not evenly" not in result.output
    call("impute", path, "--time", "t", "--resample", "1d", "-o", tmp_path / "c.csv", *QUICK)
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert len(lines) == 29
    assert lines[9].startswith("2020-01-09,")


GOOD = "t,a\n" + "".join(f"2020-01-{d:02},{d % 5}\n" for d in range(1, 20))
BAD = {
    "an empty file": ("", (), "is empty (0 bytes)"),
    "blank lines": ("\n \n", (), "is empty"),
    "a header": ("t,a\n", (), "a header and no rows"),
    "one row": ("t,a\n2020-01-01,1\n", (), "has one row"),
    "text": (GOOD.replace("-03,3", "-03,three"), (), "line 4 holds 'three'"),
    "all missing": ("t,a\n2020-01-01,\n2020-01-02,\n", (), "'a' of"),
    "a stamp twice": (GOOD.replace("-03,", "-02,"), (), "has '2020-01-02' twice, in rows 2 and 3"),
    "stamps backwards": (GOOD.replace("-03,", "-01,"), (), "goes back in row 3"),
    "no stamp": (GOOD.replace("2020-01-03", ""), (), "holds '' in row 3"),
    "a long horizon": (GOOD, ("--horizon", 20), "a horizon of 20 is longer than the 19 rows"),
    "a gap in a known column": (
        "t,a,k\n" + "".join(f"2020-01-{d:02},{d},{'' if d == 4 else d}\n" for d in range(1, 20)),
        ("--known", "k"),
        "known column 'k' of",
    ),
    "no rows of a known column": (
        "t,a,k\n" + "".join(f"2020-01-{d:02},{d},{d}\n" for d in range(1, 20)),
        ("--known", "k"),
        "known columns are needed for 2",
    ),
    "a wrong column": (GOOD, ("--target", "b"), "has no column 'b'"),
    "a wrong zone": (GOOD, ("--zone", "Nowhere"), "no time zone 'Nowhere'"),
    "a wrong step": (GOOD, ("--resample", "hourly"), "a step is a whole number"),
    "infinity": (GOOD.replace("-03,3", "-03,inf"), (), "is infinite in line 4"),
    "ragged": (GOOD.replace("-03,3", "-03,3,9"), (), "line 4 has 3"),
    "bytes": (b"\x00\x01\x02\xff", (), "no table in utf-8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_nothing_is_written(case, tmp_path):
    text, words, said = BAD[case]
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    out = tmp_path / "out"
    horizon = () if "--horizon" in words else ("--horizon", 2)
    result = call("forecast", path, "--time", "t", *horizon, *words, "-o", out, *QUICK, code=3)
    assert said in result.output
    assert result.output.count("error:") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"t.csv"}


@pytest.mark.parametrize("case", [case for case in BAD if "horizon" not in case and "no rows" not in case])
def test_bad_input_to_impute_is_one_sentence_and_nothing_is_written(case, tmp_path):
    text, words, said = BAD[case]
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = call("impute", path, "--time", "t", *words, "-o", tmp_path / "f.csv", *QUICK, code=3)
    assert said in result.output and result.output.count("error:") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"t.csv"}


def test_many_series_of_one_table_by_a_column(tmp_path):
    """The shops take turns; one of them is called as an argument of np.savez is."""
    rows = [(name, k, 7 if name == "file" else (3, 1, 4, 1)[k % 4]) for k in range(24) for name in ("file", "b")]
    path = tmp_path / "t.csv"
    path.write_text("shop,n,x\n" + "".join(f"{a},{k},{'' if (a, k) == ('b', 9) else v}\n" for a, k, v in rows))
    words = ("--id", "shop", "--time", "n", "--target", "x", *QUICK)
    call("forecast", path, "--horizon", 4, "--season", 4, "-o", tmp_path / "o", *words)
    samples = np.load(tmp_path / "o/samples.npz")
    assert {name: samples[name].shape for name in samples} == {"file": (20, 4, 1), "b": (20, 4, 1)}
    assert (samples["file"] == 7).all()
    assert np.abs(np.median(samples["b"][..., 0], 0) - [3, 1, 4, 1]).max() < 0.5
    lines = (tmp_path / "o/quantiles.csv").read_text().splitlines()
    assert lines[0].startswith("series,time,target,known,mean")
    assert [line.split(",")[:2] for line in lines[1:]] == [[a, str(k)] for a in ("file", "b") for k in range(24, 28)]
    call("impute", path, "--season", 4, "-o", tmp_path / "f.csv", *words)
    filled, was = ((tmp_path / name).read_text().splitlines() for name in ("f.csv", "t.csv"))
    changed = [(a, b) for a, b in zip(filled, was, strict=True) if a != b]
    assert [b for _, b in changed] == ["b,9,"] and changed[0][0] in ("b,9,0", "b,9,1", "b,9,2")
    result = call("impute", path, "--resample", "1d", "-o", tmp_path / "g.csv", *words, code=2)
    assert "--resample makes new rows, which --id cannot put back" in result.output
    result = call("forecast", path, "--horizon", 4, "--id", "none", "-o", tmp_path / "p", *QUICK, code=3)
    assert "has no column 'none'" in result.output


def test_the_shipped_model_forecasts_and_fills_without_learning(tmp_path):
    k = np.arange(120)
    x = 50 + 20 * np.sin(k * np.pi / 6)
    path = tmp_path / "t.csv"
    path.write_text("x\n" + "\n".join("" if i in (40, 41) else f"{v:.2f}" for i, v in enumerate(x[:108])) + "\n")
    call("forecast", path, "--horizon", 12, "--model", "series", "--samples", 30, "-o", tmp_path / "o", "-q")
    samples = np.load(tmp_path / "o/samples.npy")
    assert samples.shape == (30, 12, 1)
    assert np.abs(np.median(samples[:, :, 0], 0) - x[108:]).max() < 2.0
    about = json.loads((tmp_path / "o/manifest.json").read_text())["model"]
    assert about["network"] == "kernel-mixture" and about["steps"] == 0
    call("impute", path, "--model", "series", "--samples", 30, "-o", tmp_path / "f.csv", "-q")
    lines = (tmp_path / "f.csv").read_text().splitlines()[1:]
    assert [float(lines[i]) for i in (40, 41)] == pytest.approx(x[40:42].tolist(), abs=2.0)
    result = call("forecast", path, "--horizon", 2, "--model", "series", "--known", "x", "-o", tmp_path / "p", code=2)
    assert "a trained model sees the target alone" in result.output


def test_wrong_usage(demand, tmp_path):
    result = call("forecast", tmp_path / "none.csv", "--horizon", 2, *QUICK, code=3)
    assert "is not there" in result.output
    assert call("forecast", demand, code=2).output
    (tmp_path / "t.parquet").write_bytes(b"x")
    result = call("impute", tmp_path / "t.parquet", "--decimal", ",", *QUICK, code=2)
    assert "a Parquet file has no decimal" in result.output


def test_parquet_stays_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="extra tables: pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    data = arrow.table({"n": arrow.array([1, None, *range(3, 40)], arrow.int32()), "w": ["x"] * 39})
    parquet.write_table(data, tmp_path / "t.parquet")
    call("impute", tmp_path / "t.parquet", "-o", tmp_path / "f.parquet", *QUICK)
    back = parquet.read_table(tmp_path / "f.parquet")
    assert back.schema.equals(data.schema)
    assert back["n"].to_pylist()[2:] == data["n"].to_pylist()[2:]
    assert back["n"].to_pylist()[1] in range(-2, 6)
    call("impute", tmp_path / "t.parquet", "-o", tmp_path / "folder", *QUICK)
    assert (tmp_path / "folder/filled.parquet").exists()


def test_any_table_ends_in_a_result_or_a_sentence(tmp_path):
    given = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
    st = given.strategies
    cell = st.sampled_from(["1", "2.5", "-3", "", "NA", "x", "1e3", "7,5", "inf"])
    rows = st.lists(st.tuples(cell, cell), max_size=9)
    path = tmp_path / "t.csv"

    @given.given(rows, st.sampled_from([",", ";"]), st.integers(1, 5))
    @given.settings(max_examples=25, deadline=None, derandomize=True)
    def check(made, separator, horizon):
        path.write_text("a" + separator + "b\n" + "".join(separator.join(row) + "\n" for row in made))
        words = [str(w) for w in ("forecast", path, "--horizon", horizon, "-o", tmp_path / "o", *QUICK)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code in (0, 3), result.output
        if result.exit_code == 3:
            assert result.output.startswith("error: ")

    check()
