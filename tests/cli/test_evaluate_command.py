"""`sfumato evaluate`: figures are those of the metrics, shards change nothing, what is wrong is said in a sentence."""

from __future__ import annotations

import json
import math
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from metric_peers import lpips, pictures
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import sfumato as sf
from sfumato import metrics
from sfumato.cli.main import app
from sfumato.codecs import Affine, Quantized
from sfumato.data.images import write_image
from sfumato.denoisers import Denoiser, Estimate
from sfumato.likelihood import bits_per_dim, continuous_elbo, dequantize
from sfumato.noise import Noise, Seeds


def call(*words, code=0):
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def failed(*words, code=3):
    """The sentence of a failure."""
    return " ".join(call(*words, code=code).output.split())


def folder(path: Path, x: torch.Tensor, name: str = "{:03d}.png") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(x):
        write_image(path / name.format(i), picture)
    return path


@pytest.fixture
def two(tmp_path):
    """Two folders of pictures, and what they hold."""
    a, b = pictures(1, 24, 6, 5), pictures(2, 30, 6, 5)
    return folder(tmp_path / "a", a), folder(tmp_path / "b", b), a, b


def read(path: Path) -> dict:
    return json.loads(path.read_text())


# Sets


def test_figures_of_sets_are_the_metrics_of_their_pixels(two, tmp_path):
    a, b, x, y = two
    done = call(a, b, "--subset", 8, "--groups", 2, "--block", 7, "-o", tmp_path / "out" / "r.json", "-q")
    u, v = x.flatten(1), y.flatten(1)
    got = read(tmp_path / "out" / "r.json")
    figures = {name: each["value"] for name, each in got["figures"].items()}
    pr, dc = metrics.precision_recall(u, v), metrics.density_coverage(u, v)
    kd = metrics.kernel_distance(u, v, noise=Noise(0).at("kernel"), size=8)
    expected = {"fd": metrics.frechet(u, v), "kd": kd.value, **pr._asdict(), **dc._asdict()}
    assert figures == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert (got["samples"], got["reference"], got["dimensions"]) == (24, 30, 90)
    assert got["figures"]["kd"]["error"] == pytest.approx(kd.error, rel=1e-4) and got["figures"]["kd"]["blocks"] == 3
    noise = Noise(0).at("groups")
    error = metrics.jackknife(lambda p, q: torch.tensor([metrics.frechet(p, q)]), u, v, noise, 2)
    assert got["figures"]["fd"]["error"] == pytest.approx(float(error), rel=1e-4)
    groups = metrics.group_numbers(24, 30, 2, Noise(0).at("groups"))
    errors = metrics.left_out_error(metrics.balls(u, v, groups=groups).left_out).tolist()
    names = ("precision", "recall", "density", "coverage")
    assert [got["figures"][name]["error"] for name in names] == pytest.approx(errors, abs=1e-6)
    head, *rows = done.stdout.splitlines()
    assert head == "24 samples, 30 of reference, 90 features: pixels"
    assert rows[1].split() == ["fd", f"{expected['fd']:.4g}", "+-", f"{float(error):.4g}"]
    assert "mostly bias" in done.stderr


def test_a_figure_of_sets_is_chosen_and_errors_may_be_left_out(two):
    a, b, *_ = two
    done = call(a, b, "--metrics", "prdc", "--json")
    start, *_, last = map(json.loads, done.stdout.splitlines())
    assert start["settings"]["metrics"] == ["pr", "dc"] and last["event"] == "done"
    assert set(last["figures"]) == {"precision", "recall", "density", "coverage"}
    assert last["figures"]["recall"]["error"] is None and "no errors of fd and prdc: they take 100" in done.stderr
    shown = call(a, b, "--metrics", "kd,coverage", "--subset", 30).stdout.splitlines()
    assert [line.split()[0] for line in shown[1:]] == ["kd", "density", "coverage"]
    assert "+-" not in "".join(shown)


def test_arrays_and_idx_files_are_the_pictures_that_they_hold(two, tmp_path):
    a, b, x, y = two
    whole = call(a, b, "--metrics", "fd").stdout
    levels = (255 * x).round().byte().permute(0, 2, 3, 1).numpy()
    np.save(tmp_path / "x.npy", levels)
    np.savez(tmp_path / "y.npz", x=y.numpy())
    assert call(tmp_path / "x.npy", tmp_path / "y.npz", "--metrics", "fd").stdout == whole
    grey = levels[..., 0]
    (tmp_path / "g-ubyte").write_bytes(bytes([0, 0, 8, 3]) + np.array(grey.shape, ">i4").tobytes() + grey.tobytes())
    np.save(tmp_path / "g.npy", grey)
    last = json.loads(
        call(tmp_path / "g-ubyte", tmp_path / "g.npy", "--metrics", "fd", "--json").stdout.splitlines()[-1]
    )
    assert last["dimensions"] == 30 and last["figures"]["fd"]["value"] == pytest.approx(0.0, abs=1e-9)


def test_grey_beside_color_counts_three_times(two, tmp_path):
    _, b, x, y = two
    grey = folder(tmp_path / "grey", x[:, :1])
    got = call(grey, b, "--metrics", "kd", "--subset", 24, "--json")
    value = json.loads(got.stdout.splitlines()[-1])["figures"]["kd"]["value"]
    noise = Noise(0).at("kernel")
    expected = metrics.kernel_distance(x[:, :1].expand(-1, 3, -1, -1).flatten(1), y.flatten(1), noise=noise, size=24)
    assert value == pytest.approx(expected.value, rel=1e-5)


def test_pictures_of_other_sizes_are_brought_to_one(two, tmp_path):
    a, _, x, _ = two
    folder(tmp_path / "c", pictures(3, 2, 9, 7))
    said = failed(a, tmp_path / "c")
    assert "the pictures have 2 sizes, such as 6 x 5 (000) and 9 x 7 (000): bring them to one with --size." in said
    got = call(a, tmp_path / "c", "--size", 4, "--metrics", "fd", "--json")
    last = json.loads(got.stdout.splitlines()[-1])
    size = {"size": (4, 4), "mode": "bicubic", "antialias": True}
    u, v = (nn.functional.interpolate(each, **size).clamp(0, 1).flatten(1) for each in (x, pictures(3, 2, 9, 7)))
    assert last["dimensions"] == 48 and last["figures"]["fd"]["value"] == pytest.approx(metrics.frechet(u, v), rel=1e-4)


def test_shards_merged_are_the_command_without_shards(two, tmp_path):
    a, b, *_ = two
    words = [a, b, "--block", 7, "--groups", 2, "--subset", 8, "-q"]
    whole = call(*words, "-o", tmp_path / "whole.json").stdout
    call(*words, "--shard", "1/2", "-o", tmp_path / "parts")
    assert "blocks are missing" in CliRunner().invoke(app, ["merge", str(tmp_path / "parts"), "-o", "x"]).output
    call(*words, "--shard", "2/2", "-o", tmp_path / "parts")
    merged = CliRunner().invoke(app, ["merge", str(tmp_path / "parts"), "-o", str(tmp_path / "merged"), "-q"])
    assert merged.exit_code == 0 and merged.stdout.startswith(whole)
    assert read(tmp_path / "merged" / "result.json") == read(tmp_path / "whole.json")
    assert "features-00000000.npy" in {path.name for path in (tmp_path / "merged").iterdir()}
    assert "--shard and --engine need --out" in failed(*words, "--shard", "1/2", code=2)


def test_a_block_of_pictures_is_held_at_a_time(two, monkeypatch):
    a, b, *_ = two
    from sfumato.data import picture_sets

    real, alive, most = picture_sets.Files.read, [], []

    def counted(self, i):
        x = real(self, i)
        alive.append(weakref.ref(x))
        most.append(sum(each() is not None for each in alive))
        return x

    monkeypatch.setattr(picture_sets.Files, "read", counted)
    call(a, b, "--metrics", "fd", "--block", 4)
    assert len(most) == 54 and max(most) <= 5


def test_features_of_your_own(two, tmp_path, monkeypatch):
    a, b, x, y = two
    code = """import torch\nfrom torch import nn
def mean(x): return x.mean((2, 3))
def flat(x): return x.mean()
def nothing(x): return x.flatten(1) / 0.0
class Net(nn.Module):
    def __init__(self): super().__init__(); self.drop = nn.Dropout(0.5)
    def forward(self, x): return self.drop(x.mean((2, 3)))
net, number = Net(), 3
"""
    (tmp_path / "mine_for_evaluate.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    expected = f"fd  {metrics.frechet(x.mean((2, 3)), y.mean((2, 3))):.4g}"
    for name in ("mean", "net"):  # a network is in its evaluation mode: nothing is dropped
        shown = call(a, b, "--metrics", "fd", "--features", f"mine_for_evaluate:{name}", "--groups", 0)
        assert shown.stdout.splitlines()[1] == expected and "3 features: mine_for_evaluate" in shown.stdout
    assert "are to be (32, d), got ()" in failed(a, b, "--features", "mine_for_evaluate:flat")
    assert "hold NaN or infinite numbers" in failed(a, b, "--features", "mine_for_evaluate:nothing")
    assert "mine_for_evaluate:number is no function of pictures, got int" in failed(
        a, b, "--features", "mine_for_evaluate:number"
    )
    for name in ("mine_for_evaluate:gone", "none_such:x"):
        assert f"the features '{name}' cannot be imported" in failed(a, b, "--features", name)
    for name in ("pixel", ":x", "x:"):
        assert f"no features '{name}': pixels, inception" in failed(a, b, "--features", name)


def test_only_features_of_inception_are_called_fid(two, tmp_path, monkeypatch):
    a, _, x, _ = two
    b = folder(tmp_path / "big", pictures(3, 4, 9, 7))  # any size

    class Fake(nn.Module):
        @classmethod
        def load(cls, state):
            assert set(state) == {"w"}
            return cls()

        def forward(self, x):
            return x.mean((2, 3))

    monkeypatch.setattr("sfumato.metrics.features.Inception", Fake)
    save_file({"w": torch.zeros(1)}, tmp_path / "w.safetensors")
    words = [a, b, "--features", "inception", "--metrics", "fd,kd", "--subset", 4]
    shown = call(*words, "--weights", tmp_path / "w.safetensors").stdout
    fid = metrics.frechet(x.mean((2, 3)), pictures(3, 4, 9, 7).mean((2, 3)))
    assert f"{fid:.4g}" in shown and [line.split()[0] for line in shown.splitlines()[1:]] == ["KID", "FID"]
    assert "inception need their weights, which are not shipped" in failed(*words)
    weights = ["--weights", tmp_path / "w.safetensors"]
    assert "take one file of weights, got 2" in failed(*words, *weights, *weights)
    assert "weights are for the features inception, got them for 'pixels'" in failed(a, a, *weights)
    torch.save([1], tmp_path / "list.pth")
    assert "holds no weights by name, but list" in failed(*words, "--weights", tmp_path / "list.pth")


def test_what_is_no_set_of_pictures(two, tmp_path):
    a, *_ = two
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.txt").write_text("x")
    np.save(tmp_path / "wide.npy", np.array([0.5, 1.1]).repeat(16).reshape(2, 1, 4, 4))
    np.save(tmp_path / "low.npy", np.array([0.5, -0.1]).repeat(16).reshape(2, 1, 4, 4))
    np.save(tmp_path / "line.npy", np.random.default_rng(0).uniform(size=(3, 8)))
    folder(tmp_path / "double", pictures(1, 1, 6, 5))
    write_image(tmp_path / "double" / "000.jpg", pictures(1, 1, 6, 5)[0])
    for path, words in (
        ("gone", "gone is not there"),
        ("empty", "empty holds no pictures."),
        ("t.txt", "t.txt is no set of pictures"),
        ("wide.npy", "wide.npy holds no pictures: uint8"),
        ("low.npy", "in [0, 1], got float64 of shape (2, 1, 4, 4)"),
        ("line.npy", "holds no pictures"),
        ("double", "have one name, 000: keep one of them"),
    ):
        assert words in failed(a, tmp_path / path)
    (tmp_path / "double" / "000.jpg").write_bytes(b"")
    (tmp_path / "double" / "000.png").unlink()
    assert "000.jpg is empty (0 bytes)" in failed(a, tmp_path / "double")


def test_pixels_that_do_not_fit_memory(two, monkeypatch):
    monkeypatch.setattr("sfumato.cli.evaluations.MOST", 54 * 90 * 4 - 1)
    assert "pixels of 3 x 6 x 5 are 0 GiB for 54 pictures: reduce them with --size" in failed(*two[:2])
    monkeypatch.setattr("sfumato.cli.evaluations.MOST", 54 * 90 * 4)
    call(*two[:2], "--metrics", "fd")


def test_sheets_and_hidden_files_are_no_samples(two):
    a, b, *_ = two
    first = call(a, b, "--metrics", "fd").stdout
    write_image(a / "grid.png", pictures(9, 1, 30, 30)[0])
    (a / "manifest.json").write_text("{}")
    (a / ".cache").mkdir()
    write_image(a / ".cache" / "x.png", pictures(9, 1, 30, 30)[0])
    assert call(a, b, "--metrics", "fd").stdout == first
    (a / "manifest.json").unlink()
    assert "2 sizes" in failed(a, b)


# Pairs


def noisy(x: torch.Tensor, seed: int, std: float) -> torch.Tensor:
    return ((x + std * Noise(seed).normal(x)).clamp(0, 1) * 255).round() / 255


@pytest.fixture
def three(tmp_path):
    """Truth, a method's results as `restore` names them, and those of a worse one."""
    x = pictures(1, 6, 20, 24)
    sets = x, noisy(x, 3, 0.05), noisy(x, 4, 0.1)
    good = folder(tmp_path / "good", sets[1], "{:03d}.png.restored.png")
    folder(good, sets[2][:2], "{:03d}.png.sample-000.png")
    return folder(tmp_path / "truth", x), good, folder(tmp_path / "bad", sets[2]), sets


def test_scores_of_pairs_are_the_metrics(three, tmp_path):
    truth, good, bad, (x, y, z) = three
    words = [good, truth, "--paired", "--metrics", "psnr,ssim,gmsd", "--against", bad]
    shown = call(*words, "-o", tmp_path / "r.json", "--block", 4).stdout.splitlines()
    got = read(tmp_path / "r.json")
    for name, metric in (("psnr", metrics.psnr), ("ssim", metrics.ssim), ("gmsd", metrics.gmsd)):
        own, other = metric(y.double(), x.double()), metric(z.double(), x.double())
        items = [got["items"][f"{i:03d}"] for i in range(6)]
        assert [item["first"][name] for item in items] == pytest.approx(own.tolist(), rel=1e-5)
        assert [item["against"][name] for item in items] == pytest.approx(other.tolist(), rel=1e-5)
        figure = got["figures"][name]
        for key, values in (("value", own), ("against", other), ("difference", own - other)):
            interval = metrics.bootstrap(values, Noise(0).at(name))
            have = figure if key == "value" else figure[key]
            assert (have["value"], have["low"], have["high"]) == pytest.approx(interval[:3], rel=1e-4)
        assert figure["difference"]["low"] * figure["difference"]["high"] > 0
    assert shown[0] == "6 pictures, RGB or grey, border 0; mean and 95 % interval"
    assert [line.split()[0] for line in shown[1:4]] == ["psnr", "against", "difference"]


def test_the_protocols_of_pairs(three):
    truth, good, _, (x, y, _) = three
    shown = call(good, truth, "--paired", "--y", "--crop", 4, "--json", "--level", 0.8)
    last = json.loads(shown.stdout.splitlines()[-1])
    luma = metrics.Protocol(y=True, crop=4)
    for name, metric in (("psnr", metrics.psnr), ("ssim", metrics.ssim)):
        assert last["figures"][name]["value"] == pytest.approx(
            float(metric(luma(y.double()), luma(x.double())).mean()), rel=1e-5
        )
    assert last["level"] == 0.8
    assert "luma, border 4; mean and 80 %" in call(good, truth, "--paired", "--y", "--crop", 4, "--level", 0.8).stdout
    assert "000: a border of 10 leaves nothing of a picture of 20 x 24" in failed(good, truth, "--paired", "--crop", 10)
    assert "000: SSIM compares" in failed(good, truth, "--paired", "--crop", 5)


def test_numbers_are_rounded_unless_they_are_not_to_be(three, tmp_path):
    _, _, _, (x, *_) = three
    np.savez(tmp_path / "y.npz", x=(x + 0.3 / 255).clamp(0, 1).numpy())
    named = folder(tmp_path / "named", x, "{:08d}.png")
    words = [tmp_path / "y.npz", named, "--paired", "--metrics", "psnr"]
    assert call(*words).stdout.splitlines()[1].split() == ["psnr", "inf"]
    assert 55 < float(call(*words, "--levels", 0).stdout.splitlines()[1].split()[1]) < 60
    call(*words, "-o", tmp_path / "r.json")
    figure = read(tmp_path / "r.json")["figures"]["psnr"]
    assert figure == {"value": "inf", "low": None, "high": None}


def test_lpips_with_given_weights(three, tmp_path):
    truth, good, _, _ = three
    big = pictures(3, 2, 64, 70), pictures(4, 2, 64, 70)
    a, b = folder(tmp_path / "x", big[0]), folder(tmp_path / "y", big[1])
    trunk, heads = lpips("alex")
    save_file(trunk, tmp_path / "alexnet.safetensors")
    torch.save(heads, tmp_path / "alex.pth")
    weights = ["--weights", tmp_path / "alexnet.safetensors", "--weights", tmp_path / "alex.pth"]
    last = json.loads(call(a, b, "--paired", *weights, "--json").stdout.splitlines()[-1])
    assert list(last["figures"]) == ["psnr", "ssim", "lpips-alex"]
    expected = metrics.LPIPS.of(trunk, heads)(*big).mean()
    assert last["figures"]["lpips-alex"]["value"] == pytest.approx(float(expected), rel=1e-5)
    assert "LPIPS takes two files of weights" in failed(a, b, "--paired", "--metrics", "lpips")
    assert "--weights are for lpips" in failed(a, b, "--paired", "--metrics", "psnr", *weights)
    assert "too small for alex" in failed(good, truth, "--paired", "--metrics", "lpips", *weights)


def test_ms_ssim_of_pairs(tmp_path):
    x = pictures(3, 1, 176, 180, 1)
    a, b = folder(tmp_path / "x", x), folder(tmp_path / "y", noisy(x, 1, 0.1))
    last = json.loads(call(b, a, "--paired", "--metrics", "ms-ssim", "--json").stdout.splitlines()[-1])
    expected = metrics.ms_ssim(noisy(x, 1, 0.1).double(), x.double())
    assert last["figures"]["ms-ssim"]["value"] == pytest.approx(float(expected), rel=1e-5)


def test_names_without_a_partner_and_sizes_that_differ(three):
    truth, good, bad, (x, *_) = three
    (good / "000.png.restored.png").unlink()
    write_image(good / "zzz.png.restored.png", x[0])
    said = failed(good, truth, "--paired")
    assert "6 and 6 pictures, 2 without a partner of the same name: zzz, 000." in said
    write_image(good / "000.png.restored.png", x[0, :, :19])
    (good / "zzz.png.restored.png").unlink()
    assert "1 of 6 pairs differ in size: 000 (19 x 24 and 20 x 24)." in failed(good, truth, "--paired")
    write_image(good / "000.png.restored.png", x[0])
    call(good, truth, "--paired")
    (bad / "001.png").unlink()
    assert "6 and 5 pictures, 1 without a partner of the same name: 001." in failed(
        good, truth, "--paired", "--against", bad
    )
    write_image(bad / "001.png", x[0, :, :, :5])
    assert "pairs differ in size: 001 (20 x 24 and 20 x 5)" in failed(good, truth, "--paired", "--against", bad)


def test_a_turned_picture_has_the_size_that_it_is_seen_in(three, tmp_path):
    truth, _, _, (x, *_) = three
    turned = tmp_path / "turned"
    turned.mkdir()
    for i, picture in enumerate(x):
        image = Image.fromarray((255 * picture).round().byte().permute(1, 2, 0).numpy()).transpose(
            Image.Transpose.ROTATE_90
        )
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(turned / f"{i:03d}.png", exif=exif)
    assert "psnr  inf" in call(turned, truth, "--paired", "--metrics", "psnr").stdout


def test_subfolders_pair_by_their_path(three, tmp_path):
    _, _, _, (x, *_) = three
    folder(tmp_path / "t" / "a", x[:2])
    folder(tmp_path / "t" / "b", x[2:4])
    folder(tmp_path / "r" / "a", x[:2])
    folder(tmp_path / "r" / "b", x[2:4])
    assert "4 pictures" in call(tmp_path / "r", tmp_path / "t", "--paired").stdout


# Bits


@pytest.fixture
def garments(tmp_path):
    """Five pictures of 28 x 28 with labels."""
    x = (255 * pictures(5, 5, 28, 28, 1)[:, 0]).round().byte().numpy()
    np.savez(tmp_path / "g.npz", x=x, y=np.array([3, 1, 4, 1, 5]))
    return tmp_path / "g.npz", torch.from_numpy(x).unsqueeze(1), torch.tensor([3, 1, 4, 1, 5])


def test_bits_are_those_of_the_likelihood_given_the_labels(garments):
    path, x, labels = garments
    words = ["fashion", path, "--bits", "--points", 2, "-n", 2]
    last = json.loads(call(*words, "--json").stdout.splitlines()[-1])
    noise, denoiser = Seeds.keyed(0, range(2)), sf.load("fashion").denoiser.given(labels[:2])
    x0 = dequantize(x[:2], noise)
    with torch.no_grad():
        bound = bits_per_dim(-continuous_elbo(denoiser, x0, noise, end=0.0, points=2).total.double(), 784)
    assert last["count"] == 2
    assert last["figures"]["bound"]["value"] == pytest.approx(float(bound.mean()), rel=1e-5)


def test_bits_of_a_model_that_knows_its_data_are_their_entropy(tmp_path, monkeypatch):
    pytest.importorskip("torchdiffeq")
    process, items = sf.processes.Cosine(), 48
    world = sf.GaussianWorld(torch.full((1, 2, 2), 0.1), 0.09 * torch.eye(4))
    model = sf.Model(Affine.unit(), world.denoiser(process), {"event": [1, 2, 2]})
    monkeypatch.setattr("sfumato.zoo.load", lambda name, device: model)
    x = model.codec.decode(world.sample(items, Noise(1))).clamp(0, 1)
    np.save(tmp_path / "x.npy", (255 * x[:, 0]).round().byte().numpy())
    words = ["known", tmp_path / "x.npy", "--bits", "--metrics", "bound,flow", "--points", 150, "--tolerance", 1e-4]
    call(*words, "-o", tmp_path / "r.json", "--block", items)
    noise = Seeds.keyed(0, range(items))
    x0 = dequantize((255 * x).round().long(), noise)
    exact = -world.log_prob(x0) / (4 * math.log(2)) + 7.0  # 256 levels in [-1, 1]
    rows = [item["first"] for item in read(tmp_path / "r.json")["items"].values()]
    assert [row["flow"] for row in rows] == pytest.approx(exact.tolist(), abs=0.03)
    gap = torch.tensor([row["bound"] for row in rows]) - exact
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(items) < 0.7


class OnePixel(Denoiser):
    """A table world's denoiser for pictures of one pixel."""

    def __init__(self, table):
        super().__init__()
        self.inner = sf.TableWorld(table).denoiser(sf.processes.Discrete(len(table)))
        self.process = self.inner.process

    def forward(self, xt, t, cond=None):
        return Estimate(self.inner(xt.reshape(-1, 1), t).mean.reshape(-1, 1, 1, 1, 256))


def test_bits_of_categories_need_no_dequantisation(tmp_path, monkeypatch):
    items, table = 64, torch.softmax(2.0 * Noise(1).normal(torch.empty(256, dtype=torch.float64)), 0)
    levels = sf.TableWorld(table).sample(items, Noise(2))[:, 0]
    model = sf.Model(Quantized(256), OnePixel(table), {"event": [1, 1, 1]})
    monkeypatch.setattr("sfumato.zoo.load", lambda name, device: model)
    np.save(tmp_path / "x.npy", levels.byte().reshape(-1, 1, 1).numpy())
    call("known", tmp_path / "x.npy", "--bits", "--points", 12, "-o", tmp_path / "r.json", "--block", 16)
    rows = [item["first"]["bound"] for item in read(tmp_path / "r.json")["items"].values()]
    gap = torch.tensor(rows) + table[levels].log2()
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(items) < 2.5
    assert "this one is of Discrete in the space of Quantized" in failed(
        "known", tmp_path / "x.npy", "--bits", "--metrics", "bound,flow"
    )


def test_bits_of_shards_are_those_of_the_whole(garments, tmp_path):
    path, *_ = garments
    words = ["fashion", path, "--bits", "--points", 2, "--block", 2, "-q"]
    call(*words, "-o", tmp_path / "whole.json")
    for i in (1, 2):
        call(*words, "--shard", f"{i}/2", "-o", tmp_path / f"part{i}")
    parts = [str(tmp_path / f"part{i}") for i in (1, 2)]
    assert CliRunner().invoke(app, ["merge", *parts, "-o", str(tmp_path / "m")]).exit_code == 0
    assert read(tmp_path / "m" / "result.json") == read(tmp_path / "whole.json")
    call(*words, "--block", 5, "-o", tmp_path / "one.json")  # a picture's noise is its own
    one, whole = (read(tmp_path / name)["items"] for name in ("one.json", "whole.json"))
    assert [v["first"]["bound"] for v in one.values()] == pytest.approx(
        [v["first"]["bound"] for v in whole.values()], rel=1e-4
    )
    assert (
        CliRunner()
        .invoke(app, ["run", str(tmp_path / "one.json.manifest.json"), "-o", str(tmp_path / "again.json")])
        .exit_code
        == 0
    )
    assert read(tmp_path / "again.json") == read(tmp_path / "one.json")


def test_bits_need_pictures_and_a_model_of_them(garments, tmp_path):
    path, *_ = garments
    folder(tmp_path / "small", pictures(1, 2, 27, 28, 1))
    assert "the model is for data of the shape (1, 28, 28), 000 is (1, 27, 28)" in failed(
        "fashion", tmp_path / "small", "--bits"
    )
    assert failed("fashio", path, "--bits")
    from sfumato.cli.bits import suits

    model = sf.load("fashion")
    with pytest.raises(ValueError, match=r"bits per dimension are for models of pictures in \[-1, 1\]"):
        suits(sf.Model(Affine(2.0), model.denoiser, {"event": [1, 28, 28]}), ["bound"])


# Benchmark sets


def gopro(root: Path, x: torch.Tensor) -> Path:
    for i, picture in enumerate(x):
        for kind in ("blur", "sharp"):
            (root / f"test/GOPR{i}/{kind}").mkdir(parents=True, exist_ok=True)
            (root / f"train/GOPR{i}/{kind}").mkdir(parents=True, exist_ok=True)
            content = picture if kind == "sharp" else noisy(picture, 7, 0.1)
            write_image(root / f"test/GOPR{i}/{kind}/000001.png", content)
            write_image(root / f"train/GOPR{i}/{kind}/000002.png", content)
    return root


def test_a_benchmark_set_is_restored_and_evaluated_by_name(tmp_path):
    root = gopro(tmp_path / "set", pictures(1, 2, 28, 28, 1))
    restore = ["restore", "--operator", "denoise", "--sigma", "0.1", "--model", "fashion", "--steps", "2", "-q"]
    done = CliRunner().invoke(app, [*restore, "--dataset", f"gopro:{root}", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    names = {p.name for p in (tmp_path / "out").glob("*.restored.png")}
    assert names == {f"test__GOPR{i}__blur__000001.png.restored.png" for i in range(2)}
    got = json.loads(call(tmp_path / "out", "--dataset", f"gopro:{root}", "--paired", "--json").stdout.splitlines()[-1])
    assert got["count"] == 2 and 10 < got["figures"]["psnr"]["value"] < 40
    clean = CliRunner().invoke(
        app, [*restore, "--simulate", "--dataset", f"gopro:{root}", "--split", "train", "-o", str(tmp_path / "sim")]
    )
    assert clean.exit_code == 0 and len(list((tmp_path / "sim").glob("train__*.restored.png"))) == 2
    sets = call(root / "train" / "GOPR0" / "sharp", "--dataset", f"gopro:{root}", "--metrics", "kd", code=3)
    assert "at least 2" in sets.output  # one picture only
    assert "2 of reference" in call(root / "train", "--dataset", f"gopro:{root}", "--metrics", "fd").stdout
    kodak = CliRunner().invoke(app, [*restore, "--dataset", f"kodak24:{root / 'test/GOPR0/blur'}", "-o", "x"])
    assert kodak.exit_code == 3 and "kodak24 is a set of clean pictures" in kodak.output


def test_a_border_of_the_truth_is_cut(tmp_path):
    x = pictures(1, 1, 40, 44)
    for path, picture in (("hazy/1_1.png", x[:, :, 10:-10, 10:-10]), ("gt/1.png", x)):
        (tmp_path / "indoor" / path).parent.mkdir(parents=True)
        write_image(tmp_path / "indoor" / path, picture[0])
    out = folder(tmp_path / "out", x[:, :, 10:-10, 10:-10], "indoor__hazy__1_1.png.restored.png")
    shown = call(out, "--dataset", f"sots-indoor:{tmp_path}", "--paired", "--metrics", "psnr").stdout
    assert "psnr  inf" in shown


def test_a_model_is_trained_on_the_clean_side(tmp_path):
    root = gopro(tmp_path / "set", pictures(1, 3, 16, 16))
    words = ["train", "--dataset", f"gopro:{root}", "--out", str(tmp_path / "run"), "--size", "8", "--steps", "2"]
    done = CliRunner().invoke(app, [*words, "--dry-run"])
    assert done.exit_code == 0 and '"items": 3' in done.output, done.output
    from sfumato.cli.train_data import PICTURES, opened
    from sfumato.data.images import CleanPictures

    source = opened(Path(f"gopro:{root}"), "pictures", PICTURES | {"size": 8})
    assert [file.parent.name for file in source.files] == ["sharp"] * 3
    assert {file.name for file in source.files} == {"000002.png"}
    with pytest.raises(ValueError, match="named as NAME:DIR"):
        CleanPictures(tmp_path)


@pytest.mark.parametrize(("words", "code", "said"), [
    (["restore", "--operator", "denoise"], 2, "name a picture, or a benchmark set by --dataset NAME:DIR"),
    (["restore", "x.png", "--dataset", "lol:y", "--operator", "denoise"], 2, "name a picture, or a benchmark set"),
    (["train", "--out", "x"], 2, "name the data, or a benchmark set"),
    (["train", "--out", "x", "--dataset", "lol"], 2, "--dataset takes NAME:DIR, got 'lol'"),
    (["train", "--out", "x", "--dataset", "lool:."], 3, "no data set 'lool'. Nearest: lol. Known: div2k-x2,"),
    (["evaluate", "a"], 2, "name two sets, or a benchmark set"),
    (["evaluate", "a", "b", "--paired", "--bits"], 2, "--paired and --bits exclude each other"),
    (["evaluate", "a", "--bits", "--dataset", "lol:."], 2, "--dataset is for sets and --paired"),
    (["evaluate", "a", "b", "--y"], 2, "--y is for --paired"),
    (["evaluate", "a", "b", "--crop", "2"], 2, "--crop is for --paired"),
    (["evaluate", "a", "b", "--against", "c", "--bits"], 2, "--against is for --paired"),
    (["evaluate", "a", "b", "--bits", "--weights", "c"], 2, "--weights are for inception and lpips"),
    (["evaluate", "a", "b", "--metrics", "psnr"], 2, "no metric of sets 'psnr'"),
    (["evaluate", "a", "b", "--paired", "--metrics", "fd"], 2, "no metric of restored pictures 'fd'"),
])  # fmt: skip
def test_usage(words, code, said):
    done = CliRunner().invoke(app, words, env={"COLUMNS": "400"})
    assert done.exit_code == code and said in " ".join(done.output.split()), done.output


def test_nothing_is_written_where_it_fails_or_is_only_planned(two, tmp_path):
    a, b, *_ = two
    out = tmp_path / "new" / "r.json"
    shown = call(a, b, "--dry-run", "-o", out).stdout
    assert shown == "would evaluate 54 pictures (fd, kd, pr, dc) in blocks of 32.\n" and not out.parent.exists()
    (a / "023.png").write_bytes((a / "023.png").read_bytes()[:60])
    assert "023.png is damaged or no picture" in failed(a, b, "-o", out) and not out.parent.exists()
    (tmp_path / "dir").mkdir()
    assert "dir is a folder: name a JSON file" in failed(b, b, "-o", tmp_path / "dir")


def test_a_manifest_repeats_the_figures(two, tmp_path):
    a, _, x, _ = two
    np.save(tmp_path / "y.npy", (255 * x).round().byte().permute(0, 2, 3, 1).numpy())
    call(a, tmp_path / "y.npy", "--metrics", "kd", "--subset", 5, "-o", tmp_path / "r.json")
    manifest = str(tmp_path / "r.json.manifest.json")
    before = read(tmp_path / "r.json")
    (tmp_path / "r.json").unlink()
    assert CliRunner().invoke(app, ["run", manifest]).exit_code == 0
    assert read(tmp_path / "r.json") == before and not math.isnan(before["figures"]["kd"]["error"])
    np.save(tmp_path / "y.npy", np.zeros((9, 6, 5, 3), np.uint8))
    assert "has changed since" in CliRunner().invoke(app, ["run", manifest]).output
