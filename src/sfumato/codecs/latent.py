"""A trained autoencoder as a codec: diffusion in its latent space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sfumato.codecs.base import Affine, Codec
from sfumato.nets import Autoencoder
from sfumato.nets.foreign import Coder
from sfumato.nets.taming import Taming


@dataclass(frozen=True, eq=False)
class Latent(Codec):
    """z = (E(outer.encode(x)) - mean) / std, channel by channel, and back through the decoder G.

    E gives the mean of q(z | x): nothing is drawn. Standard latents are what a prior's noise schedule is made for; the
    one scale factor of LDM is `std` equal in all channels and mean 0. Not affine: operators in data space become
    nonlinear.

    Args:
        autoencoder: its weights; no gradient flows into them from here, but through them to x and z.
        mean, std: (latent,), of the codes of the training data.
        outer: data space <-> the autoencoder's own.
        size: of the data, (H, W), where the strides do not divide it: `encode` pads by reflection, `decode` crops.
        rows: that the networks see at a time, all where None; where a gradient will be taken nothing inside is then
            kept, and a backward pass computes each part once more.

    Source: Rombach et al. 2022 (2112.10752) section 3.1 and appendix G; Sinha et al. 2021 (2106.06819) for the
    standardisation by channel.
    """

    autoencoder: Autoencoder | Taming | Coder
    mean: Tensor
    std: Tensor
    outer: Codec = field(default_factory=Affine)
    size: tuple[int, ...] | None = None
    rows: int | None = None

    def encode(self, x: Tensor) -> Tensor:
        z = self._parts(lambda rows: self.autoencoder.encode(rows)[0], self.outer.encode(x))
        return (z - self._row(self.mean, z)) / self._row(self.std, z)

    def decode(self, z: Tensor) -> Tensor:
        z = z * self._row(self.std, z) + self._row(self.mean, z)
        return self.outer.decode(self._parts(lambda rows: self.autoencoder.decode(rows, self.size), z))

    def latent(self, event: tuple[int, ...]) -> tuple[int, ...]:
        return self.autoencoder.shape(self.outer.latent(event))

    def sized(self, event: tuple[int, ...]) -> Latent:
        """The codec that decodes to data of this shape."""
        return replace(self, size=tuple(self.outer.latent(event)[1:]))

    def stages(self) -> tuple[Codec, ...]:
        """Data space to the autoencoder's own, and from there to the codes: an affine stage leaves operators linear."""
        return (self,) if self.outer == Affine() else (*self.outer.stages(), replace(self, outer=Affine()))

    def sparing(self) -> Latent:
        """The codec whose networks see one row at a time."""
        return replace(self, rows=1)

    def _parts(self, net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.rows is None:
            return net(x)
        again = torch.is_grad_enabled() and x.requires_grad
        return torch.cat(
            [
                checkpoint(net, part, use_reentrant=False, preserve_rng_state=False) if again else net(part)
                for part in x.split(self.rows)
            ]
        )

    @classmethod
    def fitted(
        cls, autoencoder: Autoencoder | Taming | Coder, x: Tensor, outer: Codec | None = None, batch: int = 256
    ) -> Latent:
        """The codec standardised on the codes of x, (N, *event) in data space.

        Raises:
            ValueError: where a channel of the codes does not vary: the autoencoder makes no use of it.
        """
        outer = outer or Affine()
        with torch.no_grad():
            z = torch.cat([autoencoder.encode(outer.encode(rows))[0] for rows in x.split(batch)])
        z = z.transpose(0, 1).flatten(1)
        std, mean = torch.std_mean(z, 1)
        if not bool((std > 0).all()):
            raise ValueError(f"channels {(std == 0).nonzero().flatten().tolist()} of the code do not vary.")
        return cls(autoencoder, mean, std, outer)

    @staticmethod
    def _row(value: Tensor, z: Tensor) -> Tensor:
        return value.to(z).reshape(-1, *[1] * (z.ndim - 2))
