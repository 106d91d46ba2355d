"""AdaDiff: the prior's levels and losses, what is put in its place, and what the adaptation converges to."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import sfumato as sf
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise, Seeds
from sfumato.operators import Fourier
from sfumato.recipes.ada_diff import Adapted, Recipe, projected

SMALL = {"widths": (8,), "blocks": 1, "steps": 4, "latent": 3}
MASK = torch.tensor([1.0, 0, 1, 1, 0, 0]).expand(4, 6)


def scan(n: int = 2, *, complex_valued: bool = True, sigma: float = 0.0) -> tuple[Tensor, sf.Measurement]:
    x0 = Noise(0).normal(torch.empty(n, 2 if complex_valued else 1, 4, 6, dtype=torch.float64))
    operator = Fourier(MASK, complex_valued)
    return x0, sf.Measurement.simulate(operator, x0, sigma=sigma, noise=Noise(1))


class Linear(Denoiser):
    """G = sum_j c_j v_j for fixed images v: linear in its weights, whatever it is told."""

    def __init__(self, basis: Tensor) -> None:
        super().__init__()
        self.process = Recipe(**SMALL).process()
        self.basis, self.told = basis, []
        self.c = nn.Parameter(torch.zeros(len(basis), dtype=basis.dtype))

    def __deepcopy__(self, memo: dict) -> Linear:
        twin = Linear(self.basis)
        twin.told = self.told
        twin.c.data.copy_(self.c.data)
        return twin

    def forward(self, xt: Tensor, t: float, cond: dict | None = None) -> Estimate:
        self.told.append((t, xt.clone(), cond["vector"], self.c.detach().clone()))
        return Estimate(torch.einsum("j,j...->...", self.c, self.basis).expand(xt.shape))


@pytest.mark.parametrize("complex_valued", [True, False])
def test_the_projection_is_idempotent_and_keeps_what_was_measured(complex_valued: bool) -> None:
    """The phase of a complex image too: no magnitude is taken."""
    x0, m = scan(complex_valued=complex_valued, sigma=0.1)
    x = Noise(2).normal(x0)
    once = projected(m, x)
    assert torch.allclose(projected(m, once), once, atol=1e-12)
    A = m.operator
    assert torch.allclose(A.pinv(A(once)), A.pinv(m.y), atol=1e-12)
    if complex_valued:
        assert torch.allclose(m.residual(once), torch.zeros_like(m.y), atol=1e-12)
    # nothing else moves
    assert torch.allclose(once - A.project(once), x - A.project(x), atol=1e-12)


def test_a_wide_step_is_the_posterior_of_vp() -> None:
    """alpha_bar at T + 1 times from 1e-3 to 1, and q(x_s | x_t, x_0) of the wide beta, as the public code writes it."""
    process = Recipe(**SMALL).process()
    bars = [math.exp(-0.1 * t - 9.95 * t * t) for t in (1e-3 + (1 - 1e-3) * n / 4 for n in range(5))]
    beta = [1 - b / a for a, b in pairwise(bars)]
    kept = [math.prod(1 - b for b in beta[:n]) for n in range(5)]
    assert [process.alpha(n / 4) ** 2 for n in range(1, 5)] == pytest.approx(kept[1:])
    x0, xt = Noise(0).normal(torch.empty(2, 3, 5, dtype=torch.float64))
    for n in (1, 2, 4):
        b, before, now = beta[n - 1], kept[n - 1], kept[n]
        law = process.reverse(Estimate(x0), xt, n / 4, (n - 1) / 4)
        mean = b * math.sqrt(before) / (1 - now) * x0 + (1 - before) * math.sqrt(1 - b) / (1 - now) * xt
        assert torch.allclose(law.mean, mean, atol=1e-12)
        assert float(law.std) ** 2 == pytest.approx(b * (1 - before) / (1 - now), abs=1e-12)


def test_it_starts_black_with_what_was_measured_and_no_noise() -> None:
    x0, m = scan()
    noise = Noise(5)
    start = Adapted().start(Linear(x0[:1]), m, 1.0, noise)
    assert torch.allclose(start, projected(m, torch.full_like(x0, -1.0)))
    assert torch.equal(noise.normal(x0), Noise(5).normal(x0))
    assert Adapted(steps=4).times(Recipe(**SMALL).process()) == (1.0, 0.75, 0.5, 0.25, 0.0)


def test_the_rapid_phase() -> None:
    """At each level: z, G, the projection, a draw of q; at the end G once more at the first level, with that z."""
    x0, m = scan(1)
    basis = Noise(3).normal(torch.empty(1, 2, 4, 6, dtype=torch.float64))
    G = Linear(basis)
    with torch.no_grad():
        G.c.fill_(0.7)
    got = Adapted(4, iterations=0, latent=3)(G, m, Noise(4))
    noise, x = Noise(4), projected(m, torch.full_like(x0, -1.0))
    for i, (t, s) in enumerate([(1.0, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)]):
        z = noise.normal(x0.new_empty(1, 3))
        assert G.told[i][0] == t and torch.allclose(G.told[i][1], x) and torch.equal(G.told[i][2], z)
        x = G.process.reverse(Estimate(projected(m, 0.7 * basis)), x, t, s).sample(noise)
    assert len(G.told) == 5 and G.told[4][0] == 0.25 and torch.equal(G.told[4][2], z)
    assert torch.allclose(G.told[4][1], projected(m, 0.7 * basis), atol=1e-12)  # the last step is D itself
    assert torch.allclose(got, projected(m, 0.7 * basis), atol=1e-12)


def test_the_adaptation_converges_to_the_least_squares_fit() -> None:
    """A generator linear in two weights, power 2: (A V)^+ y to the size of Adam's steps, and the loss falls on the way
    there; the prior stays as it was.
    """
    _, m = scan(1)
    basis = Noise(3).normal(torch.empty(2, 2, 4, 6, dtype=torch.float64))
    G, lr = Linear(basis), 0.01
    found = Adapted(4, iterations=80, lr=lr, power=2, latent=3)(G, m, Noise(4))
    M = torch.stack([m.operator(v[None]).flatten() for v in basis], 1)
    c = torch.linalg.lstsq(M, m.y.flatten()[:, None]).solution[:, 0]
    run = torch.stack([weights for _, _, _, weights in G.told[5:]])
    assert float(c.abs().max()) > 5 * lr and torch.allclose(run[-1], c, atol=lr)
    assert torch.allclose(found, projected(m, torch.einsum("j,j...->...", run[-1], basis)[None]), atol=1e-12)
    losses = (m.y.flatten() - run @ M.T).square().mean(1)
    far = int(c.abs().min() / lr)  # the first steps are of size lr, towards c
    assert far > 2 and bool((losses[1:far] < losses[: far - 1]).all())
    assert not G.c.any() and all(torch.equal(z, G.told[5][2]) for _, _, z, _ in G.told[5:])
    assert not torch.equal(G.told[5][2], G.told[4][2])  # z of the adaptation is its own
    assert {t for t, *_ in G.told[5:]} == {0.25}


def test_the_adaptation_is_to_the_absolute_error() -> None:
    """Half of an image, measured with one number far off: the absolute error is least at the half, the square not."""
    _, m = scan(1)
    basis = Noise(3).normal(torch.empty(1, 2, 4, 6, dtype=torch.float64))
    y = m.operator(0.5 * basis)
    clean = y.clone()
    y[0, 0, 0, 1, 2] += 30.0
    found = []
    for power in (1, 2):
        G = Linear(basis)
        Adapted(4, 80, 0.01, power, latent=3)(G, sf.Measurement(m.operator, y, 0.0), Noise(4))
        found.append(float(G.told[-1][3][0]))
    assert found[0] == pytest.approx(0.5, abs=0.02)
    far = float((clean * y).sum() / (clean * clean).sum()) * 0.5  # least squares
    assert abs(far - 0.5) > 0.1 and abs(found[1] - far) < abs(found[1] - 0.5)


def test_a_row_does_not_depend_on_its_batch() -> None:
    _, m = scan(3)
    torch.manual_seed(0)
    D = Recipe(channels=2, **SMALL).model().double()
    solver = Adapted(4, iterations=2, latent=3)
    before = {k: v.clone() for k, v in D.state_dict().items()}
    whole = solver(D, m, Seeds(range(3)))
    alone = solver(D, m.rows([1]), Seeds([1]))
    assert torch.allclose(whole[1:2], alone, atol=1e-9)
    assert torch.allclose(m.residual(whole), torch.zeros_like(m.y), atol=1e-9)
    assert all(torch.equal(v, before[k]) for k, v in D.state_dict().items())
    assert not torch.allclose(whole, Adapted(4, iterations=0, latent=3)(D, m, Seeds(range(3))), atol=1e-6)


class Says(nn.Module):
    """C = a mean(x_s): its slope is a / d for each number."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a, self.seen = a, []

    def forward(self, xs: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        self.seen.append((xs, xt, t))
        return self.a * xs.flatten(1).mean(1)


def test_the_losses_of_the_two_players() -> None:
    recipe = Recipe(**SMALL)
    G = Linear(torch.ones(1, 1, 4, 6).double())
    with torch.no_grad():
        G.c.fill_(0.4)
    x0, critic = torch.full((64, 1, 4, 6), 2.0).double(), Says(3.0)
    judge, generator = recipe.judge(G, critic), recipe.generator(G, critic)
    judge.advance(3)
    plain = judge(x0, None, Noise(0))
    (real, xt, t), (fake, xt2, t2) = critic.seen
    said = [3.0 * v.flatten(1).mean(1) for v in (real, fake)]
    want = torch.log1p(torch.exp(-said[0])) + torch.log1p(torch.exp(said[1]))
    assert torch.allclose(plain, want) and torch.equal(xt, xt2) and torch.equal(t, t2)
    judge.advance(20)
    assert torch.allclose(judge(x0, None, Noise(0)), want + 0.5 * 9.0 / 24)
    assert torch.allclose(generator(x0, None, Noise(0)), torch.log1p(torch.exp(-said[1])))
    # neighbouring levels: at the first, x_s is x_0, and the generator's is its guess
    assert set(t.tolist()) == {0.25, 0.5, 0.75, 1.0}
    assert torch.equal(real[t == 0.25], x0[t == 0.25])
    assert torch.allclose(fake[t == 0.25], torch.full_like(fake[t == 0.25], 0.4))
    for level, before in ((0.5, 0.25), (1.0, 0.75)):
        rows = t == level
        a, r = G.process.alpha(before), G.process.alpha(level) / G.process.alpha(before)
        error = 4 / math.sqrt(24 * int(rows.sum()))
        assert float((real[rows] - a * 2.0).detach().mean()) == pytest.approx(0.0, abs=error)
        assert float((xt[rows] - r * real[rows]).detach().var()) == pytest.approx(1 - r * r, rel=0.25)
    # each player moves its own weights
    D, C = recipe.model(), recipe.discriminator()
    for p in (*D.parameters(), *C.parameters()):
        with torch.no_grad():
            p.copy_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    x = torch.rand(4, 1, 8, 8)
    recipe.judge(D, C)(x, None, Noise(0)).sum().backward()
    assert all(p.grad is None for p in D.parameters())
    assert all(p.grad is not None and bool(p.grad.any()) for p in C.parameters() if p.numel() > 1)
    recipe.generator(D, C)(x, None, Noise(0)).sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in D.parameters())


def test_settings() -> None:
    assert Recipe().solver() == Adapted(8, 1000, 1e-3, 1, 100, -1.0)
    assert len(Recipe().process().alpha_bars) == 8
    for bad in ({"power": 3}, {"iterations": -1}):
        with pytest.raises(ValueError, match="power is 1 or 2"):
            Adapted(**bad)
    C = Recipe(channels=2).discriminator()
    x = torch.rand(2, 2, 8, 8)
    said = C(x, x, torch.tensor([0.1, 0.1]))
    assert said.shape == (2,)
    for other in (C(x, x, torch.tensor([0.9, 0.9])), C(x, -x, torch.tensor([0.1, 0.1]))):
        assert not torch.allclose(said, other)
