"""Text as a condition, on data whose mean the text says: guidance then has a closed form."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import sfumato as sf
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.nets.text import TextEncoder, embedded, without


class Lengths(TextEncoder):
    """A text of n letters is n, at each of two places."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[str]] = []

    def forward(self, texts: Sequence[str]) -> Tensor:
        self.seen.append(list(texts))
        return torch.tensor([[[float(len(text))], [float(len(text))]] for text in texts])


class Said(Denoiser):
    """All x_0 are the number of letters of the text."""

    def __init__(self) -> None:
        super().__init__()
        self.process, self.text = sf.processes.LinearBeta(), Lengths()

    def forward(self, xt, t, cond=None) -> Estimate:
        return Estimate(cond["text"][:, 0].expand_as(xt).to(xt))


@pytest.fixture
def model() -> sf.Model:
    return sf.Model(
        sf.codecs.Affine(), Said(), {"event": [3], "recipe": "diffusers-latent", "fields": {"text": {"a": 1}}}
    )


def test_each_distinct_text_is_embedded_once() -> None:
    encoder = Lengths()
    cond = embedded(encoder, ["abc", "a", "abc"], "zz")
    assert encoder.seen == [["abc", "a", "zz"]]
    assert cond["text"][:, 1, 0].tolist() == [3.0, 1.0, 3.0] and cond["null"][:, 0, 0].tolist() == [2.0, 2.0, 2.0]
    assert embedded(encoder, ["abc"])["null"].abs().max() == 0.0
    assert embedded(encoder, [])["text"].shape == (0, 2, 1)


def test_without_text_all_else_stays() -> None:
    assert without({"text": 1, "null": 2, "image": 3}) == {"text": 2, "null": 2, "image": 3}
    with pytest.raises(ValueError, match=r"needs \"null\" in the condition, which `embedded` gives; got \['text'\]"):
        without({"text": 1})


def test_guidance_leads_from_the_negative_to_the_text(model: sf.Model) -> None:
    """All mass at m: what is drawn is m_null + scale (m_text - m_null)."""

    def draw(cond, **settings) -> list[float]:
        return model.sample(2, cond=cond, steps=4, sampler=sf.samplers.DDIM(), **settings)[:, 0].tolist()

    assert draw("abc") == pytest.approx([3.0, 3.0])
    assert draw(["abc", "a"]) == pytest.approx([3.0, 1.0])
    assert draw(("abc", "a"), scale=2.5) == pytest.approx([7.5, 2.5])
    assert draw(model.prompts(["abc", "a"], "zz"), scale=2.5) == pytest.approx([4.5, -0.5])
    assert draw(None) == pytest.approx([0.0, 0.0])
    whole = model.sample(3, cond=["a", "abc", "aaaa"], scale=2.0, batch=2, sampler=sf.samplers.DDIM())
    torch.testing.assert_close(whole[:, 0], torch.tensor([2.0, 6.0, 8.0]))


def test_restoration_under_a_text(model: sf.Model) -> None:
    m = sf.Measurement(sf.operators.Identity(), torch.tensor([[2.0, 2.0, 2.0], [4.0, 4.0, 4.0]]), sigma=0.5)
    assert model.restore(m, cond=["abc", "a"], samples=2).mean[:, 0].tolist() == pytest.approx([3.0, 1.0])
    assert model.memory(m, sf.solvers.DDNM(2)) > 0


def test_texts_that_do_not_fit_are_refused(model: sf.Model) -> None:
    with pytest.raises(ValueError, match="texts are one, or one for each of 3 items, got 2"):
        model.sample(3, cond=["a", "b"])
    with pytest.raises(ValueError, match="no classes: its condition is a text"):
        model.sample(1, cond=2)
    with pytest.raises(ValueError, match="guidance needs a condition"):
        model.sample(1, scale=3.0)
    plain = sf.Model(sf.codecs.Affine(), sf.GaussianWorld(torch.zeros(3), torch.eye(3)).denoiser(sf.processes.Cosine()))
    assert not plain.reads and model.reads
    with pytest.raises(ValueError, match="reads no text"):
        plain.prompts(["a"])
    with pytest.raises(ValueError, match="reads no text"):
        sf.Model(plain.codec, plain.denoiser, {"event": [3]}).sample(1, cond="a")
