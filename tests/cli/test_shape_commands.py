"""`sfumato train` and `sample` on shapes, strokes and tunes: files in, files of the same kind out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_train_command import sfumato

from sfumato.data import points

CUBE = "\n".join(f"v {x} {y} {z}" for x in (0, 1) for y in (0, 1) for z in (0, 1)) + "\nf 1 2 4 3\nf 5 6 8 7\nf 1 2 6 5"
CLOUD = [f"--set={field}" for field in ("code=4", "widths=[8]", "encoder=[8]", "couplings=2", "hidden=8", "steps=3")]


@pytest.fixture
def shapes(tmp_path):
    folder = tmp_path / "shapes"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.obj").write_text(CUBE.replace("1 1 1", f"1 1 {i + 2}"))
    return folder


def test_shapes_to_clouds(shapes, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    words = ["--size", 20, "--batch", 3, "--every", 2, "--preview", 2, *CLOUD, "-q"]
    assert sfumato("train", shapes, "-o", run, "--steps", 2, *words).exit_code == 0
    made = json.loads((run / "config.json").read_text())
    assert made["recipe"] == "point-cloud" and made["event"] == [3, None] and made["size"] == [20]
    assert made["data"] == made["training"]["kind"] == "points" and made["fields"]["factor"] == 50.0
    assert sorted(p.name for p in (run / "samples").iterdir())[0] == "00000002-000.ply"
    assert sfumato("train", shapes, "-o", run, "--resume", "--steps", 3, "-q").exit_code == 0
    done = sfumato("sample", run, "-n", 2, "--size", 7, "-o", out)
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "sample-000.ply", "sample-001.ply"]
    assert points.read_shape(out / "sample-001.ply").shape == (7, 3)
    blocks = tmp_path / "blocks"
    assert sfumato("sample", run, "-n", 2, "--size", 7, "--shard", "1/1", "-o", blocks, "-q").exit_code == 0
    assert sfumato("merge", blocks, "-o", tmp_path / "merged", "-q").exit_code == 0
    made = [points.read_shape(folder / "sample-001.ply") for folder in (out, tmp_path / "merged")]
    assert np.allclose(*made, atol=1e-5)


def test_arrays_of_clouds_and_what_does_not_fit(shapes, tmp_path):
    array = tmp_path / "clouds.npz"
    np.savez(array, x=np.random.default_rng(0).normal(size=(4, 6, 3)))
    done = sfumato("train", array, "--recipe", "point-cloud", "-o", tmp_path / "a", "--dry-run")
    assert done.exit_code == 0 and "4 items of 3 x 6" in done.stdout
    done = sfumato("train", array, "--recipe", "point-cloud", "--size", 5, "-o", tmp_path / "a", "--dry-run")
    assert "4 items of 3 x 5" in done.stdout
    np.savez(tmp_path / "two.npz", a=np.zeros(2), b=np.zeros(2))
    done = sfumato("train", tmp_path / "two.npz", "--recipe", "point-cloud", "-o", tmp_path / "a")
    assert done.exit_code == 3 and "holds a, b" in done.stderr
    done = sfumato("train", shapes, "--recipe", "edm", "-o", tmp_path / "a")
    assert done.exit_code == 2 and "point-cloud does" in " ".join(done.stderr.replace("│", "").split())
    (tmp_path / "a.txt").write_text("abc " * 100)
    done = sfumato("train", tmp_path / "a.txt", "--recipe", "point-cloud", "-o", tmp_path / "a")
    assert done.exit_code == 2 and "trained on points" in " ".join(done.stderr.replace("│", "").split())


def test_strokes_to_drawings(tmp_path):
    folder, run, out = tmp_path / "strokes", tmp_path / "run", tmp_path / "out"
    folder.mkdir()
    for i, code in enumerate(("00041", "00042", "00043")):
        (folder / f"{code}.svg").write_text(f'<svg><path d="M0,0L{i + 1},2"/><path d="M3,3c1,1,2,2,3,{i}"/></svg>')
    words = ["--set", "widths=[8,16,16,16]", "--set", "heads=2", "--set", "steps=3", "--size", 16, "--batch", 3, "-q"]
    assert sfumato("train", folder, "-o", run, "--classes", "--steps", 2, "--preview", 2, *words).exit_code == 0
    made = json.loads((run / "config.json").read_text())
    assert made["recipe"] == "handwriting" and made["event"] == [3, 16] and made["names"] == ["A", "B", "C"]
    assert (
        made["fields"]["classes"] == 3 and made["codec"]["kind"] == "channels" and made["training"]["classes"] is True
    )
    assert sfumato("train", folder, "-o", run, "--resume", "--steps", 3, "-q").exit_code == 0
    done = sfumato("sample", run, "-n", 2, "--cond", 1, "-o", out)
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "sample-000.svg", "sample-001.svg"]
    assert "<path" in (out / "sample-001.svg").read_text()
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 3, 8)))
    done = sfumato("train", tmp_path / "x.npz", "--recipe", "handwriting", "-o", tmp_path / "a")
    assert done.exit_code == 2 and "trained on strokes" in " ".join(done.stderr.replace("│", "").split())


def test_tunes_to_midi(tmp_path):
    file, run, out = tmp_path / "a.abc", tmp_path / "run", tmp_path / "out"
    bars = ["A4B4c4d4", "e4d4c4B4", "A8c8", "G4A4B8"]
    tune = "|".join(bars * 4)
    file.write_text(f"X:1\nL:1/16\nK:C\n{tune}\n\nX:2\nL:1/16\nK:G\n{tune}\n")
    words = [f"--set={field}" for field in ("width=16", "heads=2", "feed=16", "hidden=16", "layers=1", "steps=3")]
    words += ["--size", 32, "--batch", 3, "-q"]
    assert sfumato("train", file, "-o", run, "--steps", 2, "--preview", 2, *words).exit_code == 0
    made = json.loads((run / "config.json").read_text())
    assert made["recipe"] == "symbolic-music" and made["event"] == [32] and made["codec"]["kind"] == "bars"
    assert made["fields"]["code"] == len(made["codec"]["low"]) > 2
    assert sfumato("train", file, "-o", run, "--resume", "--steps", 3, "-q").exit_code == 0
    done = sfumato("sample", run, "-n", 2, "-o", out)
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "sample-000.mid", "sample-001.mid"]
    assert (out / "sample-001.mid").read_bytes()[:4] == b"MThd"
    (tmp_path / "songs").mkdir()
    file.rename(tmp_path / "songs" / "a.abc")
    done = sfumato("train", tmp_path / "songs", "-o", tmp_path / "b", "--size", 32, "--dry-run")
    assert done.exit_code == 0 and "symbolic-music" in done.stdout
    done = sfumato("train", tmp_path / "songs", "-o", tmp_path / "b", "--set", "code=3")
    assert done.exit_code == 2 and "decided by the data" in " ".join(done.stderr.replace("│", "").split())
