"""The bench of samplers: its truth, its calls, its command."""

import csv
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sfumato.bench import samplers as bench
from sfumato.cli.main import app
from sfumato.denoisers import Counted
from sfumato.noise import Noise
from sfumato.samplers import sample


@pytest.mark.parametrize("kind", ["LinearBeta", "Cosine", "EDM"])
def test_truth_is_the_flow_of_a_normal_law(kind: str) -> None:
    """A normal law's flow scales every eigen-direction by the ratio of standard deviations."""
    world, process = bench.worlds()["correlated-16"], bench.processes()[kind]
    x1 = process.prior(torch.zeros(4, 16, dtype=torch.float64)).sample(Noise(0))
    values, Q = torch.linalg.eigh(world.cov)
    variance = process.alpha(1.0) ** 2 * values + process.sigma(1.0) ** 2
    late = process.alpha(0.0) ** 2 * values + process.sigma(0.0) ** 2
    # At alpha = 0 the first move is D's, the mean of the data: directions are kept as they are.
    exact = (x1 @ Q) * (late / variance).sqrt() @ Q.T
    assert float((bench.truth(world, process, x1) - exact).abs().max()) < 2e-3


def test_every_rival_spends_the_calls_it_is_charged_for() -> None:
    world, process = bench.worlds()["modes-2"], bench.processes()["EDM"]
    x1 = process.prior(torch.zeros(2, 2, dtype=torch.float64)).sample(Noise(0))
    for rival in bench.RIVALS:
        denoiser = Counted(world.denoiser(process))
        sample(denoiser, rival.sampler, x1=x1, times=bench._grid(rival, process, 7), noise=Noise(0))
        assert denoiser.calls == 7, rival.name


def test_the_default_is_ahead_at_few_calls_and_all_converge() -> None:
    """8 modes in the plane: the best of other libraries errs by 0.134 at 5 calls and by 0.0038 at 50."""
    rows = list(bench.rows(["modes-2"], ["EDM"], (5, 50), 32))
    assert len(rows) == 2 * len(bench.RIVALS)
    error = {(row["sampler"], row["nfe"]): row["rms"] for row in rows}
    first = bench.RIVALS[0].name
    assert error[first, 5] < 0.134 and error[first, 50] < 0.0038
    for rival in bench.RIVALS:
        assert error[first, 5] <= error[rival.name, 5]
        assert error[rival.name, 50] < 0.5 * error[rival.name, 5]
    assert all(0.0 < row["sliced"] < math.sqrt(2) * row["rms"] for row in rows)


def test_command_writes_rows_and_names_what_it_knows(tmp_path: Path) -> None:
    words = ["bench", "samplers", "--world", "narrow-1", "--process", "Cosine", "--nfe", "4", "--nfe", "8"]
    done = CliRunner().invoke(app, [*words, "--starts", "2", "-o", str(tmp_path / "a" / "rows.csv")])
    assert done.exit_code == 0, done.output
    with open(tmp_path / "a" / "rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(bench.RIVALS) and {row["nfe"] for row in rows} == {"4", "8"}
    assert done.stdout.splitlines()[0].split() == ["narrow-1,", "Cosine", "4", "8"]
    assert done.stdout.splitlines()[1].startswith(bench.RIVALS[0].name)
    wrong = CliRunner().invoke(app, ["bench", "samplers", "--world", "narrow"])
    assert wrong.exit_code == 2 and "narrow-1" in wrong.output
