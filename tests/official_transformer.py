"""The official transformer (package `wan22`, dev-only) on the CPU in float32, with fresh random weights."""

from typing import Any

import torch
from torch import Tensor, nn

from official_package import official_module
from references.official import quiet


def official_transformer(config: dict[str, Any], seed: int) -> nn.Module:
    """`WanModel_S2V` of this config; every parameter is random, so that none hides behind a zero."""
    torch.manual_seed(seed)
    with quiet():
        model = official_module("modules.s2v.model_s2v").WanModel_S2V(**config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 and "modulation" not in name else 4
            parameter.normal_(std=fan_in**-0.5)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return model.eval().requires_grad_(False)


def official_velocity(model: nn.Module, *, drop_motion: bool, pose: Tensor, **inputs: Tensor) -> Tensor:
    """One forward with inputs as ours takes them, without batch: `latents`, `t`, `text`, `audio`, …"""
    with quiet():
        velocities = model(
            [inputs["latents"]],
            inputs["t"].reshape(1),
            [inputs["text"]],
            seq_len=None,
            ref_latents=[inputs["reference"]],
            motion_latents=[inputs["motion"]],
            cond_states=[pose],
            audio_input=inputs["audio"][None],
            motion_frames=[73, 19],
            drop_motion_frames=drop_motion,
        )
    return velocities[0]
