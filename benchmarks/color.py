"""Grey photographs colored: a trained guider on the shipped prior beside the ways of the linear operator.

    python -m sfumato.zoo.train_color --root ROOT --run RUN
    python benchmarks/color.py --root ROOT --model RUN --out build/color.json

The color pictures of photo12 (all but the camera), their middle reduced by 2 as the guider's crops were reduced, and
their luma without noise: PSNR and colorfulness (Hasler & Suesstrunk 2003) of one sample of piggyback-color, of DDNM and
of DiffPIR with the prior alone, and of the grey picture itself, which any wrong color is worse than. Then the mean of
--samples. Nothing was tuned on them.
"""

from __future__ import annotations

import torch
from shared import gained, keep, options, sheet, write
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import sfumato
from sfumato import Measurement, metrics
from sfumato.data.photo12 import photo12
from sfumato.operators import Gray
from sfumato.recipes.piggyback_color import Colorize
from sfumato.solvers import DDNM, DiffPIR


def colorfulness(x: Tensor) -> float:
    """sqrt(var rg + var yb) + 0.3 sqrt(mean rg^2 + mean yb^2) of 0 to 255, rg = R - G, yb = (R + G) / 2 - B."""
    r, g, b = (255 * x.clamp(0, 1)).flatten(2).unbind(1)
    rg, yb = r - g, (r + g) / 2 - b
    spread = (rg.var(1) + yb.var(1)).sqrt()
    return float((spread + 0.3 * (rg.mean(1) ** 2 + yb.mean(1) ** 2).sqrt()).mean())


def main() -> None:
    """Parses the command line, colors, scores."""
    parser = options(__doc__)
    parser.add_argument("--model", required=True, help="the run of sfumato.zoo.train_color")
    parser.add_argument("--trained", default="1500 steps of 16 crops", help="how, in words for the figure")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--samples", type=int, default=4)
    args = parser.parse_args()
    color, prior, operator = sfumato.load(args.model), sfumato.load("photo"), Gray.luma()
    ways = {
        "piggyback-color": (color, Colorize(steps=args.steps)),
        "ddnm": (prior, DDNM(steps=args.steps)),
        "diffpir": (prior, DiffPIR(steps=args.steps)),
    }
    rows: dict[str, dict[str, list[float]]] = {}
    cells: list[list[Tensor]] = []
    for name, picture in tqdm(photo12(args.root), total=12):
        if name == "camera":
            continue
        x = F.avg_pool2d(picture[None], 2)
        first = (x.shape[2] - args.side) // 2
        x = x[..., first : first + args.side, first : first + args.side]
        m = Measurement(operator, operator(x))
        answers = {"grey": m.y.expand_as(x)}
        for key, (model, solver) in ways.items():
            result = model.restore(m, solver=solver, samples=args.samples, seed=0)
            answers |= {key: result.samples[0], f"{key}_mean": result.mean}
        rows[name] = {k: [float(metrics.psnr(a.clamp(0, 1), x)), colorfulness(a)] for k, a in answers.items()}
        rows[name]["true"] = [float("inf"), colorfulness(x)]
        cells.append([x[0], *(answers[key][0] for key in ("grey", "piggyback-color", "ddnm", "diffpir"))])
    scores = {k: torch.tensor([row[k] for row in rows.values()]) for k in rows["astronaut"]}
    means = {k: [float(v) for v in values.mean(0)] for k, values in scores.items()}
    gains = {k: gained(scores["piggyback-color"][:, 0] - scores[k][:, 0]) for k in ("grey", "ddnm", "diffpir")}
    gains["mean over grey"] = gained(scores["piggyback-color_mean"][:, 0] - scores["grey"][:, 0])
    unsure = any(float(g.split(" +- ")[0]) < 2 * float(g.split(" +- ")[1]) for g in (gains["ddnm"], gains["diffpir"]))
    result = {"side": args.side, "steps": args.steps, "samples": args.samples, "means": means, "gains": gains}
    rows = {name: {k: v for k, v in row.items() if k != "true"} for name, row in rows.items()}
    means["true"][0] = None  # type: ignore[call-overload]
    write(args, {**result, "rows": rows})
    keep(
        args,
        "piggyback-color",
        f"the 11 color pictures of photo12, {args.side} x {args.side} of their halves; guider (0.4 million weights) on "
        f"the shipped model photo, {args.trained}",
        f"PSNR of one sample {means['piggyback-color'][0]:.2f} dB (DDNM {means['ddnm'][0]:.2f}, gain {gains['ddnm']}; "
        f"DiffPIR {means['diffpir'][0]:.2f}, gain {gains['diffpir']}; the grey picture {means['grey'][0]:.2f}, gain "
        f"{gains['grey']}, standard errors); the mean of {args.samples} samples "
        f"{means['piggyback-color_mean'][0]:.2f}, gain over grey {gains['mean over grey']}; colorfulness "
        f"{means['piggyback-color'][1]:.0f}, true {means['true'][1]:.0f}; "
        + ("no gain over the linear ways is shown" if unsure else "a gain over both linear ways"),
        more=" --model RUN",
    )
    sheet(args.picture, [list(row) for row in zip(*cells, strict=True)])


if __name__ == "__main__":
    main()
