"""The pinned problems, the row of figures, and the table, against what is known in closed form."""

import json
import math
from pathlib import Path

import pytest
import torch

import sfumato as sf
from sfumato.bench import records
from sfumato.bench.exact import FLOOR, table
from sfumato.bench.rows import exact, row
from sfumato.bench.settings import ELSEWHERE, Setting, draw, settings
from sfumato.bench.worlds import instances
from sfumato.solvers import DDRM, FPSSMC, MMPS, TDS, RePaint

HAVE = instances()


def test_the_pinned_problems_are_those_of_the_theory():
    """Figures of the instance that follow from its definition, not from the code that builds it."""
    gauss = HAVE["gaussian"].world
    assert torch.linalg.eigvalsh(gauss.cov) == pytest.approx([0.01, 0.0464, 0.215, 1.0])
    # (Q Q = I and Q_00 = sqrt(1/2) cos(pi / 16)): C_00 = sum_k e_k Q_0k^2
    first = 0.5 * sum(
        e * math.cos(math.pi / 4 * 0.5 * (k + 0.5)) ** 2 for k, e in enumerate((1.0, 0.215, 0.0464, 0.01))
    )
    assert float(gauss.cov[0, 0]) == pytest.approx(first)
    assert gauss.mean.tolist() == pytest.approx([0.3, -0.3, 0.3, 0.3])
    modes = HAVE["mixture"].world
    assert modes.weights.tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1])
    for k, cov in enumerate(modes.covs):
        assert torch.linalg.eigvalsh(cov).log10() == pytest.approx([-2, -1.5667, -1.1333, -0.7], abs=1e-4)
        if k:  # rolled to the right: the direction of the largest moves from mode k to mode k + 1
            tops = [torch.linalg.eigh(c)[1][:, -1] for c in modes.covs]
            assert abs(float(tops[k] @ tops[k - 1])) < 1e-9
    largest = torch.cos(math.pi / 4 * 0.5 * (torch.arange(4.0) + 0.5)).double()
    assert abs(float(torch.linalg.eigh(modes.covs[0])[1][:, -1] @ largest)) == pytest.approx(math.sqrt(2))
    A = HAVE["gaussian"].operator
    x = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 0, -1, 0]]).double()
    r = math.sqrt(0.5)
    expected = [[0.625 * r, 0.375 * r], [2 * r, 2 * r], [0.5 * r, -0.5 * r], [0, 0]]
    assert torch.allclose(A(x), torch.tensor(expected).double())
    assert [HAVE[name].sigma for name in HAVE] == [0.1, 0.1, 0.5, 0.1, 0.1]
    assert torch.equal(HAVE["mixture-inpainting"].seen, torch.diag(torch.tensor([1.0, 1, 0, 0]).double()))
    assert torch.allclose(HAVE["normal"].seen @ x[3], torch.zeros(4).double(), atol=1e-12)


def test_a_draw_does_not_know_how_many_there_are():
    x0, m = HAVE["mixture"].measured(3, seed=5)
    more, n = HAVE["mixture"].measured(6, seed=5)
    assert torch.equal(more[:3], x0) and torch.equal(n.y[:3], m.y)
    other, _ = HAVE["mixture"].measured(3, seed=6)
    assert not torch.equal(other, x0)
    residuals = torch.cat([HAVE["mixture"].measured(400)[1].residual(HAVE["mixture"].measured(400)[0])])
    assert float(residuals.std()) == pytest.approx(0.1, rel=4 / math.sqrt(2 * 800))


@pytest.fixture(scope="module")
def known():
    instance = HAVE["mixture-noisy"]
    x0, m = instance.measured(30)
    return instance, x0, m, exact(instance, m, 400, noise=sf.Noise(1))


def test_exact_samples_have_no_error(known):
    instance, x0, m, x = known
    found = row(instance, x0, m, x, noise=sf.Noise(2))
    # The mean of S samples is off by sqrt(1 / S) posterior standard deviations (root mean square).
    assert found.mean.value == pytest.approx(1 / 20, rel=0.25)
    for ratio in (found.seen, found.hidden):
        assert abs(ratio.value - 1) < 4 * ratio.error + 0.01 and ratio.error < 0.03
    assert found.weights.value < 0.06 and found.sliced.value < 0.25
    for share, level in ((found.half, 0.5), (found.most, 0.9)):
        assert abs(share.value - level) < 4 * max(share.error, 0.02)


def test_a_shift_a_stretch_and_a_lost_mode_are_seen_as_such(known):
    instance, x0, m, x = known
    noise = lambda: sf.Noise(2)  # noqa: E731
    plain = row(instance, x0, m, x, noise=noise())
    middle = x.mean(0)
    seen = instance.seen
    wide = middle + (x - middle) @ (2 * seen + 3 * (torch.eye(4).double() - seen))
    stretched = row(instance, x0, m, wide, noise=noise())
    assert stretched.seen.value == pytest.approx(4 * plain.seen.value, rel=1e-9)
    assert stretched.hidden.value == pytest.approx(9 * plain.hidden.value, rel=1e-9)
    assert stretched.mean.value == pytest.approx(plain.mean.value, abs=1e-9)
    spread = torch.stack(
        [instance.world.posterior(sf.Measurement(m.operator, y[None], m.sigma)).cov.trace() for y in m.y]
    )
    moved = x + 5 * (spread / 4).sqrt()[:, None]
    shifted = row(instance, x0, m, moved, noise=noise())
    # 5 posterior standard deviations along each coordinate: |shift| / sqrt(tr C) = 5, and so is W2.
    assert shifted.mean.value == pytest.approx(5, abs=0.15) and shifted.sliced.value == pytest.approx(5, rel=0.05)
    assert shifted.seen.value == pytest.approx(plain.seen.value, rel=1e-9) and shifted.half.value < 0.1
    at_mode = instance.world.means[3].expand_as(x) + 0.01 * x
    lost = row(instance, x0, m, at_mode, noise=noise())
    assert lost.weights.value > 0.7  # all the mass on the mode of weight 0.1


def test_ratios_are_medians_and_errors_those_of_a_mean():
    instance = HAVE["gaussian"]
    x0, m = instance.measured(5)
    x = exact(instance, m, 2000, noise=sf.Noise(1))
    x[:, 0] = x[:, 0].mean(0) + 10 * (x[:, 0] - x[:, 0].mean(0))  # one measurement of five is wild
    found = row(instance, x0, m, x, noise=sf.Noise(2))
    assert found.seen.value == pytest.approx(1, abs=0.2)
    assert found.seen.error == pytest.approx(math.sqrt(math.pi / 2) * 99 / 5, rel=0.1)
    assert (
        row(instance, x0[:1], sf.Measurement(m.operator, m.y[:1], m.sigma), x[:, :1], noise=sf.Noise(2)).mean.error
        == math.inf
    )


def test_the_solver_runs_on_the_grid_that_its_setting_names():
    instance = HAVE["gaussian"]
    _, m = instance.measured(2)
    seen = []

    class Spy(DDRM):
        def step(self, denoiser, m, xt, t, s, memory, noise):
            seen.append((t, s))
            return super().step(denoiser, m, xt, t, s, memory, noise)

    for setting, expected in (
        (Setting("ddrm", "x", Spy(3), table=True), [(1.0, 0.501), (0.501, 0.001), (0.001, 0.0)]),
        (Setting("ddrm", "x", Spy(2), table=True, last=1e-12), [(1.0, 0.001), (0.001, 1e-12)]),
        (Setting("ddrm", "x", Spy(2)), [(0.501, 0.001), (0.001, 0.0)]),
    ):
        seen.clear()
        x, calls = draw(setting, instance, m, 3, noise=sf.Noise(0))
        assert x.shape == (3, 2, 4) and calls == len(expected)
        assert [t for t, _ in seen] == pytest.approx([t for t, _ in expected], abs=1e-3)
        assert seen[-1][1] == expected[-1][1]
    seen.clear()
    draw(Setting("ddrm", "x", Spy(3), table=True), instance, m, 2, noise=sf.Noise(0), steps=5)
    assert len(seen) == 5


def test_samples_of_one_measurement_belong_to_it():
    """Of two measurements far apart each one's samples are its own, particles in sets too."""
    instance = HAVE["gaussian"]
    y = torch.tensor([[6.0, 0.0], [-6.0, 0.0]]).double()
    m = sf.Measurement(instance.operator, y, 0.1)
    for solver, table_ in (
        (MMPS(30), True),
        (TDS(30), True),
        (FPSSMC(30), False),
        (FPSSMC(30, telescoping=True), False),
    ):
        x, _ = draw(Setting("x", "x", solver, table=table_), instance, m, 6, noise=sf.Noise(0))
        assert x.shape == (6, 2, 4)
        met = instance.operator(x.reshape(-1, 4)).reshape(6, 2, 2)[:, :, 0]
        assert bool((met[:, 0] > 3).all()) and bool((met[:, 1] < -3).all()), type(solver).__name__


def test_every_solver_has_a_setting_and_inpainting_methods_inpaint_only():
    solvers = {key for key, module in sf.recipes.names().items() if ".solvers." in module} - ELSEWHERE
    assert {setting.key for setting in settings()} == solvers and len(solvers) == 22
    paste = Setting("repaint", "x", RePaint())
    assert [name for name, instance in HAVE.items() if paste.suits(instance)] == ["mixture-inpainting"]
    assert all(Setting("ddrm", "x", DDRM()).suits(instance) for instance in HAVE.values())
    assert len({setting.name for setting in settings()}) == len(settings())


def test_the_table_resumes_from_its_file(tmp_path: Path, monkeypatch):
    path = tmp_path / "deep" / "rows.json"
    run = lambda **more: list(table([HAVE["gaussian"]], ["ddrm", FLOOR], draws=3, samples=5, path=path, **more))  # noqa: E731
    first = run()
    assert [key for key, _ in first] == [FLOOR, *["ddrm"] * 5]
    assert first[0][1]["row"]["nfe"] == 0 and first[1][1]["row"]["nfe"] == 20
    held = json.loads(path.read_text())
    assert sorted(held) == ["ddrm", FLOOR] and all(r["world"] == "gaussian" for r in held["ddrm"])
    assert [p.name for p in path.parent.iterdir()] == ["rows.json"]
    assert run() == first  # seconds too: nothing was computed again
    with monkeypatch.context() as patch:
        patch.setattr("sfumato.bench.exact.draw", lambda *a, **k: pytest.fail("computed again"))
        run()
    assert len(run(seed=1)) == 6 and len(json.loads(path.read_text())["ddrm"]) == 10
    assert [k for k, _ in records.flat(json.loads(path.read_text()))].count(FLOOR) == 2


@pytest.mark.parametrize("text", ["[1]", "no json", '{"a": 3}'])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="holds no table of rows: name another file"):
        records.read(path)


# The figures of an independent experiment of 40 measurements with 200 samples each, with an error of 0.03 on the ratios
# of the Gaussian and of 20 % on mixtures, beside those of the means over measurements.
EXPECTED = json.loads((Path(__file__).parent / "expected.json").read_text("utf-8"))
MEASURED = Path(__file__).parents[2] / "benchmarks" / "data" / "solvers_world.json"
NAMES = ("mean", "seen", "hidden", "sliced", "weights")


def agrees(world: str, name: str, found: dict) -> list[str]:
    """What is further from the expected figure than both experiments' errors allow."""
    wrong = []
    for figure, want in zip(NAMES, EXPECTED[world][name], strict=False):
        got, error = found[figure]["value"], found[figure]["error"]
        stated = 0.03 if world in ("gaussian", "normal") else 0.03 + 0.2 * abs(want)
        if abs(got - want) > stated + 3 * math.sqrt(2) * error:
            wrong.append(f"{world}, {name}: {figure} {got} (+- {error}), expected {want}")
    return wrong


def test_the_committed_table_agrees_with_the_expected_figures():
    held = {(r["world"], r["row"]["name"]): r["row"] for _, r in records.flat(records.read(MEASURED))}
    assert all(("gaussian", name) in held for name in EXPECTED["gaussian"])
    both = [(world, name) for world, rows in EXPECTED.items() for name in rows if (world, name) in held]
    wrong = [w for world, name in both for w in agrees(world, name, held[world, name])]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["floor", "ddrm", "diffpir", "mmps"])
def test_the_table_agrees_with_the_expected_figures(key: str):
    for _, record in table([HAVE["gaussian"]], [key]):
        if record["row"]["name"] in EXPECTED["gaussian"]:
            assert not agrees("gaussian", record["row"]["name"], record["row"])
