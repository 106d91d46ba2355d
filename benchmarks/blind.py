"""Blind deblurring of photographs with the shipped prior: the picture and the kernel, GibbsDDRM and BlindDPS.

    python benchmarks/blind.py --root ROOT --out build/blind.json

The centres of photo12 pictures, through kernels that are known here and not to the solvers (a camera shake, a line, a
disc, in turn; valid borders, noise 0.02), found from the paper's first kernel: PSNR of the picture, against the blurred
one and against the same prior that is told the kernel; relative error of the kernel. Picture and kernel may shift
against each other: both are aligned by whole pixels before they are scored. Pictures were chosen for texture (a smooth
one says nothing of its kernel) before any was restored, and the settings on photographs of the training set's kind
alone. Then the real pictures of opencv-doc, defocus and motion, whose truth nobody has: the pictures alone.
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

NAMES = ("motorcycle_left", "baboon", "building", "astronaut", "chelsea", "home")
# file: (left, top, side) of the part that is restored
REAL = {"text_defocus.jpg": (0, 0, 0), "text_motion.jpg": (0, 0, 0), "licenseplate_motion.jpg": (0, 0, 0)}
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
    parser.add_argument("--side", type=int, default=80, help="of the blurred pictures")
    parser.add_argument("--width", type=int, default=11, help="of the kernels")
    parser.add_argument("--pictures", type=int, default=len(NAMES))
    parser.add_argument("--dps-steps", type=int, default=100, help="of BlindDPS")
    parser.add_argument("--real", type=int, default=128, help="side of the real pictures, halved where they are larger")
    args = parser.parse_args()
    model, pictures, width = sfumato.load("photo"), dict(photo12(args.root)), args.width
    table, prior = on_table(model), family(width)
    ways: dict[str, tuple[Solver, Denoiser]] = {
        "gibbs-ddrm": (GibbsDDRM.photographs(), model.denoiser),
        "blind-dps": (BlindDPS(steps=args.dps_steps, zeta=300.0 / args.dps_steps, prior=prior), table),
    }
    begin, rows, cells = GibbsDDRM.kernel(width), {}, []
    for index, name in enumerate(tqdm(NAMES[: args.pictures])):
        first, margin = (SIDE - args.side - width + 1) // 2, width // 2
        x = pictures[name][None, :, first : first + args.side + width - 1, first : first + args.side + width - 1]
        true = true_kernel(index, width)
        m = Measurement.simulate(Convolution(true, "valid"), x, sigma=SIGMA, noise=Noise(index))
        blind = Measurement(Convolution(begin, "valid"), m.y, m.sigma)
        seen = torch.nn.functional.pad(m.y, [margin] * 4)
        best = told(model, m, true)
        row = {"blurred": scored(seen, x, width), "told": scored(best, x, width), "first_kernel": error(begin, true)}
        cells.append([x[0], seen[0], best[0], _shown(true, x)])
        for key, (solver, denoiser) in ways.items():
            found, kernel = solve(solver, denoiser, model, blind)
            again = told(model, m, kernel)
            row |= {key: scored(found, x, width), f"{key}_again": scored(again, x, width)}
            row[f"{key}_kernel"] = error(kernel, true)
            cells[-1] += [found[0], again[0], _shown(kernel, x)]
        rows[name] = row
        print(name, row, flush=True)
    means = {key: sum(row[key] for row in rows.values()) / len(rows) for key in rows[NAMES[0]]}
    write(args, {"sigma": SIGMA, "width": width, "side": args.side, "means": means, "rows": rows})
    for key in ways:
        gain = torch.tensor([row[f"{key}_again"] - row["blurred"] for row in rows.values()])
        keep(
            args,
            key,
            f"{len(rows)} crops of photo12, {args.side} x {args.side}, unknown kernels of {width} x {width}, noise {SIGMA}",
            f"PSNR {means[key]:.2f} dB, {means[f'{key}_again']:.2f} with its kernel told to the default solver (gain over "
            f"the blurred picture, {means['blurred']:.2f}: {gained(gain)}, standard error); told the true kernel "
            f"{means['told']:.2f}; relative error of the kernel {means[f'{key}_kernel']:.2f}, of the first one "
            f"{means['first_kernel']:.2f}",
        )
    if args.picture is not None:
        for at, key in enumerate(ways):
            mine = [row[:4] + row[4 + 3 * at : 7 + 3 * at] for row in cells]
            sheet(args.picture / f"{key}.png", mine)
            real(args, model, *ways[key], key)


def real(args: object, model: Model, solver: Solver, denoiser: Denoiser, key: str) -> None:
    """The pictures of opencv-doc: as they are, restored, with the kernel that was found."""
    for name in REAL:
        x = read_picture(args.root / OPENCV / name)  # type: ignore[attr-defined]
        print(name, tuple(x.shape))


def _shown(kernel: Tensor, like: Tensor) -> Tensor:
    """A kernel as a picture of this one's size."""
    big = torch.nn.functional.interpolate(kernel[None, None] / kernel.max(), size=like.shape[2:], mode="nearest")
    return big[0].float()


if __name__ == "__main__":
    main()
