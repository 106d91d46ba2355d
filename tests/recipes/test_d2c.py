"""D2C's drivers on latent worlds with known answers, and its losses term by term."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from worlds_for_tests import close, tensor

import sfumato as sf
from sfumato.codecs import Affine, Latent
from sfumato.nets import MLP, Autoencoder
from sfumato.noise import Noise, Seeds
from sfumato.recipes.d2c import Classifier, LatentDenoiser, Recipe, reject
from sfumato.training.contrastive import Momentum, views
from sfumato.worlds import GaussianWorld
from sfumato.zoo import files

SMALL = {"channels": 1, "latent": 2, "coder": (8,), "widths": (8, 8), "blocks": 1, "attention": (), "queue": 16}


def draw(n: int, noise: Noise) -> Tensor:
    return noise.normal(torch.empty(n, 1, dtype=torch.float64))


@pytest.mark.parametrize("k", [0.5, 2.0])
def test_rejection_by_a_probit_has_the_closed_form_mean(k: float) -> None:
    """z ~ N(0, 1), r = Phi(k z): the mean is k / sqrt(1 + k^2) sqrt(2 / pi), and half are kept."""
    n = 20_000
    z, asked = reject(draw, lambda z: torch.special.ndtr(k * z[:, 0]), n, Noise(0), batch=4096)
    truth = k / math.sqrt(1 + k * k) * math.sqrt(2 / math.pi)
    assert z.shape == (n, 1)
    assert float(z.mean()) == pytest.approx(truth, abs=4 / math.sqrt(n))
    assert float(z.square().mean()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / n))  # the law of |z| is unchanged
    assert n / asked == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(asked))


def test_rejection_takes_no_more_than_it_needs_and_gives_up() -> None:
    count = []

    def one_in_four(n: int, noise: Noise) -> Tensor:
        count.append(n)
        return torch.arange(n, dtype=torch.float64).reshape(n, 1)

    z, asked = reject(one_in_four, lambda z: (z[:, 0] % 4 == 3).double(), 3, Noise(0), batch=8)
    assert z.flatten().tolist() == [3.0, 7.0, 3.0] and asked == 12 and count == [8, 8]
    with pytest.raises(RuntimeError, match=r"0 of 3 were kept in 16 draws"):
        reject(one_in_four, lambda z: 0.0 * z[:, 0], 3, Noise(0), batch=8, limit=16)


def test_the_classifier_is_the_penalised_logistic_regression() -> None:
    """At its least the gradient is 0: sum (r - onehot) z / n + decay weight."""
    z = Noise(1).normal(torch.empty(60, 3, 2, dtype=torch.float64))
    labels = (z[:, 0, 0] + 0.5 * z[:, 1, 1] > 0).long() + (z[:, 2, 0] > 1).long()
    found = Classifier.fitted(z, labels, 3, decay=0.05)
    assert found.weight.shape == (3, 3, 2)
    p = found.probs(z)
    close(p.sum(1), torch.ones(60).double(), 1e-12)
    gap = p - F.one_hot(labels, 3)
    close(torch.einsum("bc,bij->cij", gap, z) / 60 + 0.05 * found.weight, torch.zeros(3, 3, 2), 1e-5)
    close(gap.mean(0), torch.zeros(3), 1e-5)
    assert float((p.argmax(1) == labels).double().mean()) > 0.75
    close(found.of(2)(z), p[:, 2], 0.0)


def test_draws_and_edits_of_a_known_prior() -> None:
    recipe = Recipe(**SMALL)
    world = GaussianWorld(torch.zeros(1).double(), torch.ones(1, 1).double())
    denoiser = world.denoiser(recipe.process())
    short = []  # first order in the steps
    for steps in (50, 100, 200):
        z = recipe.prior(denoiser, (1,), steps=steps)(20_000, Noise(0))
        short.append(1.0 - float(z.var()))
    assert short[0] > 1.5 * short[1] > 0 and abs(short[2]) < 0.04
    # N(0, 1) under a VP process: DDIM keeps every state, so an edit is alpha (z - amount n) + sigma eps, carried back.
    start, level = torch.full((40_000, 1), 0.4, dtype=torch.float64), 0.25
    moved = recipe.edit(denoiser, start, tensor(3.0), Noise(1), amount=2.0, level=level)
    alpha, sigma = recipe.process().alpha(level), recipe.process().sigma(level)
    assert float(moved.mean()) == pytest.approx(alpha * (0.4 - 2.0), abs=4 * sigma / 200 + 0.02)
    assert float(moved.std()) == pytest.approx(sigma, rel=0.03)
    assert len(recipe.times(7)) == 8 and recipe.sampler() == sf.samplers.DDIM()


def test_the_three_terms_of_the_loss() -> None:
    torch.manual_seed(0)
    x0 = Noise(2).uniform(torch.empty(4, 1, 8, 8)) * 2 - 1

    def loss(**fields: float) -> tuple[Tensor, LatentDenoiser]:
        torch.manual_seed(0)
        recipe = Recipe(**{**SMALL, **fields})
        model = recipe.model()
        return recipe.objective(model)(x0, None, Seeds(range(4))), model

    (alone, model), (wide, _) = loss(weight=0.0, contrast=0.0), loss(weight=0.0, contrast=0.0, spread=0.4)
    close(alone.detach(), 4 * wide.detach(), 1e-5)
    noise = Seeds(range(4))
    mean, log_var = model.autoencoder.encode(x0)
    z = mean + (0.5 * log_var).exp() * noise.normal(mean)
    close(alone.detach(), (x0 - model.autoencoder.decode(z)).square().flatten(1).mean(1).detach() / 0.08, 1e-5)
    prior, twice = (loss(weight=w, contrast=0.0)[0] - alone for w in (1.0, 2.0))
    close(twice.detach(), 2 * prior.detach(), 1e-4)
    # An untrained network says 0, so the loss on eps is the mean square of eps.
    assert 0.5 < float(prior.detach().mean()) < 1.6
    contrast = (loss(weight=0.0, contrast=1.0)[0] - alone).detach()
    assert contrast.shape == (4,) and float(contrast.mean()) > 0.5
    # The moving mean and variance follow the codes by a hundredth a step.
    close(model.mean, 0.01 * z.detach().mean((0, 2, 3)), 1e-5)
    close(model.var, 0.99 + 0.01 * z.detach().var((0, 2, 3), correction=1), 1e-5)


def test_every_weight_learns_and_the_slow_encoder_follows() -> None:
    torch.manual_seed(0)
    recipe = Recipe(**{**SMALL, "keep": 0.75})
    objective = recipe.objective(recipe.model())
    x0 = Noise(2).uniform(torch.empty(4, 1, 8, 8))
    objective(x0, None, Seeds(range(4))).sum().backward()
    for name, p in objective.named_parameters():
        assert (p.grad is not None) == ("slow" not in name), name
    slow, fast = (next(iter(m.parameters())) for m in (objective.contrast.slow, objective.query))
    with torch.no_grad():
        fast.add_(1.0)
    before = slow.clone()
    objective.advance(1)
    close(slow, before + 0.25 * (fast.detach() - before), 1e-6)


def test_contrast_against_known_keys() -> None:
    """-log softmax of (q.k, q.queue) / T, with the queue as it was; then the oldest keys give way."""
    torch.manual_seed(0)
    contrast = Momentum(torch.nn.Identity(), 2, length=3, temperature=0.5)
    contrast.queue.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    code, view = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[5.0, 0.0], [4.0, 0.0]])
    loss = contrast(code, view)
    e = math.exp(2.0)
    first = -math.log(e / (e + e + 1 + 1 / e))
    second = -math.log(1 / (1 + 1 + e + 1))
    close(loss, torch.tensor([first, second]), 1e-5)
    assert contrast.queue.tolist() == [[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]] and int(contrast.place) == 2
    contrast(code, torch.tensor([[0.0, 1.0], [0.0, 3.0]]))
    assert contrast.queue.tolist() == [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]] and int(contrast.place) == 1


def test_views_move_enlarge_and_mirror_within_their_bounds() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32).repeat(200, 1, 1, 1)
    plain = views(ramp, Noise(0), shift=0.0, zoom=0.0, flip=False)
    close(plain, ramp, 1e-5)
    mirrored = views(ramp, Noise(0), shift=0.0, zoom=0.0)
    sign = mirrored[:, 0, 16, 24].sign()
    assert 60 < int((sign > 0).sum()) < 140
    close(mirrored * sign.reshape(-1, 1, 1, 1), ramp, 1e-5)
    moved = views(ramp, Noise(0), shift=0.1, zoom=0.0, flip=False)
    shift = moved[:, 0, 16, 16] - ramp[:, 0, 16, 16]
    assert 0.17 < float(shift.abs().max()) < 0.215 and abs(float(shift.mean())) < 0.04
    zoomed = views(ramp, Noise(0), shift=0.0, zoom=0.2, flip=False)
    slope = (zoomed[:, 0, 16, 20] - zoomed[:, 0, 16, 12]) / (ramp[0, 0, 16, 20] - ramp[0, 0, 16, 12])
    assert 0.8 <= float(slope.min()) < 0.83 and 0.97 < float(slope.max()) <= 1.0 + 1e-5
    assert torch.equal(views(ramp[:2], Seeds([5, 6]))[1:], views(ramp[:1], Seeds([6])))


def test_a_latent_codec_standardises_each_channel() -> None:
    torch.manual_seed(0)
    net = Autoencoder(1, 3, (8, 8), patch=2)
    x = Noise(0).uniform(torch.empty(40, 1, 10, 10))
    codec = Latent.fitted(net, x, Affine.unit(), batch=16)
    z = codec.encode(x)
    assert z.shape == (40, 3, 3, 3) and codec.latent((1, 10, 10)) == (3, 3, 3) and codec.affine is None
    close(z.detach().mean((0, 2, 3)), torch.zeros(3), 1e-5)
    close(z.detach().transpose(0, 1).flatten(1).std(1), torch.ones(3), 1e-4)
    raw, _ = net.encode(2 * x - 1)
    row = z.std((0, 2, 3)), raw.std((0, 2, 3))
    close((raw - raw.mean((0, 2, 3), keepdim=True)).detach() / row[1].reshape(-1, 1, 1).detach(), z.detach(), 1e-4)
    back = Latent(net, codec.mean, codec.std, Affine.unit(), (10, 10)).decode(z)
    close(back.detach(), 0.5 + 0.5 * net.decode(raw, (10, 10)).detach(), 1e-4)
    with torch.no_grad():
        net.down[-1].weight[0].zero_()
        net.down[-1].bias[0].zero_()
    with pytest.raises(ValueError, match=r"channels \[0\] of the code do not vary"):
        Latent.fitted(net, x)


def test_the_autoencoder_draws_its_normal_and_keeps_its_log_variance_in_bounds() -> None:
    torch.manual_seed(0)
    net = Autoencoder(2, 3, (8,), dims=1)
    x = Noise(1).normal(torch.empty(2, 2, 7))
    mean, log_var = net.encode(x)
    noise = Noise(3)
    close(net.draw(x, Noise(3)).detach(), (mean + (0.5 * log_var).exp() * noise.normal(mean)).detach(), 1e-6)
    assert net.decode(mean).shape == x.shape and net.shape((2, 7)) == (3, 7)
    with torch.no_grad():
        net.down[-1].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 100.0, -100.0, 0.0]))
    bounds = net.encode(x)[1]
    assert float(bounds[:, 0].min()) == 20.0 and float(bounds[:, 1].max()) == -30.0


def test_a_saved_model_draws_and_decodes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    recipe = Recipe(**SMALL)
    model = recipe.model()
    model.mean.copy_(torch.tensor([0.5, -1.0]))
    model.var.copy_(torch.tensor([4.0, 0.25]))
    config = {
        "recipe": "d2c",
        "fields": {k: list(v) if isinstance(v, tuple) else v for k, v in SMALL.items()},
        "event": [1, 8, 8],
    }
    config["codec"] = {"kind": "affine", "scale": 0.5, "shift": 0.5}
    files.write(tmp_path, config, {k: v.contiguous().clone() for k, v in model.state_dict().items()})
    loaded = sf.load(tmp_path)
    assert isinstance(loaded.codec, Latent) and loaded.codec.outer == Affine.unit()
    close(loaded.codec.std, torch.tensor([2.0, 0.5]), 1e-6)
    x = loaded.sample(3, steps=2)
    assert x.shape == (3, 1, 8, 8)
    loaded.save(tmp_path / "again")
    assert torch.equal(sf.load(tmp_path / "again").sample(3, steps=2), x)


def test_the_mlp_keeps_shapes_sees_its_condition_and_starts_as_told() -> None:
    torch.manual_seed(0)
    x, t = Noise(0).normal(torch.empty(3, 2, 2)), torch.tensor([0.1, 0.5, 0.9])
    assert MLP(4, 8, 1)(x, t).shape == (3, 2, 2) and MLP(4, 8, 1, out=5)(x, t).shape == (3, 5)
    assert float(MLP(4, 8, 1, start=0.0)(x, t).detach().abs().max()) == 0.0
    net = MLP(4, 8, 1, vector=3)
    a, b = (net(x, t, torch.full((3, 3), v)) for v in (0.0, 1.0))
    assert not torch.allclose(a, b) and not torch.allclose(net(x, t * 0, torch.zeros(3, 3)), a)
    assert len(MLP(4, 8, 3).hidden) == 3
