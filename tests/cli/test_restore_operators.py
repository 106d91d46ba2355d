"""Every operator of the library has a command: the typical calls that `restore --operators` prints, run one by one."""

import inspect
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sfumato import operators
from sfumato.cli.degradations import DAMAGES, ELSEWHERE, OWN, Kind
from sfumato.cli.main import app
from sfumato.cli.restore_options import Settings
from sfumato.codecs import Affine
from sfumato.data import sensed
from sfumato.data.images import read_image
from sfumato.data.photo12 import FIXTURE
from sfumato.noise import Noise
from sfumato.operators import JPEG, BlockSensing, Fourier, Hadamard, Identity, Measurement, Veil
from sfumato.operators.kspace import equispaced, radial
from sfumato.operators.sense import birdcage
from sfumato.recipes.edm import Recipe
from sfumato.zoo import Model

FORMS = [(kind, words, made) for kind, damage in DAMAGES.items() for words, made in damage.forms]
CAMERA = "SIZE = (2,)\ndef net(x, code):\n    return x * code[:, :1, None, None] + code[:, 1:, None, None]\n"


def _model(folder, channels):
    torch.manual_seed(0)
    fields = {"channels": channels, "widths": (8,), "blocks": 1}
    Model(
        Affine.unit(), Recipe(**fields).model(), {"recipe": "edm", "fields": fields, "event": [channels, None, None]}
    ).save(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return _model(tmp_path_factory.mktemp("tiny"), 3)


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return _model(tmp_path_factory.mktemp("grey"), 1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a photograph of 32 x 32, a JPEG of it, and all files that the typical calls name."""
    monkeypatch.chdir(tmp_path)
    photo = Image.open(FIXTURE).convert("RGB").crop((40, 40, 72, 72))
    photo.save("photo.png")
    photo.convert("L").save("grey.png")
    photo.save("photo.jpg", quality=20)
    Image.fromarray(np.tile(np.array([0, 255], np.uint8), (32, 16))).save("mask.png")
    Image.fromarray(np.linspace(60, 250, 1024).reshape(32, 32).astype(np.uint8)).save("depth.png")
    Image.fromarray(np.array([[0, 50, 0], [50, 255, 50], [0, 50, 0]], np.uint8)).save("kernel.png")
    kernels = np.zeros((2, 3, 3), np.float32)
    kernels[0, 1, 1], kernels[1] = 2.0, 1.0
    right = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (32, 1))
    np.savez("kernels.npz", kernels=kernels, weights=np.stack([1 - right, right]))
    Path("camera.py").write_text(CAMERA)
    np.save("code.npy", np.array([0.5, 0.25], np.float32))
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """The measurements that are handed to the model."""
    seen = []
    real = Model.restore
    monkeypatch.setattr(Model, "restore", lambda self, m, **rest: seen.append(m) or real(self, m, **rest))
    return seen


def call(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    return result


def restore(file, kind, *words, model, code=0, out="out"):
    return call("restore", file, "--operator", kind, *words, "--model", model, "-o", out, code=code)


def picture(name="photo.png"):
    return read_image(Path(name))[None]


def test_every_public_operator_has_a_command_or_a_reason():
    known = {
        name
        for name in operators.__all__
        if inspect.isclass(made := getattr(operators, name))
        and issubclass(made, operators.Operator)
        and made not in (operators.Operator, operators.Linear, operators.Spectral)
    }
    commanded = {made for _, _, made in FORMS}
    assert commanded | set(ELSEWHERE) == known
    assert not commanded & set(ELSEWHERE)
    assert set(DAMAGES) == {kind.value for kind in Kind}
    assert all(hasattr(Settings("f", "denoise"), name) for name in OWN)


def test_the_operators_are_listed_without_a_file():
    said = call("restore", "--operators").stdout
    for kind, words, made in FORMS:
        assert f"--operator {kind} {words}".rstrip() in said and made in said, (kind, words)
    for name, why in ELSEWHERE.items():
        assert f"{name}: {why}" in said


@pytest.mark.parametrize(("kind", "words", "made"), FORMS, ids=[f"{kind} {words}" for kind, words, _ in FORMS])
def test_every_typical_call_runs(here, tiny, grey, monkeypatch, kind, words, made):
    """As it is printed, with few steps; the measurement is through the operator that is printed beside it."""
    from sfumato.cli import restored

    seen = []
    real = restored.judge
    monkeypatch.setattr(restored, "judge", lambda m, *rest: seen.append(m) or real(m, *rest))
    coils, few = "--coils" in words, ["--set", "rounds=1", "--set", "moves=1"] if kind == "blind-deblur" else []
    file = "grey.png" if coils else "photo.jpg" if (kind, words) == ("jpeg", "") else "photo.png"
    words = ["4" if word == "64" else word for word in shlex.split(words)]
    restore(file, kind, *words, *few, "--steps", 2, "-q", model=grey if coils else tiny)
    (m,) = seen
    found = type(m.operator).__name__
    assert found == made and tuple(m.event[1:]) >= (32, 32)
    assert torch.isfinite(read_image(Path("out/restored.png"))).all()


def test_haze_is_taken_off(here, tiny, asked):
    """y = T x + (1 - T) a: what is left is denoising at sigma / T, or a linear problem where T is a map."""
    words = ("--airlight", 0.9, "--sigma", 0.02, "--simulate", "--steps", 2)
    restore("photo.png", "haze", "--transmission", 0.5, *words, model=tiny)
    m = asked[-1]
    assert isinstance(m.operator, Identity) and m.sigma == pytest.approx(0.04)
    assert float((m.y - picture()).std()) == pytest.approx(0.04, rel=0.05)
    seen = read_image(Path("out/input.png"))
    assert float((seen - (0.5 * picture()[0] + 0.45)).abs().mean()) == pytest.approx(0.02 * 0.798, rel=0.1)
    restore("photo.png", "haze", "--transmission", "depth.png", *words, model=tiny)
    m, T = asked[-1], picture("depth.png")
    assert m.sigma == 0.02
    torch.testing.assert_close(m.operator(picture()), T * picture(), atol=1e-6, rtol=0)
    assert float((m.y - T * picture()).std()) == pytest.approx(0.02, rel=0.1)
    inputs = json.loads(Path("out/manifest.json").read_text())["inputs"]
    assert sorted(inputs) == ["file", "transmission"]
    restore("photo.png", "haze", "--transmission", 0.25, "--sigma", 0, "--simulate", model=tiny)
    torch.testing.assert_close(asked[-1].y, picture(), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        read_image(Path("out/input.png")), 0.25 * picture()[0] + 0.75, atol=0.51 / 255, rtol=0
    )  # an airlight of 1, unless it is said


def test_a_blur_that_varies(here, tiny, asked):
    """Left the kernel of one tap, of sum 1 whatever the file's, right the mean of nine."""
    restore("photo.png", "deblur", "--kernel", "kernels.npz", "--sigma", 0, "--simulate", "--steps", 1, model=tiny)
    x, y = picture(), asked[-1].y
    torch.testing.assert_close(y[..., 0], x[..., 0], atol=1e-5, rtol=0)
    mean = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, [1] * 4, mode="circular"), 3, stride=1)
    torch.testing.assert_close(y[..., -1], mean[..., -1], atol=1e-5, rtol=0)
    middle = (20 / 31) * mean[..., 20] + (11 / 31) * x[..., 20]
    torch.testing.assert_close(y[..., 20], middle, atol=1e-5, rtol=0)


@pytest.mark.parametrize("words", [("--std", 0.7), ("--kernel", "kernel.png")])
def test_reduced_after_a_blur(here, tiny, asked, words):
    """The result is larger by the factor; what is simulated is every second pixel of the blurred picture."""
    restore("photo.png", "enlarge", "--factor", 2, *words, "--sigma", 0.01, "--steps", 1, model=tiny)
    assert read_image(Path("out/restored.png")).shape == (3, 64, 64) and asked[-1].event == (3, 64, 64)
    restore("photo.png", "enlarge", "--factor", 2, *words, "--sigma", 0, "--simulate", "--steps", 1, model=tiny)
    small = asked[-1].y
    restore("photo.png", "deblur", *words, "--sigma", 0, "--simulate", "--steps", 1, model=tiny)
    torch.testing.assert_close(small, asked[-1].y[..., ::2, ::2], atol=1e-5, rtol=0)


def test_sums_are_simulated_and_read(here, tiny, asked):
    for words, count in (((), 256), (("--ratio", 0.5), 512), (("--ratio", 0.1, "--basis", "hadamard"), 102)):
        restore("photo.png", "sensing", *words, "--sigma", 0.01, "--simulate", "--steps", 2, model=tiny)
        m = asked[-1]
        assert m.y.shape[-1] == count and float((m.y - m.operator(picture())).std()) == pytest.approx(0.01, rel=0.2)
        arrays = {"rows": m.operator.rows.numpy()} if "--basis" not in words else {"order": m.operator.order.numpy()}
        if "--basis" in words:
            assert m.operator.order[0] == 0  # the mean of each channel, but for a factor
            torch.testing.assert_close(m.y[..., 0] / 32, picture().mean((2, 3)), atol=0.002, rtol=0)
        np.savez("sums.npz", sensed=m.y[0].numpy(), size=[32, 32], **arrays)
        restore("sums.npz", "sensing", "--sigma", 0.01, "--steps", 2, model=tiny, out="read")
        again = asked[-1]
        torch.testing.assert_close(again.y, m.y)
        torch.testing.assert_close(again.operator(picture()), m.operator(picture()), atol=1e-5, rtol=0)
        assert type(again.operator) is (Hadamard if "order" in arrays else BlockSensing)
        assert read_image(Path("read/restored.png")).shape == (3, 32, 32)
    restore("photo.png", "sensing", "--sigma", 0.01, "--simulate", "--steps", 2, "--seed", 1, model=tiny)
    first = asked[-1].operator.rows
    restore("photo.png", "sensing", "--sigma", 0.01, "--simulate", "--steps", 2, "--seed", 2, model=tiny)
    assert not torch.equal(first, asked[-1].operator.rows)


@pytest.mark.parametrize(
    ("arrays", "part"),
    [
        ({"sensed": np.zeros((3, 1, 1, 4))}, "holds sensed: sensed and rows, or sensed, order and size"),
        ({"rows": np.eye(4)}, "holds rows: sensed and rows"),
        ({"sensed": np.zeros((3, 4)), "order": np.arange(16)}, "sensed, order and size are needed"),
        ({"sensed": np.zeros((3, 4)), "rows": np.eye(4)}, r"sensed is \(C, H / b, W / b, m\), got \(3, 4\)"),
        ({"sensed": np.zeros((3, 1, 4)), "order": np.arange(16), "size": [4, 4]}, r"sensed is \(C, m\)"),
        ({"sensed": np.full((3, 4), np.nan), "order": np.arange(16), "size": [4, 4]}, "not real or not finite"),
        ({"sensed": np.zeros((3, 4), np.complex64), "order": np.arange(16), "size": [4, 4]}, "not real or not finite"),
        ({"sensed": np.zeros((3, 2, 2, 4)), "rows": np.ones((4, 4))}, "not orthonormal"),
        ({"sensed": np.zeros((3, 4)), "order": np.zeros(16), "size": [4, 4]}, "an order of 0 .. 15"),
    ],
)
def test_sums_that_do_not_go_together(tmp_path, arrays, part):
    np.savez(tmp_path / "sums.npz", **arrays)
    with pytest.raises(ValueError, match=part):
        sensed.read(tmp_path / "sums.npz", 0.1)


def test_a_network_of_the_users_own(here, tiny, asked):
    common = ("--net", "camera.py", "--sigma", 0, "--steps", 2)
    restore("photo.png", "network-blur", "--code", "code.npy", *common, "--simulate", model=tiny)
    torch.testing.assert_close(asked[-1].y, 0.5 * picture() + 0.25)
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert sorted(manifest["inputs"]) == ["code", "file", "net"] and manifest["settings"]["net"] == str(
        here / "camera.py"
    )
    restore("photo.png", "network-blur", *common, "--simulate", model=tiny)
    drawn = asked[-1].operator.code
    assert drawn.shape == (1, 2)
    restore("photo.png", "network-blur", *common, "--simulate", "--seed", 1, model=tiny)
    assert not torch.equal(drawn, asked[-1].operator.code)
    Path("camera.py").write_text(CAMERA.replace("x *", "x * 0.5 *"))
    assert "has changed since" in call("run", "out/manifest.json", code=3).stderr
    module = (
        "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x, code):\n        return x * code[:, :1]\n"
    )
    Path("camera.py").write_text(module + "SIZE = (1, 1, 1)\nnet = Net()\n")
    restore("photo.png", "network-blur", *common, "--simulate", model=tiny)
    code = asked[-1].operator.code
    torch.testing.assert_close(asked[-1].y, (picture() * code).clamp(0, 1))
    for text, part in (("net = 3", "defines no function"), ("", "is empty")):
        Path("camera.py").write_text(text)
        assert part in restore("photo.png", "network-blur", *common, "--simulate", model=tiny, code=3).stderr
    shutil.copy("photo.png", "camera.txt")
    words = ("--net", "camera.txt", "--sigma", 0, "--simulate")
    assert "is no Python file" in restore("photo.png", "network-blur", *words, model=tiny, code=3).stderr
    assert "is not there" in restore("photo.png", "network-blur", "--net", "none.py", "--simulate", "--sigma", 0,
                                     model=tiny, code=3).stderr  # fmt: skip


def test_points_of_k_space(here, grey, asked):
    size = (32, 32)
    for words, mask in (
        (("--sampling", "radial"), radial(size, 8)),
        (("--sampling", "radial", "--acceleration", 100), radial(size, 1)),
        (("--sampling", "equispaced", "--acceleration", 8), equispaced(size, acceleration=8, centre=0.04)),
    ):
        restore("grey.png", "mri", *words, "--sigma", 0, "--simulate", "--steps", 1, model=grey)
        assert isinstance(asked[-1].operator, Fourier) and torch.equal(asked[-1].operator.mask, mask), words
    restore("grey.png", "mri", "--sampling", "poisson-disc", "--sigma", 0, "--simulate", "--steps", 1, model=grey)
    mask = asked[-1].operator.mask
    assert float(mask.double().mean()) == pytest.approx(0.25, abs=0.02)
    assert not torch.equal(mask, mask[:1].expand(size))  # points, not columns
    words = ("--coils", 3, "--sampling", "equispaced", "--sigma", 0, "--simulate", "--steps", 1)
    restore("grey.png", "mri", *words, model=grey)
    A = asked[-1].operator
    assert asked[-1].y.shape == (1, 3, 2, 32, 32) and torch.equal(A.maps, birdcage(size, 3))
    assert torch.equal(A.mask, equispaced(size, acceleration=4, centre=0.08))


def test_a_fan_and_the_sampling_of_chroma(here, tiny, asked):
    restore("photo.png", "ct", "--views", 5, "--source", 50, "--sigma", 0.1, "--simulate", "--steps", 1, model=tiny)
    A = asked[-1].operator
    assert A.source == 50 and len(A.angles) == 5 and A.angles[1] == pytest.approx(2 * np.pi / 5)
    for chroma in ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1"):
        restore("photo.png", "jpeg", "--quality", 30, "--chroma", chroma, "--simulate", "--steps", 1, model=tiny)
        same = JPEG.quality((32, 32), 30, chroma, low=0.0, high=1.0)
        assert asked[-1].operator.sampling == chroma
        torch.testing.assert_close(asked[-1].y, same(picture()))


def test_noise_is_that_of_the_measurement():
    """A veil without noise, solved as it is: the plain problem has the same solution."""
    from sfumato.cli.building import plain

    x = Noise(0).uniform(torch.empty(2, 3, 8, 8))
    m = Measurement(Veil.haze(0.5, 0.25), Veil.haze(0.5, 0.25)(x), 0.125)
    torch.testing.assert_close(plain(m).y, x)
    assert plain(m).sigma == 0.25
    other = Measurement(Identity(), x, 0.125)
    assert plain(other) is other


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["enlarge", "--factor", "2", "--filter", "box", "--std", "1"], "one of --filter, --kernel and --std"),
        (["enlarge", "--factor", "2", "--kernel", "k.png", "--std", "1"], "one of --filter, --kernel and --std"),
        (["haze"], "haze needs --transmission"),
        (["haze", "--transmission", "0"], "haze needs --transmission"),
        (["haze", "--transmission", "1.5"], "above 0 and at most 1"),
        (["denoise", "--airlight", "0"], "--airlight does not belong to --operator denoise, it is for haze"),
        (["sensing", "--simulate"], "sensing needs --sigma"),
        (["sensing", "--sigma", "0"], "sensing works on pictures with --simulate, and on a .npz file"),
        (["sensing", "--sigma", "0", "--ratio", "0.5"], "--ratio belongs to --operator sensing --simulate"),
        (["sensing", "--sigma", "0", "--simulate", "--basis", "odd"], "--basis is block or hadamard, got 'odd'"),
        (["network-blur", "--sigma", "0"], "network-blur needs --net FILE.py"),
        (["network-blur", "--sigma", "0", "--net", "camera.py"], "and --code FILE.npy"),
        (["network-blur", "--sigma", "0", "--simulate"], "network-blur needs --net FILE.py"),
        (["mri", "--simulate", "--sigma", "0", "--sampling", "odd"], "poisson-disc or radial, got 'odd'"),
        (["jpeg", "--chroma", "4:2:0"], "--chroma belongs to --operator jpeg --simulate"),
        (["jpeg", "--simulate", "--quality", "5", "--chroma", "4:1:0"], "4:4:0 or 4:1:1, got '4:1:0'"),
        (["deblur", "--std", "1", "--coils", "2"], "--coils does not belong to --operator deblur, it is for mri"),
    ],
)
def test_usage(here, tiny, words, part):
    result = restore("photo.png", *words, model=tiny, code=2)
    assert part in " ".join(result.stderr.split()) and not Path("out").exists()


def test_input_that_does_not_fit(here, tiny, grey):
    """One sentence, exit 3, nothing written."""
    Image.new("L", (5, 4), 200).save("small.png")
    np.savez("three.npz", kernels=np.ones((3, 3), np.float32), weights=np.ones((1, 32, 32), np.float32))
    np.savez("black.npz", kernels=np.zeros((1, 3, 3), np.float32), weights=np.ones((1, 32, 32), np.float32))
    Image.open("photo.png").crop((0, 0, 31, 32)).save("odd.png")
    for file, words, part in (
        ("photo.png", ("haze", "--transmission", "small.png"), "the transmission is 5 x 4 pixels, the picture 32 x 32"),
        ("photo.png", ("haze", "--transmission", "none.png"), "is not there"),
        ("photo.png", ("deblur", "--kernel", "three.npz"), "kernels are (K, h, w), each of a positive sum, got (3, 3)"),
        ("photo.png", ("deblur", "--kernel", "black.npz"), "each of a positive sum, got (1, 3, 3)"),
        ("photo.png", ("deblur", "--kernel", "kernels.npz", "--border", "zero"), "go with --border circular, got zero"),
        ("odd.png", ("deblur", "--kernel", "kernels.npz"), "weights (K, *size) are needed"),
        ("photo.png", ("mri", "--coils", 2, "--simulate"), "coils see a picture of one channel, got 3"),
        ("odd.png", ("sensing", "--simulate"), "multiples of 32 pixels"),
        ("odd.png", ("sensing", "--simulate", "--basis", "hadamard"), "use BlockSensing"),
    ):
        result = restore(file, *words, "--sigma", 0.01, model=tiny, code=3)
        assert part in " ".join(result.stderr.split()) and not Path("out").exists(), words
