"""Blind deblurring of photographs with the shipped prior: the picture and the kernel, GibbsDDRM and BlindDPS.

    python benchmarks/blind.py --root ROOT --out build/blind.json

The centres of photo12 pictures, through kernels that are known here and not to the solvers (a camera shake, a line, a
disc, in turn; valid borders, noise 0.02), found from the paper's first kernel: PSNR of the picture, against the blurred
one and against the same prior that is told the kernel; relative error of the kernel. Picture and kernel may shift
against each other: both are aligned by whole pixels before they are scored. The pictures were chosen before any of them
was restored; coffee, motorcycle_left and baboon, on which the method was tried, are left out. Then the real pictures of
opencv-doc, defocus and motion, whose truth nobody has: --picture FOLDER gets KEY.png of each method (the picture as it
is, as the method restores it, as the default solver does when told the kernel that it found, the kernel).
"""

from __future__ import annotations

from pathlib import Path

import torch
from shared import gained, keep, options, sheet, write
from torch import Tensor
from tqdm import tqdm

import sfumato
from sfumato import Measurement, Model, Noise, Seeds, metrics
from sfumato.data.photo12 import OPENCV, SIDE, photo12, read_picture
from sfumato.denoisers import Denoiser, Examples, OfLevel
from sfumato.operators import Convolution, kernels
from sfumato.processes import Table
from sfumato.solvers import BlindDPS, GibbsDDRM, Solver

NAMES = ("building", "astronaut", "chelsea", "home", "china", "fruits")
# file: (left, top, right, bottom) of the part that is restored, halved, and the taps of its kernel
REAL = {
    "text_defocus.jpg": ((60, 130, 316, 386), 13, "defocus"),
    "text_motion.jpg": ((20, 120, 276, 344), 17, "motion"),
    "licenseplate_motion.jpg": ((170, 170, 426, 362), 21, "motion"),
}
SIGMA, REACH = 0.02, 4


def on_table(model: Model) -> Denoiser:
    """The model on the levels of BlindDPS's paper: its scale of the gradients is meant for them."""
    inner = model.denoiser
    assert hasattr(inner.process, "time_of")

    def clean(x: Tensor, level: Tensor) -> Tensor:
        return inner(x, inner.process.time_of(-2.0 * float(level[0].log()))).mean  # type: ignore[union-attr]

    return OfLevel(clean, Table.linear())


def family(width: int, kind: str = "all") -> Examples:
    """The prior of kernels of BlindDPS, on its table."""
    known = kernels.family(width, kind)
    return Examples((2 * known / known.amax((1, 2), keepdim=True) - 1)[:, None].float(), Table.linear())


def solve(solver: Solver, denoiser: Denoiser, model: Model, m: Measurement) -> tuple[Tensor, Tensor]:
    """The picture in data space, and the kernel."""
    for last in solver.trajectory(denoiser, m.to_model(model.codec), Seeds(range(len(m)))):
        pass
    found = solver.found(last.memory)
    assert found is not None
    return model.codec.decode(last.x), found[0, 0].double()


def told(model: Model, m: Measurement, kernel: Tensor) -> Tensor:
    """What the default solver makes of it with this kernel."""
    return model.restore(Measurement(Convolution(kernel, "valid"), m.y, m.sigma), steps=10).mean


def shifts() -> list[tuple[int, int]]:
    """Shifts of up to REACH pixels."""
    return [(i, j) for i in range(-REACH, REACH + 1) for j in range(-REACH, REACH + 1)]


def scored(x: Tensor, truth: Tensor, margin: int) -> float:
    """PSNR of the best of the shifts, without a margin."""
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    return max(float(metrics.psnr(x.roll(s, (2, 3))[inner].clamp(0, 1), truth[inner])) for s in shifts())


def error(kernel: Tensor, truth: Tensor) -> float:
    """|k - k_true| / |k_true| of the best of the shifts."""
    return min(float((kernel.roll(s, (0, 1)) - truth).norm() / truth.norm()) for s in shifts())


def true_kernel(index: int, width: int) -> Tensor:
    """A shake, a line, a disc, in turn."""
    made = (
        lambda: kernels.motion(Noise(index), width, 0.5),
        lambda: kernels.line(width, 0.6 * width, 0.7 + index),
        lambda: kernels.disc(width, 0.25 * width),
    )
    return made[index % 3]()


def main() -> None:
    """Parses the command line, blurs, restores, scores; then the real pictures."""
    parser = options(__doc__)
    parser.add_argument("--side", type=int, default=64, help="of the blurred pictures")
    parser.add_argument("--width", type=int, default=11, help="of the kernels")
    parser.add_argument("--pictures", type=int, default=len(NAMES))
    parser.add_argument("--dps-steps", type=int, default=100, help="of BlindDPS")
    args = parser.parse_args()
    model, pictures, width = sfumato.load("photo"), dict(photo12(args.root)), args.width
    methods = ways(model, width, "all", args.dps_steps)
    begin, rows = GibbsDDRM.kernel(width), {}
    for index, name in enumerate(tqdm(NAMES[: args.pictures])):
        first, margin = (SIDE - args.side - width + 1) // 2, width // 2
        x = pictures[name][None, :, first : first + args.side + width - 1, first : first + args.side + width - 1]
        true = true_kernel(index, width)
        m = Measurement.simulate(Convolution(true, "valid"), x, sigma=SIGMA, noise=Noise(index))
        blind = Measurement(Convolution(begin, "valid"), m.y, m.sigma)
        seen = torch.nn.functional.pad(m.y, [margin] * 4)
        best = told(model, m, true)
        row = {"blurred": scored(seen, x, width), "told": scored(best, x, width), "first_kernel": error(begin, true)}
        row["first_again"] = scored(told(model, m, begin), x, width)
        for key, (solver, denoiser) in methods.items():
            found, kernel = solve(solver, denoiser, model, blind)
            again = told(model, m, kernel)
            row |= {key: scored(found, x, width), f"{key}_again": scored(again, x, width)}
            row[f"{key}_kernel"] = error(kernel, true)
        rows[name] = row
        print(name, row, flush=True)
    means = {key: sum(row[key] for row in rows.values()) / len(rows) for key in rows[NAMES[0]]}
    write(args, {"sigma": SIGMA, "width": width, "side": args.side, "means": means, "rows": rows})
    for key in methods:
        gain = torch.tensor([row[f"{key}_again"] - row["blurred"] for row in rows.values()])
        keep(
            args,
            key,
            f"{len(rows)} crops of photo12, {args.side} x {args.side}, unknown kernels of {width} x {width}, "
            f"noise {SIGMA}",
            f"PSNR {means[key]:.2f} dB; {means[f'{key}_again']:.2f} where the default solver is told its kernel (gain "
            f"over the blurred picture, {means['blurred']:.2f}: {gained(gain)}, standard error), "
            f"{means['first_again']:.2f} told the first kernel, {means['told']:.2f} the true one; relative error of "
            f"the kernel {means[f'{key}_kernel']:.2f}, of the first one {means['first_kernel']:.2f}",
        )
    if args.picture is not None:
        for key in methods:
            sheet(args.picture / f"{key}.png", real(args.root, model, key, args.dps_steps))


def ways(model: Model, width: int, kind: str, steps: int) -> dict[str, tuple[Solver, Denoiser]]:
    """The two methods: GibbsDDRM is told nothing of the kernel, BlindDPS the kinds that it may be of."""
    return {
        "gibbs-ddrm": (GibbsDDRM.photographs(), model.denoiser),
        "blind-dps": (BlindDPS(steps=steps, zeta=300.0 / steps, prior=family(width, kind)), on_table(model)),
    }


def real(root: Path, model: Model, key: str, steps: int) -> list[list[Tensor]]:
    """Rows of opencv-doc's pictures: as they are, as the method restores them, with its kernel told, the kernel."""
    rows = []
    for name, (box, width, kind) in REAL.items():
        y = torch.nn.functional.avg_pool2d(read_picture(root / OPENCV / name, box)[None], 2)
        m = Measurement(Convolution(GibbsDDRM.kernel(width), "valid"), y, SIGMA)
        solver, denoiser = ways(model, width, kind, steps)[key]
        found, kernel = solve(solver, denoiser, model, m)
        margin = width // 2
        inner = (0, ..., slice(margin, -margin), slice(margin, -margin))
        side = min(y.shape[2:])
        cut = (..., slice(side), slice(side))
        row = [y[0][cut], found[inner][cut], told(model, m, kernel)[inner][cut], _shown(kernel, y[cut])]
        rows.append([_sized(x, 112) for x in row])
    return rows


def _sized(x: Tensor, side: int = 64) -> Tensor:
    """A picture brought to a square of this side."""
    return torch.nn.functional.interpolate(x[None].float(), size=side, mode="area")[0]


def _shown(kernel: Tensor, like: Tensor) -> Tensor:
    """A kernel as a picture of this one's size."""
    big = torch.nn.functional.interpolate(kernel[None, None] / kernel.max(), size=like.shape[2:], mode="nearest")
    return big[0].float()


if __name__ == "__main__":
    main()
