"""The page of the demo: one HTML file with its pictures inside, and the table as plain text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from sfumato.demo.pictures import heat, image, png
from sfumato.demo.run import Outcome, Score

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2em auto; padding: 0 1em; color: #222 }
h1, h2 { font-weight: 600 } h2 { margin-top: 2em; border-top: 1px solid #ddd; padding-top: 1em }
.row { display: flex; flex-wrap: wrap; gap: 12px } figure { margin: 0; width: 256px }
figure img { width: 256px; image-rendering: pixelated; display: block } figcaption { font-size: 14px; color: #555 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: 2px 14px 2px 0; text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums } tr.ours td { font-weight: 600 }
"""


def table(outcomes: Sequence[Outcome]) -> str:
    """The scores of all tasks as lines of text."""
    width = max(len(o.task.title) for o in outcomes)
    lines = [f"{'task':{width}}  {'method':20}  PSNR dB   SSIM"]
    for outcome in outcomes:
        for i, score in enumerate(outcome.scores):
            first = "" if i else outcome.task.title
            lines.append(f"{first:{width}}  {score.method:20}  {'  '.join(_words(score))}")
    return "\n".join(lines)


def page(outcomes: Sequence[Outcome], truth: bytes, animation: bytes, settings: str) -> str:
    """The whole page.

    Args:
        truth: a PNG of the photograph; `animation`: a GIF.
        settings: one line on model, seed and versions.
    """
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>sfumato demo</title><style>{STYLE}</style><h1>sfumato: one photograph, six ways back</h1>",
        "<p>The photograph was in no training set. Each restoration is the mean of several samples of what it may have "
        "been, given the damaged picture; where the samples differ (the spread) the picture is uncertain.</p>",
        "<div class=row>",
        _figure("image/png", truth, "the photograph (NASA, public domain)"),
        _figure("image/gif", animation, "forward: noise is added; reverse: it is removed, and the writing with it"),
        "</div>",
    ]
    for o in outcomes:
        figures = [("as measured", image(o.measured))]
        if o.baseline:
            figures.append((o.baseline[0], image(o.baseline[1])))
        figures.append(("sfumato" if o.spread is None else "sfumato, mean of the samples", image(o.restored)))
        if o.spread is not None:
            figures += [("sfumato, one sample", image(o.samples[0]))]
            figures.append((f"spread, light: {_top(o):.2f} and above", heat(o.spread, _top(o))))
        words = f"{escape(o.task.note)} {o.nfe} network calls for each of {len(o.samples)} samples, {o.seconds:.0f} s."
        parts += [f"<h2>{escape(o.task.title)}</h2><p>{words}</p><div class=row>"]
        parts += [_figure("image/png", png(picture), name) for name, picture in figures]
        parts += ["</div>", _scores(o.scores)]
    return "\n".join([*parts, f"<p>{escape(settings)}</p></html>\n"])


def _scores(scores: Sequence[Score]) -> str:
    rows = ["<tr><th>method<th>PSNR, dB<th>SSIM"]
    for score in scores:
        ours = " class=ours" if score.method == "sfumato" else ""
        decibels, alike = _words(score)
        rows.append(f"<tr{ours}><td>{escape(score.method)}<td class=n>{decibels}<td class=n>{alike}")
    return f"<table>{''.join(rows)}</table>"


def _words(score: Score) -> tuple[str, str]:
    """The two numbers as words of 7 and 5 letters."""
    if score.psnr is None or score.ssim is None:
        return "      -", "    -"
    return f"{score.psnr:7.2f}", f"{score.ssim:5.3f}"


def _top(outcome: Outcome) -> float:
    """The spread shown lightest: that of the hundredth most uncertain pixel in a hundred."""
    assert outcome.spread is not None
    return float(outcome.spread.flatten().quantile(0.99))


def _figure(kind: str, content: bytes, caption: str) -> str:
    data = base64.b64encode(content).decode()
    return f"<figure><img src='data:{kind};base64,{data}' alt=''><figcaption>{escape(caption)}</figcaption></figure>"
