"""Kriging against Gaussian conditionals written otherwise, and the denoiser on it against exact worlds."""

import math

import pytest
import torch
from torch import nn

from sfumato import Noise, Seeds, grids
from sfumato.denoisers.kriged import Kriged, KrigedLoss, Kriging
from sfumato.processes import LinearBeta
from sfumato.samplers import Ancestral, Arc
from sfumato.samplers.paths import paths
from sfumato.training.variogram import covariance
from sfumato.worlds import GaussianWorld

PROCESS = LinearBeta()


def law(C=2, most=12, **fields):
    """Two channels of decaying correlation, the second half a step behind the first."""
    lag = torch.arange(-most, most + 1, dtype=torch.float64)
    table = torch.stack(
        [torch.stack([0.8 ** (lag + 1.5 * (d - c)).abs() * 0.9 ** (c != d) for d in range(C)]) for c in range(C)]
    )
    return Kriging(table, **{"floor": 1e-9, **fields})


def window(B=3, C=2, L=5, seed=0):
    x = Noise(seed).normal(torch.empty(B, C, L, dtype=torch.float64))
    mask = (Noise(seed + 1).uniform(torch.empty(B, C, L)) < 0.5).double()
    return x, mask, torch.arange(L, dtype=torch.float64).expand(B, L)


def conditional(K, x, mask):
    """Mean and covariance of what is hidden, by the precision matrix: S = P_hh^-1, m = -S P_ho x_o."""
    P, o, h = torch.linalg.inv(K), mask.flatten().bool(), ~mask.flatten().bool()
    S = torch.linalg.inv(P[h][:, h])
    return -S @ P[h][:, o] @ x.flatten()[o], S, h


def test_covariance_is_the_table_at_the_differences_of_times():
    K = law().covariance(torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64))
    assert K.shape == (6, 6)
    assert torch.allclose(K, K.T)
    expected = {
        (0, 0): 1.0,
        (0, 2): 0.8**4,
        (1, 2): 0.8**3,
        (0, 3): 0.9 * 0.8**1.5,
        (1, 3): 0.9 * 0.8**2.5,
        (0, 4): 0.9 * 0.8**0.5,
    }
    for (i, j), value in expected.items():
        assert float(K[i, j]) == pytest.approx(value, abs=1e-8), (i, j)


def test_covariance_between_and_beyond_the_lags():
    one = Kriging(torch.tensor([[[0.2, 0.5, 1.0, 0.5, 0.2]]], dtype=torch.float64), floor=1e-9)
    K = one.covariance(torch.tensor([0.0, 1.5, 9.0], dtype=torch.float64))
    assert float(K[0, 1]) == pytest.approx(0.35)
    assert float(K[0, 2]) == pytest.approx(0.2)


def test_floor_is_the_least_eigenvalue():
    flat = Kriging(torch.ones(1, 1, 9, dtype=torch.float64), floor=0.01)
    values = torch.linalg.eigvalsh(flat.covariance(torch.arange(4, dtype=torch.float64)))
    assert torch.allclose(values, torch.tensor([0.01, 0.01, 0.01, 4.0], dtype=torch.float64))


def test_posterior_is_the_gaussian_conditional():
    x, mask, time = window()
    found = law().posterior(x, mask, time)
    K = law().covariance(time[0])
    for b in range(3):
        m, S, h = conditional(K, x[b], mask[b])
        assert torch.allclose(found.mean[b].flatten()[h], m)
        assert torch.allclose(found.std[b].flatten()[h], S.diagonal().sqrt())
        assert (found.mean[b].flatten()[~h] == 0).all()
        assert (found.std[b].flatten()[~h] == 1).all()
    assert torch.equal(found.wanted, mask == 0)


def test_what_is_stored_at_hidden_places_is_not_read():
    x, mask, time = window()
    broken = torch.where(mask.bool(), x, 1e6)
    assert torch.equal(law().posterior(broken, mask, time).mean, law().posterior(x, mask, time).mean)


def test_what_is_neither_observed_nor_wanted_is_left_out():
    x, mask, time = window(B=1)
    wanted = (mask == 0) & (torch.arange(5) < 3)
    part, whole = law().posterior(x, mask, time, wanted), law().posterior(x, mask, time)
    kept = wanted.bool()
    assert torch.allclose(part.mean[kept], whole.mean[kept])
    assert torch.allclose(part.std[kept], whole.std[kept])
    assert len(part.parts[0][1]) == int(kept.sum()) < len(whole.parts[0][1])
    everything = law().posterior(x, mask, time, torch.ones_like(mask))
    assert torch.equal(everything.wanted, mask == 0)  # what is observed is not asked for


def test_rows_do_not_depend_on_the_batch():
    x, mask, time = window()
    time = time.clone()
    time[2] *= 2.0
    together = law().posterior(x, mask, time)
    for b in range(3):
        alone = law().posterior(x[b : b + 1], mask[b : b + 1], time[b : b + 1])
        assert torch.allclose(together.mean[b], alone.mean[0])
        assert torch.allclose(together.std[b], alone.std[0])
    shifted = law().posterior(x, mask, time + 7.0)
    assert torch.allclose(shifted.mean, together.mean)


def test_nothing_hidden_and_nothing_observed():
    x, mask, time = window(B=1)
    full = law().posterior(x, torch.ones_like(mask), time)
    assert full.parts == ()
    empty = law().posterior(x, torch.zeros_like(mask), time)
    assert torch.allclose(empty.mean, torch.zeros_like(x))
    assert torch.allclose(empty.std, torch.ones_like(x))


def test_gain_widens_each_channel():
    x, mask, time = window()
    wide = law(gain=torch.tensor([2.0, 3.0])).posterior(x, mask, time)
    plain = law().posterior(x, mask, time)
    ratio = torch.where(mask == 0, wide.std / plain.std, torch.nan)
    assert torch.allclose(ratio[:, 0][mask[:, 0] == 0], torch.tensor(2.0, dtype=torch.float64))
    assert torch.allclose(ratio[:, 1][mask[:, 1] == 0], torch.tensor(3.0, dtype=torch.float64))
    assert torch.equal(wide.mean, plain.mean)


def test_an_unknown_scale_is_read_from_what_is_observed():
    """The multivariate t: its conditional scale, from the density's own quadratic form."""
    x, mask, time = window()
    plain, wide = law().posterior(x, mask, time), law(dof=4.0).posterior(x, mask, time)
    K = law().covariance(time[0])
    for b in range(3):
        o = mask[b].flatten().bool()
        x_o = x[b].flatten()[o]
        form = float(x_o @ torch.linalg.inv(K[o][:, o]) @ x_o)
        expected = math.sqrt((4.0 + form) / (4.0 + int(o.sum())))
        hidden = mask[b] == 0
        assert torch.allclose(wide.std[b][hidden] / plain.std[b][hidden], torch.tensor(expected).double())
    assert torch.equal(plain.mean, wide.mean)
    doubled = law(dof=1e-9).posterior(2 * x, mask, time)
    assert torch.allclose(doubled.std[mask == 0], 2 * law(dof=1e-9).posterior(x, mask, time).std[mask == 0], rtol=1e-4)


def test_encode_and_decode():
    x, mask, time = window()
    found = law().posterior(x, mask, time)
    z = found.encode(x)
    assert (z[mask == 1] == 0).all()
    assert torch.allclose(found.decode(z)[mask == 0], x[mask == 0])


@pytest.mark.parametrize("t", [0.05, 0.4, 0.95])
def test_the_estimate_is_the_exact_denoiser_of_the_standardized_law(t):
    x, mask, time = window(B=1)
    found = law().posterior(x, mask, time)
    _, S, h = conditional(law().covariance(time[0]), x[0], mask[0])
    s = S.diagonal().sqrt()
    world = GaussianWorld(torch.zeros(int(h.sum()), dtype=torch.float64), S / (s[:, None] * s))
    zt = Noise(5).normal(x)
    exact = world.denoiser(PROCESS)(zt.flatten()[h][None], t)
    D, v = found.estimate(zt, PROCESS.alpha(t), PROCESS.sigma(t))
    assert torch.allclose(D.flatten()[h], exact.mean[0])
    assert torch.allclose(v.flatten()[h] ** 2, exact.var[0])
    assert (D.flatten()[~h] == 0).all()
    assert (v.flatten()[~h] == 1).all()
    times = torch.tensor([t], dtype=torch.float64)
    again = found.estimate(zt, PROCESS.alpha(times), PROCESS.sigma(times))
    assert torch.allclose(again[0], D)
    assert torch.allclose(again[1], v)


def test_samples_of_the_law_alone_have_its_covariance():
    x, mask, time = window(B=1)
    cond = {"observed": x * mask, "mask": mask, "time": time}
    alone = Kriged(None, law(), PROCESS, lambda t: t)
    z = paths(alone, cond, 4000, times=grids.default(PROCESS, 40), sampler=Arc(), batch=4000)
    drawn = alone.posterior(cond).decode(z)[:, 0].flatten(1)
    m, S, h = conditional(law().covariance(time[0]), x[0], mask[0])
    drawn = drawn[:, h]
    assert ((drawn.mean(0) - m).abs() < 4 * S.diagonal().sqrt() / math.sqrt(4000) + 0.01).all()
    assert (torch.cov(drawn.T) - S).abs().max() < 0.06


class Shown(nn.Module):
    """A network that keeps what it was shown and answers with a constant."""

    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, u, level, cond):
        self.u, self.level, self.cond = u, level, cond
        return self.weight * torch.ones_like(u)


def test_the_network_adds_in_units_of_v_and_is_shown_the_law():
    x, mask, time = window()
    cond = {"observed": x * mask, "mask": mask, "time": time, "covariates": torch.full((3, 1, 5), 0.25)}
    net = Shown(0.5)
    denoiser = Kriged(net, law(), PROCESS, lambda t: 10 * t)
    zt, posterior = Noise(6).normal(x), law().posterior(x, mask, time)
    D, v = posterior.estimate(zt, PROCESS.alpha(0.3), PROCESS.sigma(0.3))
    estimate = denoiser(zt, 0.3, cond)
    assert torch.allclose(estimate.mean, D + 0.5 * v)
    assert torch.equal(estimate.aux["law"], D)
    assert torch.allclose(denoiser.given(cond)(zt, 0.3).mean, estimate.mean)
    assert torch.allclose(net.level, torch.full((3,), 3.0, dtype=torch.float64))
    assert torch.allclose(net.u, zt / math.hypot(PROCESS.alpha(0.3), PROCESS.sigma(0.3)))
    shown = net.cond["covariates"]
    assert shown.shape == (3, 7, 5)
    assert (shown[:, 0] == 0.25).all()
    hidden = mask == 0
    assert torch.allclose(shown[:, 1:3], torch.where(hidden, posterior.mean, x))
    assert torch.allclose(shown[:, 3:5], torch.where(hidden, posterior.mean + posterior.std * D, x))
    assert torch.allclose(shown[:, 5:][hidden], posterior.std[hidden].log())
    assert "covariates" not in {k for k in cond if cond[k].shape[1] != 1 and k == "covariates"}
    bare = {k: value for k, value in cond.items() if k != "covariates"}
    denoiser(zt, 0.3, bare)
    assert net.cond["covariates"].shape == (3, 6, 5)
    times = torch.tensor([0.1, 0.3, 0.9], dtype=torch.float64)
    each = denoiser(zt, times, cond).mean
    for b in range(3):
        one = {k: value[b : b + 1] for k, value in cond.items()}
        assert torch.allclose(each[b], denoiser(zt[b : b + 1], float(times[b]), one).mean[0])


def test_the_loss_is_one_where_the_law_is_right_and_counts_what_is_hidden():
    """Data drawn from the law: the residual in units of v is standard normal, at every level."""
    B, L = 3000, 4
    K = law().covariance(torch.arange(L, dtype=torch.float64))
    x0 = GaussianWorld(torch.zeros(2 * L, dtype=torch.float64), K).sample(B, Noise(0)).reshape(B, 2, L)
    valid = (Noise(1).uniform(torch.empty(B, 2, L)) < 0.8).double()
    cond = {"valid": valid, "time": torch.arange(L, dtype=torch.float64).expand(B, L)}

    def hide(known, noise):
        return known & (torch.arange(L) % 2 == 0)

    alone = KrigedLoss(Kriged(None, law(), PROCESS, lambda t: t), hide, noisy=-5.0, clean=8.0)
    values = alone(torch.where(valid.bool(), x0, 1e3), cond, Seeds(range(B)))
    wanted = int((valid.bool() & (torch.arange(L) % 2 == 1)).sum())
    assert float(values.mean()) == pytest.approx(1.0, abs=5 * math.sqrt(4.0 / wanted))
    off = KrigedLoss(Kriged(Shown(2.0), law(), PROCESS, lambda t: t), hide, noisy=-5.0, clean=8.0)
    assert float(off(x0, cond, Seeds(range(B))).detach().mean()) == pytest.approx(5.0, abs=0.4)  # 1 + 2^2
    everything = KrigedLoss(
        Kriged(None, law(), PROCESS, lambda t: t), lambda known, noise: known, noisy=-5.0, clean=8.0
    )
    assert (everything(x0, cond, Seeds(range(B))) == 0).all()


def test_ancestral_steps_take_the_bound_denoiser_too():
    x, mask, time = window(B=2)
    cond = {"observed": x * mask, "mask": mask, "time": time}
    z = paths(
        Kriged(None, law(), PROCESS, lambda t: t), cond, 500, times=grids.default(PROCESS, 60), sampler=Ancestral()
    )
    hidden = mask == 0
    assert abs(float(z[:, hidden].std()) - 1.0) < 0.05
    assert torch.equal(z[:, ~hidden], (x * mask)[~hidden].expand(500, -1))


# The covariance of series


def test_covariance_of_an_autoregression_and_its_late_copy():
    n, rho = 60_000, 0.7
    eps = Noise(0).normal(torch.empty(n, dtype=torch.float64)) * math.sqrt(1 - rho**2)
    x = torch.empty(n, dtype=torch.float64)
    x[0] = 0.0
    for i in range(1, n):
        x[i] = rho * x[i - 1] + eps[i]
    late = torch.cat([x[:1], x[:-1]])  # channel 1 shows channel 0 one step later
    K = covariance([torch.stack([x, late])], 3)
    assert K.shape == (2, 2, 7)
    for lag in range(-3, 4):
        assert float(K[0, 0, 3 + lag]) == pytest.approx(rho ** abs(lag), abs=0.02)
        assert float(K[1, 0, 3 + lag]) == pytest.approx(rho ** abs(lag - 1), abs=0.02)
        assert float(K[0, 1, 3 + lag]) == pytest.approx(rho ** abs(lag + 1), abs=0.02)
    assert float(K[1, 0, 4]) == pytest.approx(1.0, abs=1e-6)


def test_covariance_by_brute_force_with_gaps_and_several_series():
    series = [Noise(k).normal(torch.empty(2, 7 + k, dtype=torch.float64)) for k in range(2)]
    for k, one in enumerate(series):
        one[Noise(9 + k).uniform(torch.empty(one.shape)) < 0.3] = torch.nan
    K = covariance(series, 4)
    for c in range(2):
        for d in range(2):
            for lag in range(-4, 5):
                squares = [
                    float((one[c, t + lag] - one[d, t]) ** 2)
                    for one in series
                    for t in range(one.shape[1])
                    if 0 <= t + lag < one.shape[1] and not (one[c, t + lag] - one[d, t]).isnan()
                ]
                expected = 1 - 0.5 * sum(squares) / len(squares)
                assert float(K[c, d, 4 + lag]) == pytest.approx(expected, abs=1e-9)


def test_covariance_of_a_straight_line_has_no_end_effect():
    x = 0.01 * torch.arange(300, dtype=torch.float64)[None]
    K = covariance([x - x.mean()], 5)
    assert torch.allclose(K[0, 0, 5:], 1 - 0.5 * (0.01 * torch.arange(6, dtype=torch.float64)) ** 2)


def test_lags_that_no_pair_has_take_the_nearest():
    x = torch.full((1, 9), torch.nan, dtype=torch.float64)
    x[0, 0], x[0, 1] = 0.5, -0.5
    K = covariance([x], 4)[0, 0]
    assert K[4:].tolist() == [1.0, 0.5, 0.5, 0.5, 0.5]
    apart = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]], dtype=torch.float64)
    assert (covariance([apart], 1)[0, 1] == 0).all()
