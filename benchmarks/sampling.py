"""What sampling costs over its calls of the network alone: our loops and those of other libraries, in one run.

    pip install diffusers torchdiffeq scipy
    pip install --no-deps --target PEERS denoising-diffusion-pytorch einops k-diffusion torchsde trampoline dctorch jsonmerge
    python benchmarks/sampling.py --peers PEERS -o benchmarks/data/sampling.json
    python tools/samplers_page.py

The floor is the same network, called as often on a batch of the same size, and nothing else. What a loop adds is timed
with a network that gives one tensor and costs nothing, since the difference of two long times would drown in what else
a machine does; a ratio is (floor + added) / floor, each the least of its rounds. On a CPU it is the processor's time on
one thread, and memory is that of the tensors alive at one time, with the network itself; on CUDA the wall's time to a
synchronized end, the allocator's peak, and also in bfloat16, and compiled with CUDA graphs (`torch.compile`'s
reduce-overhead), where calls that are queued ahead hide what a loop adds: there loops are timed whole.
Networks have random weights, 3 x 32 x 32 pictures and the linear table of 1000 levels. Other
libraries run their loops on our networks, and, where they have one, their pipeline on a network of their own; bars of
progress are off. A library that is not installed is left out.
"""  # noqa: E501  # a command to paste

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from training import diffusers_net, imported, lucidrains_net

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.denoisers import Preconditioned, predict_eps
from sfumato.nets import UNet
from sfumato.processes import Table
from sfumato.zoo.memory import Live

LEVELS, CALLS, SIDE = 1000, 10, 32
SIZES = {"small": ((32, 64), 1), "medium": ((64, 112, 144), 2), "large": ((96, 160, 224), 2)}  # widths, blocks
ROUNDS = {1: 15, 32: 5}  # by the batch
BAR = 1.05

Loop = Callable[[Tensor], Any]  # from a start to samples


class Told(nn.Module):
    """Our network as other libraries call theirs: (x, level or levels) or (x, levels, condition) to eps."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.channels, self.out_dim, self.self_condition = net, 3, 3, False

    def forward(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        out: Tensor = self.net(x, t.to(x).expand(len(x)))
        return out


class Near(nn.Module):
    """eps = u + F(u), so that states keep their size, as with a trained network: a step's time may depend on it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        out: Tensor = u + self.net(u, c_noise, cond)
        return out


def our_net(size: str) -> nn.Module:
    """A U-Net whose last layer is not zero."""
    widths, blocks = SIZES[size]
    net = UNet(3, widths, blocks, patch=2, attention=(len(widths) - 1,))
    nn.init.normal_(net.leave.weight, std=0.002)
    return Near(net)


# Loops on our network


def floor(net: nn.Module) -> Loop:
    """Calls of the network, and nothing else."""

    @torch.no_grad()
    def run(x: Tensor) -> Tensor:
        level = torch.full((len(x),), 500.0, device=x.device, dtype=x.dtype)
        for _ in range(CALLS):
            out: Tensor = net(x, level)
        return out

    return run


def our_loops(net: nn.Module) -> dict[str, Loop]:
    """`sample` on the table's own grid, and what a user calls: `Model.sample`, with its noise, grid and codec."""
    process = Table.linear(LEVELS)
    denoiser = Preconditioned(net, process, predict_eps, clock=lambda t: t * LEVELS - 1.0)
    model = sf.Model(Affine(0.5, 0.5), denoiser, {"event": [3, SIDE, SIDE]})
    times = sf.grids.table(process, CALLS)

    def run(sampler: Any, x: Tensor) -> Tensor:
        return sf.sample(denoiser, sampler, x1=x, times=times, noise=sf.Noise(0))

    def whole(x: Tensor) -> Tensor:
        return model.sample(len(x), steps=CALLS, batch=len(x), dtype=x.dtype)

    ddim, multistep = (partial(run, sampler) for sampler in (sf.samplers.DDIM(), sf.samplers.DPMpp2M()))
    return {"sfumato DDIM": ddim, "sfumato DPM-Solver++ 2M": multistep, "sfumato Model.sample": whole}


def diffusers_loops(net: nn.Module, folder: Path | None) -> dict[str, Loop]:
    """The loop of its pipelines: the network, then `scheduler.step`."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    options: dict[str, Any] = {"beta_schedule": "linear", "timestep_spacing": "trailing"}

    @torch.no_grad()
    def run(scheduler: Any, x: Tensor) -> Tensor:
        scheduler.set_timesteps(CALLS, device=x.device)
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t), t, x).prev_sample
        return x

    ddim, multistep = (
        DDIMScheduler(LEVELS, clip_sample=False, **options),
        DPMSolverMultistepScheduler(LEVELS, **options),
    )
    return {"diffusers DDIM": partial(run, ddim), "diffusers DPM-Solver++ 2M": partial(run, multistep)}


def k_diffusion_loops(net: nn.Module, folder: Path | None) -> dict[str, Loop]:
    """sample_dpmpp_2m with its wrapper of networks that predict eps."""
    with imported(folder):
        external, sampling = (importlib.import_module(f"k_diffusion.{name}") for name in ("external", "sampling"))
    process = Table.linear(LEVELS)
    kept = torch.tensor([process.alpha(n / LEVELS) ** 2 for n in range(1, LEVELS + 1)])
    device = next(net.parameters()).device
    wrapped = external.DiscreteEpsDDPMDenoiser(net, kept, quantize=False).to(device)

    @torch.no_grad()
    def run(x: Tensor) -> Tensor:
        sigmas = wrapped.get_sigmas(CALLS).to(x.dtype)
        out: Tensor = sampling.sample_dpmpp_2m(wrapped, x * sigmas[0], sigmas, disable=True)
        return out

    return {"k-diffusion DPM-Solver++ 2M": run}


def lucidrains_loops(net: nn.Module, folder: Path | None) -> dict[str, Loop]:
    """`ddim_sample` of its GaussianDiffusion, which draws its start."""
    with imported(folder):
        package = importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch")
    package.tqdm = lambda steps, **_: steps
    diffusion = package.GaussianDiffusion(
        net, image_size=SIDE, timesteps=LEVELS, sampling_timesteps=CALLS, objective="pred_noise", beta_schedule="linear"
    ).to(next(net.parameters()).device)
    return {"denoising-diffusion-pytorch DDIM": lambda x: diffusion.sample(batch_size=len(x))}


def pipeline_loops(net: nn.Module, folder: Path | None) -> dict[str, Loop]:
    """DDIMPipeline, which draws its start and gives pictures in [0, 1]."""
    from diffusers import DDIMPipeline, DDIMScheduler

    pipeline = DDIMPipeline(net, DDIMScheduler(LEVELS, beta_schedule="linear", timestep_spacing="trailing"))
    pipeline.set_progress_bar_config(disable=True)
    return {"diffusers DDIMPipeline": lambda x: pipeline(len(x), num_inference_steps=CALLS, output_type="pt")}


ON_OURS = (diffusers_loops, k_diffusion_loops, lucidrains_loops)
ON_THEIRS = {
    "diffusers": (diffusers_net, pipeline_loops),
    "denoising-diffusion-pytorch": (lucidrains_net, lucidrains_loops),
}


def network(size: str, folder: Path | None) -> nn.Module:
    """Ours of a size, or that of another library."""
    if size in SIZES:
        return our_net(size)
    with imported(folder if size == "denoising-diffusion-pytorch" else None):
        return ON_THEIRS[size][0]()


def loops(size: str, net: nn.Module, folder: Path | None) -> dict[str, Loop]:
    """All that run on this network and are installed."""
    if size in ON_THEIRS:
        return ON_THEIRS[size][1](net, folder)
    found = our_loops(net)
    for make in ON_OURS:
        try:
            found |= make(Told(net), folder)
        except ImportError as error:
            print(f"{make.__name__} is left out: {error}", flush=True)
    return found


# What is measured


def check(net: nn.Module, found: dict[str, Loop], x: Tensor) -> None:
    """Every loop calls the network CALLS times, and the two of DDIM from one start end in one place.

    Raises:
        AssertionError: if not, since the floor would be another.
    """
    made: list[int] = []
    hook = net.register_forward_hook(lambda *_: made.append(1))
    ends = {}
    for name, loop in found.items():
        made.clear()
        ends[name] = loop(x)
        if len(made) != CALLS:
            raise AssertionError(f"{name} calls the network {len(made)} times, not {CALLS}.")
    hook.remove()
    if "diffusers DDIM" in ends:
        ours, theirs = ends["sfumato DDIM"].float(), ends["diffusers DDIM"].float()
        gap = float((ours - theirs).abs().max() / theirs.abs().max())
        if not gap < (1e-3 if x.dtype == torch.float32 else 0.1):
            raise AssertionError(
                f"DDIM of diffusers ends elsewhere: largest difference {gap:.3g} of the largest value."
            )


def seconds(call: Callable[[], object], device: str) -> float:
    """Processor seconds of a call; on CUDA, seconds until its work is done."""
    if device == "cpu":
        began = time.process_time()
        call()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def peak(call: Callable[[], object], device: str) -> int:
    """Most bytes held in a call beyond those before it."""
    if device == "cpu":
        with Live() as live:
            call()
        return live.peak
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


@contextmanager
def free(net: nn.Module, x: Tensor) -> Iterator[None]:
    """Inside, the network gives what it gives of x, whatever it is asked, and costs nothing."""
    with torch.no_grad():
        out = net(x, torch.full((len(x),), 500.0, device=x.device, dtype=x.dtype))
    net.forward = lambda *_, **__: out  # type: ignore[method-assign]
    try:
        yield
    finally:
        del net.forward


def least(every: dict[str, Loop], x: Tensor, rounds: int) -> dict[str, float]:
    """Least seconds of each, run in turn."""
    times: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(rounds):
        for name, run in every.items():
            times[name].append(seconds(partial(run, x), x.device.type))
    return {name: min(values) for name, values in times.items()}


def measure(net: nn.Module, found: dict[str, Loop], x: Tensor, rounds: int) -> list[dict[str, Any]]:
    """A row for each loop."""
    check(net, found, x)
    every = {"floor": floor(net), **found}
    held = {name: peak(partial(run, x), x.device.type) + x.nbytes for name, run in every.items()}
    if x.device.type == "cpu":
        base = least({"floor": every["floor"]}, x, rounds)["floor"]
        with free(net, x):
            bare = least(every, x, 2 * rounds)
        taken = {name: base + bare[name] - bare["floor"] for name in found}
    else:
        taken = least(every, x, rounds)
        base = taken["floor"]
    return [
        {
            "loop": name,
            "step_us": round(1e6 * (taken[name] - base) / CALLS, 1),
            "call_us": round(1e6 * base / CALLS, 1),
            "ratio": round(taken[name] / base, 4),
            "images_per_second": round(len(x) / taken[name], 3),
            "memory": round(held[name] / held["floor"], 3),
        }
        for name in found
    ]


def precisions(device: str) -> dict[str, Callable[[nn.Module], tuple[nn.Module, torch.dtype]]]:
    """How the network is run: plainly, and on CUDA in bfloat16 and as CUDA graphs."""
    plain = {"float32": lambda net: (net, torch.float32)}
    if device == "cpu":
        return plain

    def graphs(net: nn.Module) -> tuple[nn.Module, torch.dtype]:
        net.compile(mode="reduce-overhead")
        return net, torch.bfloat16

    return {**plain, "bfloat16": lambda net: (net, torch.bfloat16), "bfloat16, CUDA graphs": graphs}


def main() -> int:
    """Measures, prints, writes; 1 if one of our loops is over the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--sizes", nargs="+", default=[*SIZES, *ON_THEIRS], choices=[*SIZES, *ON_THEIRS])
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for size in args.sizes:
        for precision, prepared in precisions(args.device).items():
            torch.manual_seed(0)
            try:
                net = network(size, args.peers)
            except ImportError as error:
                print(f"{size} is left out: {error}", flush=True)
                break
            weights = sum(p.numel() for p in net.parameters())
            net, dtype = prepared(net.to(args.device).eval().requires_grad_(False))
            net = net.to(dtype)
            found = loops(size, net, args.peers)
            for batch, rounds in ROUNDS.items():
                x = torch.randn(batch, 3 if size in SIZES else 1, SIDE, SIDE).to(args.device, dtype)
                for row in measure(net, found, x, rounds):
                    rows.append({"size": size, "weights": weights, "precision": precision, "batch": batch, **row})
                    print(rows[-1], flush=True)
    machine = platform.machine() + ", one thread" if args.device == "cpu" else torch.cuda.get_device_name()
    version = torch.__version__.partition("+")[0]
    result = {"machine": f"{machine}, torch {version}", "device": args.device, "calls": CALLS, "bar": BAR, "rows": rows}
    args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return int(any(row["ratio"] > BAR for row in rows if row["loop"].startswith("sfumato")))


if __name__ == "__main__":
    sys.exit(main())
