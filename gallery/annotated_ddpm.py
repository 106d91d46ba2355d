"""A denoising diffusion model of Fashion-MNIST, from the data to the pictures, on the library's parts alone.

    python gallery/annotated_ddpm.py --root ROOT [--steps 600] [figure.png]

ROOT holds the unpacked Debian package dataset-fashion-mnist (60,000 grey images of 28 x 28, MIT). On one core a step of
128 images takes about a second; the loss falls fastest in the first hundred.
"""

# %% What is given: images in [-1, 1]. What is wanted: more of them.
import argparse
from pathlib import Path

import torch

import sfumato as sf
from sfumato.data.labelled import fashion_mnist
from sfumato.denoisers import Preconditioned, predict_eps
from sfumato.nets import UNet
from sfumato.recipes.annotated import Huber
from sfumato.training import Ema, fit

parser = argparse.ArgumentParser()
parser.add_argument("--root", type=Path, default=Path("/"))
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("figure", type=Path, nargs="?", default=Path("out/annotated_ddpm.png"))
args = parser.parse_args()
torch.manual_seed(0)


class Images:
    """The training images without their labels: the model is not told what it draws."""

    def __init__(self) -> None:
        self.data = fashion_mnist(args.root)

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, items: list[int], noise: sf.Seeds) -> tuple[torch.Tensor, None]:
        """(x0, no condition)."""
        return self.data.batch(items, noise)[0], None


images = Images()

# %% Forward: 300 small steps of noise, which are one: x_n = sqrt(abar_n) x_0 + sqrt(1 - abar_n) eps.
# The betas are those of 1,000 steps times 1000 / 300, so that the last x_n is as good as pure noise. Times are n / N.
N = 300
process = sf.processes.Table.linear(N, 1e-4 * 1000 / N, 0.02 * 1000 / N)
x0, _ = images.batch(list(range(8)), sf.Seeds(range(8)))
noised = [process.marginal(x0, n / N).sample(sf.Noise(1)) for n in (0, 30, 75, 150, 300)]
print(f"abar_N = {process.alpha(1.0) ** 2:.1e}")

# %% The denoiser: a U-Net that is shown x_n and n and guesses eps. `predict_eps` turns the guess into one of x_0:
#    D = (x_n - sqrt(1 - abar_n) eps_hat) / sqrt(abar_n)
net = UNet(channels=1, widths=(28, 56, 112), blocks=1)
denoiser = Preconditioned(net, process, predict_eps, clock=lambda t: t * N - 1.0)
print(f"{sum(p.numel() for p in net.parameters()):,} parameters")

# %% Training: noise an image to a random level, let the network guess the noise, take the Huber loss of the guess.
# Guessing no noise at all costs 0.425. `fit` is a generator: what happens after each step is this loop's business.
objective = Huber(denoiser, N)
optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-3)
average = Ema(denoiser, 0.99)
losses = []
for step in fit(objective, images, optimizer, steps=args.steps, batch=args.batch, seed=0):
    average.update(denoiser)
    losses.append(step.loss)
    if step.index % 50 == 0 or step.index == args.steps:
        print(f"step {step.index:4d}  loss {sum(losses[-50:]) / len(losses[-50:]):.4f}")
denoiser = average.average

# %% Reverse: from noise, 300 small steps back. Each draws x_{n-1} from q(x_{n-1} | x_n, x_0 = D), the bridge.
times = [n / N for n in range(N, -1, -1)]
start = process.prior(torch.empty(16, 1, 28, 28)).sample(sf.Noise(2))
path = []
for state in sf.trajectory(denoiser, sf.samplers.Ancestral(), start, times, sf.Noise(3)):
    if state.index % 60 == 0:
        path.append(state.x)
samples = path[-1].clamp(-1, 1)

# %% Figure: images into noise, noise into images
from PIL import Image  # noqa: E402

rows = [torch.cat(list(x[:8, 0]), 1) for x in (*noised, *path)]
sheet = torch.cat(rows).clamp(-1, 1).add(1).mul(127.5).byte().numpy()
args.figure.parent.mkdir(parents=True, exist_ok=True)
Image.fromarray(sheet).resize((2 * sheet.shape[1], 2 * sheet.shape[0]), Image.Resampling.NEAREST).save(args.figure)
print(args.figure)
