"""The official transformer (package `wan22`, dev-only) on the CPU in float32, with fresh random weights."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

PACKAGES = ("wan", "wan.modules", "wan.modules.s2v", "wan.distributed")


def official_transformer(config: dict[str, Any], seed: int) -> nn.Module:
    """`WanModel_S2V` of this config; every parameter is random, so that none hides behind a zero."""
    torch.manual_seed(seed)
    with _quiet():
        model = _official_module().WanModel_S2V(**config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 and "modulation" not in name else 4
            parameter.normal_(std=fan_in**-0.5)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return model.eval().requires_grad_(False)


def official_velocity(model: nn.Module, *, drop_motion: bool, pose: Tensor, **inputs: Tensor) -> Tensor:
    """One forward with inputs as ours takes them, without batch: `latents`, `t`, `text`, `audio`, …"""
    with _quiet():
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


def _official_module() -> ModuleType:
    """`wan.modules.s2v.model_s2v`, without running the package's `__init__`: that needs a GPU's libraries."""
    spec = importlib.util.find_spec("wan")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the wan22 package is not installed")
    root = Path(spec.submodule_search_locations[0]).parent
    for name in PACKAGES:
        bare = ModuleSpec(name, None, is_package=True)
        bare.submodule_search_locations = [str(root.joinpath(*name.split(".")))]
        sys.modules.setdefault(name, importlib.util.module_from_spec(bare))
    importlib.import_module("wan.modules.attention").flash_attention = _attention
    return importlib.import_module("wan.modules.s2v.model_s2v")


def _attention(q: Tensor, k: Tensor, v: Tensor, **_unused: Any) -> Tensor:
    """The official kernels need a GPU; this is what they compute."""
    q, k, v = (x.transpose(1, 2).to(v.dtype) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2)


@contextmanager
def _quiet() -> Iterator[None]:
    """The official code uses names that torch has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
