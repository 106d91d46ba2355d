"""Makes `published_CODE.npz`, what an author's code computes with `filled` weights: make_published.py CODE FOLDER

FOLDER holds the public code, unpacked, whose packages must be there too, but for those that are stood in for here. Kept
are names, shapes, inputs and outputs: no weights and no code.

    lucid   lucidrains/denoising-diffusion-pytorch 2.3.1 (MIT); needs einops and ema-pytorch
    sr3     Janspiry/Image-Super-Resolution-via-Iterative-Refinement (Apache 2.0)
    compvis CompVis/latent-diffusion (MIT), with taming/ of CompVis/taming-transformers (MIT) in FOLDER; needs einops
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from published import filled, picture
from torch import Tensor, nn

HERE = Path(__file__).parent
KEPT: dict[str, Any] = {}


def prepared(name: str, module: nn.Module, net: nn.Module | None = None) -> None:
    """Fills the weights of a network inside a module, and keeps their names and shapes as the module's."""
    inside = module if net is None else net
    shapes = {key: tuple(value.shape) for key, value in inside.state_dict().items()}
    inside.load_state_dict(filled(shapes))
    module.eval()
    KEPT[f"{name}/shapes"] = np.array(json.dumps(shapes))


def keep(name: str, **values: Any) -> None:
    """Keeps the arrays of a case."""
    for key, value in values.items():
        KEPT[f"{name}/{key}"] = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)


def standing_in(*names: str) -> None:
    """Empty modules for packages that are imported and not used here."""
    sys.modules.update({name: mock.MagicMock() for name in names})


def lucid() -> None:
    """Each parameterisation, schedule and kind of clock once."""
    standing_in("torchvision", "torchvision.transforms", "torchvision.utils")
    from denoising_diffusion_pytorch.continuous_time_gaussian_diffusion import ContinuousTimeGaussianDiffusion
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from denoising_diffusion_pytorch.learned_gaussian_diffusion import LearnedGaussianDiffusion

    x, t = picture(8), torch.tensor([3, 15])
    buffers = ("betas", "alphas_cumprod", "loss_weight")
    chains: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "lucid-v": (
            {"init_dim": 12, "full_attn": (False, True, True), "attn_heads": (1, 2, 4), "attn_dim_head": (8, 4, 6)},
            {"objective": "pred_v", "beta_schedule": "sigmoid", "min_snr_loss_weight": True},
        ),
        "lucid-self": ({"self_condition": True}, {"objective": "pred_x0", "beta_schedule": "cosine"}),
    }
    for name, (net, diffusion) in chains.items():
        chain = GaussianDiffusion(
            Unet(8, dim_mults=(1, 2, 2), **net), image_size=8, timesteps=20, sampling_timesteps=5, **diffusion
        )
        prepared(name, chain, chain.model)
        with torch.no_grad(), mock.patch.object(torch, "randn", lambda *_, **__: x):
            drawn = chain.sample(2)
        beside = {"beside": chain.model(x, t, x.flip(0))} if name == "lucid-self" else {}
        keep(name, t=t, out=chain.model(x, t), drawn=drawn, **beside, **{k: getattr(chain, k) for k in buffers})
    chain = LearnedGaussianDiffusion(
        Unet(8, dim_mults=(1, 2), learned_variance=True, sinusoidal_pos_emb_theta=1000),
        image_size=8,
        timesteps=20,
        objective="pred_noise",
        beta_schedule="linear",
    )
    prepared("lucid-variance", chain, chain.model)
    mean, variance = chain.p_mean_variance(x=x, t=torch.tensor([7, 7]), clip_denoised=True)[:2]
    keep("lucid-variance", mean=mean, variance=variance, **{k: getattr(chain, k) for k in buffers})
    for schedule in ("linear", "cosine"):
        whole = ContinuousTimeGaussianDiffusion(
            Unet(8, dim_mults=(1, 2), learned_sinusoidal_cond=True), image_size=8, noise_schedule=schedule
        )
        prepared("lucid-fourier", whole, whole.model)
        t, s = torch.tensor(0.6), torch.tensor(0.4)
        mean, variance = whole.p_mean_variance(x, t, s)
        levels = torch.stack([whole.log_snr(t), whole.log_snr(s)])
        found = {"mean": mean, "variance": variance, "log-snr": levels}
        keep("lucid-fourier", **{f"{schedule}-{key}": value for key, value in found.items()})


def sr3() -> None:
    """With and without an image; the chain with its noise at 0 shows every step's mean."""
    from model.sr3_modules.diffusion import GaussianDiffusion
    from model.sr3_modules.unet import UNet

    x, low = picture(8), picture(8).flip(0).tanh()
    for name, image, attention in (("sr3", True, (8,)), ("sr3-plain", False, (4,))):
        net = UNet(
            in_channel=6 if image else 3,
            inner_channel=8,
            norm_groups=4,
            channel_mults=(1, 2, 2),
            attn_res=attention,
            res_blocks=2 if image else 1,
            image_size=8,
        )
        chain = GaussianDiffusion(net, 8, conditional=image)
        prepared(name, chain, net)
        chain.set_new_noise_schedule(
            {"schedule": "linear", "n_timestep": 20, "linear_start": 1e-4, "linear_end": 0.3}, "cpu"
        )
        with torch.no_grad():
            level = torch.tensor([[0.3], [0.9]])
            out = net(torch.cat([low, x], 1) if image else x, level)
            mean, log_variance = chain.p_mean_variance(x, 7, True, low if image else None)
            with (
                mock.patch.object(torch, "randn", lambda *_, **__: x),
                mock.patch.object(torch, "randn_like", torch.zeros_like),
            ):
                drawn = chain.p_sample_loop(low if image else x.shape, continous=True)[-2:]
        keep(name, level=level[:, 0], out=out, mean=mean, variance=log_variance.exp(), drawn=drawn, betas=chain.betas)


def compvis() -> None:
    """KL without a condition, and VQ with classes; a whole LatentDiffusion, so that the names are the file's."""
    light = mock.MagicMock(LightningModule=nn.Module)
    sys.modules.update({"pytorch_lightning": light, "pytorch_lightning.utilities.distributed": mock.MagicMock()})
    sys.modules["pytorch_lightning.utilities.distributed"].rank_zero_only = lambda f: f
    standing_in("torchvision", "torchvision.utils", "omegaconf", "omegaconf.listconfig", "clip", "kornia")
    standing_in("ldm.modules.x_transformer", "pytorch_lightning.utilities", "cv2")
    from ldm.models.diffusion.ddim import DDIMSampler
    from ldm.models.diffusion.ddpm import LatentDiffusion

    shared = {"resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32, "num_res_blocks": 1, "dropout": 0.0}
    loss = {"target": "torch.nn.Identity"}
    cases: Mapping[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
        "compvis-kl": (
            {"attention_resolutions": [1], "num_heads": 2, "use_scale_shift_norm": True, "resblock_updown": True},
            {
                "target": "ldm.models.autoencoder.AutoencoderKL",
                "params": {
                    "embed_dim": 4,
                    "lossconfig": loss,
                    "ddconfig": shared
                    | {"double_z": True, "z_channels": 3, "ch_mult": [1, 2], "attn_resolutions": [16]},
                },
            },
            {"scale_by_std": True, "cond_stage_config": "__is_unconditional__"},
        ),
        "compvis-class": (
            {
                "attention_resolutions": [2],
                "num_head_channels": 16,
                "use_spatial_transformer": True,
                "transformer_depth": 1,
                "context_dim": 12,
            },
            {
                "target": "ldm.models.autoencoder.VQModelInterface",
                "params": {
                    "embed_dim": 4,
                    "n_embed": 20,
                    "lossconfig": loss,
                    "ddconfig": shared
                    | {"double_z": False, "z_channels": 4, "ch_mult": [1, 1], "attn_resolutions": []},
                },
            },
            {
                "conditioning_key": "crossattn",
                "cond_stage_config": {
                    "target": "ldm.modules.encoders.modules.ClassEmbedder",
                    "params": {"embed_dim": 12, "n_classes": 6, "key": "class_label"},
                },
                "cond_stage_trainable": True,
                "cond_stage_key": "class_label",
            },
        ),
    }
    z, x, y = filled({"z": (2, 4, 8, 8)})["z"] * 16.0, picture(16).tanh(), torch.tensor([1, 4])
    for name, (unet, coder, rest) in cases.items():
        net = {"image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": 1}
        model = LatentDiffusion(
            coder,
            timesteps=20,
            linear_start=0.0015,
            linear_end=0.0195,
            unet_config={
                "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
                "params": {**net, "channel_mult": [1, 2], **unet},
            },
            image_size=8,
            channels=4,
            **rest,
        )
        buffers = ("betas", "alphas", "posterior", "sqrt", "log_one", "scale_factor", "logvar")
        shapes = {k: tuple(v.shape) for k, v in model.state_dict().items() if not k.startswith(buffers)}
        model.load_state_dict(filled(shapes), strict=False)
        model.eval()
        KEPT[f"{name}/shapes"] = np.array(json.dumps(shapes))
        model.device = torch.device("cpu")
        if rest.get("scale_by_std"):
            model.scale_factor.fill_(0.75)
        model.model_ema.copy_to(model.model)
        with torch.no_grad():
            context = model.get_learned_conditioning({"class_label": y}) if "conditioning_key" in rest else None
            n = torch.tensor([3, 15])
            out = model.apply_model(z, n, context)
            first = model.encode_first_stage(x)
            mean = first.mean if hasattr(first, "mean") and not isinstance(first, Tensor) else first
            sampler = DDIMSampler(model)
            sampler.register_buffer = partial(setattr, sampler)
            drawn, _ = sampler.sample(5, 2, (4, 8, 8), conditioning=context, x_T=z, verbose=False)
            decoded = model.decode_first_stage(drawn)
        keep(name, z=z, t=n, y=y, out=out, mean=mean, drawn=drawn, decoded=decoded, betas=model.betas)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[2])
    {"lucid": lucid, "sr3": sr3, "compvis": compvis}[sys.argv[1]]()
    path = HERE / f"published_{sys.argv[1]}.npz"
    np.savez_compressed(path, **KEPT)
    print(path.name, path.stat().st_size, "bytes")
