"""piggyback-color: a guider on a frozen prior, and the solver that keeps the luma."""

import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise, Seeds
from sfumato.operators import Gray
from sfumato.processes import LinearBeta
from sfumato.recipes.piggyback_color import Colorize, Greyed, Recipe, seen, shown
from sfumato.training import fit
from sfumato.zoo import defaults

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
SMALL = {"widths": (8, 12, 16), "blocks": 1, "guider": (4, 8, 8)}


@pytest.fixture(scope="module")
def model():
    """A small denoiser whose frozen net gives something; its guider gives nothing yet."""
    torch.manual_seed(0)
    denoiser = Recipe(**SMALL).model()
    torch.nn.init.normal_(denoiser.net.frozen.leave.weight, std=0.1)
    return denoiser


def image(like, seed=0):
    return {"image": Noise(seed).normal(torch.zeros(len(like), 5, *like.shape[2:]))}


def test_the_guider_adds_to_the_features_of_each_level(model):
    """At first nothing; without a condition never; at each level its own bias changes what comes out."""
    x = Noise(1).normal(torch.zeros(2, 3, 13, 10))
    bare = model(x, 0.4).mean
    assert torch.equal(model(x, 0.4, image(x)).mean, bare)
    for level in range(3):
        with torch.no_grad():
            model.net.guider.leave[level].bias.fill_(0.3)
        assert torch.equal(model(x, 0.4).mean, bare)
        assert float((model(x, 0.4, image(x)).mean - bare).detach().abs().max()) > 1e-4
        with torch.no_grad():
            model.net.guider.leave[level].bias.zero_()
    assert torch.equal(model(x, 0.4, image(x)).mean, bare)


def test_what_is_added_enters_the_frozen_net(model):
    """`added` at the coarsest level of the net equals a shift of that level's last block."""
    net, x = model.net.frozen, Noise(2).normal(torch.zeros(1, 3, 8, 8))
    clock = torch.zeros(1)
    zeros = [torch.zeros(1, w, n, n) for w, n in ((8, 8), (12, 4), (16, 2))]
    assert torch.equal(net(x, clock, None, zeros), net(x, clock))
    shifted = [*zeros[:2], torch.full_like(zeros[2], 0.7)]
    got = net(x, clock, None, shifted)
    handle = net.down[2][-1].register_forward_hook(lambda module, args, out: out + 0.7)
    want = net(x, clock)
    handle.remove()
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_only_the_guider_learns(model):
    """A few steps: the frozen weights stay to the bit, the loss on one batch falls, every part of the guider moves."""
    recipe = Recipe(**SMALL, mean=0.0)
    before = {name: p.clone() for name, p in model.named_parameters()}

    class Pictures:
        def __len__(self):
            return 4

        def batch(self, items, noise):
            return torch.tensor([0.8, -0.2, -0.6]).reshape(1, 3, 1, 1).expand(len(items), 3, 8, 8).clone(), None

    data, objective = recipe.data(Pictures()), recipe.objective(model)
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], 0.01)
    losses = [step.loss for step in fit(objective, data, optimizer, steps=60, batch=4)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith("net.frozen."), name


def test_a_guider_has_a_width_for_each_level():
    with pytest.raises(ValueError, match="the net's 3 levels, got 2"):
        Recipe(**{**SMALL, "guider": (4, 8)}).model()


class Known(Denoiser):
    """The exact denoiser of normal colors given their luma, read from the image; without one that of all colors."""

    def __init__(self, mean, cov):
        super().__init__()
        self.mean, self.cov, self.process = mean, cov, LinearBeta()

    def forward(self, xt, t, cond=None):
        mean, cov = self.mean.expand(len(xt), 3), self.cov
        if cond is not None:
            y, w = cond["image"][:, 0, 0], LUMA
            gain = cov @ w / (w @ cov @ w)
            mean, cov = mean + (y - mean @ w[:, None]) * gain, cov - torch.outer(gain, w @ cov)
        a, s = self.process.alpha(t), self.process.sigma(t)
        gap = torch.linalg.solve(a * a * cov + s * s * torch.eye(3).double(), (xt[..., 0, 0] - a * mean).T).T
        return sf.Estimate((mean + a * gap @ cov)[..., None, None])


@pytest.fixture(scope="module")
def colors():
    root = torch.tensor([[0.2, 0.0, 0.0], [0.1, 0.15, 0.0], [-0.05, 0.1, 0.1]]).double()
    return Known(torch.tensor([0.1, -0.1, 0.05]).double(), root @ root.T)


def test_the_guided_law_of_normal_colors(colors):
    """Given the luma, colors are normal with known mean and covariance, to four standard errors; their luma is y."""
    n, y = 4000, 0.12
    m = sf.Measurement(Gray.luma(), torch.full((n, 1, 1, 1), y).double())
    x = Colorize(steps=60)(colors, m, Noise(0))[..., 0, 0]
    cov, w = colors.cov, LUMA
    gain = cov @ w / (w @ cov @ w)
    mean, left = colors.mean + gain * (y - w @ colors.mean), cov - torch.outer(gain, w @ cov)
    torch.testing.assert_close(x @ w, torch.full((n,), y).double(), atol=1e-12, rtol=0)
    error = (left.diag() / n).sqrt()
    assert bool(((x.mean(0) - mean).abs() < 4 * error + 1e-3).all())
    torch.testing.assert_close(torch.cov(x.T), left, atol=float(5 * left.max() / n**0.5), rtol=0)


def test_guidance_leans_on_the_frozen_prior(colors):
    """scale 0 sees the prior alone: colors of all lumas, whose luma is then replaced; scale 1 calls once, 2 twice."""
    m = sf.Measurement(Gray.luma(), torch.full((1, 1, 1, 1), 0.3).double())
    xt = torch.tensor([0.2, 0.1, -0.1]).double().reshape(1, 3, 1, 1)
    keep = lambda x: x + Gray.luma().pinv(m.y - Gray.luma()(x))  # noqa: E731
    null, full = (colors(xt, 0.3, c).mean for c in (None, {"image": seen(m.y)}))
    for scale, want in ((0.0, null), (1.0, full), (2.0, 2 * full - null)):
        got = Colorize(scale=scale).guide(colors, m)(xt, 0.3).mean
        torch.testing.assert_close(got, keep(want), atol=1e-12, rtol=0)


def test_colors_are_paled_into_the_range():
    """Luma and hue stay, and the first channel to leave the range lies on its border."""
    y = torch.tensor([0.0, 0.9, -0.9, 1.2, 0.5]).double().reshape(5, 1, 1, 1)
    c = torch.tensor([0.3, -0.1, -0.27193]).double()
    c = c - LUMA @ c  # of luma 0
    c = c.reshape(1, 3, 1, 1) * torch.tensor([1.0, 2.0, 2.0, 1.0, 0.0]).double().reshape(5, 1, 1, 1)
    x = shown(y + c, y, -1.0, 1.0)
    torch.testing.assert_close(x[0], (y + c)[0], atol=1e-12, rtol=0)
    assert float(x[1].max()) == pytest.approx(1.0) and float(x[2].min()) == pytest.approx(-1.0)
    for i in (1, 2):
        share = (x[i] - y[i]) / c[i]
        assert 0 < float(share[0]) < 1 and float(share.max() - share.min()) < 1e-12
    torch.testing.assert_close(x[3:], y[3:].expand(2, 3, 1, 1), atol=1e-12, rtol=0)  # no room; no color
    torch.testing.assert_close(Gray.luma()(x), y, atol=1e-12, rtol=0)


def test_what_the_guider_sees():
    """Luma, then hints: colors at their pixels, 0 elsewhere, and 1 at them; half of the pictures have none."""

    class Pictures:
        def __len__(self):
            return 7

        def batch(self, items, noise):
            return Noise(0).uniform(torch.zeros(len(items), 3, 6, 5)) + 0.1, None

    data = Greyed(Pictures(), 3)
    x, cond = data.batch(list(range(400)), Seeds(range(400)))
    look = cond["image"]
    assert len(data) == 7 and look.shape == (400, 5, 6, 5)
    torch.testing.assert_close(look[:, :1], Gray.luma()(x))
    mask = look[:, 4:]
    torch.testing.assert_close(look[:, 1:4], mask * x)
    counts = mask.sum((1, 2, 3))
    assert set(counts.tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert 0.42 < float((counts == 0).double().mean()) < 0.58
    again = data.batch([3], Seeds([3]))[1]["image"][0, 4]
    assert torch.equal(again, mask[3, 0])  # by its own stream, whatever the batch
    y = x[:2, :1]
    assert torch.equal(seen(y), torch.cat([y, torch.zeros(2, 4, 6, 5)], 1))
    hint = torch.ones(1, 4, 6, 5)
    assert torch.equal(seen(y, hint), torch.cat([y, hint.expand(2, 4, 6, 5)], 1))


def test_who_takes_it(model):
    """The model names its solver for luma without noise, and no other; the solver refuses other weights."""
    m = sf.Measurement(Gray.luma(), torch.zeros(1, 1, 8, 8))
    got, why = defaults.solver(m, denoiser=model)
    assert got == Colorize() == Recipe().solver() and "trained for it" in why
    assert defaults.solver(m, steps=7, denoiser=model)[0] == Colorize(steps=7)
    for other in (
        sf.Measurement(Gray.luma(), m.y, 0.1),
        sf.Measurement(Gray(), m.y),
        sf.Measurement(sf.operators.Identity(), torch.zeros(1, 3, 8, 8)),
    ):
        assert model.restoring(other) is None
        assert not isinstance(defaults.solver(other, denoiser=model)[0], Colorize)
    Colorize().check(Gray.luma())
    for other in (Gray((0.5, 0.25, 0.25)), sf.operators.Identity()):
        with pytest.raises(TypeError, match=rf"needs Gray.luma\(\), got {type(other).__name__}"):
            Colorize().check(other)


def test_saved_and_loaded(model, tmp_path):
    """A folder that `restore` takes: the same colors, of the grey it was given."""
    fields = {**SMALL, "channels": 3}
    whole = sf.zoo.Model(
        sf.codecs.Affine(0.5, 0.5), model, {"recipe": "piggyback-color", "fields": fields, "event": [3, None, None]}
    )
    whole.save(tmp_path)
    y = Noise(3).uniform(torch.zeros(1, 1, 8, 8))
    m = sf.Measurement(Gray.luma(), y)
    first, second = (one.restore(m, steps=3, seed=1) for one in (whole, sf.load(tmp_path)))
    assert "Colorize(steps=3" in first.solver and torch.equal(first.samples, second.samples)
    torch.testing.assert_close(Gray.luma()(second.mean), y, atol=1e-6, rtol=0)
    assert float(second.mean.min()) >= 0.0 and float(second.mean.max()) <= 1.0 + 1e-6
