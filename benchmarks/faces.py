"""Faces of 25 x 25: DifFace and DR2 with a prior trained on the spot, against bicubic enlargement and plain regression.

    python benchmarks/faces.py --root ROOT --out build/faces.json

python3-skimage ships 100 small faces. A diffusion model and a regression network (L1, the first stage of DifFace) are
trained on the first 80, mirrored, shifted and with another gamma; the other 20 are reduced by 4, given noise of 0.05,
stored as JPEG of quality 40, and enlarged bicubically. PSNR, SSIM and detail (the standard deviation of the Laplacian
over the true one's) with 95 % intervals over the 20. Eighty faces are far too few for a prior of faces: what it adds is
the mean look of these eighty, and nothing here says how the methods do on faces at the sizes of their papers. --picture
FOLDER gets KEY.png of each method.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from shared import keep, options, sheet, write
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sfumato import Measurement, Noise, Seeds, metrics
from sfumato.data.faces import lfw_faces
from sfumato.denoisers import Preconditioned, edm
from sfumato.nets import UNet
from sfumato.operators import Identity
from sfumato.processes import Table
from sfumato.solvers import DR2, DifFace
from sfumato.solvers.difface import Absolute
from sfumato.training import Denoising, Ema, LogNormal, fit, warmup_decay

SIZE, TRAIN = 25, 80
SHOWN = {  # rows of the pictures, below the truth
    "difface": ("bicubic", "regression", "difface"),
    "dr2": ("bicubic", "dr2", "dr2 on regression"),
}


class Faces:
    """Augmented faces in [-1, 1]; with `damaged`, items (x0, damaged x0)."""

    def __init__(self, x: Tensor, damaged: bool) -> None:
        self.x, self.damaged = x, damaged

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, Tensor | None]:
        """(x0, y or None)."""
        rows = [self._drawn(self.x[i], stream) for i, stream in zip(items, noise.streams, strict=True)]
        x = torch.stack(rows)
        y = torch.stack([damage(r, s) for r, s in zip(rows, noise.streams, strict=True)]) if self.damaged else None
        return 2 * x - 1, None if y is None else 2 * y - 1

    @staticmethod
    def _drawn(x: Tensor, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(4))
        x = x.flip(2) if u[0] < 0.5 else x
        i, j = (u[1:3] * 5).long().tolist()
        x = F.pad(x[None], [2] * 4, mode="replicate")[0, :, i : i + SIZE, j : j + SIZE]
        return x ** float(2 ** (u[3] - 0.5))


def damage(x: Tensor, noise: Noise) -> Tensor:
    """A face (1, 25, 25) in [0, 1], reduced by 4, with noise, as JPEG, enlarged again."""
    small = F.interpolate(x[None], size=SIZE // 4, mode="area")
    small = (small + 0.05 * noise.normal(small)).clamp(0, 1)
    file = io.BytesIO()
    Image.fromarray((small[0, 0] * 255).round().to(torch.uint8).numpy()).save(file, "JPEG", quality=40)
    stored = torch.from_numpy(np.array(Image.open(file))).float()[None, None] / 255
    return F.interpolate(stored, size=SIZE, mode="bicubic")[0].clamp(0, 1)


def trained(objective: nn.Module, data: Faces, steps: int, rate: float) -> nn.Module:
    """The average of the weights after training."""
    ema = Ema(objective, 0.995)
    plan = warmup_decay(steps, warmup=50)
    optimizer = torch.optim.AdamW(objective.parameters(), rate)
    run = fit(objective, data, optimizer, steps=steps, batch=16, ema=ema, schedule=plan)
    for _ in tqdm(run, total=steps, mininterval=10):
        pass
    return ema.average.eval()


def detail(x: Tensor) -> Tensor:
    """Standard deviation of the Laplacian of each picture."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return F.conv2d(x, kernel).flatten(1).std(1)


def main() -> None:
    """Parses the command line, trains, restores, scores."""
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=800, help="of the prior; the regression takes half of them")
    args = parser.parse_args()
    x = lfw_faces(args.root)
    torch.manual_seed(0)  # the first weights
    prior = Preconditioned(UNet(1, (32, 64), 1), Table.linear(), edm(0.5))
    prior_loss = Denoising(prior, LogNormal(-0.6, 1.4))
    denoiser = trained(prior_loss, Faces(x[:TRAIN], False), args.steps, 2e-3).denoiser.requires_grad_(False)
    net = UNet(1, (32, 64), 1)
    f = trained(Absolute(Restorer(net)), Faces(x[:TRAIN], True), args.steps // 2, 2e-3).restorer.requires_grad_(False)

    truth = x[TRAIN:]
    y = torch.stack([damage(row, noise) for row, noise in zip(truth, Seeds(range(len(truth))).streams, strict=True)])
    m, noise = Measurement(Identity(), 2 * y - 1), Seeds(range(len(truth)))
    regressed = f(m.y)
    answers = {
        "bicubic": y,
        "regression": (regressed + 1) / 2,
        "difface": (DifFace(estimate=lambda m: f(m.y))(denoiser, m, noise) + 1) / 2,
        "dr2": (DR2(factor=5)(denoiser, m, Seeds(range(len(truth)))) + 1) / 2,
        "dr2 on regression": (DR2(factor=5)(denoiser, Measurement(Identity(), regressed), noise) + 1) / 2,
    }
    table: dict[str, dict[str, list[float]]] = {}
    for key, answer in answers.items():
        a = answer.clamp(0, 1)
        marks = {"psnr": metrics.psnr(a, truth), "ssim": metrics.ssim(a, truth), "detail": detail(a) / detail(truth)}
        table[key] = {k: [float(v.mean()), 1.96 * float(v.std() / len(v) ** 0.5)] for k, v in marks.items()}
    write(args, {"train": TRAIN, "test": len(truth), "mean_and_half_of_the_95_interval": table})

    def said(key: str) -> str:
        row = table[key]
        return (
            f"PSNR {row['psnr'][0]:.2f} +- {row['psnr'][1]:.2f}, SSIM {row['ssim'][0]:.3f} +- {row['ssim'][1]:.3f}, "
            f"detail {row['detail'][0]:.2f}"
        )

    data = f"{len(truth)} faces of 25 x 25 (python3-skimage), reduced by 4, noise 0.05, JPEG 40; prior of {TRAIN} faces"
    rest = f"plain regression {said('regression')}; bicubic {said('bicubic')} (95 % intervals; detail 1 is the truth's)"
    keep(args, "difface", data, f"{said('difface')}; {rest}")
    keep(args, "dr2", data, f"{said('dr2')}; after the regression {said('dr2 on regression')}; {rest}")
    for key, shown in SHOWN.items() if args.picture is not None else ():
        rows = [truth, *(answers[name] for name in shown)]
        sheet(args.picture / f"{key}.png", [list(row[:12]) for row in rows], 2)


class Restorer(nn.Module):
    """The library's U-Net as a regression: y plus what it finds."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, y: Tensor) -> Tensor:
        return y + self.net(y, y.new_zeros(len(y)))


if __name__ == "__main__":
    main()
