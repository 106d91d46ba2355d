"""Writes the figures of docs/training.md from benchmarks/data: no number by hand.

    python benchmarks/training.py --root ROOT --peers PEERS -o benchmarks/data/training.json
    python benchmarks/finetune.py --root ROOT
    python tools/training_page.py

Between `<!-- figures -->` or `<!-- finetune -->` and `<!-- end -->` the page is made here; the rest is written by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE, DATA = ROOT / "docs/training.md", ROOT / "benchmarks/data"


def figures(found: dict[str, Any]) -> str:
    """What a step costs, and what the options give."""
    batch, ours, weights = found["batch"], found["ours"], found["weights"]
    lines = [
        f"A step on {batch} pictures of 32 x 32 with about {weights['sfumato UNet'] / 1e6:.2g} million weights "
        f"({found['machine']}; processor time, `benchmarks/training.py`):",
        "| step of | million weights | ms | of `UNet` |\n| --- | ---: | ---: | ---: |",
    ]
    lines[1] += "".join(
        f"\n| {name} | {weights[name] / 1e6:.2f} | {ms:.0f} | {ms / found['step']['sfumato UNet']:.2f} |"
        for name, ms in found["step"].items()
    )
    shares = " and ".join(f"{part['outside']:.1%} at a batch of {size}" for size, part in ours.items())
    lines.append(
        f"Of our step {shares} is not the network, its backward pass and the optimizer: draws, clipping, the average. "
        f"(At {batch} the network takes {ours[str(batch)]['forward']:.0f} ms, backward "
        f"{ours[str(batch)]['backward']:.0f}, the optimizer {ours[str(batch)]['optimizer']:.1f}.)"
    )
    if "loss" in found:
        lines.append(learning(found))
    rows = [f"| {k} | {v['with']:.1f} | {v['without']:.1f} | {v['ratio']:.2f} |" for k, v in found["options"].items()]
    lines.append("\n".join(["| with / without | ms | ms | ratio |\n| --- | ---: | ---: | ---: |", *rows]))
    native = "has" if found["native bf16"] else "does not have"
    lines.append(f"This processor {native} native bfloat16, so `--precision auto` is {found['precision']} here.")
    return "\n\n".join(lines)


def learning(found: dict[str, Any]) -> str:
    """What the networks have learned of the same examples, beside the time of their steps."""
    loss, step = found["loss"], found["step"]
    table = ["| network | loss | at the rate | ms a step | of diffusers |", "| --- | ---: | ---: | ---: | ---: |"]
    table += [
        f"| {name} | {row['test']:.4f} | {row['rate']:g} | {step[name]:.0f} | {step[name] / step['diffusers']:.2f} |"
        for name, row in loss["networks"].items()
    ]
    ours = {name: row for name, row in loss["networks"].items() if name.startswith("sfumato")}
    most = loss["networks"]["diffusers"]["test"]
    fit = [n for n, row in ours.items() if row["test"] <= most and step[n] <= 0.9 * step["diffusers"]]
    said = f"met by {', '.join(fit)}" if fit else "missed by ours"
    rates = ", ".join(row for row in loss["networks"]["diffusers"]["kept"])
    return (
        f"Loss on the noise of test images after {loss['examples']} examples, in one loop, each network at the rate of "
        f"{rates} that is the best on training images kept apart:\n\n"
        + "\n".join(table)
        + f"\n\nThe bar, no higher loss than `UNet2DModel` of diffusers in at most 0.9 of its time: {said}. "
        "`UNet` as `sfumato train` takes it works on patches of 2 x 2 and normalises each position by itself, so that "
        'it runs on any size; "whole" has neither (`patch=1`, `groups=16`).'
    )


def tuning(found: dict[str, Any]) -> str:
    """What fine-tuning gives."""
    base = found["full"]["held_out"]["0"]
    marks = list(found["full"]["held_out"])[1:]
    head = f"| steps | trained weights | {' | '.join(marks)} | seconds |\n| --- | ---: |{' ---: |' * (len(marks) + 1)}"
    names = {"adapters": f"adapters of rank {found['rank']}", "full": "in full", "scratch": "from scratch"}
    rows = []
    for key, words in names.items():
        cells = [f"{found[key]['held_out'][mark]:.4f}" for mark in marks]
        trained = f"{found[key]['trained'] / 1e6:.2f} million"
        rows.append(f"| {words} | {trained} | {' | '.join(cells)} | {found[key]['seconds']:.0f} |")
    return (
        f"`fashion`, a model of clothes, on {found['pictures']} handwritten digits: the loss on 200 other digits is "
        f"{base:.4f} before, and then, of the averaged weights (`benchmarks/finetune.py`):\n\n"
        + "\n".join([head, *rows])
    )


def filled(text: str, mark: str, content: str) -> str:
    """The page with the part of a mark replaced."""
    return re.sub(rf"<!-- {mark} -->.*?<!-- end -->", lambda _: f"<!-- {mark} -->\n{content}\n<!-- end -->", text,
                  flags=re.DOTALL)  # fmt: skip


def main() -> None:
    """Writes the page, from what has been measured."""
    text = PAGE.read_text("utf-8")
    for mark, name, make in (("figures", "training", figures), ("finetune", "finetune", tuning)):
        path = DATA / f"{name}.json"
        made = make(json.loads(path.read_text("utf-8"))) if path.exists() else "**Not measured yet.**"
        text = filled(text, mark, made)
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
