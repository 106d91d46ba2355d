"""What a training step costs: ours beside its network, and beside those of diffusers and denoising-diffusion-pytorch.

    pip install diffusers
    pip install --no-deps --target PEERS denoising-diffusion-pytorch einops ema-pytorch
    python benchmarks/training.py --root ROOT --peers PEERS -o benchmarks/data/training.json

All on one thread; Fashion-MNIST padded to 32 x 32, batches of 16, networks of about 3.95 million weights that predict
the noise of the linear table of 1000 steps. Each step is what the project's own example runs: forward, backward,
clipping, AdamW or Adam, an average of the weights. Times are the processor's, since the wall's scatter by more than
what is asked; rounds alternate. `--rounds 0 --examples N` adds to the file: the networks of diffusers and ours trained
on the same N examples with the same noise, in our loop, each at the best of the same rates, and their losses on test
images. A peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.data.labelled import fashion_mnist
from sfumato.data.splits import Subset
from sfumato.denoisers import Preconditioned, predict_eps
from sfumato.nets import UNet
from sfumato.noise import Noise
from sfumato.processes import Table
from sfumato.training import Denoising, Ema, HeldOut, Steps, eps_weight, fit, warmup_decay
from sfumato.training.precision import best, native_bf16

BATCH, SIDE, STEPS = 16, 32, 1000
RATES = (1e-3, 3e-3)  # tried by `--examples`, for every network
clock = time.process_time


def ours() -> UNet:
    """(64, 112, 144), space to depth by 2 at the entrance, attention on the coarsest level."""
    return UNet(1, (64, 112, 144), 2, patch=2, attention=(2,))


class Padded:
    """Fashion-MNIST, 28 to 32 pixels a side."""

    def __init__(self, root: Path, *, train: bool = True) -> None:
        self.data = fashion_mnist(root, train=train)

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, items: list[int], noise: Any) -> tuple[Tensor, None]:
        return F.pad(self.data.batch(items, noise)[0], (2, 2, 2, 2), value=-1.0), None


def objective(net: nn.Module) -> Denoising:
    """The loss on the noise, uniformly over the table."""
    denoiser = Preconditioned(net, Table.linear(STEPS), predict_eps, clock=lambda t: t * STEPS - 1.0)
    return Denoising(denoiser, Steps(STEPS), eps_weight)


def whole() -> UNet:
    """For things seen whole: the full resolution from the entrance on, groups of channels normalised over space."""
    return UNet(1, (32, 112, 160), 2, attention=(2,), groups=16)


def adamw(module: nn.Module, rate: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)


# Steps: functions that run one step of a project


def our_step(net: nn.Module, data: Any) -> Callable[[], object]:
    made = objective(net)
    steps = fit(made, data, adamw(made), steps=10**9, batch=BATCH, ema=Ema(made), schedule=warmup_decay(10**9))
    return lambda: next(steps)


def diffusers_net() -> nn.Module:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=SIDE, in_channels=1, out_channels=1, layers_per_block=2, block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def items(step: int) -> list[int]:
    """The batch of a step: BATCH of the first 4096 items."""
    first = step * BATCH % 4096
    return list(range(first, first + BATCH))


def diffusers_step(net: nn.Module, data: Any) -> Callable[[], object]:
    """examples/unconditional_image_generation of diffusers, without accelerate's bookkeeping."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    noise, scheduler = Noise(0), DDPMScheduler(STEPS)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, betas=(0.95, 0.999), weight_decay=1e-6)
    ema, count = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True), iter(range(10**9))

    def step() -> None:
        x0, _ = data.batch(items(next(count)), None)
        eps = noise.normal(x0)
        t = (noise.uniform(torch.empty(len(x0))) * STEPS).long()
        loss = F.mse_loss(net(scheduler.add_noise(x0, eps, t), t).sample, eps)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(net.parameters())

    return step


def lucidrains_net() -> nn.Module:
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Unet

    return Unet(dim=40, dim_mults=(1, 2, 4), channels=1, flash_attn=True)


def lucidrains_step(net: nn.Module, data: Any) -> Callable[[], object]:
    """The loop of its Trainer."""
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import GaussianDiffusion
    from ema_pytorch import EMA

    diffusion = GaussianDiffusion(net, image_size=SIDE, timesteps=STEPS, objective="pred_noise", beta_schedule="linear")
    optimizer, ema = torch.optim.Adam(diffusion.parameters(), 1e-3, betas=(0.9, 0.99)), EMA(diffusion, update_every=10)
    count = iter(range(10**9))

    def step() -> None:
        x0, _ = data.batch(items(next(count)), None)
        loss = diffusion((x0 + 1) / 2)
        loss.backward()
        nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()

    return step


class Sample(nn.Module):
    """A network of diffusers called as ours are."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        return self.net(u, c_noise).sample


# What is measured


def rounds(steps: dict[str, Callable[[], object]], count: int) -> dict[str, float]:
    """Median processor time of a step, milliseconds, steps taken in turn."""
    for step in steps.values():
        step(), step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(count):
        for name, step in steps.items():
            began = clock()
            step()
            times[name].append(1e3 * (clock() - began))
    return {name: statistics.median(values) for name, values in times.items()}


def outside(data: Any, count: int, batch: int) -> dict[str, float]:
    """The share of our step's processor time that is not the network, its backward pass and the optimizer."""
    spent = {"forward": 0.0, "backward": 0.0, "optimizer": 0.0}
    net = ours()
    made = objective(net)
    optimizer = adamw(made)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            began = clock()
            try:
                return function(*args, **options)
            finally:
                spent[name] += clock() - began

        return run

    net.forward = timed("forward", net.forward)  # type: ignore[method-assign]
    optimizer.step = timed("optimizer", optimizer.step)  # type: ignore[method-assign]
    ema = Ema(made)
    steps = fit(made, data, optimizer, steps=10**9, batch=batch, ema=ema, schedule=warmup_decay(10**9))
    backward = torch.Tensor.backward
    torch.Tensor.backward = timed("backward", backward)  # type: ignore[method-assign, assignment]
    try:
        next(steps), next(steps)
        spent.update(dict.fromkeys(spent, 0.0))
        began = clock()
        for _ in range(count):
            next(steps)
        total = clock() - began
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
    parts = {name: 1e3 * value / count for name, value in spent.items()}
    return {**parts, "step": 1e3 * total / count, "outside": 1.0 - sum(spent.values()) / total}


def options(count: int) -> dict[str, dict[str, float]]:
    """Milliseconds of processor time with an option and without."""
    net = ours()
    x, t = Noise(0).normal(torch.empty(BATCH, 1, SIDE, SIDE)), torch.linspace(0, 999, BATCH)
    plain = copy.deepcopy(net).to(memory_format=torch.contiguous_format)

    def run(module: nn.Module, half: bool = False) -> Callable[[], object]:
        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                out = module(x, t).float()
            out.square().mean().backward()

        return step

    def moved(fused: bool, foreach: bool | None = None) -> Callable[[], object]:
        mine = copy.deepcopy(net)
        for parameter in mine.parameters():
            parameter.grad = torch.ones_like(parameter)
        return torch.optim.AdamW(mine.parameters(), 1e-3, fused=fused, foreach=foreach).step

    average, single = Ema(net), copy.deepcopy(net).requires_grad_(False)

    def one_by_one() -> None:
        for mine, theirs in zip(single.parameters(), net.parameters(), strict=True):
            mine.lerp_(theirs.detach(), 1e-3)

    q = Noise(1).normal(torch.empty(BATCH, 4, 64, 32)).requires_grad_()
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "fused AdamW / for-loop": (moved(True), moved(False, False)),
        "fused average / tensor by tensor": (lambda: average.update(net), one_by_one),
        "channels_last / contiguous": (run(net), run(plain)),
        "SDPA / explicit attention": (
            lambda: F.scaled_dot_product_attention(q, q, q).sum().backward(),
            lambda: (torch.softmax(q @ q.transpose(-1, -2) / 32**0.5, -1) @ q).sum().backward(),
        ),
        "bf16 autocast / float32": (run(net, half=True), run(net)),
    }
    found = {}
    for name, (with_it, without) in pairs.items():
        times = rounds({"with": with_it, "without": without}, count)
        found[name] = {k: round(v, 3) for k, v in times.items()} | {"ratio": round(times["with"] / times["without"], 3)}
        print(name, found[name], flush=True)
    return found


def learned(makers: dict[str, Callable[[], nn.Module]], root: Path, examples: int) -> Iterator[dict[str, Any]]:
    """Trains each network on the same examples with the same noise, in our loop, once for each of RATES.

    Yields what is known so far, by network: "kept", the loss on 512 training pictures that it is not trained on, by the
    rate, and "test", the loss on 512 test pictures of the weights whose rate is the best on those.
    """
    data = Padded(root)
    last = len(data) - 512
    train, kept = Subset(data, range(last)), Subset(data, range(last, len(data)))
    test, found = Subset(Padded(root, train=False), range(512)), {name: {"kept": {}} for name in makers}
    for rate in RATES:
        for name, make in makers.items():
            torch.manual_seed(0)
            made, steps, mine = objective(make()), examples // BATCH, found[name]
            ema = Ema(made, 0.99)
            for _ in fit(
                made, train, adamw(made, rate), steps=steps, batch=BATCH, ema=ema, schedule=warmup_decay(steps)
            ):
                pass
            loss = HeldOut(kept, batch=64, most=512).loss(ema.average)
            if loss < min(mine["kept"].values(), default=float("inf")):
                mine["rate"], mine["test"] = rate, round(HeldOut(test, batch=64, most=512).loss(ema.average), 5)
            mine["kept"][f"{rate:g}"] = round(loss, 5)
            print(name, mine, flush=True)
            yield found


@contextmanager
def imported(folder: Path | None) -> Iterator[None]:
    """A folder of packages to import from, with stand-ins for what is read at import alone (pictures on disk, FID)."""
    missing = ("torchvision", "torchvision.transforms", "torchvision.utils", "pytorch_fid", "pytorch_fid.fid_score",
               "pytorch_fid.inception", "denoising_diffusion_pytorch.fid_evaluation", "cleanfid",
               "cleanfid.inception_torchscript", "clip")  # fmt: skip
    if folder is None:
        yield
        return
    for name in missing:
        sys.modules[name] = MagicMock()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def peers(folder: Path | None) -> dict[str, tuple[Callable[[], nn.Module], Callable[..., Any], bool]]:
    """What makes each network, and its step, of those that are installed."""
    found: dict[str, Any] = {"sfumato UNet": (ours, our_step, False), "sfumato UNet, whole": (whole, our_step, False)}
    for name, make, step, apart in (
        ("diffusers", diffusers_net, diffusers_step, False),
        ("denoising-diffusion-pytorch", lucidrains_net, lucidrains_step, True),
    ):
        try:
            with imported(folder if apart else None):
                make()
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        found[name] = (make, step, apart)
    return found


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--examples", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    known = peers(args.peers)
    nets = {name: make() for name, (make, _, _) in known.items()}
    found = json.loads(args.out.read_text("utf-8")) if args.out.exists() else {}
    if args.rounds:
        found |= measured(nets, known, args)
    args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if args.examples:
        makers = {name: make for name, (make, _, _) in known.items() if name.startswith("sfumato")}
        if "diffusers" in known:
            makers["diffusers"] = lambda: Sample(diffusers_net())
        for networks in learned(makers, args.root, args.examples):
            found["loss"] = {"examples": args.examples, "networks": networks}
            args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def measured(nets: dict[str, nn.Module], known: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Times of steps and of their parts."""
    data = Padded(args.root)
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__.partition('+')[0]}",
        "native bf16": native_bf16(),
        "precision": best("cpu"),
        "batch": BATCH,
        "weights": {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()},
        "ours": {str(batch): outside(data, args.rounds, batch) for batch in (BATCH, 64)},  # 64: what the command takes
    }
    print(found, flush=True)
    times = rounds({name: step(copy.deepcopy(nets[name]), data) for name, (_, step, _) in known.items()}, args.rounds)
    found["step"] = {k: round(v, 1) for k, v in times.items()}
    print(found["step"], flush=True)
    found["options"] = options(args.rounds)
    return found


if __name__ == "__main__":
    main()
